"""Sessions that move from server to server, compared with such that do not."""

from __future__ import annotations

import json

import psycopg
import pytest

from proxy.session.wording import normalised
from tests.conftest import StartFunnel
from tests.funnel import Funnel
from tests.integration.observe import until
from tests.integration.twins import Twins
from tests.postgres import USERS, Postgres
from tests.wireclient import SYNC, Wire, bind, close, describe, execute, parse, query, rows


def wire(funnel: Funnel, **settings: str) -> Wire:
    return Wire(funnel.host, funnel.port, "alice", "postgres", USERS["alice"], settings)


TO_DEFAULT = [
    ({"standard_conforming_strings": "off"}, "SET standard_conforming_strings = on"),
    ({"timezone": "Asia/Tokyo"}, "SELECT set_config('timezone', 'default', false)"),
    ({"my.tag": "x"}, "SET my.tag = ''"),
    ({"role": "bob"}, "SET ROLE none"),
    ({"work_mem": "5MB"}, "SET work_mem = '4MB'"),
]


def test_what_is_set_to_the_servers_default_is_set(
    pgfunnel: StartFunnel, postgres: Postgres
) -> None:
    funnel = pgfunnel(default_pool_size=2)
    postgres.psql("GRANT bob TO alice")
    ((zone,),) = postgres.psql("SELECT reset_val FROM pg_settings WHERE name = 'TimeZone'")
    for start, sql in TO_DEFAULT:
        (name,) = start
        with Twins(funnel) as twins:
            twins.connect("one", **start)
            twins.ask("one", sql.replace("'default'", f"'{zone}'"))
            twins.ask("other", "BEGIN")  # on the server that was used last
            twins.ask("one", "DO $$ BEGIN EXECUTE 'SELECT 1'; END $$")
            twins.ask("one", f"SHOW {name}")
            twins.ask("other", "COMMIT")
            for again in (f"SHOW {name}", f"RESET {name}", f"SHOW {name}"):
                twins.ask("one", again)


SCHEMAS = """
DROP SCHEMA IF EXISTS replay_a, replay_b, replay_c CASCADE;
CREATE SCHEMA replay_a; CREATE SCHEMA replay_b; CREATE SCHEMA replay_c;
CREATE TABLE replay_a.t AS SELECT 'a'::text AS v; CREATE TABLE replay_b.t AS SELECT 'b'::text AS v;
CREATE TABLE replay_c.t AS SELECT 3 AS v, 4 AS w;
CREATE TABLE replay_a.single AS SELECT 'only a' AS v;
CREATE TYPE replay_a.mood AS ENUM ('sad', 'glad');
GRANT USAGE ON SCHEMA replay_a, replay_b, replay_c TO PUBLIC;
GRANT SELECT ON ALL TABLES IN SCHEMA replay_a, replay_b, replay_c TO PUBLIC;
"""

PATHS = [
    "SET search_path = replay_b",
    "SET search_path = replay_c",
    "SET search_path = ''",
    "SET datestyle = 'ISO, MDY'",
    "RESET ALL",
]
PREPARES = [
    ("SET search_path = replay_a", "PREPARE p AS SELECT v FROM t", "", PATHS),
    ("SET search_path = replay_a", "PREPARE p AS SELECT v FROM single", "", PATHS),
    ("SET search_path = replay_a", "PREPARE p AS SELECT * FROM t", "", PATHS),
    ("SET search_path = replay_a", "PREPARE p(mood) AS SELECT $1", "('glad')", PATHS),
    ("SET search_path = replay_a", "PREPARE p AS INSERT INTO single TABLE nowhere", "", PATHS),
    (
        "SET ROLE bob; SET search_path = '$user', replay_a",
        "PREPARE p AS SELECT v, current_user FROM t",
        "",
        ["RESET ROLE", *PATHS],
    ),
    (
        "SET datestyle = 'ISO, DMY'",
        "PREPARE p AS SELECT '01/02/2020'::date",
        "",
        ["SET datestyle = 'ISO, MDY'", "RESET ALL"],
    ),
    (
        "SET standard_conforming_strings = off",
        r"PREPARE p AS SELECT 'a\'b\\c'",
        "",
        ["SET standard_conforming_strings = on", *PATHS],
    ),
    (
        "SET client_encoding = 'LATIN1'",
        "PREPARE p AS SELECT length('é'), '{}'",
        "",
        ["SET client_encoding = 'UTF8'", "RESET ALL"],
    ),
]


