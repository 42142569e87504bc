"""A table that takes the name of another: whose statements stand for which.

Prepared statements of the protocol are shared by text; a client's own temporary tables, and tables
that were made since, are what a new statement of the same text means.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest

from tests.conftest import StartFunnel
from tests.integration.test_readings import Both
from tests.postgres import USERS, Postgres
from tests.wireclient import (
    SYNC,
    Wire,
    bind,
    close,
    describe,
    execute,
    parse,
    query,
    rows,
    sqlstates,
)

READ = "SELECT v FROM shadowed"


@pytest.fixture
def three(pgfunnel: StartFunnel, postgres: Postgres) -> Iterator[list[Both]]:
    """Three clients on one server, where somebody has had temporary tables already."""
    funnel = pgfunnel(default_pool_size=1)
    clients = [Both(funnel, postgres) for _ in range(3)]
    own = clients[0].straight
    admin = Wire(postgres.host, postgres.port, postgres.user, postgres.database, postgres.password)
    admin.ask("DROP SCHEMA IF EXISTS shadow_first CASCADE")
    admin.ask("CREATE SCHEMA shadow_first AUTHORIZATION alice")
    own.ask("DROP TABLE IF EXISTS shadowed, shadows")
    own.ask("CREATE TABLE shadowed AS SELECT 'public' AS v")
    own.ask("CREATE TABLE shadows AS SELECT 'other' AS v")
    for client in clients:
        client.ask("BEGIN")
        client.ask("CREATE TEMP TABLE anything (a int) ON COMMIT DROP")
        client.ask("COMMIT")
        client.ask("SET search_path = shadow_first, public")
    yield clients
    for client in clients:
        client.funnel.close()
    own.ask("ROLLBACK")
    own.ask("DROP TABLE public.shadowed, shadows")
    for client in clients:
        client.straight.close()
    admin.ask("DROP SCHEMA shadow_first CASCADE")
    admin.close()


def reads(client: Both, name: str = "s") -> list[list[str | None]]:
    return rows(client.send(bind("", name), execute(), SYNC))


MAKES = [
    "CREATE TEMP TABLE shadowed AS SELECT 'own' AS v",
    "SELECT 'own' AS v INTO TEMP shadowed",
    "CREATE TEMP VIEW shadowed AS SELECT 'own' AS v",
    "DO $$ BEGIN CREATE TEMP TABLE shadowed AS SELECT 'own' AS v; END $$",
    "DO $$ BEGIN EXECUTE 'CREATE TEMP TABLE shadowed AS SELECT ''own'' AS v'; END $$",
]
DROPS = "DROP TABLE IF EXISTS pg_temp.shadowed"


@pytest.mark.parametrize("makes", MAKES)
@pytest.mark.parametrize("block", [False, True])
def test_a_temporary_table_is_its_clients_own(three: list[Both], makes: str, block: bool) -> None:
    one, other, third = three
    other.send(parse("s", READ), bind("", "s"), execute(), SYNC)
    if block:
        one.ask("BEGIN")
    one.ask(makes)
    one.send(parse("s", READ), bind("", "s"), execute(), SYNC)
    assert reads(one) == [["own"]]
    if block:
        one.ask("COMMIT")
    assert reads(one) == [["own"]]
    one.ask("DROP VIEW pg_temp.shadowed" if "VIEW" in makes else DROPS)
    assert reads(one) == [["public"]]
    assert reads(other) == [["public"]]
    third.send(parse("s", READ), bind("", "s"), execute(), SYNC)
    assert reads(one) == reads(third) == [["public"]]


def test_what_was_prepared_before_the_first_temporary_table(
    pgfunnel: StartFunnel, postgres: Postgres, three: list[Both]
) -> None:
    """It changes search_path, in a way: Postgres reads texts anew."""
    funnel = pgfunnel(default_pool_size=1)
    with closing(Both(funnel, postgres)) as one, closing(Both(funnel, postgres)) as other:
        other.ask("CREATE TEMP TABLE anything (a int)")
        other.ask("DROP TABLE anything")
        for client in (one, other):
            client.send(parse("s", READ), bind("", "s"), execute(), SYNC)
        one.ask("CREATE TEMP TABLE shadowed AS SELECT 'own' AS v")
        assert reads(one) == [["own"]]
        one.ask(DROPS)
        assert reads(one) == reads(other) == [["public"]]


PERMANENT = [
    "CREATE TABLE shadow_first.shadowed AS SELECT 'first' AS v",
    "SELECT 'first' AS v INTO shadow_first.shadowed",
    "CREATE TABLE shadow_first.shadowed (v text)",
    "DO $$ BEGIN CREATE TABLE shadow_first.shadowed AS SELECT 'first' AS v; END $$",
    "DO $$ BEGIN EXECUTE 'CREATE TABLE shadow_first.shadowed AS SELECT ''first'' AS v'; END $$",
]


@pytest.mark.parametrize("makes", PERMANENT)
@pytest.mark.parametrize("block", [False, True])
def test_a_table_that_comes_first_now(three: list[Both], makes: str, block: bool) -> None:
    one, other, third = three
    other.send(parse("s", READ), bind("", "s"), execute(), SYNC)
    if block:
        one.ask("BEGIN")
    one.funnel.ask(makes)
    if not block:
        one.straight.ask("SELECT 1")
    for wire in (one.funnel, one.straight) if not block else (one.funnel,):
        wire.send(parse("s", READ), bind("", "s"), execute(), SYNC)
        assert rows(wire.until("Z")) == ([] if "(v" in makes else [["first"]])
    if block:
        one.funnel.ask("COMMIT")
    third.send(parse("s", READ), bind("", "s"), execute(), SYNC)
    assert reads(third) == ([] if "(v" in makes else [["first"]])


def test_rows_go_where_they_would_on_a_connection_of_ones_own(
    pgfunnel: StartFunnel, postgres: Postgres
) -> None:
    """A driver that prepares what it executes often."""
    funnel = pgfunnel(default_pool_size=2)
    adds = "INSERT INTO shadow_orders VALUES (%s::int)"
    with psycopg.connect(funnel.dsn("alice"), autocommit=True) as other:
        other.execute("DROP TABLE IF EXISTS shadow_orders")
        other.execute("CREATE TABLE shadow_orders (id int)")
        other.execute("BEGIN; CREATE TEMP TABLE w (x int) ON COMMIT DROP; COMMIT")
        for i in range(10):
            other.execute(adds, (i,))
        with psycopg.connect(funnel.dsn("alice"), autocommit=True) as own:
            own.execute("CREATE TEMP TABLE shadow_orders AS SELECT * FROM shadow_orders LIMIT 0")
            for _ in range(10):
                own.execute(adds, (666,))
                other.execute("SELECT 1")
            counts = [
                own.execute(
                    f"SELECT count(*) FROM {schema}.shadow_orders WHERE id = 666"
                ).fetchone()
                for schema in ("pg_temp", "public")
            ]
        assert counts == [(10,), (0,)]
        other.execute("DROP TABLE shadow_orders")


# -- plans that functions keep ---------------------------------------------------------------


LOGS = """
DROP TABLE IF EXISTS shadow_log, shadow_source;
CREATE TABLE shadow_log (b text);
CREATE TABLE shadow_source (b text);
CREATE OR REPLACE FUNCTION shadow_log_it(t text) RETURNS void LANGUAGE plpgsql AS
  'BEGIN INSERT INTO shadow_log VALUES (t) ; END';
