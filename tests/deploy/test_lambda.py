"""The example functions against a real pgfunnel: warm, frozen over a restart, and thawed."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from loadtest.lab.frozen import frozen
from proxy.demo.children import LOOPBACK
from tests.conftest import StartFunnel
from tests.deploy.ecosystem import DEPLOY, tool
from tests.funnel import Funnel, clean_environment
from tests.integration.observe import pool_metric
from tests.postgres import Postgres

_EXAMPLE = DEPLOY / "lambda"
_DRIVER = """\
import { createInterface } from "node:readline";
import { handler } from "./app.mjs";
for await (const line of createInterface({ input: process.stdin })) {
  const answer = await handler(JSON.parse(line)).catch((error) => ({ error: error.message }));
  console.log(JSON.stringify(answer));
}
process.exit(0);
"""
_NPM_SECONDS = 120
_PATIENCE = "const PATIENCE = 20_000"

Invoke = Callable[[str], dict[str, Any]]


class Road:
    """The network between functions and pgfunnel. It can lose its connections without a word."""

    def __init__(self, funnel: Funnel) -> None:
        self._server = (funnel.host, funnel.port)
        self._listener = socket.create_server((LOOPBACK, 0))
        self._ends: list[socket.socket] = []
        self._lost = contextlib.ExitStack()
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._open, daemon=True).start()

    def _open(self) -> None:
        with contextlib.suppress(OSError):  # nobody listens any more
            while True:
                client, server = self._listener.accept()[0], socket.create_connection(self._server)
                self._ends += [client, server]
                for way in ((client, server), (server, client)):
                    threading.Thread(target=carry, args=way, daemon=True).start()

    def lose(self) -> None:
        """From now on nothing that is sent on the connections there are is even acknowledged."""
        for end in self._ends:
            self._lost.enter_context(frozen(end.fileno()))

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._lost.close()
        for end in self._ends:
            with contextlib.suppress(OSError):  # it has ended already
                end.shutdown(socket.SHUT_RDWR)
            end.close()


def carry(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while octets := source.recv(65536):
            target.sendall(octets)
        target.shutdown(socket.SHUT_WR)


@pytest.fixture
def funnel(pgfunnel: StartFunnel, own_postgres: Postgres) -> Funnel:
    with psycopg.connect(own_postgres.dsn_for("alice"), autocommit=True) as connection:
        connection.execute((_EXAMPLE / "schema.sql").read_bytes())
    return pgfunnel(own_postgres, default_pool_size=2)


@pytest.fixture
def road(funnel: Funnel) -> Iterator[Road]:
    made = Road(funnel)
    yield made
    made.close()


@pytest.fixture
def dsn(funnel: Funnel, road: Road) -> str:
    """The DSN of the functions."""
    return funnel.dsn("alice").replace(f":{funnel.port}/", f":{road.port}/")


def event(identity: str) -> dict[str, object]:
    return {"id": identity, "item": "book", "quantity": 1}


@pytest.fixture
def in_python(dsn: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Invoke]:
    monkeypatch.setenv("DSN", dsn)
    spec = importlib.util.spec_from_file_location("app", _EXAMPLE / "python" / "app.py")
    assert spec is not None
    assert spec.loader is not None
    app = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(app)

    def invoke(identity: str) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = app.handler(event(identity), None)
        except psycopg.Error as error:
            return {"error": str(error)}
        return answer

    yield invoke
    if app.connection is not None:
        app.connection.close()


@pytest.fixture
def in_node(dsn: str, node_folder: Path) -> Iterator[Invoke]:
    function = subprocess.Popen(
        [tool("node", "Node.js"), "driver.mjs"],
        cwd=node_folder,
        env=clean_environment() | {"DSN": dsn},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert function.stdin is not None
    assert function.stdout is not None
    requests, answers = function.stdin, function.stdout

    def invoke(identity: str) -> dict[str, Any]:
        requests.write(json.dumps(event(identity)) + "\n")
        requests.flush()
        answer: dict[str, Any] = json.loads(answers.readline())
        return answer

    yield invoke
    with function:
        requests.close()
        assert function.wait(10) == 0


@pytest.fixture(scope="session")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example with its driver and `pg` installed."""
    folder = tmp_path_factory.mktemp("lambda") / "node"
    npm = tool("npm", "Node.js")
    shutil.copytree(_EXAMPLE / "node", folder)
    (folder / "driver.mjs").write_text(_DRIVER)
    source = (folder / "app.mjs").read_text()
    assert _PATIENCE in source
    (folder / "app.mjs").write_text(source.replace(_PATIENCE, "const PATIENCE = 2_000"))
    command = [npm, "install", "--no-audit", "--no-fund", "--prefer-offline", "--fetch-retries=1"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_NPM_SECONDS)
    if done.returncode != 0:
        pytest.skip(f"npm cannot install pg: {done.stderr.strip().splitlines()[-1:]}")
    return folder


