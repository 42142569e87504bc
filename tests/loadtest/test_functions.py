"""Simulated functions on a real Postgres: what they leave, and what they notice."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from loadtest.lab.behaviours import BEHAVIOURS, Behaviour, Cold, Frozen, Killed, Pooled, Warm
from loadtest.lab.frozen import frozen
from loadtest.lab.functions import GaveUp, Terms, backoff
from loadtest.lab.tally import Tally
from loadtest.lab.totals import read_totals
from loadtest.lab.workloads import DROP, SETUP, WORKLOADS
from tests.conftest import StartFunnel
from tests.postgres import Postgres


@pytest.fixture
def tables(postgres: Postgres) -> Iterator[Postgres]:
    postgres.psql(DROP)
    postgres.psql(SETUP)
    yield postgres
    postgres.psql(DROP)


@pytest.fixture
def tally() -> Tally:
    return Tally()


def live(kind: type[Behaviour], postgres: Postgres, tally: Tally, name: str = "f-1") -> Behaviour:
    return kind(name, Terms(postgres.dsn, True, tally), freeze_seconds=0.05)


def backends(postgres: Postgres, name: str = "f-1") -> int:
    sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
    return int(postgres.psql(sql, name)[0][0])


def until_backends(postgres: Postgres, count: int) -> None:
    deadline = time.monotonic() + 10
    while backends(postgres) != count:
        assert time.monotonic() < deadline, f"{backends(postgres)} backends, not {count}"
        time.sleep(0.01)


@pytest.mark.parametrize("kind", BEHAVIOURS)
def test_every_way_of_living_does_every_workload(
    kind: type[Behaviour], tables: Postgres, tally: Tally
) -> None:
    life = live(kind, tables, tally)
    for workload in WORKLOADS:
        life.invoke(workload)
        life.between()
    life.end()
    until_backends(tables, 0)
    assert (tally.invocations, tally.failed, tally.violations) == (len(WORKLOADS), {}, [])
    totals = read_totals(tables.dsn)
    assert totals.orders == tally.checkouts_done == 1
    assert totals.faults(tally.checkouts_begun, tally.checkouts_done) == []


@pytest.mark.parametrize("kind, kept", [(Cold, 0), (Warm, 1), (Frozen, 1), (Pooled, 2)])
def test_what_is_open_between_invocations(
    kind: type[Behaviour], kept: int, tables: Postgres, tally: Tally
) -> None:
    life = live(kind, tables, tally)
    for _ in range(2):
        life.invoke("read")
        life.between()
    until_backends(tables, kept)
    life.end()


def test_a_killed_function_leaves_nothing_behind(tables: Postgres, tally: Tally) -> None:
    life = live(Killed, tables, tally)
    for _ in range(3):
        life.invoke("read")
        life.between()
    until_backends(tables, 0)
    totals = read_totals(tables.dsn)
    assert tally.killed == 3
    assert (totals.orders, totals.unwritten_notes) == (0, 0)


def test_a_stranger_in_its_session_is_noticed(tables: Postgres, tally: Tally) -> None:
    life = live(Warm, tables, tally)
    life.invoke("read")
    life._kept[0].execute("SET lab.owner TO 'f-2'")
    life.invoke("read")
    life._kept[0].execute("RESET lab.owner")
    life.invoke("read")
    life.end()
    assert tally.violations == [
        "f-1: lab.owner should be 'f-1', saw 'f-2'",
        "f-1: lab.owner should be 'f-1', lost it",
    ]


def test_a_row_it_never_wrote_is_noticed(tables: Postgres, tally: Tally) -> None:
    life = live(Warm, tables, tally)
    life.invoke("write")
    life.invoke("write")
    assert tally.violations == []
    tables.psql("UPDATE pgfunnel_lab.notes SET token = 'strange'")
    life.invoke("read")
    life.end()
    assert tally.violations == ["f-1 read a row of f-1 that it never wrote"]


def test_a_full_server_is_tried_again_and_then_given_up(
    postgres: Postgres, pgfunnel: StartFunnel, tally: Tally
) -> None:
    funnel = pgfunnel(max_client_conn=1)
    with psycopg.connect(funnel.dsn()):
        life = Cold("f-1", Terms(funnel.dsn(), False, tally), freeze_seconds=0)
        with pytest.raises(GaveUp, match="53300"):
            life.invoke("read")
    assert tally.refused == {"53300": 4}
    assert tally.failed == {"53300": 1}


def test_backoff_grows_up_to_a_limit() -> None:
    waits = [max(backoff(attempt) for _ in range(200)) for attempt in (0, 2, 9)]
    assert waits[0] <= 0.1 < waits[1] <= 0.4 < waits[2] <= 2.0


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as ours,
        server.accept()[0] as theirs,
    ):
        yield ours, theirs


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="Linux drops what arrives")
def test_a_frozen_socket_takes_nothing_until_it_thaws(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    ours.settimeout(0.3)
    with frozen(ours.fileno()):
        theirs.sendall(b"probe")
        with pytest.raises(TimeoutError):
            ours.recv(5)
        # TCP_INFO's tcpi_unacked: what the peer's kernel still waits to see acknowledged
        assert theirs.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)[24] == 1
    ours.settimeout(10)
    assert ours.recv(5) == b"probe"
