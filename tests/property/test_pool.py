"""The pool against a plain model: first come, first served, and never past a bound."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from proxy.errors import TooManyWaiters
from proxy.pool.backoff import Backoff
from proxy.pool.bound import Bound
from proxy.pool.pool import Pool, PoolSize
from proxy.telemetry.counters import PoolCounters


@dataclass(eq=False)
class Server:
    idle_since: float
    expires_at: float


@dataclass(eq=False)
class Client:
    waiting_since: float


LIMITS = st.integers(1, 4)


class OnePool(RuleBasedStateMachine):
    """One pool whose bound is shared with `others` places taken elsewhere."""

    @initialize(
        size=LIMITS, minimum=st.integers(0, 2), reserve=st.integers(0, 2), shared=LIMITS,
        waiters=st.integers(0, 3),
    )  # fmt: skip
    def begin(self, size: int, minimum: int, reserve: int, shared: int, waiters: int) -> None:
        self.now = 1000.0
        self.bound = Bound("database", shared)
        self.own = Bound("user", 0)
        self.size = PoolSize(size, minimum, reserve, 5.0, 60.0, waiters)
        bounds = (self.bound, self.own)
        self.pool = Pool("db", "joe", self.size, bounds, Backoff(1, 15), PoolCounters())
        self.others = 0
        self.queue: list[Client] = []
        self.idle: list[Server] = []
        self.opening: list[Server] = []
        self.lent: list[Server] = []
        self.closing: list[Server] = []

    @rule(seconds=st.sampled_from([0.5, 3.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    # -- clients ---------------------------------------------------------------------------

    @rule()
    def a_client_comes(self) -> None:
        server = self.pool.borrow()
        if self.idle and not self.queue and not self.pool.paused:
            assert server is self.idle.pop()
            self.lent.append(server)
        else:
            assert server is None
            self.wait()

    def wait(self) -> None:
        client = Client(self.now)
        if self.size.waiters and len(self.queue) >= self.size.waiters:
            with pytest.raises(TooManyWaiters, match="db/joe"):
                self.pool.wait(client)
            return
        self.pool.wait(client)
        self.queue.append(client)

    @rule(data=st.data())
    @precondition(lambda self: self.queue)
    def a_waiter_leaves(self, data: st.DataObject) -> None:
        client = data.draw(st.sampled_from(self.queue))
        self.pool.leave(client)
        self.pool.leave(client)
        self.queue.remove(client)

    @rule(timeout=st.sampled_from([0.0, 1.0, 10.0]))
    def deadlines(self, timeout: float) -> None:
        late = [c for c in self.queue if timeout and self.now - c.waiting_since >= timeout]
        assert self.pool.overdue(self.now, timeout) == late
        self.queue = [c for c in self.queue if c not in late]

    @rule()
    @precondition(lambda self: self.lent)
    def a_server_comes_back(self) -> None:
        server = self.lent.pop()
        self.hand_over(server)

    def hand_over(self, server: Server) -> None:
        server.idle_since = self.now
        waiter = self.pool.release(server)
        if self.queue and not self.pool.paused:
            assert waiter is self.queue.pop(0)
            self.lent.append(server)
        else:
            assert waiter is None
            self.idle.append(server)

    @rule()
    @precondition(lambda self: self.lent)
    def a_server_was_dead_when_given(self) -> None:
        self.close(self.lent.pop())
        client = Client(self.queue[0].waiting_since if self.queue else self.now)
        self.pool.wait(client, front=True)
        self.queue.insert(0, client)

    # -- servers ---------------------------------------------------------------------------

    @rule()
    def open_what_is_wanted(self) -> None:
        wanted = self.pool.wanted(self.now)
        assert 0 <= wanted <= max(0, self.bound.room())
        if self.pool.paused or self.pool.backoff.waits(self.now):
            assert wanted == 0
        if self.pool.backoff.failing:
            assert wanted + len(self.opening) <= max(1, len(self.opening))
        for _ in range(wanted):
            server = Server(self.now, self.now + 120)
            self.pool.enter(server)
            self.opening.append(server)

    @rule(works=st.booleans())
    @precondition(lambda self: self.opening)
    def a_login_ends(self, works: bool) -> None:
        server = self.opening.pop()
        self.pool.opened()
        if works:
            self.pool.backoff.succeeded()
            self.hand_over(server)
        else:
            self.pool.backoff.failed(self.now, 0.5)
            self.pool.gone(server)

    @rule()
    def close_the_surplus(self) -> None:
        surplus = self.pool.surplus(self.now)
        assert set(surplus) <= set(self.idle)
        assert {s for s in self.idle if self.now >= s.expires_at} <= set(surplus)
        for server in [s for s in self.idle if s in surplus]:
            self.idle.remove(server)
            self.close(server)

    def close(self, server: Server) -> None:
        self.pool.withdraw(server)
        self.closing.append(server)

    @rule()
    @precondition(lambda self: self.closing)
    def a_socket_is_closed(self) -> None:
        server = self.closing.pop()
        self.pool.gone(server)
        self.pool.gone(server)

    @rule()
    def somebody_else_takes_a_place(self) -> None:
        if self.bound.room() > 0:
            self.bound.take()
            self.others += 1

    @rule()
    @precondition(lambda self: self.others)
    def somebody_else_gives_it_back(self) -> None:
        self.bound.give()
        self.others -= 1

    @rule(paused=st.booleans())
    @precondition(lambda self: not (self.queue and self.idle))
    def pause_or_resume(self, paused: bool) -> None:
        self.pool.paused = paused and not self.queue

    # -- what holds at any moment ----------------------------------------------------------

    @invariant()
    def the_bounds_hold(self) -> None:
        servers = len(self.idle) + len(self.opening) + len(self.lent) + len(self.closing)
        assert len(self.pool.servers) == servers == self.own.used
        assert self.bound.used == servers + self.others <= self.bound.limit
        assert servers <= self.size.size + self.size.reserve
        assert self.pool.opening == len(self.opening)

    @invariant()
    def the_order_holds(self) -> None:
        assert list(self.pool.waiters) == self.queue
        assert self.pool.idle == self.idle

    @invariant()
    def starved_only_by_others(self) -> None:
        full = self.bound.room() <= 0
        own_room = len(self.pool.servers) < self.size.size
        assert self.pool.starved() == bool(self.queue and full and own_room)

    @invariant()
    def the_reserve_is_for_long_waits(self) -> None:
        waited = bool(self.queue) and self.now - self.queue[0].waiting_since >= 5.0
        if not waited:
            assert self.pool.room(self.now) <= self.size.size - len(self.pool.servers)


OnePool.TestCase.settings = settings(
    max_examples=200,
    stateful_step_count=50,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
)
TestPool = OnePool.TestCase


@given(failures=st.lists(st.tuples(st.floats(0, 0.1), st.floats(0, 1)), min_size=1))
def test_pauses_are_short_however_many_logins_fail(failures: list[tuple[float, float]]) -> None:
    backoff = Backoff(0.1, 15)
    now = 1000.0
    for later, jitter in failures:
        now += later
        backoff.failed(now, jitter)
        pause = backoff.retry_at - now
        assert pause + 1e-9 >= 0.05
        assert pause - 1e-9 <= max(0.1, backoff.failing_for(now) / 4)
