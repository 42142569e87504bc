"""A bad road between client and pgfunnel, or a client that is no client."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket

import asyncpg
import pytest

from proxy.wire import messages
from tests.conftest import StartFunnel
from tests.funnel import Funnel
from tests.integration.observe import eventually, resident, until
from tests.integration.peer import Peer
from tests.misbehave import Cut, Misbehave, Way
from tests.postgres import USERS, Postgres, make_dsn

_CUT_OFF = (asyncpg.PostgresError, asyncpg.InterfaceError, ConnectionError, TimeoutError)


def road_dsn(road: Misbehave, funnel: Funnel) -> str:
    return make_dsn(road.host, road.port, "alice", USERS["alice"], funnel.upstream.database)


async def exercise(dsn: str) -> None:
    """Login, prepared statements, an error, a transaction, COPY both ways."""
    connection = await asyncpg.connect(dsn, timeout=20)
    assert await connection.fetchval("SELECT $1::text || 'ß'", "ä" * 40) == "ä" * 40 + "ß"
    with contextlib.suppress(asyncpg.DivisionByZeroError):
        await connection.fetchval("SELECT 1 / $1::int", 0)
    async with connection.transaction():
        await connection.execute("CREATE TEMP TABLE copied (n int) ON COMMIT DROP")
        await connection.copy_records_to_table("copied", records=[(n,) for n in range(100)])
        rows = await connection.fetch("SELECT n, repeat('y', n) FROM copied ORDER BY n")
        assert [(row[0], len(row[1])) for row in rows] == [(n, n) for n in range(100)]
    await connection.close()


@pytest.mark.parametrize("pure", [False, True])
@pytest.mark.parametrize("size", [1, 3, 7])
async def test_bytes_come_in_pieces(pgfunnel: StartFunnel, size: int, pure: bool) -> None:
    funnel = pgfunnel(default_pool_size=2, pure=pure)
    async with Misbehave(funnel.host, funnel.port) as road:
        road.split(size=size)
        await exercise(road_dsn(road, funnel))


@pytest.mark.parametrize("size", [1, 5])
async def test_bytes_come_in_pieces_from_postgres(
    pgfunnel: StartFunnel, postgres: Postgres, size: int
) -> None:
    async with Misbehave(postgres.host, postgres.port) as road:
        road.split(size=size)
        dsn = make_dsn(road.host, road.port, postgres.user, postgres.password, postgres.database)
        funnel = pgfunnel(upstream=dsn, default_pool_size=2)
        await asyncio.gather(*(exercise(funnel.dsn("alice")) for _ in range(3)))


async def test_a_client_that_stalls_harms_only_itself(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=2)
    async with Misbehave(funnel.host, funnel.port) as road:
        stalled = await asyncpg.connect(road_dsn(road, funnel))
        road.stall(Way.TO_CLIENT)
        query = asyncio.create_task(stalled.fetchval("SELECT sum(n) FROM generate_series(1, 9) n"))
        for _ in range(3):
            await exercise(funnel.dsn("alice"))
        assert not query.done()
        road.resume()
        assert await query == 45
        await stalled.close()


async def test_cuts_at_random_points(pgfunnel: StartFunnel) -> None:
    """In logins, pipelines and COPY, both ways: every server is clean and lent again."""
    funnel = pgfunnel(default_pool_size=2)
    others = funnel.upstream.client_backends("alice")
    dice = random.Random(7)
    async with Misbehave(funnel.host, funnel.port) as road:
        for _ in range(60):
            way, cut = dice.choice(list(Way)), dice.choice(list(Cut))
            road.cut_after(dice.randrange(1, 5000), way, cut)
            with contextlib.suppress(*_CUT_OFF):
                await exercise(road_dsn(road, funnel))
            road.behave()
    await exercise(funnel.dsn("alice"))
    sql = "SELECT 1 FROM pg_stat_activity WHERE usename = 'alice' AND state <> 'idle'"
    await eventually(lambda: not funnel.upstream.psql(sql))
    assert funnel.metrics()['pgfunnel_clients{state="active"}'] == 0
    assert funnel.upstream.client_backends("alice") <= others + 2


MIB = 1 << 20


def logged_in(funnel: Funnel) -> Peer:
    peer = Peer(funnel.host, funnel.port, timeout=30)
    return peer.log_in("alice", funnel.upstream.database, USERS["alice"])


@pytest.mark.parametrize("pure", [False, True])
def test_a_slow_reader_stops_its_server(pgfunnel: StartFunnel, pure: bool) -> None:
    """350 MB are on their way to a client that reads none of them."""
    funnel = pgfunnel(default_pool_size=2, pure=pure)
    with logged_in(funnel) as slow, logged_in(funnel) as other:
        other.query("SELECT 1")
        before = resident(funnel.pid)
        slow.send(messages.query(b"SELECT repeat('x', 1000000) FROM generate_series(1, 350)"))
        blocked = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'ClientWrite'"
        until(lambda: funnel.upstream.psql(blocked + " AND usename = 'alice'"))
        for n in range(50):
            assert other.rows(f"SELECT {n}") == [[str(n).encode()]]
        assert resident(funnel.pid) - before < 20 * MIB
        assert slow.message()[0] == b"T"
        for _ in range(350):
            assert len(slow.message()[1]) == 1_000_006
        assert slow.message() == (b"C", b"SELECT 350\0")
        assert resident(funnel.pid) - before < 20 * MIB


def test_a_slow_reader_that_dies_gives_its_server_back(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=1)
    slow = logged_in(funnel)
    pid = slow.rows("SELECT pg_backend_pid()")
    slow.send(messages.query(b"SELECT repeat('x', 1000000) FROM generate_series(1, 350)"))
    blocked = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'ClientWrite'"
    until(lambda: funnel.upstream.psql(blocked + " AND usename = 'alice'"))
    slow.reset()
    with logged_in(funnel) as next_one:
        assert next_one.rows("SELECT pg_backend_pid()") == pid


def test_a_row_of_200_mb_passes_through(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=1)
    size = 200_000_000
    with logged_in(funnel) as peer:
        before = resident(funnel.pid)
        peer.send(messages.query(b"SELECT repeat('x', %d)" % size))
        most, left = 0, size
        assert peer.message()[0] == b"T"
        assert peer.octets(11)[:1] == b"D"
        while left:
            left -= len(peer.octets(min(left, 4 * MIB)))
            most = max(most, resident(funnel.pid))
        assert peer.message() == (b"C", b"SELECT 1\0")
        assert most - before < 20 * MIB


def test_a_statement_of_100_mb_passes_through(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=1)
    with logged_in(funnel) as peer:
        before = resident(funnel.pid)
        assert peer.rows(f"SELECT length('{'x' * 100_000_000}')") == [[b"100000000"]]
        assert resident(funnel.pid) - before < 20 * MIB


def test_a_server_that_does_not_read_stops_its_client(
    pgfunnel: StartFunnel, postgres: Postgres
) -> None:
    """COPY rows that nobody takes pile up with the client, not here."""
    funnel = pgfunnel(default_pool_size=2)
    postgres.psql("CREATE TABLE sunk (words text); GRANT ALL ON sunk TO alice")
    with logged_in(funnel) as peer, logged_in(funnel) as other:
        before = resident(funnel.pid)
        other.query("BEGIN; LOCK sunk")
        peer.send(messages.query(b"INSERT INTO sunk VALUES ('waits'); COPY sunk FROM STDIN"))
        until(lambda: postgres.psql("SELECT 1 FROM pg_locks WHERE NOT granted"))
        peer.socket.settimeout(1)
        sent, chunk = 0, messages.message(b"d", b"x" * 99_999 + b"\n")
        with contextlib.suppress(TimeoutError):
            while sent < 100 * MIB:
                sent += peer.socket.send(chunk)
        assert sent < 100 * MIB
        assert resident(funnel.pid) - before < 20 * MIB
        assert other.rows("SELECT 1") == [[b"1"]]
    postgres.psql("DROP TABLE sunk")


def garbage(dice: random.Random) -> bytes:
    """Noise, or something that begins well."""
    noise = dice.randbytes(dice.randrange(60))
    start = messages.startup([(b"user", b"alice"), (b"database", b"postgres")])
    beginnings = [
        b"",
        start,
        messages.ssl_request(),
        start[:9],
        b"\0\0\0\x50",
        b"GET / HTTP/1.1\r\n",
    ]
    cancel = messages.cancel_request(dice.getrandbits(31), dice.randbytes(4))
    body = messages.message(dice.randbytes(1), noise)
    return dice.choice([*beginnings, cancel]) + dice.choice([noise, body, b""])


@pytest.mark.parametrize("pure", [False, True])
def test_garbage_never_kills_it(pgfunnel: StartFunnel, pure: bool) -> None:
    funnel = pgfunnel(pure=pure, log_level="warning")
    dice = random.Random(11)
    for _ in range(3000 if pure else 10_000):
        peer = socket.create_connection((funnel.host, funnel.port), timeout=10)
        with contextlib.suppress(ConnectionError):
            peer.sendall(garbage(dice))
            if dice.random() < 0.2:
                peer.shutdown(socket.SHUT_WR)
                peer.recv(100)
        peer.close()
    with logged_in(funnel) as client:
        assert client.rows("SELECT 1") == [[b"1"]]
    assert "Traceback" not in funnel.log()
    until(lambda: funnel.metrics()['pgfunnel_clients{state="login"}'] == 0)


def test_garbage_after_the_login(pgfunnel: StartFunnel) -> None:
    """A client that has a server and talks nonsense loses its connection; the server is clean."""
    funnel = pgfunnel(default_pool_size=1, log_level="warning")
    dice = random.Random(5)
    for _ in range(60):
        with logged_in(funnel) as peer:
            if dice.random() < 0.5:
                peer.query("BEGIN")
            with contextlib.suppress(ConnectionError):
                kind = dice.choice(
                    [b"Q", b"P", b"B", b"D", b"C", b"E", b"F", b"d", dice.randbytes(1)]
                )
                peer.send(messages.message(kind, dice.randbytes(dice.randrange(40))))
                peer.send(dice.randbytes(dice.randrange(40)), messages.SYNC)
    with logged_in(funnel) as client:
        assert client.rows("SELECT pg_current_xact_id_if_assigned() IS NULL") == [[b"t"]]
    assert "Traceback" not in funnel.log()
