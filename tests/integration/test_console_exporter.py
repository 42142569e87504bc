"""What the Prometheus exporter for PgBouncer asks, it gets in types that Go's lib/pq can read.

Its queries and columns: prometheus-community/pgbouncer_exporter, collector.go. A label must
arrive as text, an integer or NULL; a metric must read as a number.
"""

from __future__ import annotations

import struct

import pytest

from proxy.wire import messages
from tests.conftest import StartFunnel
from tests.integration.peer import Message, Peer
from tests.postgres import USERS

LABELS = {
    "DATABASES": {"name", "host", "port", "database", "force_user", "pool_mode"},
    "STATS_TOTALS": {"database"},
    "POOLS": {"database", "user"},
}
METRICS = {
    "DATABASES": {
        *("pool_size", "max_connections", "current_connections", "paused", "disabled"),
    },
    "STATS_TOTALS": {
        *("query_count", "query_time", "bytes_received", "bytes_sent", "wait_time", "xact_count"),
        *("xact_time", "client_parse_count", "server_parse_count", "bind_count"),
        "server_assignment_count",
    },
    "POOLS": {
        *("cl_active", "cl_active_cancel_req", "cl_waiting", "cl_waiting_cancel_req"),
        *("sv_active", "sv_active_cancel", "sv_being_canceled", "sv_idle", "sv_used"),
        *("sv_tested", "sv_login", "maxwait"),
    },
}
LISTS = {
    *("databases", "users", "pools", "free_clients", "used_clients", "login_clients"),
    *("free_servers", "used_servers", "dns_names", "dns_zones", "dns_queries"),
}
_READ_AS_LABELS = {25, 20, 23}  # text, int8, int4


def table(answer: list[Message]) -> tuple[dict[str, int], list[list[bytes | None]]]:
    """Columns with the OIDs of their types, and the rows."""
    head = next(body for kind, body in answer if kind == b"T")
    columns, at = {}, 2
    while at < len(head):
        end = head.index(b"\0", at)
        columns[head[at:end].decode()] = struct.unpack_from("!I", head, end + 7)[0]
        at = end + 19
    return columns, [messages.read_row(body) for kind, body in answer if kind == b"D"]


@pytest.fixture
def exporter(pgfunnel: StartFunnel) -> Peer:
    """Logged in as lib/pq does, after a client has done something."""
    funnel = pgfunnel(stats_users="bob")
    with Peer(funnel.host, funnel.port) as client:
        client.log_in("alice", funnel.upstream.database, USERS["alice"]).query("SELECT 1")
    return Peer(funnel.host, funnel.port).log_in(
        "bob", "pgbouncer", USERS["bob"], extra_float_digits="2", client_encoding="UTF8"
    )


@pytest.mark.parametrize("what", LABELS)
def test_labels_and_metrics(exporter: Peer, what: str) -> None:
    with exporter:
        columns, rows = table(exporter.query(f"SHOW {what};"))
        assert rows
        assert columns.keys() >= LABELS[what] | METRICS[what]
        assert {columns[name] for name in LABELS[what]} <= _READ_AS_LABELS
        names = list(columns)
        for row in rows:
            values = dict(zip(names, row, strict=True))
            assert all(float(values[name] or "missing") >= 0 for name in METRICS[what])


def test_lists_and_config(exporter: Peer) -> None:
    with exporter:
        columns, rows = table(exporter.query("SHOW LISTS;"))
        assert list(columns) == ["list", "items"]
        lists = {str(name, "ascii"): float(items or "missing") for name, items in rows if name}
        assert lists.keys() >= LISTS
        columns, rows = table(exporter.query("SHOW CONFIG;"))
        assert list(columns) == ["key", "value", "default", "changeable"]
        config = {row[0]: row[1] for row in rows}
        assert float(config[b"max_client_conn"] or "missing") == 10000
        assert float(config[b"max_user_connections"] or "missing") == 0


def test_its_ping_and_its_version(exporter: Peer) -> None:
    with exporter:
        assert [kind for kind, _ in exporter.query(";")] == [b"I", b"Z"]
        columns, rows = table(exporter.query("SHOW VERSION;"))
        assert list(columns) == ["version"]
        assert len(rows) == 1
