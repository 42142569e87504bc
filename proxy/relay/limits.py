"""Time limits of clients, looked at by the clock and never on the way of a transaction.

When a query or a transaction began is known from what the clock has seen: the last tick at which
the client's server had nothing to do, or was in no transaction, and the boundaries in between.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from proxy.errors import (
    IdleInTransaction,
    IdleSession,
    QueryTooLong,
    TransactionTooLong,
)
from proxy.relay.client import Client
from proxy.relay.database import Database
from proxy.relay.server import Server
from proxy.session.statement import Statement
from proxy.session.wording import digest, normalised
from proxy.settings import Settings
from proxy.settings.databases import Times
from proxy.telemetry.logs import log_event
from proxy.telemetry.reasons import CHANGED, CloseReason
from proxy.wire import messages

if TYPE_CHECKING:
    from proxy.relay.funnel import Funnel

log = logging.getLogger("pgfunnel")

_QUEUED = messages.notice("No server connection available in postgres backend, client being queued")
_ROUND = 10
"""Ticks in which every client is looked at once."""


class TimeLimits:
    """`tick` ends whoever is over its time."""

    def __init__(self, funnel: Funnel) -> None:
        self._funnel = funnel
        self._times: dict[tuple[Database, str], Times] = {}
        self._seen: dict[Server, tuple[float, float]] = {}
        self._round: Iterator[Client] = iter(())
        self._before = funnel.now
        self._of_servers = self._of_clients = False

    def use(self, settings: Settings) -> None:
        """Follow these settings from now on."""
        self._times.clear()
        places: tuple[Any, ...] = (settings, *settings.databases.values(), *settings.users.values())
        for client in self._funnel.clients:
            client.recalls = self._of(client).idle_transaction > 0
        self._of_clients = any(place.client_idle_timeout for place in places)
        self._of_servers = settings.server_fast_close or any(
            place.query_timeout or place.transaction_timeout or place.idle_transaction_timeout
            for place in places
        )

    def tick(self, now: float) -> None:
        before, self._before = self._before, now
        if self._funnel.settings.query_wait_notify:
            self._notify(before, now)
        if self._of_servers:
            self._look_at_servers(now)
        if self._of_clients:
            self._look_at_clients(now)

    def _of(self, client: Client) -> Times:
        key = (client.pool, client.user)
        times = self._times.get(key)
        if times is None:
            times = self._funnel.settings.times(client.pool.target, client.user)
            self._times[key] = times
        return times

    # -- waiting ---------------------------------------------------------------------------

    def _notify(self, before: float, now: float) -> None:
        """Tell those whose wait came to query_wait_notify since the last tick."""
        limit = self._funnel.settings.query_wait_notify
        for pool in self._funnel.pools_by_key:
            for client in pool.waiters:
                if client.waiting_since > now - limit:
                    break
                if client.waiting_since > before - limit and client.login is None:
                    client.send(_QUEUED)

    # -- with a server ---------------------------------------------------------------------

    def _look_at_servers(self, now: float) -> None:
        seen: dict[Server, tuple[float, float]] = {}
        for server in list(self._funnel.servers()):
            client = server.client
            if not isinstance(client, Client) or client.pool is None:
                continue
            quiet, resting = self._seen.get(server, (0.0, 0.0))
            if server.owed.nothing():
                quiet = now
                resting = now if server.status == ord("I") else resting
            seen[server] = quiet, resting
            self._look_at_one(client, server, quiet, resting, now)
        self._seen = seen

    def _look_at_one(
        self, client: Client, server: Server, quiet: float, resting: float, now: float
    ) -> None:
        """`quiet`, `resting`: when the server was last seen with nothing to do, and in no
        transaction."""
        if client.at_rest():
            if server.reason in CHANGED and self._funnel.settings.server_fast_close:
                server.close(server.reason)
            return
        limit, idle = self._of(client), server.owed.nothing()
        asked = max(client.lent_at, client.active_at, quiet)
        began = max(client.lent_at, client.begun_at, resting)
        if idle and 0 < limit.idle_transaction <= now - client.active_at:
            self._end_idle(client)
        elif not idle and 0 < limit.query <= now - asked:
            client.close(CloseReason.QUERY_TIMEOUT, QueryTooLong("query timeout"))
        elif 0 < limit.transaction <= now - began:
            error = TransactionTooLong("transaction timeout")
            client.close(CloseReason.TRANSACTION_TIMEOUT, error)

    @staticmethod
    def _end_idle(client: Client) -> None:
        """End a client that has left its transaction alone; the log says behind which statement."""
        statement = _last_statement(client)
        log_event(
            log,
            logging.WARNING,
            "idle_in_transaction",
            id=f"C-{client.number:#x}",
            database=client.pool.database,
            user=client.user,
            statement=statement,
            digest=digest(statement),
        )
        error = IdleInTransaction("idle transaction timeout")
        client.close(CloseReason.IDLE_TRANSACTION_TIMEOUT, error)

    # -- without a server ------------------------------------------------------------------

    def _look_at_clients(self, now: float) -> None:
        clients = self._funnel.clients
        looked = 0
        for client in islice(self._round, len(clients) // _ROUND + 1):
            looked += 1
            self._look_at_idle(client, now)
        if not looked:
            self._round = iter(list(clients))

    def _look_at_idle(self, client: Client, now: float) -> None:
        if client.fd < 0 or client.server is not None or client.waiting or client.login is not None:
            return
        if 0 < self._of(client).client_idle <= now - client.active_at:
            client.close(CloseReason.IDLE_TIMEOUT, IdleSession("client_idle_timeout"))


def _last_statement(client: Client) -> str:
    """What the client sent last, without its literals; its beginning, if it is long."""
    last = client.recalled
    text = last.tail.partition(b"\0")[0] if isinstance(last, Statement) else last or b""
    return normalised(text, client.session.wide)
