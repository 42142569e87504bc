"""What one run of one case yields, and percentiles."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """One run of one case on one proxy.

    `cost` is in the case's own unit, `rate` in transactions, logins or clients per second.
    """

    cost: float
    rate: float
    p50_ms: float | None
    p99_ms: float | None
    errors: int
    first_error: str = ""


def percentile(values: Sequence[float], percent: int) -> float | None:
    """Interpolated; None for fewer than two values."""
    if len(values) < 2:
        return None
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
