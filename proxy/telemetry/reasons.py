"""Why a connection was closed: the same word in the log, the metrics and the console.

There is no word for "something else": whoever closes a connection knows why.
"""

from enum import StrEnum
from typing import Final, Self


class Side(StrEnum):
    """Which kind of connection: from a function, or to Postgres."""

    CLIENT = "client"
    SERVER = "server"

    __hash__ = str.__hash__


class CloseReason(StrEnum):
    """The word, and what it means for a client and for a server (None: never said of it)."""

    client: str | None
    server: str | None

    # Enum's own is a Python function; every connection is counted by its reason.
    __hash__ = str.__hash__

    def __new__(cls, word: str, client: str | None = None, server: str | None = None) -> Self:
        member = str.__new__(cls, word)
        member._value_ = word
        member.client = client
        member.server = server
        return member

    # Clients, of their own accord or by accident
    CLIENT_LEFT = (
        "client_left",
        "It said goodbye (Terminate) or asked for a cancel and was done.",
    )
    CLIENT_VANISHED = (
        "client_vanished",
        "Its connection ended or broke without a goodbye.",
        "Its client vanished in mid-transaction and it could not be brought to a boundary.",
    )
    PROTOCOL_VIOLATION = (
        "protocol_violation",
        "It sent what is not the Postgres protocol.",
        "It sent what is not the Postgres protocol, or not at a moment that allows it.",
    )

    # Logging in
    TLS_FAILED = (
        "tls_failed",
        "The TLS handshake failed, or TLS is required and it did not ask for it.",
        "The TLS handshake failed, or TLS is required and Postgres does not offer it.",
    )
    LOGIN_FAILED = (
        "login_failed",
        "Wrong password, unknown user, or no rule that lets it in.",
        "Postgres refused the login.",
    )
    LOGIN_TIMEOUT = (
        "login_timeout",
        "It did not finish logging in within client_login_timeout.",
    )
    NO_SUCH_DATABASE = (
        "no_such_database",
        "It asked for a database that is not served here.",
    )
    REFUSED = "refused", "It asked for something that is refused by policy."
    TOO_MANY_CLIENTS = (
        "too_many_clients",
        "There were max_client_conn (or its user's) clients.",
    )

    # Waiting for a server
    TOO_MANY_WAITERS = "too_many_waiters", "Its pool's queue of waiters was full."
    WAIT_TIMEOUT = "wait_timeout", "No server became free within query_wait_timeout."
    UPSTREAM_UNREACHABLE = (
        "upstream_unreachable",
        "Postgres could not be reached or kept refusing our logins.",
    )

    # Connecting to Postgres
    CONNECT_FAILED = "connect_failed", None, "The connection could not be made."
    CONNECT_TIMEOUT = (
        "connect_timeout",
        None,
        "Connecting and logging in took longer than server_connect_timeout.",
    )

    # Time limits
    IDLE_TIMEOUT = (
        "idle_timeout",
        "It sent nothing for client_idle_timeout.",
        "Nobody needed it for server_idle_timeout.",
    )
    PIN_IDLE_TIMEOUT = (
        "pin_idle_timeout",
        "It was pinned and idle for pin_idle_timeout while others waited.",
    )
    IDLE_TRANSACTION_TIMEOUT = (
        "idle_transaction_timeout",
        "It left a transaction open and idle for idle_transaction_timeout.",
        "Its client left a transaction open for too long and it could not be rolled back.",
    )
    QUERY_TIMEOUT = (
        "query_timeout",
        "A query of its ran longer than query_timeout.",
        "A query ran longer than query_timeout and could not be cancelled.",
    )
    TRANSACTION_TIMEOUT = (
        "transaction_timeout",
        "A transaction of its took longer than transaction_timeout.",
        "A transaction took longer than transaction_timeout and could not be rolled back.",
    )
    NAME_CHANGED = "name_changed", None, "The name of its host leads elsewhere now."
    OUTDATED = (
        "outdated",
        None,
        "By ALTER ROLE or ALTER DATABASE sessions begin with other parameters than it did.",
    )
    VACATED = (
        "vacated",
        None,
        "Its database is to be dropped or copied, for which Postgres has nobody else in it.",
    )
    LIFETIME = "lifetime", None, "It was older than server_lifetime, or that is 0 and it was used."

    # Servers that are of no more use
    SERVER_LOST = (
        "server_lost",
        "Its server's connection ended while it was lent to it.",
    )
    SERVER_CLOSED = "server_closed", None, "Postgres closed or broke the connection."
    RESET_FAILED = (
        "reset_failed",
        None,
        "It could not be brought back to a clean state.",
    )
    UNCLEAN = (
        "unclean",
        None,
        "Its client left something on it that only a new connection is free of.",
    )
    CHECK_FAILED = (
        "check_failed",
        None,
        "server_check_query failed or was not answered.",
    )
    REPLICATION = (
        "replication",
        None,
        "It made room for a replication connection, or served one, which is closed after use.",
    )
    SURPLUS = "surplus", None, "Its pool has more servers than it may keep."
    CANCEL_DONE = (
        "cancel_done",
        None,
        "It carried a CancelRequest, which has been delivered.",
    )

    # Told to
    SLOW_PEER = (
        "slow_peer",
        "It did not take what was written to it before it had to be closed.",
        "It did not take what was written to it before it had to be closed.",
    )
    KILLED = (
        "killed",
        "Someone closed it from the console.",
        "Someone closed it from the console.",
    )
    PAUSED = "paused", None, "Someone paused its database."
    RECONNECT = "reconnect", None, "Someone said RECONNECT at the console."
    RELOAD = (
        "reload",
        "New settings no longer allow it.",
        "New settings reach Postgres another way or as someone else.",
    )
    SHUTTING_DOWN = (
        "shutting_down",
        "pgfunnel is stopping.",
        "pgfunnel is stopping.",
    )

    def meaning(self, side: Side) -> str | None:
        """What the word means for a connection of this side; None if it is never said of one."""
        return self.client if side is Side.CLIENT else self.server


CHANGED: Final = frozenset(
    {
        CloseReason.RELOAD,
        CloseReason.RECONNECT,
        CloseReason.NAME_CHANGED,
        CloseReason.OUTDATED,
    }
)
"""Reasons that lie in the configuration: they count over others that let a server go in time."""
