"""When to try again after a failed login to Postgres."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Backoff:
    """Pauses of a quarter of the time since the first failure, from `first` to `longest` seconds.

    So what comes back is noticed soon, for as long as it was away, and logins that fail side by
    side make no pause longer. Each is shortened by up to a half. The jitter (0 to 1) and the time
    (seconds, any clock that goes forward) are passed in.
    """

    first: float
    longest: float
    failing: bool = False
    since: float = 0.0
    retry_at: float = 0.0

    def failed(self, now: float, jitter: float) -> None:
        if not self.failing:
            self.since = now
        self.failing = True
        pause = min(self.longest, max(self.first, self.failing_for(now) / 4))
        self.retry_at = now + pause * (1 - jitter / 2)

    def succeeded(self) -> None:
        self.failing = False
        self.retry_at = 0.0

    def waits(self, now: float) -> bool:
        return now < self.retry_at

    def failing_for(self, now: float) -> float:
        """Seconds since the first failure of this run of failures; 0 when the last try worked."""
        return now - self.since if self.failing else 0.0
