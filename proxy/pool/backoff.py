"""When to try again after a failed login to Postgres."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Backoff:
    """Pauses that double from `first` to `longest` seconds, each shortened by up to a half.

    The jitter (0 to 1) and the time (seconds, any clock that goes forward) are passed in.
    """

    first: float
    longest: float
    failures: int = 0
    since: float = 0.0
    retry_at: float = 0.0

    def failed(self, now: float, jitter: float) -> None:
        if not self.failures:
            self.since = now
        pause = min(self.longest, self.first * 2.0 ** min(self.failures, 30))
        self.failures += 1
        self.retry_at = now + pause * (1 - jitter / 2)

    def succeeded(self) -> None:
        self.failures = 0
        self.retry_at = 0.0

    def waits(self, now: float) -> bool:
        return now < self.retry_at

    def failing_for(self, now: float) -> float:
        """Seconds since the first failure of this run of failures; 0 when the last try worked."""
        return now - self.since if self.failures else 0.0
