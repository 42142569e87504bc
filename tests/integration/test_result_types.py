"""Prepared statements whose results DDL has changed: as on a direct connection, never in silence.

Every test runs straight, through the compiled proxy and through the pure one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack
from itertools import count
from urllib.parse import urlsplit

import asyncpg
import psycopg
import pytest

from tests.integration.observe import until
from tests.postgres import USERS, Postgres
from tests.wireclient import SYNC, Wire, bind, describe, execute, parse, query

OUTDATED = "cached plan must not change result type"
_numbers = count(1)


@pytest.fixture
async def connect(dsn: str) -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        stack.dsn = dsn  # type: ignore[attr-defined]
        yield stack


async def opened(stack: AsyncExitStack) -> asyncpg.Connection:
    connection = await asyncpg.connect(stack.dsn)  # type: ignore[attr-defined]
    stack.push_async_callback(connection.close)
    return connection


@pytest.fixture
def table(dsn: str) -> Iterator[str]:
    """A table of this test's own: a int, b text, one row."""
    name = f"changing_{next(_numbers)}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"CREATE TABLE {name} (a int, b text)")
        connection.execute(f"INSERT INTO {name} VALUES (1, 'x')")
        yield name
        connection.execute(f"DROP TABLE IF EXISTS {name}")


def connected(dsn: str) -> Wire:
    """A raw connection as alice."""
    place = urlsplit(dsn)
    return Wire(str(place.hostname), place.port or 0, "alice", place.path[1:], USERS["alice"])


async def busy(stack: AsyncExitStack, servers: int) -> list[asyncpg.Connection]:
    """Clients that hold a server each, so that the next one gets another."""
    holders = [await opened(stack) for _ in range(servers)]
    for holder in holders:
        await holder.execute("BEGIN")
    return holders


async def refused(statement: asyncpg.prepared_stmt.PreparedStatement) -> None:
    with pytest.raises(asyncpg.InvalidCachedStatementError):
        await statement.fetch()


CHANGES = [
    ("SELECT a FROM {0}", "ALTER TABLE {0} ALTER a TYPE real"),
    ("SELECT * FROM {0}", "ALTER TABLE {0} ADD c int"),
    ("SELECT * FROM {0}", "ALTER TABLE {0} DROP COLUMN b"),
    ("SELECT * FROM {0}", "ALTER TABLE {0} RENAME a TO z"),
]


@pytest.mark.parametrize("text,change", CHANGES)
async def test_refused_again_and_again_on_every_server(
    connect: AsyncExitStack, table: str, text: str, change: str
) -> None:
    user, other = await opened(connect), await opened(connect)
    statement = await user.prepare(text.format(table))
    assert (await statement.fetchrow())[0] == 1
    await other.execute(change.format(table))
    for _ in range(3):
        await refused(statement)
    for servers in (1, 2):
        holders = await busy(connect, servers)
        for _ in range(2):
            await refused(statement)
        for holder in holders:
            await holder.execute("ROLLBACK")
    anew = await user.prepare(text.format(table))
    assert (await anew.fetchrow())[0] == 1


async def test_what_does_not_change_the_result_disturbs_nobody(
    connect: AsyncExitStack, table: str
) -> None:
    user, other = await opened(connect), await opened(connect)
    statement = await user.prepare(f"SELECT a FROM {table} WHERE a = $1")
    assert await statement.fetchval(1) == 1
    for change in (
        f"ALTER TABLE {table} ADD c int",
        f"CREATE INDEX ON {table} (a)",
        (
            f"DROP TABLE {table}; CREATE TABLE {table} (z text, a int);"
            f"INSERT INTO {table} VALUES ('x', 1)"
        ),
    ):
        await other.execute(change)
        for servers in (0, 1, 2):
            holders = await busy(connect, servers)
            assert await statement.fetchval(1) == 1
            for holder in holders:
                await holder.execute("ROLLBACK")


