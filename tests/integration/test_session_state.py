"""Session state in transaction mode: one server, several clients, a session for each."""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import asyncpg
import psycopg
import pytest

from proxy.wire import messages
from tests.conftest import StartFunnel
from tests.funnel import Funnel
from tests.integration.observe import cancel_who_waits, eventually, until
from tests.integration.peer import Peer
from tests.postgres import USERS, Postgres
from tests.wireclient import (
    SYNC,
    TERMINATE,
    Gone,
    Wire,
    bind,
    execute,
    parse,
    query,
    rows,
    sqlstates,
)

Query = Callable[..., Awaitable[object]]


@asynccontextmanager
async def client(
    funnel: Funnel, user: str = "alice", **settings: str
) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(
        funnel.dsn(user), timeout=10, server_settings=settings, statement_cache_size=0
    )
    try:
        yield connection
    finally:
        await connection.close(timeout=5)


def wire(funnel: Funnel, **settings: str) -> Wire:
    return Wire(funnel.host, funnel.port, "alice", "postgres", USERS["alice"], settings)


async def show(connection: asyncpg.Connection, name: str) -> object:
    return await connection.fetchval("SELECT current_setting($1, true)", name)


SETS = [
    ("work_mem", "SET work_mem = '77MB'", "77MB"),
    ("work_mem", "SET SESSION work_mem TO '78MB'", "78MB"),
    ("work_mem", "SELECT set_config('work_mem', '79MB', false)", "79MB"),
    ("work_mem", "DO $$ BEGIN PERFORM set_config('work_mem', '81MB', false); END $$", "81MB"),
    ("work_mem", "DO $$ BEGIN EXECUTE 'SET work_mem = ''82MB'''; END $$", "82MB"),
    ("work_mem", "SELECT 1; /* x */ SET work_mem = '83MB'; SELECT 2", "83MB"),
    ("my.tag", "SET my.tag = 'it''s \\ mine'", "it's \\ mine"),
    ("my.tag", "SET my.tag = 'žluťoučký'", "žluťoučký"),
    ("search_path", 'SET search_path = "a b", public', '"a b", public'),
    ("timezone", "SET TIME ZONE 'Asia/Tokyo'", "Asia/Tokyo"),
    ("timezone", "SET TIME ZONE INTERVAL '-08:30' HOUR TO MINUTE", "<-08:30>+08:30"),
    ("extra_float_digits", "SET extra_float_digits = 3", "3"),
    (
        "default_transaction_isolation",
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "serializable",
    ),
]


@pytest.mark.parametrize("name, sql, value", SETS)
async def test_what_one_sets_is_its_own(
    pgfunnel: StartFunnel, name: str, sql: str, value: str
) -> None:
    funnel = pgfunnel(default_pool_size=1)
    async with client(funnel) as one, client(funnel) as other:
        before = await show(other, name)
        await one.execute(sql)
        assert await show(one, name) == value
        assert await show(other, name) in (before, "")
        assert await show(one, name) == value
        await one.execute(f"RESET {name}")
        assert await show(one, name) in (before, "")


@pytest.mark.parametrize(
    "script, value",
    [
        ("BEGIN; SET work_mem = '70MB'; ROLLBACK", "base"),
        ("BEGIN; SET work_mem = '70MB'; COMMIT", "70MB"),
        ("BEGIN; SET LOCAL work_mem = '70MB'; COMMIT", "base"),
        (
            "BEGIN; SET work_mem = '70MB'; SAVEPOINT s; SET work_mem = '7MB'; ROLLBACK TO s; END",
            "70MB",
        ),
        ("BEGIN; SELECT set_config('work_mem', '70MB', true); COMMIT", "base"),
        ("BEGIN; SET work_mem = '70MB'; SELECT 1/0; COMMIT", "base"),
        ("SET work_mem = '70MB'; SELECT 1/0", "base"),
    ],
)
@pytest.mark.parametrize("whole", [True, False])
async def test_only_what_committed_counts(
    pgfunnel: StartFunnel, script: str, value: str, whole: bool
) -> None:
    funnel = pgfunnel(default_pool_size=1)
    if not whole and "BEGIN" not in script:
        pytest.skip("one string is one transaction")
    async with client(funnel) as one, client(funnel) as other:
        base = await show(other, "work_mem")
        for sql in [script] if whole else script.split("; "):
            try:
                await one.execute(sql)
            except asyncpg.PostgresError:
                await asyncio.sleep(0)
        if one.is_in_transaction():
            await one.execute("ROLLBACK")
        assert await show(other, "work_mem") == base
        assert await show(one, "work_mem") == (base if value == "base" else value)


async def test_startup_parameters_come_back_by_reset(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=1)
    asked = {"work_mem": "66MB", "application_name": "fn", "my.tag": "t"}
    async with client(funnel, **asked) as one, client(funnel) as other:
        for reset in (
            "RESET ALL",
            "DISCARD ALL",
            "RESET work_mem; RESET my.tag",
            "BEGIN; RESET ALL; COMMIT",
        ):
            await one.execute("SET work_mem = '5MB'; SET application_name = 'x'; SET my.tag = 'u'")
            if "my.tag" in reset:
                reset += "; RESET application_name"
            assert await show(one, "work_mem") == "5MB"
            await one.execute(reset)
            assert await show(other, "work_mem") != "66MB"
            assert {n: await show(one, n) for n in asked} == asked, reset
            assert one.get_settings().application_name == "fn"


async def test_prepare_in_sql(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=1)
    async with client(funnel) as one, client(funnel) as other:
        await one.execute(
            "PREPARE p (int) AS SELECT $1 + 1; SELECT 'x;y'; PREPARE q AS SELECT 'one'"
        )
        await other.execute("PREPARE p AS SELECT 'other'")
        assert await one.fetchval("EXECUTE p(41)") == 42
        assert await other.fetchval("EXECUTE p") == "other"
        with pytest.raises(asyncpg.InvalidSQLStatementNameError):
            await other.execute("EXECUTE q")
        assert await one.fetchval("EXECUTE q") == "one"
        with pytest.raises(asyncpg.DuplicatePreparedStatementError):
            await one.execute("PREPARE q AS SELECT 2")
        await one.execute("DEALLOCATE p")
        with pytest.raises(asyncpg.InvalidSQLStatementNameError):
            await one.execute("EXECUTE p(1)")
        assert await other.fetchval("EXECUTE p") == "other"
        await one.execute("DEALLOCATE ALL")
        assert await one.fetch("SELECT name FROM pg_prepared_statements WHERE from_sql") == []
        assert await other.fetchval("EXECUTE p") == "other"
        assert not any("pins_total" in name for name in funnel.metrics())


