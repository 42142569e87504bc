"""asyncpg, with its defaults: named prepared statements, a statement cache, a reset query."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator

import asyncpg
import pytest


@pytest.fixture
async def connection(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(dsn)
    yield connection
    await connection.close()


async def test_prepared_statements_outside_of_transactions(connection: asyncpg.Connection) -> None:
    statement = await connection.prepare("SELECT $1::int + 1")
    for n in range(30):
        assert await statement.fetchval(n) == n + 1
        assert await connection.fetchval("SELECT $1::text || 'x'", str(n)) == f"{n}x"


async def test_prepared_statements_inside_of_transactions(connection: asyncpg.Connection) -> None:
    async with connection.transaction():
        inside = await connection.prepare("SELECT $1::int * 2")
        assert await inside.fetchval(4) == 8
    assert await inside.fetchval(5) == 10
    failing = connection.transaction()
    await failing.start()
    await connection.prepare("SELECT $1::int * 3")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await connection.fetchval("SELECT 1 / 0")
    await failing.rollback()
    assert await connection.fetchval("SELECT $1::int * 3", 3) == 9


async def test_more_statements_than_a_server_keeps(connection: asyncpg.Connection) -> None:
    statements = [await connection.prepare(f"SELECT {n} + $1::int") for n in range(250)]
    for n, statement in enumerate(statements):
        assert await statement.fetchval(1) == n + 1


async def test_without_a_statement_cache(dsn: str) -> None:
    connection = await asyncpg.connect(dsn, statement_cache_size=0)
    for n in range(20):
        assert await connection.fetchval("SELECT $1::int", n) == n
    await connection.close()


async def test_copy_both_ways(connection: asyncpg.Connection) -> None:
    rows = [(n, f"row {n}") for n in range(20_000)]
    out = io.BytesIO()
    async with connection.transaction():
        await connection.execute("CREATE TEMP TABLE copied (n int, words text) ON COMMIT DROP")
        assert await connection.copy_records_to_table("copied", records=rows) == "COPY 20000"
        await connection.copy_from_table("copied", output=out, format="csv")
    assert out.getvalue().decode().splitlines() == [f"{n},{words}" for n, words in rows]


async def test_copy_that_fails_leaves_the_connection_whole(connection: asyncpg.Connection) -> None:
    async with connection.transaction():
        await connection.execute("CREATE TEMP TABLE ints (n int) ON COMMIT DROP")
        with pytest.raises(asyncpg.InvalidTextRepresentationError):
            async with connection.transaction():
                await connection.copy_to_table("ints", source=io.BytesIO(b"1\nno\n"), format="csv")
        assert await connection.fetchval("SELECT count(*) FROM ints") == 0
    assert await connection.fetchval("SELECT 1") == 1


async def test_a_timeout_cancels_the_query_alone(connection: asyncpg.Connection) -> None:
    for _ in range(5):
        with pytest.raises(TimeoutError):
            await connection.fetchval("SELECT pg_sleep(20)", timeout=0.05)
        assert await connection.fetchval("SELECT 1") == 1


async def test_cursor(connection: asyncpg.Connection) -> None:
    async with connection.transaction():
        many = connection.cursor("SELECT generate_series(1, 1000) AS n", prefetch=7)
        seen = [row["n"] async for row in many]
        cursor = await connection.cursor("SELECT generate_series(1, 10)")
        assert len(await cursor.fetch(3)) == 3
        await cursor.forward(5)
        assert [row[0] for row in await cursor.fetch(5)] == [9, 10]
    assert seen == list(range(1, 1001))


async def test_executemany(connection: asyncpg.Connection) -> None:
    async with connection.transaction():
        await connection.execute("CREATE TEMP TABLE many (n int UNIQUE) ON COMMIT DROP")
        await connection.executemany("INSERT INTO many VALUES ($1)", [(n,) for n in range(5000)])
        assert await connection.fetchval("SELECT sum(n) FROM many") == sum(range(5000))
        with pytest.raises(asyncpg.UniqueViolationError):
            async with connection.transaction():
                await connection.executemany("INSERT INTO many VALUES ($1)", [(-1,), (7,), (-2,)])
        assert await connection.fetchval("SELECT count(*) FROM many") == 5000


async def test_errors_are_those_of_postgres(connection: asyncpg.Connection) -> None:
    with pytest.raises(asyncpg.UndefinedTableError) as missing:
        await connection.fetch("SELECT * FROM no_such_table")
    assert missing.value.position == "15"
    with pytest.raises(asyncpg.PostgresSyntaxError):
        await connection.prepare("SELEKT 1")
    transaction = connection.transaction()
    await transaction.start()
    with pytest.raises(asyncpg.DivisionByZeroError):
        await connection.execute("SELECT 1 / 0")
    with pytest.raises(asyncpg.InFailedSQLTransactionError):
        await connection.execute("SELECT 1")
    await transaction.rollback()
    assert await connection.fetchval("SELECT 1") == 1


async def test_savepoints(connection: asyncpg.Connection) -> None:
    async with connection.transaction():
        with contextlib.suppress(asyncpg.DivisionByZeroError):
            async with connection.transaction():
                await connection.fetchval("SELECT 1 / $1::int", 0)
        assert await connection.fetchval("SELECT 10 / $1::int", 5) == 2


async def test_a_pool_with_its_reset_query(dsn: str) -> None:
    async def work(n: int) -> None:
        async with pool.acquire() as connection, connection.transaction():
            assert await connection.fetchval("SELECT $1::int", n) == n

    async with asyncpg.create_pool(dsn, min_size=2, max_size=8) as pool:
        await asyncio.gather(*map(work, range(100)))


async def test_a_hundred_at_once(funnel_dsn: str) -> None:
    async def work(n: int) -> int:
        connection = await asyncpg.connect(funnel_dsn, timeout=30)
        async with connection.transaction():
            first = await connection.fetchval("SELECT $1::int", n)
            backend = await connection.fetchval("SELECT pg_backend_pid()")
            assert backend == await connection.fetchval("SELECT pg_backend_pid()")
        rows = await connection.fetch("SELECT $1::int + i FROM generate_series(1, 50) i", n)
        await connection.close()
        assert [row[0] for row in rows] == list(range(n + 1, n + 51))
        return int(first)

    assert await asyncio.gather(*map(work, range(100))) == list(range(100))