async def test_types_of_parameters_stay_what_the_client_was_told(
    connect: AsyncExitStack, table: str
) -> None:
    user, other = await opened(connect), await opened(connect)
    statement = await user.prepare(f"SELECT b FROM {table} WHERE a = $1")
    assert await statement.fetchval(1) == "x"
    await other.execute(f"ALTER TABLE {table} ALTER a TYPE real")
    for servers in (0, 1, 2):
        holders = await busy(connect, servers)
        assert await statement.fetchval(1) == "x"
        for holder in holders:
            await holder.execute("ROLLBACK")


async def test_in_a_transaction_it_fails_that_transaction(
    connect: AsyncExitStack, table: str
) -> None:
    user, other = await opened(connect), await opened(connect)
    statement = await user.prepare(f"SELECT a FROM {table}")
    assert await statement.fetchval() == 1
    await other.execute(f"ALTER TABLE {table} ALTER a TYPE real")
    for servers in (0, 1, 2):
        holders = await busy(connect, servers)
        await user.execute("BEGIN")
        await refused(statement)
        with pytest.raises(asyncpg.InFailedSQLTransactionError):
            await statement.fetch()
        await user.execute("ROLLBACK")
        for holder in holders:
            await holder.execute("ROLLBACK")


async def test_a_change_that_is_rolled_back_was_none(connect: AsyncExitStack, table: str) -> None:
    user = await opened(connect)
    statement = await user.prepare(f"SELECT a FROM {table}")
    assert await statement.fetchval() == 1
    for servers in (0, 1, 2):
        holders = await busy(connect, servers)
        await user.execute("BEGIN")
        await user.execute(f"ALTER TABLE {table} ALTER a TYPE real")
        await refused(statement)
        await user.execute("ROLLBACK")
        assert await statement.fetchval() == 1
        for holder in holders:
            await holder.execute("ROLLBACK")


def test_psycopg_hears_it_and_goes_on(dsn: str, table: str) -> None:
    """On the server that has it; another prepares it anew: psycopg has each result described."""
    with (
        psycopg.connect(dsn, autocommit=True, prepare_threshold=0) as connection,
        psycopg.connect(dsn, autocommit=True) as other,
    ):
        assert connection.execute(f"SELECT a FROM {table}").fetchall() == [(1,)]
        other.execute(f"ALTER TABLE {table} ALTER a TYPE real")
        other.execute("SELECT 1")  # then it has given its server back
        with pytest.raises(psycopg.errors.FeatureNotSupported, match=OUTDATED):
            connection.execute(f"SELECT a FROM {table}")
        assert connection.execute(f"SELECT b FROM {table}").fetchall() == [("x",)]


@pytest.mark.parametrize("size", [1, 7, 65536])
@pytest.mark.parametrize("name", ["", "s"])
def test_in_pipelines_cut_anywhere(dsn: str, table: str, size: int, name: str) -> None:
    """Two Binds of it in one pipeline, the second behind a Sync, on a server that lacks it."""
    with (
        connected(dsn) as wire,
        psycopg.connect(dsn) as holder,
        psycopg.connect(dsn, autocommit=True) as other,
    ):
        wire.send(parse(name, f"SELECT a FROM {table}"), describe(name), SYNC)
        assert "T" in [answer.kind for answer in wire.until_ready()]
        other.execute(f"ALTER TABLE {table} ALTER a TYPE real")
        holder.execute("SELECT 1")
        use = bind("", name) + execute()
        raw = parse("w", "SELECT 5") + bind("", "w") + execute() + use + SYNC + use + SYNC
        for at in range(0, len(raw), size):
            wire.send(raw[at : at + size])
        first, second = wire.until_ready(), wire.until_ready()
        assert "".join(answer.kind for answer in first) == "12DCEZ"
        assert "".join(answer.kind for answer in second) == "EZ"
        errors = [answer.fields for answer in (*first, *second) if answer.kind == "E"]
        assert [(error["C"], error["M"]) for error in errors] == [("0A000", OUTDATED)] * 2


TOLD = {
    "of the statement": [describe("s"), SYNC],
    "of the portal": [bind("", "s"), describe("", "P"), execute(), SYNC],
    "of a portal with a name": [bind("p", "s"), describe("p", "P"), execute("p"), SYNC],
    "of its second portal": [
        *(bind("p", "s"), bind("", "s"), describe("", "P"), execute("p"), execute(), SYNC)
    ],
}
BETWEEN = [
    "SELECT 1",
    "SET jit = off",
    "SET timezone = 'CET'",
    "SET search_path = public",
    "SET search_path = pg_catalog, public",
    "SET my.tag = 'x'",
    "BEGIN; SET LOCAL jit = off; COMMIT",
    "CREATE TEMP TABLE going (a int); DROP TABLE going",
    "DISCARD PLANS",
]


