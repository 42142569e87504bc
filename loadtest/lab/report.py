"""Writes what was found: report.html, report.json, steps.csv and series.csv."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from loadtest.lab.findings import Findings, row
from loadtest.lab.page import render


def write(findings: Findings, folder: Path) -> None:
    """All files of the report, in `folder`, which is made. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in _files(findings):
        # Also when it is killed here, the file of before is whole.
        part = folder / f"{name}.part"
        part.write_text(text, encoding="utf-8", newline="")
        part.replace(folder / name)


def _files(findings: Findings) -> Iterator[tuple[str, str]]:
    yield "report.html", render(findings)
    yield "report.json", json.dumps(findings.to_json(), indent=1, ensure_ascii=False) + "\n"
    rows = [row(result) for result in findings.results]
    names = list(rows[0]) if rows else ["path"]
    yield "steps.csv", _csv([names, *(found.values() for found in rows)])
    names = ["path", "scenario", "functions", "series", "second", "value"]
    yield "series.csv", _csv([names, *_points(findings)])


def _csv(rows: Iterable[Iterable[object]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue()


def _points(findings: Findings) -> Iterator[tuple[object, ...]]:
    for result in findings.results:
        for name, points in result.series().items():
            for at, value in points:
                yield result.path, result.step.scenario, result.step.functions, name, at, value
