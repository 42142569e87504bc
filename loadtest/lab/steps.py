"""The steps of a comparison, and what one of them came to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from loadtest.lab.shapes import SPIKE_BEGINS, SPIKE_ENDS
from loadtest.lab.tally import BIN_SECONDS, Bin, Tally
from loadtest.lab.watch import Sample

MIX = ("ColdFunction", "WarmFunction", "FrozenFunction", "KilledFunction", "PooledFunction")
LEAK = ("LeakyFunction",)
NAMED_LEVELS = {10: "low", 50: "moderate", 100: "spike", 500: "Black Friday"}

# Invocations a second that one machine can play, and functions that it can start meanwhile.
_RATE = 100.0
_SETTLED_RATIO, _SETTLED_MS = 3.0, 100.0
_RESTART_AFTER = 0.35
_BUSY = 0.95


@dataclass(frozen=True)
class Step:
    """So many functions in this shape, for so long; `restarts`: Postgres goes away meanwhile."""

    scenario: str
    functions: int
    seconds: float
    shape: str = "steady"
    users: tuple[str, ...] = MIX
    restarts: bool = False
    only: str = ""

    @property
    def name(self) -> str:
        return f"{self.scenario} {self.functions:,}"

    @property
    def pace(self) -> float:
        """Seconds between the invocations of one function: what one generator can play."""
        return max(0.5, self.functions / _RATE)

    @property
    def restart_after(self) -> float | None:
        return self.seconds * _RESTART_AFTER if self.restarts else None


def full(levels: Sequence[int]) -> list[Step]:
    """The whole comparison: every level, then what happens to functions in practice."""
    return [
        *(Step("level", level, _level_seconds(level)) for level in levels),
        Step("spike", 500, 24, "spike"),
        Step("restart", 50, 18, restarts=True),
        Step("storm", 500, 20, "storm"),
        Step("leak", 20, 18, "leak", LEAK),
    ]


def _level_seconds(level: int) -> float:
    """Until all have started, and some more."""
    return 12.0 if level <= _RATE else level / _RATE + 20.0


def quick(levels: Sequence[int]) -> list[Step]:
    """The same in short."""
    return [
        *(Step("level", level, 3) for level in levels),
        Step("spike", 150, 5, "spike"),
        Step("restart", 20, 5, restarts=True, only="pgfunnel"),
    ]


@dataclass
class Result:
    """What one step came to on one path. `event` is when what it must recover from was over."""

    path: str
    step: Step
    tally: Tally
    samples: list[Sample] = field(default_factory=list)
    event: float | None = None
    cut: bool = False
    machine_busy: float = 0.0
    pooler_cpu: float = 0.0

    @property
    def bottleneck(self) -> str:
        """What latencies were made by as much as by the path: generator, machine, or nothing."""
        if self.tally.saturated:
            return "generator"
        return "machine" if self.machine_busy > _BUSY else ""

    @property
    def connections(self) -> list[int]:
        return [s.connections for s in self.samples if s.connections is not None]

    @property
    def peak(self) -> int:
        return max(self.connections, default=0)

    @property
    def average(self) -> float:
        seen = self.connections
        return sum(seen) / len(seen) if seen else 0.0

    @property
    def peak_clients(self) -> int | None:
        return max((s.crowd.clients for s in self.samples if s.crowd), default=None)

    @property
    def peak_waiters(self) -> int | None:
        return max((s.crowd.waiters for s in self.samples if s.crowd), default=None)

    @property
    def failures(self) -> int:
        return self.tally.failed.total()

    @property
    def throughput(self) -> float:
        """Invocations a second that succeeded."""
        return len(self.tally.latency) / self.step.seconds

    @property
    def event_at(self) -> float | None:
        """A restart is marked by who does it; a spike is over at a share of its step."""
        if self.step.shape == "spike" and self.tally.began is not None:
            return self.tally.began + self.step.seconds * SPIKE_ENDS
        return self.event

    @property
    def pooler_ms(self) -> float | None:
        """CPU of the pooler for one invocation; None without a pooler, or invocations."""
        if not self.pooler_cpu or not self.tally.invocations:
            return None
        return self.pooler_cpu * 1000 / self.tally.invocations

    def recovery(self) -> float | None:
        """Seconds from the event until nothing failed and latency was as before; None: never."""
        began, event = self.tally.began, self.event_at
        if began is None or event is None or self.cut:
            return None
        calm_ends = began + self.step.seconds * SPIKE_BEGINS
        limit = _settled(self._between(began, min(calm_ends, event)))
        after = self._numbered(event, began + self.step.seconds)
        if not after:
            return None
        # Silence after a restart is an outage; after a spike there may be little to answer.
        silent = Bin(failed=1) if self.step.restarts else Bin()
        bad = [number for number in after if _bad(self.tally.bins.get(number, silent), limit)]
        if not bad:
            return 0.0
        return None if bad[-1] == after[-1] else (bad[-1] + 1) * BIN_SECONDS - event

    @property
    def length(self) -> float:
        """Seconds to the last point of its series."""
        return max((at for points in self.series().values() for at, _ in points), default=0.0)

    def series(self) -> dict[str, list[tuple[float, float]]]:
        """Points (seconds since the step began, value) of what is plotted."""
        began = self.tally.began or (self.samples[0].at if self.samples else 0.0)
        bins = sorted(self.tally.bins.items())
        latencies = [(n, b.latency.percentile(95)) for n, b in bins]
        return {
            "connections": _thinned(
                (s.at - began, s.connections) for s in self.samples if s.connections is not None
            ),
            "clients": _thinned((s.at - began, s.crowd.clients) for s in self.samples if s.crowd),
            "waiters": _thinned((s.at - began, s.crowd.waiters) for s in self.samples if s.crowd),
            "p95_ms": [(_moment(n, began), round(p95, 2)) for n, p95 in latencies if p95],
            "failures": [(_moment(n, began), b.failed) for n, b in bins],
        }

    def _numbered(self, begin: float, end: float) -> range:
        """The bins that lie wholly before `end`, from the one of `begin`."""
        return range(int(begin / BIN_SECONDS), int(end / BIN_SECONDS))

    def _between(self, begin: float, end: float) -> Bin:
        total = Bin()
        for number in self._numbered(begin, end):
            total.merge(self.tally.bins.get(number, Bin()))
        return total


def _settled(before: Bin) -> float:
    """The p95 in ms up to which latency counts as it was before."""
    usual = before.latency.percentile(95) or 0.0
    return max(usual * _SETTLED_RATIO, usual + _SETTLED_MS)


def _bad(found: Bin, limit: float) -> bool:
    """Something failed, or took too long."""
    return found.failed > 0 or (found.latency.percentile(95) or 0.0) > limit


def _moment(number: int, began: float) -> float:
    return round((number + 1) * BIN_SECONDS - began, 2)


def _thinned(points: Iterable[tuple[float, int]]) -> list[tuple[float, float]]:
    """The highest value of each bin's length, so that no peak is lost."""
    highest: dict[int, int] = {}
    for at, value in points:
        if at >= 0:
            number = int(at / BIN_SECONDS)
            highest[number] = max(value, highest.get(number, 0))
    return [(number * BIN_SECONDS, value) for number, value in sorted(highest.items())]
