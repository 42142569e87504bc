"""What functions met, as one generator counted it; several tallies add up to one."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadtest.lab.histogram import Histogram

BIN_SECONDS = 0.5
# The file that a generator leaves when its load begins.
BEGUN = "begun"
_KEPT_VIOLATIONS = 20


@dataclass
class Bin:
    """Half a second of the run: invocations that ended in it."""

    done: int = 0
    failed: int = 0
    latency: Histogram = field(default_factory=Histogram)

    def merge(self, other: Bin) -> None:
        self.done += other.done
        self.failed += other.failed
        self.latency.merge(other.latency)


@dataclass
class Generator:
    """One load-generating process: its share of a core, how late its loop ran (ms).

    `ended`: it stopped in order; otherwise what its functions did last is not counted.
    """

    cpu_share: float
    lag_p99_ms: float
    ended: bool

    @property
    def saturated(self) -> bool:
        """Then latencies are the generator's own as much as anybody's."""
        return self.cpu_share > 0.8 or self.lag_p99_ms > 250


@dataclass
class Tally:
    """Counts of one run. `refused` are attempts by SQLSTATE, `failed` invocations given up."""

    latency: Histogram = field(default_factory=Histogram)
    queueing: Histogram = field(default_factory=Histogram)
    connecting: Histogram = field(default_factory=Histogram)
    workloads: dict[str, Histogram] = field(default_factory=lambda: defaultdict(Histogram))
    behaviours: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    words: dict[str, str] = field(default_factory=dict)
    bins: dict[int, Bin] = field(default_factory=lambda: defaultdict(Bin))
    checks: int = 0
    violations: list[str] = field(default_factory=list)
    violation_count: int = 0
    killed: int = 0
    checkouts_begun: int = 0
    checkouts_done: int = 0
    generators: list[Generator] = field(default_factory=list)
    began: float | None = None

    @property
    def invocations(self) -> int:
        return len(self.latency) + self.failed.total()

    @property
    def saturated(self) -> bool:
        return any(generator.saturated for generator in self.generators)

    def succeed(self, at: float, behaviour: str, workload: str, milliseconds: float) -> None:
        """An invocation ended well at `at`, in seconds since the epoch."""
        self.latency.add(milliseconds)
        self.workloads[workload].add(milliseconds)
        self.behaviours[behaviour] += 1
        moment = self.bins[int(at / BIN_SECONDS)]
        moment.done += 1
        moment.latency.add(milliseconds)

    def fail(self, at: float, behaviour: str, code: str, words: str) -> None:
        """An invocation was given up; `code` is a SQLSTATE, or a word where there is none."""
        self.failed[code] += 1
        self.behaviours[behaviour] += 1
        self.words.setdefault(code, words)
        self.bins[int(at / BIN_SECONDS)].failed += 1

    def violate(self, words: str) -> None:
        """A function saw what is not its own, or lost what is."""
        self.violation_count += 1
        if len(self.violations) < _KEPT_VIOLATIONS:
            self.violations.append(words)

    def merge(self, other: Tally) -> None:
        for name in ("latency", "queueing", "connecting"):
            getattr(self, name).merge(getattr(other, name))
        for name in ("behaviours", "failed", "refused"):
            getattr(self, name).update(getattr(other, name))
        for workload, latencies in other.workloads.items():
            self.workloads[workload].merge(latencies)
        for number, moment in other.bins.items():
            self.bins[number].merge(moment)
        for name in ("checks", "violation_count", "killed", "checkouts_begun", "checkouts_done"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.words = other.words | self.words
        self.violations = (self.violations + other.violations)[:_KEPT_VIOLATIONS]
        self.generators += other.generators
        self.began = min(filter(None, (self.began, other.began)), default=None)

    def to_json(self) -> dict[str, Any]:
        """Everything, for `from_json`."""
        plain = {name: getattr(self, name) for name in _PLAIN}
        histograms = {name: getattr(self, name).to_json() for name in _HISTOGRAMS}
        workloads = {name: found.to_json() for name, found in self.workloads.items()}
        bins = {n: [b.done, b.failed, b.latency.to_json()] for n, b in self.bins.items()}
        generators = [[g.cpu_share, g.lag_p99_ms, g.ended] for g in self.generators]
        nested = {"workloads": workloads, "bins": bins, "generators": generators}
        return plain | histograms | nested

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> Tally:
        tally = cls(**{name: kept[name] for name in _PLAIN})
        for name in _COUNTERS:
            setattr(tally, name, Counter(kept[name]))
        for name in _HISTOGRAMS:
            setattr(tally, name, Histogram.from_json(kept[name]))
        for name, counts in kept["workloads"].items():
            tally.workloads[name] = Histogram.from_json(counts)
        for number, (done, failed, counts) in kept["bins"].items():
            tally.bins[int(number)] = Bin(done, failed, Histogram.from_json(counts))
        tally.generators = [Generator(*found) for found in kept["generators"]]
        return tally


_COUNTERS = ("behaviours", "failed", "refused")
_HISTOGRAMS = ("latency", "queueing", "connecting")
_PLAIN = (
    *_COUNTERS,
    "words",
    "checks",
    "violations",
    "violation_count",
    "killed",
    "checkouts_begun",
    "checkouts_done",
    "began",
)


def added(tallies: Iterable[Tally]) -> Tally:
    """One tally of all."""
    total = Tally()
    for tally in tallies:
        total.merge(tally)
    return total


def collect(folder: Path) -> Tally:
    """The sum of the tallies that generators left in `folder`."""
    files = sorted(folder.glob("tally-*.json"))
    return added(Tally.from_json(json.loads(file.read_text())) for file in files)
