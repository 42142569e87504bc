"""Every way to refuse or fail, with its SQLSTATE and the words a client reads.

A message says what happened; the hint says what to change. SQLSTATEs are those that drivers
and retry loops know (PostgreSQL documentation, appendix A).
"""

from __future__ import annotations

from typing import Any, ClassVar

QUERY_CANCELED = "57014"
"""SQLSTATE of what a cancel request or a time limit has ended (PostgreSQL documentation, Appendix
A)."""


class PgfunnelError(Exception):
    """Base of everything that is told to a client or an operator in words."""

    sqlstate: ClassVar[str] = "XX000"
    severity: ClassVar[str] = "FATAL"
    hint: ClassVar[str] = ""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.advice = hint or self.hint


class TooManyClients(PgfunnelError):
    sqlstate = "53300"
    hint = "Retry with backoff, or raise max_client_conn."


class TooManyWaiters(PgfunnelError):
    sqlstate = "53300"
    hint = "Retry with backoff; raise max_waiters or default_pool_size if this is the usual load."


class WaitedTooLong(PgfunnelError):
    sqlstate = "53300"
    hint = "Retry with backoff; raise default_pool_size or query_wait_timeout."


class WrongPassword(PgfunnelError):
    sqlstate = "28P01"


class LoginForbidden(PgfunnelError):
    """The client may not come in this way (no TLS, a method that cannot work)."""

    sqlstate = "28000"


class NoSuchDatabase(PgfunnelError):
    sqlstate = "3D000"
    hint = "Connect to a database that pgfunnel serves, or add it to its configuration."


class NoLongerServed(PgfunnelError):
    """New settings lead elsewhere."""

    sqlstate = "57P01"
    hint = "Connect again; the settings have changed."


class DatabaseDisabled(PgfunnelError):
    sqlstate = "55000"
    hint = "An operator has disabled it; ENABLE at the console takes that back."


class ClientKilled(PgfunnelError):
    """An operator closed the connection."""

    sqlstate = "57P01"


class ConsoleForbidden(PgfunnelError):
    sqlstate = "28000"
    hint = "Add the user to admin_users or stats_users."


class CommandUnknown(PgfunnelError):
    """The console has no such command, or not in this form."""

    sqlstate = "42601"


class CommandForbidden(PgfunnelError):
    sqlstate = "42501"
    hint = "Log in as one of admin_users."


class CommandImpossible(PgfunnelError):
    """Not now, or not here: the message says which."""

    sqlstate = "55000"


class ProtocolViolation(PgfunnelError):
    sqlstate = "08P01"


class OptionsRefused(PgfunnelError):
    """The startup parameter `options` is broken, or has a switch that is for a server's start."""

    sqlstate = "42601"


class UpstreamUnreachable(PgfunnelError):
    sqlstate = "08001"


class LoginHopeless(UpstreamUnreachable):
    """No secret that is known here can answer what Postgres asks for: no try will."""

    sqlstate = "28000"


class UpstreamLost(PgfunnelError):
    sqlstate = "08006"


class ShuttingDown(PgfunnelError):
    sqlstate = "57P01"
    hint = "Connect again; another instance may serve you."

    def __init__(self, message: str = "server shutting down") -> None:
        super().__init__(message)


class LoginTimeout(PgfunnelError):
    sqlstate = QUERY_CANCELED


class Cancelled(PgfunnelError):
    """At the request of whoever sent it, before it ran."""

    sqlstate = QUERY_CANCELED

    def __init__(self) -> None:
        super().__init__("canceling statement due to user request")


class QueryTooLong(PgfunnelError):
    sqlstate = QUERY_CANCELED
    hint = "The query was cancelled; see query_timeout."


class TransactionTooLong(PgfunnelError):
    """As Postgres's transaction_timeout."""

    sqlstate = "25P04"
    hint = "The transaction was rolled back; see transaction_timeout."


class IdleInTransaction(PgfunnelError):
    sqlstate = "25P03"
    hint = "The transaction was rolled back; see idle_transaction_timeout."


class IdleSession(PgfunnelError):
    sqlstate = "57P05"
    hint = "Connect again; see client_idle_timeout."


class FeatureRefused(PgfunnelError):
    sqlstate = "0A000"


class InternalError(PgfunnelError):
    """A fault of pgfunnel's own; the log has it."""

    def __init__(self, message: str = "internal error; this connection is closed") -> None:
        super().__init__(message)


class PostgresError(PgfunnelError):
    """What Postgres itself said; `fields` by their letters, passed on word for word."""

    sqlstate: str  # type: ignore[misc]

    def __init__(self, fields: dict[str, str]) -> None:
        super().__init__(fields.get("M", "unknown error"))
        self.fields = fields
        self.sqlstate = fields.get("C", "XX000")


class SettingsError(PgfunnelError):
    """A configuration that cannot work; `problems` names every one of them.

    `understood`: the settings that are left without those that are wrong, if any could be read.
    """

    sqlstate = "F0000"

    def __init__(self, problems: list[str], understood: Any = None) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
        self.understood = understood
