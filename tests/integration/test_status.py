"""/status.json and `pgfunnel top` against the real program."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
import pytest

from tests.conftest import StartFunnel
from tests.funnel import ROOT, Funnel, clean_environment
from tests.integration.observe import until
from tests.postgres import Postgres

_TOP = [sys.executable, "-m", "proxy", "top"]


def status(funnel: Funnel) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(funnel.get("/status.json"))
    return found


def url(funnel: Funnel) -> str:
    return f"http://{funnel.host}:{funnel.http_port}"


def environment() -> dict[str, str]:
    return clean_environment() | {"PYTHONPATH": str(ROOT)}


class Terminal:
    """The far end of a terminal; `shown` is everything that was written to it."""

    def __init__(self, process: subprocess.Popen[bytes], far: int) -> None:
        self.process = process
        self.far = far
        self.shown = ""

    def until(self, text: str, seconds: float = 10.0) -> None:
        """Wait until it is written, after whatever was waited for before."""
        deadline = time.monotonic() + seconds
        while text not in self.shown:
            assert select.select([self.far], [], [], max(0.0, deadline - time.monotonic()))[0], (
                f"no {text!r} in {self.shown!r}"
            )
            self.shown += os.read(self.far, 1 << 16).decode()
        self.shown = self.shown.partition(text)[2]


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # where tests run in the background


@contextmanager
def terminal(
    *words: str, size: tuple[int, int] = (40, 120), environ: Mapping[str, str] | None = None
) -> Iterator[Terminal]:
    """`pgfunnel top` on a terminal of so many lines and columns."""
    far, near = pty.openpty()
    fcntl.ioctl(near, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    process = subprocess.Popen(
        [*_TOP, *words],
        stdin=near,
        stdout=near,
        stderr=near,
        env=environment() | dict(environ or {}),
        start_new_session=True,
        preexec_fn=_take_terminal,
    )
    os.close(near)
    try:
        yield Terminal(process, far)
    finally:
        process.kill()
        process.wait()
        os.close(far)


def once(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """`pgfunnel top` without a terminal."""
    return subprocess.run(
        [*_TOP, *words],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env=environment() | environ,
        stdin=subprocess.DEVNULL,
    )


def test_the_status_says_what_goes_on(pgfunnel: StartFunnel, own_postgres: Postgres) -> None:
    funnel = pgfunnel(own_postgres, default_pool_size=3)
    assert status(funnel)["pools"] == []
    with psycopg.connect(funnel.dsn("alice"), autocommit=True) as client:
        client.execute("SELECT pg_advisory_lock(1)")
        until(lambda: status(funnel)["pins"], what="the pin is shown")
        found = status(funnel)
        (pool,) = found["pools"]
        assert (pool["size"], pool["in_use"], pool["servers"]) == (3, 1, {"active": 1})
        assert found["clients"]["pinned"] == 1
        assert found["pins"][0]["reason"] == "advisory_lock"
        client.execute("SELECT pg_advisory_unlock(1)")
        until(lambda: not status(funnel)["pins"], what="the pin is gone")
        until(lambda: status(funnel)["recent"]["transaction"]["count"], what="its time is shown")
    until(lambda: status(funnel)["clients"]["idle"] == 0)
    assert status(funnel)["troubles"] == []


def test_troubles_hold_neither_secrets_nor_literals(
    pgfunnel: StartFunnel, own_postgres: Postgres
) -> None:
    funnel = pgfunnel(own_postgres)
    for options in ("-c work_mem=hush1", "--hush2"):
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(funnel.dsn("alice"), options=options)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(funnel.dsn("alice", "hush3"))
    until(lambda: len(status(funnel)["troubles"]) == 3, what=funnel.get("/status.json"))
    text = funnel.get("/status.json")
    assert "hush" not in text
    assert "alice-Secret" not in text
    assert {each["sqlstate"] for each in status(funnel)["troubles"]} == {"22023", "42601", "28P01"}


def test_a_database_that_is_down_is_said(pgfunnel: StartFunnel, own_postgres: Postgres) -> None:
    funnel = pgfunnel(own_postgres, upstream_grace=0)
    assert own_postgres.server is not None
    own_postgres.server.stop()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(funnel.dsn("alice"))
    until(lambda: status(funnel)["pools"][0]["failing"])
    reasons = {(each["side"], each["reason"]) for each in status(funnel)["troubles"]}
    assert reasons == {("server", "connect_failed"), ("client", "upstream_unreachable")}


def test_top_once_needs_no_terminal(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=4)
    with psycopg.connect(funnel.dsn("alice")) as client:
        client.execute("SELECT 1")
        done = once("--once", "--url", url(funnel))
        same = once("--once", PGFUNNEL_HTTP_PORT=str(funnel.http_port))
    assert (done.returncode, done.stderr) == (0, "")
    assert "serving" in done.stdout
    assert "1/4" in done.stdout
    assert "transactions/s" in done.stdout
    assert "\x1b" not in done.stdout
    assert (same.returncode, "1/4" in same.stdout) == (0, True)


def test_top_follows_until_told_to_stop(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=4)
    with terminal("--url", url(funnel), environ={"NO_COLOR": ""}) as shown:
        shown.until("\x1b[?1049h")
        shown.until("serving")
        with psycopg.connect(funnel.dsn("alice")) as client:
            client.execute("SELECT 1")
            shown.until("1/4")
        shown.until("0/4")
        os.kill(funnel.pid, signal.SIGSTOP)
        try:
            shown.until("NOTHING HEARD")
        finally:
            os.kill(funnel.pid, signal.SIGCONT)
        shown.until("\x1b[H\x1b[1mpgfunnel")
        os.write(shown.far, b"q")
        shown.until("\x1b[?1049l")
        assert shown.process.wait(5) == 0


def test_top_without_colour_and_ended_by_ctrl_c(pgfunnel: StartFunnel) -> None:
    with terminal("--url", url(pgfunnel()), environ={"NO_COLOR": "1"}) as shown:
        shown.until("\x1b[Hpgfunnel")
        shown.until("q ends this")
        for _ in range(5):
            # An interrupt that comes while Python clears up is lost: then it is pressed again. What
            # is shown meanwhile is read, or it would wait for that.
            os.write(shown.far, b"\x03")
            with suppress(AssertionError):
                shown.until("\x1b[?1049l", seconds=3)
                break
        assert shown.process.wait(10) == 0


def test_top_says_why_there_is_nothing_to_see(pgfunnel: StartFunnel, postgres: Postgres) -> None:
    off = pgfunnel(http_page=False)
    for place, words in (
        ("http://127.0.0.1:1", "Connection refused. Is pgfunnel running there"),
        (f"http://127.0.0.1:{postgres.port}", "answers, but not in HTTP"),
        (url(off), "has no status.json. Is it pgfunnel, and is its http_page on?"),
        (f"{url(off)}/metrics", "has no status.json"),
    ):
        done = once("--once", "--url", place)
        assert (done.returncode, done.stdout) == (1, "")
        assert words in done.stderr
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "words, said",
    [
        (["--once", "--url", "127.0.0.1:9127"], "write http://host:port"),
        (["--once", "--url", "http://me:secret@host"], "write http://host:port"),
        (["--once", "--url", "http://host:x"], "write http://host:port"),
        (["--onze"], "did you mean --once?"),
        (["--http-port", "1"], "add --once"),
    ],
)
def test_top_misused(words: list[str], said: str) -> None:
    done = once(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "secret" not in done.stderr