def test_deallocate_of_what_the_protocol_prepared(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=1)
    with psycopg.connect(funnel.dsn("alice"), autocommit=True) as one:
        one.execute("SELECT %s::int", [1], prepare=True)
        names = (
            [name.decode() for name in one._prepared._names.values()]
            if one._prepared._names
            else []
        )
        assert names
        with psycopg.connect(funnel.dsn("alice"), autocommit=True) as other:
            assert other.execute("SELECT 1").fetchone() == (1,)
            one.execute(f"DEALLOCATE {names[0]}")
            with pytest.raises(psycopg.errors.InvalidSqlStatementName):
                other.execute(f"EXECUTE {names[0]}(1)")


async def test_what_is_not_ascii_comes_along_whatever_strings_mean(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=1)
    async with client(funnel) as one, client(funnel) as other:
        await one.execute("SET my.tag = 'é'")
        for setting in ("off", "on"):
            await other.execute(f"SET standard_conforming_strings = {setting}")
            assert await one.fetchval("SELECT current_setting('my.tag')") == "é"


PINS = [
    ("listen", "LISTEN here", "UNLISTEN here"),
    ("advisory_lock", "SELECT pg_advisory_lock(7)", "SELECT pg_advisory_unlock(7)"),
    (
        "advisory_lock",
        "SELECT pg_try_advisory_lock_shared(7, 8)",
        "SELECT pg_advisory_unlock_all()",
    ),
    ("temporary", "CREATE TEMP TABLE t (a int)", "DROP TABLE t"),
    ("temporary", "CREATE TABLE pg_temp.t (a int)", "DISCARD TEMP"),
    ("temporary", "SELECT 1 AS a INTO TEMP t", "DROP TABLE t"),
    ("temporary", "CREATE TEMP VIEW v AS SELECT 1", "DISCARD ALL"),
    ("temporary", "CREATE TEMP SEQUENCE s", "DROP SEQUENCE s"),
    ("temporary", 'CREATE COLLATION pg_temp.c FROM "C"', "DROP COLLATION pg_temp.c"),
    (
        "temporary",
        "CREATE OPERATOR pg_temp.### (FUNCTION = int4pl, LEFTARG = int, RIGHTARG = int)",
        "DROP OPERATOR pg_temp.### (int, int)",
    ),
    ("temporary", "CREATE TEXT SEARCH CONFIGURATION pg_temp.c (COPY = simple)", "DISCARD TEMP"),
    (
        "temporary",
        "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "DISCARD ALL",
    ),
    ("temporary", "CREATE DOMAIN pg_temp.d AS int", "DROP DOMAIN pg_temp.d"),
    ("hold_cursor", "DECLARE c CURSOR WITH HOLD FOR SELECT 1", "CLOSE c"),
]


@pytest.mark.parametrize("reason, make, clear", PINS)
async def test_pinned_until_it_is_gone(
    pgfunnel: StartFunnel, reason: str, make: str, clear: str
) -> None:
    funnel = pgfunnel(default_pool_size=2)
    labels = f'{{database="{funnel.upstream.database}",reason="{reason}",user="alice"}}'
    async with client(funnel) as one:
        pid = await one.fetchval("SELECT pg_backend_pid()")
        await one.execute(make)
        pid = await one.fetchval("SELECT pg_backend_pid()")
        async with client(funnel) as other:
            assert await other.fetchval("SELECT pg_backend_pid()") != pid
        until(lambda: funnel.metrics()["pgfunnel_pinned_clients" + labels] == 1)
        assert funnel.metrics()["pgfunnel_pins_total" + labels] == 1
        until(lambda: f" pinned: {reason} (" in funnel.log())
        await one.execute(clear)
        until(lambda: funnel.metrics()["pgfunnel_pinned_clients" + labels] == 0)
        assert funnel.metrics()["pgfunnel_pin_seconds_count" + labels] == 1


@pytest.mark.parametrize(
    "sql",
    [
        "BEGIN; CREATE TEMP TABLE t (a int) ON COMMIT DROP; COMMIT",
        "BEGIN; CREATE TEMP TABLE t (a int); ROLLBACK",
        "BEGIN; SELECT pg_advisory_xact_lock(3); COMMIT",
        "BEGIN; LISTEN x; ROLLBACK",
        "SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL;",
        "CREATE TABLE IF NOT EXISTS not_temporary (a int); DROP TABLE not_temporary",
    ],
)
async def test_what_ends_with_the_transaction_pins_nobody(pgfunnel: StartFunnel, sql: str) -> None:
    funnel = pgfunnel(default_pool_size=1)
    async with client(funnel, user="") as one, client(funnel, user="") as other:
        await one.execute(sql)
        assert await asyncio.wait_for(other.fetchval("SELECT 1"), 5) == 1
        assert not any("pins_total" in name for name in funnel.metrics())


@pytest.mark.parametrize("rude", [False, True])
async def test_who_leaves_leaves_nothing(pgfunnel: StartFunnel, rude: bool) -> None:
    funnel = pgfunnel(default_pool_size=1)
    one = await asyncpg.connect(funnel.dsn("alice"), statement_cache_size=0)
    await one.execute("CREATE TEMP TABLE t (a int)")
    await one.execute("LISTEN here; SELECT pg_advisory_lock(7); SET work_mem = '71MB'")
    await one.execute("PREPARE p AS SELECT 1")
    await one.execute("DECLARE c CURSOR WITH HOLD FOR SELECT 1")
    if rude:
        one.terminate()
    else:
        await one.close()
    async with client(funnel) as other:
        seen = await other.fetchrow(
            "SELECT (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()),"
            "(SELECT count(*) FROM pg_listening_channels()),"
            "(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'),"
            "(SELECT count(*) FROM pg_cursors WHERE is_holdable),"
            "(SELECT count(*) FROM pg_prepared_statements WHERE from_sql),"
            "current_setting('work_mem') = '71MB'"
        )
        assert tuple(seen) == (0, 0, 0, 0, 0, False)


