"""Signals, and what systemd tells and is told."""

from __future__ import annotations

import signal
import socket
import sys
from pathlib import Path

import pytest

from proxy.demo.children import LOOPBACK, free_port
from proxy.wire import messages
from tests.conftest import StartFunnel, StartPostgres
from tests.funnel import Funnel
from tests.integration.observe import until, waiters
from tests.integration.peer import Peer
from tests.postgres import USERS, Postgres

ONE = messages.query(b"SELECT 1")


def log_in(funnel: Funnel) -> Peer:
    peer = Peer(funnel.host, funnel.port)
    return peer.log_in("alice", funnel.upstream.database, USERS["alice"])


def tell(funnel: Funnel, sig: signal.Signals, word: str) -> None:
    before = funnel.log().count(word)
    funnel.signal(sig)
    until(lambda: funnel.log().count(word) > before)


# -- pause and resume ----------------------------------------------------------------------


def test_a_pause_lets_go_of_servers_and_keeps_clients(
    pgfunnel: StartFunnel, own_postgres: Postgres
) -> None:
    funnel = pgfunnel(own_postgres, default_pool_size=2)
    with log_in(funnel) as idle, log_in(funnel) as busy:
        busy.query("BEGIN")
        tell(funnel, signal.SIGUSR1, "pausing all")
        assert busy.rows("SELECT 1") == [[b"1"]]
        busy.query("COMMIT")
        until(lambda: own_postgres.client_backends("alice") == 0)
        idle.send(ONE)
        until(lambda: waiters(funnel) == 1)
        with log_in(funnel) as late:
            late.send(ONE)
            until(lambda: waiters(funnel) == 2)
            assert own_postgres.client_backends("alice") == 0
            tell(funnel, signal.SIGUSR2, "continuing from PAUSE")
            for peer in (idle, late):
                assert [kind for kind, _ in peer.until(b"Z")] == [b"T", b"D", b"C", b"Z"]


def test_postgres_restarts_in_a_pause(pgfunnel: StartFunnel, start_postgres: StartPostgres) -> None:
    postgres = start_postgres()
    assert postgres.server is not None
    funnel = pgfunnel(postgres, query_wait_timeout=30)
    with log_in(funnel) as peer:
        assert peer.rows("SELECT 1") == [[b"1"]]
        tell(funnel, signal.SIGUSR1, "pausing all")
        postgres.server.halt()
        peer.send(ONE)
        until(lambda: waiters(funnel) == 1)
        postgres.server.start()
        tell(funnel, signal.SIGUSR2, "continuing from PAUSE")
        assert peer.until(b"Z")[1][0] == b"D"


