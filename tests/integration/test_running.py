"""Signals, reloads, health, and `pgfunnel check`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from proxy.wire import messages
from tests.conftest import StartFunnel
from tests.funnel import ROOT, Funnel
from tests.integration.observe import pool_metric, until
from tests.integration.peer import Peer
from tests.postgres import USERS, Postgres


def logged_in(funnel: Funnel, **parameters: str) -> Peer:
    peer = Peer(funnel.host, funnel.port)
    return peer.log_in("alice", funnel.upstream.database, USERS["alice"], **parameters)


def readiness(funnel: Funnel) -> int:
    try:
        funnel.get("/readyz")
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    return 200


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_a_drain_lets_transactions_finish(pgfunnel: StartFunnel, sig: signal.Signals) -> None:
    funnel = pgfunnel(drain_timeout=20)
    others = funnel.upstream.client_backends("alice")
    assert readiness(funnel) == 200
    with logged_in(funnel) as busy, logged_in(funnel) as idle:
        busy.query("BEGIN")
        funnel.signal(sig)
        assert idle.error()["C"] == "57P01"
        assert idle.ended()
        assert readiness(funnel) == 503
        assert funnel.get("/healthz") is not None
        assert busy.rows("SELECT 1") == [[b"1"]]
        with Peer(funnel.host, funnel.port) as late:
            late.start("alice", funnel.upstream.database)
            assert late.error()["C"] == "57P01"
        with pytest.raises(psycopg.OperationalError, match="pooler is shutting down"):
            psycopg.connect(funnel.dsn("alice"))  # it asks for TLS first
        assert funnel.process.poll() is None
        assert busy.query("COMMIT")[0] == (b"C", b"COMMIT\0")
        assert busy.error()["C"] == "57P01"
    assert funnel.wait() == 0
    assert funnel.upstream.client_backends("alice") == others


def test_waiters_are_served_while_draining(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(drain_timeout=20, default_pool_size=1)
    with logged_in(funnel) as busy, logged_in(funnel) as waiting:
        busy.query("BEGIN")
        waiting.send(messages.query(b"SELECT 'served'"))
        until(lambda: pool_metric(funnel, "pgfunnel_pool_waiters") == 1)
        funnel.signal(signal.SIGTERM)
        busy.query("COMMIT")
        assert (b"C", b"SELECT 1\0") in waiting.until(b"Z")
    assert funnel.wait() == 0


def busy_until_told(dsn: str) -> str | None:
    """One transaction behind the other, without a pause; the SQLSTATE of what ends it."""
    connection = psycopg.connect(dsn)
    try:
        while True:
            connection.execute("SELECT pg_sleep(0.1)")
            connection.commit()
    except psycopg.OperationalError as error:
        return error.sqlstate
    finally:
        connection.close()


def test_a_drain_takes_no_longer_than_the_transactions(pgfunnel: StartFunnel) -> None:
    """Who never pauses is told between two transactions."""
    funnel = pgfunnel(drain_timeout=60)
    with ThreadPoolExecutor(8) as threads:
        told = threads.map(busy_until_told, [funnel.dsn("alice")] * 8)
        until(lambda: pool_metric(funnel, "pgfunnel_transactions_total") >= 16)
        began = time.monotonic()
        funnel.signal(signal.SIGTERM)
        assert funnel.wait() == 0
        assert time.monotonic() - began < 4
        assert list(told) == ["57P01"] * 8


@pytest.mark.parametrize(
    "mode, first",
    [
        ("transaction", "SELECT pg_advisory_lock(4711)"),
        ("transaction", "RESET ALL"),
        ("session", "SELECT 1"),
    ],
)
def test_a_drain_closes_whoever_keeps_a_server(
    pgfunnel: StartFunnel, mode: str, first: str
) -> None:
    """At its boundary, as everybody: all answers are there, and then 57P01."""
    funnel = pgfunnel(drain_timeout=60, pool_mode=mode)
    with logged_in(funnel) as idle, logged_in(funnel, extra_float_digits="0") as busy:
        idle.query("SELECT 1" if mode == "session" else "SELECT pg_advisory_lock(4712)")
        busy.query("BEGIN")
        busy.query(first)
        funnel.signal(signal.SIGTERM)
        assert idle.message()[0] == b"E"
        assert busy.rows("SELECT 1") == [[b"1"]]
        busy.send(messages.query(first.encode() + b"; COMMIT"))
        told = [kind for kind, _ in busy.until(b"Z")]
        assert told.count(b"C") == 2
        assert b"E" not in told
        assert busy.error()["C"] == "57P01"
        assert busy.ended()
    assert funnel.wait() == 0


def test_a_drain_lets_copy_finish(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(drain_timeout=60)
    with logged_in(funnel) as busy:
        busy.query("BEGIN; CREATE TEMP TABLE copied (n int) ON COMMIT DROP")
        busy.send(messages.query(b"COPY copied FROM STDIN"))
        busy.until(b"G")
        funnel.signal(signal.SIGTERM)
        until(lambda: "waiting for all clients disconnect" in funnel.log())
        busy.send(messages.message(b"d", b"1\n"), messages.message(b"c", b""))
        assert busy.until(b"Z")[0] == (b"C", b"COPY 1\0")
        assert busy.query("COMMIT")[0] == (b"C", b"COMMIT\0")
        assert busy.error()["C"] == "57P01"
    assert funnel.wait() == 0


def test_drain_timeout(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(drain_timeout=0.5)
    with logged_in(funnel) as busy:
        busy.query("BEGIN")
        began = time.monotonic()
        funnel.signal(signal.SIGTERM)
        assert busy.error()["C"] == "57P01"
        assert funnel.wait() == 0
        assert 0.4 < time.monotonic() - began < 5


def test_a_second_signal_is_immediate(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(drain_timeout=60)
    with logged_in(funnel) as busy:
        busy.query("BEGIN")
        funnel.signal(signal.SIGTERM)
        until(lambda: "waiting for all clients disconnect" in funnel.log())
        began = time.monotonic()
        funnel.signal(signal.SIGTERM)
        assert busy.ended()
        assert funnel.wait() == 0
        assert time.monotonic() - began < 3


@pytest.fixture
def configured(pgfunnel: StartFunnel, tmp_path: Path) -> tuple[Funnel, Path, Path]:
    """A proxy with its settings in a file, and that file, and its auth_file."""
    file, users = tmp_path / "pgfunnel.toml", tmp_path / "users.txt"
    users.write_text(f'"alice" "{USERS["alice"]}"\n')
    file.write_text("default_pool_size = 1\n")
    return pgfunnel(args=("--config", str(file)), auth_file=users), file, users


def reload(funnel: Funnel, word: str = "reloaded") -> None:
    before = funnel.log().count(word)
    funnel.signal(signal.SIGHUP)
    until(lambda: funnel.log().count(word) > before, what=f"{word} in the log")


def test_a_reload_changes_the_pool(configured: tuple[Funnel, Path, Path]) -> None:
    funnel, file, _ = configured
    others = funnel.upstream.client_backends("alice")
    with logged_in(funnel) as one, logged_in(funnel) as two, logged_in(funnel) as three:
        one.query("BEGIN")
        two.send(messages.query(b"SELECT 1"))
        until(lambda: pool_metric(funnel, "pgfunnel_pool_waiters") == 1)
        file.write_text("default_pool_size = 2\n")
        reload(funnel)
        two.until(b"Z")
        two.query("BEGIN")
        file.write_text("default_pool_size = 1\n")
        reload(funnel)
        two.query("COMMIT")
        one.query("COMMIT")
        assert three.rows("SELECT 1") == [[b"1"]]
        until(lambda: funnel.upstream.client_backends("alice") == others + 1)


def test_a_reload_changes_the_users(configured: tuple[Funnel, Path, Path]) -> None:
    funnel, _, users = configured
    with pytest.raises(psycopg.OperationalError, match="bob"):
        psycopg.connect(funnel.dsn("bob"))
    users.write_text(f'"bob" "{USERS["bob"]}"\n')
    reload(funnel)
    psycopg.connect(funnel.dsn("bob")).close()
    with pytest.raises(psycopg.OperationalError, match="alice"):
        psycopg.connect(funnel.dsn("alice"))


@pytest.mark.parametrize(
    "broken", ["default_pool_size = -3\n", "nonsense", "no_such_setting = 1\n"]
)
def test_a_broken_file_changes_nothing(configured: tuple[Funnel, Path, Path], broken: str) -> None:
    funnel, file, _ = configured
    with logged_in(funnel) as one:
        file.write_text(broken)
        reload(funnel, "config file loading failed")
        assert one.rows("SELECT 1") == [[b"1"]]
    psycopg.connect(funnel.dsn("alice")).close()
    assert pool_metric(funnel, "pgfunnel_pool_size") == 1


def test_a_broken_auth_file_changes_nothing(configured: tuple[Funnel, Path, Path]) -> None:
    funnel, _, users = configured
    users.write_text('"alice" "never closed\n')
    reload(funnel, "config file loading failed")
    psycopg.connect(funnel.dsn("alice")).close()
    assert "never closed" not in funnel.log()


def check(postgres: Postgres, **settings: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
    given = {"upstream": postgres.dsn} | settings
    env = clean | {f"PGFUNNEL_{k.upper()}": v for k, v in given.items()}
    return subprocess.run(
        [sys.executable, "-m", "proxy", "check"],
        env=env | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=20,
    )


def test_check_is_content(postgres: Postgres) -> None:
    done = check(postgres)
    assert done.returncode == 0, done.stderr
    assert str(postgres.port) in done.stdout
    assert postgres.password not in done.stdout


def test_check_names_every_problem_at_once(postgres: Postgres) -> None:
    done = check(postgres, default_pool_size="none", auth_type="magic", listen_port="99999")
    assert done.returncode == 1
    for name in ("default_pool_size", "auth_type", "listen_port"):
        assert name in done.stderr
    assert "Traceback" not in done.stderr


def test_check_tries_the_upstream(postgres: Postgres) -> None:
    done = check(postgres, upstream=postgres.dsn.replace(postgres.password, "not-the-password"))
    assert done.returncode == 1
    assert "password authentication failed" in done.stderr
    assert "not-the-password" not in done.stderr + done.stdout


def test_the_build_and_a_smoke_of_the_pure_one(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(pure=True, drain_timeout=5)
    with logged_in(funnel) as peer:
        assert peer.rows("SELECT 1") == [[b"1"]]
    assert "compiled=False" in funnel.log() or "compiled=false" in funnel.log()
    funnel.signal(signal.SIGTERM)
    assert funnel.wait() == 0