def alternate(twins: Twins, *statements: str) -> None:
    """The one client's statements, each behind another client's on the same server."""
    for sql in statements:
        twins.ask("other", "SELECT 1")
        twins.ask("one", sql)


@pytest.fixture
def schemas(postgres: Postgres) -> None:
    postgres.psql(SCHEMAS)
    postgres.psql("GRANT bob TO alice")


def test_prepare_keeps_the_meaning_it_had(pgfunnel: StartFunnel, schemas: None) -> None:
    funnel = pgfunnel(default_pool_size=1)
    for before, prepare, arguments, after in PREPARES:
        run, start = f"EXECUTE p{arguments}", before.split("; ")
        with Twins(funnel) as twins:
            alternate(twins, *start, prepare)
            for sql in after:
                alternate(twins, sql, run, f"EXPLAIN {run}")
            alternate(twins, *start, run, prepare, "DEALLOCATE p", run)
    assert not any("pins_total" in name for name in funnel.metrics())


def test_each_prepare_has_a_meaning_of_its_own(pgfunnel: StartFunnel, schemas: None) -> None:
    funnel = pgfunnel(default_pool_size=2)
    with Twins(funnel) as twins:
        for path in ("a", "b", "c"):
            alternate(twins, f"SET search_path = replay_{path}", f"PREPARE {path} AS TABLE t")
        executed = [f"EXECUTE {name}" for name in "abc"]
        for path in ("replay_c", "replay_b", "replay_a"):
            alternate(twins, f"SET search_path = {path}", *executed)
        alternate(twins, "DEALLOCATE b", "SET search_path = replay_b", *executed)
        alternate(twins, "PREPARE b AS TABLE t", *executed, "DISCARD ALL", *executed)
    assert not any("pins_total" in name for name in funnel.metrics())


TRANSACTIONS = [
    "BEGIN; SET LOCAL search_path = replay_b; PREPARE p AS SELECT v FROM t; COMMIT",
    "BEGIN; SET LOCAL search_path = replay_b; PREPARE p AS SELECT v FROM t; ROLLBACK",
    "BEGIN; SET search_path = replay_b; PREPARE p AS SELECT v FROM t; ROLLBACK",
    "BEGIN; SAVEPOINT s; SET search_path = replay_b; PREPARE p AS TABLE t; ROLLBACK TO s; COMMIT",
    "BEGIN; SELECT set_config('search_path', 'replay_b', true); PREPARE p AS TABLE t; COMMIT",
    "BEGIN; PREPARE p AS SELECT v FROM t; SET LOCAL search_path = replay_b; COMMIT",
]


@pytest.mark.parametrize("whole", [True, False])
def test_prepare_in_a_transaction_keeps_what_held_then(
    pgfunnel: StartFunnel, schemas: None, whole: bool
) -> None:
    """Sent as one string, nobody can tell what held: a pin."""
    funnel = pgfunnel(default_pool_size=2)
    for script in TRANSACTIONS:
        with Twins(funnel) as twins:
            alternate(twins, "SET search_path = replay_a")
            for sql in [script] if whole else script.split("; "):
                twins.ask("one", sql)
            alternate(twins, "SELECT 1", "EXECUTE p", "SET search_path = replay_b", "EXECUTE p")
            alternate(twins, "SET search_path = replay_c", "EXECUTE p", "EXECUTE p")
            if whole:
                said = f'pinned: prepared (statement="{normalised(script.encode())}'
                until(lambda said=said: said in funnel.log())  # type: ignore[misc]
            alternate(twins, "DEALLOCATE p", "EXECUTE p")
        until(lambda: not json.loads(funnel.get("/pins"))["pinned"])
    assert whole == any("pins_total" in name for name in funnel.metrics())


def extended(*statements: str) -> bytes:
    """Each in one pipeline, without names."""
    return b"".join(parse("", sql) + bind() + describe() + execute() for sql in statements) + SYNC


