"""The SQLSTATE of an error, also where libpq keeps it to itself."""

from __future__ import annotations

import re

import psycopg

# libpq gives the text of an error during connection start-up alone (libpq docs, PQerrorMessage).
_CONNECTING = (
    (r"too many clients|connection slots are reserved|too many connections", "53300"),
    (r"no more connections allowed|max_client_conn|too many waiters|max_waiters", "53300"),
    (r"query_wait_timeout|waited", "53300"),
    (r"the database system is|not yet accepting connections", "57P03"),
    (r"administrator command|shutting down", "57P01"),
    (r"password authentication failed|SASL authentication failed", "28P01"),
    (r"server login|cannot be reached|unreachable|server_login_retry", "08001"),
    (r"database .* does not exist|no such database", "3D000"),
    (r"Connection refused", "connection refused"),
    (r"timeout expired|connection timeout", "connect timeout"),
    (r"closed|reset by peer|Broken pipe|EOF|SYSCALL|connection is lost", "connection lost"),
)


def sqlstate(error: BaseException) -> str:
    """Five characters, or a few words for what never came from a server."""
    if isinstance(error, psycopg.Error) and error.sqlstate:
        return error.sqlstate
    said = str(error)
    known = (code for pattern, code in _CONNECTING if re.search(pattern, said, re.IGNORECASE))
    return next(known, type(error).__name__)


def worth_a_retry(code: str) -> bool:
    """Too many connections, or a server that starts: what a function should try again."""
    return code in ("53300", "57P03")
