"""Prepared statements of several clients over several servers: as on a direct connection each.

Every message of a client also goes to a Postgres of its own; what the client sees through the
proxy must be what that one says.
"""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.unit.session.statements import ALL, Client, Server

GOOD = st.sampled_from([b"one", b"two", b"three", b"four"])
TEXTS = st.one_of(GOOD, st.sampled_from([b"bad", b"fail", b"begin", b"rollback", ALL]))
NAMED = st.sampled_from([b"a", b"b", b"c", b"d"])
NAMES = st.one_of(st.just(b""), NAMED)
WHO = st.integers(0, 2)


class Funnel(RuleBasedStateMachine):
    """Three clients on two servers."""

    def __init__(self) -> None:
        super().__init__()
        self.servers = [Server(1), Server(2)]
        self.clients = [Client(), Client(), Client()]

    def lent(self, who: int, *, set_up: bool = False) -> Client | None:
        """The client with a server; None while it has to wait for one."""
        client = self.clients[who]
        if client.server is not None:
            return client
        free = [server for server in self.servers if server.client is None]
        if not free:
            return None
        free[who % len(free)].lend(client, set_up=set_up)
        return client

    @rule(who=WHO, kind=st.sampled_from("PPBBDCE"), name=NAMES, text=TEXTS, set_up=st.booleans())
    def extended(self, who: int, kind: str, name: bytes, text: bytes, set_up: bool) -> None:
        client = self.lent(who, set_up=set_up)
        if client is None or (kind in "PBDC" and self.waits(client)):
            return
        if kind == "C" and not name and self.may_be_skipped(client):
            return
        client.send(kind, name, text)

    def waits(self, client: Client) -> bool:
        """Whether the client is held back: what it noted in front of a Sync may be skipped."""
        assert client.server is not None
        return not client.server.owed.settled()

    @rule(who=WHO, name=NAMES, text=TEXTS)
    def whole_statement(self, who: int, name: bytes, text: bytes) -> None:
        client = self.lent(who)
        if client is None or self.waits(client):
            return
        client.send("P", name, text)
        client.send("D", name)
        client.send("S")

    @rule(who=WHO, parsed=st.lists(st.tuples(NAMED, GOOD), max_size=3), bound=st.lists(NAMES))
    def pipeline(self, who: int, parsed: list[tuple[bytes, bytes]], bound: list[bytes]) -> None:
        client = self.lent(who)
        if client is None:
            return
        for name, text in parsed:
            if self.waits(client):
                break
            client.send("C", name)
            client.send("P", name, text)
        for name in bound[:4]:
            if self.waits(client):
                break
            client.send("B", name)
            client.send("E")
        client.send("S")

    @rule(who=WHO, text=TEXTS)
    def simple_query(self, who: int, text: bytes) -> None:
        client = self.lent(who)
        if client is not None and not self.waits(client) and not self.may_be_skipped(client):
            client.send("Q", b"", text)

    def may_be_skipped(self, client: Client) -> bool:
        """An error in front of it could make the server skip what comes next."""
        assert client.server is not None
        return client.server.owed.unsynced or client.server.owed.skipping

    @rule(who=WHO)
    def deallocate_all(self, who: int) -> None:
        client = self.lent(who)
        if client is None or self.waits(client) or self.may_be_skipped(client):
            return
        client.send("Q", b"", ALL)

    @rule(who=WHO)
    def sync(self, who: int) -> None:
        self.clients[who].send("S")

    @rule(which=st.integers(0, 1), reads=st.integers(1, 5))
    def server_reads(self, which: int, reads: int) -> None:
        for _ in range(reads):
            if self.servers[which].postgres.inbox:
                self.servers[which].postgres.read()

    @rule(which=st.integers(0, 1), messages=st.integers(1, 5))
    def proxy_receives(self, which: int, messages: int) -> None:
        for _ in range(messages):
            if self.servers[which].postgres.outbox:
                self.servers[which].receive()

    @rule()
    def all_is_delivered(self) -> None:
        for server in self.servers:
            server.deliver_all()
        for client in self.clients:
            client.check(whole=True)

    @rule(which=st.integers(0, 1))
    @precondition(lambda self: all(server.owed.nothing() for server in self.servers))
    def schema_may_have_changed(self, which: int) -> None:
        self.servers[which].shelf.renew(self.servers[which].shelf.generation + 1)

    @invariant()
    def clients_see_what_a_direct_connection_says(self) -> None:
        for client in self.clients:
            client.check()

    @invariant()
    def shelves_know_their_servers(self) -> None:
        for client in self.clients:
            assert client.server is not None or client.knows_what_it_has()
        for server in self.servers:
            assert not server.owed.lost
            if not server.postgres.inbox and not server.postgres.outbox:
                server.check()


Funnel.TestCase.settings = settings(
    max_examples=300,
    stateful_step_count=50,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestPrepared = Funnel.TestCase
