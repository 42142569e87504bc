"""Histograms, tallies, shapes: what the lab's figures are made of."""

from __future__ import annotations

import json
from pathlib import Path

import psycopg
import pytest

from loadtest.lab.histogram import Histogram
from loadtest.lab.shapes import SHAPES, planned
from loadtest.lab.sqlstates import sqlstate, worth_a_retry
from loadtest.lab.tally import Generator, Tally, added, collect


def histogram(*milliseconds: float) -> Histogram:
    found = Histogram()
    for value in milliseconds:
        found.add(value)
    return found


@pytest.mark.parametrize("percent, expected", [(50, 50), (95, 95), (99, 99), (100, 100)])
def test_percentiles_are_right_to_within_one_percent(percent: int, expected: float) -> None:
    found = histogram(*range(1, 101)).percentile(percent)
    assert found == pytest.approx(expected, rel=0.011)


def test_nothing_has_no_percentile() -> None:
    assert Histogram().percentile(99) is None


@pytest.mark.parametrize("value", [0.0, 0.01, 0.3, 7.77, 123_456.0])
def test_a_single_latency_is_kept_to_within_one_percent(value: float) -> None:
    assert histogram(value).percentile(50) == pytest.approx(value, rel=0.011, abs=0.011)


def test_merged_histograms_count_both() -> None:
    both = histogram(1, 1, 1)
    both.merge(histogram(1000))
    assert len(both) == 4
    assert both.percentile(100) == pytest.approx(1000, rel=0.011)


def sample_tally(began: float) -> Tally:
    tally = Tally(began=began)
    tally.succeed(began + 1, "warm", "read", 10)
    tally.fail(began + 1, "cold", "53300", "sorry")
    tally.refused["53300"] += 4
    tally.violate("f saw g")
    tally.checkouts_begun = 2
    tally.generators.append(Generator(0.5, 12.0, True))
    return tally


def test_a_tally_survives_its_file_and_adds_up(tmp_path: Path) -> None:
    for number, began in enumerate((100.0, 90.0)):
        text = json.dumps(sample_tally(began).to_json())
        (tmp_path / f"tally-{number}.json").write_text(text)
    total = collect(tmp_path)
    assert (total.invocations, total.failed["53300"], total.refused["53300"]) == (4, 2, 8)
    assert (total.began, total.checkouts_begun, total.violation_count) == (90.0, 4, 2)
    assert total.behaviours == {"warm": 2, "cold": 2}
    assert [(b.done, b.failed) for b in total.bins.values()] == [(1, 1), (1, 1)]
    assert len(total.generators) == 2
    assert total.to_json() == added([total]).to_json()


@pytest.mark.parametrize(
    "generator, saturated",
    [((0.5, 20.0, True), False), ((0.95, 20.0, True), True), ((0.2, 900.0, True), True)],
)
def test_a_generator_that_lacks_time_says_so(
    generator: tuple[float, float, bool], saturated: bool
) -> None:
    assert Tally(generators=[Generator(*generator)]).saturated is saturated


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_reaches_its_most_and_ends(shape: str) -> None:
    plans = [planned(shape, 500, 20, at / 10) for at in range(200)]
    assert max(plan[0] for plan in plans if plan) == 500
    assert None not in plans
    assert planned(shape, 500, 20, 20) is None


def test_a_spike_goes_from_10_to_500_and_back() -> None:
    plans = [planned("spike", 500, 20, at) for at in (0, 10, 19)]
    assert [plan[0] for plan in plans if plan] == [10, 500, 10]


def test_a_storm_ends_every_function_and_starts_all_at_once() -> None:
    plans = [planned("storm", 300, 100, at) for at in (0, 50, 60)]
    assert plans == [(300, 300.0), (0, 300.0), (300, 300.0)]


@pytest.mark.parametrize(
    "words, code",
    [
        ("FATAL:  sorry, too many clients already", "53300"),
        ("FATAL:  remaining connection slots are reserved for roles", "53300"),
        ("FATAL:  the database system is starting up", "57P03"),
        ("connection to server failed: Connection refused", "connection refused"),
        ("server closed the connection unexpectedly", "connection lost"),
        ("something new", "OperationalError"),
    ],
)
def test_errors_of_connecting_get_a_sqlstate_from_their_words(words: str, code: str) -> None:
    assert sqlstate(psycopg.OperationalError(words)) == code


def test_an_error_with_a_sqlstate_keeps_it() -> None:
    assert sqlstate(psycopg.errors.DeadlockDetected("too many clients")) == "40P01"


def test_only_a_full_or_starting_server_is_tried_again() -> None:
    assert [code for code in ("53300", "57P03", "28P01", "40P01") if worth_a_retry(code)] == [
        "53300",
        "57P03",
    ]
