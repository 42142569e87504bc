"""The pools: which there are, who gets a place that is free, when servers retire.

Everything here is off the way of a transaction: it runs when a pool has too few servers, when
one ends, and at each tick of the clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING

from proxy.errors import NoLongerServed
from proxy.pool.backoff import Backoff
from proxy.pool.bound import Bound
from proxy.pool.pool import PoolSize
from proxy.relay.cancels import Cancels
from proxy.relay.connect import Address
from proxy.relay.database import Database
from proxy.relay.names import Names
from proxy.relay.opening import Openings
from proxy.relay.replication import Replica
from proxy.relay.server import Server
from proxy.settings.databases import Limits, Target
from proxy.telemetry.reasons import CHANGED, CloseReason

if TYPE_CHECKING:
    from proxy.relay.funnel import Funnel

_NOT_FOR_REPLICATION = frozenset(
    {CloseReason.OUTDATED, CloseReason.PAUSED, CloseReason.NAME_CHANGED}
)
"""Why servers are retired at their next boundary: a replication connection has none."""

_UNUSED = 0.5
"""Seconds for which a server must have been idle to make room for another pool's."""


class Pools:
    """Every pool by (database, user of the login to Postgres).

    `openings`: servers that are being opened; `ended`: pools that the settings lead no client to.
    """

    def __init__(self, funnel: Funnel) -> None:
        self._funnel = funnel
        self._by_key: dict[tuple[str, str], Database] = {}
        self._db_bounds: dict[str, Bound] = {}
        self._user_bounds: dict[str, Bound] = {}
        self._places: dict[object, tuple[Address, str]] = {}
        self._names = Names(self._places, self._left)
        self.openings = Openings(funnel, self, self._places)
        self._cancels = Cancels(self._places, funnel.totals)
        self._heirs: dict[object, Replica] = {}
        self._unused: dict[Database, float] = {}
        self.ended: set[Database] = set()

    def __iter__(self) -> Iterator[Database]:
        return iter(list(self._by_key.values()))

    def get(self, target: Target, user: str) -> Database:
        """The pool for clients of `user`; made when first asked for."""
        login_user = target.user or user
        key = (target.database, login_user)
        pool = self._by_key.get(key)
        if pool is None:
            pool = self._by_key[key] = self._new(target, login_user)
        return pool

    def _new(self, target: Target, user: str) -> Database:
        settings = self._funnel.settings
        limits = settings.limits(target, user)
        size = self.size_of(limits)
        bounds = (
            self._bound(self._db_bounds, target.database, limits.max_db_connections),
            self._bound(self._user_bounds, user, limits.max_user_connections),
        )
        backoff = Backoff(first=0.1, longest=max(0.1, settings.server_login_retry))
        address = self._funnel.address(target)
        delay = self._funnel.check_delay
        pool = Database(target, limits, address, user, size, bounds, backoff, delay)
        pool.resets = settings.server_reset_query_always
        pool.paused = self._funnel.standing.pauses(target.database)
        return pool

    def size_of(self, limits: Limits) -> PoolSize:
        settings = self._funnel.settings
        return PoolSize(
            size=limits.pool_size,
            minimum=min(limits.min_pool_size, limits.pool_size),
            reserve=limits.reserve_pool_size,
            reserve_after=settings.reserve_pool_timeout,
            idle_timeout=settings.server_idle_timeout,
            waiters=settings.max_waiters,
            round_robin=settings.server_round_robin,
        )

    @staticmethod
    def _bound(bounds: dict[str, Bound], name: str, limit: int) -> Bound:
        bound = bounds.setdefault(name, Bound(name, limit))
        bound.limit = limit
        return bound

    def drop(self, pool: Database) -> None:
        """Forget a pool that nobody uses: what strangers asked for leaves nothing behind."""
        if pool.servers or pool.clients or pool.waiters or pool.size.minimum:
            return
        self._forget(pool)
        if all(other.database != pool.database for other in self._by_key.values()):
            self._db_bounds.pop(pool.database, None)

    def _forget(self, pool: Database) -> None:
        if self._by_key.get((pool.database, pool.user)) is pool:
            del self._by_key[pool.database, pool.user]
        self._unused.pop(pool, None)
        self.openings.forget(pool)
        self._funnel.forget(pool)

    def reload(self) -> None:
        """Follow the settings; only where Postgres is reached otherwise do servers go."""
        settings = self._funnel.settings
        self._cancels.patience = settings.cancel_wait_timeout or None
        self.ended.clear()
        for pool in self:
            target = settings.target(pool.database)
            if target is None or target.user not in (None, pool.user):
                self.ended.add(pool)
                self._retire_all(pool)
                pool.resize(replace(pool.size, minimum=0))
                continue
            tls = self._funnel.address(target).tls
            if target.way != pool.target.way or tls != pool.address.tls:
                self._retire_all(pool)
            self._follow(pool, target)

    def _follow(self, pool: Database, target: Target) -> None:
        settings = self._funnel.settings
        limits = settings.limits(target, pool.user)
        self._bound(self._db_bounds, pool.database, limits.max_db_connections)
        self._bound(self._user_bounds, pool.user, limits.max_user_connections)
        pool.target, pool.address = target, self._funnel.address(target)
        if limits.server_lifetime == 0 < pool.limits.server_lifetime:
            self._retire_all(pool, CloseReason.LIFETIME)
        pool.follow(limits)
        pool.resize(self.size_of(limits))
        pool.resets = settings.server_reset_query_always
        pool.check_delay = self._funnel.check_delay
        pool.backoff.succeeded()

    def _end(self, pool: Database, now: float) -> None:
        """The settings no longer lead clients here: who is at a boundary is to connect again."""
        served = self._funnel.settings.target(pool.database) is not None
        error = NoLongerServed("database configuration changed" if served else "database removed")
        for client in [client for client in self._funnel.clients if client.pool is pool]:
            if client.silent(now) and client.server is None:
                client.close(CloseReason.RELOAD, error)
            elif not client.keeps and not client.pinned_for:
                client.dismiss(CloseReason.RELOAD, error)
        if not pool.servers and not pool.clients:
            self.ended.discard(pool)
            self._forget(pool)

    def outdate(self, pool: Database) -> None:
        """Sessions begin otherwise now than its servers did."""
        pool.ages()
        self._retire_all(pool, CloseReason.OUTDATED)

    def _retire_all(self, pool: Database, reason: CloseReason = CloseReason.RELOAD) -> None:
        for server in list(pool.servers):
            self.retire(server, reason)

    # -- what the console asks for ---------------------------------------------------------

    def of(self, database: str) -> list[Database]:
        """The pools of a database; all of them without a name."""
        return [pool for pool in self if database in ("", pool.database)]

    def used_by(self, *, database: str = "", user: str = "") -> int:
        """Servers that hold a place in the bound of the database, or of the user."""
        bound = self._db_bounds.get(database) if database else self._user_bounds.get(user)
        return bound.used if bound is not None else 0

    def reconnect(self, database: str = "") -> None:
        """Close every server at its next boundary; new ones may be opened at once."""
        for pool in self.of(database):
            self._retire_all(pool, CloseReason.RECONNECT)

    def follow_standing(self) -> None:
        """Pause pools, or let them go on, as the operators want it now."""
        for pool in self:
            paused = self._funnel.standing.pauses(pool.database)
            if paused and not pool.paused:
                pool.paused = True
                self._retire_all(pool, CloseReason.PAUSED)
            elif pool.paused and not paused:
                self._go_on(pool)

    def _go_on(self, pool: Database) -> None:
        """Resume: what failed before the pause says nothing about now."""
        pool.paused = False
        pool.failure = None
        pool.backoff.succeeded()
        for server in pool.servers:
            if isinstance(server, Server) and server.reason is CloseReason.PAUSED:
                server.reason = server.reason if server.state == "closing" else None
        self.openings.fill(pool)

    # -- room ------------------------------------------------------------------------------

    def fill_all(self) -> None:
        """A place has become free: it goes to the pool whose first waiter waits longest."""
        if self._funnel.stopping:
            return
        now = monotonic()
        for pool in sorted(self._by_key.values(), key=lambda p: -p.oldest_wait(now)):
            if pool.waiters or len(pool.servers) < pool.size.minimum:
                self.openings.fill(pool)

    def make_room(self, pool: Database) -> None:
        """A shared bound is full: let the pool that others crowd out have a place.

        One place at a time, from servers idle for a while, or from a pool that has at least two
        more (a pool with none takes any): two busy pools come to rest at equal shares. A busy
        server that is to go may stay busy for long: an idle one goes all the same. One that has
        just come serves somebody first, or pools that take it from each other serve nobody.
        """
        sharing = self._sharing(pool)
        if any(server.state == "closing" for server in sharing):
            return
        now = monotonic()
        unused = [s for s in sharing if s.state == "idle" and now - s.idle_since >= _UNUSED]
        least = len(pool.servers) + 1 if pool.servers else 0
        larger = [s for s in sharing if len(s.pool.servers) > least and not s.coming]
        if any(s.reason is not None for s in sharing):
            larger = [s for s in larger if s.state == "idle"]
        if unused:
            self.retire(min(unused, key=lambda s: s.idle_since), CloseReason.SURPLUS)
        elif larger:
            self.retire(max(larger, key=lambda s: len(s.pool.servers)), CloseReason.SURPLUS)

    def _sharing(self, pool: Database) -> list[Server]:
        """Servers of other pools that take places in a bound which `pool` finds full."""
        full = [bound for bound in pool.bounds if bound.room() <= 0]
        return [
            server
            for other in self
            if other is not pool and any(bound in full for bound in other.bounds)
            for server in other.servers
            if isinstance(server, Server)
        ]

    # -- retiring --------------------------------------------------------------------------

    def retire(self, server: object, reason: CloseReason) -> None:
        """Close a server at its next boundary, at once when nobody has it."""
        if isinstance(server, Replica) and reason not in _NOT_FOR_REPLICATION:
            server.retire(reason)
        if not isinstance(server, Server) or server.state == "closing":
            return
        if server.client is None and server.state == "idle":
            server.close(reason)
        elif server.reason is None or reason in CHANGED:
            server.reason = reason

    def _left(self, server: object) -> None:
        self.retire(server, CloseReason.NAME_CHANGED)

    def tick(self, now: float) -> None:
        """Deadlines, lifetimes, waiters whose time is up; a few times a second."""
        self._names.tick(now, self._funnel.settings.dns_max_ttl)
        for pool in self:
            pool.look_again(now)
            for client in pool.overdue(now, pool.limits.query_wait_timeout):
                client.waiting = False
                self._funnel.waited_too_long(client, now)
            for server in pool.surplus(now):
                server.close(_why_surplus(server, now, pool.size.idle_timeout))
            for server in list(pool.servers):
                if isinstance(server, Server):
                    self._check_time(server, now)
            if pool in self.ended:
                self._end(pool, now)
            else:
                self.openings.fill(pool)
                self._forget_unused(pool, now)

    def _forget_unused(self, pool: Database, now: float) -> None:
        """Forget a pool that has been without clients and servers for long enough."""
        if pool.servers or pool.clients or pool.waiters:
            self._unused.pop(pool, None)
            return
        unused = now - self._unused.setdefault(pool, now)
        settings = self._funnel.settings
        limits = [settings.pool_idle_timeout]
        if settings.autodb(pool.database):
            limits.append(settings.autodb_idle_timeout)
        if any(0 < limit <= unused for limit in limits):
            self._forget(pool)

    def _check_time(self, server: Server, now: float) -> None:
        if 0 < server.cancel_again <= now and server.cancels == 0 and not server.owed.nothing():
            server.cancel_again = now + 1.0
            self._funnel.cancel(server)
        if server.deadline and now >= server.deadline:
            if server.state == "closing":
                server.end()
            else:
                server.close(CloseReason.CLIENT_VANISHED)
        elif now >= server.expires_at:
            self.retire(server, CloseReason.LIFETIME)

    def bequeath(self, server: Server, heir: Replica) -> None:
        """The server's place is the heir's as soon as it is closed."""
        self._heirs[server] = heir

    def gone(self, server: Server | Replica) -> None:
        self._places.pop(server, None)
        heir = self._heirs.pop(server, None)
        if heir is not None and heir.wanted and not self._funnel.stopping:
            server.pool.succeed(server, heir)
            heir.open()
            return
        server.pool.gone(server)
        if not self._funnel.stopping:
            asyncio.get_running_loop().call_soon(self.fill_all)

    def cancel(self, server: Server | Replica, *, still: Callable[[], bool]) -> asyncio.Task[None]:
        """Cancel what the server runs if, when its turn has come, `still()` holds."""
        return self._cancels.cancel(server, still=still)

    async def close(self) -> None:
        """Close every server and wait until the last is gone."""
        for pool in self:
            pool.paused = True
            for server in list(pool.servers):
                if isinstance(server, Server):
                    server.close(CloseReason.SHUTTING_DOWN)
        self._names.close()
        tasks = [*self.openings.tasks, *self._cancels.tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _why_surplus(server: Server, now: float, idle_timeout: float) -> CloseReason:
    """Why an idle server goes: one that has to go for its age says so, however idle it was."""
    if now >= server.expires_at:
        return CloseReason.LIFETIME
    idle = now - server.idle_since >= idle_timeout > 0
    return CloseReason.IDLE_TIMEOUT if idle else CloseReason.SURPLUS