@pytest.mark.parametrize("between", BETWEEN)
@pytest.mark.parametrize("told", TOLD.values(), ids=TOLD.keys())
def test_whoever_was_told_is_told_that_it_changed(
    dsn: str, table: str, told: list[bytes], between: str
) -> None:
    """However it was told, and whatever it has set since."""
    use = bind("", "s"), execute(), SYNC
    with connected(dsn) as wire, psycopg.connect(dsn, autocommit=True) as other:
        wire.send(parse("s", f"SELECT * FROM {table}"), *told)
        wire.until_ready()
        wire.ask(between)
        wire.send(*use)
        assert [answer.kind for answer in wire.until_ready()] == ["2", "D", "C", "Z"]
        other.execute(f"ALTER TABLE {table} ALTER a TYPE bigint")
        with ExitStack() as holders:
            for _ in range(3):
                wire.send(*use)
                assert [a.sqlstate for a in wire.until_ready() if a.kind == "E"] == ["0A000"]
                holders.enter_context(psycopg.connect(dsn)).execute("SELECT 1")
        wire.send(parse("again", f"SELECT * FROM {table}"), describe("again"), SYNC)
        wire.until_ready()
        wire.send(bind("", "again"), execute(), SYNC)
        assert [answer.kind for answer in wire.until_ready()] == ["2", "D", "C", "Z"]


def lock_of(table: str, count: int, looks: psycopg.Connection[tuple[int]]) -> None:
    """Wait until so many wait for the table."""
    waits = f"SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = '{table}'::regclass"
    until(lambda: looks.execute(waits).fetchone() == (count,))


def test_ddl_that_is_under_way(dsn: str, table: str) -> None:
    """It waits for a reader; who was told waits behind it, on another server, and hears of it."""
    with (
        connected(dsn) as wire,
        psycopg.connect(dsn) as reader,
        connected(dsn) as migration,
        psycopg.connect(dsn, autocommit=True) as other,
    ):
        wire.send(parse("s", f"SELECT * FROM {table}"), describe("s"), SYNC)
        wire.until_ready()
        reader.execute(f"SELECT FROM {table}")
        migration.send(query(f"ALTER TABLE {table} ALTER a TYPE bigint"))
        lock_of(table, 1, other)
        wire.send(bind("", "s"), execute(), SYNC)
        lock_of(table, 2, other)
        reader.commit()
        assert [a.sqlstate for a in wire.until_ready() if a.kind == "E"] == ["0A000"]
        migration.until_ready()


def test_ddl_straight_at_postgres(dsn: str, table: str, postgres: Postgres) -> None:
    with connected(dsn) as wire, ExitStack() as holders:
        wire.send(parse("s", f"SELECT * FROM {table}"), describe("s"), SYNC)
        wire.until_ready()
        postgres.psql(f"ALTER TABLE {table} ALTER a TYPE bigint")
        for _ in range(3):
            holders.enter_context(psycopg.connect(dsn)).execute("SELECT 1")
            wire.send(bind("", "s"), execute(), SYNC)
            assert [a.sqlstate for a in wire.until_ready() if a.kind == "E"] == ["0A000"]


