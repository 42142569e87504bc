"""The whole of a running proxy: its clients, its pools, its clock.

What clients and servers need that is not their own, they ask of the funnel. It also is what
metrics and the console look at (`proxy.telemetry.views.ProxyView`).
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from time import monotonic

from proxy.auth.login import unprepared
from proxy.auth.secret import Secret
from proxy.errors import (
    NoLongerServed,
    PgfunnelError,
    ShuttingDown,
    UpstreamLost,
    WaitedTooLong,
)
from proxy.relay.answering import IDLE
from proxy.relay.cancel_requests import CancelRequests
from proxy.relay.client import Client
from proxy.relay.connect import Address, Keepalive
from proxy.relay.database import Database
from proxy.relay.entrance import Entrance
from proxy.relay.journal import Journal
from proxy.relay.limits import TimeLimits
from proxy.relay.lingering import Lingering
from proxy.relay.peers import Peers
from proxy.relay.pins import Pins
from proxy.relay.pools import Pools
from proxy.relay.quota import Quota
from proxy.relay.replication import Replica
from proxy.relay.rules import read_gate
from proxy.relay.server import Server
from proxy.relay.snapshots import PoolSnapshot
from proxy.relay.standing import Standing
from proxy.relay.tls import TlsPolicy
from proxy.relay.tls_settings import client_tls_policy, server_tls_policies
from proxy.relay.users import Users
from proxy.relay.wish import Wish
from proxy.session.catalog import BEGINNINGS, ROUTINES, UNSEEN, Catalog
from proxy.session.prepared import new_generation
from proxy.settings import Settings
from proxy.settings.databases import Target
from proxy.telemetry.counters import Totals
from proxy.telemetry.reasons import CHANGED, CloseReason, Side
from proxy.telemetry.said import closed
from proxy.telemetry.troubles import USUAL, Trouble
from proxy.telemetry.views import PinningStatement, PinView

TICK = 0.1
"""Seconds between looks at deadlines."""

_PATIENCE = 0.02
"""Seconds between looks at clients that are to go."""


class Funnel:
    """`now`: the clock (monotonic, seconds) as of the last tick, for what needs no more."""

    def __init__(self, settings: Settings, secrets: Mapping[str, Secret]) -> None:
        self.loop = asyncio.get_running_loop()
        self.now = monotonic()
        self.started_at = time.time()
        self.totals = Totals()
        self.journal = Journal(self)
        self.pools_by_key = Pools(self)
        self.peers = Peers(self.totals)
        self.quota = Quota()
        self.pins = Pins()
        self.standing = Standing()
        self.limits = TimeLimits(self)
        self.lingering = Lingering()
        self.cancel_requests = CancelRequests(self)
        self.entrance = Entrance(self)
        self.draining = False
        self.stopping = False
        self.abandon_timeout = 15.0
        self.close_timeout = 600.0
        self._round: Iterator[Client] = iter(())
        self._ticking: asyncio.TimerHandle | None = None
        self._policies: dict[str, TlsPolicy] = {}
        self.users = Users({}, None)
        self.use(settings, secrets)

    # -- settings --------------------------------------------------------------------------

    def use(self, settings: Settings, secrets: Mapping[str, Secret]) -> None:
        """Follow these settings from now on. Raises SettingsError before anything changes."""
        gate = read_gate(settings)
        client_tls = client_tls_policy(settings)
        policies = server_tls_policies(settings)
        self.settings = settings
        self._policies = policies
        before, self.users = self.users, Users(secrets, settings.upstream_user())
        self.users.inherit(before)
        self.check_delay = _check_delay(settings)
        self.check_query = settings.server_check_query.encode()
        self.reset_query = settings.server_reset_query.encode()
        self.entrance.use(settings, gate, client_tls, self.users)
        self.limits.use(settings)
        self.peers.use(settings, self.keepalive)
        self.pools_by_key.reload()

    @property
    def keepalive(self) -> Keepalive:
        settings = self.settings
        return Keepalive(
            settings.tcp_keepalive,
            int(settings.tcp_keepidle),
            int(settings.tcp_keepintvl),
            int(settings.tcp_keepcnt),
            int(settings.tcp_user_timeout),
            int(settings.tcp_socket_buffer),
        )

    def address(self, target: Target) -> Address:
        return Address(target.host, target.port, self._policies[target.sslmode], self.keepalive)

    async def prepare_keys(self) -> None:
        """Derive the SCRAM keys of plain passwords ahead of the first login."""
        known = self.entrance.keys
        for request in unprepared(self.users.all(), known):
            known.put(request, await self.loop.run_in_executor(None, request.derive))

    def pool_for(self, database: str, user: str) -> Database | None:
        """The pool that serves clients of `user` who asked for `database`, if it is served."""
        target = self.settings.target(database)
        return None if target is None else self.pools_by_key.get(target, user)

    def pool_for_all_databases(self, wish: Wish) -> Database | None:
        """Physical replication is of all databases: where the upstream's own one is."""
        upstream = self.settings.upstream
        if not wish.physical or upstream is None or upstream.dbname is None:
            return None
        return self.pool_for(upstream.dbname, wish.user)

    # -- clients ---------------------------------------------------------------------------

    @property
    def clients(self) -> set[Client]:
        """Those that have logged in."""
        return self.entrance.clients

    @property
    def logging_in(self) -> dict[Client, float]:
        return self.entrance.logging_in

    def forget(self, pool: Database) -> None:
        """The pool is no more: who asks for it gets a new one."""
        self.entrance.forget(pool)

    def greet(self, client: Client, server: Server) -> None:
        """The client's first server is set as it wants."""
        self.entrance.greet(client)

    def replicate(self, client: Client) -> None:
        """The client wants a replication connection."""
        Replica(client, self).begin()

    def client_gone(self, client: Client, reason: CloseReason, error: object) -> None:
        """The client is being closed."""
        self.quota.leave(client)
        if isinstance(client.login, Replica):
            client.login.client_gone()
        if client.pinned_for:
            self.pins.gone(client)
        if reason not in USUAL:
            self.journal.client_gone(client, reason, error)
        self.entrance.gone(client, reason, error)

    def linger(self, client: Client) -> None:
        """The client was told why it is closed: it gets the time to read that."""
        self.lingering.take(client, monotonic())

    def waited_too_long(self, client: Client, now: float) -> None:
        waited = now - client.waiting_since
        hint = (
            f"No server became free within {waited:.1f} s: retry with backoff, or raise the bounds."
        )
        pinned = self.pins.those_of(client.pool)
        if pinned:
            hint += f" Clients hold {pinned} of its servers; /pins and the log say why."
        error = WaitedTooLong("query_wait_timeout", hint=hint)
        client.close(CloseReason.WAIT_TIMEOUT, error)

    def needs_server(self, client: Client) -> None:
        """The client has joined its pool's waiters."""
        pool: Database = client.pool
        now = monotonic()
        if self.pools_by_key.openings.hopeless(pool, now) and pool.backoff.waits(now):
            pool.leave(client)
            client.waiting = False
            client.close(CloseReason.UPSTREAM_UNREACHABLE, pool.failure)
            return
        self.pools_by_key.openings.fill(pool)

    # -- servers ---------------------------------------------------------------------------

    def server_gone(self, server: Server | Replica) -> None:
        """The server is closed."""
        self.totals.close(Side.SERVER, server.reason)
        self.journal.server_gone(server)
        self.pools_by_key.gone(server)

    def lost_words(self, server: Server, reason: CloseReason) -> PgfunnelError:
        if server.state == "closing" and reason in CHANGED:
            hint = "Connect again; nothing was under way."
            return NoLongerServed(closed(Side.SERVER, reason), hint=hint)
        return UpstreamLost(
            closed(Side.SERVER, reason),
            hint=f"The connection to Postgres was lost ({reason.value}): connect again; whether the"
            " last statement took effect is not known.",
        )

    def schema_changed(self, pool: Database, outdated: int) -> None:
        """DDL ran: what was known of this database, or of all, may be so no more.

        `outdated`: see `proxy.session.catalog`.
        """
        for each in self.pools_by_key:
            if outdated == BEGINNINGS and each.address == pool.address:
                each.greetings.clear()
                each.routines_changed()
            if each.target.place != pool.target.place:
                continue
            each.generation = new_generation()
            if outdated >= ROUTINES:
                each.routines_changed()
        for server in self.servers():
            if server.shelf.generation != server.pool.generation:
                server.shelf.renew(server.pool.generation)

    def vacate(self, pool: Database, dbname: str) -> None:
        """A database of that name is about to be dropped or copied where this one is.

        Postgres refuses that while others are in it, and waits for them for five seconds (source:
        PostgreSQL documentation, "Managing Databases").
        """
        place = replace(pool.target, dbname=dbname).place
        there = [each for each in self.pools_by_key if each.target.place == place]
        if sum(each.clients for each in there) > (pool in there):
            return  # clients are in it
        for server in list(self.servers()):
            if server.state == IDLE and server.pool in there:
                server.close(CloseReason.VACATED)

    def looked(self, pool: Database, changes: int, found: Catalog) -> None:
        """A server has looked at its catalogs when there had been so many `changes`."""
        before = pool.catalog
        pool.end_look(changes, found)
        if pool.routines is not before.routines:
            self.journal.routines_found(pool)
        if pool.catalog.begins == before.begins or before is UNSEEN:
            if pool.lacks_date_style():
                self.pools_by_key.outdate(pool)
        else:
            for client in self.clients:
                if client.pool is pool and client.session is not None:
                    client.session.outlive(found.former, found.begins)
            self.pools_by_key.outdate(pool)
            changed = found.begins.items() ^ before.begins.items()
            self.journal.sessions_begin_otherwise(pool, changed)
        self.entrance.greet_waiting(pool)

    def cancel(self, server: Server) -> None:
        """Cancel what a server runs whose client has left."""
        self.cancel_requests.cancel_left(server)

    # -- the clock -------------------------------------------------------------------------

    def start(self) -> None:
        self._tick()

    def _tick(self) -> None:
        self._ticking = self.loop.call_later(TICK, self._tick)
        self.now = now = monotonic()
        self.entrance.check_logins(now)
        self.entrance.lookups.tick(now)
        self.pools_by_key.tick(now)
        self.lingering.tick(now)
        self.pins.check_idle(now, self.settings.pin_idle_timeout)
        self._look_at_sockets()
        self.limits.tick(now)

    def _look_at_sockets(self) -> None:
        """Read where the loop may have missed the end of a connection.

        libuv stops watching a socket whose end (RST) comes together with data: it reports once,
        and what it reports is the data. Our own epoll set, where there is one, goes on telling.
        """
        for server in list(self.servers()):
            if server.fd >= 0 and server.reading and server.state != "idle":
                server.on_readable()
        if not self.entrance.sees_ends:
            self._look_at_clients()

    def _look_at_clients(self) -> None:
        """Those that hold a server at each tick, the others in a round of some seconds."""
        for server in list(self.servers()):
            if server.client is not None and server.client.reading:
                server.client.on_readable()
        looked = 0
        for client in islice(self._round, len(self.clients) // 50 + 1):
            looked += 1
            if client.reading and client.fd >= 0:
                client.on_readable()
        if not looked:
            self._round = iter([*self.clients, *self.logging_in])

    # -- the end ---------------------------------------------------------------------------

    def pause(self, *, on: bool) -> None:
        """Lend no server of any database, or go on; who needs one waits."""
        self.standing.everything = on
        if not on:
            self.standing.paused.clear()
        self.pools_by_key.follow_standing()

    async def drain(self, timeout: float, *, until_free: bool = False) -> None:
        """Take nothing new, let transactions finish, end within `timeout` seconds.

        Who has a server is closed behind its boundary: with its next word, or when it is silent.
        Those who wait for a server get one, unless their database is paused. `until_free`: they
        do not, and who keeps a server for its session is waited for until it leaves. Who has not
        sent a start-up packet yet is left alone until it does (see `admit`): to a client that
        has asked for TLS an error would be no answer.
        """
        self.draining = True
        deadline = monotonic() + timeout
        while there := [*self.clients, *(c for c in self.logging_in if c.login.wish is not None)]:
            now = monotonic()
            for client in there:
                stays = until_free and client.keeps and client.server is not None
                waits = client.waiting and not until_free and not client.pool.paused
                if now >= deadline or (client.silent(now) and not waits and not stays):
                    client.close(CloseReason.SHUTTING_DOWN, ShuttingDown())
                elif not stays:
                    client.dismiss(CloseReason.SHUTTING_DOWN, ShuttingDown())
            await asyncio.sleep(_PATIENCE)

    async def deserted(self) -> None:
        """Take nothing new and wait until the last client has left."""
        self.draining = True
        while True:
            if not self.clients and not self.logging_in:
                return
            await asyncio.sleep(0.05)

    async def stop(self, patience: float = 5.0) -> None:
        """Close whatever there is still, waiting `patience` seconds for Postgres to do so too."""
        self.draining = self.stopping = True
        for client in [*self.clients, *self.logging_in, *self.entrance.at_console]:
            client.close(CloseReason.SHUTTING_DOWN, ShuttingDown())
        self.peers.close()
        await self.entrance.lookups.close()
        await self.pools_by_key.close()
        for _ in range(int(patience / 0.01)):
            if not self._has_servers() and not self.lingering:
                break
            await asyncio.sleep(0.01)
        for pool in self.pools_by_key:
            for server in list(pool.servers):
                if isinstance(server, Server):
                    server.end()
        if self._ticking is not None:
            self._ticking.cancel()
        self.lingering.close()
        self.entrance.close()

    def _has_servers(self) -> bool:
        return any(pool.servers for pool in self.pools_by_key)

    # -- what others look at ---------------------------------------------------------------

    @property
    def ready(self) -> bool:
        return not self.draining

    @property
    def why_not_ready(self) -> str:
        return "shutting down" if self.draining else ""

    @property
    def max_client_conn(self) -> int:
        return self.settings.max_client_conn

    def clients_by_state(self) -> Mapping[str, int]:
        states = Counter(client.state for client in self.clients)
        states["login"] = len(self.logging_in)
        return states

    def pinned(self, most: int | None = None) -> list[PinView]:
        return self.pins.now(most)

    def pinning(self) -> list[PinningStatement]:
        return self.pins.statements()

    def troubles(self) -> list[Trouble]:
        return self.journal.troubles()

    def pools(self) -> Iterable[PoolSnapshot]:
        return [PoolSnapshot(pool) for pool in self.pools_by_key]

    def servers(self) -> Iterator[Server]:
        for pool in self.pools_by_key:
            yield from (server for server in pool.servers if isinstance(server, Server))


def _check_delay(settings: Settings) -> float:
    """Seconds; a delay of 0 is every time that a server is lent, but not again after the check."""
    return max(settings.server_check_delay, 1e-9) if settings.server_check_query else math.inf
