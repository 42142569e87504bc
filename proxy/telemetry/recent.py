"""Rates and latencies of the last seconds: what the counters say now, less what they said then.

Nothing is sampled while nobody asks; who asks every second sees a window of WINDOW seconds.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from proxy.telemetry.counters import BOUNDS, Histogram, PoolCounters

WINDOW = 10.0
"""Seconds that a window has at most."""

_ENDS = (0.0, *BOUNDS, None)
_BUCKETS = len(BOUNDS) + 1

Range = tuple[float, float | None]
"""Seconds between which a value lies; None: above the largest bound."""


@dataclass(slots=True)
class Sample:
    """Sums over all pools at `at` (monotonic, seconds); `pools`: the transactions of each."""

    at: float
    transactions: int = 0
    queries: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0
    waits: int = 0
    wait_seconds: list[int] = field(default_factory=lambda: [0] * _BUCKETS)
    transaction_seconds: list[int] = field(default_factory=lambda: [0] * _BUCKETS)
    pools: dict[PoolCounters, int] = field(default_factory=dict)

    def add(self, counters: PoolCounters) -> None:
        """Count one pool in."""
        self.transactions += counters.transactions
        self.queries += counters.queries
        self.bytes_received += counters.bytes_received
        self.bytes_sent += counters.bytes_sent
        self.waits += counters.waits
        _add(self.wait_seconds, counters.borrow_wait)
        _add(self.transaction_seconds, counters.transaction_time)
        self.pools[counters] = counters.transactions


class Recent:
    """The samples of the last WINDOW seconds."""

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque()

    def window(self, now: Sample) -> Window | None:
        """From the oldest sample that is still recent to this one; None if it is the first."""
        while self._samples and now.at - self._samples[0].at > WINDOW:
            self._samples.popleft()
        self._samples.append(now)
        before = self._samples[0]
        return Window(before, now) if now.at > before.at else None


@dataclass(frozen=True, slots=True)
class Window:
    """What happened between two samples. A pool that went away in between counts for nothing."""

    before: Sample
    now: Sample

    @property
    def seconds(self) -> float:
        return self.now.at - self.before.at

    def rate(self, counter: str) -> float:
        """By how much one of Sample's counters grew, a second."""
        grown: int = getattr(self.now, counter) - getattr(self.before, counter)
        return max(grown, 0) / self.seconds

    def pool_rate(self, counters: PoolCounters) -> float:
        """Transactions of one pool, a second."""
        return (counters.transactions - self.before.pools.get(counters, 0)) / self.seconds

    def quantiles(self, durations: str, *wanted: float) -> tuple[int, list[Range | None]]:
        """How many durations there were, and between which bounds each quantile (0 to 1) lies."""
        pairs = zip(getattr(self.before, durations), getattr(self.now, durations), strict=True)
        grown = [max(new - old, 0) for old, new in pairs]
        return sum(grown), [quantile(grown, each) for each in wanted]


def quantile(counts: list[int], wanted: float) -> Range | None:
    """The bucket that holds the nearest-rank quantile (0 to 1); None when all are empty."""
    rank = math.ceil(wanted * sum(counts))
    for i, count in enumerate(counts):
        rank -= count
        if count and rank <= 0:
            return _ENDS[i] or 0.0, _ENDS[i + 1]
    return None


def _add(sums: list[int], histogram: Histogram) -> None:
    below = 0
    for i, upto in enumerate(histogram.snapshot()[1]):
        sums[i] += upto - below
        below = upto