@pytest.mark.parametrize("hears", [False, True])
def test_a_newcomer_amid_ddl_that_is_under_way(dsn: str, table: str, hears: bool) -> None:
    """It prepares a text that others were told the former result of: they are refused on each
    server, it is on none."""
    use = bind("", "s"), execute(), SYNC
    with (
        connected(dsn) as told,
        psycopg.connect(dsn) as reader,
        connected(dsn) as migration,
        connected(dsn) as newcomer,
        psycopg.connect(dsn, autocommit=True) as looks,
        ExitStack() as holders,
    ):
        told.send(parse("s", f"SELECT a FROM {table}"), describe("s"), SYNC)
        told.until_ready()
        holders.enter_context(psycopg.connect(dsn)).execute("SELECT 1")
        reader.execute(f"SELECT FROM {table}")
        migration.send(query(f"ALTER TABLE {table} ALTER a TYPE real"))
        lock_of(table, 1, looks)
        news = [describe("s")] * hears
        newcomer.send(parse("s", f"SELECT a FROM {table}"), *news, *use)
        lock_of(table, 2, looks)
        reader.commit()
        migration.until_ready()
        kinds = "".join(answer.kind for answer in newcomer.until_ready())
        assert kinds == ("1tT2DCZ" if hears else "12DCZ")
        for _ in range(4):
            told.send(*use)
            assert [a.sqlstate for a in told.until_ready() if a.kind == "E"] == ["0A000"]
            newcomer.send(*use)
            assert [a.kind for a in newcomer.until_ready()] == ["2", "D", "C", "Z"]
            holders.enter_context(psycopg.connect(dsn)).execute("SELECT 1")


@pytest.mark.parametrize("changed, value", [("real", 1.0), ("numeric", 1), ("text", "1")])
async def test_a_newcomer_behind_ddl_straight_at_postgres(
    connect: AsyncExitStack, table: str, postgres: Postgres, changed: str, value: object
) -> None:
    """asyncpg heals what it hears of; what it does not hear of it reads as something else."""
    text = f"SELECT a FROM {table} WHERE b = $1"
    told, newcomer = await opened(connect), await opened(connect)
    assert await told.fetchval(text, "x") == 1
    postgres.psql(f"ALTER TABLE {table} ALTER a TYPE {changed}")
    holders = await busy(connect, 1)
    assert await newcomer.fetchval(text, "x") == value
    for _ in range(3):
        assert await told.fetchval(text, "x") == value
        assert await newcomer.fetchval(text, "x") == value
        holders += await busy(connect, 1)
    for holder in holders:
        await holder.execute("ROLLBACK")


@pytest.mark.parametrize("told_stays", [False, True])
async def test_a_newcomer_has_the_types_of_now(
    connect: AsyncExitStack, table: str, postgres: Postgres, told_stays: bool
) -> None:
    """Others were told that the parameter is an integer, when the column was one."""
    text = f"SELECT b FROM {table} WHERE a = $1"
    told = await asyncpg.connect(connect.dsn)  # type: ignore[attr-defined]
    assert await told.fetchval(text, 1) == "x"
    holders = await busy(connect, 1)
    if not told_stays:
        await told.close()
    postgres.psql(f"ALTER TABLE {table} ALTER a TYPE bigint")
    for _ in range(3):
        newcomer = await opened(connect)
        assert await newcomer.fetchval(text, 1) == "x"
        assert await newcomer.fetchval(text, 1 << 40) is None
        holders += await busy(connect, 1)
    if told_stays:
        assert await told.fetchval(text, 1) == "x"
        await told.close()
    for holder in holders:
        await holder.execute("ROLLBACK")


LEADS = [
    "SET LOCAL search_path = {0}_{1}",
    "SELECT set_config('search_path', '{0}_{1}', true)",
    "SET search_path = {0}_{1}",
    "SET LOCAL app.t = '{0}_{1}';SELECT set_config('search_path', current_setting('app.t'), true)",
    "SAVEPOINT a;SET LOCAL search_path = {0}_one;ROLLBACK TO a;SET LOCAL search_path = {0}_{1}",
]


