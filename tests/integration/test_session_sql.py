"""The SQL that pgfunnel asks and cleans servers with, in friendly and hostile schemas.

PostgreSQL documentation, "Writing SECURITY DEFINER Functions Safely": whoever may create objects in
a schema of the search_path can stand in for a built-in that is named without its schema.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, product

import psycopg
import pytest

from proxy.conditions import ADVISORY, HOLD, LISTEN, PARAMETERS, PREPARED, TEMP
from proxy.session import audit
from proxy.session.catalog import UNSEEN, Catalog, look
from proxy.session.cleaning import cleaning
from proxy.session.inquiry import ASKABLE, Answer, question, read_answer, unhurried
from proxy.session.parameters import NONE, Parameters, Prepared, difference, preparations
from tests.postgres import NoPostgresError, Postgres, local_bindir, start_own

ALL = ASKABLE | PARAMETERS | PREPARED

HOSTILE = """
CREATE SCHEMA hostile;
GRANT USAGE ON SCHEMA hostile TO PUBLIC;
SET search_path = hostile, pg_catalog;
CREATE DOMAIN hostile.text AS pg_catalog.int4;
CREATE FUNCTION hostile.never(pg_catalog.text, pg_catalog.text) RETURNS pg_catalog.bool
  LANGUAGE sql AS 'SELECT false';
CREATE FUNCTION hostile.never(oid, oid) RETURNS pg_catalog.bool LANGUAGE sql AS 'SELECT false';
CREATE FUNCTION hostile.never(int4, int4) RETURNS pg_catalog.bool LANGUAGE sql AS 'SELECT false';
CREATE OPERATOR hostile.= (FUNCTION = hostile.never, LEFTARG = pg_catalog.text,
  RIGHTARG = pg_catalog.text);
CREATE OPERATOR hostile.= (FUNCTION = hostile.never, LEFTARG = oid, RIGHTARG = oid);
CREATE OPERATOR hostile.= (FUNCTION = hostile.never, LEFTARG = int4, RIGHTARG = int4);
CREATE FUNCTION hostile.lower(pg_catalog.text) RETURNS pg_catalog.text
  LANGUAGE sql AS 'SELECT ''stolen''::pg_catalog.text';
CREATE FUNCTION hostile.encode(bytea, pg_catalog.text) RETURNS pg_catalog.text
  LANGUAGE sql AS 'SELECT ''stolen''::pg_catalog.text';
CREATE FUNCTION hostile.convert_to(pg_catalog.text, name) RETURNS bytea
  LANGUAGE sql AS 'SELECT ''stolen''::bytea';
CREATE FUNCTION hostile.convert_from(bytea, name) RETURNS pg_catalog.text
  LANGUAGE sql AS 'SELECT ''stolen''::pg_catalog.text';
CREATE FUNCTION hostile.current_setting(pg_catalog.text, boolean) RETURNS pg_catalog.text
  LANGUAGE sql AS 'SELECT ''stolen''::pg_catalog.text';
CREATE FUNCTION hostile.current_setting(pg_catalog.text) RETURNS pg_catalog.text
  LANGUAGE sql AS 'SELECT ''stolen''::pg_catalog.text';
CREATE FUNCTION hostile.set_config(pg_catalog.text, pg_catalog.text, boolean)
  RETURNS pg_catalog.text LANGUAGE sql AS 'SELECT ''stolen''::pg_catalog.text';
CREATE FUNCTION hostile.starts_with(pg_catalog.text, pg_catalog.text) RETURNS boolean
  LANGUAGE sql AS 'SELECT true';
CREATE FUNCTION hostile.pg_backend_pid() RETURNS int4 LANGUAGE sql AS 'SELECT 0';
CREATE FUNCTION hostile.pg_my_temp_schema() RETURNS oid LANGUAGE sql AS 'SELECT 0::oid';
CREATE FUNCTION hostile.pg_listening_channels() RETURNS SETOF pg_catalog.text
  LANGUAGE sql AS 'SELECT NULL::pg_catalog.text WHERE false';
CREATE FUNCTION hostile.pg_advisory_unlock_all() RETURNS void LANGUAGE sql AS 'SELECT';
CREATE VIEW hostile.pg_settings AS SELECT 'work_mem'::pg_catalog.text AS name,
  'stolen'::pg_catalog.text AS setting, ''::pg_catalog.text AS reset_val,
  'session'::pg_catalog.text AS source;
