"""A start where PgBouncer starts, and why there is none where the log is."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.demo.children import free_port
from tests.conftest import StartFunnel
from tests.funnel import ROOT, clean_environment, write_userlist
from tests.integration.test_pgbouncer_ini import ask
from tests.postgres import Postgres

ELSEWHERE = "203.0.113.9"
"""Nobody's address (RFC 5737)."""
OUR_PORT = 9127


@pytest.fixture
def ini(postgres: Postgres, tmp_path: Path) -> Path:
    users = write_userlist(tmp_path / "userlist.txt", postgres)
    file = tmp_path / "pgbouncer.ini"
    file.write_text(
        f"[databases]\n* = host={postgres.host} port={postgres.port}\n"
        f"[pgbouncer]\nauth_file = {users}\nunix_socket_dir =\nlisten_addr = 127.0.0.1\n"
    )
    return file


@pytest.fixture
def taken() -> Iterator[None]:
    """Somebody listens where metrics are served by default."""
    with socket.socket() as other:
        with contextlib.suppress(OSError):
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind(("127.0.0.1", OUR_PORT))
            other.listen()
        yield


def add(ini: Path, *lines: str) -> None:
    with ini.open("a") as file:
        file.writelines(f"{line}\n" for line in lines)


def fails(ini: Path) -> str:
    """What a start that fails says on stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "proxy", "serve", str(ini)],
        env=clean_environment() | {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.returncode == 2
    return done.stderr


@pytest.mark.usefixtures("taken")
def test_the_default_http_port_is_taken(pgfunnel: StartFunnel, ini: Path) -> None:
    funnel = pgfunnel(args=(str(ini),), upstream=None, auth_file=None, http_port=None)
    assert ask(funnel, funnel.upstream.database, "SELECT 1") == 1
    assert "WARNING http_not_served" in funnel.log()
    assert "set it to a free one, or off" in funnel.log()


@pytest.mark.usefixtures("taken")
def test_an_http_port_that_was_asked_for_is_taken(ini: Path) -> None:
    log = ini.parent / "own.log"
    add(ini, f"logfile = {log}", f"listen_port = {free_port()}", f"http_port = {OUR_PORT}")
    assert "http_port: cannot listen" in fails(ini)
    assert "FATAL http_port: cannot listen" in log.read_text()


def test_settings_that_cannot_work_are_in_the_log(ini: Path) -> None:
    log = ini.parent / "own.log"
    add(ini, f"logfile = {log}", "pool_mode = whatever")
    said = "will not do; give one of session, transaction, statement"
    assert said in fails(ini)
    assert said in log.read_text()


def test_an_address_that_is_another_machines(pgfunnel: StartFunnel, ini: Path) -> None:
    add(ini, f"listen_addr = {ELSEWHERE}, 127.0.0.1")
    funnel = pgfunnel(args=(str(ini),), upstream=None, listen_addr=None, auth_file=None)
    assert ask(funnel, funnel.upstream.database, "SELECT 1") == 1
    assert f"WARNING cannot listen on {ELSEWHERE}:{funnel.port}: " in funnel.log()


def test_no_address_is_ours(ini: Path) -> None:
    add(ini, f"listen_addr = {ELSEWHERE}", f"listen_port = {free_port()}", "http_port = 0")
    assert f"pgfunnel: cannot listen on {ELSEWHERE}" in fails(ini)
