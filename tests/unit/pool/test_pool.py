"""The pool's decisions, one by one."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from proxy.errors import TooManyWaiters
from proxy.pool.backoff import Backoff
from proxy.pool.bound import Bound
from proxy.pool.pool import Pool, PoolSize
from proxy.telemetry.counters import PoolCounters


@dataclass(eq=False)
class Server:
    idle_since: float = 0.0
    expires_at: float = 1e9


@dataclass(eq=False)
class Client:
    waiting_since: float = 0.0


def make(size: PoolSize, *bounds: Bound) -> Pool:
    return Pool("db", "joe", size, bounds, Backoff(1, 15), PoolCounters())


def opened(pool: Pool, count: int) -> list[Server]:
    """So many servers, opened and idle."""
    servers = [Server() for _ in range(count)]
    for server in servers:
        pool.enter(server)
        pool.opened()
        pool.release(server)
    return servers


def test_the_server_used_last_is_lent_first() -> None:
    pool = make(PoolSize())
    first, second = opened(pool, 2)
    assert pool.borrow() is second
    assert pool.borrow() is first
    assert pool.borrow() is None


def test_a_server_goes_to_the_first_waiter() -> None:
    pool = make(PoolSize())
    (server,) = opened(pool, 1)
    assert pool.borrow() is server
    waiters = [Client(), Client()]
    for client in waiters:
        pool.wait(client)
    assert pool.release(server) is waiters[0]
    assert pool.release(server) is waiters[1]
    assert pool.release(server) is None
    assert pool.borrow() is server


def test_a_newcomer_does_not_overtake_waiters() -> None:
    pool = make(PoolSize())
    pool.wait(Client())
    pool.idle.append(Server())
    assert pool.borrow() is None


def test_a_paused_pool_lends_nothing_and_opens_nothing() -> None:
    pool = make(PoolSize(minimum=1))
    (server,) = opened(pool, 1)
    pool.paused = True
    assert pool.borrow() is None
    pool.wait(Client())
    assert pool.wanted(0.0) == 0
    assert pool.release(server) is None


def test_too_many_waiters_are_refused_except_in_front() -> None:
    pool = make(PoolSize(waiters=1))
    pool.wait(Client())
    with pytest.raises(TooManyWaiters, match="1 clients are waiting for a server of pool db/joe"):
        pool.wait(Client())
    first = Client()
    pool.wait(first, front=True)
    assert pool.waiters[0] is first


def test_deadlines() -> None:
    pool = make(PoolSize())
    early, late = Client(10.0), Client(20.0)
    pool.wait(early)
    pool.wait(late)
    assert pool.oldest_wait(25.0) == 15.0
    assert pool.overdue(19.9, 10.0) == []
    assert pool.overdue(99.0, 0.0) == []
    assert pool.overdue(20.0, 10.0) == [early]
    assert list(pool.waiters) == [late]


def test_one_server_is_wanted_for_each_waiter_not_served_yet() -> None:
    pool = make(PoolSize(size=3))
    for _ in range(5):
        pool.wait(Client())
    assert pool.wanted(0.0) == 3
    pool.enter(Server())
    assert pool.wanted(0.0) == 2


def test_the_minimum_is_kept() -> None:
    pool = make(PoolSize(size=5, minimum=2))
    assert pool.wanted(0.0) == 2
    opened(pool, 2)
    assert pool.wanted(0.0) == 0


def test_the_minimum_is_never_more_than_the_size() -> None:
    pool = make(PoolSize(size=2, minimum=5))
    assert pool.wanted(0.0) == 2
    opened(pool, 2)
    assert pool.wanted(0.0) == 0
    assert make(PoolSize(size=3, minimum=3), Bound("database", 1)).wanted(0.0) == 1


def test_the_tightest_bound_decides() -> None:
    pool = make(PoolSize(size=5), Bound("database", 2), Bound("user", 0))
    for _ in range(5):
        pool.wait(Client())
    assert pool.wanted(0.0) == 2
    assert not pool.starved()
    opened_now = Server()
    pool.enter(opened_now)
    pool.enter(Server())
    assert pool.wanted(0.0) == 0
    assert pool.starved()
    pool.gone(opened_now)
    assert not pool.starved()


def test_the_reserve_opens_after_a_long_wait() -> None:
    pool = make(PoolSize(size=1, reserve=1, reserve_after=5.0))
    opened(pool, 1)
    pool.borrow()
    pool.wait(Client(waiting_since=100.0))
    assert pool.wanted(104.9) == 0
    assert pool.wanted(105.0) == 1


def test_no_reserve_without_a_time_for_it() -> None:
    pool = make(PoolSize(size=1, reserve=1, reserve_after=0.0))
    opened(pool, 1)
    pool.borrow()
    pool.wait(Client(waiting_since=100.0))
    assert pool.wanted(200.0) == 0


def test_the_longest_idle_is_lent_in_turn() -> None:
    pool = make(PoolSize(size=3, round_robin=True))
    first, second, third = opened(pool, 3)
    assert pool.borrow() is first
    pool.release(first)
    assert [pool.borrow() for _ in range(3)] == [second, third, first]


def test_after_a_failure_one_login_at_a_time() -> None:
    pool = make(PoolSize(size=5))
    for _ in range(3):
        pool.wait(Client())
    pool.backoff.failed(0.0, 0.0)
    assert pool.wanted(0.5) == 0
    assert pool.wanted(1.0) == 1
    pool.enter(Server())
    assert pool.wanted(1.0) == 0
    pool.opened()
    pool.backoff.succeeded()
    assert pool.wanted(1.0) == 3


def test_a_place_is_given_back_once() -> None:
    bound = Bound("database", 2)
    pool = make(PoolSize(), bound)
    (server,) = opened(pool, 1)
    pool.gone(server)
    pool.gone(server)
    assert bound.used == 0
    assert pool.borrow() is None


def test_surplus_by_age_idleness_and_size() -> None:
    pool = make(PoolSize(size=2, minimum=1, idle_timeout=60.0))
    old, idle, fresh = opened(pool, 3)
    old.expires_at = 100.0
    fresh.idle_since = 90.0
    assert pool.surplus(99.0) == [old, idle]
    pool.gone(old)
    assert pool.surplus(100.0) == [idle]
    pool.gone(idle)
    assert pool.surplus(1000.0) == []


def test_a_server_that_is_closing_already_is_not_made_up_for_twice() -> None:
    pool = make(PoolSize(size=2))
    opened(pool, 3)
    for server in pool.surplus(1.0):
        pool.withdraw(server)
    assert pool.surplus(2.0) == []


def test_what_a_log_line_shows() -> None:
    pool = make(PoolSize(size=3))
    opened(pool, 1)
    pool.wait(Client())
    assert repr(pool) == "<Pool db/joe servers=1/3 idle=1 opening=0 waiting=1>"


def test_bounds() -> None:
    bound, free = Bound("database", 2), Bound("user", 0)
    bound.take()
    free.take()
    assert (bound.room(), repr(bound)) == (1, "<Bound database 1/2>")
    assert free.room() > 1_000_000
    assert repr(free) == "<Bound user 1/unlimited>"
    bound.give()
    with pytest.raises(AssertionError, match="database: a place was given back twice"):
        bound.give()
