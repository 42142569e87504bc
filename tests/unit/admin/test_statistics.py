"""Totals and averages from plain counters."""

from __future__ import annotations

from dataclasses import dataclass, field

from proxy.admin.statistics import Reading, Statistics
from proxy.telemetry.counters import PoolCounters


@dataclass
class Pool:
    database: str
    counters: PoolCounters = field(default_factory=PoolCounters)

    def work(self, times: int, busy: float = 0.0, waited: float = 0.0) -> None:
        for _ in range(times):
            self.counters.transactions += 1
            self.counters.queries += 2
            self.counters.bytes_received += 10
            self.counters.borrow_wait.observe(waited)
            self.counters.transaction_time.observe(busy)
            self.counters.query_time += busy / 2


def test_a_database_is_the_sum_of_its_pools() -> None:
    statistics = Statistics(0.0)
    pools = [Pool("b"), Pool("a"), Pool("b")]
    for pool in pools:
        pool.work(3, busy=0.001, waited=0.5)
    one, two = statistics.by_database(pools, now=1.0)
    assert (one.database, two.database) == ("a", "b")
    assert one.total._replace(xact_time=0, query_time=0) == Reading(
        server_assignment_count=3, xact_count=3, query_count=6, client_bytes=30, wait_time=1_500_000
    )
    assert two.total.xact_count == 6
    assert statistics.of_all(pools, now=1.0).total.query_count == 18


def test_averages_reach_back_one_to_two_periods() -> None:
    statistics, pool = Statistics(0.0), Pool("a")
    pool.work(1000)
    statistics.turn([pool], now=10.0)
    pool.work(200, busy=0.002, waited=0.25)
    statistics.turn([pool], now=20.0)
    pool.work(100, busy=0.002, waited=0.25)
    average = statistics.by_database([pool], now=25.0)[0].average
    assert average.xact_count == 20  # 300 in the 15 seconds since 10.0
    assert average.query_count == 40
    assert average.client_bytes == 200
    assert average.wait_time == 250_000
    assert abs(average.xact_time - 2000) <= 1
    assert abs(average.query_time - 500) <= 1


def test_a_pool_that_did_nothing_divides_by_nothing() -> None:
    statistics, pool = Statistics(5.0), Pool("a")
    line = statistics.by_database([pool], now=5.0)[0]
    assert line.total == line.average == Reading()
