"""Structured logs on stderr: one line for an event, as text or JSON.

    2026-11-23 13:40:01.123 UTC [71] LOG C-0x1a2b: appdb/alice@10.0.0.7:5123 closing because: \
client close request (age=12s, reason=client_left)

An event is a short word with fields; in text, PgBouncer's words stand for it where it has them
(`proxy.telemetry.said`). Five fields say who it is about and why (`id`, `database`, `user`, `peer`,
`reason`) and have a place of their own in the text; the others follow in brackets. A field whose
name ends in `_s` is in seconds. Whatever a field holds, it stays on its line.

Neither a broken nor a stalled stderr harms the proxy: lines that cannot be written at once are
dropped, and the next one that can is followed by their number.
"""

from __future__ import annotations

import json
import logging
import os
import re
import select
import time
from collections.abc import Callable
from functools import lru_cache
from string import Formatter
from typing import Literal

import cython

from proxy.telemetry.reasons import CloseReason, Side
from proxy.telemetry.said import EVENTS, LEVELS, closed
from proxy.telemetry.syslog import Syslog

Format = Literal["text", "json"]

# Linux: a pipe that poll() calls writable takes this much without blocking (pipe(7), PIPE_BUF).
_PIECE = 4096
_LONGEST_VALUE = 2000
_PLAIN = re.compile(r"[\w.:%+\-\[\]*]+", re.ASCII).fullmatch
_PLACED = frozenset({"id", "database", "user", "peer", "reason"})
_SAID = {
    event: (words, {name for _, name, _, _ in Formatter().parse(words) if name})
    for event, words in EVENTS.items()
}
"""How an event reads in text, and the fields that this has used."""
_encode_json = json.JSONEncoder(separators=(",", ":"), default=str).encode


def setup(
    format: Format,  # noqa: A002
    level: str | int,
    fd: int = 2,
    syslog: Syslog | None = None,
) -> None:
    """Send every log of this process, asyncio's too, to `fd`, replacing what was set up before.

    And to `syslog`, if there is one.

    `level` is a name known to logging, in any case. Raises ValueError for another one.
    """
    handler = LineHandler(fd, syslog)
    handler.setFormatter(JsonLines() if format == "json" else TextLines())
    # Documented switches (logging HOWTO, "Optimization"): what no line of ours prints.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    root = logging.getLogger()
    root.setLevel(level.upper() if isinstance(level, str) else level)
    for old in [h for h in root.handlers if isinstance(h, LineHandler)]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    global _handler
    _handler = handler if len(root.handlers) == 1 else None


def defer(call_soon: Callable[[Callable[[], None]], object] | None) -> None:
    """Let lines gather until `call_soon` runs the function it is given; None: write at once."""
    if _handler is not None:
        _handler.defer = call_soon
        _handler.flush()


def log_event(logger: logging.Logger, level: int, event: str, /, **fields: object) -> None:
    """Log an event, such as `closed`, with its fields; costs nothing below the logger's level."""
    if not logger.isEnabledFor(level):
        return
    handler = _handler
    if handler is not None and logger.propagate and not logger.handlers:
        handler.event(logger.name, level, event, fields)
    else:
        logger.handle(_record(logger.name, level, event, fields))


@cython.ccall
def log_opened(
    logger: logging.Logger,
    number: cython.longlong,
    database: str,
    user: str,
    peer: str,
    tls: str,
    replication: str,
) -> object:
    """A client has logged in; `tls` and `replication` are `no`, or which."""
    said = f"{_attempt(database, user)} tls={tls} replication={replication}"
    if _connection(logger, Side.CLIENT, number, database, user, peer, said):
        return None
    log_event(
        logger,
        logging.INFO,
        "opened",
        id=connection_id(Side.CLIENT, number),
        database=database,
        user=user,
        peer=peer,
        tls=tls,
        replication=replication,
    )
    return None


@cython.ccall
def log_closed(
    logger: logging.Logger,
    side: Side,
    number: cython.longlong,
    reason: CloseReason,
    database: str,
    user: str,
    peer: str,
    age_s: cython.double,
    told: str,
) -> object:
    """A connection is closed, `age_s` seconds after it was accepted or begun.

    `told`: what the client was told; empty if it was told nothing.
    """
    words = _bare(told) if told else closed(side, reason)
    said = f"closing because: {words} (age={int(age_s)}s, reason={reason})"
    if _connection(logger, side, number, database, user, peer, said):
        return None
    log_event(
        logger,
        logging.INFO,
        "closed",
        id=connection_id(side, number),
        database=database,
        user=user,
        peer=peer,
        reason=reason.value,
        said=words,
        age_s=int(age_s * 1000 + 0.5) / 1000,
    )
    return None


@cython.cfunc
def _connection(
    logger: logging.Logger,
    side: Side,
    number: cython.longlong,
    database: str,
    user: str,
    peer: str,
    said: str,
) -> cython.bint:
    """The two commonest lines, put together without fields; False where that cannot be done."""
    handler = _handler
    if handler is None or handler.text is None or logger.handlers or not logger.propagate:
        return False
    if logger.isEnabledFor(logging.INFO):
        who = f"{connection_id(side, number)}: {_whose(database, user)}@{_word(peer)}"
        handler.add(f"{handler.text.head(time.time(), 'LOG')} {who} {said}")
    return True


