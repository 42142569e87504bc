"""SHOW STATS: what counts as a query's time, what as a transaction's.

Servers rest for REST seconds; bounds from above leave a busy machine as long.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from proxy.wire import messages
from tests.conftest import StartFunnel
from tests.integration.console import Operator
from tests.integration.observe import until, waiters
from tests.integration.peer import Peer
from tests.postgres import USERS

REST = 0.5
PURE = pytest.mark.parametrize("pure", [False, True])


class Timed:
    """A funnel with bob as its only user; `grown` is what was counted since the last look."""

    def __init__(self, funnel: Any, stack: ExitStack) -> None:
        self._funnel, self._stack = funnel, stack
        self._operator = stack.enter_context(Operator(funnel, "alice"))
        self._before = (0.0, 0.0)
        self.client = self.another()
        self.grown()

    def another(self) -> Peer:
        found = self._stack.enter_context(Peer(self._funnel.host, self._funnel.port))
        return found.log_in("bob", self._funnel.upstream.database, USERS["bob"])

    def grown(self) -> tuple[float, float]:
        """Seconds of queries, and of transactions."""
        row = self._operator.row("STATS", database=self._funnel.upstream.database)
        now = (float(row["total_query_time"]) / 1e6, float(row["total_xact_time"]) / 1e6)
        step = (now[0] - self._before[0], now[1] - self._before[1])
        self._before = now
        return step

    def until_one_waits(self) -> None:
        until(lambda: waiters(self._funnel, "bob") == 1)


@pytest.fixture
def timed(pgfunnel: StartFunnel) -> Iterator[Callable[..., Timed]]:
    with ExitStack() as stack:
        yield lambda **settings: Timed(pgfunnel(admin_users="alice", **settings), stack)


@PURE
def test_idle_time_in_a_transaction_is_no_querys(timed: Callable[..., Timed], pure: bool) -> None:
    funnel = timed(pure=pure)
    funnel.client.query("BEGIN")
    funnel.client.query("SELECT pg_sleep(0.1)")
    queries, transactions = funnel.grown()
    assert queries >= 0.1  # counted although the transaction goes on
    assert transactions == 0
    time.sleep(REST)
    funnel.client.query("COMMIT")
    queries, transactions = funnel.grown()
    assert queries < REST
    assert transactions >= REST + 0.1


@PURE
def test_statements_sent_together_are_one_stretch(timed: Callable[..., Timed], pure: bool) -> None:
    funnel = timed(pure=pure)
    statements = (b"BEGIN", b"SELECT pg_sleep(0.2)", b"COMMIT")
    funnel.client.send(*(messages.query(sql) for sql in statements))
    for _ in statements:
        funnel.client.until(b"Z")
    queries, transactions = funnel.grown()
    assert 0.2 <= queries == pytest.approx(transactions, abs=1e-5)


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_a_server_that_is_kept_may_rest(timed: Callable[..., Timed], mode: str) -> None:
    """In session pooling, and while a client is pinned, no transaction is open all the time."""
    funnel = timed(pool_mode=mode)
    funnel.client.query("LISTEN news")
    funnel.grown()
    time.sleep(REST)
    funnel.client.query("SELECT pg_sleep(0.1)")
    queries, transactions = funnel.grown()
    assert 0.1 <= queries == pytest.approx(transactions, abs=1e-5)
    assert transactions < REST
    funnel.client.query("BEGIN")
    time.sleep(REST)
    funnel.client.query("COMMIT")
    queries, transactions = funnel.grown()
    assert queries < REST <= transactions


def test_waiting_for_a_server_is_neither(timed: Callable[..., Timed]) -> None:
    funnel = timed(default_pool_size=1)
    other = funnel.another()
    funnel.client.query("BEGIN")
    other.send(messages.query(b"SELECT 1"))
    funnel.until_one_waits()
    time.sleep(REST)
    funnel.client.query("COMMIT")
    other.until(b"Z")
    queries, transactions = funnel.grown()
    assert queries < REST <= transactions < 2 * REST