def test_prepare_by_the_extended_protocol(pgfunnel: StartFunnel, schemas: None) -> None:
    funnel = pgfunnel(default_pool_size=1)
    with Twins(funnel) as twins:
        alternate(twins, "SET search_path = replay_a")
        twins.send("one", extended("PREPARE p AS TABLE t"))
        alternate(twins, "SET search_path = replay_b", "EXECUTE p")
        twins.send("one", extended("BEGIN", "SET LOCAL search_path = replay_a"))
        twins.send("one", extended("PREPARE q AS TABLE t"))
        twins.send("one", extended("COMMIT"))
        alternate(twins, "EXECUTE q", "SELECT 1")
        twins.send("one", extended("BEGIN", "PREPARE r AS TABLE t"))
        twins.ask("one", "COMMIT")
        alternate(twins, "SET search_path = replay_c", "EXECUTE p", "EXECUTE q", "EXECUTE r")
    assert not any("pins_total" in name for name in funnel.metrics())


def test_what_can_be_prepared_no_more_says_so_until_it_can_again(
    pgfunnel: StartFunnel, schemas: None
) -> None:
    funnel = pgfunnel(default_pool_size=1)
    upstream = funnel.upstream
    with Twins(funnel) as twins:
        alternate(twins, "SET search_path = replay_a")
        alternate(twins, "PREPARE p AS SELECT v FROM single", "PREPARE q(int) AS SELECT $1 + 1")
        upstream.psql("ALTER TABLE replay_a.single RENAME TO gone")
        alternate(twins, "EXECUTE p", "EXECUTE q(1)", "EXECUTE p")
        for sql in ("BEGIN", "EXECUTE q(2)", "EXECUTE p", "EXECUTE p", "ROLLBACK"):
            twins.ask("one", sql)
        alternate(twins, "PREPARE p AS SELECT 2")
        upstream.psql("ALTER TABLE replay_a.gone RENAME TO single")
        alternate(twins, "EXECUTE p", "EXECUTE q(3)")
        upstream.psql("DROP TABLE replay_a.single")
        alternate(twins, "EXPLAIN EXECUTE p", "DEALLOCATE p", "EXECUTE p", "EXECUTE q(4)")
        alternate(twins, "PREPARE p AS SELECT 5", "EXECUTE p")
    assert not any("pins_total" in name for name in funnel.metrics())


def test_prepare_under_a_role_that_is_taken_away(pgfunnel: StartFunnel, schemas: None) -> None:
    funnel = pgfunnel(default_pool_size=1)
    with Twins(funnel) as twins:
        alternate(twins, "SET ROLE bob", "PREPARE p AS SELECT 1", "RESET ROLE", "EXECUTE p")
        funnel.upstream.psql("REVOKE bob FROM alice")
        alternate(twins, "SELECT 1", "SHOW work_mem")
    with wire(funnel) as other:
        assert rows(other.ask("SELECT 1")) == [["1"]]


def test_execute_by_name_behind_ddl(pgfunnel: StartFunnel, schemas: None) -> None:
    """What a statement of the protocol executes by name has to be there before it is described."""
    funnel = pgfunnel(default_pool_size=2)
    with Twins(funnel) as twins:
        twins.send("one", parse("mine", "SELECT 'x'::text"), parse("run", "EXECUTE mine"), SYNC)
        twins.send("one", describe("run"), SYNC)
        twins.ask("other", "BEGIN")  # on the server that was used last
        twins.ask("other", "CREATE TEMP TABLE made (a int) ON COMMIT DROP")
        for _ in range(2):
            twins.send("one", bind("", "run"), execute(), SYNC)
        twins.ask("other", "COMMIT")
        twins.send("one", bind("", "run"), execute(), SYNC)


def test_what_is_executed_by_name_is_ones_own(pgfunnel: StartFunnel) -> None:
    """A statement of the protocol is shared by text; whatever a name in it stands for is not."""
    funnel = pgfunnel(default_pool_size=1)
    run = parse("", "EXECUTE p") + describe() + bind() + execute() + SYNC
    named = parse("run", "EXECUTE p") + describe("run") + bind("", "run") + execute() + SYNC
    with Twins(funnel) as twins:
        twins.send("nobody", named)
        for name, statement in (("one", "SELECT 1"), ("two", "SELECT 2, 'two'")):
            for sql in ("BEGIN", f"PREPARE p AS {statement}"):
                twins.ask(name, sql)
            twins.send(name, named)
            twins.send(name, run)
            twins.ask(name, "COMMIT")
        for name in ("one", "two", "nobody"):
            twins.send(name, bind("", "run") + execute() + SYNC)
            twins.send(name, run)