@pytest.mark.parametrize("leads", [*LEADS, None])
async def test_tenants_whose_tables_are_not_alike(
    connect: AsyncExitStack, table: str, postgres: Postgres, leads: str | None
) -> None:
    """Each has a schema, with types of its own, and says so in each transaction."""
    for tenant in "one", "two":
        postgres.psql(
            f"CREATE SCHEMA {table}_{tenant} AUTHORIZATION alice; SET ROLE alice;"
            f"SET search_path = {table}_{tenant};"
            f"CREATE TYPE mood AS ENUM ('{tenant}'); CREATE TABLE moods (a mood, {tenant} int);"
            f"INSERT INTO moods VALUES ('{tenant}', 1)"
        )
    clients = [await opened(connect) for _ in range(3)]
    for turn in range(8):
        tenant = ("one", "two")[turn % 2]
        client = clients[turn % len(clients)] if turn < 4 else await opened(connect)
        async with client.transaction():
            if leads is None:
                name = f"{table}_{tenant}"
                await client.fetchval("SELECT set_config('search_path', $1, true)", name)
            else:
                for sql in leads.format(table, tenant).split(";"):
                    await client.execute(sql)
            text = f"SELECT * FROM moods WHERE a = $1 -- {table}"
            if turn >= 4 or turn < 2:  # else it knows the other's
                assert dict(await client.fetchrow(text, tenant)) == {"a": tenant, tenant: 1}
        if leads == LEADS[2]:
            await client.execute("RESET search_path")
    for tenant in "one", "two":
        postgres.psql(f"DROP SCHEMA {table}_{tenant} CASCADE")


LEFT = [
    "COMMIT AND CHAIN",
    "COMMIT; BEGIN",
    "ROLLBACK; BEGIN",
    "ROLLBACK TO a",
    "SELECT 1 / 0;ROLLBACK TO a",
]


@pytest.mark.parametrize("pipelined", [False, True])
@pytest.mark.parametrize("left", LEFT)
def test_who_was_elsewhere_and_is_back(
    dsn: str, table: str, postgres: Postgres, left: str, pipelined: bool
) -> None:
    """What it prepares then is not taken for what it would have been."""
    postgres.psql(f"CREATE SCHEMA in_{table} AUTHORIZATION alice")
    moves = f"SET LOCAL search_path = in_{table}"
    prepares = parse("s", f"SELECT a FROM {table}"), describe("s"), SYNC
    use = bind("", "s"), execute(), SYNC
    with connected(dsn) as one, connected(dsn) as other:
        one.ask(f"CREATE TABLE in_{table}.{table} (a text)")
        *first, last = left.split(";" if "/" in left else "|")
        for sql in ("BEGIN", "SAVEPOINT a", moves, *first):
            one.ask(sql)
        if pipelined:
            one.send(query(last), *prepares)
            one.until_ready()
        else:
            one.ask(last)
            one.send(*prepares)
        assert "E" not in [a.kind for a in one.until_ready()]
        one.send(*use)
        assert [a.kind for a in one.until_ready()] == ["2", "D", "C", "Z"]
        one.ask("COMMIT")
        for sql in ("BEGIN", moves):
            other.ask(sql)
        other.send(*prepares)
        assert "E" not in [a.kind for a in other.until_ready()]
        other.send(*use)
        assert [a.kind for a in other.until_ready()] == ["2", "C", "Z"]
        other.ask("COMMIT")
    postgres.psql(f"DROP SCHEMA in_{table} CASCADE")


@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("ends", ["COMMIT", "ROLLBACK"])
def test_a_newcomer_whose_transaction_has_another_table(
    dsn: str, table: str, postgres: Postgres, ends: str, elsewhere: bool
) -> None:
    """Others go on with what they were told, be it on the server that had it or `elsewhere`."""
    use = bind("", "s"), execute(), SYNC
    postgres.psql(f"CREATE SCHEMA in_{table} AUTHORIZATION alice")
    with connected(dsn) as told, connected(dsn) as newcomer:
        told.ask(f"CREATE TABLE in_{table}.{table} (a text)")
        told.send(parse("s", f"SELECT a FROM {table}"), describe("s"), SYNC)
        told.until_ready()
        with psycopg.connect(dsn) as holder:
            if elsewhere:
                holder.execute("SELECT 1")
            newcomer.ask("BEGIN")
            newcomer.ask(f"SET LOCAL search_path = in_{table}")
            newcomer.send(parse("s", f"SELECT a FROM {table}"), describe("s"), SYNC)
            assert "E" not in [a.kind for a in newcomer.until_ready()]
            newcomer.send(bind("", "s"), execute(), SYNC)
            assert [a.kind for a in newcomer.until_ready()] == ["2", "C", "Z"]
            newcomer.ask(ends)
        for _ in range(2):
            told.send(*use)
            assert [a.kind for a in told.until_ready()] == ["2", "D", "C", "Z"]
        postgres.psql(f"DROP SCHEMA in_{table} CASCADE")