@lru_cache(maxsize=4096)
def _whose(database: str, user: str) -> str:
    """As PgBouncer, also of a peer that has not said yet who it is."""
    named = _word(database) if database else "(nodb)"
    return f"{named}/{_word(user) if user else '(nouser)'}"


@lru_cache(maxsize=4096)
def _attempt(database: str, user: str) -> str:
    return f"login attempt: db={_word(database)} user={_word(user)}"


def connection_id(side: Side, number: int) -> str:
    """`C-0x1a2b` for a client, `S-0x1a2b` for a server: the name used in logs and console."""
    return ("C-" if side is Side.CLIENT else "S-") + hex(number)


class LineHandler(logging.Handler):
    """Writes whole lines to a copy of a file descriptor, and never waits for its reader."""

    def __init__(self, fd: int, syslog: Syslog | None = None) -> None:
        super().__init__()
        self._syslog = syslog
        try:
            self._fd = os.dup(fd)
        except OSError:
            self._fd = os.open(os.devnull, os.O_WRONLY)
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLOUT)
        self._lost = 0
        self._torn = False
        self._gathered: list[str] = []
        self.text: TextLines | None = None
        self.defer: Callable[[Callable[[], None]], object] | None = None

    def emit(self, record: logging.LogRecord) -> None:
        self.add(self._line(record))

    def setFormatter(self, fmt: logging.Formatter | None) -> None:  # noqa: N802 - logging's name
        super().setFormatter(fmt)
        self.text = fmt if isinstance(fmt, TextLines) else None

    def event(self, name: str, level: int, event: str, fields: dict[str, object]) -> None:
        """As `emit`, without a LogRecord where the lines' format can do without one."""
        lines = self.formatter
        if isinstance(lines, TextLines):
            self.add(lines.line(time.time(), logging.getLevelName(level), event, fields))
        else:
            self.emit(_record(name, level, event, fields))

    def add(self, line: str) -> None:
        if self._syslog is not None:
            self._say(self._syslog, line)
        if self.defer is None:
            self._write_out(line)
            return
        self._gathered.append(line)
        if len(self._gathered) == 1:
            self.defer(self.flush)

    def _say(self, syslog: Syslog, line: str) -> None:
        """The system's log has the time, and the process, of its own."""
        if self.text is None:
            syslog.say("LOG", line)
            return
        level, _, said = line[self.text.width(line) :].partition(" ")
        syslog.say(level, said)

    def flush(self) -> None:
        """Write what has gathered, several lines at a time."""
        gathered, self._gathered = self._gathered, []
        if not gathered:
            return
        together: list[str] = []
        size = 0
        for line in gathered:
            size += len(line) + 1 if line.isascii() else 4 * len(line) + 1
            if together and size > _PIECE:
                self._write_out("\n".join(together))
                together, size = [], 4 * len(line) + 1
            together.append(line)
        self._write_out("\n".join(together))

    def _write_out(self, lines: str) -> None:
        self.write(lines)
        if self._lost and not self._torn and self._can_write():
            lost, self._lost = self._lost, 0
            self.write(self._note(logging.WARNING, "log_lines_lost", lines=lost))

    def write(self, line: str) -> None:
        """Write the line with its newline, or count it as lost."""
        text = f"\n{line}\n" if self._torn else f"{line}\n"
        octets = text.encode("utf-8", "backslashreplace")
        for start in range(0, len(octets), _PIECE):
            if not self._write_piece(octets[start : start + _PIECE]):
                self._lost += 1 + line.count("\n")
                self._torn = self._torn or start > 0
                return
        self._torn = False

    def _write_piece(self, piece: bytes) -> bool:
        try:
            return self._can_write() and os.write(self._fd, piece) == len(piece)
        except OSError:
            return False

    def _can_write(self) -> bool:
        return any(events == select.POLLOUT for _, events in self._poll.poll(0))

    def _line(self, record: logging.LogRecord) -> str:
        try:
            return self.format(record)
        except Exception as error:  # noqa: BLE001 - a value that cannot be printed
            return self._note(logging.ERROR, "log_line_failed", error=type(error).__name__)

    def _note(self, level: int, event: str, **fields: object) -> str:
        return self.format(_record("pgfunnel", level, event, fields))

    def close(self) -> None:
        self.flush()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._syslog is not None:
            self._syslog.close()
        super().close()


_handler: LineHandler | None = None
"""The one that `setup` made, when nobody else listens."""


