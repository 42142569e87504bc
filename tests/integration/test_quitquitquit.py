"""POST /quitquitquit against the real program: as SIGTERM, from this machine alone."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping

import psycopg

from tests.conftest import StartFunnel
from tests.funnel import Funnel
from tests.integration.observe import until
from tests.integration.peer import Peer


def quit_(funnel: Funnel, headers: Mapping[str, str] | None = None) -> int:
    url = f"http://{funnel.host}:{funnel.http_port}/quitquitquit"
    request = urllib.request.Request(url, b"", dict(headers or {}))
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_it_drains_and_ends_with_zero(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(quitquitquit=True)
    job = psycopg.connect(funnel.dsn("alice"))
    job.execute("CREATE TEMP TABLE done AS SELECT 1 AS x")
    assert quit_(funnel) == 200
    until(lambda: not json.loads(funnel.get("/status.json"))["ready"], what="it drains")
    with Peer(funnel.host, funnel.port) as late:
        late.start("alice", funnel.upstream.database)
        assert late.error()["C"] == "57P01"
    assert quit_(funnel) == 200, "asking again does not end what is running, as a signal would"
    assert job.execute("SELECT x FROM done").fetchone() == (1,)
    job.commit()
    job.close()
    assert funnel.wait() == 0
    assert "quitquitquit" in funnel.log()


def test_without_clients_it_ends_at_once(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(quitquitquit=True, drain_timeout=60)
    assert quit_(funnel) == 200
    assert funnel.wait() == 0


def test_it_is_off_unless_it_is_asked_for(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel()
    assert quit_(funnel) == 404
    assert json.loads(funnel.get("/status.json"))["ready"]


def test_a_web_page_cannot_ask_for_it(pgfunnel: StartFunnel) -> None:
    """A browser on the same machine would send this for any page that it shows."""
    funnel = pgfunnel(quitquitquit=True)
    assert quit_(funnel, {"Origin": "https://example.org"}) == 403
    assert json.loads(funnel.get("/status.json"))["ready"]