AMID = {
    "temporary": (["CREATE TEMP TABLE own_{0} (a int)"], ["DROP TABLE own_{0}"]),
    "a transaction": (["BEGIN", "CREATE TEMP TABLE own_{0} (a int) ON COMMIT DROP"], ["ROLLBACK"]),
    "made": (["BEGIN", "CREATE TABLE own_{0} (a int)"], ["ROLLBACK"]),
    "hidden": (["CREATE TEMP TABLE {0} (a bigint)"], ["DROP TABLE pg_temp.{0}"]),
    "hidden, another path": (
        ["CREATE TEMP TABLE {0} (a bigint)", "SET search_path = public, pg_catalog"],
        ["DROP TABLE pg_temp.{0}", "RESET search_path"],
    ),
}


@pytest.mark.parametrize("changes", [False, True])
@pytest.mark.parametrize("amid, ends", AMID.values(), ids=AMID.keys())
def test_it_is_refused_amid_objects_of_ones_own(
    dsn: str, table: str, amid: list[str], ends: list[str], changes: bool
) -> None:
    hides = any("{0} (a bigint)" in sql for sql in amid)
    use = bind("", "s"), execute(), SYNC
    with connected(dsn) as wire, psycopg.connect(dsn, autocommit=True) as other:
        wire.send(parse("s", f"SELECT * FROM {table}"), describe("s"), SYNC)
        wire.until_ready()
        if changes:
            other.execute(f"ALTER TABLE {table} ALTER a TYPE bigint")
        for sql in amid:
            assert not [a for a in wire.ask(sql.format(table)) if a.kind == "E"]
        expected = ["0A000"] if changes or hides else []
        for _ in range(2):
            wire.send(*use)
            assert [a.sqlstate for a in wire.until_ready() if a.kind == "E"] == expected
            if expected and "BEGIN" in amid:
                break
        for sql in ends:
            assert not [a for a in wire.ask(sql.format(table)) if a.kind == "E"]
        wire.send(*use)
        expected = ["0A000"] if changes else []
        assert [a.sqlstate for a in wire.until_ready() if a.kind == "E"] == expected


OTHERS = {
    "EXECUTE": ("EXECUTE p", "PREPARE p AS SELECT 1", "DEALLOCATE p; PREPARE p AS SELECT 'x', 2"),
    "SHOW": ("SHOW work_mem", "SELECT 1", "SELECT 2"),
}


@pytest.mark.parametrize("between", BETWEEN)
@pytest.mark.parametrize("run, before, after", OTHERS.values(), ids=OTHERS.keys())
def test_what_postgres_does_not_look_at_is_not_refused(
    dsn: str, table: str, run: str, before: str, after: str, between: str
) -> None:
    with connected(dsn) as wire, psycopg.connect(dsn) as holder:
        wire.ask(before)
        wire.send(parse("s", run), bind("", "s"), describe("", "P"), execute(), SYNC)
        wire.until_ready()
        for sql in (between, after):
            wire.ask(sql)
        holder.execute("SELECT 1")
        wire.send(bind("", "s"), execute(), SYNC)
        assert [answer.kind for answer in wire.until_ready()] == ["2", "D", "C", "Z"]


async def test_asyncpg_learns_a_type_and_then_hears_of_the_change(
    connect: AsyncExitStack, table: str
) -> None:
    """It sets jit to look the type up, when it has been told of the result."""
    users, other = [await opened(connect) for _ in range(4)], await opened(connect)
    await other.execute(f"CREATE TYPE {table}_mood AS ENUM ('glad', 'sad')")
    await other.execute(f"ALTER TABLE {table} ADD c {table}_mood DEFAULT 'sad'")
    for change in ("ADD d int", "ALTER a TYPE bigint", "DROP b"):
        for _ in range(3):
            rows = await asyncio.gather(*(user.fetch(f"TABLE {table}") for user in users))
            assert {row[0]["c"] for row in rows} == {"sad"}
        await other.execute(f"ALTER TABLE {table} {change}")
    await other.execute(f"ALTER TABLE {table} DROP c; DROP TYPE {table}_mood")
