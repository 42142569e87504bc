# cython: boundscheck=False, wraparound=False
"""Statements by name: changed on the way.

Names of prepared statements are the client's own; a server has them under other names, or under
the client's where SQL asks for it. What goes out changed is put together in `PIECES`.
"""

from __future__ import annotations

from typing import Any

import cython

from proxy.errors import ProtocolViolation
from proxy.session.anew import NOTHING_TO_UNDO
from proxy.session.doubting import UNKNOWABLE
from proxy.session.identifiers import LONGEST_NAME
from proxy.session.statement import PREFIX
from proxy.session.verdict import Verdict
from proxy.wire import messages

if cython.compiled:
    from cython.cimports.proxy.relay.fitting import PIECES, SESSION
    from cython.cimports.proxy.relay.judging import Judging
    from cython.cimports.proxy.relay.link import RX_SIZE
    from cython.cimports.proxy.relay.server import Server
    from cython.cimports.proxy.session.owed import ANSWER_PARSE, BIND, CLOSE, DESCRIBE
    from cython.cimports.proxy.session.session import Session
    from cython.cimports.proxy.session.statement import Statement
    from cython.cimports.proxy.wire.octets import equal, part, u32, zero
else:
    from proxy.relay.fitting import PIECES, SESSION
    from proxy.relay.judging import Judging
    from proxy.relay.link import RX_SIZE
    from proxy.relay.server import Server
    from proxy.session.owed import ANSWER_PARSE, BIND, CLOSE, DESCRIBE
    from proxy.session.session import Session
    from proxy.session.statement import Statement
    from proxy.wire.octets import equal, part, u32, zero

if not cython.compiled:
    MAX_KEPT = 16 << 20
"""Longest Query or Parse message, in bytes, that is read whole: to know what it may do to the
session, and to repeat it on other servers."""

_PREFIX: bytes = PREFIX
_longest_name = LONGEST_NAME


