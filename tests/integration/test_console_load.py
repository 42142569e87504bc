"""Thousands of clients are shown quickly, and the traffic does not notice."""

from __future__ import annotations

import resource
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from proxy.wire import messages
from tests.conftest import StartFunnel
from tests.funnel import Funnel
from tests.integration.console import Operator
from tests.integration.observe import until

CLIENTS = 5000


@contextmanager
def idle_clients(funnel: Funnel, number: int) -> Iterator[None]:
    """So many clients that are logged in (auth_type trust) and do nothing."""
    database = funnel.upstream.database.encode()
    hello = messages.startup([(b"user", b"alice"), (b"database", database)])
    sockets: list[socket.socket] = []
    try:
        for _ in range(0, number, 100):
            batch = [socket.create_connection((funnel.host, funnel.port)) for _ in range(100)]
            sockets += batch
            for each in batch:
                each.sendall(hello)
            _await_ready(batch)
        yield
    finally:
        for each in sockets:
            each.close()


def _await_ready(batch: list[socket.socket]) -> None:
    with selectors.DefaultSelector() as selector:
        for each in batch:
            selector.register(each, selectors.EVENT_READ, bytearray())
        while selector.get_map():
            for key, _ in selector.select(10):
                key.data.extend(key.fileobj.recv(4096))  # type: ignore[union-attr]
                if key.data.endswith(messages.READY_IDLE):
                    selector.unregister(key.fileobj)


class Traffic:
    """One client that asks all the time; `slowest` answer in seconds."""

    def __init__(self, funnel: Funnel) -> None:
        self.slowest = 0.0
        self.answers = 0
        self._over = threading.Event()
        self._dsn = funnel.dsn("bob")
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            while not self._over.is_set():
                began = time.perf_counter()
                connection.execute("SELECT 1")
                self.slowest = max(self.slowest, time.perf_counter() - began)
                self.answers += 1

    def stop(self) -> None:
        self._over.set()
        self._thread.join(10)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_five_thousand_clients_are_shown_within_a_second(pgfunnel: StartFunnel) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < CLIENTS + 500:
        pytest.skip(f"needs {CLIENTS + 500} open files, {hard} are allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    funnel = pgfunnel(auth_type="trust", admin_users="dave", log_connections=False)
    with idle_clients(funnel, CLIENTS), Operator(funnel, "dave") as operator:
        traffic = Traffic(funnel)
        until(lambda: traffic.answers > 100)
        traffic.slowest = 0.0
        seconds, rows = _fetched(operator)
        slowest = traffic.slowest
        traffic.stop()
    assert rows == CLIENTS + 2
    assert seconds < 1.0
    assert slowest < 0.1, f"an answer took {slowest:.3f} s while the clients were shown"


def _fetched(operator: Operator) -> tuple[float, int]:
    began = time.perf_counter()
    connection = operator.connection.pgconn
    result = connection.exec_(b"SHOW CLIENTS")
    return time.perf_counter() - began, result.ntuples
