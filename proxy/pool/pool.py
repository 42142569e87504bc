"""The servers and waiters of one (database, user).

The pool decides; its caller does the I/O. Servers and clients are whatever the caller hands in:
a server has `idle_since` and `expires_at` (seconds), a client has `waiting_since`. The most
recently used server is lent first, so that the others can grow old (with `round_robin`, the one
that was idle longest); waiters are served in order.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import cython

from proxy.errors import TooManyWaiters
from proxy.pool.backoff import Backoff
from proxy.pool.bound import Bound

if cython.compiled:
    from cython.cimports.proxy.telemetry.counters import PoolCounters
else:
    from proxy.telemetry.counters import PoolCounters


@dataclass(frozen=True, slots=True)
class PoolSize:
    """Bounds of one pool, in servers; `reserve_after` and `idle_timeout` in seconds, 0: never."""

    size: int = 20
    minimum: int = 0
    reserve: int = 0
    reserve_after: float = 5.0
    idle_timeout: float = 600.0
    waiters: int = 0
    round_robin: bool = False


@cython.cclass
class Pool:
    """Servers idle and lent, waiters in order of arrival.

    `opening`: servers being connected; `servers`: every server that holds a place in the bound,
    opening and closing ones included.
    """

    backoff: Backoff
    idle: list[Any]
    waiters: deque[Any]
    servers: set[Any]
    closing: set[Any]

    def __init__(
        self,
        database: str,
        user: str,
        size: PoolSize,
        bounds: tuple[Bound, ...],
        backoff: Backoff,
        counters: PoolCounters,
    ) -> None:
        self.database = database
        self.user = user
        self.resize(size)
        self.bounds = bounds
        self.backoff = backoff
        self.counters = counters
        self.idle = []
        self.waiters = deque()
        # Finding a method costs more than what it does.
        self._join, self._first = self.waiters.append, self.waiters.popleft
        self.servers = set()
        self.closing = set()
        self.opening = 0
        self.clients = 0
        self.paused = False

    def __repr__(self) -> str:
        return (
            f"<Pool {self.database}/{self.user} servers={len(self.servers)}/{self.size.size} "
            f"idle={len(self.idle)} opening={self.opening} waiting={len(self.waiters)}>"
        )

    def resize(self, size: PoolSize) -> None:
        """Follow new bounds."""
        self.size = size
        self.most = size.size
        self.most_waiters = size.waiters
        self.round_robin = size.round_robin

    # -- the way of a transaction ----------------------------------------------------------

    @cython.ccall
    def borrow(self) -> object:
        """A server at once, or None: the caller then waits its turn (`wait`)."""
        if self.waiters or self.paused or not self.idle:
            return None
        return self.idle.pop(0 if self.round_robin else len(self.idle) - 1)

    @cython.ccall
    def release(self, server: object) -> object:
        """A clean server comes back: the waiter it goes to, or None and it is idle now."""
        if self.waiters and not self.paused:
            return self._first()
        self.idle.append(server)
        return None

    # -- waiters ---------------------------------------------------------------------------

    @cython.ccall
    def full(self) -> cython.bint:
        """Every server that it may have (the reserve aside) is there: nothing is to be opened."""
        return len(self.servers) >= self.most and self.opening == 0

    @cython.ccall
    def wait(self, client: object, front: cython.bint = False) -> object:
        """Join the queue; in `front` when a server just given turned out to be dead.

        Raises TooManyWaiters.
        """
        if front:
            self.waiters.appendleft(client)
        elif self.most_waiters and len(self.waiters) >= self.most_waiters:
            raise TooManyWaiters(
                f"{self.most_waiters} clients are waiting for a server of pool "
                f"{self.database}/{self.user}"
            )
        else:
            self._join(client)
        return None

    def leave(self, client: object) -> None:
        """A waiter gave up."""
        try:
            self.waiters.remove(client)
        except ValueError:
            return

    def overdue(self, now: float, timeout: float) -> list[Any]:
        """Waiters that have waited for `timeout` seconds, taken out of the queue."""
        late: list[Any] = []
        while timeout and self.waiters and now - self.waiters[0].waiting_since >= timeout:
            late.append(self.waiters.popleft())
        return late

    def oldest_wait(self, now: float) -> float:
        return now - self.waiters[0].waiting_since if self.waiters else 0.0

    # -- how many servers ------------------------------------------------------------------

    def wanted(self, now: float, coming: int = 0) -> int:
        """How many servers to start connecting now; so many are `coming`, free in a moment."""
        if self.paused or self.backoff.waits(now):
            return 0
        missing = self.size.minimum - len(self.servers)
        need = max(len(self.waiters) - self.opening - len(self.idle) - coming, missing)
        if need <= 0:
            return 0
        if self.backoff.failing:
            need = min(need, 1 - self.opening)
        return max(0, min(need, self.room(now)))

    def room(self, now: float) -> int:
        """Places left for servers of this pool."""
        limit = self.size.size
        if self.size.reserve and 0 < self.size.reserve_after <= self.oldest_wait(now):
            limit += self.size.reserve
        left = limit - len(self.servers)
        for bound in self.bounds:
            left = min(left, bound.room())
        return left

    def starved(self) -> bool:
        """Waiters, room of its own, but a shared bound that is full."""
        return (
            bool(self.waiters)
            and len(self.servers) < self.size.size
            and any(bound.room() <= 0 for bound in self.bounds)
        )

    def enter(self, server: object) -> None:
        """A server starts connecting: it takes its places."""
        self.servers.add(server)
        self.opening += 1
        for bound in self.bounds:
            bound.take()

    def opened(self) -> None:
        """A server that was opening has logged in, or failed to."""
        self.opening -= 1

    def gone(self, server: object) -> None:
        """A server's socket is known to be closed: its places are free."""
        if server not in self.servers:
            return
        self.servers.remove(server)
        self.withdraw(server)
        self.closing.discard(server)
        for bound in self.bounds:
            bound.give()

    def succeed(self, server: Any, heir: Any) -> None:
        """A server's socket is known to be closed: its places are the heir's."""
        self.withdraw(server)
        self.servers.remove(server)
        self.closing.discard(server)
        self.servers.add(heir)

    def withdraw(self, server: object) -> None:
        """A server is not to be lent any more."""
        if server in self.idle:
            self.idle.remove(server)
        if server in self.servers:
            self.closing.add(server)

    def surplus(self, now: float) -> list[Any]:
        """Idle servers to close: too old, idle for too long, or more than the pool may have."""
        staying = len(self.servers) - len(self.closing)
        extra = staying - self.size.size
        spare = staying - self.size.minimum
        ending: list[Any] = []
        for server in self.idle:
            stale = 0 < self.size.idle_timeout <= now - server.idle_since and spare > 0
            if now >= server.expires_at or extra > 0 or stale:
                ending.append(server)
                extra -= 1
                spare -= 1
        return ending