DEFERRED = {
    "default_transaction_isolation": "serializable",
    "default_transaction_read_only": "on",
    "default_transaction_deferrable": "on",
}
CHARACTERISTICS = (
    "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY"
)


@pytest.mark.parametrize("way", ["characteristics", "set", "startup", "role", "database"])
def test_questions_do_not_wait_for_serializable_transactions(
    pgfunnel: StartFunnel, own_postgres: Postgres, way: str
) -> None:
    """Where transactions are deferrable by default, any SELECT waits until others are done."""
    database = own_postgres.database
    if way in ("role", "database"):
        owner = "ROLE alice" if way == "role" else f"DATABASE {database}"
        alters = [f"ALTER {owner} SET {name} = '{value}'" for name, value in DEFERRED.items()]
        own_postgres.psql("; ".join(alters))
    funnel = pgfunnel(own_postgres, default_pool_size=1, session_audit=1, server_check_delay=0)
    with (
        psycopg.connect(own_postgres.dsn) as serializable,
        wire(funnel, **(DEFERRED if way == "startup" else {})) as one,
        wire(funnel) as other,
        wire(funnel) as leaving,
    ):
        serializable.execute("BEGIN ISOLATION LEVEL SERIALIZABLE READ WRITE")
        serializable.execute("SELECT 1")
        if way == "characteristics":
            one.ask(f"{CHARACTERISTICS}, DEFERRABLE")
        for name, value in DEFERRED.items() if way == "set" else ():
            one.ask(f"SET {name} = '{value}'")
        assert rows(one.ask("SHOW default_transaction_deferrable")) == [["on"]]
        one.ask("SET work_mem = '5MB'")
        one.ask("SET search_path = 'x'; RESET lock_timeout")
        for each, shown in ((other, "4MB"), (one, "5MB"), (other, "4MB")):
            assert rows(each.ask("SHOW work_mem")) == [[shown]]
        leaving.ask("BEGIN READ WRITE; LISTEN here; COMMIT")
        leaving.ask(f"{CHARACTERISTICS}, DEFERRABLE")
        leaving.close()
        assert rows(one.ask("SHOW work_mem")) == [["5MB"]]
        assert rows(other.ask("SHOW default_transaction_isolation")) == [
            ["serializable" if way in ("role", "database") else "read committed"]
        ]
        leaks = [name for name in funnel.metrics() if name.startswith("pgfunnel_leaks_total")]
        assert not leaks


def test_a_reset_query_does_not_wait_for_serializable_transactions(
    pgfunnel: StartFunnel, own_postgres: Postgres
) -> None:
    funnel = pgfunnel(own_postgres, default_pool_size=1, pool_mode="session")
    with psycopg.connect(own_postgres.dsn) as serializable, wire(funnel) as other:
        serializable.execute("BEGIN ISOLATION LEVEL SERIALIZABLE READ WRITE")
        serializable.execute("SELECT 1")
        with wire(funnel) as one:
            one.ask(f"{CHARACTERISTICS}, DEFERRABLE")
        assert rows(other.ask("SHOW transaction_deferrable")) == [["off"]]


def test_a_greeting_leaves_no_query_behind(pgfunnel: StartFunnel) -> None:
    """A server that is set as a new client wants it, and may have sequences of another's."""
    funnel = pgfunnel(default_pool_size=2)
    with Twins(funnel) as twins:
        twins.ask("holder", "BEGIN")
        twins.ask("one", "SELECT lastval()")
        twins.ask("one", "SET timezone = 'Asia/Tokyo'")
        twins.connect("other", timezone="Asia/Tokyo")
        for name in ("holder", "other", "one", "holder"):
            twins.ask(name, "SHOW timezone")


