"""Who gets a server, when, and for how long; who is refused."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from proxy.session.wording import digest, normalised
from proxy.wire import messages
from tests.conftest import StartFunnel
from tests.funnel import Funnel
from tests.integration.observe import eventually, until, waiters
from tests.integration.peer import Peer
from tests.postgres import USERS, Postgres
from tests.wireclient import SYNC, Wire, bind, execute, parse

PID = "SELECT pg_backend_pid()"


@asynccontextmanager
async def client(funnel: Funnel, user: str = "alice") -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(funnel.dsn(user), timeout=10)
    try:
        yield connection
    finally:
        await connection.close(timeout=5)


def logged_in(funnel: Funnel, user: str = "alice") -> Peer:
    return Peer(funnel.host, funnel.port).log_in(user, funnel.upstream.database, USERS[user])


async def test_waiters_are_served_in_order(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=1)
    served: list[int] = []

    async def wait_for_it(n: int, connection: asyncpg.Connection) -> None:
        await connection.execute(f"SELECT {n}")
        served.append(n)

    async with client(funnel) as holder:
        connections = [await asyncpg.connect(funnel.dsn("alice")) for _ in range(12)]
        await holder.execute("BEGIN")
        tasks = []
        for n, connection in enumerate(connections):
            tasks.append(asyncio.create_task(wait_for_it(n, connection)))
            await eventually(lambda: waiters(funnel) == n + 1)  # noqa: B023 - done within the turn
        assert not served
        await holder.execute("COMMIT")
        await asyncio.gather(*tasks)
        for connection in connections:
            await connection.close()
    assert served == list(range(12))


async def test_a_waiter_that_leaves_is_passed_over(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=1)
    async with client(funnel) as holder, client(funnel) as second:
        gone = logged_in(funnel)
        await holder.execute("BEGIN")
        gone.send(messages.query(b"SELECT 'never seen'"))
        await eventually(lambda: waiters(funnel) == 1)
        query = asyncio.create_task(second.fetchval("SELECT 'served'"))
        await eventually(lambda: waiters(funnel) == 2)
        gone.reset()
        await eventually(lambda: waiters(funnel) == 1)
        await holder.execute("COMMIT")
        assert await query == "served"


def test_query_wait_timeout(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=1, query_wait_timeout=0.5)
    with logged_in(funnel) as holder, logged_in(funnel) as late:
        holder.query("BEGIN")
        began = time.monotonic()
        late.send(messages.query(b"SELECT 1"))
        refused = late.error()
        assert 0.4 < time.monotonic() - began < 3
        assert refused["C"] == "53300"
        assert "query_wait_timeout" in refused["M"]
        assert late.ended()
        assert holder.rows("SELECT 1") == [[b"1"]]
    until(lambda: "wait_timeout" in funnel.log())
    assert funnel.metrics()['pgfunnel_refusals_total{sqlstate="53300"}'] == 1


def test_who_waited_in_vain_for_pinned_servers_is_told_so(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=1, query_wait_timeout=0.3)
    with logged_in(funnel) as holder, logged_in(funnel) as late:
        holder.query("LISTEN pinned_here")
        late.send(messages.query(b"SELECT 1"))
        assert "Clients hold 1 of its servers; /pins" in late.error()["H"]


def test_max_waiters(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=1, max_waiters=2)
    holder, first, second, third = (logged_in(funnel) for _ in range(4))
    with holder, first, second, third:
        holder.query("BEGIN")
        for n, waiter in enumerate((first, second), 1):
            waiter.send(messages.query(b"SELECT 1"))
            until(lambda: waiters(funnel) == n)  # noqa: B023 - done within the turn
        third.send(messages.query(b"SELECT 1"))
        refused = third.error()
        assert refused["C"] == "53300"
        assert "are waiting" in refused["M"]
        assert third.ended()
        holder.query("COMMIT")
        assert first.until(b"Z")[1][0] == second.until(b"Z")[1][0] == b"D"


async def test_max_client_conn(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(max_client_conn=2)
    async with client(funnel), client(funnel):
        with pytest.raises(asyncpg.TooManyConnectionsError, match="max_client_conn"):
            await asyncpg.connect(funnel.dsn("alice"))
    await eventually(lambda: funnel.metrics()['pgfunnel_clients{state="idle"}'] == 0)
    async with client(funnel) as again:
        assert await again.fetchval("SELECT 1") == 1


async def test_the_reserve(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=1, reserve_pool_size=1, reserve_pool_timeout=0.5)
    async with client(funnel) as holder, client(funnel) as second, client(funnel) as third:
        await holder.execute("BEGIN")
        began = time.monotonic()
        await second.execute("BEGIN")
        assert time.monotonic() - began > 0.4
        query = asyncio.create_task(third.fetchval("SELECT 1"))
        assert not (await asyncio.wait([query], timeout=0.8))[0]
        await second.execute("COMMIT")
        assert await query == 1
        await holder.execute("COMMIT")
    assert funnel.log().count("taking connection from reserve_pool") == 1


async def test_min_pool_size_is_kept(pgfunnel: StartFunnel, own_postgres: Postgres) -> None:
    funnel = pgfunnel(own_postgres, min_pool_size=3, server_idle_timeout=0.3)
    async with client(funnel) as connection:
        await connection.execute("SELECT 1")
    await eventually(lambda: own_postgres.client_backends("alice") == 3)
    pids = backends(own_postgres)
    await asyncio.sleep(1)
    assert backends(own_postgres) == pids
    terminate_idle(own_postgres, 2)
    await eventually(lambda: own_postgres.client_backends("alice") == 3)


def backends(postgres: Postgres) -> list[tuple[int]]:
    sql = "SELECT pid FROM pg_stat_activity WHERE usename = 'alice' ORDER BY pid"
    return postgres.psql(sql)


async def test_the_minimum_ages_too(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(min_pool_size=1, server_idle_timeout=0.3, server_lifetime=0.6)
    async with client(funnel) as connection:
        await connection.execute("SELECT 1")
    await eventually(lambda: "server lifetime over (age" in funnel.log())
    assert "server idle timeout" not in funnel.log()


def terminate_idle(postgres: Postgres, most: int) -> int:
    sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'alice' LIMIT %s"
    return len(postgres.psql(sql, most))


async def test_server_idle_timeout(pgfunnel: StartFunnel, own_postgres: Postgres) -> None:
    funnel = pgfunnel(own_postgres, server_idle_timeout=1.5)
    async with client(funnel) as connection:
        await connection.execute("SELECT 1")
        assert own_postgres.client_backends("alice") == 1
        await eventually(lambda: own_postgres.client_backends("alice") == 0)
        assert await connection.fetchval("SELECT 1") == 1
    assert "idle_timeout" in funnel.log()


async def test_server_lifetime(pgfunnel: StartFunnel) -> None:
    """An old server ends at a boundary, never in a transaction."""
    funnel = pgfunnel(default_pool_size=1, server_lifetime=0.5)
    async with client(funnel) as connection:
        await connection.execute("BEGIN")
        old = await connection.fetchval(PID)
        assert await connection.fetchval("SELECT pg_backend_pid() FROM pg_sleep(1)") == old
        await connection.execute("COMMIT")
        assert await connection.fetchval(PID) != old
    until(lambda: "lifetime" in funnel.log())


async def test_a_server_goes_from_hand_to_hand(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel()
    async with client(funnel) as one, client(funnel) as two:
        pids = {await c.fetchval(PID) for _ in range(10) for c in (one, two)}
    assert len(pids) == 1


LOCK = b"SELECT pg_advisory_xact_lock(7)"


def in_mid_transaction(peer: Peer) -> None:
    peer.query("INSERT INTO deaths VALUES (1)")


def in_mid_query(peer: Peer) -> None:
    peer.send(messages.query(b"INSERT INTO deaths SELECT 1 FROM pg_sleep(60)"))


def in_a_failed_transaction(peer: Peer) -> None:
    peer.query("SELECT 1 / 0")


def before_copy_in_begins(peer: Peer) -> None:
    peer.send(messages.query(b"COPY deaths FROM STDIN"))


def in_mid_copy_in(peer: Peer) -> None:
    peer.send(messages.query(b"COPY deaths FROM STDIN"))
    peer.until(b"G")
    peer.send(messages.message(b"d", b"1\n" * 100))


def in_mid_copy_out(peer: Peer) -> None:
    peer.send(messages.query(b"COPY (SELECT i FROM generate_series(1, 10000000) i) TO STDOUT"))
    peer.until(b"d")


def in_mid_result(peer: Peer) -> None:
    peer.send(messages.query(b"SELECT i FROM generate_series(1, 10000000) i"))
    peer.until(b"D")


def in_mid_pipeline(peer: Peer) -> None:
    parse = messages.parse(b"", b"INSERT INTO deaths SELECT 1 FROM pg_sleep(60)\0\0\0")
    bind = messages.message(b"B", b"\0\0" + bytes(6))
    execute = messages.message(b"E", b"\0" + bytes(4))
    peer.send(parse, bind, execute)


@pytest.mark.parametrize("goodbye", [Peer.reset, lambda peer: peer.socket.close()])
@pytest.mark.parametrize(
    "die",
    [
        in_mid_transaction,
        in_mid_query,
        in_a_failed_transaction,
        before_copy_in_begins,
        in_mid_copy_in,
        in_mid_copy_out,
        in_mid_result,
        in_mid_pipeline,
    ],
)
async def test_a_client_that_dies_costs_no_server(
    pool_of_one: Funnel,
    postgres: Postgres,
    die: Callable[[Peer], None],
    goodbye: Callable[[Peer], None],
) -> None:
    funnel = pool_of_one
    peer = logged_in(funnel)
    peer.query("BEGIN")
    (pid,) = peer.rows(PID)[0]
    peer.query(LOCK.decode())
    die(peer)
    goodbye(peer)
    async with client(funnel) as successor:
        assert await successor.fetchval(PID, timeout=10) == int(pid or b"")
        assert await successor.fetchval("SELECT count(*) FROM deaths") == 0
        assert await successor.fetchval("SELECT pg_current_xact_id_if_assigned() IS NULL")
    locks = "SELECT * FROM pg_locks WHERE locktype = 'advisory' AND pid = %s"
    assert not postgres.psql(locks, int(pid or b""))


@pytest.fixture
def pool_of_one(pgfunnel: StartFunnel, postgres: Postgres) -> Iterator[Funnel]:
    postgres.psql("CREATE TABLE deaths (n int); GRANT ALL ON deaths TO alice")
    funnel = pgfunnel(default_pool_size=1)
    yield funnel
    funnel.stop()
    postgres.psql("DROP TABLE deaths")


async def test_half_a_message_costs_the_server_and_no_more(
    pgfunnel: StartFunnel, postgres: Postgres
) -> None:
    """Nothing can be said to a server that waits for the rest of a message."""
    funnel = pgfunnel(default_pool_size=1)
    peer = logged_in(funnel)
    (pid,) = peer.rows(PID)[0]
    peer.send(messages.query(b"SELECT '" + b"x" * 20_000_000)[:150_000])
    until(lambda: funnel.metrics()['pgfunnel_clients{state="active"}'] == 1)
    peer.reset()
    async with client(funnel) as successor:
        assert await successor.fetchval(PID) != int(pid or b"")
    assert not postgres.psql("SELECT 1 FROM pg_stat_activity WHERE pid = %s", int(pid or b""))


async def test_idle_transaction_timeout(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=1, idle_transaction_timeout=0.4)
    async with client(funnel) as idle, client(funnel) as next_one:
        await idle.execute("BEGIN")
        assert await next_one.fetchval("SELECT 1", timeout=5) == 1
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
            await idle.execute("COMMIT")
    assert "idle_transaction_timeout" in funnel.log()


@pytest.mark.parametrize("way", ["simple", "unnamed", "named"])
def test_the_log_says_behind_which_statement_a_transaction_was_left(
    pgfunnel: StartFunnel, way: str
) -> None:
    funnel = pgfunnel(default_pool_size=1, idle_transaction_timeout=0.3)
    name = "mine" if way == "named" else ""
    sql = "SELECT 1, 'secret'"
    with Wire(funnel.host, funnel.port, "alice", "postgres", USERS["alice"]) as wire:
        wire.send(parse(name, sql), SYNC)
        wire.until_ready()
        wire.ask("BEGIN")
        if way == "simple":
            wire.ask(sql)
        else:
            wire.send(b"" if name else parse("", sql), bind("", name), execute(), SYNC)
            wire.until_ready()
        wire.until_gone()
    until(lambda: "idle_in_transaction" in funnel.log())
    (line,) = [each for each in funnel.log().splitlines() if "idle_in_transaction" in each]
    said = digest(normalised(sql.encode()))
    assert f'statement="SELECT ?, ?", digest={said}' in line
    assert "secret" not in funnel.log()


def test_a_reload_that_limits_idle_transactions_counts_from_then_on(
    pgfunnel: StartFunnel, tmp_path: Path
) -> None:
    file = tmp_path / "pgfunnel.toml"
    file.write_text("")
    funnel = pgfunnel(args=("--config", str(file)))
    with Wire(funnel.host, funnel.port, "alice", "postgres", USERS["alice"]) as wire:
        wire.ask("SELECT 'before'")
        file.write_text("idle_transaction_timeout = 0.3")
        funnel.signal(signal.SIGHUP)
        until(lambda: "reloaded" in funnel.log())
        wire.ask("BEGIN; SELECT 'after'")
        wire.until_gone()
    until(lambda: 'statement="BEGIN; SELECT ?"' in funnel.log())


async def test_client_idle_timeout(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(client_idle_timeout=0.4)
    with logged_in(funnel) as peer:
        peer.query("SELECT 1")
        answered = time.monotonic()
        assert peer.error()["C"] == "57P05"
        assert peer.ended()
    # The clock is read at each tick of 0.1 s, and the answer is a moment older than its reading.
    assert time.monotonic() - answered > 0.3


@pytest.mark.parametrize("longest", range(3))
async def test_a_long_transaction_keeps_no_other_pool_out(
    pgfunnel: StartFunnel, postgres: Postgres, longest: int
) -> None:
    """Places become free beside it, whichever server was asked to go first."""
    postgres.require("bob")
    funnel = pgfunnel(default_pool_size=3, max_db_connections=3, query_wait_timeout=5)
    async with client(funnel) as a, client(funnel) as b, client(funnel) as c:
        holders = [a, b, c]
        for holder in holders:
            await holder.execute("BEGIN")
        late = asyncio.create_task(asyncpg.connect(funnel.dsn("bob"), timeout=10))
        try:
            await eventually(lambda: waiters(funnel, "bob") == 1)
            for n, holder in enumerate(holders):
                if n != longest:
                    await holder.execute("COMMIT")
        finally:
            connection = await late
        assert await connection.fetchval("SELECT session_user::text") == "bob"
        await connection.close()
        await holders[longest].execute("COMMIT")


def test_what_was_asked_before_goodbye_is_answered(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=1)
    with logged_in(funnel) as peer:
        peer.send(messages.query(b"SELECT 'last words' FROM pg_sleep(0.2)") + messages.TERMINATE)
        assert [body for kind, body in peer.until(b"Z") if kind == b"D"] == [
            b"\0\x01\0\0\0\x0alast words"
        ]
        assert peer.ended()


def test_in_place_of_a_server_that_fails_another_idle_one_serves(
    pgfunnel: StartFunnel, postgres: Postgres
) -> None:
    """The check fails on the server that was used last."""
    postgres.psql("CREATE TABLE IF NOT EXISTS failing (pid int); GRANT SELECT ON failing TO alice")
    check = "SELECT 1 / (SELECT count(*) - 1 FROM failing WHERE pid = pg_backend_pid())"
    funnel = pgfunnel(default_pool_size=2, server_check_delay=0, server_check_query=check)
    with logged_in(funnel) as one, logged_in(funnel) as two:
        for peer in (one, two):
            peer.query("BEGIN")
        first, second = (int(peer.rows(PID)[0][0] or 0) for peer in (one, two))
        for peer in (one, two):
            peer.query("COMMIT")
        postgres.psql(f"INSERT INTO failing VALUES ({second})")
        assert [int(row[0] or 0) for row in one.rows(PID)] == [first]
        postgres.psql("DELETE FROM failing")
    assert "test query failed" in funnel.log()
