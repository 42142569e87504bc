"""The proxy that misbehaves does what the fault tests ask of it, in front of a real Postgres."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.misbehave import Cut, Misbehave, Way
from tests.postgres import Postgres


@pytest.fixture
async def road(postgres: Postgres) -> AsyncIterator[Misbehave]:
    async with Misbehave(postgres.host, postgres.port) as road:
        yield road


async def connect(road: Misbehave, postgres: Postgres) -> asyncpg.Connection:
    return await asyncpg.connect(
        host=road.host,
        port=road.port,
        user=postgres.user,
        password=postgres.password,
        database=postgres.database,
        ssl=False,
    )


async def test_a_well_behaved_road_changes_nothing(road: Misbehave, postgres: Postgres) -> None:
    connection = await connect(road, postgres)
    assert await connection.fetchval("SELECT repeat('x', 1000000)") == "x" * 1_000_000
    assert road.open == 1
    assert road.passed(Way.TO_CLIENT) > 1_000_000
    await connection.close()


async def test_single_bytes_arrive_whole(road: Misbehave, postgres: Postgres) -> None:
    road.split()
    connection = await connect(road, postgres)
    assert await connection.fetchval("SELECT $1::text", "äöü" * 300) == "äöü" * 300
    await connection.close()


async def test_a_stall_lasts_until_it_is_lifted(road: Misbehave, postgres: Postgres) -> None:
    connection = await connect(road, postgres)
    road.stall(Way.TO_CLIENT)
    before = road.passed(Way.TO_CLIENT)
    query = asyncio.create_task(connection.fetchval("SELECT 1"))
    assert not (await asyncio.wait([query], timeout=0.2))[0]
    assert road.passed(Way.TO_CLIENT) == before
    road.resume()
    assert await query == 1
    await connection.close()


async def test_a_delay_delays(road: Misbehave, postgres: Postgres) -> None:
    connection = await connect(road, postgres)
    road.delay(0.1, Way.TO_SERVER)
    began = asyncio.get_running_loop().time()
    await connection.execute("SELECT 1")
    assert asyncio.get_running_loop().time() - began >= 0.1
    road.behave()
    await connection.close()


@pytest.mark.parametrize("cut, seen", [(Cut.RST, ConnectionResetError), (Cut.FIN, None)])
async def test_a_cut_is_seen_as_what_it_is(
    road: Misbehave, cut: Cut, seen: type[Exception] | None
) -> None:
    reader, writer = await asyncio.open_connection(road.host, road.port)
    writer.write(b"\0\0\0\x08\x04\xd2\x16\x2f")  # SSLRequest
    await reader.readexactly(1)
    await road.cut(cut)
    if seen is None:
        assert await reader.read() == b""
    else:
        with pytest.raises(seen):
            await reader.read()
    assert road.open == 0
    writer.close()


async def test_a_cut_falls_on_the_byte(road: Misbehave, postgres: Postgres) -> None:
    connection = await connect(road, postgres)
    before = road.passed(Way.TO_CLIENT)
    road.cut_after(7, Way.TO_CLIENT)
    with pytest.raises((asyncpg.PostgresConnectionError, ConnectionError)):
        await connection.fetchval("SELECT repeat('x', 100)")
    assert road.passed(Way.TO_CLIENT) == before + 7


async def test_new_connections_are_refused_and_then_not(
    road: Misbehave, postgres: Postgres
) -> None:
    road.refuse()
    with pytest.raises((OSError, asyncpg.PostgresConnectionError)):
        await connect(road, postgres)
    road.behave()
    connection = await connect(road, postgres)
    assert await connection.fetchval("SELECT 1") == 1
    assert road.accepted == 2
    await connection.close()