def test_sql_names_what_the_protocol_prepared(pgfunnel: StartFunnel, schemas: None) -> None:
    """What is sent ahead for it may fail; the query behind it is answered all the same."""
    funnel = pgfunnel(default_pool_size=1)
    with Twins(funnel) as twins:
        twins.ask("one", "SET search_path = replay_a")
        twins.send("one", parse("mine", "SELECT v FROM t"), SYNC)
        twins.send("one", parse("gone", "DEALLOCATE gone"), SYNC)
        for sql in ("BEGIN", "SELECT 1 / 0", "EXECUTE mine", "PREPARE mine AS SELECT 1"):
            twins.ask("one", sql)
        twins.send("one", bind("", "gone"), execute(), SYNC)
        twins.send("one", describe("gone"), SYNC)
        both = query("SELECT 1 / 0") + query("EXECUTE mine")
        for sql in ("ROLLBACK", "BEGIN", "EXECUTE mine"):
            twins.ask("one", sql)
        twins.send("one", both, times=2)
        twins.ask("one", "ROLLBACK")
        alternate(twins, "EXECUTE mine")
        twins.ask("other", "SELECT 1")
        twins.send("one", query("BEGIN") + both, times=3)
        twins.ask("one", "ROLLBACK")
        alternate(twins, "EXECUTE mine", "DEALLOCATE mine", "EXECUTE mine")
        for sql in ("BEGIN", "PREPARE mine AS SELECT 1"):
            twins.ask("one", sql)
        twins.send("one", parse("mine", "SELECT 2"), SYNC)
        for sql in ("ROLLBACK", "BEGIN", "PREPARE other AS SELECT 1"):
            twins.ask("one", sql)
        twins.send("one", close("other"), SYNC)
        twins.ask("one", "COMMIT")
        alternate(twins, "EXECUTE mine", "EXECUTE other")


def test_what_used_servers_cannot_change(pgfunnel: StartFunnel) -> None:
    """temp_buffers is fixed once a server has used temporary tables; others take it."""
    funnel = pgfunnel(default_pool_size=2)
    used = "CREATE TEMP TABLE t AS SELECT 1 AS v; SELECT * FROM t; DROP TABLE t"
    with Twins(funnel) as twins:
        twins.ask("third", "SET temp_buffers = '2MB'")
        for name in ("one", "other"):
            twins.ask(name, "BEGIN")
        for name in ("one", "other"):
            twins.ask(name, "CREATE TEMP TABLE t AS SELECT 1 AS v")
            twins.ask(name, "COMMIT")
            twins.ask(name, "DROP TABLE t")
        twins.ask("third", used)
        twins.connect("fourth", temp_buffers="1MB")
        twins.connect("fifth", options="-c temp_buffers=3MB -c work_mem=5MB")
        for _ in range(2):
            for name in ("one", "third", "fourth", "other", "fifth"):
                twins.ask(name, "SHOW temp_buffers")
        twins.ask("fourth", used)
        for name in ("one", "third", "fourth", "other", "fifth"):
            twins.ask(name, "SHOW temp_buffers")


PLANNED = """
CREATE OR REPLACE FUNCTION replay_epoch() RETURNS int LANGUAGE plpgsql AS
$$ BEGIN RETURN extract(epoch FROM timestamptz '2020-01-01 00:00')::int; END $$;
CREATE OR REPLACE FUNCTION replay_day() RETURNS text LANGUAGE plpgsql AS
$$ BEGIN RETURN to_char(date '01/02/2020', 'YYYY-MM-DD'); END $$;
CREATE OR REPLACE FUNCTION replay_float() RETURNS text LANGUAGE plpgsql AS
$$ BEGIN RETURN (1.0 / 3)::float8::text; END $$;
CREATE OR REPLACE FUNCTION replay_bytes() RETURNS text LANGUAGE plpgsql AS
$$ BEGIN RETURN '\\x41'::bytea::text; END $$;
"""
CALLS = ("replay_epoch", "replay_day", "replay_float", "replay_bytes")


def test_plans_that_functions_keep_are_nobody_elses(
    pgfunnel: StartFunnel, postgres: Postgres
) -> None:
    """A constant in a plan was read, and is written, under the parameters of who planned it."""
    postgres.psql(PLANNED)
    funnel = pgfunnel(default_pool_size=1)
    own = {
        "tokyo": {"timezone": "Asia/Tokyo", "extra_float_digits": "-10"},
        "paris": {"datestyle": "ISO, DMY", "bytea_output": "escape"},
        "plain": {},
        "plain too": {},
    }
    with Twins(funnel) as twins:
        for name, settings in own.items():
            twins.connect(name, **settings)
        for _ in range(2):
            for function in CALLS:
                for name in own:
                    twins.ask(name, f"SELECT {function}()")
        twins.ask("plain", "SET timezone = 'Asia/Tokyo'")
        twins.ask("plain", "SELECT replay_day(), replay_float()")
        for name in ("tokyo", "plain too", "paris"):
            twins.ask(name, "SELECT replay_epoch()")


