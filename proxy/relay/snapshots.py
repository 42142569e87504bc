"""What others are shown of a pool."""

from __future__ import annotations

from collections.abc import Mapping

from proxy.relay.database import Database
from proxy.telemetry.counters import PoolCounters


class PoolSnapshot:
    """A pool as `proxy.telemetry.views.PoolView`."""

    __slots__ = ("_pool",)

    def __init__(self, pool: Database) -> None:
        self._pool = pool

    @property
    def database(self) -> str:
        return self._pool.database

    @property
    def user(self) -> str:
        return self._pool.user

    @property
    def size(self) -> int:
        return self._pool.size.size + self._pool.size.reserve

    @property
    def counters(self) -> PoolCounters:
        return self._pool.counters

    @property
    def waiting(self) -> int:
        return len(self._pool.waiters)

    @property
    def clients(self) -> int:
        return self._pool.clients

    @property
    def failing(self) -> str:
        return self._pool.failure.message if self._pool.failure is not None else ""

    def servers_by_state(self) -> Mapping[str, int]:
        return self._pool.servers_by_state()

    def oldest_wait(self, now: float) -> float:
        return self._pool.oldest_wait(now)
