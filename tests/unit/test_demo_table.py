"""The demo's table, its JSON and its verdict."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path

import pytest

from proxy.demo import main
from proxy.demo.options import parse
from proxy.demo.progress import Progress
from proxy.demo.table import Row, kept_its_promise, make_row, percentile, render, to_json, verdict

DIRECT = make_row("direct", 100, [4.0, 6.0], Counter({"53300": 28, "08006": 1}), 71)
REFUSED = make_row("direct", 500, [], Counter({"53300": 1500}), 71)
FUNNEL = make_row("pgfunnel", 500, [12.25] * 1500, Counter(), 20)


@pytest.mark.parametrize(
    "percent, expected", [(0, 1.0), (50, 5.0), (51, 6.0), (90, 9.0), (99, 10.0), (100, 10.0)]
)
def test_percentiles_are_by_nearest_rank(percent: float, expected: float) -> None:
    assert percentile([float(n) for n in range(10, 0, -1)], percent) == expected


def test_there_is_no_percentile_of_nothing() -> None:
    assert percentile([], 50) is None


def test_a_row_counts_what_failed_and_what_did_not() -> None:
    assert Row(
        path="direct",
        concurrency=100,
        invocations=31,
        failures=29,
        sqlstates={"53300": 28, "08006": 1},
        peak_connections=71,
        p50_ms=4.0,
        p99_ms=6.0,
    ) == (DIRECT)


def test_the_table_is_aligned_and_shows_every_row() -> None:
    lines = render([DIRECT, REFUSED, FUNNEL]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert [line.split()[:4] for line in lines[1:]] == [
        ["direct", "100", "31", "29"],
        ["direct", "500", "1,500", "1,500"],
        ["pgfunnel", "500", "1,500", "0"],
    ]
    assert "08006: 1, 53300: 28" in lines[1]
    assert lines[2].split()[4:] == ["53300", "71", "-", "-"]
    assert lines[3].split()[4:] == ["-", "20", "12.2", "12.2"]


def test_the_verdict_sums_up() -> None:
    assert verdict([DIRECT, REFUSED, FUNNEL]) == (
        "Straight to Postgres 1,529 of 1,531 invocations failed; "
        "through pgfunnel 0 of 1,500, on at most 20 server connections."
    )


def test_the_promise_is_no_failure_and_no_connection_too_many() -> None:
    assert kept_its_promise([DIRECT, FUNNEL], 20)
    assert not kept_its_promise([DIRECT, FUNNEL], 19)
    failed = make_row("pgfunnel", 10, [1.0], Counter({"08006": 1}), 5)
    assert not kept_its_promise([FUNNEL, failed], 20)


def test_json_has_the_promised_keys() -> None:
    rows = json.loads(to_json([REFUSED, FUNNEL]))
    assert rows[0] == {
        "path": "direct",
        "concurrency": 500,
        "invocations": 1500,
        "failures": 1500,
        "sqlstates": {"53300": 1500},
        "peak_connections": 71,
        "p50_ms": None,
        "p99_ms": None,
    }
    assert rows[1]["p50_ms"] == 12.25


def test_arguments_and_their_defaults(tmp_path: Path) -> None:
    options = parse([])
    assert (options.concurrency, options.pool_size) == ((10, 50, 100, 500), 20)
    file = tmp_path / "rows.json"
    options = parse(["--concurrency", "1,2", "--rounds", "3", "--json", str(file)])
    assert (options.concurrency, options.rounds, options.json) == ((1, 2), 3, file)


@pytest.mark.parametrize(
    "argv, words",
    [
        (["--concurrency", "10,x"], "'x' is not a number from 1 to 10000"),
        (["--concurrency", ""], "'' is not a number"),
        (["--pool-size", "61"], "'61' is not a number from 1 to 60"),
        (["--seconds", "nan"], "'nan' is not a number"),
        (["--rounds", "0"], "'0' is not a number"),
        (["--json", "/no/such/folder/rows.json"], "cannot write /no/such/folder/rows.json"),
    ],
)
def test_bad_arguments_are_told_what_to_change(
    argv: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_rewrites_its_line_on_a_terminal_only() -> None:
    terminal, file = Terminal(), io.StringIO()
    for out in (terminal, file):
        progress = Progress(out)
        progress.now("half")
        progress.done("whole")
    assert terminal.getvalue() == "\r\x1b[2Khalf\r\x1b[2Kwhole\n"
    assert file.getvalue() == "whole\n"
