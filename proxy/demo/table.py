"""What the demo found: one row a path and concurrency, as a table and as JSON."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

Path = Literal["direct", "pgfunnel"]
_HEADINGS = (
    "path",
    "concurrency",
    "invocations",
    "failures",
    "SQLSTATE",
    "peak connections",
    "p50 ms",
    "p99 ms",
)


@dataclass(frozen=True)
class Row:
    """One step of the demo. Latencies are of the invocations that succeeded; None without any."""

    path: Path
    concurrency: int
    invocations: int
    failures: int
    sqlstates: dict[str, int]
    peak_connections: int
    p50_ms: float | None
    p99_ms: float | None


def percentile(values: Sequence[float], percent: float) -> float | None:
    """The nearest-rank percentile of `values`, in any order; None when there are none."""
    if not values:
        return None
    rank = math.ceil(percent / 100 * len(values))
    return sorted(values)[max(rank, 1) - 1]


def make_row(
    path: Path, concurrency: int, latencies: Sequence[float], failed: Counter[str], peak: int
) -> Row:
    """A row from the latencies (ms) of what succeeded and the SQLSTATEs of what failed."""
    failures = failed.total()
    p50, p99 = (percentile(latencies, percent) for percent in (50, 99))
    return Row(
        path=path,
        concurrency=concurrency,
        invocations=len(latencies) + failures,
        failures=failures,
        sqlstates=dict(failed),
        peak_connections=peak,
        p50_ms=None if p50 is None else round(p50, 2),
        p99_ms=None if p99 is None else round(p99, 2),
    )


def render(rows: Sequence[Row]) -> str:
    """The rows as a table of plain text: one line each below the headings."""
    lines = [_HEADINGS, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADINGS))]
    return "\n".join(_aligned(line, widths) for line in lines)


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.path,
        f"{row.concurrency:,}",
        f"{row.invocations:,}",
        f"{row.failures:,}",
        _codes(row.sqlstates),
        f"{row.peak_connections:,}",
        _ms(row.p50_ms),
        _ms(row.p99_ms),
    )


def _codes(sqlstates: dict[str, int]) -> str:
    if len(sqlstates) < 2:
        return "".join(sqlstates) or "-"
    return ", ".join(f"{code}: {count:,}" for code, count in sorted(sqlstates.items()))


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}"


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = zip(cells, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)])


def verdict(rows: Sequence[Row]) -> str:
    """One sentence that says what the table shows."""
    direct, funnel = (_sum([row for row in rows if row.path == p]) for p in ("direct", "pgfunnel"))
    return (
        f"Straight to Postgres {direct[0]:,} of {direct[1]:,} invocations failed; "
        f"through pgfunnel {funnel[0]:,} of {funnel[1]:,}, "
        f"on at most {funnel[2]} server connections."
    )


def _sum(rows: Sequence[Row]) -> tuple[int, int, int]:
    failures = sum(row.failures for row in rows)
    invocations = sum(row.invocations for row in rows)
    return failures, invocations, max((row.peak_connections for row in rows), default=0)


def kept_its_promise(rows: Sequence[Row], pool_size: int) -> bool:
    """Whether nothing failed through pgfunnel and Postgres never saw more than the pool."""
    funnel = [row for row in rows if row.path == "pgfunnel"]
    return all(row.failures == 0 and row.peak_connections <= pool_size for row in funnel)


def to_json(rows: Sequence[Row]) -> str:
    """The rows as a JSON list of objects, keys as in `Row`."""
    return json.dumps([asdict(row) for row in rows], indent=2) + "\n"