@pytest.fixture(params=["in_python", "in_node"])
def invoke(request: pytest.FixtureRequest) -> Invoke:
    function: Invoke = request.getfixturevalue(request.param)
    return function


def orders(answer: dict[str, Any]) -> int:
    assert answer.get("statusCode") == 200, answer
    return int(json.loads(answer["body"])["orders"])


@pytest.mark.timeout(_NPM_SECONDS + 60)
def test_one_connection_for_all_invocations(invoke: Invoke, funnel: Funnel) -> None:
    assert [orders(invoke(name)) for name in ("a", "b", "b", "c")] == [1, 2, 2, 3]
    assert funnel.metrics()['pgfunnel_logins_total{result="ok"}'] == 1.0
    assert pool_metric(funnel, "pgfunnel_servers", state="active") == 0.0


@pytest.mark.timeout(_NPM_SECONDS + 60)
def test_thawed_after_pgfunnel_was_replaced(
    invoke: Invoke, funnel: Funnel, pgfunnel: StartFunnel
) -> None:
    """The connection has gone while nobody was looking; the invocation succeeds all the same."""
    assert orders(invoke("a")) == 1
    funnel.stop()
    pgfunnel(funnel.upstream, listen_port=funnel.port)
    assert orders(invoke("b")) == 2


@pytest.mark.timeout(_NPM_SECONDS + 60)
@pytest.mark.skipif(sys.platform != "linux", reason="sockets are frozen by Linux's filters")
def test_thawed_where_the_network_has_forgotten(invoke: Invoke, road: Road) -> None:
    """Nothing comes back, not even an error: a pgfunnel whose address has gone with it."""
    assert orders(invoke("a")) == 1
    road.lose()
    assert orders(invoke("b")) == 2
    assert orders(invoke("c")) == 3


def test_a_connection_that_was_idle_for_long_is_not_trusted(
    in_python: Invoke, funnel: Funnel, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert orders(in_python("a")) == 1
    monkeypatch.setattr("time.time", lambda now=time.time: now() + 301)
    assert orders(in_python("b")) == 2
    assert orders(in_python("c")) == 3
    assert funnel.metrics()['pgfunnel_logins_total{result="ok"}'] == 2.0


@pytest.mark.timeout(_NPM_SECONDS + 60)
def test_an_error_of_the_statement_is_not_tried_again(invoke: Invoke, funnel: Funnel) -> None:
    """And leaves no transaction open behind it."""
    assert orders(invoke("a")) == 1
    funnel.upstream.psql("REVOKE INSERT ON orders FROM alice")
    assert "permission denied" in invoke("b")["error"]
    assert pool_metric(funnel, "pgfunnel_servers", state="active") == 0.0
    funnel.upstream.psql("GRANT INSERT ON orders TO alice")
    assert orders(invoke("b")) == 2
    assert funnel.metrics()['pgfunnel_logins_total{result="ok"}'] == 1.0