@cython.cclass
class Naming(Judging):
    """A client in what its statements are called.

    `bound`: the statement that has a name and was used last, by the Bind of `portal`; `last_name`:
    the last that it said; `doubted`: for the message that comes next the server was asked already.
    """

    last_name: bytes
    bound: Statement

    def __init__(self, loop: object, fd: cython.int, hub: Any, number: cython.int) -> None:
        Judging.__init__(self, loop, fd, hub, number)
        self.last_name = b""
        self.bound = None
        self.doubted = False

    @cython.cfunc
    def _prepared(
        self,
        kind: cython.int,
        buffer: bytearray,
        run: cython.Py_ssize_t,
        at: cython.Py_ssize_t,
        end: cython.Py_ssize_t,
        n: cython.Py_ssize_t,
    ) -> cython.Py_ssize_t:
        """Parse, Bind, Describe or Close: where the next run of bytes begins.

        -1: more of the message must be there first. Bytes up to it are in PIECES, unless it
        passes as it is.
        """
        if kind == BIND:
            return self._bind(buffer, run, at, end, n)
        if kind == 80:  # P
            return self._parse(buffer, run, at, end, n)
        if end > n:
            return self._incomplete(at, end)
        name: cython.Py_ssize_t = at + 6
        stop: cython.Py_ssize_t = zero(buffer, name, end)
        if stop != end - 1 or buffer[at + 5] != 83:  # S; a portal, or broken for Postgres to refuse
            if kind == DESCRIBE and buffer[at + 5] == 80 and self._is_news():  # P
                self._describe_portal(part(buffer, name, end - 1))
            else:
                self.server.owed.push(kind)
            return run
        if kind == DESCRIBE:
            return self._describe(buffer, run, at, name, stop, end, n)
        return self._close_name(buffer, run, at, name, stop, end)

    @cython.cfunc
    def _incomplete(self, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.Py_ssize_t:
        if end - at > RX_SIZE:
            raise ProtocolViolation("the name of a prepared statement is too long")
        return -1

    @cython.cfunc
    def _bind(
        self,
        buffer: bytearray,
        run: cython.Py_ssize_t,
        at: cython.Py_ssize_t,
        end: cython.Py_ssize_t,
        n: cython.Py_ssize_t,
    ) -> cython.Py_ssize_t:
        seen: cython.Py_ssize_t = min(n, end)
        name: cython.Py_ssize_t = zero(buffer, at + 5, seen) + 1
        stop: cython.Py_ssize_t = zero(buffer, name, seen) if name > 0 else -1
        if stop < 0:
            # Broken, for Postgres to refuse (incomplete messages this short do not come here).
            self.server.owed.push(BIND)
            return run
        self.bound = None
        self.session.strays = self.session.elsewhere is not None
        if self.session.reads:
            self._used_behind(self._statement_at(buffer, name, stop))
        after: cython.Py_ssize_t = self._named(buffer, run, at, name, stop, end, n)
        if not self.settling:
            self.server.owed.push(BIND)
        self.portal = b"" if name == at + 6 else part(buffer, at + 5, name - 1)
        if self.recalls:
            self.recalled = self._statement_at(buffer, name, stop)
        return after

    @cython.cfunc
    def _used_behind(self, statement: Statement) -> object:
        """It is used behind a PREPARE; None: it is not known."""
        if statement is None:
            return self.session.spoil()
        return self.session.goes_on(statement.verdict, statement.tail)

    @cython.cfunc
    def _run_on(self, buffer: bytearray, at: cython.Py_ssize_t) -> object:
        """An Execute stands at `at`, and what was sent before may still do something."""
        if self.session.reads and not self._runs_bound(buffer, at):
            self.session.spoil()
        return self.session.run_on()

    @cython.cfunc
    def _runs_bound(self, buffer: bytearray, at: cython.Py_ssize_t) -> cython.bint:
        """Whether the Execute at `at` is of what was bound last."""
        if self.portal is None:
            return False
        stop: cython.Py_ssize_t = zero(buffer, at + 5, at + u32(buffer, at + 1) + 1)
        return stop > 0 and equal(buffer, at + 5, stop, self.portal)

    @cython.cfunc
    def _describe(
        self,
        buffer: bytearray,
        run: cython.Py_ssize_t,
        at: cython.Py_ssize_t,
        name: cython.Py_ssize_t,
        stop: cython.Py_ssize_t,
        end: cython.Py_ssize_t,
        n: cython.Py_ssize_t,
    ) -> cython.Py_ssize_t:
        after: cython.Py_ssize_t = self._named(buffer, run, at, name, stop, end, n)
        if not self.settling:
            statement: Statement = self._statement_at(buffer, name, stop)
            self.server.shelf.describe(statement, self.server.owed)
        return after

    @cython.cfunc
    def _is_news(self) -> cython.bint:
        """Whether what a portal gives may be the first that is told of a statement."""
        return self.bound is not None and self.bound.shape is None and self.bound.is_analysed()

    @cython.cfunc
    def _describe_portal(self, name: bytes) -> object:
        """What it gives, so does the statement that was bound to it."""
        statement: Statement = self.bound if name == self.portal else None
        return self.server.shelf.describe(statement, self.server.owed)

    @cython.cfunc
    def _statement_at(
        self, buffer: bytearray, name: cython.Py_ssize_t, stop: cython.Py_ssize_t
    ) -> Statement:
        """What the name at [name, stop) stands for, None for nothing."""
        if name == stop:
            return self.session.unnamed
        return self.session.names.get(self._own(buffer, name, stop))

    @cython.cfunc
    def _own(self, buffer: bytearray, name: cython.Py_ssize_t, stop: cython.Py_ssize_t) -> bytes:
        """The client's own name at [name, stop), as far as Postgres keeps it (NAMEDATALEN).

        What comes again is the object that it was, which knows its hash.
        """
        stop = min(stop, name + _longest_name)
        if not equal(buffer, name, stop, self.last_name):
            self.last_name = part(buffer, name, stop)
        return self.last_name

    @cython.cfunc
    def _ask_shape(
        self,
        statement: Statement,
        newcomer: cython.bint,
        buffer: bytearray,
        run: cython.Py_ssize_t,
        at: cython.Py_ssize_t,
    ) -> cython.Py_ssize_t:
        """The message at `at` waits until the server has told what its statement gives now."""
        server: Server = self.server
        if statement.verdict is not None:
            run = self._names(statement.verdict, b"", buffer, run, at)
        self.settling = self.doubted = True
        PIECES.add(buffer, run, at)
        PIECES.add_bytes(server.shelf.ask(self.session, statement, newcomer, server.owed))
        return at

    @cython.cfunc
    def _named(
        self,
        buffer: bytearray,
        run: cython.Py_ssize_t,
        at: cython.Py_ssize_t,
        name: cython.Py_ssize_t,
        stop: cython.Py_ssize_t,
        end: cython.Py_ssize_t,
        n: cython.Py_ssize_t,
    ) -> cython.Py_ssize_t:
        """A message from `at` to `end` that names a statement at [name, stop)."""
        server: Server = self.server
        session: Session = self.session
        if server.owed.skipping:
            self.doubted = False
            return run
        statement: Statement
        if name == stop:
            statement = session.unnamed
            if statement is not None and server.shelf.doubts(statement) and not self.doubted:
                return self._ask_shape(statement, False, buffer, run, at)
            self.doubted = False
            run = self._uses(statement, buffer, run, at, end, n)
            return self._ahead(server.shelf.need_unnamed(session, server.owed), buffer, run, at)
        key: bytes = self._own(buffer, name, stop)
        statement = session.names.get(key)
        if statement is not None:
            reads: cython.bint = server.status != 69 and not self.doubted  # E
            if reads and session.reads_otherwise(statement):
                statement = server.shelf.reading(session, key, statement, self.pool.certain)
            if server.shelf.doubts(statement) and not self.doubted:
                return self._ask_shape(statement, False, buffer, run, at)
            self.doubted = False
            self.bound = statement
            run = self._uses(statement, buffer, run, at, end, n)
            ahead: bytes = server.shelf.need(session, statement, server.owed)
            self.pool.counters.server_parses += len(ahead) > 0
            self.pool.counters.binds += buffer[at] == BIND
            run = self._ahead(ahead, buffer, run, at)
            key = statement.server_name
        else:
            run = self._uses_bare(key, buffer, run, at, end, n)
            if not key.startswith(_PREFIX):
                return run
            key = b"?" + key
        PIECES.add(buffer, run, at)
        size: cython.Py_ssize_t = end - at - 1 + len(key) - (stop - name)
        PIECES.add_head(buffer[at], size)
        PIECES.add(buffer, at + 5, name)
        PIECES.add_bytes(key)
        return stop

    @cython.cfunc
    def _uses(
        self,
        statement: Statement,
        buffer: bytearray,
        run: cython.Py_ssize_t,
        at: cython.Py_ssize_t,
        end: cython.Py_ssize_t,
        n: cython.Py_ssize_t,
    ) -> cython.Py_ssize_t:
        """A Bind or Describe of the statement, which may be None, stands at `at`."""
        if statement is None:
            return run
        if statement.routines is not self.pool.routines:
            self._judge_again(statement)
        if statement.verdict is None:
            return run
        if buffer[at] != BIND:
            return self._names(statement.verdict, b"", buffer, run, at)
        text: bytes = statement.tail
        if statement.verdict.everything:
            # The name of a parameter may be among the values.
            if end > n:
                run = self._names(statement.verdict, b"", buffer, run, at)
                return self._may(UNKNOWABLE, text, buffer, run, at)
            text += b"\0" + _values(buffer, at, end)
        elif statement.verdict.leads_elsewhere() and end <= n:
            text += b"\0" + _values(buffer, at, end)
        late: cython.bint = self.session.prepares_late(statement, buffer[at + 5] != 0)
        run = self._may(statement.verdict, text, buffer, run, at)
        if end > n:
            self.session.may_lead_back()  # its values are not all to be seen
        if late:
            self.session.spoil()
        return run

    @cython.cfunc
    def _uses_bare(
        self,
        name: bytes,
        buffer: bytearray,
        run: cython.Py_ssize_t,
        at: cython.Py_ssize_t,
        end: cython.Py_ssize_t,
        n: cython.Py_ssize_t,
    ) -> cython.Py_ssize_t:
        """A Bind or Describe of what SQL has prepared, or names, too, stands at `at`."""
        may_be: list[Any] = self.session.may_be(name)
        for statement in may_be:
            run = self._uses(statement, buffer, run, at, end, n)
        if buffer[at] != BIND or None not in may_be:
            return run
        said, text = self.session.prepared_by_sql(name)
        if said is None:
            return run
        if end > n:
            return self._may(UNKNOWABLE, text, buffer, run, at)
        return self._may(said, text + b"\0" + _values(buffer, at, end), buffer, run, at)

    @cython.cfunc
    def _parse(
        self,
        buffer: bytearray,
        run: cython.Py_ssize_t,
        at: cython.Py_ssize_t,
        end: cython.Py_ssize_t,
        n: cython.Py_ssize_t,
    ) -> cython.Py_ssize_t:
        server: Server = self.server
        if end > n and end - at <= MAX_KEPT:
            return -1
        stop: cython.Py_ssize_t = zero(buffer, at + 5, min(n, end))
        if server.owed.skipping:
            self.doubted = False
            return run
        if stop < 0:
            server.owed.push_noted(80, NOTHING_TO_UNDO)  # P
            return run
        if end > n:
            return self._parse_large(buffer, run, at, stop)
        text_end: cython.Py_ssize_t = zero(buffer, stop + 1, end)
        said: Verdict = None if text_end < 0 else self._judge(buffer, stop + 1, text_end)
        refusal: bytes = b"" if said is None else self._refusal(said)
        if refusal:
            PIECES.add(buffer, run, at)
            PIECES.add_bytes(messages.parse(b"", refusal + b"\0\0\0"))
            server.owed.push_noted(80, NOTHING_TO_UNDO)  # P
            return end
        if said is not None:
            run = self._names(said, b"", buffer, run, at)
        if stop == at + 5:
            self._parse_unnamed(said, buffer, stop + 1, end)
            return run
        name: bytes = self._own(buffer, at + 5, stop)
        tail: bytes
        if self.session.is_bare(name):
            tail = part(buffer, stop + 1, end)
            ahead: bytes = server.shelf.parse_bare(self.session, name, tail, said, server.owed)
            return self._ahead(ahead, buffer, run, at)
        return self._parse_named(name, part(buffer, stop + 1, end), said, buffer, run, at, end)

    @cython.cfunc
    def _parse_named(
        self,
        name: bytes,
        tail: bytes,
        said: Any,
        buffer: bytearray,
        run: cython.Py_ssize_t,
        at: cython.Py_ssize_t,
        end: cython.Py_ssize_t,
    ) -> cython.Py_ssize_t:
        """A Parse of what others may have prepared before."""
        server: Server = self.server
        session: Session = self.session
        taken: cython.bint = name in session.names
        statement: Statement
        if taken:
            statement = session.names[name]
        else:
            statement = server.shelf.read_now(session, tail, said, self.doubted)
        if not self.doubted and server.shelf.doubts(statement):
            return self._ask_shape(statement, not taken, buffer, run, at)
        self.doubted = False
        ahead: bytes
        if taken:
            ahead = server.shelf.parse_again(session, name, statement, tail, server.owed)
        else:
            good: cython.bint = server.status != 69 and server.owed.ready == 0  # E
            ahead = server.shelf.parse(session, name, statement, server.owed, good)
        self.pool.counters.client_parses += 1
        self.pool.counters.server_parses += len(ahead) > 0
        PIECES.add(buffer, run, at)
        PIECES.add_bytes(ahead)
        self._answer()
        return end

    @cython.cfunc
    def _parse_unnamed(
        self, said: Any, buffer: bytearray, at: cython.Py_ssize_t, end: cython.Py_ssize_t
    ) -> object:
        """Most clients prepare the same text again and again without a name."""
        server: Server = self.server
        before: Statement = self.session.unnamed
        tail: bytes
        if before is not None and equal(buffer, at, end, before.tail):
            tail = before.tail
        else:
            tail = part(buffer, at, end)
        server.shelf.parse_unnamed(self.session, tail, said, server.owed)
        self.keeps = self.mode == SESSION
        return None

    @cython.cfunc
    def _parse_large(
        self,
        buffer: bytearray,
        run: cython.Py_ssize_t,
        at: cython.Py_ssize_t,
        stop: cython.Py_ssize_t,
    ) -> cython.Py_ssize_t:
        """Too large to keep: the client keeps the one server that has it."""
        if stop != at + 5:
            raise ProtocolViolation(
                f"a named statement of more than {MAX_KEPT >> 20} MiB cannot be prepared",
                hint="Prepare it without a name, or send it as a simple query.",
            )
        self.server.shelf.parse_unnamed(self.session, None, UNKNOWABLE, self.server.owed)
        self.keeps = True
        return run

    @cython.cfunc
    def _close_name(
        self,
        buffer: bytearray,
        run: cython.Py_ssize_t,
        at: cython.Py_ssize_t,
        name: cython.Py_ssize_t,
        stop: cython.Py_ssize_t,
        end: cython.Py_ssize_t,
    ) -> cython.Py_ssize_t:
        server: Server = self.server
        if server.owed.skipping:
            return run
        if name == stop:
            self._forget_unnamed()
            server.owed.push(CLOSE)
            return run
        key: bytes = self._own(buffer, name, stop)
        if self.session.is_bare(key):
            self.session.lay_bare(key, None)
            server.owed.push(CLOSE)
            return run
        server.shelf.close(self.session, key, server.owed)
        PIECES.add(buffer, run, at)
        self._answer()
        return end

    @cython.cfunc
    def _answer(self) -> object:
        """Give answers of ours that are due at once, since nothing else is owed."""
        code: cython.int = self.server.owed.due()
        while code:
            self.send(messages.PARSE_COMPLETE if code == ANSWER_PARSE else messages.CLOSE_COMPLETE)
            code = self.server.owed.due()
        return None


def _values(buffer: bytearray, at: int, end: int) -> bytes:
    """Of the Bind there."""
    formats = zero(buffer, zero(buffer, at + 5, end) + 1, end) + 1
    return messages.bound_values(bytes(buffer[formats:end]))