async def test_currval_is_ones_own_or_an_error(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=1)
    async with client(funnel, user="") as one, client(funnel, user="") as other:
        await one.execute("DROP SEQUENCE IF EXISTS numbers; CREATE SEQUENCE numbers")
        assert await one.fetchval("SELECT nextval('numbers')") == 1
        assert await other.fetchval("SELECT nextval('numbers')") == 2
        with pytest.raises(asyncpg.ObjectNotInPrerequisiteStateError):
            await one.fetchval("SELECT currval('numbers')")
        assert await other.fetchval("SELECT nextval('numbers')") == 3
        assert await other.fetchval("SELECT currval('numbers')") == 3
        async with one.transaction():
            assert await one.fetchval("SELECT nextval('numbers')") == 4
            assert await one.fetchval("SELECT lastval()") == 4
        with pytest.raises(asyncpg.ObjectNotInPrerequisiteStateError):
            await other.fetchval("SELECT lastval()")
        await one.execute("DROP SEQUENCE numbers")


async def test_currval_is_the_last_one_on_whichever_server(pgfunnel: StartFunnel) -> None:
    """A server that is being audited is lent to nobody: the client has another meanwhile."""
    funnel = pgfunnel(default_pool_size=2, session_audit=1)
    async with client(funnel, user="") as one, client(funnel, user="") as other:
        await one.execute("DROP SEQUENCE IF EXISTS numbers; CREATE SEQUENCE numbers")
        async with one.transaction(), other.transaction():
            await one.execute("SELECT 1")
            await other.execute("SELECT 1")
        for name in ("currval('numbers')", "lastval()") * 20:
            for _ in range(2):
                last = await one.fetchval("SELECT nextval('numbers')")
            with contextlib.suppress(asyncpg.ObjectNotInPrerequisiteStateError):
                assert await one.fetchval(f"SELECT {name}") == last
        await one.execute("DROP SEQUENCE numbers")


async def test_roles_are_ones_own(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=1)
    async with client(funnel, user="") as one, client(funnel, user="") as other:
        await one.execute("SET ROLE alice")
        await one.execute("SET work_mem = '33MB'")
        who = await other.fetchval("SELECT current_user::text")
        assert who != "alice"
        assert await one.fetchval("SELECT current_user::text") == "alice"
        await other.execute("SET SESSION AUTHORIZATION alice")
        assert tuple(await one.fetchrow("SELECT session_user::text, current_user::text")) == (
            who,
            "alice",
        )
        assert tuple(await other.fetchrow("SELECT session_user::text, current_user::text")) == (
            "alice",
            "alice",
        )
        await other.execute("SET SESSION AUTHORIZATION DEFAULT")
        assert await other.fetchval("SELECT session_user::text") == who
        await one.execute("RESET ROLE")
        assert await one.fetchval("SELECT current_user::text") == who
        assert await show(one, "work_mem") == "33MB"


async def test_notifications_reach_the_listener(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=2)
    heard: asyncio.Queue[object] = asyncio.Queue()
    async with client(funnel) as one, client(funnel) as other:
        await one.add_listener("here", lambda *said: heard.put_nowait(said[3]))
        await other.execute("NOTIFY here, 'hello'")
        assert await asyncio.wait_for(heard.get(), 5) == "hello"


async def test_the_page_of_pins(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=2)
    async with client(funnel) as one:
        await one.execute("CREATE TEMP TABLE secret AS SELECT 'password' AS a")
        until(lambda: json.loads(funnel.get("/pins"))["pinned"])
        page = json.loads(funnel.get("/pins"))
        (pin,) = page["pinned"]
        assert (pin["reason"], pin["user"]) == ("temporary", "alice")
        assert pin["statement"] == "CREATE TEMP TABLE secret AS SELECT ? AS a"
        assert "ON COMMIT DROP" in pin["advice"]
        assert page["statements"][0]["times"] == 1
        assert pin["digest"] == page["statements"][0]["digest"]
        assert f"digest={pin['digest']}" in funnel.log()
    until(lambda: not json.loads(funnel.get("/pins"))["pinned"])
    assert "password" not in funnel.log()


REJECTED = [
    ("listen", "LISTEN here"),
    ("advisory_lock", "SELECT pg_advisory_lock(7)"),
    ("temporary", "CREATE TEMP TABLE t (a int)"),
    ("parameters", "SET work_mem = '9MB'"),
    ("prepared", "PREPARE p AS SELECT 1"),
    ("sequences", "SELECT lastval()"),
    ("hold_cursor", "DECLARE c CURSOR WITH HOLD FOR SELECT 1"),
    ("load", "LOAD 'auto_explain'"),
    ("seed", "SELECT setseed(0.5)"),
    ("server_state", "SELECT dblink_connect('x')"),
]


@pytest.mark.parametrize("simple", [True, False])
@pytest.mark.parametrize("condition, sql", REJECTED)
async def test_policy_rejects(
    pgfunnel: StartFunnel, condition: str, sql: str, simple: bool
) -> None:
    funnel = pgfunnel(default_pool_size=1, session_policy=f"{condition}=reject")
    async with client(funnel) as one:
        with pytest.raises(asyncpg.FeatureNotSupportedError, match="session_policy") as refused:
            await (one.execute(sql) if simple else one.fetch(sql))
        assert refused.value.hint
        async with one.transaction():
            with pytest.raises(asyncpg.FeatureNotSupportedError):
                async with one.transaction():
                    await (one.execute(sql) if simple else one.fetch(sql))
            assert await one.fetchval("SELECT 1") == 1


