"""Recovery, verdicts, charts and files of a report."""

from __future__ import annotations

import csv
import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest

from loadtest.lab.charts import Chart, Frame, Line
from loadtest.lab.findings import Findings, PathCheck
from loadtest.lab.page import render, what_happened
from loadtest.lab.report import write
from loadtest.lab.steps import Result, Step
from loadtest.lab.tally import Generator, Tally
from loadtest.lab.totals import Totals
from loadtest.lab.watch import Crowd, Sample

BEGAN = 1000.0
SOUND = Totals(10, 20, 20, 500, 500, 0, 0)


def steady(step: Step, *, failing: range = range(0), slow: range = range(0)) -> Tally:
    """One invocation in each half-second of the step; those in `failing` and `slow` are bad."""
    tally = Tally(began=BEGAN, generators=[Generator(0.1, 1.0, True)])
    for number in range(int(step.seconds * 2)):
        at = BEGAN + number / 2 + 0.1
        if number in failing:
            tally.fail(at, "warm", "57P01", "gone")
        else:
            tally.succeed(at, "warm", "read", 900 if number in slow else 10)
    return tally


def restart(tally: Tally, step: Step) -> Result:
    return Result("pgfunnel", step, tally, event=BEGAN + 4.0)


@pytest.mark.parametrize(
    "failing, slow, seconds",
    [
        (range(0), range(0), 0.0),
        (range(8, 11), range(0), 1.5),
        (range(8, 10), range(10, 14), 3.0),
        (range(8, 20), range(0), None),
        (range(2), range(0), 0.0),
    ],
)
def test_recovery_ends_with_the_last_bad_half_second(
    failing: range, slow: range, seconds: float | None
) -> None:
    step = Step("restart", 5, 10, restarts=True)
    assert restart(steady(step, failing=failing, slow=slow), step).recovery() == seconds


def test_silence_is_no_recovery() -> None:
    step = Step("restart", 5, 10, restarts=True)
    tally = steady(step)
    for number in range(int(BEGAN * 2) + 8, int(BEGAN * 2) + 12):
        del tally.bins[number]
    assert restart(tally, step).recovery() == 2.0


def test_a_step_without_an_event_has_no_recovery() -> None:
    step = Step("level", 5, 10)
    assert Result("straight", step, steady(step)).recovery() is None


def findings(path: str = "pgfunnel", faults: tuple[str, ...] = ()) -> Findings:
    step = Step("level", 100, 4)
    samples = [Sample(BEGAN + n / 10, 20 if n == 7 else 3, Crowd(90, 5)) for n in range(40)]
    found = Findings({"when": "now", "machine": "m", "load_average": 0.1, "python": "3",
        "paths": {path: "1.0"}}, pool_size=20, limit=75)  # fmt: skip
    found.results.append(Result(path, step, steady(step), samples))
    found.checks.append(PathCheck(path, SOUND, list(faults)))
    return found


def test_a_run_without_faults_passes() -> None:
    assert findings().faults() == []


def test_cross_talk_fails_the_run() -> None:
    found = findings()
    found.results[0].tally.violate("f-1 saw 'f-2'")
    assert "f-1 saw 'f-2'" in found.faults()[0]
    assert "FAILED" in render(found)


def test_more_connections_than_the_pool_fail_the_run() -> None:
    found = findings()
    found.pool_size = 19
    assert "Postgres saw 20 connections" in found.faults()[0]
    found.bounded = False
    assert found.faults() == []


def test_a_restart_without_recovery_fails_the_run_unless_the_machine_was_busy() -> None:
    found = findings()
    step = Step("restart", 5, 10, restarts=True)
    lost = restart(steady(step, failing=range(8, 20)), step)
    found.results.append(lost)
    assert "no recovery" in found.faults()[0]
    assert not found.passed
    lost.machine_busy = 1.0
    assert found.faults() == []
    assert "saturated: machine" in found.doubts()[0]
    assert found.passed
    assert "NOT SHOWN" in render(found)
    lost.cut = True
    assert found.doubts() == []


def test_exhaustion_that_was_not_shown_is_told() -> None:
    found = findings("straight")
    (result,) = found.results
    result.machine_busy = 1.0
    assert "no connection was refused" in found.doubts()[0]
    assert found.passed
    result.tally.refused["53300"] = 1
    assert found.doubts() == []
    assert "NOT SHOWN" not in found.verdict()


@pytest.mark.parametrize(
    "totals, begun, done, fault",
    [
        (SOUND, 10, 10, ""),
        (SOUND, 12, 9, ""),
        (SOUND, 9, 9, "only 9 checkouts committed"),
        (SOUND, None, 9, ""),
        (SOUND, 12, 11, "11 checkouts confirmed"),
        (Totals(10, 20, 21, 500, 500, 0, 0), 10, 10, "21 taken"),
        (Totals(10, 20, 20, 500, 499, 0, 0), 10, 10, "499 paid"),
        (Totals(10, 20, 20, 500, 500, 1, 0), 10, 10, "without a payment"),
        (Totals(10, 20, 20, 500, 500, 0, 1), 10, 10, "killed functions"),
    ],
)
def test_totals_that_do_not_add_up_are_told(
    totals: Totals, begun: int | None, done: int, fault: str
) -> None:
    faults = totals.faults(begun, done)
    assert fault in faults[0] if fault else faults == []


