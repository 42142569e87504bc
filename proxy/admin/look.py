"""What one SHOW looks at."""

from __future__ import annotations

import time
from dataclasses import dataclass

from proxy.admin.statistics import Counted, Statistics
from proxy.relay.funnel import Funnel


@dataclass(frozen=True, slots=True)
class Look:
    """The proxy at one moment: `now` by the monotonic clock, `today` by the wall's (seconds).

    `counted`: its pools, and the console.
    """

    funnel: Funnel
    statistics: Statistics
    counted: tuple[Counted, ...]
    now: float
    today: float

    def date(self, moment: float) -> str:
        """A monotonic time as PgBouncer writes it, in UTC."""
        seconds = self.today - (self.now - moment)
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