async def test_nothing_is_refused_to_who_has_a_server_for_the_session(
    pgfunnel: StartFunnel, tmp_path: Path
) -> None:
    """The way that a refusal of LISTEN advises: through a database with `pool_mode = session`."""
    config = tmp_path / "pgfunnel.toml"
    upstream = pgfunnel().upstream.database
    config.write_text(
        'session_policy = ["listen=reject"]\n'
        f'[databases.listeners]\ndbname = "{upstream}"\npool_mode = "session"\n'
        '[databases."*"]\n'
    )
    funnel = pgfunnel(default_pool_size=1, args=("--config", str(config)))
    async with client(funnel) as one:
        with pytest.raises(asyncpg.FeatureNotSupportedError):
            await one.execute("LISTEN here")
    other = await asyncpg.connect(funnel.dsn("alice"), database="listeners", timeout=10)
    await other.execute("LISTEN here")
    assert await other.fetchval("SELECT pg_listening_channels()") == "here"
    await other.close()


async def test_who_may_not_prepare_may_deallocate(pgfunnel: StartFunnel) -> None:
    """As psycopg does behind ROLLBACK and DDL, with what it has prepared by the protocol."""
    funnel = pgfunnel(default_pool_size=1, session_policy="prepared=reject")
    async with client(funnel) as one:
        assert await (await one.prepare("SELECT 1", name="mine")).fetchval() == 1
        await one.execute("DEALLOCATE mine")
        with pytest.raises(asyncpg.InvalidSQLStatementNameError):
            await one.execute("DEALLOCATE mine")
        await one.execute("DEALLOCATE ALL")
        with pytest.raises(asyncpg.FeatureNotSupportedError):
            await one.execute("DEALLOCATE ALL; PREPARE p AS SELECT 1")


async def test_policy_of_database_and_user(pgfunnel: StartFunnel, tmp_path: Path) -> None:
    config = tmp_path / "pgfunnel.toml"
    config.write_text(
        'session_policy = ["parameters=pin", "listen=reject"]\n'
        '[users.alice]\nsession_policy = ["listen=ignore", "temporary=reject"]\n'
    )
    funnel = pgfunnel(default_pool_size=2, args=("--config", str(config)))
    async with client(funnel) as one, client(funnel, user="") as other:
        await one.execute("LISTEN here")
        with pytest.raises(asyncpg.FeatureNotSupportedError):
            await other.execute("LISTEN here")
        with pytest.raises(asyncpg.FeatureNotSupportedError):
            await one.execute("CREATE TEMP TABLE t (a int)")
        assert not json.loads(funnel.get("/pins"))["pinned"]
        await one.execute("SET work_mem = '9MB'")
        until(lambda: json.loads(funnel.get("/pins"))["pinned"])
        (pin,) = json.loads(funnel.get("/pins"))["pinned"]
        assert pin["reason"] == "parameters"
        await one.execute("RESET ALL")
        until(lambda: not json.loads(funnel.get("/pins"))["pinned"])


async def test_a_pinned_idle_client_makes_room_for_others(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=1, pin_idle_timeout=0.5)
    async with client(funnel) as other:
        one = await asyncpg.connect(funnel.dsn("alice"))
        await one.execute("LISTEN here")
        await asyncio.sleep(1.0)  # longer than the limit, and nobody waits: it stays
        assert await one.fetchval("SELECT 1") == 1
        assert await asyncio.wait_for(other.fetchval("SELECT 2"), 5) == 2
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
            await one.fetchval("SELECT 1")
        until(lambda: "reason=pin_idle_timeout" in funnel.log())
        assert "digest=" in funnel.log()


@pytest.mark.parametrize("sent", [1, 5, 7])
def test_a_pinned_client_that_froze_amid_a_message_does_too(
    pgfunnel: StartFunnel, sent: int
) -> None:
    """Its beginning came while the server was asked what the statement in front had done."""
    funnel = pgfunnel(default_pool_size=1, pin_idle_timeout=0.5)
    place = funnel.host, funnel.port, "alice", funnel.upstream.database, USERS["alice"]
    with Wire(*place) as frozen, Wire(*place) as other:
        frozen.send(query("SELECT pg_advisory_lock(5)") + query("SELECT 1")[:sent])
        frozen.until_ready()
        other.send(query("SELECT 2"))
        assert [answer.kind for answer in other.until_ready(seconds=5)] == ["T", "D", "C", "Z"]
        with pytest.raises(Gone) as gone:
            frozen.until_ready()
        assert gone.value.answers[-1].sqlstate == "57P05"


def test_a_path_that_is_prepared_for_a_transaction_pins_nobody(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=2)
    with psycopg.connect(funnel.dsn("alice"), autocommit=True, prepare_threshold=None) as one:
        one.execute("PREPARE leads AS SELECT set_config('search_path', $1, true)")
        for _ in range(3):
            assert one.execute("EXECUTE leads('public')").fetchone() == ("public",)
        one.execute("SELECT 1")
        assert not json.loads(funnel.get("/pins"))["pinned"]
        assert json.loads(funnel.get("/pins"))["statements"] == []


@pytest.mark.parametrize("cancels", [1, 2])
def test_a_cancel_that_comes_late_pins_nobody(
    own_postgres: Postgres, pgfunnel: StartFunnel, cancels: int
) -> None:
    """It hits the question what has become of the session."""
    funnel = pgfunnel(own_postgres, default_pool_size=1)
    with (
        psycopg.connect(own_postgres.dsn) as locker,
        psycopg.connect(funnel.dsn("alice"), autocommit=True) as one,
    ):
        one.execute("SELECT 1")
        locker.execute("LOCK TABLE pg_prepared_statements IN ACCESS EXCLUSIVE MODE")
        one.execute("PREPARE mine AS SELECT 1")
        cancel_who_waits(own_postgres, cancels)
        locker.rollback()
        with psycopg.connect(funnel.dsn("alice"), autocommit=True) as other:
            other.execute("SELECT 1")
        assert json.loads(funnel.get("/pins"))["statements"] == []
        assert one.execute("EXECUTE mine").fetchone() == (1,)