class _Outside(HTMLParser):
    """Collects what a browser would fetch, and every tag that is left open."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [f"{tag} {n}" for n, _ in attrs if n in ("src", "href", "srcset")]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [f"{tag} {n}" for n, _ in attrs if n in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_fetches_nothing() -> None:
    page = render(findings(faults=("<b>odd</b> & bad",)))
    parser = _Outside()
    parser.feed(page)
    assert parser.fetched == []
    assert parser.open == []
    assert "url(" not in page
    assert "&lt;b&gt;odd" in page
    assert "spike (100)" in page


def test_a_page_of_nothing_says_that_it_was_cut_short() -> None:
    found = findings()
    found.results.clear()
    found.cut = True
    assert "CUT SHORT" in render(found)
    assert "NOTHING WAS MEASURED" in found.verdict()
    assert "Passed" not in render(found)
    assert not found.passed


def test_what_was_the_bottleneck() -> None:
    (result,) = findings().results
    assert result.bottleneck == ""
    result.machine_busy = 0.97
    assert result.bottleneck == "machine"
    result.tally.generators.append(Generator(0.9, 1.0, True))
    assert result.bottleneck == "generator"


def test_the_poolers_cpu_is_for_one_invocation() -> None:
    (result,) = findings().results
    assert result.pooler_ms is None
    result.pooler_cpu = 0.016
    assert result.pooler_ms == 2.0


def test_what_happened_is_one_sentence() -> None:
    step = Step("level", 100, 4)
    good = Result("pgfunnel", step, steady(step), [Sample(BEGAN, 20, Crowd(90, 0))])
    assert what_happened(good, 75).startswith("Nothing failed, on at most 20 of 75")
    tally = steady(step)
    tally.fail(BEGAN, "cold", "53300", "full")
    tally.fail(BEGAN, "cold", "53300", "full")
    said = what_happened(Result("straight", step, tally), 75)
    assert said.startswith("2 (20.0%) failed (53300: 2); Postgres was full")


@pytest.mark.parametrize("log", [False, True])
def test_a_chart_is_one_figure_with_lines_that_differ_without_colour(log: bool) -> None:
    lines = [
        Line("straight", [(0, 1), (5, 70)]),
        Line("PgBouncer", [(0, 1), (5, 20)]),
        Line("pgfunnel", [(0, 1), (5, 20)]),
        Line("empty", []),
    ]
    svg = Chart("t & u", "ms", lines, Frame(5, ("stop", 3.0)), ("limit", 75), log).svg()
    figure = ET.fromstring(svg)
    drawn = list(figure.iter("path"))
    assert len({line.get("stroke-dasharray") for line in drawn}) == len(drawn) == 3
    texts = {t.text: float(t.get("y", "")) for t in figure.iter("text")}
    assert abs(texts["PgBouncer"] - texts["pgfunnel"]) >= 12
    heights = [float(y) for line in drawn for y in _heights(line)]
    assert min(heights) >= 0
    assert max(heights) <= 230


def _heights(line: ET.Element) -> list[str]:
    return re.findall(r",([\d.]+)", line.get("d", ""))


def test_a_line_is_interrupted_where_nothing_was_seen() -> None:
    line = Line("pgfunnel", [(0, 1), (1, 1), (9, 1), (14, 1), (15, 1)])
    figure = ET.fromstring(Chart("t", "u", [line], Frame(15)).svg())
    (path,) = figure.iter("path")
    assert re.findall("[MLh]", path.get("d", "")) == list("MhLMhMhL")


@pytest.mark.parametrize(
    "most, marks",
    [(0, "0 1 2 3 4"), (5, "0 2 4 6 8"), (75, "0 20 40 60 80"), (4344, "0 2,000 4,000 6,000")],
)
def test_marks_are_whole_numbers(most: float, marks: str) -> None:
    svg = Chart("t", "u", [Line("a", [(0, 0), (12, most)])], Frame(12)).svg()
    texts = [t.text for t in ET.fromstring(svg).iter("text") if t.get("text-anchor") == "end"]
    assert " ".join(map(str, texts)).startswith(marks)


def test_a_chart_of_nothing_is_nothing() -> None:
    assert Chart("t", "u", [Line("a", [])], Frame(0)).svg() == ""


def test_the_files_hold_the_same_figures(tmp_path: Path) -> None:
    write(findings(), tmp_path / "new" / "folder")
    folder = tmp_path / "new" / "folder"
    report = json.loads((folder / "report.json").read_text())
    with (folder / "steps.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert report["passed"] is True
    assert [row["invocations"] for row in rows] == ["8"]
    assert report["steps"][0]["peak_connections"] == int(rows[0]["peak_connections"]) == 20
    with (folder / "series.csv").open() as file:
        series = {row["series"] for row in csv.DictReader(file)}
    assert series == {"connections", "clients", "waiters", "p95_ms", "failures"}