def test_a_pause_taken_back_keeps_the_servers_that_are_lent(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel()
    with log_in(funnel) as peer:
        peer.query("BEGIN")
        before = peer.rows("SELECT pg_backend_pid()")
        tell(funnel, signal.SIGUSR1, "pausing all")
        tell(funnel, signal.SIGUSR2, "continuing from PAUSE")
        peer.query("COMMIT")
        assert peer.rows("SELECT pg_backend_pid()") == before


# -- the three ways to stop ----------------------------------------------------------------


def test_int_waits_for_servers_and_for_nobody_else(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=1, drain_timeout=0.1)
    with log_in(funnel) as busy, log_in(funnel) as waiting, log_in(funnel) as idle:
        busy.query("BEGIN")
        waiting.send(ONE)
        until(lambda: waiters(funnel) == 1)
        funnel.signal(signal.SIGINT)
        assert waiting.error()["C"] == idle.error()["C"] == "57P01"
        for _ in range(3):
            assert busy.rows("SELECT 1 FROM pg_sleep(0.1)") == [[b"1"]]
        assert funnel.process.poll() is None
        busy.query("COMMIT")
        assert busy.error()["C"] == "57P01"
    assert funnel.wait() == 0


def test_int_waits_for_sessions_to_end(pgfunnel: StartFunnel) -> None:
    """In session pooling a server is given back when its client leaves, as in PgBouncer."""
    funnel = pgfunnel(pool_mode="session")
    with log_in(funnel) as has_a_server, log_in(funnel) as has_none:
        before = has_a_server.rows("SELECT pg_backend_pid()")
        tell(funnel, signal.SIGINT, "shutting down")
        assert has_none.error()["C"] == "57P01"
        for _ in range(3):
            assert has_a_server.rows("SELECT pg_backend_pid() FROM pg_sleep(0.1)") == before
        assert funnel.process.poll() is None
        has_a_server.send(messages.TERMINATE)
        assert has_a_server.ended()
    assert funnel.wait() == 0


@pytest.mark.parametrize("first", [None, signal.SIGTERM, signal.SIGINT])
def test_quit_waits_for_nobody(pgfunnel: StartFunnel, first: signal.Signals | None) -> None:
    funnel = pgfunnel()
    with log_in(funnel) as busy:
        busy.query("BEGIN")
        if first is not None:
            tell(funnel, first, "shutting down")
        funnel.signal(signal.SIGQUIT)
        assert busy.error()["C"] == "57P01"
    assert funnel.wait() == 0


def test_term_in_a_pause_does_not_wait_for_what_will_not_come(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(drain_timeout=60)
    with log_in(funnel) as peer:
        tell(funnel, signal.SIGUSR1, "pausing all")
        peer.send(ONE)
        until(lambda: waiters(funnel) == 1)
        funnel.signal(signal.SIGTERM)
        assert peer.error()["C"] == "57P01"
    assert funnel.wait() == 0


# -- systemd -------------------------------------------------------------------------------


@pytest.mark.parametrize("abstract", [False, True])
def test_what_systemd_is_told(
    pgfunnel: StartFunnel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, abstract: bool
) -> None:
    place = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(f"\0{place}" if abstract else place)
        told.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{place}" if abstract else place)
        funnel = pgfunnel()
        assert told.recv(200) == b"READY=1"
        funnel.signal(signal.SIGHUP)
        assert told.recv(200).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        assert told.recv(200) == b"READY=1"
        funnel.signal(signal.SIGTERM)
        assert told.recv(200) == b"STOPPING=1"
    assert funnel.wait() == 0


# systemd's part of sd_listen_fds(3): the sockets from 3 on, and whose they are.
_ACTIVATE = """\
import fcntl, os, socket, sys
given = []
for place in (("127.0.0.1", int(sys.argv[1])), sys.argv[2]):
    sock = socket.socket(socket.AF_INET if len(place) == 2 else socket.AF_UNIX)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(place)
    if sys.argv[3] == "listening":
        sock.listen()
    given.append(fcntl.fcntl(sock, fcntl.F_DUPFD, 10))
for number, fd in enumerate(given):
    os.dup2(fd, 3 + number)
os.environ.update(LISTEN_FDS="2", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[4], sys.argv[4:])
"""


def activated(start: StartFunnel, folder: Path, port: int, how: str = "listening") -> Funnel:
    under = (sys.executable, "-c", _ACTIVATE, str(port), str(folder / ".s.PGSQL.1"), how)
    return start(under=under, listen_port=port, listen_addr=LOOPBACK)


def test_sockets_that_systemd_has_opened(pgfunnel: StartFunnel, tmp_path: Path) -> None:
    funnel = activated(pgfunnel, tmp_path, free_port())
    with log_in(funnel) as peer:
        assert peer.rows("SELECT 1") == [[b"1"]]
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / ".s.PGSQL.1"))
        client.sendall(messages.ssl_request())
        assert client.recv(1) == b"N"
    funnel.signal(signal.SIGTERM)
    assert funnel.wait() == 0
    assert (tmp_path / ".s.PGSQL.1").is_socket()


def test_a_socket_that_is_none(pgfunnel: StartFunnel, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="socket activation: 3 is not a listening socket"):
        activated(pgfunnel, tmp_path, free_port(), "bound only")
