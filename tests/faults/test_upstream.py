"""Postgres restarts, dies, loses backends, or cannot be reached."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from pathlib import Path

import asyncpg
import pytest

from proxy.wire import messages
from tests.conftest import StartFunnel
from tests.funnel import Funnel
from tests.integration.observe import failed_logins, pool_metric, until
from tests.integration.peer import Peer
from tests.misbehave import Misbehave, Way
from tests.postgres import USERS, Postgres, make_dsn

LOST = ("57P01", "57P02", "57P03", "08006")


def logged_in(funnel: Funnel) -> Peer:
    peer = Peer(funnel.host, funnel.port, timeout=20)
    return peer.log_in("alice", funnel.upstream.database, USERS["alice"])


def running(postgres: Postgres, words: str) -> bool:
    sql = "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query LIKE %s"
    return bool(postgres.psql(sql, f"{words}%"))


@pytest.mark.parametrize("violently", [False, True])
def test_waiters_wait_out_a_short_gap(
    pgfunnel: StartFunnel, own_postgres: Postgres, violently: bool
) -> None:
    server = own_postgres.server
    assert server is not None
    funnel = pgfunnel(own_postgres, upstream_grace=20, default_pool_size=3)
    peers = [logged_in(funnel) for _ in range(10)]
    for peer in peers:
        peer.query("SELECT 1")
    server.kill() if violently else server.halt()
    until(lambda: pool_metric(funnel, "pgfunnel_servers", state="idle") == 0)
    for peer in peers:
        peer.send(messages.query(b"SELECT 'after'"))
    until(lambda: pool_metric(funnel, "pgfunnel_pool_waiters") == 10)
    server.start()
    for peer in peers:
        assert [kind for kind, _ in peer.until(b"Z")] == [b"T", b"D", b"C", b"Z"]
        peer.socket.close()


def test_logins_that_fail_together_keep_nobody_away(
    pgfunnel: StartFunnel, own_postgres: Postgres
) -> None:
    """All that may run side by side fail in one moment: a short gap is a short one all the same."""
    server = own_postgres.server
    assert server is not None
    funnel = pgfunnel(own_postgres, upstream_grace=60, max_server_logins=8)
    peers = [logged_in(funnel) for _ in range(20)]
    own_postgres.psql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'alice'"
    )
    until(lambda: pool_metric(funnel, "pgfunnel_servers", state="idle") == 0)
    os.kill(server.pid, signal.SIGSTOP)
    for peer in peers:
        peer.send(messages.query(b"SELECT 'after'"))
    until(lambda: pool_metric(funnel, "pgfunnel_servers", state="connecting") == 8)
    server.kill()
    until(lambda: failed_logins(funnel) >= 8)
    server.start()
    back = time.monotonic()
    for peer in peers:
        assert [kind for kind, _ in peer.until(b"Z")] == [b"T", b"D", b"C", b"Z"]
        peer.socket.close()
    assert time.monotonic() - back < 4


def test_a_long_gap_is_told_after_the_grace(pgfunnel: StartFunnel, own_postgres: Postgres) -> None:
    server = own_postgres.server
    assert server is not None
    funnel = pgfunnel(own_postgres, upstream_grace=1)
    with logged_in(funnel) as early, logged_in(funnel) as late:
        early.query("SELECT 1")
        server.halt()
        until(lambda: pool_metric(funnel, "pgfunnel_servers", state="idle") == 0)
        began = time.monotonic()
        early.send(messages.query(b"SELECT 1"))
        told = early.error()
        assert told["C"] == "08001"
        assert f"{own_postgres.host}:{own_postgres.port}" in told["M"]
        assert 0.5 < time.monotonic() - began < 5
        began = time.monotonic()
        late.send(messages.query(b"SELECT 1"))
        assert late.error()["C"] == "08001"
        assert time.monotonic() - began < 1
    server.start()

    def served() -> bool:
        with logged_in(funnel) as again:
            again.send(messages.query(b"SELECT 1"))
            return again.message()[0] == b"T"

    until(served)


def test_idle_servers_that_died_are_noticed(pgfunnel: StartFunnel, own_postgres: Postgres) -> None:
    funnel = pgfunnel(own_postgres, default_pool_size=10)
    peers = [logged_in(funnel) for _ in range(50)]
    for peer in peers[:10]:
        peer.query("BEGIN")
    for peer in peers[:10]:
        peer.query("COMMIT")
    sql = "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'alice'"
    pids = [int(row[0]) for row in own_postgres.psql(sql)]
    assert len(pids) == 10
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
    for peer in peers:
        peer.send(messages.query(b"SELECT 1"))
    for peer in peers:
        assert [kind for kind, _ in peer.until(b"Z")] == [b"T", b"D", b"C", b"Z"]
        peer.socket.close()


@pytest.mark.parametrize("in_transaction", [False, True])
def test_a_backend_killed_in_mid_query(
    pgfunnel: StartFunnel, own_postgres: Postgres, in_transaction: bool
) -> None:
    funnel = pgfunnel(own_postgres, default_pool_size=1)
    with logged_in(funnel) as peer, logged_in(funnel) as next_one:
        if in_transaction:
            peer.query("BEGIN")
        peer.send(messages.query(b"SELECT pg_sleep(30)"))
        until(lambda: running(own_postgres, "SELECT pg_sleep(30)"))
        next_one.send(messages.query(b"SELECT 1"))
        sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'alice'"
        own_postgres.psql(sql)
        assert peer.error()["C"] == "57P01"
        assert peer.ended()
        assert [kind for kind, _ in next_one.until(b"Z")] == [b"T", b"D", b"C", b"Z"]


@pytest.mark.parametrize("idle_in_transaction", [False, True])
def test_postgres_dies_under_its_clients(
    pgfunnel: StartFunnel, own_postgres: Postgres, idle_in_transaction: bool
) -> None:
    assert own_postgres.server is not None
    funnel = pgfunnel(own_postgres)
    with logged_in(funnel) as peer:
        peer.query("BEGIN")
        if not idle_in_transaction:
            peer.send(messages.query(b"SELECT pg_sleep(30)"))
            until(lambda: running(own_postgres, "SELECT pg_sleep(30)"))
        own_postgres.server.kill()
        assert peer.error()["C"] in LOST
        assert peer.ended()


def test_a_restart_under_load(pgfunnel: StartFunnel, own_postgres: Postgres) -> None:
    """Clients in mid-query may lose it; whoever tries again is served, and nobody hangs."""
    server = own_postgres.server
    assert server is not None
    funnel = pgfunnel(own_postgres, upstream_grace=20, default_pool_size=5)
    restarted = threading.Event()
    served = []

    async def work(n: int) -> None:
        while True:
            after = restarted.is_set()
            try:
                connection = await asyncpg.connect(funnel.dsn("alice"), timeout=20)
                await connection.fetchval("SELECT pg_sleep(0.01)", timeout=20)
                await connection.close(timeout=5)
            except (asyncpg.PostgresConnectionError, asyncpg.AdminShutdownError,
                    asyncpg.CannotConnectNowError, ConnectionError,
                    asyncpg.InternalClientError):  # fmt: skip
                # The last is asyncpg's word for a FATAL between Parse and its answer.
                continue
            if after:
                served.append(n)
                return

    async def main() -> None:
        workers = asyncio.gather(*map(work, range(30)))
        for _ in range(2):
            before = pool_metric(funnel, "pgfunnel_transactions_total")
            await asyncio.to_thread(
                until,
                lambda: pool_metric(funnel, "pgfunnel_transactions_total") > before + 20,  # noqa: B023
            )
            await asyncio.to_thread(server.restart)
        restarted.set()
        await workers

    asyncio.run(main())
    assert sorted(served) == list(range(30))


async def test_a_postgres_that_does_not_answer(pgfunnel: StartFunnel, postgres: Postgres) -> None:
    """The login is given up after server_connect_timeout, its place is free again."""
    async with Misbehave(postgres.host, postgres.port) as road:
        dsn = make_dsn(road.host, road.port, postgres.user, postgres.password, postgres.database)
        funnel = pgfunnel(
            upstream=dsn, server_connect_timeout=0.3, upstream_grace=0.5, default_pool_size=1
        )
        road.stall(Way.TO_CLIENT)
        with pytest.raises(asyncpg.PostgresError, match="timed out") as told:
            await asyncpg.connect(funnel.dsn("alice"), timeout=10)
        assert told.value.sqlstate == "08001"
        road.behave()
        await asyncio.to_thread(until, lambda: road.open == 0)
        connection = await connect_again(funnel)
        assert await connection.fetchval("SELECT 1") == 1
        await connection.close()


async def connect_again(funnel: Funnel) -> asyncpg.Connection:
    """Until the backoff after the failures lets one in."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await asyncpg.connect(funnel.dsn("alice"))
            except asyncpg.PostgresError:
                await asyncio.sleep(0.05)


