import asyncio
import fcntl
import json
import logging
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.telemetry.logs import (
    Format,
    JsonLines,
    LineHandler,
    TextLines,
    log_closed,
    log_event,
    log_opened,
    setup,
)
from proxy.telemetry.reasons import CloseReason, Side
from proxy.telemetry.syslog import Syslog

LOG = logging.getLogger("pgfunnel.test")


class Pipe:
    """Where the log goes in these tests: a pipe that is read when asked."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)

    def lines(self) -> list[str]:
        octets = b""
        with suppress(BlockingIOError):
            while piece := os.read(self.reader, 65536):
                octets += piece
        return octets.decode().splitlines()

    def set_up(self, layout: Format, level: str = "info") -> None:
        setup(layout, level, self.writer)

    def close(self) -> None:
        for fd in (self.reader, self.writer):
            with suppress(OSError):
                os.close(fd)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    root = logging.getLogger()
    before = root.level
    pipe = Pipe()
    yield pipe
    for handler in [h for h in root.handlers if isinstance(h, LineHandler)]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(before)
    pipe.close()


def closed(user: str = "alice", told: str = "") -> None:
    log_closed(
        LOG,
        Side.CLIENT,
        0x1A2B,
        CloseReason.CLIENT_LEFT,
        database="appdb",
        user=user,
        peer="10.0.0.7:5123",
        age_s=12.3,
        told=told,
    )


def test_a_line_of_text(pipe: Pipe) -> None:
    pipe.set_up("text")
    closed()
    [line] = pipe.lines()
    assert re.fullmatch(
        rf"\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{{3}} UTC \[{os.getpid()}\] LOG "
        r"C-0x1a2b: appdb/alice@10\.0\.0\.7:5123 closing because: client close request "
        r"\(age=12s, reason=client_left\)",
        line,
    )


def test_a_line_of_json(pipe: Pipe) -> None:
    pipe.set_up("json")
    closed()
    [line] = pipe.lines()
    read = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", read.pop("ts"))
    assert read == {
        "level": "info",
        "logger": "pgfunnel.test",
        "event": "closed",
        "id": "C-0x1a2b",
        "database": "appdb",
        "user": "alice",
        "peer": "10.0.0.7:5123",
        "reason": "client_left",
        "said": "client close request",
        "age_s": 12.3,
    }


@pytest.mark.parametrize("elsewhere", [False, True], ids=["alone", "beside another handler"])
def test_words_of_pgbouncers(pipe: Pipe, elsewhere: bool) -> None:
    """What tools look for, whichever way a line is put together."""
    logging.getLogger().handlers = [logging.NullHandler()] if elsewhere else []
    pipe.set_up("text")
    log_opened(LOG, 7, "app", "a b", "[::1]:5432", "TLSv1.3/TLS_AES_256_GCM_SHA384", "no")
    closed(told="no such database: \x1b[31m")
    log_event(LOG, logging.INFO, "connected", id="S-0x8", database="d", user="u", local="::1:9")
    log_event(LOG, logging.ERROR, "refused", id="C-0x1", error="query_wait_timeout", why="")
    lines = [line.partition("] ")[2] for line in pipe.lines()]
    opened, ended, *others = lines
    assert opened == (
        'LOG C-0x7: app/"a b"@[::1]:5432 login attempt: db=app user="a b"'
        " tls=TLSv1.3/TLS_AES_256_GCM_SHA384 replication=no"
    )
    assert ended == (
        r"LOG C-0x1a2b: appdb/alice@10.0.0.7:5123 closing because: no such database: \x1b[31m"
        " (age=12s, reason=client_left)"
    )
    assert others == [
        "LOG S-0x8: d/u new connection to server (from ::1:9)",
        'ERROR C-0x1: pooler error: query_wait_timeout (why="")',
    ]


def test_an_event_about_nobody(pipe: Pipe) -> None:
    pipe.set_up("text")
    log_event(LOG, logging.WARNING, "open_files_low", wanted=5200, allowed=1024, path="/x y")
    [line] = pipe.lines()
    assert line.endswith('WARNING open_files_low (wanted=5200, allowed=1024, path="/x y")')


def test_a_name_cannot_forge_a_line_or_a_field(pipe: Pipe) -> None:
    pipe.set_up("text")
    closed('x closed: killed (age=1s)\n2026-01-01 INFO \x1b[31m"\u202e\\')
    [line] = pipe.lines()
    quoted = r'"x closed: killed (age=1s)\n2026-01-01 INFO \x1b[31m\"\u202e\\"'
    assert f"C-0x1a2b: appdb/{quoted}@10.0.0.7:5123 closing because: client close request" in line


@given(value=st.text(st.characters(), max_size=50), name=st.sampled_from(["user", "reason", "x"]))
def test_whatever_a_field_holds_it_is_one_printable_line(value: str, name: str) -> None:
    record = logging.LogRecord("pgfunnel", logging.INFO, "", 0, "seen", (), None)
    record.fields = {name: value}
    text = TextLines().format(record)
    assert text.isprintable()
    octets = JsonLines().format(record).encode("ascii")
    assert b"\n" not in octets
    assert json.loads(octets)[name] == value


def test_a_long_value_is_cut(pipe: Pipe) -> None:
    pipe.set_up("text")
    log_event(LOG, logging.INFO, "seen", x="a" * 1_000_000)
    [line] = pipe.lines()
    assert len(line) < 3000


def test_nothing_below_the_level(pipe: Pipe) -> None:
    pipe.set_up("text", "warning")
    closed()
    assert pipe.lines() == []


def test_setting_up_again_replaces(pipe: Pipe) -> None:
    pipe.set_up("text")
    pipe.set_up("json", "debug")
    log_event(LOG, logging.DEBUG, "seen")
    [line] = pipe.lines()
    assert json.loads(line)["event"] == "seen"


def test_an_unknown_level_is_refused(pipe: Pipe) -> None:
    with pytest.raises(ValueError, match="LOUD"):
        pipe.set_up("text", "loud")


@pytest.mark.parametrize("layout", ["text", "json"])
def test_asyncio_logs_through_it_on_one_line(pipe: Pipe, layout: Format) -> None:
    pipe.set_up(layout)

    async def forget_a_failure() -> None:
        asyncio.get_running_loop().call_soon(lambda: 1 // 0)
        await asyncio.sleep(0)

    asyncio.run(forget_a_failure())
    [line] = pipe.lines()
    assert "ERROR" in line.upper()
    assert "ZeroDivisionError" in line


def test_a_value_that_cannot_be_printed(pipe: Pipe) -> None:
    class Sulky:
        def __str__(self) -> str:
            raise RuntimeError

    pipe.set_up("text")
    log_event(LOG, logging.INFO, "seen", value=Sulky())
    [line] = pipe.lines()
    assert line.endswith("log_line_failed (error=RuntimeError)")


def test_a_reader_that_left_does_no_harm(pipe: Pipe) -> None:
    pipe.set_up("text")
    os.close(pipe.reader)
    closed()


def test_a_reader_that_stalls_costs_lines_not_time(pipe: Pipe) -> None:
    fcntl.fcntl(pipe.writer, fcntl.F_SETPIPE_SZ, 8192)
    pipe.set_up("text")
    for _ in range(300):
        closed()
    written = len(pipe.lines())
    assert 0 < written < 300
    closed()
    *lines, told = pipe.lines()
    assert lines[0].endswith("closing because: client close request (age=12s, reason=client_left)")
    assert f"log_lines_lost (lines={300 - written})" in told


def test_a_line_torn_by_a_stall_does_not_spoil_the_next(pipe: Pipe) -> None:
    fcntl.fcntl(pipe.writer, fcntl.F_SETPIPE_SZ, 4096)
    pipe.set_up("text")
    log_event(LOG, logging.INFO, "long", a="a" * 1900, b="b" * 1900, c="c" * 1900)
    pipe.lines()
    closed()
    lines = pipe.lines()
    assert any(line.startswith("20") and "closing because: client close" in line for line in lines)


def test_a_process_without_stderr_writes_to_no_socket() -> None:
    script = (
        "import os, socket, logging\n"
        "os.close(2)\n"
        "from proxy.telemetry.logs import setup, log_event\n"
        "setup('text', 'info')\n"
        "a, b = socket.socketpair()\n"
        "log_event(logging.getLogger('x'), logging.INFO, 'seen')\n"
        "b.setblocking(False)\n"
        "try:\n    print(b.recv(10), a.fileno())\n"
        "except BlockingIOError:\n    print('nothing')\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=20)
    assert ran.stdout == b"nothing\n"


@pytest.mark.parametrize("layout", ["text", "json"])
def test_the_systems_log(pipe: Pipe, layout: Format, tmp_path: Path) -> None:
    place = tmp_path / "log"
    syslog = Syslog("funnel", "local3", str(place))
    setup(layout, "info", pipe.writer, syslog)
    closed("nobody listens yet")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(place))
        listening.setblocking(False)
        closed()
        log_event(LOG, logging.ERROR, "broken", why="] INFO no")
        first, second = (listening.recv(4096).decode() for _ in range(2))
        if layout == "json":
            assert first.startswith(f'<158>funnel[{os.getpid()}]: {{"ts":')
            return
        who = "C-0x1a2b: appdb/alice@10.0.0.7:5123"
        said = "closing because: client close request (age=12s, reason=client_left)"
        assert first == f"<158>funnel[{os.getpid()}]: {who} {said}"
        assert second == f'<155>funnel[{os.getpid()}]: broken (why="] INFO no")'
        for _ in range(5000):
            closed()
    assert len(pipe.lines()) > 2