class TextLines(logging.Formatter):
    """One line of text for people and for grep."""

    def __init__(self) -> None:
        super().__init__()
        self._clock = _Clock(" ")
        self._pid = os.getpid()
        self._millisecond = -1
        self._heads: dict[str, str] = {}

    def format(self, record: logging.LogRecord) -> str:
        return self.line(record.created, record.levelname, _event(record), _fields(record))

    def head(self, at: float, level: str) -> str:
        """How lines begin; spelt once for all of a millisecond."""
        millisecond = int(at * 1000)
        if millisecond != self._millisecond:
            self._millisecond = millisecond
            self._heads.clear()
        head = self._heads.get(level)
        if head is None:
            head = f"{self._clock.read(at)} UTC [{self._pid}] {level}"
            self._heads[level] = head
        return head

    def width(self, line: str) -> int:
        """How much of a line comes before its level."""
        return line.index("] ") + 2

    def line(self, at: float, level: str, event: str, fields: dict[str, object]) -> str:
        """One event's line; `at` in seconds of Unix time."""
        head = self.head(at, LEVELS.get(level, level))
        said, used = _said(event, fields)
        rest = [_pair(n, fields[n]) for n in fields if n not in _PLACED and n not in used]
        more = f" ({', '.join(rest)})" if rest else ""
        return f"{head} {_who(fields)}{said}{more}"


class JsonLines(logging.Formatter):
    """One JSON object a line: ts (RFC 3339, UTC), level, logger, event, then the fields."""

    def __init__(self) -> None:
        super().__init__()
        self._clock = _Clock("T")

    def format(self, record: logging.LogRecord) -> str:
        return _encode_json(
            {
                "ts": f"{self._clock.read(record.created)}Z",
                "level": record.levelname.lower(),
                "logger": record.name,
                "event": _event(record),
            }
            | {name: _bounded(value) for name, value in _fields(record).items()}
        )


class _Clock:
    """Unix time as a date and time of UTC with milliseconds; a second is spelt out once."""

    def __init__(self, between: str) -> None:
        self._format = f"%Y-%m-%d{between}%H:%M:%S"
        self._second = -1
        self._spelt = ""

    def read(self, seconds: float) -> str:
        second = int(seconds)
        if second != self._second:
            self._spelt = time.strftime(self._format, time.gmtime(second))
            self._second = second
        return f"{self._spelt}.{int((seconds - second) * 1000):03d}"


def _record(name: str, level: int, event: str, fields: dict[str, object]) -> logging.LogRecord:
    # Made by hand because Logger.log() walks the stack for a file and line that nobody prints.
    record = logging.LogRecord(name, level, "", 0, event, (), None)
    record.fields = fields
    return record


def _event(record: logging.LogRecord) -> str:
    return record.getMessage()[:_LONGEST_VALUE]


def _fields(record: logging.LogRecord) -> dict[str, object]:
    fields: dict[str, object] | None = getattr(record, "fields", None)
    if fields is None:
        fields = {}
    if record.exc_info and record.exc_info[0]:
        trace = logging.Formatter().formatException(record.exc_info)
        # The end of a traceback says most.
        return {**fields, "exception": trace[-_LONGEST_VALUE:]}
    return fields


def _said(event: str, fields: dict[str, object]) -> tuple[str, set[str]]:
    """An event in words, and the fields that these contain."""
    words, used = _SAID.get(event, ("", set()))
    if words and used <= fields.keys():
        told = {n: _word(fields[n]) if n in _PLACED else _bare(_whole(fields[n])) for n in used}
        return words.format_map(told), used
    reason = f": {_word(fields['reason'])}" if "reason" in fields else ""
    return _bare(event) + reason, set()


def _whole(value: object) -> object:
    """PgBouncer's words have whole numbers."""
    return int(value) if isinstance(value, float) else value


def _who(fields: dict[str, object]) -> str:
    """`C-0x1a2b: appdb/alice@10.0.0.7:5123 `, or as much of it as is known."""
    name = f"{_word(fields['id'])}: " if "id" in fields else ""
    if "user" in fields:
        name += _whose(str(fields.get("database", "")), str(fields["user"]))
        return f"{name}@{_word(fields['peer'])} " if "peer" in fields else f"{name} "
    return f"{name}{_word(fields['peer'])} " if "peer" in fields else name


def _pair(name: str, value: object) -> str:
    if name.endswith("_s"):
        return f"{name[:-2]}={_word(value)}s"
    return f"{name}={_word(value)}"


def _word(value: object) -> str:
    """The value as it stands if it is one plain word, else in double quotes."""
    text = str(value)
    if _PLAIN(text) and len(text) <= _LONGEST_VALUE:
        return text
    quoted = _escaped(text[:_LONGEST_VALUE].replace("\\", "\\\\").replace('"', '\\"'))
    return f'"{quoted}"'


def _bare(value: object) -> str:
    """The value without quotes, on its line."""
    return _escaped(str(value)[:_LONGEST_VALUE])


def _escaped(text: str) -> str:
    """Control characters and others that a terminal would act on, spelt with a backslash."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def _bounded(value: object) -> object:
    if isinstance(value, str):
        return value[:_LONGEST_VALUE]
    if value is None or isinstance(value, (int, float)):
        return value
    return str(value)[:_LONGEST_VALUE]
