"""What sessions begin with changes: who is there goes on as it began, newcomers begin anew."""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import asyncpg
import psycopg
import pytest

from tests.conftest import StartFunnel
from tests.integration.observe import until, waiters
from tests.integration.twins import Twins
from tests.postgres import Postgres
from tests.wireclient import SYNC, bind, execute, parse

Connection = psycopg.Connection[tuple[object, ...]]

ALTERED = {
    "timezone": "Asia/Tokyo",
    "datestyle": "German, DMY",
    "search_path": "elsewhere, public",
    "statement_timeout": "33s",
    "app.tenant": "new",
}
ZONES = ["Asia/Tokyo", "Europe/Paris", "America/Lima", "UTC"]


@contextmanager
def connected(*dsns: str) -> Iterator[list[Connection]]:
    """Connections, one to each."""
    there = [psycopg.connect(dsn, autocommit=True) for dsn in dsns]
    try:
        yield there
    finally:
        for each in there:
            each.close()


def shown(connection: Connection) -> dict[str, object]:
    """What the session says of the parameters, and, where its driver was told, what it was told."""
    names = list(ALTERED)
    columns = ", ".join(f"current_setting('{name}', true)" for name in names)
    row = connection.execute(f"SELECT {columns}").fetchone()
    assert row is not None
    for name, value in zip(names, row, strict=True):
        told = connection.info.parameter_status({"timezone": "TimeZone"}.get(name, name))
        assert told in (None, value), name
    return dict(zip(names, row, strict=True))


@pytest.mark.parametrize("of", ["ROLE alice", "DATABASE postgres", "ROLE ALL"])
def test_altered_through_pgfunnel(own_postgres: Postgres, pgfunnel: StartFunnel, of: str) -> None:
    own_postgres.psql(f"ALTER {of} SET app.tenant = 'old'")
    funnel = pgfunnel(own_postgres, default_pool_size=2)
    ways = own_postgres.dsn_for("alice"), funnel.dsn("alice")
    with connected(*ways, funnel.dsn("alice"), funnel.dsn()) as (*before, pinned, owner):
        began = shown(before[0])
        pinned.execute("LISTEN news")
        assert [shown(each) for each in (*before, pinned)] == [began] * 3
        for name, value in ALTERED.items():
            owner.execute(f"ALTER {of} SET {name} = {value if ',' in value else repr(value)}")
        with connected(*ways) as after:
            for _ in range(2):
                assert [shown(each) for each in after] == [ALTERED] * 2
                assert [shown(each) for each in (*before, pinned)] == [began] * 3
            pinned.execute("UNLISTEN *")
            for each in (*before, pinned):
                each.execute("RESET ALL")
                assert shown(each) == began
            for name in ALTERED:
                for each in (*before, *after):
                    each.execute(f"SET {name} = DEFAULT")
            assert [shown(each) for each in (*before, pinned)] == [began] * 3
            assert [shown(each) for each in after] == [ALTERED] * 2


def test_altered_where_servers_are_lent_for_a_session(
    own_postgres: Postgres, pgfunnel: StartFunnel
) -> None:
    funnel = pgfunnel(own_postgres, default_pool_size=3, pool_mode="session")
    ways = funnel.dsn("alice"), funnel.dsn("alice"), funnel.dsn()
    with connected(*ways) as (before, other, owner):
        began = shown(before)
        shown(other)
        other.close()
        for name, value in ALTERED.items():
            set_to = value if "," in value else repr(value)
            owner.execute(f"ALTER ROLE alice SET {name} = {set_to}")
        with connected(funnel.dsn("alice")) as (after,):
            assert shown(after) == ALTERED
        assert shown(before) == began
        before.execute("RESET ALL")
        assert shown(before) == began


