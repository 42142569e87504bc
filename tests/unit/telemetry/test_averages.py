"""Rates between two looks at the counters."""

from __future__ import annotations

from proxy.telemetry.averages import Averages
from proxy.telemetry.counters import PoolCounters


def worked(counters: PoolCounters, n: int) -> None:
    for _ in range(n):
        counters.transactions += 1
        counters.queries += 2
        counters.bytes_received += 10
        counters.bytes_sent += 100
        counters.transaction_time.observe(0.001)
        counters.borrow_wait.observe(0.002)


def test_rates_of_all_pools_since_the_last_look() -> None:
    averages = Averages(100.0)
    one, two = PoolCounters(), PoolCounters()
    worked(one, 4)
    worked(two, 6)
    wanted = {
        "xacts_per_second": 5.0,
        "queries_per_second": 10.0,
        "in_bytes_per_second": 50,
        "out_bytes_per_second": 500,
        "xact_us": 1000,
        "wait_us": 2000,
    }
    assert averages.read([one, two], 102.0) == wanted
    worked(two, 10)
    assert averages.read([one, two], 104.0) == wanted


def test_nothing_done() -> None:
    averages = Averages(0.0)
    assert set(averages.read([], 0.0).values()) == {0}
    assert set(averages.read([PoolCounters()], 1.0).values()) == {0}


def test_a_pool_that_is_gone_takes_nothing_away() -> None:
    averages = Averages(0.0)
    gone, kept = PoolCounters(), PoolCounters()
    worked(gone, 5)
    averages.read([gone, kept], 1.0)
    worked(kept, 3)
    assert averages.read([kept], 2.0)["xacts_per_second"] == 3.0
