"""A model of Postgres's prepared statements, and the relay's way of driving `Shelf` with it.

Statements do what their text says: `begin`, `rollback`, `fail`, `bad` (a syntax error),
`DEALLOCATE ALL`; any other text succeeds. Responses are pairs of type and what is of interest:
the text that was bound or described, the transaction status.
"""

from __future__ import annotations

from collections import deque
from functools import cache

from proxy.session.owed import SWALLOW, Owed
from proxy.session.prepared import Shelf
from proxy.session.session import Session

Wire = tuple[str, bytes, bytes]
"""A frontend message: its type, the name of a statement, a text."""
Said = tuple[str, bytes]

TYPES = b"\0\0\0"
ALL = b"DEALLOCATE ALL"


@cache
def tail(text: bytes) -> bytes:
    """What follows the name in a Parse; the same object when it is the same text."""
    return text + TYPES


def split(raw: bytes) -> list[Wire]:
    """Parse and Close messages, out of bytes."""
    found: list[Wire] = []
    while raw:
        end = 1 + int.from_bytes(raw[1:5], "big")
        body = raw[5:end]
        name, text = body.split(b"\0")[:2] if raw[:1] == b"P" else (body[1:-1], b"")
        found.append((raw[:1].decode(), name, text))
        raw = raw[end:]
    return found


def parse(
    shelf: Shelf, session: Session, name: bytes, tail: bytes, owed: Owed, good: bool
) -> bytes:
    """A client prepares `name` (proxy/relay/naming.py)."""
    before = session.names.get(name)
    sent: bytes
    if before is not None:
        sent = shelf.parse_again(session, name, before, tail, owed)
    else:
        sent = shelf.parse(session, name, shelf.read_now(session, tail, None), owed, good)
    return sent


class Refused(Exception):
    """An ErrorResponse."""


class Postgres:
    """One session of Postgres; documentation, "Message Flow", "Extended Query"."""

    def __init__(self) -> None:
        self.inbox: deque[Wire] = deque()
        self.outbox: deque[Said] = deque()
        self.prepared: dict[bytes, bytes] = {}
        self.portal: bytes | None = None
        self.status = b"I"
        self.ignoring = False

    def read(self) -> None:
        kind, name, text = self.inbox.popleft()
        if self.ignoring and kind != "S":
            return
        try:
            getattr(self, f"_{kind}")(name, text)
        except Refused:
            self._fail(extended=kind != "Q")
        if kind in "QS":
            self.ignoring = False
            self._ready()

    def _fail(self, *, extended: bool) -> None:
        self.outbox.append(("E", b""))
        self.ignoring = extended
        self.portal = None
        if self.status == b"T":
            self.status = b"E"

    def _ready(self) -> None:
        if self.status == b"I":
            self.portal = None
        self.outbox.append(("Z", self.status))

    def _check(self, text: bytes | None) -> bytes:
        if text is None or (self.status == b"E" and text != b"rollback"):
            raise Refused
        return text

    def _P(self, name: bytes, text: bytes) -> None:  # noqa: N802
        if not name:
            self.prepared.pop(b"", None)
        if text == b"bad" or name in self.prepared:
            raise Refused
        self.prepared[name] = self._check(text)
        self.outbox.append(("1", b""))

    def _B(self, name: bytes, _: bytes) -> None:  # noqa: N802
        self.portal = self._check(self.prepared.get(name))
        self.outbox.append(("2", self.portal))

    def _D(self, name: bytes, _: bytes) -> None:  # noqa: N802
        self.outbox.append(("t", self._check(self.prepared.get(name))))
        self.outbox.append(("n", b""))

    def _C(self, name: bytes, _: bytes) -> None:  # noqa: N802
        self.prepared.pop(name, None)
        self.outbox.append(("3", b""))

    def _E(self, *_: bytes) -> None:  # noqa: N802
        self._run(self._check(self.portal))

    def _Q(self, _: bytes, text: bytes) -> None:  # noqa: N802
        self.prepared.pop(b"", None)
        self.portal = None
        self._run(self._check(text))

    def _S(self, *_: bytes) -> None:  # noqa: N802
        return

    def _run(self, text: bytes) -> None:
        if text in (b"fail", b"bad"):
            raise Refused
        if text == ALL:
            self.prepared = {k: v for k, v in self.prepared.items() if not k}
        self.status = {b"begin": b"T", b"rollback": b"I"}.get(text, self.status)
        self.outbox.append(("C", text))


class Client:
    """`seen` is what the proxy told it, `direct` a session of its own to compare that with."""

    def __init__(self) -> None:
        self.session = Session()
        self.direct = Postgres()
        self.seen: list[Said] = []
        self.server: Server | None = None

    def send(self, kind: str, name: bytes = b"", text: bytes = b"") -> None:
        self.direct.inbox.append((kind, name, text))
        self.direct.read()
        if self.server is None:
            assert kind == "S", "a client without a server must borrow one first"
            self.seen.append(("Z", b"I"))
        else:
            getattr(self.server, f"send_{kind}")(name, text)
            self.server.answer_due()

    def believes(self, name: bytes) -> bytes | None:
        """The text that the proxy takes this client's name to stand for."""
        statement = self.session.names.get(name) if name else self.session.unnamed
        return None if statement is None else statement.tail.removesuffix(TYPES)

    def has(self, name: bytes) -> bytes | None:
        return self.direct.prepared.get(name)

    def knows_what_it_has(self) -> bool:
        names = {*self.session.names, *self.direct.prepared, b""}
        return all(self.believes(name) == self.has(name) for name in names)

    def check(self, *, whole: bool = False) -> None:
        """What it saw is the beginning (or the whole) of what a direct connection says."""
        said = list(self.direct.outbox)
        assert self.seen == (said if whole else said[: len(self.seen)])