CREATE OR REPLACE FUNCTION shadow_logs() RETURNS trigger LANGUAGE plpgsql AS
  'BEGIN INSERT INTO shadow_log VALUES (new.b) ; RETURN new ; END';
CREATE TRIGGER logs BEFORE INSERT ON shadow_source FOR EACH ROW EXECUTE FUNCTION shadow_logs();
CREATE TEMP TABLE shadow_row (a int, b text);
CREATE OR REPLACE FUNCTION shadow_reads() RETURNS text LANGUAGE plpgsql AS
  'DECLARE o shadow_row ; BEGIN SELECT * INTO o FROM shadow_row ; RETURN o::text ; END'
"""


@pytest.fixture
def logs(postgres: Postgres) -> Iterator[None]:
    """A table, functions in PL/pgSQL that write to it, and a trigger that does."""
    with Wire(postgres.host, postgres.port, "alice", postgres.database, USERS["alice"]) as own:
        for sql in LOGS.split(";\n"):
            assert not sqlstates(own.ask(sql)), sql
        yield
        for sql in (
            "DROP FUNCTION shadow_log_it, shadow_reads",
            "DROP TABLE public.shadow_log, shadow_source",
            "DROP FUNCTION shadow_logs",
        ):
            own.ask(sql)


@pytest.mark.parametrize("pool", [1, 3])
def test_a_row_of_a_temporary_table(
    pgfunnel: StartFunnel, postgres: Postgres, logs: None, pool: int
) -> None:
    funnel = pgfunnel(default_pool_size=pool)
    for drop in ("", " ON COMMIT DROP", "", ""):
        with closing(Both(funnel, postgres)) as client:
            if drop:
                client.ask("BEGIN")
            client.ask(f"CREATE TEMP TABLE shadow_row (a int, b text){drop}")
            client.ask("INSERT INTO shadow_row VALUES (1, 'x')")
            assert rows(client.ask("SELECT shadow_reads()")) == [["(1,x)"]]
            if drop:
                client.ask("COMMIT")


MAKES_LOG = "CREATE TEMP TABLE shadow_log (b text)"


DROPPED_AT_COMMIT = (
    "CREATE TEMP TABLE shadow_log ON COMMIT DROP AS SELECT ''::text AS b WHERE false",
    "CREATE TEMP TABLE shadow_log (b text) ON COMMIT DROP",
    (
        "CREATE TEMP TABLE w ON COMMIT DROP AS SELECT 1;"
        "CREATE TEMP TABLE shadow_log (b text) ON COMMIT DROP"
    ),
)


def test_tables_that_are_dropped_at_commit(
    pgfunnel: StartFunnel, postgres: Postgres, logs: None
) -> None:
    """In whatever way they are made, and whatever was made before in the transaction."""
    funnel = pgfunnel(default_pool_size=1)
    adds = "INSERT INTO shadow_log VALUES ('own') RETURNING tableoid::regclass::text"
    with closing(Both(funnel, postgres)) as other, closing(Both(funnel, postgres)) as one:
        for sql in ("BEGIN", "CREATE TEMP TABLE w (a int) ON COMMIT DROP", "COMMIT"):
            other.ask(sql)
        other.send(parse("s", adds.replace("own", "other")), SYNC)
        other.send(parse("t", adds), bind("", "t"), execute(), SYNC)
        for makes in DROPPED_AT_COMMIT:
            other.ask("SELECT shadow_log_it('before')")
            one.ask("BEGIN")
            if makes is DROPPED_AT_COMMIT[0]:
                one.ask("SAVEPOINT a")
                one.ask(makes)
                one.ask("ROLLBACK TO a")
                one.ask("SELECT shadow_log_it('again')")
            one.ask(makes)
            one.ask("SELECT shadow_log_it('mine')")
            one.send(close("s"), parse("s", adds), bind("", "s"), execute(), SYNC)
            assert rows(one.ask("SELECT b || '' FROM pg_temp.shadow_log")) == [["mine"], ["own"]]
            one.ask("COMMIT")
            other.ask("SELECT count(*), max(b || '') FROM shadow_log")
        other.send(bind("", "s"), execute(), SYNC)


def test_commands_that_stand_alone_do_so(
    pgfunnel: StartFunnel, postgres: Postgres, logs: None
) -> None:
    """Any function may be called by VACUUM, and one makes temporary tables."""
    funnel = pgfunnel(default_pool_size=1)
    with closing(Both(funnel, postgres)) as one:
        one.straight.ask(
            "CREATE OR REPLACE FUNCTION shadow_report() RETURNS void LANGUAGE plpgsql AS"
            " 'BEGIN CREATE TEMP TABLE rep (a int) ; END'"
        )
        one.funnel.ask("ALTER FUNCTION shadow_report() COST 10")
        for sql in (
            "VACUUM shadow_log",
            "/* x */ vacuum analyze shadow_log",
            "REINDEX TABLE CONCURRENTLY shadow_log",
            "CREATE INDEX CONCURRENTLY shadow_index ON shadow_log (b)",
            "DROP INDEX CONCURRENTLY shadow_index",
        ):
            one.funnel.send(parse("", sql), bind(), execute(), SYNC)
            answers = one.funnel.until("Z")
            assert not sqlstates(answers), answers
        one.straight.ask("DROP FUNCTION shadow_report")


@pytest.mark.parametrize(
    "writes", ["SELECT shadow_log_it('a')", "INSERT INTO shadow_source VALUES ('a')"]
)
@pytest.mark.parametrize("way", ["queries", "block", "string", "pipeline"])
@pytest.mark.parametrize("before", [True, False])
def test_functions_write_to_a_clients_own_table(
    pgfunnel: StartFunnel, postgres: Postgres, logs: None, writes: str, way: str, before: bool
) -> None:
    funnel = pgfunnel(default_pool_size=1)
    with closing(Both(funnel, postgres)) as other, closing(Both(funnel, postgres)) as one:
        if before:
            other.ask("CREATE TEMP TABLE anything (a int)")
            other.ask("DROP TABLE anything")
        other.funnel.ask(writes.replace("'a'", "'b'"))
        if way == "string":
            one.ask(f"{MAKES_LOG}; {writes}")
        elif way == "pipeline":
            one.send(
                *(parse("", MAKES_LOG), bind(), execute()),
                *(parse("", writes), bind(), execute(), SYNC),
            )
        else:
            if way == "block":
                one.ask("BEGIN")
            one.ask(MAKES_LOG)
            one.ask(writes)
            if way == "block":
                one.ask("COMMIT")
        assert rows(one.ask("SELECT b || '' FROM pg_temp.shadow_log")) == [["a"]]
        assert rows(one.ask("SELECT b || '' FROM public.shadow_log")) == [["b"]]
        one.ask("DROP TABLE pg_temp.shadow_log")
        other.funnel.ask(writes.replace("'a'", "'c'"))
        assert rows(one.ask("SELECT b || '' FROM shadow_log WHERE b <> 'c'")) == [["b"]]


ONE = "CREATE FUNCTION shadow_one() RETURNS int LANGUAGE plpgsql AS $$BEGIN RETURN 1; END$$"
FAILED: dict[str, tuple[bytes, ...]] = {
    "rolled back in the same string": (
        *(query("BEGIN"), query("SELECT 1 / 0")),
        query("ROLLBACK; CREATE TEMP TABLE shadow_own (a int)"),
    ),
    "rolled back to a savepoint": (
        *(query("BEGIN; SAVEPOINT a"), query("SELECT 1 / 0")),
        query("ROLLBACK TO a; CREATE TEMP TABLE shadow_own (a int) ON COMMIT DROP"),
        query("COMMIT"),
    ),
    "not rolled back": (
        *(query("BEGIN"), query("SELECT 1 / 0")),
        query("CREATE TEMP TABLE shadow_own (a int) ON COMMIT DROP"),
        query("ROLLBACK"),
    ),
}


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("how", FAILED)
def test_a_temporary_table_behind_a_failure(three: list[Both], how: str, at_once: bool) -> None:
    one, other, _ = three
    other.funnel.ask(ONE)
    if at_once:
        one.send(*FAILED[how], times=len(FAILED[how]))
    else:
        for message in FAILED[how]:
            one.send(message)
    one.ask("SELECT shadow_one()")
    one.ask("DROP TABLE IF EXISTS pg_temp.shadow_own")
    other.funnel.ask("DROP FUNCTION shadow_one()")


def test_what_only_drops_lets_statements_be_as_they_are(three: list[Both]) -> None:
    one, other, _ = three
    other.funnel.ask(ONE)
    one.ask("PREPARE s AS SELECT timestamptz '2026-03-01 12:00'")
    one.ask(DROPS)
    one.ask("SET timezone = 'Europe/Berlin'")
    one.ask("EXECUTE s")
    other.funnel.ask("DROP FUNCTION shadow_one()")


def test_what_prepare_has_read_before_the_first_temporary_table(
    pgfunnel: StartFunnel, postgres: Postgres, three: list[Both]
) -> None:
    funnel = pgfunnel(default_pool_size=1)
    with closing(Both(funnel, postgres)) as one, closing(Both(funnel, postgres)) as other:
        other.ask("CREATE TEMP TABLE anything (a int)")
        other.ask("DROP TABLE anything")
        one.ask("PREPARE p AS SELECT v || '' FROM shadowed")
        one.ask("CREATE TEMP TABLE shadowed AS SELECT 'own' AS v")
        assert rows(one.ask("EXECUTE p")) == [["own"]]
        one.ask(DROPS)
        other.ask("SELECT 1")
        assert rows(one.ask("EXECUTE p")) == [["public"]]


# -- statements of the protocol under their clients' own names -------------------------------


@pytest.mark.parametrize("block", [True, False])
def test_execute_finds_what_the_name_stands_for_now(three: list[Both], block: bool) -> None:
    one, other, _ = three
    if block:
        one.ask("BEGIN")
    one.send(parse("s", "SELECT v FROM shadows WHERE v = 'none'"), SYNC)
    one.ask("EXECUTE s")
    one.send(close("s"), parse("s", "INSERT INTO shadows VALUES ('new') RETURNING v"), SYNC)
    assert rows(one.ask("EXECUTE s")) == [["new"]]
    one.ask("DEALLOCATE s")
    one.send(parse("s", "SELECT 'third'"), SYNC)
    assert rows(one.ask("EXECUTE s")) == rows(one.ask("EXECUTE s")) == [["third"]]
    one.ask("EXPLAIN EXECUTE s")
    one.send(close("s"), SYNC)
    assert sqlstates(one.ask("EXECUTE s")) == ["26000"]
    one.ask("ROLLBACK")
    other.ask("SELECT 1")


def test_a_copy_that_was_skipped_is_made_again(three: list[Both]) -> None:
    one = three[0]
    one.send(parse("s", "SELECT 'it'"), SYNC)
    one.ask("BEGIN")
    one.ask("SAVEPOINT a")
    run = [parse("", "EXECUTE s"), bind(), execute()]
    one.send(parse("", "SELECT 1/0"), bind(), execute(), *run, SYNC)
    one.ask("ROLLBACK TO a")
    assert rows(one.ask("EXECUTE s")) == [["it"]]
    one.ask("COMMIT")


def test_a_deallocate_that_was_skipped_drops_nothing(three: list[Both]) -> None:
    one, other, _ = three
    one.send(parse("s", "SELECT 'it'"), SYNC)
    fails = [parse("", "SELECT 1/0"), bind(), execute()]
    drops = [parse("", "DEALLOCATE s"), bind(), execute()]
    for block in (False, True):
        if block:
            one.ask("BEGIN")
        one.send(*fails, *drops, SYNC)
        one.ask("ROLLBACK")
        other.ask("SELECT 1")
        assert reads(one) == [["it"]]
    one.send(*drops, SYNC)
    assert sqlstates(one.send(bind("", "s"), execute(), SYNC)) == ["26000"]


@pytest.mark.parametrize(
    "drops", [[close("s")], [parse("", "DEALLOCATE s"), bind(), execute()]], ids=["Close", "SQL"]
)
@pytest.mark.parametrize("block", [False, True])
def test_a_name_that_sql_had(three: list[Both], drops: list[bytes], block: bool) -> None:
    one, other, _ = three
    one.ask("PREPARE s AS SELECT 'sql'")
    if block:
        one.ask("BEGIN")
    one.send(*drops, parse("s", "SELECT 'protocol'"), SYNC)
    assert reads(one) == [["protocol"]]
    one.ask("SET application_name = 'x'")
    if block:
        one.ask("ROLLBACK")
    other.ask("SELECT 1")
    assert reads(one) == [["protocol"]]
    assert rows(one.ask("EXECUTE s")) == [["protocol"]]
    one.send(parse("s", "SELECT 'again'"), SYNC)
    one.ask("PREPARE s AS SELECT 'sql'")
    assert reads(one) == [["protocol"]]


def test_an_unnamed_statement_that_a_query_has_destroyed_stays_so(three: list[Both]) -> None:
    one = three[0]
    one.send(parse("", "SELECT 'old'"), SYNC)
    one.ask("SELECT 1")
    one.send(bind("", "nosuch"), close("zz", "P"), SYNC)
    assert sqlstates(one.send(bind(), execute(), SYNC)) == ["26000"]


@pytest.mark.parametrize("drops", [DROPS, "DISCARD TEMP"])
def test_columns_are_what_they_were_once_another_table_is_gone(
    three: list[Both], drops: str
) -> None:
    one, other, _ = three
    use = bind("", "s"), describe("", "P"), execute(), SYNC
    one.send(parse("s", "SELECT * FROM shadowed"), SYNC)
    one.send(*use)
    one.ask("CREATE TEMP TABLE shadowed (a int, b int)")
    one.funnel.send(*use)
    one.funnel.until("Z")  # where Postgres itself would refuse it (docs/safety.md)
    one.ask(drops)
    for _ in range(3):
        one.send(*use)
        other.ask("SELECT 1")
