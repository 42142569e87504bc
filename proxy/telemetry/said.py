"""How events read in text: PgBouncer's words, where its log has the event, since tools go by them.

In JSON an event is its own word with its fields, whatever stands here.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from proxy.telemetry.reasons import CloseReason, Side

LEVELS: Final = MappingProxyType({"INFO": "LOG", "CRITICAL": "FATAL"})
"""PgBouncer's names for the levels of logging that it calls otherwise."""

EVENTS: Final = MappingProxyType(
    {
        "opened": "login attempt: db={database} user={user} tls={tls} replication={replication}",
        "connected": "new connection to server (from {local})",
        "closed": "closing because: {said} (age={age_s}s, reason={reason})",
        "refused": "pooler error: {error}",
        "reserve_taken": "taking connection from reserve_pool",
        "server_login_failed": "server login failed: {severity} {error}",
        "auth_query_failed": "error response from auth_query: {error}",
        "console": "{command}",
        "reloading": "got {told}, re-reading config",
        "reload_failed": "config file loading failed: {problem}",
        "paused": "got {told}, pausing all activity",
        "resumed": "got {told}, continuing from PAUSE",
        "draining": "got {told}, shutting down, waiting for {waits_for}",
        "stopping": "got {told}, fast exit",
        "stopping_again": "got {told} while shutting down, fast exit",
        "cannot_listen": "cannot listen on {addr}:{port}: {error}",
        "listening": "listening on {addr}:{port}",
        "start_failed": "{problem}",
        "up": "process up: pgfunnel {version}",
        "stats": "stats: {xacts_per_s} xacts/s, {queries_per_s} queries/s,"
        " {client_parses_per_s} client parses/s, {server_parses_per_s} server parses/s,"
        " {binds_per_s} binds/s, in {in_bytes_per_s} B/s, out {out_bytes_per_s} B/s,"
        " xact {xact_us} us, query {query_us} us, wait {wait_us} us",
    }
)
"""Event: its words, with fields in braces; other fields follow in brackets."""

_CLIENT: Final = {
    CloseReason.CLIENT_LEFT: "client close request",
    CloseReason.CLIENT_VANISHED: "client unexpected eof",
    CloseReason.TLS_FAILED: "TLS handshake error",
}
_CHANGED: Final = "database configuration changed"
_SERVER: Final = {
    CloseReason.CLIENT_VANISHED: "client disconnect while server was not ready",
    CloseReason.PROTOCOL_VIOLATION: "bad packet",
    CloseReason.IDLE_TIMEOUT: "server idle timeout",
    CloseReason.QUERY_TIMEOUT: "query timeout",
    CloseReason.IDLE_TRANSACTION_TIMEOUT: "idle transaction timeout",
    CloseReason.TRANSACTION_TIMEOUT: "transaction timeout",
    CloseReason.NAME_CHANGED: _CHANGED,
    CloseReason.OUTDATED: _CHANGED,
    CloseReason.LIFETIME: "server lifetime over",
    CloseReason.SERVER_CLOSED: "server conn crashed?",
    CloseReason.RESET_FAILED: "reset query failed",
    CloseReason.UNCLEAN: "idle server got dirty",
    CloseReason.CHECK_FAILED: "test query failed",
    CloseReason.SURPLUS: "too many servers in the pool",
    CloseReason.KILLED: "database removed",
    CloseReason.PAUSED: "pause mode",
    CloseReason.RECONNECT: _CHANGED,
    CloseReason.RELOAD: _CHANGED,
    CloseReason.SHUTTING_DOWN: "server shutting down",
}


def closed(side: Side, reason: CloseReason) -> str:
    """Why a connection is closed, in words, if its client was told nothing."""
    words: Mapping[CloseReason, str] = _CLIENT if side is Side.CLIENT else _SERVER
    return words.get(reason) or reason.value
