"""What a comparison found, and what it makes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from loadtest.lab.steps import Result
from loadtest.lab.totals import Totals

PERCENTILES = (50, 95, 99)


@dataclass(frozen=True)
class PathCheck:
    """After the steps of one path: its totals, and every fault in them."""

    path: str
    totals: Totals
    faults: list[str]


@dataclass
class Findings:
    """Grows while the comparison runs, so that it can be reported at any moment.

    `bounded` says that nobody else uses the role, so that more connections than the pool's are
    the pooler's fault.
    """

    circumstances: dict[str, Any]
    pool_size: int
    limit: int = 0
    bounded: bool = True
    results: list[Result] = field(default_factory=list)
    checks: list[PathCheck] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    cut: bool = False

    def faults(self) -> list[str]:
        """What fails the run: cross-talk, totals that do not add up, a bound that did not hold."""
        return [*self._cross_talk(), *self._totals(), *self._unbounded()]

    def _cross_talk(self) -> list[str]:
        return [
            f"{result.path}, {result.step.name}: {result.tally.violation_count:,} violations of "
            f"the state check, first: {result.tally.violations[0]}"
            for result in self.results
            if result.tally.violation_count
        ]

    def _totals(self) -> list[str]:
        return [
            f"{check.path}: totals of the checkouts do not add up: {fault}"
            for check in self.checks
            for fault in check.faults
        ]

    def _unbounded(self) -> list[str]:
        return [
            f"{result.path}, {result.step.name}: Postgres saw {result.peak} connections, "
            f"the pool has {self.pool_size}"
            for result in self.results
            if self.bounded and result.path == "pgfunnel" and result.peak > self.pool_size
        ]

    def to_json(self) -> dict[str, Any]:
        """Everything that report.json holds."""
        return {
            "circumstances": self.circumstances,
            "cut_short": self.cut,
            "passed": not self.faults(),
            "faults": self.faults(),
            "notes": self.notes,
            "pool_size": self.pool_size,
            "max_connections": self.limit,
            "steps": [step_json(result) for result in self.results],
            "totals": [
                {"path": check.path, **vars(check.totals), "faults": check.faults}
                for check in self.checks
            ],
        }


def step_json(result: Result) -> dict[str, Any]:
    """One step with its series; latencies in ms, times in seconds since the step began."""
    return {
        **row(result),
        "workloads": {
            name: {f"p{p}_ms": _rounded(found.percentile(p)) for p in PERCENTILES}
            for name, found in sorted(result.tally.workloads.items())
        },
        "behaviours": dict(result.tally.behaviours),
        "failed": dict(result.tally.failed),
        "refused_attempts": dict(result.tally.refused),
        "first_words": result.tally.words,
        "violations": result.tally.violations,
        "generators": [vars(found) for found in result.tally.generators],
        "series": result.series(),
    }


def row(result: Result) -> dict[str, Any]:
    """One step as a flat row, as in steps.csv."""
    tally = result.tally
    return {
        "path": result.path,
        "scenario": result.step.scenario,
        "functions": result.step.functions,
        "seconds": result.step.seconds,
        "invocations": tally.invocations,
        "failures": result.failures,
        "sqlstates": codes(result),
        "peak_connections": result.peak,
        "average_connections": round(result.average, 1),
        "peak_clients": result.peak_clients,
        "peak_waiters": result.peak_waiters,
        **_percentiles("", result, "latency"),
        **_percentiles("queueing_", result, "queueing"),
        **_percentiles("connect_", result, "connecting"),
        "throughput": round(result.throughput, 1),
        "pooler_cpu_ms": _rounded(result.pooler_ms),
        "recovery_s": _rounded(result.recovery()),
        "killed": tally.killed,
        "state_checks": tally.checks,
        "violations": tally.violation_count,
        "bottleneck": result.bottleneck,
        "machine_busy": round(result.machine_busy, 3),
        "cut": result.cut,
    }


def codes(result: Result) -> str:
    """The failures by SQLSTATE, most frequent first: `53300: 12, 57P01: 1`."""
    return ", ".join(f"{code}: {count}" for code, count in result.tally.failed.most_common())


def _percentiles(prefix: str, result: Result, name: str) -> dict[str, float | None]:
    found = getattr(result.tally, name)
    return {f"{prefix}p{p}_ms": _rounded(found.percentile(p)) for p in PERCENTILES}


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 2)