def test_what_was_prepared_is_read_as_then_where_plans_are_forgotten(
    pgfunnel: StartFunnel, postgres: Postgres
) -> None:
    postgres.psql(PLANNED)
    funnel = pgfunnel(default_pool_size=1)
    with Twins(funnel) as twins:
        twins.ask("one", "PREPARE p AS SELECT date '01/02/2020' - date '2000-01-01' AS days")
        twins.ask("one", "EXECUTE p")
        twins.ask("one", "SET datestyle = 'ISO, DMY'")
        twins.ask("one", "PREPARE q AS SELECT date '01/02/2020' - date '2000-01-01' AS days")
        for _ in range(2):
            for name, sql in (("one", "EXECUTE p"), ("one", "EXECUTE q"), ("two", "SELECT 1")):
                twins.ask(name, sql)
            twins.ask("two", "SELECT replay_day()")
            twins.ask("one", "SELECT replay_day()")
            twins.ask("one", "SET timezone = 'Asia/Tokyo'")


AN_EPOCH = "SELECT extract(epoch FROM timestamptz '2020-01-01 00:00')::int"


def test_a_text_that_two_clients_have_prepared_is_read_as_then(
    pgfunnel: StartFunnel, postgres: Postgres
) -> None:
    """Where plans are forgotten in between, and another of the two has left the same there."""
    postgres.psql(PLANNED)
    funnel = pgfunnel(default_pool_size=2)
    with Twins(funnel) as twins:
        for name in ("one", "two"):
            for sql in ("SET timezone = 'Asia/Tokyo'", f"PREPARE p AS {AN_EPOCH}", "BEGIN"):
                twins.ask(name, sql)
        for name in ("two", "one"):
            twins.ask(name, "COMMIT")
        for holder in ("one", "two"):
            user = "two" if holder == "one" else "one"
            twins.ask("other", "SELECT replay_day()")
            for name, sql in ((holder, "BEGIN"), (user, "SET timezone = 'UTC'")):
                twins.ask(name, sql)
            twins.ask(user, "EXECUTE p")
            twins.ask(holder, "COMMIT")
            twins.ask(user, "SET timezone = 'Asia/Tokyo'")


def test_what_is_planned_with_constants_in_it_is_not_shared(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=1)
    sql = "SELECT '\\x41'::bytea::text, (1.0 / 3)::float8::text"
    with Twins(funnel) as twins:
        twins.connect("one", bytea_output="escape", extra_float_digits="-10")
        for name in ("one", "two"):
            twins.send(name, parse("s", sql), SYNC)
        for name in ("one", "two", "one", "two"):
            twins.send(name, bind("", "s"), execute(), SYNC)


def test_a_client_alone_keeps_the_plans_that_it_made(
    pgfunnel: StartFunnel, postgres: Postgres, schemas: None
) -> None:
    """As in a session of its own: what it changes does not reach what is planned already."""
    postgres.psql(PLANNED)
    funnel = pgfunnel(default_pool_size=1)
    with Twins(funnel) as twins:
        for sql in (
            "SET timezone = 'Asia/Tokyo'",
            "PREPARE p AS SELECT (timestamptz '2020-01-01 00:00')::text",
            "SET search_path = replay_a, public",
            "EXECUTE p",
            "SET timezone = 'UTC'",
            "EXECUTE p",
            "SET extra_float_digits = 1",
            "PREPARE r AS SELECT (1.0 / 3)::float8::text",
            "EXECUTE r",
            "SET extra_float_digits = 0",
            "EXECUTE r",
            "SELECT replay_epoch(), replay_float()",
            "SET timezone = 'Asia/Tokyo'",
            "SELECT replay_epoch(), replay_float()",
        ):
            twins.ask("one", sql)
        twins.ask("two", "SELECT replay_epoch(), replay_float()")


def test_what_is_too_large_to_be_read_may_end_a_transaction(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=2)  # it pins
    large = f"ROLLBACK; SET work_mem = '5MB' /* {'x' * (17 << 20)} */"
    with Twins(funnel) as twins:
        for sql in ("BEGIN", "SELECT 1 / 0"):
            twins.ask("one", sql)
        twins.send("one", query(large), shown="a large ROLLBACK and SET")
        for name in ("two", "one", "two"):
            twins.ask(name, "SHOW work_mem")