@pytest.mark.parametrize("limit", ["", "SET LOCAL statement_timeout = '200ms'"])
def test_a_transaction_survives_what_hits_a_question_in_it(
    own_postgres: Postgres, pgfunnel: StartFunnel, limit: str
) -> None:
    """What a PREPARE reads its text under is asked; a cancel or a limit of the client's own ends
    the question alone."""
    funnel = pgfunnel(own_postgres, default_pool_size=1)
    with (
        psycopg.connect(own_postgres.dsn) as locker,
        psycopg.connect(funnel.dsn("alice"), autocommit=True) as one,
    ):
        locker.execute("LOCK TABLE pg_settings IN ACCESS EXCLUSIVE MODE")
        with one.transaction():
            if limit:
                one.execute(limit)
            one.execute("PREPARE mine AS SELECT '2020-01-01'::timestamptz")
            if not limit:
                cancel_who_waits(own_postgres, 1)
            assert one.execute("EXECUTE mine").fetchone()
            locker.rollback()
        assert one.execute("EXECUTE mine").fetchone()


@pytest.mark.parametrize("prepares", [False, True])
def test_a_time_limit_of_others_ends_nothing(pgfunnel: StartFunnel, prepares: bool) -> None:
    """To set one client takes longer than what the other allows itself."""
    funnel = pgfunnel(default_pool_size=1)
    with wire(funnel) as hasty, wire(funnel) as large:
        if prepares:
            large.ask("PREPARE mine AS SELECT 42")
        large.ask("SELECT length(set_config('app.large', repeat('x', 8000000), false))")
        hasty.ask("SET statement_timeout = '20ms'")
        for _ in range(6):
            assert rows(hasty.ask("SHOW statement_timeout")) == [["20ms"]]
            answers = large.ask("EXECUTE mine" if prepares else "SELECT 42")
            assert rows(answers) == [["42"]]
        assert rows(large.ask("SHOW statement_timeout")) == [["0"]]
    assert "check_failed" not in funnel.log()


def test_who_froze_amid_a_large_message_holds_no_server(pgfunnel: StartFunnel) -> None:
    """It waited for one when the beginning came."""
    funnel = pgfunnel(default_pool_size=1)
    place = funnel.host, funnel.port, "alice", funnel.upstream.database, USERS["alice"]
    with Wire(*place) as frozen, Wire(*place) as other:
        other.ask("BEGIN")
        large = parse("", f"SELECT '{'x' * 200_000}'")
        frozen.send(large[:100_000])
        other.ask("COMMIT")
        for _ in range(3):
            assert rows(other.ask("SELECT 2")) == [["2"]]
        frozen.send(large[100_000:], bind(), execute(), SYNC)
        assert [answer.kind for answer in frozen.until_ready()] == ["1", "2", "D", "C", "Z"]


def test_a_login_does_not_wait_for_whoever_ran_ddl(pgfunnel: StartFunnel) -> None:
    """All servers are taken, the last by a client that runs DDL and stays pinned."""
    funnel = pgfunnel(default_pool_size=1)
    place = funnel.host, funnel.port, "alice", funnel.upstream.database, USERS["alice"]
    for _ in range(5):
        with Wire(*place) as one:
            one.send(query("CREATE TEMP VIEW own AS SELECT 1"))
            one.until_ready()
            with Wire(*place):
                pass


@pytest.mark.parametrize("sql", ["SELECT setseed(0.5)", "LOAD 'plpgsql'"])
async def test_nobody_gets_a_server_that_cannot_be_cleaned(pgfunnel: StartFunnel, sql: str) -> None:
    funnel = pgfunnel(default_pool_size=1)
    async with client(funnel, user="") as one:
        await one.execute(sql)
        backend = await one.fetchval("SELECT pg_backend_pid()")
    async with client(funnel, user="") as other:
        assert await other.fetchval("SELECT pg_backend_pid()") != backend


async def test_a_parameter_that_may_not_even_be_read_does_not_pin_for_good(
    pgfunnel: StartFunnel,
) -> None:
    """current_setting() fails for it, missing_ok or not."""
    funnel = pgfunnel(default_pool_size=1)
    async with client(funnel) as one:
        for sql in ("SET log_directory = 'x'", "RESET log_directory"):
            with pytest.raises(asyncpg.PostgresError):
                await one.execute(sql)
            await one.execute("SET work_mem = '5MB'")
            until(lambda: not json.loads(funnel.get("/pins"))["pinned"])
            assert await show(one, "work_mem") == "5MB"


async def test_an_audit_finds_what_a_function_left(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=1, session_audit=1, session_catalog_interval=0)
    async with client(funnel, user="") as one, client(funnel, user="") as other:
        await one.execute(
            "CREATE OR REPLACE FUNCTION sly() RETURNS void LANGUAGE plpgsql AS $$ BEGIN"
            " PERFORM set_config('work_mem', '91MB', false); PERFORM pg_advisory_lock(99); END $$"
        )
        await one.fetch("SELECT sly()")
        assert await show(other, "work_mem") != "91MB"
        assert await other.fetchval("SELECT count(*) FROM pg_locks WHERE locktype='advisory'") == 0
        leaks = {k: v for k, v in funnel.metrics().items() if k.startswith("pgfunnel_leaks_total")}
        assert len(leaks) == 2
        assert set(leaks.values()) == {1.0}
        assert "leak" in funnel.log()
        await one.execute("DROP FUNCTION sly()")


async def test_an_audit_knows_what_it_asked(pgfunnel: StartFunnel, own_postgres: Postgres) -> None:
    """Postgres is told to reload, and says so ahead of its answer to the audit."""
    funnel = pgfunnel(own_postgres, default_pool_size=1, session_audit=1)
    async with client(funnel, user="") as one:
        for style in ("German", "ISO", "SQL") * 5:
            await one.execute(f"ALTER SYSTEM SET datestyle = '{style}'")
            await one.fetch("SELECT pg_reload_conf()")
            await one.fetch("SELECT 1")
    assert "protocol_violation" not in funnel.log()
    assert not [name for name in funnel.metrics() if name.startswith("pgfunnel_leaks_total")]


async def test_an_audit_finds_nothing_where_nothing_is(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=2, session_audit=1)
    asked = {"work_mem": "64000kB", "datestyle": "german", "my.tag": "x", "timezone": "utc"}
    async with client(funnel, **asked) as one, client(funnel, user="") as other:
        for sql in [*(sql for _, sql, _ in SETS), "PREPARE p AS SELECT 1"]:
            await one.execute(sql)
            await other.execute("SET application_name = ''; SET statement_timeout = 0")
            await other.execute("SET ROLE alice; SET work_mem = '5MB'")
        await one.execute("DISCARD ALL")
    assert not [name for name in funnel.metrics() if name.startswith("pgfunnel_leaks_total")]