class Server:
    """One server as `proxy.relay` has it: `Owed`, `Shelf` and whoever borrowed it."""

    def __init__(self, limit: int) -> None:
        self.postgres = Postgres()
        self.owed = Owed()
        self.shelf = Shelf(limit)
        self.client: Client | None = None
        self.status = b"I"
        self.before = 0

    @property
    def session(self) -> Session:
        assert self.client is not None
        return self.client.session

    def lend(self, client: Client, *, set_up: bool = False) -> None:
        self.client, client.server = client, self
        if set_up:
            self.owed.push(ord("q"))
            self.shelf.unnamed = None  # type: ignore[assignment]
            self._wire("Q", text=b"set_config")

    def _wire(self, kind: str, name: bytes = b"", text: bytes = b"") -> None:
        self.postgres.inbox.append((kind, name, text))

    def _ahead(self, raw: bytes) -> None:
        self.postgres.inbox.extend(split(raw))

    # -- what a client says (proxy/relay/client.py) ----------------------------------------

    def send_P(self, name: bytes, text: bytes) -> None:  # noqa: N802
        if self.owed.skipping:
            return self._wire("P", name, text)
        if not name:
            self.shelf.parse_unnamed(self.session, tail(text), None, self.owed)
            return self._wire("P", b"", text)
        good = self.status != b"E" and self.owed.ready == 0
        self._ahead(parse(self.shelf, self.session, name, text + TYPES, self.owed, good))
        return None

    def send_B(self, name: bytes, _: bytes) -> None:  # noqa: N802
        self._named("B", name)
        assert self.client is not None
        self.owed.emptying |= self.client.believes(name) == ALL
        self.owed.push(ord("B"))

    def send_D(self, name: bytes, _: bytes) -> None:  # noqa: N802
        self._named("D", name)
        self.owed.push(ord("D"))

    def _named(self, kind: str, name: bytes) -> None:
        if self.owed.skipping:
            return self._wire(kind, name)
        if not name:
            self._ahead(self.shelf.need_unnamed(self.session, self.owed))
            return self._wire(kind)
        statement = self.session.names.get(name)
        if statement is None:
            return self._wire(kind, name)
        self._ahead(self.shelf.need(self.session, statement, self.owed))
        return self._wire(kind, statement.server_name)

    def send_C(self, name: bytes, _: bytes) -> None:  # noqa: N802
        if self.owed.skipping:
            return self._wire("C", name)
        if name:
            self.shelf.close(self.session, name, self.owed)
            return None
        self._forget_unnamed()
        self.owed.push(ord("C"))
        return self._wire("C")

    def _forget_unnamed(self) -> None:
        self.session.unnamed = None  # type: ignore[assignment]
        self.shelf.unnamed = None  # type: ignore[assignment]

    def send_Q(self, _: bytes, text: bytes) -> None:  # noqa: N802
        self._forget_unnamed()
        self.owed.emptying |= text == ALL
        self.owed.push(ord("Q"))
        self._wire("Q", text=text)

    def send_E(self, *_: bytes) -> None:  # noqa: N802
        self.owed.push(ord("E"))
        self._wire("E")

    def send_S(self, *_: bytes) -> None:  # noqa: N802
        self.owed.push(ord("S"))
        self._wire("S")

    # -- what the server says (proxy/relay/server.py) --------------------------------------

    def receive(self) -> None:
        kind, what = self.postgres.outbox.popleft()
        if kind == "Z":
            self.status = what
        elif (kind, what) == ("C", ALL):
            self.shelf.deallocate_all(self.session, self.owed)
        verdict = self.owed.answer(ord(kind))
        if kind == "E":
            self._undo()
        if verdict != SWALLOW and self.client is not None:
            self.client.seen.append((kind, what))
        self.answer_due()
        if kind == "Z" and self.status == b"I" and self.owed.nothing():
            self._boundary()

    def _undo(self) -> None:
        self.shelf.undo(self.session, self.owed.undone, self.owed.failed == ord("P"))
        self.owed.undone.clear()
        self.owed.failed = 0

    def answer_due(self) -> None:
        while code := self.owed.due():
            assert self.client is not None
            self.client.seen.append((chr(code), b""))

    def _boundary(self) -> None:
        held = self.shelf.held
        used = sum(not 0 <= stamp <= self.shelf.group for stamp in held.values())
        # What was to make room for others was skipped with them; it is the first to go next time.
        skipped = sum(s.server_name in self.postgres.prepared for s in held if held[s] < 0)
        there = len(set(self.postgres.prepared) - {b""})
        assert there - skipped <= max(self.shelf.limit, used, self.before)
        self.before = there
        self.shelf.boundary()
        assert self.client is not None
        self.client.server = None
        self.client = None

    def deliver_all(self) -> None:
        while self.postgres.inbox or self.postgres.outbox:
            if self.postgres.outbox:
                self.receive()
            else:
                self.postgres.read()

    def check(self) -> None:
        """When nothing is owed, Postgres has what the shelf holds; what is stale it may have."""
        if not self.owed.nothing():
            return
        unnamed = self.postgres.prepared.get(b"")
        there = {name: text for name, text in self.postgres.prepared.items() if name}
        held = {s.server_name: s.tail.removesuffix(TYPES) for s in self.shelf.held}
        sure = {s.server_name for s, stamp in self.shelf.held.items() if stamp >= 0}
        assert sure <= set(there) <= set(held)
        assert all(held[name] == text for name, text in there.items())
        if self.shelf.unnamed is None:
            assert unnamed is None
        elif self.shelf.unnamed.tail:
            assert self.shelf.unnamed.tail.removesuffix(TYPES) == unnamed
