"""A cancel reaches the client it is meant for, while it has its server, and nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

import asyncpg
import psycopg
import pytest

from proxy.demo.children import LOOPBACK, free_port
from proxy.wire import messages
from tests.conftest import StartFunnel
from tests.funnel import Funnel
from tests.integration.console import Operator
from tests.integration.observe import eventually, until, waiters
from tests.integration.peer import Peer, send_cancel
from tests.postgres import USERS
from tests.wireclient import SYNC, bind, execute, parse


def logged_in(funnel: Funnel) -> Peer:
    return Peer(funnel.host, funnel.port).log_in("alice", funnel.upstream.database, USERS["alice"])


def cancels(funnel: Funnel, result: str) -> float:
    return funnel.metrics().get(f'pgfunnel_cancels_total{{result="{result}"}}', 0)


def running(funnel: Funnel, words: str) -> bool:
    sql = "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query LIKE %s"
    return bool(funnel.upstream.psql(sql, f"{words}%"))


def test_keys_are_pgfunnels_own(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=1)
    with logged_in(funnel) as one, logged_in(funnel) as two:
        assert one.key[0] != two.key[0]
        assert one.key[1] != two.key[1]
        assert one.rows("SELECT pg_backend_pid()") != [[str(one.key[0]).encode()]]


def test_a_cancel_ends_the_query_and_no_more(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=1)
    with logged_in(funnel) as peer:
        peer.send(messages.query(b"SELECT pg_sleep(30)"))
        until(lambda: running(funnel, "SELECT pg_sleep(30)"))
        send_cancel(funnel.host, funnel.port, peer.key)
        assert peer.error()["C"] == "57014"
        peer.until(b"Z")
        assert peer.rows("SELECT 1") == [[b"1"]]


def test_a_wrong_key_does_nothing(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=1)
    with logged_in(funnel) as peer:
        peer.send(messages.query(b"SELECT pg_sleep(0.5)"))
        until(lambda: running(funnel, "SELECT pg_sleep(0.5)"))
        process_id, secret = peer.key
        send_cancel(funnel.host, funnel.port, (process_id, bytes(b ^ 1 for b in secret)))
        send_cancel(funnel.host, funnel.port, (process_id ^ 1, secret))
        assert [kind for kind, _ in peer.until(b"Z")] == [b"T", b"D", b"C", b"Z"]
    assert cancels(funnel, "unknown_key") == 2


def test_a_cancel_that_came_to_the_wrong_process(pgfunnel: StartFunnel) -> None:
    ports = free_port(), free_port()
    peers = {number: {"host": LOOPBACK, "port": port} for number, port in enumerate(ports, 1)}
    one, other = (
        pgfunnel(listen_port=port, peer_id=number, peers=peers, admin_users="dave")
        for number, port in enumerate(ports, 1)
    )
    with logged_in(one) as peer, Operator(other, "dave") as operator:
        peer.send(messages.query(b"SELECT pg_sleep(30)"))
        until(lambda: running(one, "SELECT pg_sleep(30)"))
        send_cancel(other.host, other.port, peer.key)
        assert peer.error()["C"] == "57014"
        assert (cancels(one, "sent"), cancels(other, "forwarded")) == (1, 1)
        assert [tuple(row.values()) for row in operator.show("PEERS")] == [
            (1, LOOPBACK, ports[0], None),
            (2, LOOPBACK, ports[1], None),
        ]
        assert [row["peer_id"] for row in operator.show("PEER_POOLS")] == [1]
        assert operator.row("LISTS", list="peers")["items"] == 2


def test_a_cancel_does_not_go_round_for_ever(pgfunnel: StartFunnel) -> None:
    port = free_port()
    funnel = pgfunnel(listen_port=port, peer_id=1, peers={2: {"host": LOOPBACK, "port": port}})
    send_cancel(funnel.host, funnel.port, (2 << 16, b"\0\0\0\3"))
    assert (cancels(funnel, "forwarded"), cancels(funnel, "unknown_key")) == (3, 1)
    send_cancel(funnel.host, funnel.port, (3 << 16, b"\0\0\0\3"))
    assert cancels(funnel, "unknown_key") == 2


def test_the_key_of_an_idle_client_does_nothing(pgfunnel: StartFunnel) -> None:
    """Not even to whoever has the server that it used last."""
    funnel = pgfunnel(default_pool_size=1)
    with logged_in(funnel) as idle, logged_in(funnel) as busy:
        assert idle.rows("SELECT pg_backend_pid()") == busy.rows("SELECT pg_backend_pid()")
        busy.send(messages.query(b"SELECT pg_sleep(0.5)"))
        until(lambda: running(funnel, "SELECT pg_sleep(0.5)"))
        send_cancel(funnel.host, funnel.port, idle.key)
        assert [kind for kind, _ in busy.until(b"Z")] == [b"T", b"D", b"C", b"Z"]
    assert cancels(funnel, "nothing_runs") == 1
    assert cancels(funnel, "sent") == 0


EXTENDED = b"".join([parse("", "SELECT 7"), bind(), execute(), SYNC])


@pytest.mark.parametrize(
    "sent", [messages.query(b"SELECT 7"), EXTENDED], ids=["simple", "extended"]
)
@pytest.mark.parametrize("behind", [0, 1], ids=["alone", "pipelined"])
def test_a_cancel_of_a_waiter_is_its_alone(pgfunnel: StartFunnel, sent: bytes, behind: int) -> None:
    """It is told at once, what it has sent behind that is done when there is a server."""
    funnel = pgfunnel(default_pool_size=1)
    with logged_in(funnel) as busy, logged_in(funnel) as waiting:
        assert busy.rows("BEGIN") == []
        busy.send(messages.query(b"SELECT pg_sleep(0.5)"))
        until(lambda: running(funnel, "SELECT pg_sleep(0.5)"))
        waiting.send(sent + messages.query(b"SELECT 8") * behind)
        until(lambda: waiters(funnel) == 1)
        send_cancel(funnel.host, funnel.port, waiting.key)
        assert waiting.error() == {
            **dict.fromkeys("SV", "ERROR"),
            "C": "57014",
            "M": "canceling statement due to user request",
        }
        assert waiting.message() == (b"Z", b"I")
        until(lambda: waiters(funnel) == behind)
        assert [kind for kind, _ in busy.until(b"Z")] == [b"T", b"D", b"C", b"Z"]
        assert busy.rows("COMMIT") == []
        if behind:
            assert [kind for kind, _ in waiting.until(b"Z")] == [b"T", b"D", b"C", b"Z"]
        assert waiting.rows("SELECT 1") == [[b"1"]]
        assert busy.rows("SELECT 1") == [[b"1"]]
    assert cancels(funnel, "while_waiting") == 1


def test_what_a_waiter_has_not_said_in_full_is_not_cancelled(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=1)
    with logged_in(funnel) as busy, logged_in(funnel) as waiting:
        assert busy.rows("BEGIN") == []
        waiting.send(EXTENDED.removesuffix(SYNC))
        until(lambda: waiters(funnel) == 1)
        send_cancel(funnel.host, funnel.port, waiting.key)
        waiting.send(SYNC)
        assert busy.rows("COMMIT") == []
        assert [kind for kind, _ in waiting.until(b"Z")] == [b"1", b"2", b"D", b"C", b"Z"]
    assert cancels(funnel, "nothing_runs") == 1


async def test_a_driver_that_gives_up_waiting_can_go_on(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=1)
    busy, waiting = [await asyncpg.connect(funnel.dsn("alice")) for _ in range(2)]
    await busy.execute("CREATE TABLE IF NOT EXISTS given_up (a int)")
    async with busy.transaction():
        await busy.execute("TRUNCATE given_up")
        with pytest.raises(TimeoutError):
            await waiting.execute("INSERT INTO given_up VALUES (1)", timeout=0.1)
        await eventually(lambda: waiters(funnel) == 0)
    assert await asyncio.wait_for(waiting.fetchval("SELECT count(*) FROM given_up"), 5) == 0
    await busy.execute("DROP TABLE given_up")
    await asyncio.gather(busy.close(), waiting.close())


async def test_a_storm_of_cancels_hits_no_bystander(pgfunnel: StartFunnel) -> None:
    """Victims cancel at the worst moments; others, on the same two servers, see none of it."""
    funnel = pgfunnel(default_pool_size=2)
    done = asyncio.Event()
    counted = {"cancelled": 0, "served": 0}

    async def victim(n: int) -> None:
        connection = await asyncpg.connect(funnel.dsn("alice"))
        for turn in range(25):
            try:
                await connection.execute("SELECT pg_sleep(0.01)", timeout=(turn + n) % 10 / 500)
            except TimeoutError:
                counted["cancelled"] += 1
            except asyncpg.InterfaceError:  # it gave up on a cancel of its own
                connection = await asyncpg.connect(funnel.dsn("alice"))
        await connection.close()

    async def bystander(n: int) -> None:
        connection = await asyncpg.connect(funnel.dsn("alice"))
        while not done.is_set():
            assert await connection.fetchval("SELECT $1::int FROM pg_sleep(0.002)", n) == n
            counted["served"] += 1
        await connection.close()

    bystanders = asyncio.gather(*map(bystander, range(6)))
    await asyncio.gather(*map(victim, range(6)))
    done.set()
    await bystanders
    assert counted["cancelled"] > 20
    assert counted["served"] > 20
    assert cancels(funnel, "sent") > 0


async def test_a_cancel_hits_no_query_of_pgfunnels_own(pgfunnel: StartFunnel) -> None:
    """What a client's query waits for is done; then it is cancelled."""
    funnel = pgfunnel(default_pool_size=1)
    upstream = funnel.upstream
    upstream.psql("DROP TABLE IF EXISTS locked; CREATE TABLE locked (a int)")
    upstream.psql("GRANT SELECT ON locked TO alice")
    with (
        logged_in(funnel) as peer,
        logged_in(funnel) as other,
        psycopg.connect(upstream.dsn) as holder,
    ):
        peer.query("PREPARE p AS TABLE locked")
        other.query("SELECT 1")
        holder.execute("LOCK TABLE locked")
        peer.send(messages.query(b"SELECT pg_sleep(30)"))
        until(lambda: running(funnel, "PREPARE p"))
        with Peer(funnel.host, funnel.port, timeout=0.3) as asking:
            asking.send(messages.cancel_request(*peer.key))
            assert not asking.ended()
            asking.socket.settimeout(10)
            holder.rollback()
            assert peer.error()["C"] == "57014"
            assert asking.ended()
        peer.until(b"Z")
        assert peer.rows("EXECUTE p") == []
    upstream.psql("DROP TABLE locked")