@pytest.mark.parametrize(
    "script",
    [
        "SET search_path = 'pg_temp'; CREATE TABLE made (n int)",
        "BEGIN; SET LOCAL search_path = 'pg_temp'; CREATE TABLE made (n int); COMMIT",
        "BEGIN; SELECT set_config('search_path', 'pg_temp', true); CREATE TABLE made (n int); END",
    ],
)
async def test_search_path_in_a_constant_makes_temporary_tables(
    pgfunnel: StartFunnel, script: str
) -> None:
    funnel = pgfunnel(default_pool_size=2)
    async with client(funnel) as one, client(funnel) as other:
        temporary = "SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()"
        await one.execute(script)
        for _ in range(3):
            assert await other.fetchval(temporary) == 0
            assert await one.fetchval("SELECT count(*) FROM pg_temp.made") == 0


@pytest.mark.parametrize(
    "before, reset, shown",
    [
        ("SET work_mem = '5MB'", "RESET ALL", "current_setting('work_mem')"),
        ("SET ROLE bob", "RESET ROLE", "current_user"),
        ("SET ROLE bob", "SET SESSION AUTHORIZATION DEFAULT", "current_user"),
    ],
)
async def test_a_client_that_resets_and_leaves_at_once(
    pgfunnel: StartFunnel, postgres: Postgres, before: str, reset: str, shown: str
) -> None:
    postgres.psql("GRANT bob TO alice")
    funnel = pgfunnel(default_pool_size=1)
    with wire(funnel) as other:
        other.ask(before)
        with wire(funnel) as one:
            one.ask(before)
            one.send(query(reset), TERMINATE)
            one.until_gone()
        assert rows(other.ask(f"SELECT {shown}")) in ([["5MB"]], [["bob"]])


async def test_reset_role_leads_to_the_role_of_the_start(
    pgfunnel: StartFunnel, postgres: Postgres
) -> None:
    postgres.psql("GRANT bob TO alice; GRANT carol TO alice")
    funnel = pgfunnel(default_pool_size=1)
    async with client(funnel, role="bob") as one, client(funnel) as other:
        await one.execute("SET ROLE carol")
        assert await one.fetchval("SELECT current_user") == "carol"
        await one.execute("RESET ROLE")
        assert await other.fetchval("SELECT current_user") == "alice"
        assert await one.fetchval("SELECT current_user") == "bob"


async def test_values_that_the_clients_encoding_lacks(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=1)
    with wire(funnel) as one, wire(funnel) as other:
        one.ask("SET my.tag = 'žluť'; SET search_path = 'žž'")
        one.ask("SET client_encoding = 'LATIN1'")
        for _ in range(2):
            assert rows(other.ask("SELECT current_setting('my.tag', true)")) == [[""]]
            assert rows(one.ask("SELECT length(current_setting('my.tag'))")) == [["4"]]
        one.ask("SET client_encoding = 'UTF8'")
        assert rows(one.ask("SELECT current_setting('my.tag')")) == [["žluť"]]


async def test_sql_in_a_string_of_ts_rewrite(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=1)
    sql = "SELECT 'a'::tsquery, 'b'::tsquery FROM set_config('work_mem', '9MB', false)"
    async with client(funnel) as one, client(funnel) as other:
        await one.execute(f"SELECT ts_rewrite('a'::tsquery, $${sql}$$)")
        assert await show(other, "work_mem") == "4MB"
        assert await show(one, "work_mem") == "9MB"


async def test_a_start_that_fails_leaves_the_server_as_it_was(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=1)
    with wire(funnel) as other:
        other.ask("SET work_mem = '5MB'; PREPARE p AS SELECT 'mine'")
        with Wire(funnel.host, funnel.port) as wrong, pytest.raises(Gone) as refused:
            wrong.log_in("alice", "postgres", USERS["alice"], {"options": "-c no_such=1"})
        assert sqlstates(refused.value.answers) == ["42704"]
        with wire(funnel, work_mem="6MB") as one:
            assert rows(one.ask("SHOW work_mem")) == [["6MB"]]
            assert sqlstates(one.ask("EXECUTE p")) == ["26000"]
        assert rows(other.ask("EXECUTE p")) == [["mine"]]
        assert rows(other.ask("SHOW work_mem")) == [["5MB"]]


async def test_a_hidden_deallocate_harms_nobody_else(
    pgfunnel: StartFunnel, postgres: Postgres
) -> None:
    postgres.psql(
        "CREATE OR REPLACE FUNCTION public.forget() RETURNS void LANGUAGE plpgsql AS"
        " $$BEGIN EXECUTE 'DEALLOCATE p'; END$$"
    )
    funnel = pgfunnel(default_pool_size=1)
    with wire(funnel) as one, wire(funnel) as other:
        one.ask("SET work_mem = '5MB'; PREPARE p AS SELECT 1")
        one.ask("SELECT public.forget()")
        assert rows(other.ask("SHOW work_mem")) == [["4MB"]]
        assert rows(other.ask("SELECT 1")) == [["1"]]


@pytest.mark.parametrize("wanted", [True, False])
async def test_a_pinned_client_may_leave(pgfunnel: StartFunnel, wanted: bool) -> None:
    """asyncpg's close() waits until the other side has closed."""
    funnel = pgfunnel(default_pool_size=1)
    one = await asyncpg.connect(funnel.dsn("alice"), statement_cache_size=0)
    async with client(funnel) as other:
        await one.execute("SET search_path = pg_temp; LISTEN channel")
        if wanted:
            answer = asyncio.create_task(other.fetchval("SELECT 1"))
            labels = '{database="postgres",user="alice"}'
            await eventually(lambda: funnel.metrics()["pgfunnel_pool_waiters" + labels] == 1)
        await one.close(timeout=5)
        assert await (answer if wanted else other.fetchval("SELECT 1")) == 1


