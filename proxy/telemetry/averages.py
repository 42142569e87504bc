"""What all pools did since the last look, by the second: the line of statistics in the log."""

from __future__ import annotations

from collections.abc import Iterable

from proxy.telemetry.counters import PoolCounters

_Reading = tuple[float, float, float, float, float, float]


class Averages:
    """`read` gives rates since it was called last; `now` is in seconds, of any steady clock."""

    def __init__(self, now: float) -> None:
        self._at = now
        self._before: dict[PoolCounters, _Reading] = {}

    def read(self, pools: Iterable[PoolCounters], now: float) -> dict[str, float]:
        """Rates per second, bytes per second, and mean durations in microseconds.

        A pool that is no longer there is left out; what it did since the last look is lost.
        """
        readings = {counters: _reading(counters) for counters in pools}
        nothing = (0.0,) * 6
        steps = [
            [new - old for new, old in zip(reading, self._before.get(pool, nothing), strict=True)]
            for pool, reading in readings.items()
        ]
        sums = [sum(column) for column in zip(*steps, strict=True)] or list(nothing)
        seconds = max(now - self._at, 0.001)
        self._at, self._before = now, readings
        xacts, queries, received, sent, busy, waited = sums
        return {
            "xacts_per_second": round(xacts / seconds, 1),
            "queries_per_second": round(queries / seconds, 1),
            "in_bytes_per_second": round(received / seconds),
            "out_bytes_per_second": round(sent / seconds),
            "xact_us": round(1e6 * busy / xacts) if xacts else 0,
            "wait_us": round(1e6 * waited / xacts) if xacts else 0,
        }


def _reading(counters: PoolCounters) -> _Reading:
    return (
        counters.transactions,
        counters.queries,
        counters.bytes_received,
        counters.bytes_sent,
        counters.transaction_time.snapshot()[2],
        counters.borrow_wait.snapshot()[2],
    )
