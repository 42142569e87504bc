# cython: boundscheck=False, wraparound=False
"""What is counted, as plain integers that the way of a transaction only adds to.

Everything here is touched by the event loop's thread alone, so nothing is locked. Compiled,
attributes are C fields (counters.pxd declares them) and an addition is one machine instruction;
the metrics page reads them when it is asked for.
"""

from collections import Counter

from proxy.telemetry.reasons import CloseReason, Side

# Seconds; a wait or a transaction falls into the first bound that is not below it.
BOUNDS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1),
    *(0.25, 1.0, 5.0, 15.0, 60.0),
)
# Seconds that clients are pinned: from one statement to the days of a listener.
PIN_BOUNDS = (
    *(0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 15.0),
    *(60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0, 604_800.0),
)


class Histogram:
    """How often a duration fell between two of the bounds; the last bucket has no upper bound.

    `bounds`: seconds, in order, as many as BOUNDS.
    """

    def __init__(self, bounds: tuple[float, ...] = BOUNDS) -> None:
        self._bounds = list(bounds)
        self._counts = [0 for _ in range(len(BOUNDS) + 1)]
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration; a negative one (a clock that stepped back) counts as zero."""
        seconds = max(seconds, 0.0)
        i = 0
        while i < 15 and seconds > self._bounds[i]:
            i += 1
        self._counts[i] += 1
        self._sum += seconds

    def snapshot(self) -> tuple[tuple[float, ...], tuple[int, ...], float]:
        """The bounds, how many durations were at most each (then all of them), and their sum.

        The counts are cumulative, as Prometheus wants them, and one longer than the bounds.
        """
        cumulative: list[int] = []
        total: int = 0
        for i in range(len(BOUNDS) + 1):
            total += self._counts[i]
            cumulative.append(total)
        return tuple(self._bounds), tuple(cumulative), self._sum


class PoolCounters:
    """What one pool has done since it was made: counts, bytes and durations in seconds."""

    def __init__(self) -> None:
        self.transactions = 0
        self.queries = 0
        self.bytes_received = 0  # from clients
        self.bytes_sent = 0  # to clients
        self.server_logins = 0
        self.server_login_failures = 0
        self.client_parses = 0  # named statements that clients prepared
        self.server_parses = 0  # times that one of those was prepared on a server
        self.binds = 0  # times that one of those was bound
        self.waits = 0  # times a client had to wait for a server
        self.query_time = 0.0  # seconds that servers worked for clients
        self.borrow_wait = Histogram()
        self.transaction_time = Histogram()
        self.pins: Counter[str] = Counter()
        self.pinned: Counter[str] = Counter()
        self.pin_time: dict[str, Histogram] = {}
        self.leaks: Counter[str] = Counter()

    def pin(self, reason: str) -> None:
        """Count one client that keeps its server from now on."""
        self.pins[reason] += 1
        self.pinned[reason] += 1
        self.pin_time.setdefault(reason, Histogram(PIN_BOUNDS))

    def unpin(self, reason: str, seconds: float) -> None:
        """Count the end of a pin that lasted for so long."""
        self.pinned[reason] -= 1
        self.pin_time[reason].observe(seconds)


class Totals:
    """What happened to connections, whatever their pool: rare next to transactions."""

    def __init__(self) -> None:
        self.logins: Counter[str] = Counter()
        self.closes: Counter[tuple[Side, CloseReason]] = Counter()
        self.refusals: Counter[str] = Counter()
        self.cancels: Counter[str] = Counter()

    def login(self, result: str) -> None:
        """Count one client login by its result, such as `ok` or `failed`."""
        self.logins[result] += 1

    def close(self, side: Side, reason: CloseReason) -> None:
        """Count one closed connection."""
        self.closes[side, reason] += 1

    def refusal(self, sqlstate: str) -> None:
        """Count one error of ours that a client was told, by its SQLSTATE."""
        self.refusals[sqlstate] += 1

    def cancel(self, result: str) -> None:
        """Count one CancelRequest by its result, such as `sent` or `unknown_key`."""
        self.cancels[result] += 1