async def test_names_of_our_own_are_nobodys(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=1)
    async with client(funnel) as one, client(funnel) as other:
        prepared = await one.prepare("SELECT 'mine'", name="own")
        assert await prepared.fetchval() == "mine"
        ours = await other.fetchval("SELECT name FROM pg_prepared_statements WHERE name ~ '^pgfun'")
        for sql in (f"EXECUTE {ours}", f"DEALLOCATE {ours}", f'EXECUTE "{ours}"'):
            with pytest.raises(asyncpg.InvalidSQLStatementNameError):
                await other.execute(sql)
        assert await prepared.fetchval() == "mine"


async def test_what_a_text_means_to_one_it_does_not_to_others(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=2)
    async with client(funnel) as one, client(funnel) as other, client(funnel) as third:
        texts = []
        for each in (one, other):
            await each.execute("SET datestyle = 'ISO, DMY'")
            text = await each.prepare("SELECT '01/02/2020'::date::text", name="d")
            assert await text.fetchval() == "2020-02-01"
            texts.append(text)
        await one.execute("SET datestyle = 'ISO, MDY'")
        for _ in range(2):
            async with third.transaction():  # so that another server has to prepare it
                await third.execute("SELECT 1")
                await texts[0].fetchval()
                assert await texts[1].fetchval() == "2020-02-01"


def test_a_function_call_may_take_a_lock(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=2)
    with (
        psycopg.connect(funnel.dsn("alice"), autocommit=True) as other,
        Peer(funnel.host, funnel.port) as peer,
    ):
        peer.log_in("alice", funnel.upstream.database, USERS["alice"])
        # pg_advisory_lock(7), in binary: function 2880
        call = struct.pack("!IHHHIqH", 2880, 1, 1, 1, 8, 7, 1)
        peer.send(messages.message(b"F", call))
        peer.until(b"Z")
        until(lambda: json.loads(funnel.get("/pins"))["pinned"])
        assert other.execute(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
        ).fetchone() == (0,)


async def test_a_reset_query_takes_no_cleaning_away(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(
        default_pool_size=1, server_reset_query="discard plans", server_reset_query_always=True
    )
    one = await asyncpg.connect(funnel.dsn("alice"), statement_cache_size=0)
    await one.execute("SELECT pg_advisory_lock(7)")
    until(lambda: json.loads(funnel.get("/pins"))["pinned"])
    await one.close()
    async with client(funnel) as other:
        held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
        assert await other.fetchval(held) == 0


def test_names_that_are_no_utf8(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=1)
    with Peer(funnel.host, funnel.port) as peer:
        peer.log_in("alice", funnel.upstream.database, USERS["alice"])
        peer.query("SET client_encoding = 'LATIN1'")
        for sql, failing in (
            (b'PREPARE "\xe9" AS SELECT 1', b""),
            (b'EXECUTE "\xe9"', b""),
            (b'DEALLOCATE "\xe8"', b"26000"),
            (b"SELECT set_config('my.\xe9', 'x', false)", b""),
            (b"SELECT 1", b""),
        ):
            peer.send(messages.query(sql))
            errors = [body for kind, body in peer.until(b"Z") if kind == b"E"]
            assert [b"C" + failing in body for body in errors] == [True] * bool(failing), sql


@pytest.mark.parametrize("began", [{"application_name": "me"}, {"options": "-c work_mem=5MB"}])
@pytest.mark.parametrize(
    "sql", ["RESET ALL", "DISCARD ALL", "RESET work_mem", "SET work_mem TO DEFAULT", "SELECT 1"]
)
@pytest.mark.parametrize("status", ["I", "T"])
def test_a_reset_in_a_pipeline_is_answered_like_any_other(
    pgfunnel: StartFunnel, postgres: Postgres, began: dict[str, str], sql: str, status: str
) -> None:
    if status == "T" and sql == "DISCARD ALL":
        pytest.skip("it cannot run in a transaction")
    groups = [
        b"".join([parse("", text), bind(), execute(), SYNC])
        for text in (sql, "SELECT current_setting('work_mem')")
    ]
    begin = query("BEGIN" if status == "T" else "SELECT")
    funnel = pgfunnel(default_pool_size=1)
    told = []
    for host, port in ((postgres.host, postgres.port), (funnel.host, funnel.port)):
        with Wire(host, port, "alice", "postgres", USERS["alice"], began) as one:
            one.send(begin)
            one.until_ready()
            one.send(*groups)
            answers = [one.until_ready(), one.until_ready()]
            kinds = [[a.kind for a in each if a.kind != "S"] for each in answers]
            told.append((kinds, rows(answers[1])))
    assert told[0] == told[1]


async def test_of_the_pinned_and_idle_only_as_many_end_as_others_wait(
    pgfunnel: StartFunnel,
) -> None:
    funnel = pgfunnel(default_pool_size=3, pin_idle_timeout=0.5)
    async with client(funnel) as first, client(funnel) as second, client(funnel) as third:
        for listener in (first, second, third):
            await listener.execute("LISTEN news")
        async with client(funnel) as other:
            assert await asyncio.wait_for(other.fetchval("SELECT 1"), 10) == 1
        assert first.is_closed()
        assert funnel.log().count("reason=pin_idle_timeout") == 1
        assert await second.fetchval("SELECT 2") == 2


def test_what_is_pipelined_behind_deallocate_all_fails_as_straight(
    pgfunnel: StartFunnel, postgres: Postgres
) -> None:
    funnel = pgfunnel(default_pool_size=1)
    told = []
    for host, port in ((postgres.host, postgres.port), (funnel.host, funnel.port)):
        with Wire(host, port, "alice", "postgres", USERS["alice"]) as one:
            one.send(parse("mine", "SELECT 1"), SYNC)
            one.until_ready()
            deallocate = b"".join([parse("", "DEALLOCATE ALL"), bind(), execute()])
            one.send(deallocate, bind("", "mine"), execute(), SYNC)
            told.append([answer.fields["M"] for answer in one.until_ready() if answer.kind == "E"])
    assert told[0] == told[1] == ['prepared statement "mine" does not exist']


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT set_config('app.' || 'tenant', 'mine', false)",
        "SELECT set_config('app.' || $1, $2, false)",
        "DO $$ BEGIN PERFORM set_config('app.' || 'tenant', 'mine', false); END $$",
        "DO $$ BEGIN EXECUTE format('SET app.%I = %L', 'tenant', 'mine'); END $$",
        "DO $$ BEGIN EXECUTE 'SET app.' || 'tenant' || ' = ''mine'''; END $$",
    ],
)
async def test_a_parameter_whose_name_is_computed_is_its_own(
    pgfunnel: StartFunnel, sql: str
) -> None:
    funnel = pgfunnel(default_pool_size=2)
    arguments = ["tenant", "mine"] if "$2" in sql else []
    tenant = "SELECT nullif(current_setting('app.tenant', true), '')"
    async with client(funnel) as one, client(funnel) as other:
        await one.execute("SELECT 1")
        await one.fetch(sql, *arguments)
        for _ in range(3):
            assert await other.fetchval(tenant) is None
            assert await one.fetchval(tenant) == "mine"
        (pin,) = json.loads(funnel.get("/pins"))["pinned"]
        assert pin["reason"] == "computed_name"
        await one.execute("RESET ALL")
        await eventually(lambda: not json.loads(funnel.get("/pins"))["pinned"])
        await one.fetch(sql, *arguments)
    async with (
        client(funnel) as one,
        client(funnel) as other,
        one.transaction(),  # every server there is
        other.transaction(),
    ):
        assert await one.fetchval(tenant) is None
        assert await other.fetchval(tenant) is None


