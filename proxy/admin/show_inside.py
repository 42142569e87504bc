"""SHOW CONFIG, STATE, VERSION, MEM, DNS_HOSTS, DNS_ZONES, and our own PINS and PREPARED."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from proxy import __version__
from proxy.admin.look import Look
from proxy.admin.tables import INT4, INT8, TEXT, Column, Table
from proxy.session.wording import normalised
from proxy.settings.change import shown
from proxy.telemetry.views import PinView

PGBOUNCER: Final = "1.25.0"
"""The PgBouncer whose console this is."""

CONFIG: Final[Table[tuple[str, str, str, bool]]] = Table(
    "CONFIG",
    "The settings but for databases and users, by PgBouncer's names where it has them.",
    (
        Column("key", TEXT, lambda row: row[0], "the setting"),
        Column("value", TEXT, lambda row: row[1], "what it is now, without passwords"),
        Column("default", TEXT, lambda row: row[2], "what it is where nothing is said"),
        Column("changeable", TEXT, lambda row: "yes" if row[3] else "no", "by SET and RELOAD"),
    ),
    lambda look: shown(look.funnel.settings),
)


def _states(look: Look) -> Iterable[tuple[str, bool]]:
    paused = look.funnel.standing.everything
    return ("active", not paused), ("paused", paused), ("suspended", False)


STATE: Final[Table[tuple[str, bool]]] = Table(
    "STATE",
    "Whether everything is paused.",
    (
        Column("key", TEXT, lambda row: row[0], "`active`, `paused`, `suspended` (never)"),
        Column("value", TEXT, lambda row: "yes" if row[1] else "no", "`yes` or `no`"),
    ),
    _states,
)
VERSION: Final[Table[str]] = Table(
    "VERSION",
    "The version of PgBouncer whose console this is, and pgfunnel's own.",
    (Column("version", TEXT, lambda row: row, "both, as text"),),
    lambda _: (f"PgBouncer {PGBOUNCER} (pgfunnel {__version__})",),
)


def _memory(look: Look) -> Iterator[tuple[str, int, int]]:
    funnel = look.funnel
    for name, things in (
        ("client_cache", list(funnel.clients)),
        ("server_cache", list(funnel.servers())),
        ("pool_cache", list(funnel.pools_by_key)),
    ):
        yield name, sys.getsizeof(things[0]) if things else 0, len(things)
    yield "iobuf_cache", funnel.settings.read_buffer, 1
    yield "process", _resident(), 1


def _resident() -> int:
    """Bytes of memory that the process has (proc(5), statm); 0 where that is not told."""
    try:
        pages = Path("/proc/self/statm").read_text().split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


MEM: Final[Table[tuple[str, int, int]]] = Table(
    "MEM",
    "Memory, roughly: a thing's own size without what it refers to; the last row is the process.",
    (
        Column("name", TEXT, lambda row: row[0], "what is counted"),
        Column("size", INT4, lambda row: row[1], "bytes of one"),
        Column("used", INT4, lambda row: row[2], "how many there are"),
        Column("free", INT4, lambda _: 0, "0: nothing is kept for reuse"),
        Column("memtotal", INT4, lambda row: row[1] * row[2], "bytes of all"),
    ),
    _memory,
)


def _none(_: Look) -> Iterable[Any]:
    return ()


DNS_HOSTS: Final[Table[Any]] = Table(
    "DNS_HOSTS",
    "Always empty: the system's resolver is asked.",
    (
        Column("hostname", TEXT, lambda _: None, "a host name"),
        Column("ttl", INT8, lambda _: None, "seconds for which its addresses are kept"),
        Column("addrs", TEXT, lambda _: None, "its addresses"),
    ),
    _none,
)
DNS_ZONES: Final[Table[Any]] = Table(
    "DNS_ZONES",
    "Always empty: the system's resolver is asked.",
    (
        Column("zonename", TEXT, lambda _: None, "a zone"),
        Column("serial", INT8, lambda _: None, "its serial number"),
        Column("count", INT4, lambda _: None, "host names in it"),
    ),
    _none,
)
PINS: Final[Table[PinView]] = Table(
    "PINS",
    "The clients that keep their server past a transaction, and why; not in PgBouncer.",
    (
        Column("client", TEXT, lambda pin: pin.client, "the name that log lines have for it"),
        Column("database", TEXT, lambda pin: pin.database, "name of the database"),
        Column("user", TEXT, lambda pin: pin.user, "the client's user"),
        Column("state", TEXT, lambda pin: pin.state, "what the client does now"),
        Column("reason", TEXT, lambda pin: pin.reason, "why it keeps its server"),
        Column("seconds", INT4, lambda pin: int(pin.seconds), "for how long already"),
        Column("statement", TEXT, lambda pin: pin.statement, "what did it, without its literals"),
        Column("advice", TEXT, lambda pin: pin.advice, "what would make it unnecessary"),
    ),
    lambda look: look.funnel.pinned(),
)


def _prepared(look: Look) -> Iterator[tuple[str, Any, int]]:
    found = Counter(
        (server.pool.database, statement)
        for server in look.funnel.servers()
        for statement in server.shelf.held
    )
    for (database, statement), servers in found.most_common():
        yield database, statement, servers


PREPARED: Final[Table[tuple[str, Any, int]]] = Table(
    "PREPARED",
    "The prepared statements of the protocol that servers have; not in PgBouncer.",
    (
        Column("database", TEXT, lambda row: row[0], "name of the database"),
        Column("name", TEXT, lambda row: row[1].server_name.decode(), "its name in Postgres"),
        Column("servers", INT4, lambda row: row[2], "servers that have it"),
        Column(
            "statement",
            TEXT,
            lambda row: normalised(row[1].tail.partition(b"\0")[0], wide=None),
            "its text without literals",
        ),
    ),
    _prepared,
)
