"""What is told of servers and databases: in the log, and among the latest troubles."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from time import monotonic
from typing import TYPE_CHECKING

from proxy.conditions import words
from proxy.errors import PgfunnelError, PostgresError
from proxy.relay.answering import LARGEST_ROW
from proxy.relay.client import Client
from proxy.relay.database import Database
from proxy.relay.entrance import who
from proxy.relay.identity import address_here
from proxy.relay.replication import Replica
from proxy.relay.server import Server
from proxy.telemetry.logs import connection_id, log_closed, log_event
from proxy.telemetry.reasons import CloseReason, Side
from proxy.telemetry.said import closed
from proxy.telemetry.troubles import USUAL, Trouble, Troubles, without_quoted

if TYPE_CHECKING:
    from proxy.relay.funnel import Funnel

log = logging.getLogger("pgfunnel")

_MOST_NAMES = 20
"""So many functions that change sessions are named in a log line."""


class Journal:
    """Servers have numbers there, in the order in which they were opened."""

    def __init__(self, funnel: Funnel) -> None:
        self._funnel = funnel
        self._troubles = Troubles()
        self._server_number = 0

    def troubles(self) -> list[Trouble]:
        """The latest first."""
        return self._troubles.latest()

    def client_gone(self, client: Client, reason: CloseReason, error: object) -> None:
        """The client is being closed, for a reason that nobody wished for."""
        if reason is CloseReason.CLIENT_VANISHED and client not in self._funnel.clients:
            return  # as a load balancer does that looks whether the port is open
        sqlstate = said = ""
        if isinstance(error, PgfunnelError):
            sqlstate = error.sqlstate
            # Postgres's own words may repeat a value of the client's, in quotes or without.
            said = "" if isinstance(error, PostgresError) else without_quoted(error.message)
        place = who(client)[:2]
        self._troubles.note(time.time(), Side.CLIENT, reason, place, sqlstate, said)

    def server_opened(self, server: Server | Replica) -> None:
        """The server has logged in."""
        self._server_number += 1
        server.number = self._server_number
        if self._funnel.settings.log_connections:
            database, user, peer = _where(server)
            log_event(
                log,
                logging.INFO,
                "connected",
                id=connection_id(Side.SERVER, server.number),
                database=database,
                user=user,
                peer=peer,
                local=address_here(server.fd),
            )

    def leaked(self, server: Server, conditions: int) -> None:
        """An audit found session state on a server that should have been clean."""
        for kind in words(conditions):
            server.pool.counters.leaks[kind] += 1
        log_event(
            log,
            logging.ERROR,
            "leak",
            id=f"S-{server.number:#x}",
            database=server.pool.database,
            user=server.pool.user,
            kinds=",".join(words(conditions)),
            last_client=f"C-{server.last:#x}",
        )

    def routines_found(self, pool: Database) -> None:
        """Other functions, triggers or views than before change the sessions that use them."""
        known = {} if pool.routines is None else pool.routines.by_name
        names = sorted(name or "(any statement)" for name, said in known.items() if said.makes)
        log_event(
            log,
            logging.INFO,
            "routines_change_sessions",
            database=pool.database,
            user=pool.user,
            count=len(names),
            names=",".join(names[:_MOST_NAMES]),
        )

    def sessions_begin_otherwise(self, pool: Database, others: Iterable[tuple[str, str]]) -> None:
        """ALTER ROLE or ALTER DATABASE has changed these; values may be secrets."""
        log_event(
            log,
            logging.INFO,
            "sessions_begin_otherwise",
            database=pool.database,
            user=pool.user,
            parameters=",".join(sorted({name for name, _ in others})[:_MOST_NAMES]),
        )

    def routines_unknown(self, pool: Database, problem: str) -> None:
        """Postgres does not tell what its functions do to sessions."""
        _warn("routines_unknown", pool, problem)

    def audit_impossible(self, pool: Database, error: dict[str, str]) -> None:
        """Its user lacks a right that audits need: none is made until the settings are reloaded."""
        _warn("audit_impossible", pool, _said(error))

    def session_unknown(self, client: Client, error: dict[str, str] | None) -> None:
        """Postgres does not tell what became of a client's session (`error`: its fields)."""
        problem = f"the answer has more than {LARGEST_ROW >> 20} MiB"
        if error is not None:
            problem = _said(error)
        client_id = connection_id(Side.CLIENT, client.number)
        _warn("session_unknown", client.pool, problem, id=client_id)

    def reserve_taken(self, pool: Database) -> None:
        """A client has waited so long that its pool may have one of its reserve."""
        log_event(log, logging.WARNING, "reserve_taken", database=pool.database, user=pool.user)

    def server_login_failed(self, pool: Database, failure: PgfunnelError) -> None:
        said = (failure.sqlstate, failure.message)
        place = (pool.database, pool.user)
        reason, severity = CloseReason.CONNECT_FAILED, failure.severity
        if isinstance(failure, PostgresError):
            reason, severity = CloseReason.LOGIN_FAILED, failure.fields.get("V", failure.severity)
        self._troubles.note(time.time(), Side.SERVER, reason, place, *said)
        log_event(
            log,
            logging.WARNING,
            "server_login_failed",
            database=pool.database,
            user=pool.user,
            peer=str(pool.address),
            severity=severity,
            sqlstate=failure.sqlstate,
            error=failure.message,
        )

    def connect_query_failed(self, pool: Database, failure: PostgresError) -> None:
        """The server is used all the same."""
        log_event(
            log,
            logging.WARNING,
            "connect_query_failed",
            database=pool.database,
            user=pool.user,
            sqlstate=failure.sqlstate,
            error=failure.message,
        )

    def server_gone(self, server: Server | Replica) -> None:
        """The server is closed."""
        if server.reason not in USUAL:
            self._troubles.note(time.time(), Side.SERVER, server.reason, _where(server)[:2])
        if self._funnel.settings.log_disconnections:
            age = monotonic() - server.opened_at
            error = server.error if isinstance(server, Server) else None
            said = f"{closed(Side.SERVER, server.reason)}: {_said(error)}" if error else ""
            log_closed(log, Side.SERVER, server.number, server.reason, *_where(server), age, said)


def _warn(event: str, pool: Database, error: str, **more: str) -> None:
    place = {"database": pool.database, "user": pool.user}
    log_event(log, logging.WARNING, event, **more, **place, error=error)


def _said(error: dict[str, str]) -> str:
    """Postgres's words, without what may be a client's."""
    return f"{error.get('C')}: {without_quoted(error.get('M', ''))}"


def _where(server: Server | Replica) -> tuple[str, str, str]:
    pool: Database = server.pool
    return pool.database, pool.user, str(pool.address)
