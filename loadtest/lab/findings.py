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
        """What fails the run: cross-talk, totals that do not add up, a bound that did not hold,
        a restart that pgfunnel did not get over."""
        lost = [_unrecovered(result) for result in self._not_recovered(on_a_calm_machine=True)]
        return [*self._cross_talk(), *self._totals(), *self._unbounded(), *lost]

    def doubts(self) -> list[str]:
        """What the run was to show and did not, without a fault of pgfunnel's."""
        lost = [_unrecovered(result) for result in self._not_recovered(on_a_calm_machine=False)]
        return [*self._not_exhausted(), *lost]

    @property
    def passed(self) -> bool:
        """Something was measured, and no fault found in it."""
        return self._measured and not self.faults()

    @property
    def _measured(self) -> bool:
        return any(result.tally.invocations for result in self.results)

    def verdict(self) -> str:
        """The run in one sentence."""
        if self.faults():
            words = "FAILED"
        elif not self._measured:
            return "NOTHING WAS MEASURED: neither passed nor failed" + self._cut_short()
        else:
            words = "Passed: no cross-talk, totals add up, the bound held"
            words += "; NOT SHOWN is what follows" if self.doubts() else ""
        return words + self._cut_short()

    def _cut_short(self) -> str:
        return ". CUT SHORT: there is only what had been measured until then" if self.cut else ""

    def _not_exhausted(self) -> list[str]:
        """With more functions than max_connections, Postgres itself must have refused some."""
        crowded = [
            result
            for result in self.results
            if result.path == "straight" and not result.cut and result.step.functions > self.limit
        ]
        if not crowded or any("53300" in result.tally.refused for result in crowded):
            return []
        why = sorted({result.bottleneck for result in crowded} - {""})
        saturated = f" (saturated: {' and '.join(why)})" if why else ""
        told = "exhaustion: straight to Postgres no connection was refused"
        return [f"{told}, with more functions than connections{saturated}"]

    def _not_recovered(self, on_a_calm_machine: bool) -> list[Result]:
        return [
            result
            for result in self.results
            if result.path == "pgfunnel"
            and result.step.restarts
            and result.event is not None
            and not result.cut
            and result.recovery() is None
            and on_a_calm_machine is not bool(result.bottleneck)
        ]

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
            "verdict": self.verdict(),
            "passed": self.passed,
            "faults": self.faults(),
            "doubts": self.doubts(),
            "notes": self.notes,
            "pool_size": self.pool_size,
            "max_connections": self.limit,
            "steps": [step_json(result) for result in self.results],
            "totals": [
                {"path": check.path, **vars(check.totals), "faults": check.faults}
                for check in self.checks
            ],
        }


def _unrecovered(result: Result) -> str:
    saturated = f" (saturated: {result.bottleneck})" if result.bottleneck else ""
    return (
        f"{result.path}, {result.step.name}: no recovery from the restart of Postgres within the "
        f"step{saturated}"
    )


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
