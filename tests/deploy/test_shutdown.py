"""The order in which a pod with pgfunnel in it ends, against the real program.

https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/: SIGTERM reaches a native
sidecar when the application's containers have ended, at once if they used up the grace period.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.conftest import StartFunnel
from tests.deploy.ecosystem import DEPLOY, documents, environment_of, pgfunnel_of, pod_of
from tests.funnel import Funnel
from tests.integration.observe import until
from tests.integration.peer import Peer
from tests.postgres import USERS, Postgres


@pytest.fixture
def sidecar(pgfunnel: StartFunnel, own_postgres: Postgres) -> Funnel:
    """pgfunnel with the settings that the manifest of the sidecar gives it."""
    (document,) = documents(DEPLOY / "kubernetes" / "sidecar" / "deployment.yaml")
    variables = environment_of(pgfunnel_of(pod_of(document)))
    settings: dict[str, Any] = {
        name.removeprefix("PGFUNNEL_").lower(): value
        for name, value in variables.items()
        if name not in ("PGFUNNEL_UPSTREAM", "PGFUNNEL_HTTP_ADDR")
    }
    return pgfunnel(own_postgres, **settings)


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Postgres's backend stands still, and so does whoever waits for its goodbye."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def status(funnel: Funnel, path: str) -> int:
    """The status of a GET as a probe sees it."""
    url = f"http://{funnel.host}:{funnel.http_port}{path}"
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def accepts(funnel: Funnel) -> bool:
    with contextlib.suppress(ConnectionRefusedError):
        socket.create_connection((funnel.host, funnel.port), timeout=5).close()
        return True
    return False


def test_the_order_of_the_end(sidecar: Funnel) -> None:
    assert status(sidecar, "/readyz") == 200
    application = psycopg.connect(sidecar.dsn("alice"))
    application.execute("CREATE TABLE answers AS SELECT 42 AS answer")

    sidecar.signal(signal.SIGTERM)
    until(lambda: status(sidecar, "/readyz") == 503, what="ready flips")
    assert status(sidecar, "/healthz") == 200
    with Peer(sidecar.host, sidecar.port) as late:
        late.start("alice", sidecar.upstream.database)
        assert late.error()["C"] == "57P01"
    assert sidecar.metrics()["pgfunnel_ready"] == 0.0

    assert application.execute("SELECT 1").fetchone() == (1,)
    application.commit()
    application.close()
    assert sidecar.wait() == 0
    assert sidecar.upstream.psql("SELECT answer FROM answers") == [(42,)]


def test_metrics_are_served_to_the_end(sidecar: Funnel) -> None:
    """Also when no client is let in any more and the servers are being closed."""
    with psycopg.connect(sidecar.dsn("alice"), autocommit=True) as application:
        row = application.execute("SELECT pg_backend_pid()").fetchone()
        assert row is not None
    with stopped(row[0]):
        sidecar.signal(signal.SIGTERM)
        until(lambda: not accepts(sidecar), what="the clients' port is closed")
        assert sidecar.process.poll() is None
        metrics = sidecar.metrics()
        assert metrics["pgfunnel_ready"] == 0.0
        assert metrics['pgfunnel_logins_total{result="ok"}'] == 1.0
        assert status(sidecar, "/healthz") == 200
    assert sidecar.wait() == 0


def test_without_clients_it_ends_at_once(pgfunnel: StartFunnel, own_postgres: Postgres) -> None:
    """The application has left: no part of drain_timeout is used, and the servers go too."""
    funnel = pgfunnel(own_postgres, drain_timeout=60)
    with psycopg.connect(funnel.dsn("alice")) as application:
        application.execute("SELECT 1")
    assert own_postgres.client_backends("alice") == 1
    until(lambda: funnel.metrics()['pgfunnel_clients{state="idle"}'] == 0.0)
    funnel.signal(signal.SIGTERM)
    assert funnel.wait() == 0
    until(lambda: own_postgres.client_backends("alice") == 0)


def test_a_job_that_died_does_not_hold_the_sidecar(sidecar: Funnel) -> None:
    """A client that vanished in mid-transaction, unnoticed: the drain ends by its limit, with 0."""
    with Peer(sidecar.host, sidecar.port) as vanished:
        vanished.log_in("alice", sidecar.upstream.database, USERS["alice"]).query("BEGIN")
        sidecar.signal(signal.SIGTERM)
        assert vanished.error()["C"] == "57P01"
    assert sidecar.wait() == 0
    until(lambda: sidecar.upstream.client_backends("alice") == 0)