async def test_a_server_that_has_said_its_last_word_is_lent_to_nobody(
    pgfunnel: StartFunnel, postgres: Postgres
) -> None:
    """The end of the connection comes later; who had it then would be left without a word."""
    farewell = {"S": "FATAL", "V": "FATAL", "C": "57P01", "M": "terminating connection"}
    async with Misbehave(postgres.host, postgres.port) as road:
        dsn = make_dsn(road.host, road.port, postgres.user, postgres.password, postgres.database)
        funnel = pgfunnel(upstream=dsn, default_pool_size=1)
        connection = await asyncpg.connect(funnel.dsn("alice"))
        before = await connection.fetchval("SELECT pg_backend_pid()", timeout=10)
        await road.inject(messages.error_fields(farewell.items()), Way.TO_CLIENT)
        closed = 'pgfunnel_closes_total{reason="server_closed",side="server"}'
        await asyncio.to_thread(until, lambda: funnel.metrics().get(closed) == 1.0)
        assert await connection.fetchval("SELECT pg_backend_pid()", timeout=10) != before
        await connection.close()


async def test_a_road_to_postgres_that_is_cut(pgfunnel: StartFunnel, postgres: Postgres) -> None:
    async with Misbehave(postgres.host, postgres.port) as road:
        dsn = make_dsn(road.host, road.port, postgres.user, postgres.password, postgres.database)
        funnel = pgfunnel(upstream=dsn, default_pool_size=2)
        connection = await asyncpg.connect(funnel.dsn("alice"))
        await connection.fetchval("SELECT 1")
        for size in (0, 1, 5, 17, 100, 1000):
            road.cut_after(size + 1, Way.TO_CLIENT)
            with pytest.raises((asyncpg.PostgresConnectionError, ConnectionError)):
                await connection.fetchval("SELECT repeat('x', 5000)", timeout=10)
            road.behave()
            connection = await asyncpg.connect(funnel.dsn("alice"))
            assert await connection.fetchval("SELECT 1", timeout=10) == 1
        await connection.close()
