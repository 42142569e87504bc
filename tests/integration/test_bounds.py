"""Postgres never sees more connections than allowed, whatever clients do."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import Sequence

import asyncpg
import pytest

from proxy.wire import messages
from tests.conftest import StartFunnel, StartPostgres
from tests.funnel import Funnel
from tests.integration.observe import Watch, eventually, failed_logins, pool_metric
from tests.postgres import Postgres

ALLOWED = 5
CLIENTS = 120
_EXPECTED = (
    asyncpg.QueryCanceledError,
    asyncpg.ConnectionDoesNotExistError,
    asyncpg.InterfaceError,
    TimeoutError,
)


def limited(start_postgres: StartPostgres, *limits: str) -> Postgres:
    """A Postgres that itself refuses what would be one connection too many."""
    postgres = start_postgres(max_connections=30)
    for limit in limits:
        postgres.psql(f"ALTER {limit}")
    return postgres


async def storm(funnel: Funnel, users: Sequence[str], visits: int = 2) -> None:
    """Clients that log in, misbehave in every way they know, and vanish."""

    async def visitor(n: int) -> None:
        dice = random.Random(n)
        for _ in range(visits):
            with contextlib.suppress(*_EXPECTED):
                await dice.choice(_MISDEEDS)(funnel, users[n % len(users)], dice)

    await asyncio.gather(*map(visitor, range(CLIENTS)))


async def connect(funnel: Funnel, user: str) -> asyncpg.Connection:
    return await asyncpg.connect(funnel.dsn(user), timeout=60)


def vanish(connection: asyncpg.Connection) -> None:
    """As a killed process: RST and not a word."""
    sock = connection._transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.terminate()


async def good(funnel: Funnel, user: str, dice: random.Random) -> None:
    connection = await connect(funnel, user)
    for n in range(3):
        assert await connection.fetchval("SELECT $1::int", n) == n
    await connection.close()


async def leaves_a_transaction_open(funnel: Funnel, user: str, dice: random.Random) -> None:
    connection = await connect(funnel, user)
    await connection.execute("BEGIN; SELECT pg_advisory_xact_lock(random()::int)")
    vanish(connection)


async def vanishes_in_mid_query(funnel: Funnel, user: str, dice: random.Random) -> None:
    connection = await connect(funnel, user)
    query = asyncio.ensure_future(connection.execute("SELECT pg_sleep(0.3)"))
    await asyncio.wait([query], timeout=dice.random() / 10)
    vanish(connection)
    await query


async def cancels(funnel: Funnel, user: str, dice: random.Random) -> None:
    connection = await connect(funnel, user)
    with contextlib.suppress(TimeoutError):
        await connection.execute("SELECT pg_sleep(1)", timeout=dice.random() / 5)
    await connection.execute("SELECT 1")
    vanish(connection)


async def vanishes_in_mid_copy(funnel: Funnel, user: str, dice: random.Random) -> None:
    connection = await connect(funnel, user)
    await connection.execute("BEGIN; CREATE TEMP TABLE c (n int) ON COMMIT DROP")

    async def rows() -> object:
        for n in range(100):
            yield b"%d\n" % n
        vanish(connection)
        yield b"1\n"

    with contextlib.suppress(AttributeError):  # asyncpg's word for a transport that is gone
        await connection.copy_to_table("c", source=rows())


async def vanishes_in_mid_login(funnel: Funnel, user: str, dice: random.Random) -> None:
    _, writer = await asyncio.open_connection(funnel.host, funnel.port)
    pairs = [(b"user", user.encode()), (b"database", funnel.upstream.database.encode())]
    packet = messages.startup(pairs)
    writer.write(packet[: dice.randrange(len(packet) + 1)])
    await writer.drain()
    writer.transport.abort()


_MISDEEDS = [
    good,
    leaves_a_transaction_open,
    vanishes_in_mid_query,
    cancels,
    vanishes_in_mid_copy,
    vanishes_in_mid_login,
]


async def settle(funnel: Funnel, postgres: Postgres, users: Sequence[str]) -> None:
    """All clients have gone: soon nothing runs, and no transaction is open."""
    busy = "SELECT pid, state, query FROM pg_stat_activity WHERE usename = ANY(%s)"
    busy += " AND state <> 'idle'"
    await eventually(lambda: not postgres.psql(busy, list(users)), 15)
    for user in users:
        assert pool_metric(funnel, "pgfunnel_pool_clients", user) == 0


@pytest.mark.parametrize("pure", [False, True])
async def test_the_size_of_a_pool(
    start_postgres: StartPostgres, pgfunnel: StartFunnel, pure: bool
) -> None:
    postgres = limited(start_postgres, f"ROLE alice CONNECTION LIMIT {ALLOWED}")
    funnel = pgfunnel(postgres, default_pool_size=ALLOWED, pure=pure)
    with Watch(postgres, "alice") as watch:
        await storm(funnel, ["alice"])
        await settle(funnel, postgres, ["alice"])
    assert watch.most["alice"] == ALLOWED
    assert watch.looks > 50
    assert failed_logins(funnel) == 0
    assert "too many connections" not in funnel.log()


async def test_max_db_connections(start_postgres: StartPostgres, pgfunnel: StartFunnel) -> None:
    # A limit of the database's own would count those who watch, too.
    postgres = limited(start_postgres, "ROLE alice CONNECTION LIMIT 4")
    postgres.psql("ALTER ROLE bob CONNECTION LIMIT 4")
    funnel = pgfunnel(postgres, default_pool_size=4, max_db_connections=ALLOWED)
    with Watch(postgres, "alice", "bob") as watch:
        await storm(funnel, ["alice", "bob"])
        await settle(funnel, postgres, ["alice", "bob"])
    # The fifth place may be on its way from one pool to the other whenever we look.
    assert ALLOWED - 1 <= watch.most[""] <= ALLOWED
    assert min(watch.most["alice"], watch.most["bob"]) > 0
    assert failed_logins(funnel) == failed_logins(funnel, "bob") == 0


async def test_max_user_connections(start_postgres: StartPostgres, pgfunnel: StartFunnel) -> None:
    """Over all databases: the two pools of one user share it."""
    postgres = limited(start_postgres, "ROLE alice CONNECTION LIMIT 3")
    open_upstream = postgres.dsn.removesuffix("/postgres")
    funnel = pgfunnel(postgres, upstream=open_upstream, default_pool_size=3, max_user_connections=3)

    async def work(n: int) -> None:
        database = ("postgres", "other")[n % 2]
        connection = await asyncpg.connect(funnel.dsn("alice", database=database), timeout=60)
        for _ in range(3):
            assert await connection.fetchval("SELECT current_database()") == database
        vanish(connection) if n % 3 else await connection.close()

    with Watch(postgres, "alice", "bob") as watch:
        await asyncio.gather(*map(work, range(60)), *(good_bob(funnel) for _ in range(20)))
    assert watch.most["alice"] == 3
    assert 0 < watch.most["bob"] <= 3
    assert failed_logins(funnel) == 0


async def good_bob(funnel: Funnel) -> None:
    await good(funnel, "bob", random.Random(1))
