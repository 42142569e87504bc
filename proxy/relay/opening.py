"""Opening servers: as many logins side by side as a pool wants and the settings allow."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from time import monotonic
from typing import TYPE_CHECKING, Any

from proxy.errors import LoginHopeless, PgfunnelError, PostgresError, UpstreamUnreachable
from proxy.pool.pool import Pool
from proxy.relay.connect import Address, Asked, LoggedIn, words_of
from proxy.relay.database import Database
from proxy.relay.names import peer_of
from proxy.relay.reach import Reach
from proxy.relay.replication import Replica
from proxy.relay.server import Server
from proxy.telemetry.reasons import CloseReason

if TYPE_CHECKING:
    from proxy.relay.client import Client
    from proxy.relay.funnel import Funnel
    from proxy.relay.pools import Pools

_AT_ONCE = frozenset({"28P01", "28000", "3D000", "42501", "0A000"})
"""Refusals of Postgres's that waiting does not mend: passed on without the grace."""

_GRACE = "Retry with backoff; upstream_grace is how long clients wait for Postgres to be back."


class Opening:
    """Holds a place in the bounds while a server is being connected."""

    __slots__ = ("expires_at", "idle_since", "pool")
    state = "connecting"

    def __init__(self, pool: Database) -> None:
        self.pool = pool
        self.idle_since = self.expires_at = 0.0


class Openings:
    """Those under way are `tasks`. `places`: where each server is."""

    def __init__(
        self, funnel: Funnel, pools: Pools, places: dict[object, tuple[Address, str]]
    ) -> None:
        self._funnel = funnel
        self._pools = pools
        self._places = places
        self._reach = Reach(funnel)
        self._logins: dict[str, int] = {}
        self.tasks: set[asyncio.Task[None]] = set()

    def forget(self, pool: Database) -> None:
        """The pool is no more."""
        self._reach.forget(pool)

    def fill(self, pool: Database) -> None:
        """Start as many logins as the pool wants and may have."""
        now = monotonic()
        coming = sum(1 for server in pool.servers if isinstance(server, Server) and server.coming)
        wanted = 0 if pool in self._pools.ended else pool.wanted(now, coming)
        key = str(pool.address)
        allowed = self._funnel.settings.max_server_logins - self._logins.get(key, 0)
        for _ in range(min(wanted, allowed)):
            self._begin(pool, key)
        if wanted <= 0 and pool.starved():
            self._pools.make_room(pool)

    def _begin(self, pool: Database, key: str) -> None:
        """Open a server, or a connection for the replication client whose turn it is."""
        first = pool.waiters[0].login if pool.waiters else None
        if isinstance(first, Replica):
            first.take_place()
            return
        if first is None and pool.replicates and not pool.greetings:
            return
        opening = Opening(pool)
        pool.enter(opening)
        if len(pool.servers) > pool.most:
            self._funnel.journal.reserve_taken(pool)
        self._logins[key] = self._logins.get(key, 0) + 1
        self._start(self._open(pool, opening, key))

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _open(self, pool: Database, opening: Opening, key: str) -> None:
        failure: PgfunnelError | None = None
        logged_in: LoggedIn | None = None
        limit = self._funnel.settings.server_connect_timeout or None
        address, target, age = pool.address, pool.target, pool.age
        try:
            async with asyncio.timeout(limit):
                if pool.lacks_date_style():
                    pool.date_style = await self._reach.date_style(pool)
                address, logged_in = await self._reach.session(pool, target)
        except TimeoutError:
            failure = UpstreamUnreachable(f"login to Postgres at {address} timed out")
        except (PgfunnelError, OSError) as error:
            failure = words_of(error)
        finally:
            self._logins[key] -= 1
            pool.opened()
            if logged_in is None:
                pool.gone(opening)
        if logged_in is not None:
            stale = CloseReason.RELOAD if target.way != pool.target.way else None
            stale = CloseReason.OUTDATED if age != pool.age else stale
            self._opened(pool, opening, logged_in, address, stale)
        elif failure is not None:
            self._failed(pool, failure)
        self._pools.fill_all()

    async def log_in(self, replica: Replica, asked: Asked) -> LoggedIn:
        """A session apart, with these parameters. Raises what `open_session` raises."""
        pool = replica.pool
        key = str(pool.address)
        self._logins[key] = self._logins.get(key, 0) + 1
        try:
            address, opened = await self._reach.log_in(pool, asked)
        finally:
            self._logins[key] -= 1
        self._places[replica] = address, peer_of(opened.stream.sock)
        return opened

    def _opened(
        self,
        pool: Database,
        opening: Opening,
        logged_in: LoggedIn,
        address: Address,
        stale: CloseReason | None,
    ) -> None:
        """`stale`: why it is of no use any more, by what has come in between."""
        funnel = self._funnel
        pool.backoff.succeeded()
        pool.failure = None
        pool.counters.server_logins += 1
        if stale is None:
            pool.learn_defaults(logged_in.reported)
        peer = peer_of(logged_in.stream.sock)
        server = Server(
            funnel.loop,
            logged_in.stream.sock.detach(),
            pool,
            funnel,
            logged_in.process_id,
            logged_in.secret,
            dict(logged_in.reported),
            pool.defaults if stale is None else dict(logged_in.reported),
            funnel.settings.max_prepared_statements,
        )
        server.tls = logged_in.stream.tls
        self._places[server] = address, peer
        lifetime = pool.limits.server_lifetime
        jitter = 1 - random.random() / 10
        server.expires_at = monotonic() + lifetime * jitter if lifetime else float("inf")
        pool.servers.remove(opening)
        pool.servers.add(server)
        funnel.journal.server_opened(server)
        server.watch()
        server.reason = stale
        server.free()
        if pool.paused:
            self._pools.retire(server, CloseReason.PAUSED)

    def _failed(self, pool: Database, failure: PgfunnelError) -> None:
        now = monotonic()
        pool.counters.server_login_failures += 1
        pool.failure = _told(failure)
        pool.backoff.failed(now, random.random())
        self._funnel.journal.server_login_failed(pool, failure)
        if self.hopeless(pool, now):
            for client in self.all_waiters(pool):
                client.close(CloseReason.UPSTREAM_UNREACHABLE, pool.failure)

    def hopeless(self, pool: Database, now: float) -> bool:
        """Whether a client that needs a new server is better told at once why there is none."""
        if pool.paused or pool.failure is None or len(pool.servers) > pool.opening:
            return False
        if _lasts(pool.failure):
            return True
        return pool.backoff.failing_for(now) >= self._funnel.settings.upstream_grace

    @staticmethod
    def all_waiters(pool: Pool) -> list[Client]:
        waiters: list[Client] = list(pool.waiters)
        pool.waiters.clear()
        for client in waiters:
            client.waiting = False
        return waiters


def _lasts(failure: PgfunnelError) -> bool:
    """Whether waiting does not mend it."""
    refused = isinstance(failure, PostgresError) and failure.sqlstate in _AT_ONCE
    return refused or isinstance(failure, LoginHopeless)


def _told(failure: PgfunnelError) -> PgfunnelError:
    """What clients are told of a failed login: Postgres's own words, or ours within PgBouncer's."""
    if type(failure) is not UpstreamUnreachable:
        return failure
    words = f"server login has been failing, cached error: {failure.message} (server_login_retry)"
    return UpstreamUnreachable(words, hint=failure.advice or _GRACE)