ABOVE = [
    "SET log_min_messages = debug1",
    "SET max_connections = 5",
    "SET autovacuum = off",
    "SET log_connections = on",
    "SELECT set_config('log_min_messages', 'debug1', false)",
    "BEGIN; SAVEPOINT s; SET log_min_messages = debug1",
    "DO $$ BEGIN SET log_min_messages = debug1; EXCEPTION WHEN OTHERS THEN NULL; END $$",
    "RESET log_min_messages",
]


@pytest.mark.parametrize("sql", ABOVE)
async def test_what_a_client_may_not_set_disturbs_nobody(pgfunnel: StartFunnel, sql: str) -> None:
    funnel = pgfunnel(default_pool_size=1)
    async with client(funnel) as one, client(funnel) as other:
        for _ in range(2):
            with suppress(asyncpg.PostgresError):
                await one.execute(sql)
            with suppress(asyncpg.PostgresError):
                await one.execute("ROLLBACK")
            for each in (other, one, other):
                assert await show(each, "max_connections") is not None


async def test_what_takes_a_superuser_keeps_its_server(
    own_postgres: Postgres, pgfunnel: StartFunnel
) -> None:
    """A function of a superuser's has set it: the client could set it on no other server."""
    own_postgres.psql(
        "CREATE FUNCTION replays() RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS"
        " $$ BEGIN SET session_replication_role = replica; END $$;"
        "CREATE FUNCTION done() RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS"
        " $$ BEGIN RESET session_replication_role; END $$;"
        "CREATE TABLE parents (id int PRIMARY KEY);"
        "CREATE TABLE children (id int REFERENCES parents); GRANT ALL ON children TO alice"
    )
    funnel = pgfunnel(own_postgres, default_pool_size=2)
    pinned = 'pgfunnel_pinned_clients{database="postgres",reason="parameters",user="alice"}'
    async with client(funnel) as one, client(funnel) as other:
        await one.execute("SELECT replays()")
        await one.execute("SET work_mem = '5MB'")
        await eventually(lambda: funnel.metrics()[pinned] == 1)
        for _ in range(3):
            with pytest.raises(asyncpg.ForeignKeyViolationError):
                await other.execute("INSERT INTO children VALUES (1)")
            assert await show(one, "session_replication_role") == "replica"
        await one.execute("SELECT done()")
        await eventually(lambda: funnel.metrics()[pinned] == 0)
        assert await show(one, "work_mem") == "5MB"
        await one.execute("SELECT replays()")
    async with client(funnel) as one, client(funnel) as other:
        for each in one, other:
            await each.execute("BEGIN")
        for each in one, other:
            assert await show(each, "session_replication_role") == "origin"
            await each.execute("COMMIT")


def test_a_reset_that_cannot_lead_back_fails_aloud(pgfunnel: StartFunnel) -> None:
    """In a transaction, under a role that may not set what its session began with."""
    dsn = pgfunnel(default_pool_size=1).dsn()
    options = "-c session_replication_role=local"
    with psycopg.connect(dsn, autocommit=True, options=options) as one:
        one.execute("SET ROLE alice")
        one.execute("BEGIN")
        with pytest.raises(psycopg.errors.InsufficientPrivilege) as failed:
            one.execute("RESET ALL")
        assert "began with" in str(failed.value.diag.message_hint)
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            one.execute("SELECT 1")
        one.execute("ROLLBACK")
        one.execute("RESET ALL")
        assert one.execute("SHOW session_replication_role").fetchone() == ("local",)
        assert one.execute("SELECT current_user").fetchone() == ("alice",)


@pytest.mark.parametrize(
    "sql, value",
    [
        ("PREPARE s AS SELECT 1; PREPARE s AS SELECT 2", 1),
        ("PREPARE s AS SELECT 1; SELECT 1 / 0; PREPARE s AS SELECT 2", 1),
        ("PREPARE s AS SELECT 1; COMMIT; PREPARE s AS SELECT 2", 1),
        ("PREPARE s AS SELECT 1; DEALLOCATE s; PREPARE s AS SELECT 2", 2),
    ],
)
def test_a_name_prepared_twice_in_a_string(
    pgfunnel: StartFunnel, postgres: Postgres, sql: str, value: int
) -> None:
    funnel = pgfunnel(default_pool_size=2)
    for dsn in (postgres.dsn_for("alice"), funnel.dsn("alice")):
        with psycopg.connect(dsn, autocommit=True) as one, psycopg.connect(dsn) as other:
            with suppress(psycopg.Error):
                one.execute(sql)
            for _ in range(3):
                other.execute("SET LOCAL work_mem = '7MB'; SELECT 1")
                other.commit()
                assert one.execute("EXECUTE s").fetchone() == (value,)
