"""Writes what was found: report.html, report.json, steps.csv and series.csv."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

from loadtest.lab.findings import Findings, row
from loadtest.lab.page import render


def write(findings: Findings, folder: Path) -> None:
    """All files of the report, in `folder`, which is made. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.html").write_text(render(findings), encoding="utf-8")
    text = json.dumps(findings.to_json(), indent=1, ensure_ascii=False)
    (folder / "report.json").write_text(f"{text}\n", encoding="utf-8")
    rows = [row(result) for result in findings.results]
    with (folder / "steps.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else ["path"])
        writer.writeheader()
        writer.writerows(rows)
    with (folder / "series.csv").open("w", newline="", encoding="utf-8") as file:
        plain = csv.writer(file)
        plain.writerow(("path", "scenario", "functions", "series", "second", "value"))
        plain.writerows(_points(findings))


def _points(findings: Findings) -> Iterator[tuple[object, ...]]:
    for result in findings.results:
        for name, points in result.series().items():
            for at, value in points:
                yield result.path, result.step.scenario, result.step.functions, name, at, value
