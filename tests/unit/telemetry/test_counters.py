import re
from bisect import bisect_left
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.telemetry.counters import BOUNDS, PIN_BOUNDS, Histogram, PoolCounters, Totals
from proxy.telemetry.reasons import CloseReason, Side

PXD = Path(__file__).parents[3] / "proxy/telemetry/counters.pxd"


def naive(durations: list[float]) -> tuple[int, ...]:
    return (*(sum(d <= bound for d in durations) for bound in BOUNDS), len(durations))


@given(st.lists(st.one_of(st.floats(0, 200), st.sampled_from(BOUNDS)), max_size=60))
def test_histogram_counts_what_a_naive_model_counts(durations: list[float]) -> None:
    histogram = Histogram()
    for duration in durations:
        histogram.observe(duration)
    bounds, counts, total = histogram.snapshot()
    assert bounds == BOUNDS
    assert counts == naive(durations)
    assert total == pytest.approx(sum(durations))


@pytest.mark.parametrize("bound", BOUNDS)
def test_a_duration_equal_to_a_bound_is_within_it(bound: float) -> None:
    histogram = Histogram()
    histogram.observe(bound)
    _, counts, _ = histogram.snapshot()
    assert counts.index(1) == bisect_left(BOUNDS, bound)


def test_a_clock_that_steps_back_counts_as_zero() -> None:
    histogram = Histogram()
    histogram.observe(-5.0)
    _, counts, total = histogram.snapshot()
    assert counts[0] == 1
    assert total == 0.0


def test_the_compiled_arrays_are_as_long_as_the_bounds() -> None:
    declared = PXD.read_text()
    assert len(PIN_BOUNDS) == len(BOUNDS)
    assert re.search(rf"double\[{len(BOUNDS)}\] _bounds", declared)
    assert re.search(rf"long long\[{len(BOUNDS) + 1}\] _counts", declared)


def test_pool_counters_hold_what_is_added_beyond_32_bits() -> None:
    counters = PoolCounters()
    counters.bytes_sent += 2**40
    counters.transactions += 1
    assert (counters.bytes_sent, counters.transactions, counters.queries) == (2**40, 1, 0)


def test_pools_share_no_histogram() -> None:
    one, other = PoolCounters(), PoolCounters()
    one.borrow_wait.observe(1.0)
    assert other.borrow_wait.snapshot()[1][-1] == 0
    assert one.transaction_time.snapshot()[1][-1] == 0


def test_totals_add_up_by_word() -> None:
    totals = Totals()
    totals.login("ok")
    totals.login("ok")
    totals.close(Side.CLIENT, CloseReason.IDLE_TIMEOUT)
    totals.close(Side.SERVER, CloseReason.IDLE_TIMEOUT)
    totals.refusal("53300")
    totals.cancel("sent")
    assert totals.logins == {"ok": 2}
    assert set(totals.closes.values()) == {1}
    assert totals.refusals == {"53300": 1}
    assert totals.cancels == {"sent": 1}