def test_altered_straight_at_postgres(own_postgres: Postgres, pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(own_postgres, default_pool_size=2, session_catalog_interval=0.2)
    with connected(funnel.dsn("alice")) as (before,):
        began = shown(before)
        for name, value in ALTERED.items():
            set_to = value if "," in value else repr(value)
            own_postgres.psql(f"ALTER ROLE alice SET {name} = {set_to}")

        def is_known() -> bool:
            shown(before)
            with connected(funnel.dsn("alice")) as (after,):
                return shown(after) == ALTERED

        until(is_known)
        assert {**shown(before), "app.tenant": None} == {**began, "app.tenant": None}
    assert "sessions_begin_otherwise" in funnel.log()
    assert "reason=outdated" in funnel.log()


def test_the_configuration_is_read_anew(own_postgres: Postgres, pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(own_postgres, default_pool_size=2)
    ways = own_postgres.dsn_for("alice"), funnel.dsn("alice")
    with connected(*ways, *ways, funnel.dsn("alice")) as (*before, own, through, idle):
        for each in own, through:
            each.execute("SET timezone = 'Europe/Paris'")
        for each in (*before, idle):
            shown(each)
        own_postgres.psql("ALTER SYSTEM SET timezone = 'Asia/Tokyo'")
        own_postgres.psql("ALTER SYSTEM SET statement_timeout = '44s'")
        own_postgres.psql("SELECT pg_reload_conf()")

        def is_known() -> bool:
            before[1].execute("SELECT 1")
            with connected(funnel.dsn("alice")) as (after,):
                return after.info.parameter_status("TimeZone") == "Asia/Tokyo"

        until(is_known)
        new = {"timezone": "Asia/Tokyo", "statement_timeout": "44s"}
        for each in (*before, idle):
            assert shown(each).items() >= new.items()
        for each in own, through:
            assert shown(each)["timezone"] == "Europe/Paris"
            each.execute("RESET timezone")
            assert shown(each).items() >= new.items()


async def alter(dsn: str, until: float) -> None:
    """ALTER ROLE and ALTER DATABASE, again and again."""
    owner = await asyncpg.connect(dsn)
    for n in itertools.count():
        await owner.execute(f"ALTER ROLE alice SET timezone = '{ZONES[n % len(ZONES)]}'")
        await owner.execute(f"ALTER DATABASE postgres SET statement_timeout = {n + 60_000}")
        await asyncio.sleep(0.2)
        if time.monotonic() > until:
            break
    await owner.close()


async def live(dsn: str, dice: random.Random) -> str:
    """A client that looks at its session now and then; the time zone that it began with."""
    connection = await asyncpg.connect(dsn, timeout=20)
    began = connection.get_settings().TimeZone
    seen = {("told", began)}
    for _ in range(dice.randrange(2, 40)):
        if dice.random() < 0.1:
            await connection.execute("RESET timezone")
        if dice.random() < 0.1:
            await connection.execute("BEGIN; SET LOCAL timezone = 'Asia/Seoul'; COMMIT")
        for name in ("timezone", "statement_timeout"):
            seen.add((name, await connection.fetchval(f"SHOW {name}")))
        seen.add(("told", connection.get_settings().TimeZone))
        await asyncio.sleep(dice.random() / 50)
    await connection.close()
    assert len(seen) == 3, seen
    assert ("timezone", began) in seen
    return str(began)


async def test_altered_amid_traffic(own_postgres: Postgres, pgfunnel: StartFunnel) -> None:
    """For as long as it lives each client is told, and reads, what its session began with."""
    own_postgres.psql("ALTER DATABASE postgres SET statement_timeout = 59000")
    funnel = pgfunnel(own_postgres, default_pool_size=4)
    end = time.monotonic() + 4

    lives = set()

    async def come_and_go(seed: int) -> None:
        dice = random.Random(seed)
        while time.monotonic() < end:
            lives.add(await live(funnel.dsn("alice"), dice))

    await asyncio.gather(alter(funnel.dsn(), end), *map(come_and_go, range(15)))
    assert lives >= set(ZONES)


def test_who_comes_after_the_alteration_begins_with_it(
    own_postgres: Postgres, pgfunnel: StartFunnel
) -> None:
    """At once, while others keep the pool busy."""
    funnel = pgfunnel(own_postgres, default_pool_size=3)
    stop = threading.Event()
    all_there = threading.Barrier(5, timeout=30)

    def be_busy() -> None:
        with connected(funnel.dsn("alice")) as (busy,):
            shown(busy)
            all_there.wait()
            while not stop.wait(0.005):
                busy.execute("SELECT 1")

    with ThreadPoolExecutor(4) as threads, connected(funnel.dsn()) as (owner,):
        busy = [threads.submit(be_busy) for _ in range(4)]
        all_there.wait()
        try:
            for n in range(20):
                zone = ZONES[n % len(ZONES)]
                owner.execute(f"ALTER ROLE alice SET timezone = '{zone}'")
                owner.execute(f"ALTER ROLE alice SET statement_timeout = '{n + 60}s'")
                with connected(funnel.dsn("alice")) as (after,):
                    said = shown(after)
                    assert said["timezone"] == zone
                    assert said["statement_timeout"] == ("1min" if n == 0 else f"{n + 60}s")
        finally:
            stop.set()
        for each in busy:
            each.result()


def test_a_role_to_begin_with(own_postgres: Postgres, pgfunnel: StartFunnel) -> None:
    own_postgres.psql("CREATE ROLE crew; GRANT crew TO alice")
    funnel = pgfunnel(own_postgres, default_pool_size=1)
    who = "SELECT current_user::text"
    with connected(funnel.dsn("alice"), funnel.dsn()) as (before, owner):
        before.execute("SELECT 1")
        owner.execute("ALTER ROLE alice SET role = 'crew'")
        with connected(funnel.dsn("alice")) as (after,):
            for _ in range(2):
                assert after.execute(who).fetchone() == ("crew",)
                assert before.execute(who).fetchone() == ("alice",)


@pytest.mark.parametrize(
    "sql, role", [("DISCARD ALL", "alice"), ("SET ROLE crew; RESET ALL", "crew")]
)
def test_the_role_that_a_session_began_with_comes_back(
    own_postgres: Postgres, pgfunnel: StartFunnel, sql: str, role: str
) -> None:
    """Also where Postgres tells of other parameters that come back (application_name)."""
    own_postgres.psql("CREATE ROLE crew; GRANT crew TO alice")
    funnel = pgfunnel(own_postgres, default_pool_size=2, session_audit=1)
    with connected(f"{funnel.dsn('alice')}?application_name=x", funnel.dsn()) as (one, owner):
        who = "SELECT current_user"
        assert one.execute(who).fetchone() == ("alice",)
        owner.execute("ALTER ROLE alice SET role = 'crew'")
        assert one.execute(who).fetchone() == ("alice",)
        for statement in sql.split(";"):
            one.execute(statement)
        with connected(funnel.dsn("alice")) as (after,):
            for _ in range(3):
                assert one.execute(who).fetchone() == (role,)
                assert after.execute(who).fetchone() == ("crew",)
    assert " leak " not in funnel.log()


@pytest.mark.parametrize(
    "sql", ["SET ROLE none; RESET ROLE", "SET SESSION AUTHORIZATION alice; RESET ROLE"]
)
def test_the_role_that_a_pinned_client_began_with_comes_back_while_others_wait(
    own_postgres: Postgres, pgfunnel: StartFunnel, sql: str
) -> None:
    own_postgres.psql("CREATE ROLE crew; GRANT crew TO alice")
    funnel = pgfunnel(own_postgres, default_pool_size=1, session_audit=1)
    dsn = funnel.dsn("alice")
    with (
        connected(f"{dsn}?options=-c%20role%3Dcrew", dsn) as (one, other),
        ThreadPoolExecutor() as pool,
    ):
        one.execute("SELECT pg_advisory_lock(1)")
        waits = pool.submit(other.execute, "SELECT current_user")
        until(lambda: waiters(funnel) == 1)
        for statement in sql.split(";"):
            one.execute(statement)
        assert one.execute("SELECT current_user").fetchone() == ("crew",)
        one.execute("SELECT pg_advisory_unlock_all()")
        assert waits.result().fetchone() == ("alice",)
        assert one.execute("SELECT current_user").fetchone() == ("crew",)
    assert " leak " not in funnel.log()


def test_part_of_a_date_style_to_begin_with(own_postgres: Postgres, pgfunnel: StartFunnel) -> None:
    """What a client was told is more than what ALTER ROLE said."""
    own_postgres.psql("ALTER ROLE alice SET datestyle = 'DMY'")
    funnel = pgfunnel(own_postgres, default_pool_size=1)
    with connected(funnel.dsn("alice"), funnel.dsn("alice"), funnel.dsn()) as (one, other, owner):
        assert shown(one)["datestyle"] == "ISO, DMY"
        other.execute("SET datestyle = 'SQL, MDY'")
        owner.execute("ALTER ROLE alice SET datestyle = 'German'")
        for _ in range(2):
            assert shown(one)["datestyle"] == "ISO, DMY"
            assert shown(other)["datestyle"] == "SQL, MDY"


def test_what_a_client_has_set_is_its_own_when_others_begin_with_it(
    own_postgres: Postgres, pgfunnel: StartFunnel
) -> None:
    funnel = pgfunnel(own_postgres, default_pool_size=1, session_audit=1)
    with connected(funnel.dsn("alice"), funnel.dsn()) as (one, owner):
        one.execute("SET default_transaction_read_only = on")
        one.execute("SET timezone = 'Asia/Tokyo'")
        owner.execute("ALTER ROLE alice SET default_transaction_read_only = on")
        owner.execute("ALTER ROLE alice SET timezone = 'Asia/Tokyo'")
        owner.execute("ALTER ROLE alice SET work_mem = '9MB'")
        with connected(funnel.dsn("alice")) as (after,):
            for _ in range(3):
                after.execute("SELECT 1")
                assert shown(one)["timezone"] == "Asia/Tokyo"
                assert one.execute("SHOW default_transaction_read_only").fetchone() == ("on",)
                assert one.execute("SHOW work_mem").fetchone() == ("4MB",)
    assert " leak " not in funnel.log()


def test_a_default_that_was_set_is_the_client_s_own_and_nobody_else_s(
    own_postgres: Postgres, pgfunnel: StartFunnel
) -> None:
    funnel = pgfunnel(own_postgres, default_pool_size=1)
    ways = funnel.dsn("alice"), funnel.dsn("alice"), funnel.dsn("alice")
    with connected(*ways) as (one, other, gone):
        began = shown(one)
        for each in one, gone:
            each.execute(f"SET timezone = '{began['timezone']}'")
        for failing in ("BEGIN; SET work_mem = '9MB'; ROLLBACK", "SET work_mem = '1'"):
            with suppress(psycopg.Error):
                other.execute(failing)
        gone.close()
        own_postgres.psql("ALTER SYSTEM SET timezone = 'Asia/Tokyo'")
        own_postgres.psql("ALTER SYSTEM SET work_mem = '11MB'")
        own_postgres.psql("SELECT pg_reload_conf()")
        until(lambda: shown(other)["timezone"] == "Asia/Tokyo")
        assert other.execute("SHOW work_mem").fetchone() == ("11MB",)
        assert shown(one)["timezone"] == began["timezone"]
        with connected(funnel.dsn("alice")) as (after,):
            assert shown(after)["timezone"] == "Asia/Tokyo"


SAME_PATHS = {
    "set again": ["SET search_path = own", "SET timezone = 'UTC'"],
    "put back": ["RESET ALL"],
    "set and put back": ["SET search_path = own", "RESET ALL"],
}


@pytest.mark.parametrize("of", ["ROLE alice", "DATABASE postgres", "SYSTEM"])
@pytest.mark.parametrize("same", SAME_PATHS.values(), ids=SAME_PATHS.keys())
def test_a_search_path_that_sessions_begin_with_is_no_other(
    own_postgres: Postgres, pgfunnel: StartFunnel, of: str, same: list[str]
) -> None:
    """Where it is another, Postgres reads constants anew."""
    own_postgres.psql("CREATE SCHEMA own")
    own_postgres.psql(f"ALTER {of} SET search_path = own")
    own_postgres.psql("SELECT pg_reload_conf()")
    midnight = "SELECT (timestamptz '2020-01-01')::text"
    local = [parse("", "SET LOCAL timezone = 'Asia/Tokyo'"), bind(), execute()]
    with Twins(pgfunnel(own_postgres, default_pool_size=1)) as twins:
        twins.ask("one", "SET timezone = 'Asia/Tokyo'")
        twins.send("one", parse("s", midnight), SYNC)
        twins.send("one", *local, parse("t", midnight), SYNC)
        for sql in (*same, "SET timezone = 'Europe/Paris'", "SET search_path = public"):
            twins.ask("one", sql)
            for name in "st":
                twins.ask("other", "SELECT 1")
                twins.send("one", bind("", name), execute(), SYNC)


AS_ANYWAY = "SELECT set_config('TimeZone', reset_val, false) FROM pg_settings WHERE name='TimeZone'"


@pytest.mark.parametrize("size", [1, 3])
def test_who_asked_for_what_was_the_default_keeps_it_when_that_changes(
    own_postgres: Postgres, pgfunnel: StartFunnel, size: int
) -> None:
    funnel = pgfunnel(own_postgres, default_pool_size=size)
    with connected(own_postgres.dsn_for("alice")) as (straight,):
        old = shown(straight)["timezone"]
    began = (f"{way}?options=-c%20timezone%3D{old}" for way in (funnel.dsn("alice"),) * 2)
    with connected(*began, *[funnel.dsn("alice")] * 3) as (one, resetting, setting, local, other):
        for each in setting, local:
            each.execute(AS_ANYWAY)
        local.execute("BEGIN; SET LOCAL TimeZone = 'Asia/Kabul'; COMMIT")
        mine = [one, resetting, setting, local]
        for _ in range(2):
            for each in (*mine, other):
                assert shown(each)["timezone"] == old
            resetting.execute("RESET timezone")
        own_postgres.psql("ALTER SYSTEM SET timezone = 'Asia/Tokyo'")
        own_postgres.psql("SELECT pg_reload_conf()")

        def is_known() -> bool:
            shown(other)
            with connected(funnel.dsn("alice")) as (after,):
                return after.info.parameter_status("TimeZone") == "Asia/Tokyo"

        until(is_known)
        for _ in range(2):
            for each in mine:
                assert shown(each)["timezone"] == old
                assert shown(other)["timezone"] == "Asia/Tokyo"
            resetting.execute("RESET timezone")


ROLES = [
    "SET ROLE none",
    "SELECT set_config('role', 'none', false)",
    "SELECT begun_role('none')",
    "SELECT begun_role('alice')",
    "SELECT begun_role('crew')",
    "SET ROLE alice",
    "SET ROLE crew",
    "SET ROLE other_crew",
    "RESET ROLE",
    "BEGIN; SET ROLE none; COMMIT",
    "BEGIN; SET ROLE none; ROLLBACK",
    "BEGIN; SET LOCAL ROLE none; COMMIT",
    "SET SESSION AUTHORIZATION DEFAULT",
    "SET SESSION AUTHORIZATION alice",
    "DISCARD ALL",
    "RESET ALL",
    "SET ROLE none; RESET ALL",
    "DO $$ BEGIN RESET ROLE; END $$",
]


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("of", ["ROLE alice", "DATABASE postgres"])
def test_roles_of_sessions_that_begin_with_another(
    own_postgres: Postgres, pgfunnel: StartFunnel, of: str, size: int
) -> None:
    own_postgres.psql("CREATE ROLE crew; CREATE ROLE other_crew; GRANT crew, other_crew TO alice")
    own_postgres.psql("GRANT crew, other_crew TO alice")
    own_postgres.psql(
        "CREATE FUNCTION begun_role(text) RETURNS text LANGUAGE sql"
        " AS $$ SELECT set_config('role', $1, false) $$"
    )
    own_postgres.psql(f"ALTER {of} SET role = 'crew'")
    funnel = pgfunnel(own_postgres, default_pool_size=size, session_audit=1)
    who = "SELECT session_user, current_user, current_setting('role')"
    chance = random.Random(size)
    with Twins(funnel) as twins:
        for sql in ROLES:
            twins.ask("one", sql)
            for name in ("one", "other", "one"):
                twins.ask(name, who)
            with Twins(funnel) as later:
                later.ask("later", who)
        for _ in range(120):
            twins.ask(chance.choice(["one", "other", "third"]), chance.choice([who, *ROLES]))
    assert " leak " not in funnel.log()