CREATE VIEW hostile.pg_locks AS SELECT 'advisory'::pg_catalog.text AS locktype, 0 AS pid;
CREATE VIEW hostile.pg_cursors AS SELECT true AS is_holdable;
CREATE VIEW hostile.pg_class AS SELECT 0::oid AS relnamespace;
CREATE VIEW hostile.pg_proc AS SELECT 0::oid AS pronamespace;
CREATE VIEW hostile.pg_type AS SELECT 0::oid AS typnamespace;
CREATE VIEW hostile.pg_prepared_statements AS SELECT 'mine'::pg_catalog.text AS name,
  'PREPARE mine AS SELECT 1'::pg_catalog.text AS statement, true AS from_sql;
GRANT SELECT ON ALL TABLES IN SCHEMA hostile TO PUBLIC;
"""

MAKES = {
    LISTEN: ["LISTEN news"],
    ADVISORY: [
        "SELECT pg_catalog.pg_advisory_lock(7)",
        "SELECT pg_catalog.pg_try_advisory_lock_shared(7, 8)",
    ],
    TEMP: [
        "CREATE TEMP TABLE scratch (n pg_catalog.int4)",
        "CREATE TEMP VIEW scratch AS SELECT 1",
        "CREATE TEMP SEQUENCE scratch",
        "CREATE TYPE pg_temp.scratch AS ENUM ('a')",
        "CREATE FUNCTION pg_temp.scratch() RETURNS pg_catalog.int4 LANGUAGE sql AS 'SELECT 1'",
    ],
    HOLD: ["DECLARE walk CURSOR WITH HOLD FOR SELECT 1"],
    PREPARED: ["PREPARE plan AS SELECT 1"],
}
ONE_EACH = [(condition, sql) for condition, ways in MAKES.items() for sql in ways]
SUBSETS = [sum(some) for n in range(6) for some in combinations(MAKES, n)]

Run = Callable[[bytes], list[list[bytes | None]]]


@pytest.fixture(scope="module", params=["installed", "embedded"])
def server(request: pytest.FixtureRequest) -> Iterator[Postgres]:
    """The installed Postgres (Debian's 15) and that of the wheel (18)."""
    try:
        postgres = start_own("own", local_bindir(request.param))
    except NoPostgresError as reason:
        pytest.skip(str(reason))
    assert postgres.server is not None
    postgres.psql(HOSTILE)
    yield postgres
    postgres.server.stop()


@pytest.fixture(params=["friendly", "hostile"])
def run(server: Postgres, request: pytest.FixtureRequest) -> Iterator[Run]:
    """Runs SQL as alice, who may read what everybody may; a role's own default is no SET."""
    path = "hostile, pg_catalog" if request.param == "hostile" else "public"
    server.psql(f"ALTER ROLE alice SET search_path = {path}")
    with psycopg.connect(server.dsn_for("alice"), autocommit=True) as connection:
        yield lambda sql: rows(connection, sql)


def rows(connection: psycopg.Connection, sql: bytes) -> list[list[bytes | None]]:
    """What the last statement brings, as the bytes that Postgres sends in text format."""
    result = connection.pgconn.exec_(sql)
    assert result.status in (psycopg.pq.ExecStatus.COMMAND_OK, psycopg.pq.ExecStatus.TUPLES_OK), (
        result.error_message
    )
    return [
        [result.get_value(row, column) for column in range(result.nfields)]
        for row in range(result.ntuples)
    ]


def ask(
    run: Run,
    asks: int = ALL,
    names: Sequence[str] = (),
    resets: Sequence[str] = (),
    everything: bool = True,
) -> Answer:
    (row,) = run(question(asks, tuple(names), tuple(resets), everything))
    return read_answer(asks, names, resets, everything, row)


def test_the_hostile_schema_does_stand_in_for_what_is_built_in(server: Postgres) -> None:
    server.psql("ALTER ROLE alice SET search_path = hostile, pg_catalog")
    with psycopg.connect(server.dsn_for("alice"), autocommit=True) as connection:
        assert rows(connection, b"SELECT lower('A'), 'a'::pg_catalog.text = 'a'") == [
            [b"stolen", b"f"]
        ]
        assert rows(connection, b"SELECT setting FROM pg_settings") == [[b"stolen"]]


OWN = """
DROP SCHEMA IF EXISTS own CASCADE;
CREATE SCHEMA own;
CREATE FUNCTION own.sets() RETURNS text LANGUAGE sql AS $$ SELECT set_config('a.b', 'c', false) $$;
CREATE FUNCTION own.calls() RETURNS text LANGUAGE sql BEGIN ATOMIC SELECT own.sets(); END;
CREATE FUNCTION own.harmless() RETURNS text LANGUAGE sql AS $$ SELECT 'x' $$;
CREATE VIEW own.seen AS SELECT set_config('a.b', 'c', false) AS c;
CREATE VIEW own.over_it AS SELECT c, own.harmless() FROM own.seen;
CREATE TABLE own.parent (id int PRIMARY KEY, c text DEFAULT own.calls());
CREATE TABLE own.child (id int REFERENCES own.parent ON DELETE CASCADE) PARTITION BY LIST (id);
CREATE TABLE own.part PARTITION OF own.child DEFAULT;
CREATE FUNCTION own.marks() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN PERFORM own.sets(); RETURN OLD; END $$;
CREATE TRIGGER marks BEFORE DELETE ON own.part FOR EACH ROW EXECUTE FUNCTION own.marks();
CREATE TABLE own.apart (id int);
CREATE TABLE own.guarded (id int);
ALTER TABLE own.guarded ENABLE ROW LEVEL SECURITY;
CREATE POLICY guard ON own.guarded USING (own.sets() = 'c');
"""


def look_through(run: Run, known: Catalog) -> Catalog:
    asked = look(known)
    query = next(asked)
    while True:
        try:
            query = asked.send(run(query))
        except StopIteration as end:
            found: Catalog = end.value
            return found


def test_the_catalogs_tell_who_changes_sessions(run: Run, server: Postgres) -> None:
    server.psql(OWN)
    known = look_through(run, UNSEEN)
    assert known.routines is not None
    found = set(known.routines.by_name) - {"set_config"}
    expected = {"sets", "calls", "seen", "over_it", "parent", "child", "part", "marks", "guarded"}
    assert found == expected
    assert look_through(run, known) is known


def test_a_new_session_holds_nothing(run: Run) -> None:
    names = ("my.tag", "role", "work_mem")
    assert ask(run, names=names, resets=("work_mem",)) == Answer(
        values={"my.tag": None, "role": "none", "work_mem": "4MB"},
        session={},
        statements={},
        ours=0,
    )
    assert audit.leaks(NONE, run(audit.query(NONE))) == 0


@pytest.mark.parametrize("condition, sql", ONE_EACH)
def test_what_is_held_is_told_found_by_the_audit_and_cleaned(
    run: Run, condition: int, sql: str
) -> None:
    run(sql.encode())
    answer = ask(run)
    assert answer.held == condition & ASKABLE
    assert answer.statements == ({"plan": sql} if condition == PREPARED else {})
    assert audit.leaks(NONE, run(audit.query(NONE))) == condition
    run(cleaning(condition))
    assert ask(run).held == 0
    assert audit.leaks(NONE, run(audit.query(NONE))) == 0


def test_transactional_holds_of_one_transaction_are_none(run: Run) -> None:
    run(b"BEGIN")
    run(b"SELECT pg_catalog.pg_advisory_lock(1)")
    run(b"SAVEPOINT a; CREATE TEMP TABLE scratch (n pg_catalog.int4) ON COMMIT DROP; LISTEN a")
    run(b"DECLARE walk CURSOR FOR SELECT 1; SELECT pg_catalog.pg_advisory_xact_lock(2); ROLLBACK")
    assert ask(run).held == ADVISORY


def test_cleaning_of_everything_at_once(run: Run) -> None:
    for ways in MAKES.values():
        run(ways[0].encode())
    run(b"SET work_mem = '5MB'; SET role = 'alice'; SET my.tag = 'x'")
    assert audit.leaks(NONE, run(audit.query(NONE))) == ALL
    run(cleaning(ALL))
    assert audit.leaks(NONE, run(audit.query(NONE))) == 0
    # Postgres keeps the name of an application's own parameter for as long as the connection.
    assert ask(run, names=("my.tag",)).values == {"my.tag": ""}


def test_as_many_columns_come_as_are_read(run: Run) -> None:
    names, resets = ("my.tag", "timezone", "work_mem"), ("work_mem",)
    wanted = [(names, resets), ((), ()), (names[:1], ())]
    for asks, (set_, put_back), everything in product(SUBSETS, wanted, [False, True]):
        if not (asks or set_ or everything):
            continue
        (row,) = run(question(asks, set_, put_back, everything))
        columns = iter(row)
        read_answer(asks, set_, put_back, everything, Columns(columns))
        assert list(columns) == []


class Columns(list[bytes | None]):
    """A row that is read once, so that what is left of it shows."""

    def __init__(self, columns: Iterator[bytes | None]) -> None:
        self._columns = columns

    def __iter__(self) -> Iterator[bytes | None]:
        return self._columns


def test_parameters_are_told_with_their_source(run: Run) -> None:
    run(
        b"SET work_mem = '5MB'; SET my.tag = 'it''s'; SET statement_timeout = 0; RESET lock_timeout"
    )
    names = ("lock_timeout", "my.tag", "statement_timeout", "work_mem")
    answer = ask(run, names=names, resets=("lock_timeout", "work_mem"))
    assert answer.values == {
        "lock_timeout": "0",
        "my.tag": "it's",
        "statement_timeout": "0",
        "work_mem": "5MB",
    }
    assert answer.settled == {"work_mem"}
    assert answer.session == {"work_mem": "5MB", "statement_timeout": "0"}
    assert answer.default == {"statement_timeout"}


@pytest.mark.parametrize(
    "setting", ["client_encoding = 'LATIN1'", "standard_conforming_strings = off", "role = 'none'"]
)
def test_answers_are_read_alike_whatever_the_session_is_set_to(run: Run, setting: str) -> None:
    run(f"SET {setting}".encode())
    run(b"SELECT pg_catalog.set_config('my.tag', pg_catalog.chr(252) || '\\n', false)")
    assert (ask(run, names=("my.tag",)).values["my.tag"] or "").startswith("\xfc")


@pytest.mark.parametrize("name", ["no_such", "a b.c", "it's", "\xfc.x", "x" * 100, "a\\b", ""])
def test_names_of_no_parameter_do_no_harm(run: Run, name: str) -> None:
    assert ask(run, names=(name,), resets=(name,)).values == {name: None}


def test_the_catalogs_are_looked_at_whatever_plans_the_session_allows(run: Run) -> None:
    settings = b"enable_seqscan", b"enable_nestloop", b"enable_sort", b"jit"
    show = b"SELECT " + b",".join(b"pg_catalog.current_setting('%s')" % name for name in settings)
    for name in settings:
        run(b"SET %s = off" % name)
    assert run(unhurried(show)) == [[b"on", b"on", b"on", b"off"]]
    assert run(show) == [[b"off"] * 4]


def test_statements_of_the_protocol_that_are_not_ours_are_strays(server: Postgres) -> None:
    with psycopg.connect(server.dsn_for("alice"), autocommit=True) as connection:
        for name in (b"mine", b"pgfunnel_7"):
            connection.pgconn.prepare(name, b"SELECT 1")
        assert ask(lambda sql: rows(connection, sql)).strays == {"mine": "SELECT 1"}


def test_a_server_is_brought_from_one_set_to_another(run: Run) -> None:
    plan = {"plan": Prepared("PREPARE plan (pg_catalog.text) AS SELECT $1")}
    first = Parameters.of({"work_mem": "5MB", "my.tag": "\xfc\\'", "role": "alice"}, plan)
    second = Parameters.of({"my.other": "2", "timezone": "Europe/Paris"})
    for have, want in ((NONE, first), (first, second), (second, first), (first, NONE)):
        texts = [each.text.encode() for each in preparations(have, want).values()]
        for sql in (difference(have, want), *texts):
            run(sql)
        assert audit.leaks(want, run(audit.query(want))) == 0
        assert audit.leaks(second, run(audit.query(second))) & PARAMETERS or want is second
