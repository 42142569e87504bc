"""The outcome as a table, as Markdown and as JSON."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from loadtest.bench.cases import KIB, Case
from loadtest.bench.samples import Sample

_COSTS = ("what", "cost", "{0}", "{1}", "ratio", "range", "target", "")
_HEADINGS = (*_COSTS, "per second", "p50 ms", "p99 ms", "errors")
_BARE = "-"


@dataclass
class Row:
    """One case's samples: run n of `subject` and run n of `baseline` are a pair."""

    case: Case
    subject: list[Sample] = field(default_factory=list)
    baseline: list[Sample] = field(default_factory=list)
    skipped: str = ""
    note: str = ""

    def ratios(self) -> list[float]:
        """Subject's cost by baseline's, pair by pair."""
        pairs = zip(self.subject, self.baseline, strict=False)
        return [ours.cost / theirs.cost for ours, theirs in pairs if theirs.cost > 0]

    def ratio(self) -> float | None:
        """The median of the pairs."""
        ratios = self.ratios()
        return statistics.median(ratios) if ratios else None

    def met(self) -> bool | None:
        """Whether the target is met; None without a target or a figure."""
        target = self.case.target
        if not target or not self.subject:
            return None
        errors = sum(sample.errors for sample in self.subject)
        figures = {"ratio": self.ratio(), "cost": _median(self.subject, "cost"), "errors": errors}
        figure = figures[target.of]
        # As the table shows it: 1.004 is 1.00.
        return None if figure is None else round(figure, 2) <= target.limit


@dataclass(frozen=True)
class Report:
    """All rows, who was compared, and where."""

    subject: str
    baseline: str
    rows: Sequence[Row]
    circumstances: dict[str, Any]

    def table(self) -> str:
        """Aligned columns for a terminal."""
        lines = [self._headings(), *map(_cells, self._measured())]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        aligned = [_align(line, widths) for line in lines]
        aligned.insert(1, "  ".join("─" * width for width in widths))
        return "\n".join([*aligned, *self._remarks()])

    def markdown(self) -> str:
        """The same as a Markdown table."""
        lines = [self._headings(), ("---", *["---:"] * (len(_HEADINGS) - 1))]
        lines += map(_cells, self._measured())
        rows = [f"| {' | '.join(line)} |" for line in lines]
        return "\n".join([*rows, "", *(f"- {remark}" for remark in self._remarks())]).rstrip()

    def json(self) -> dict[str, Any]:
        """Every sample, for other programs."""
        rows = [self._row_json(row) for row in self.rows]
        return {**self.circumstances, "rows": rows}

    def _row_json(self, row: Row) -> dict[str, Any]:
        case = row.case
        return {
            "name": case.name,
            "title": case.title,
            "unit": f"{_unit(case)}/{case.per}",
            "target": asdict(case.target) if case.target else None,
            "met": row.met(),
            "ratio": row.ratio(),
            "ratios": row.ratios(),
            self.subject: [asdict(sample) for sample in row.subject],
            self.baseline: [asdict(sample) for sample in row.baseline],
            "note": row.note,
            "skipped": row.skipped,
        }

    def _headings(self) -> tuple[str, ...]:
        return tuple(heading.format(self.subject, self.baseline) for heading in _HEADINGS)

    def _measured(self) -> list[Row]:
        return [row for row in self.rows if row.subject]

    def _remarks(self) -> list[str]:
        pair = f"{self.subject} / {self.baseline}"
        remarks = [f"ratio: {pair}, median of the pairs; per second, p50, p99, errors: {pair}"]
        for row in self.rows:
            remarks += [f"{row.case.name}: {row.note}"] if row.note else []
            remarks += [f"{row.case.name}: not measured: {row.skipped}"] if row.skipped else []
            errors = [s.first_error for s in [*row.subject, *row.baseline] if s.errors]
            remarks += [f"{row.case.name}: first error: {errors[0]}"] if errors else []
        return remarks


def _cells(row: Row) -> tuple[str, ...]:
    ratios, ratio = row.ratios(), row.ratio()
    return (
        row.case.title,
        f"{_unit(row.case)}/{row.case.per}",
        _number(_median(row.subject, "cost")),
        _number(_median(row.baseline, "cost")),
        _BARE if ratio is None else f"{ratio:.2f}",
        f"{min(ratios):.2f} to {max(ratios):.2f}" if ratios else _BARE,
        _target(row.case),
        {True: "met", False: "MISSED", None: ""}[row.met()],
        _both(row, lambda samples: _number(_median(samples, "rate"))),
        _both(row, lambda samples: _number(_median(samples, "p50_ms"))),
        _both(row, lambda samples: _number(_median(samples, "p99_ms"))),
        _both(row, lambda samples: str(sum(sample.errors for sample in samples))),
    )


def _unit(case: Case) -> str:
    return case.unit if case.unit == KIB else f"CPU {case.unit}"


def _target(case: Case) -> str:
    if not case.target:
        return ""
    if case.target.of == "ratio":
        return f"≤ {case.target.limit:.2f}"
    unit = f" {case.unit}" if case.target.of == "cost" else " errors"
    return f"≤ {case.target.limit:g}{unit}"


def _both(row: Row, figure: Callable[[Sequence[Sample]], str]) -> str:
    return " / ".join(figure(samples) for samples in (row.subject, row.baseline) if samples)


def _median(samples: Sequence[Sample], name: str) -> float | None:
    values = [getattr(sample, name) for sample in samples]
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _number(value: float | None) -> str:
    """Three digits or so: 0.42, 21.3, 31,200."""
    if value is None:
        return _BARE
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _align(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = (
        cell.ljust(width) if at < 2 else cell.rjust(width)
        for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join([first, *others]).rstrip()
