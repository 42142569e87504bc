import math

from hypothesis import given
from hypothesis import strategies as st

from proxy.telemetry.counters import BOUNDS, PoolCounters
from proxy.telemetry.recent import Recent, Sample, Window, quantile


def sample(at: float, *pools: PoolCounters) -> Sample:
    taken = Sample(at)
    for counters in pools:
        taken.add(counters)
    return taken


def looked(recent: Recent, at: float, *pools: PoolCounters) -> Window:
    window = recent.window(sample(at, *pools))
    assert window is not None
    return window


def test_the_first_look_has_nothing_to_compare_with() -> None:
    assert Recent().window(sample(1.0)) is None


def test_rates_are_by_the_second_over_all_pools() -> None:
    recent, one, other = Recent(), PoolCounters(), PoolCounters()
    one.transactions = 1000
    recent.window(sample(5.0, one, other))
    one.transactions += 30
    other.transactions += 10
    other.bytes_sent += 4000
    window = looked(recent, 7.0, one, other)
    assert window.seconds == 2.0
    assert (window.rate("transactions"), window.rate("bytes_sent")) == (20.0, 2000.0)
    assert (window.pool_rate(one), window.pool_rate(other)) == (15.0, 5.0)


def test_the_window_moves_and_a_long_silence_is_none() -> None:
    recent = Recent()
    recent.window(sample(0.0))
    for at in range(1, 31):
        assert looked(recent, float(at)).seconds == min(at, 10)
    assert recent.window(sample(100.0)) is None
    assert looked(recent, 101.0).seconds == 1.0


def test_a_pool_that_is_forgotten_makes_no_negative_rate() -> None:
    recent, gone = Recent(), PoolCounters()
    gone.transactions = 50
    gone.borrow_wait.observe(0.001)
    recent.window(sample(0.0, gone))
    window = looked(recent, 1.0)
    assert window.rate("transactions") == 0.0
    assert window.quantiles("wait_seconds", 0.5) == (0, [None])


def test_only_what_is_new_counts_for_latency() -> None:
    recent, pool = Recent(), PoolCounters()
    pool.transaction_time.observe(30.0)
    recent.window(sample(0.0, pool))
    for _ in range(98):
        pool.transaction_time.observe(0.0007)
    pool.transaction_time.observe(0.2)
    pool.transaction_time.observe(100.0)
    window = looked(recent, 1.0, pool)
    assert window.quantiles("transaction_seconds", 0.5, 0.99, 1.0) == (
        100,
        [(0.0005, 0.001), (0.1, 0.25), (60.0, None)],
    )


@given(st.lists(st.floats(0, 100), min_size=1), st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]))
def test_a_quantile_lies_in_its_bucket(durations: list[float], wanted: float) -> None:
    pool = PoolCounters()
    for duration in durations:
        pool.borrow_wait.observe(duration)
    found = quantile(sample(0.0, pool).wait_seconds, wanted)
    assert found is not None
    above, upto = found
    rank = max(math.ceil(wanted * len(durations)), 1)
    true = sorted(durations)[rank - 1]
    assert above <= true <= (math.inf if upto is None else upto)


def test_all_equal_durations_have_one_bucket() -> None:
    for bound in BOUNDS:
        pool = PoolCounters()
        for _ in range(7):
            pool.borrow_wait.observe(bound)
        upper = [quantile(sample(0.0, pool).wait_seconds, p) for p in (0.01, 0.5, 0.99)]
        assert [found[1] for found in upper if found] == [bound] * 3