def test_what_is_sent_behind_ones_own_parameters_is_cancelled(pgfunnel: StartFunnel) -> None:
    """Its client leaves in the moment when these are being set on another server."""
    funnel = pgfunnel(default_pool_size=1)
    for n in range(5):
        with logged_in(funnel) as peer, logged_in(funnel) as other:
            peer.query(f"SET work_mem = '{n + 5}MB'")
            other.query("SELECT 1")
            peer.send(messages.query(b"SELECT pg_sleep(30)"))
            peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.socket.close()
            assert other.rows("SELECT 1") == [[b"1"]]
    assert cancels(funnel, "sent") > 0
    assert not running(funnel, "SELECT pg_sleep(30)")


def test_who_leaves_amid_a_query_costs_no_server(pgfunnel: StartFunnel) -> None:
    """Cancels are sent one after another: the query may be done by then, and its server is being
    cleaned."""
    funnel = pgfunnel(default_pool_size=20)
    takes_long_to_clean = (
        "DO $$ BEGIN FOR i IN 1..50 LOOP"
        " EXECUTE format('CREATE TEMP TABLE cancel_%s (a int)', i); END LOOP; END $$"
    )
    for _ in range(3):
        with contextlib.ExitStack() as stack:
            peers = [stack.enter_context(logged_in(funnel)) for _ in range(20)]
            for peer in peers:
                peer.query(takes_long_to_clean)
            for peer in peers:
                peer.send(messages.query(b"SELECT pg_sleep(0.02)"))
        until(lambda: not running(funnel, "SELECT pg_sleep(0.02)"))
    assert cancels(funnel, "sent") > 0
    assert "reset query failed" not in funnel.log()


async def test_a_storm_of_cancels_hits_nothing_that_is_set(pgfunnel: StartFunnel) -> None:
    """Each client's parameters are set ahead of each of its queries."""
    funnel = pgfunnel(default_pool_size=2)
    cancelled = 0

    async def connect(n: int) -> asyncpg.Connection:
        connection = await asyncpg.connect(funnel.dsn("alice"), statement_cache_size=0)
        await connection.execute(f"SET work_mem = '{100 + n}kB'; SET lock_timeout = {1000 + n}")
        if n % 2:
            await connection.execute(f"PREPARE p AS SELECT {n}")
        return connection

    async def client(n: int) -> None:
        nonlocal cancelled
        connection = await connect(n)
        sql = "SELECT current_setting('work_mem') FROM pg_sleep(0.004)"
        for turn in range(40):
            try:
                found = await connection.fetchval(sql, timeout=(turn * 7 + n) % 10 / 1000)
                assert found == f"{100 + n}kB"
            except TimeoutError:
                cancelled += 1
            except asyncpg.InterfaceError:  # it gave up on a cancel of its own
                connection = await connect(n)
        await connection.close()

    await asyncio.gather(*map(client, range(6)))
    assert cancelled > 20
    assert "refused" not in funnel.log()
