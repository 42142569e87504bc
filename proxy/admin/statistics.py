"""SHOW STATS and its kin: totals since the start, averages over the last period."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from proxy.telemetry.counters import PoolCounters


class Counted(Protocol):
    """A pool, as far as statistics go."""

    @property
    def database(self) -> str: ...
    @property
    def counters(self) -> PoolCounters: ...


class Reading(NamedTuple):
    """Counts, bytes, and times in microseconds, by the names of SHOW TOTALS."""

    server_assignment_count: int = 0
    xact_count: int = 0
    query_count: int = 0
    client_bytes: int = 0
    server_bytes: int = 0
    xact_time: int = 0
    query_time: int = 0
    wait_time: int = 0
    ps_client_parse_count: int = 0
    ps_server_parse_count: int = 0
    ps_bind_count: int = 0

    def plus(self, other: Reading) -> Reading:
        return Reading(*(a + b for a, b in zip(self, other, strict=True)))

    def since(self, before: Reading, seconds: float) -> Reading:
        """Rates by the second; times are means by transaction, query and assignment."""
        step = Reading(*(a - b for a, b in zip(self, before, strict=True)))
        rates = Reading(*(int(amount / seconds) for amount in step))
        return rates._replace(
            xact_time=_mean(step.xact_time, step.xact_count),
            query_time=_mean(step.query_time, step.query_count),
            wait_time=_mean(step.wait_time, step.server_assignment_count),
        )

    def in_the_log(self) -> dict[str, int]:
        """Rates and means as the log's line of statistics has them."""
        return {
            "xacts_per_s": self.xact_count,
            "queries_per_s": self.query_count,
            "client_parses_per_s": self.ps_client_parse_count,
            "server_parses_per_s": self.ps_server_parse_count,
            "binds_per_s": self.ps_bind_count,
            "in_bytes_per_s": self.client_bytes,
            "out_bytes_per_s": self.server_bytes,
            "xact_us": self.xact_time,
            "query_us": self.query_time,
            "wait_us": self.wait_time,
        }


class Line(NamedTuple):
    """One database's statistics, or everybody's."""

    database: str
    total: Reading
    average: Reading


class Statistics:
    """`turn` at the end of each stats_period; averages reach back one to two of them."""

    def __init__(self, now: float) -> None:
        self._older_at = self._newer_at = now
        self._older: Mapping[PoolCounters, Reading] = {}
        self._newer: Mapping[PoolCounters, Reading] = {}

    def turn(self, pools: Iterable[Counted], now: float) -> None:
        """A period is over; `now` is monotonic, in seconds."""
        self._older_at, self._older = self._newer_at, self._newer
        self._newer_at = now
        self._newer = {pool.counters: reading(pool.counters) for pool in pools}

    def by_database(self, pools: Iterable[Counted], now: float) -> list[Line]:
        """A line for each database, by name."""
        totals: dict[str, tuple[Reading, Reading]] = {}
        for pool in pools:
            total, before = totals.get(pool.database, (Reading(), Reading()))
            older = self._older.get(pool.counters, Reading())
            totals[pool.database] = total.plus(reading(pool.counters)), before.plus(older)
        seconds = max(now - self._older_at, 0.001)
        return [
            Line(database, total, total.since(before, seconds))
            for database, (total, before) in sorted(totals.items())
        ]

    def of_all(self, pools: Iterable[Counted], now: float) -> Line:
        """All databases together."""
        pools = list(pools)
        total, before = Reading(), Reading()
        for pool in pools:
            total = total.plus(reading(pool.counters))
            before = before.plus(self._older.get(pool.counters, Reading()))
        return Line("", total, total.since(before, max(now - self._older_at, 0.001)))


def reading(counters: PoolCounters) -> Reading:
    """What one pool has done since it was made."""
    _, waits, waited = counters.borrow_wait.snapshot()
    return Reading(
        server_assignment_count=waits[-1],
        xact_count=counters.transactions,
        query_count=counters.queries,
        client_bytes=counters.bytes_received,
        server_bytes=counters.bytes_sent,
        xact_time=int(counters.transaction_time.snapshot()[2] * 1e6),
        query_time=int(counters.query_time * 1e6),
        wait_time=int(waited * 1e6),
        ps_client_parse_count=counters.client_parses,
        ps_server_parse_count=counters.server_parses,
        ps_bind_count=counters.binds,
    )


def _mean(time: int, count: int) -> int:
    return time // count if count else 0
