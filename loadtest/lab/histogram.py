"""Latencies in little room: buckets whose bounds grow by 2 percent each."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

_GROWTH = math.log(1.02)
_LEAST_MS = 0.01


class Histogram:
    """Counts of milliseconds. A percentile is right to within 1 percent, however many there are."""

    def __init__(self, counts: Mapping[int, int] | None = None) -> None:
        self._counts: Counter[int] = Counter(dict(counts or {}))

    def __len__(self) -> int:
        return self._counts.total()

    def add(self, milliseconds: float) -> None:
        self._counts[_bucket(milliseconds)] += 1

    def merge(self, other: Histogram) -> None:
        self._counts.update(other._counts)

    def percentile(self, percent: float) -> float | None:
        """The nearest-rank percentile in ms; None when nothing was counted."""
        rank = max(math.ceil(percent / 100 * len(self)), 1)
        seen = 0
        for bucket in sorted(self._counts):
            seen += self._counts[bucket]
            if seen >= rank:
                return _middle(bucket)
        return None

    def to_json(self) -> dict[str, int]:
        return {str(bucket): count for bucket, count in self._counts.items()}

    @classmethod
    def from_json(cls, counts: Mapping[str, int]) -> Histogram:
        return cls({int(bucket): count for bucket, count in counts.items()})


def _bucket(milliseconds: float) -> int:
    return math.ceil(math.log(max(milliseconds, _LEAST_MS) / _LEAST_MS) / _GROWTH)


def _middle(bucket: int) -> float:
    return _LEAST_MS * math.exp((bucket - 0.5) * _GROWTH)
