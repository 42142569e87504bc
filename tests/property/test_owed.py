"""`Owed` against a model of Postgres's main loop: it never loses count.

Any legal sequence of messages (and odd ones that Postgres tolerates), delivered to and from the
backend with any delay.
"""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from proxy.session.owed import PASS, SWALLOW, Owed
from tests.unit.session.backend import ENDING, NOTED, Backend, Said, Sent, outcomes, swallowed


def scripts(code: str, longest: int) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(outcomes(code)), min_size=1, max_size=longest).map(tuple)


EXTENDED = st.sampled_from("PBDEEC").flatmap(lambda c: st.tuples(st.just(c), scripts(c, 1)))


class Proxy(RuleBasedStateMachine):
    """What a proxy sends and receives, in its order, told to `Owed`.

    `feeding`: the client has sent a statement that will COPY IN if it is reached, and `feeds`
    such COPYs are not ended yet: until then it sends copy messages, Sync and Flush alone.
    """

    def __init__(self) -> None:
        super().__init__()
        self.owed = Owed()
        self.backend = Backend()
        self.sent: list[Sent] = []
        self.feeding: Sent | None = None
        self.feeds = 0
        self.synced_feeds: set[int] = set()
        self.ambiguous = False

    # -- sending ---------------------------------------------------------------------------

    def send(self, code: str, script: tuple[str, ...] = ("ok",)) -> None:
        message = Sent(code, len(self.sent), script)
        self.sent.append(message)
        self.tell(message)
        self.backend.inbox.append(message)
        self.expect_feeds(message)
        self.give_due()

    def tell(self, message: Sent) -> None:
        if message.code in "Kf":
            self.owed.end_copy()
        elif message.code in NOTED:
            self.owed.push_noted(ord(message.code), message.serial)
        elif message.code not in "Hd":
            self.owed.push(ord(message.code))

    def expect_feeds(self, message: Sent) -> None:
        if self.feeding is not None and message.code == "S":
            self.synced_feeds.add(self.feeding.serial)
        elif message.code == "K" and self.feeds:
            self.feeds -= 1
        elif message.code == "f":
            self.feeds = 0
        elif message.code in "QE":
            self.feeds = sum(step.startswith("copy") for step in message.script)
            self.feeding = message
        if not self.feeds:
            self.feeding = None

    @property
    def out_of_count(self) -> bool:
        return bool(self.owed.lost or self.owed.doubtful)

    @property
    def free(self) -> bool:
        return self.feeding is None and not self.out_of_count

    @rule(message=EXTENDED)
    @precondition(lambda self: self.free)
    def extended(self, message: tuple[str, tuple[str, ...]]) -> None:
        self.send(*message)

    @rule(execute=scripts("E", 1))
    @precondition(lambda self: self.free)
    def whole_statement(self, execute: tuple[str, ...]) -> None:
        self.send("P")
        self.send("B")
        self.send("E", execute)

    @rule(script=scripts("Q", 3))
    @precondition(lambda self: self.free)
    def simple_query(self, script: tuple[str, ...]) -> None:
        self.send("Q", script)

    @rule(script=scripts("F", 1))
    @precondition(lambda self: self.free)
    def function_call(self, script: tuple[str, ...]) -> None:
        self.send("F", script)

    @rule(script=scripts("S", 1))
    @precondition(lambda self: not self.out_of_count)
    def sync(self, script: tuple[str, ...]) -> None:
        self.send("S", script)

    @rule(code=st.sampled_from("HdKf"), script=st.sampled_from([("ok",), ("ok",), ("bad",)]))
    @precondition(lambda self: not self.out_of_count)
    def copy_or_flush(self, code: str, script: tuple[str, ...]) -> None:
        self.send(code, script if code == "d" else ("ok",))

    @rule(script=scripts("q", 1))
    @precondition(lambda self: self.owed.nothing())
    def our_query(self, script: tuple[str, ...]) -> None:
        self.send("q", script)

    @rule(code=st.sampled_from("ppcber13x"), fails=st.booleans())
    @precondition(lambda self: self.free and not self.owed.skipping)
    def ours_for_a_statement(self, code: str, fails: bool) -> None:
        fails = code == "x" or (fails and code in "pber")
        self.send(code, ("error",) if fails else ("ok",))

    @rule(code=st.sampled_from("pe"), fails=st.booleans())
    @precondition(lambda self: self.free and self.owed.synced())
    def ours_for_a_query(self, code: str, fails: bool) -> None:
        self.send(code, ("error", "synced") if fails else ("ok", "synced"))
        self.send("s")
        self.send("Q", ("command",))

    @rule(script=scripts("t", 1))
    @precondition(lambda self: self.free and not self.owed.skipping)
    def describe_that_is_looked_at(self, script: tuple[str, ...]) -> None:
        self.send("t", script)

    @rule(many=st.integers(10, 40))
    @precondition(lambda self: self.free)
    def many_in_flight(self, many: int) -> None:
        for _ in range(many):
            self.whole_statement(("command",))
            self.send("S")

    @rule()
    @precondition(lambda self: self.feeding is not None and self.told_of_failure())
    def stop_feeding(self) -> None:
        self.feeds = 0
        self.feeding = None

    def told_of_failure(self) -> bool:
        return self.failed is not None and self.failed is self.feeding

    failed: Sent | None = None

    # -- receiving -------------------------------------------------------------------------

    @rule(reads=st.integers(1, 8))
    @precondition(lambda self: self.backend.inbox)
    def backend_reads(self, reads: int) -> None:
        for _ in range(min(reads, len(self.backend.inbox))):
            self.backend.read_one()
        self.give_due()

    @rule(messages=st.integers(1, 8))
    @precondition(lambda self: self.backend.outbox)
    def proxy_receives(self, messages: int) -> None:
        for _ in range(messages):
            if self.backend.outbox and not self.out_of_count:
                self.receive(self.backend.outbox.popleft())

    @rule()
    def all_is_delivered(self) -> None:
        while self.backend.inbox or self.backend.outbox:
            if self.out_of_count:
                return
            if self.backend.inbox:
                self.backend_reads(1)
            else:
                self.proxy_receives(1)

    def receive(self, said: Said) -> None:
        self.note_failure(said)
        verdict = self.owed.answer(ord(said.kind))
        if self.out_of_count:
            return
        assert verdict == (SWALLOW if swallowed(said) else PASS), said
        self.check_undone(said)
        self.give_due()

    def note_failure(self, said: Said) -> None:
        if said.kind != "E":
            return
        self.failed = said.cause
        self.ambiguous = self.ambiguous or said.cause.serial in self.synced_feeds

    def check_undone(self, said: Said) -> None:
        undone, self.owed.undone[:] = list(self.owed.undone), []
        if said.kind != "E" or said.cause.code in ENDING:
            assert undone == []
        elif said.cause.serial not in self.synced_feeds:
            assert undone == self.skipped_after(said.cause)

    def skipped_after(self, cause: Sent) -> list[int]:
        skipped = []
        for message in self.sent[cause.serial :]:
            if message.code in "Ss":
                break
            if message.code in NOTED:
                skipped.append(message.serial)
        return skipped

    def give_due(self) -> None:
        """Answers of the proxy's own come exactly where Postgres would have given them."""
        self.backend.settle()
        while code := self.owed.due():
            answer = self.backend.outbox.popleft()
            assert answer.virtual
            assert ord(answer.kind) == code
        if self.backend.outbox and not self.out_of_count:
            assert not self.backend.outbox[0].virtual

    # -- what holds at any moment ----------------------------------------------------------

    @invariant()
    def counts_agree(self) -> None:
        if self.out_of_count:
            assert self.ambiguous, "lost without a Sync inside of a COPY that failed"
            assert not self.owed.nothing()
            return
        assert self.owed.nothing() == self.backend.at_rest()
        if self.owed.nothing():
            assert self.owed.ready == 0
            assert not self.owed.notes


Proxy.TestCase.settings = settings(
    max_examples=400,
    stateful_step_count=40,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestOwed = Proxy.TestCase
