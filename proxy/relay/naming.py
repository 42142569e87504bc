# cython: boundscheck=False, wraparound=False
"""Statements by name, and what statements may do to the session: changed on the way.

Names of prepared statements are the client's own; a server has them under other names, or under
the client's where SQL asks for it. What goes out changed is put together in `PIECES`.
"""

from __future__ import annotations

import re
from typing import Any

import cython

from proxy.conditions import PREPARED, SEQUENCES
from proxy.errors import ProtocolViolation
from proxy.session.policy import NOT_NOW, NOT_YOURS, REFUSED
from proxy.session.prepared import NOTHING_TO_UNDO
from proxy.session.session import PREFIX, UNREADABLE
from proxy.session.verdict import NOTHING as HARMLESS
from proxy.session.verdict import Verdict, verdict
from proxy.wire import messages

if cython.compiled:
    from cython.cimports.proxy.relay.borrowing import Borrowing
    from cython.cimports.proxy.relay.fitting import PIECES, SESSION
    from cython.cimports.proxy.relay.link import RX_SIZE
    from cython.cimports.proxy.relay.server import Server
    from cython.cimports.proxy.session.glance import glance
    from cython.cimports.proxy.session.owed import (
        ANSWER_PARSE,
        BIND,
        CLOSE,
        DESCRIBE,
        OUR_PARSE,
        OUR_SYNC,
        QUERY,
    )
    from cython.cimports.proxy.session.routines import Routines
    from cython.cimports.proxy.session.session import Session, Statement
    from cython.cimports.proxy.wire.octets import equal, part, zero
else:
    from proxy.relay.borrowing import Borrowing
    from proxy.relay.fitting import PIECES, SESSION
    from proxy.relay.link import RX_SIZE
    from proxy.relay.server import Server
    from proxy.session.glance import glance
    from proxy.session.owed import ANSWER_PARSE, BIND, CLOSE, DESCRIBE, OUR_PARSE, OUR_SYNC, QUERY
    from proxy.session.routines import Routines
    from proxy.session.session import Session, Statement
    from proxy.wire.octets import equal, part, zero

if not cython.compiled:
    MAX_KEPT = 16 << 20
"""Longest Query or Parse message, in bytes, that is read whole: to know what it may do to the
session, and to repeat it on other servers."""

_ENDS = re.compile(rb"\b(?:rollback|abort|commit|end|prepare\s+transaction)\b", re.IGNORECASE)
"""What may end a transaction that has failed; nothing else in it does anything."""

_PREFIX: bytes = PREFIX
_OURS = PREFIX.decode()
_REFUSED: bytes = REFUSED.encode()
_MAX_LOOK: cython.Py_ssize_t = 4096
_MAX_RECALLED: cython.Py_ssize_t = 1024


@cython.cclass
class Naming(Borrowing):
    """A client in what its statements are called and may do."""

    # -- what statements may do ------------------------------------------------------------

    @cython.cfunc
    def _query(
        self,
        buffer: bytearray,
        run: cython.Py_ssize_t,
        at: cython.Py_ssize_t,
        end: cython.Py_ssize_t,
        n: cython.Py_ssize_t,
    ) -> cython.Py_ssize_t:
        server: Server = self.server
        session: Session = self.session
        if session.unnamed is not None or server.shelf.unnamed is not None:
            self._forget_unnamed()
        self.pool.counters.queries += 1
        if self.recalls:
            self.recalled = part(buffer, at + 5, min(n, end - 1, at + 5 + _MAX_RECALLED))
        if end > n:
            run = self._may(UNREADABLE, b"", buffer, run, at)
        else:
            said: Verdict = self._judge(buffer, at + 5, end - 1)
            if said is not None:
                run = self._query_of(said, buffer, run, at, end)
        server.owed.push(QUERY)
        return run

    @cython.cfunc
    def _query_of(
        self,
        said: Verdict,
        buffer: bytearray,
        run: cython.Py_ssize_t,
        at: cython.Py_ssize_t,
        end: cython.Py_ssize_t,
    ) -> cython.Py_ssize_t:
        """A Query that concerns the session."""
        refusal: bytes = self._refusal(said)
        if not refusal:
            return self._may(said, part(buffer, at + 5, end - 1), buffer, run, at)
        PIECES.add(buffer, run, at)
        PIECES.add_bytes(messages.query(refusal))
        return end

    @cython.cfunc
    def _judge(self, buffer: bytearray, at: cython.Py_ssize_t, stop: cython.Py_ssize_t) -> Any:
        """What the text at [at, stop) may do to the session; None: nothing."""
        session: Session = self.session
        routines: Routines = self.pool.routines
        judge: Any = verdict if routines is None else routines.verdict
        if not glance(buffer, at, stop, session.backslashes, session.wide) and (
            routines is None
            or not routines.named(buffer, at, stop, session.backslashes, session.wide)
        ):
            return None
        said: Verdict = judge(part(buffer, at, stop), session.backslashes, session.wide)
        return None if said is HARMLESS else said

    @cython.cfunc
    def _judge_again(self, statement: Statement) -> object:
        """The database's own functions are others than when the statement was prepared."""
        text: bytearray = bytearray(statement.tail)
        stop: cython.Py_ssize_t = zero(text, 0, len(text))
        said: Any = self._judge(text, 0, stop) if stop >= 0 else statement.verdict
        return statement.judged(said, self.pool.routines)

    @cython.cfunc
    def _forget_unnamed(self) -> cython.void:
        """A simple query destroys the unnamed statement (documentation, "Extended Query")."""
        server: Server = self.server
        if server.owed.skipping:
            return
        if self.session.unnamed is not None:
            self.session.forgotten = self.session.unnamed
            self.session.unnamed = None
            server.owed.unsettled = True
        server.shelf.unnamed = None
        self.keeps = self.mode == SESSION

    @cython.cfunc
    def _refusal(self, said: Verdict) -> bytes:
        """What to send in place of a statement that policy refuses: Postgres fails on it.

        So it fails where it stands, and Postgres itself skips what comes behind it; `Server`
        puts the right words in place of its complaint.
        """
        makes: cython.int = self.session.makes(said)
        refused: cython.int = makes & self.pool.policy.rejected
        if any(piece.name is not None and piece.name.startswith(_OURS) for piece in said.prepared):
            refused = NOT_YOURS
        if not refused and makes & SEQUENCES:
            refused = self._sequences()
        return b"%s%d" % (_REFUSED, refused) if refused else b""

    @cython.cfunc
    def _sequences(self) -> cython.int:
        """currval() must not see what others left: SEQUENCES when that cannot be had now."""
        server: Server = self.server
        self.pool.careful = not self.pool.policy.ignored & SEQUENCES
        if not server.shared or not self.pool.careful:
            return 0
        if not self.at_rest():
            return SEQUENCES | NOT_NOW
        server.shared = False
        PIECES.add_bytes(server.query_ahead(b"DISCARD SEQUENCES"))
        return 0

    @cython.cfunc
    def _names(
        self, said: Verdict, buffer: bytearray, run: cython.Py_ssize_t, at: cython.Py_ssize_t
    ) -> cython.Py_ssize_t:
        """SQL is about to name statements that the protocol's Parse has made: let it find them."""
        server: Server = self.server
        if server.status == 69 and not server.owed.runs():  # E
            return run
        fails_alone: cython.bint = buffer[at] == QUERY and server.owed.synced()
        ahead: cython.bint = False
        for piece in said.prepared:
            if piece.name is None:
                server.owed.unsettled = True
                continue
            name: bytes = piece.octets
            statement: Statement = self.session.names.get(name)
            if statement is not None and not server.knows(piece.name):
                server.owed.push_noted(OUR_PARSE, NOTHING_TO_UNDO)
                run = self._ahead(messages.parse(name, statement.tail), buffer, run, at)
                server.knows_as(piece.name)
                self.session.ask(PREPARED)
                ahead = True
        if ahead and fails_alone:
            server.owed.push(OUR_SYNC)
            PIECES.add_bytes(messages.SYNC)
        return run

    @cython.cfunc
    def _calls(self) -> object:
        """A FunctionCall names its function by a number: it may do anything."""
        return self.session.touch(UNREADABLE, b"", self.pool.policy, self.pool.reported, False)

    @cython.cfunc
    def _may(
        self,
        said: Verdict,
        text: bytes,
        buffer: bytearray,
        run: cython.Py_ssize_t,
        at: cython.Py_ssize_t,
    ) -> cython.Py_ssize_t:
        """A statement goes out that may change the session; where the next run begins.

        `text` may have a NUL and more behind it.
        """
        server: Server = self.server
        session: Session = self.session
        if server.status == 69 and not server.owed.runs() and not _ENDS.search(text):  # E
            return run  # it can only fail
        run = self._names(said, buffer, run, at)
        idle: cython.bint = server.status == 73  # I
        alone: cython.bint = idle and server.owed.nothing()
        session.routines = self.pool.routines
        session.touch(said, text, self.pool.policy, self.pool.reported, alone)
        if said.prepared and not said.whole_reset:
            session.prepares(said, text, not server.owed.runs(), idle)
        return run

    # -- prepared statements ---------------------------------------------------------------

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
            self.server.owed.push(kind)
            return run
        if kind == DESCRIBE:
            return self._describe(buffer, run, at, name, stop, end)
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
        after: cython.Py_ssize_t = self._named(buffer, run, at, name, stop, end)
        if not self.settling:
            self.server.owed.push(BIND)
        if self.recalls:
            self.recalled = self._statement_at(buffer, name, stop)
        return after

    @cython.cfunc
    def _describe(
        self,
        buffer: bytearray,
        run: cython.Py_ssize_t,
        at: cython.Py_ssize_t,
        name: cython.Py_ssize_t,
        stop: cython.Py_ssize_t,
        end: cython.Py_ssize_t,
    ) -> cython.Py_ssize_t:
        after: cython.Py_ssize_t = self._named(buffer, run, at, name, stop, end)
        if not self.settling:
            statement: Statement = self._statement_at(buffer, name, stop)
            self.server.shelf.describe(statement, self.server.owed)
        return after

    @cython.cfunc
    def _statement_at(
        self, buffer: bytearray, name: cython.Py_ssize_t, stop: cython.Py_ssize_t
    ) -> Statement:
        """What the name at [name, stop) stands for, None for nothing."""
        if name == stop:
            return self.session.unnamed
        return self.session.names.get(part(buffer, name, stop))

    @cython.cfunc
    def _ask_shape(
        self,
        statement: Statement,
        buffer: bytearray,
        run: cython.Py_ssize_t,
        at: cython.Py_ssize_t,
    ) -> cython.Py_ssize_t:
        """The message at `at` waits until the server has told what its statement gives now."""
        server: Server = self.server
        if statement.verdict is not None:
            run = self._names(statement.verdict, buffer, run, at)
        self.settling = True
        PIECES.add(buffer, run, at)
        PIECES.add_bytes(server.shelf.ask(self.session, statement, server.owed))
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
    ) -> cython.Py_ssize_t:
        """A message from `at` to `end` that names a statement at [name, stop)."""
        server: Server = self.server
        session: Session = self.session
        if server.owed.skipping:
            return run
        statement: Statement
        if name == stop:
            statement = session.unnamed
            if statement is not None and server.shelf.doubts(statement):
                return self._ask_shape(statement, buffer, run, at)
            run = self._uses(statement, buffer, run, at, end)
            return self._ahead(server.shelf.need_unnamed(session, server.owed), buffer, run, at)
        key: bytes = part(buffer, name, stop)
        statement = session.names.get(key)
        if statement is not None:
            if session.reads_otherwise(statement):
                statement = server.shelf.reading(session, key, statement)
            if server.shelf.doubts(statement):
                return self._ask_shape(statement, buffer, run, at)
            run = self._uses(statement, buffer, run, at, end)
            ahead: bytes = server.shelf.need(statement, server.owed)
            self.pool.counters.server_parses += len(ahead) > 0
            self.pool.counters.binds += buffer[at] == BIND
            run = self._ahead(ahead, buffer, run, at)
            key = statement.server_name
        elif not key.startswith(_PREFIX):
            return run
        else:
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
    ) -> cython.Py_ssize_t:
        """A Bind or Describe of the statement, which may be None, stands at `at`."""
        if statement is None:
            return run
        if statement.routines is not self.pool.routines:
            self._judge_again(statement)
        if statement.verdict is None:
            return run
        if buffer[at] != BIND:
            return self._names(statement.verdict, buffer, run, at)
        text: bytes = statement.tail
        if statement.verdict.everything:
            # The name of a parameter may be among the values.
            text += b"\0" + bytes(buffer[at : min(end, at + _MAX_LOOK)])
        return self._may(statement.verdict, text, buffer, run, at)

    @cython.cfunc
    def _ahead(
        self, ahead: bytes, buffer: bytearray, run: cython.Py_ssize_t, at: cython.Py_ssize_t
    ) -> cython.Py_ssize_t:
        """Put messages of ours in front of the one at `at`."""
        if not ahead:
            return run
        PIECES.add(buffer, run, at)
        PIECES.add_bytes(ahead)
        return at

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
            run = self._names(said, buffer, run, at)
        if stop == at + 5:
            self._parse_unnamed(said, buffer, stop + 1, end)
            return run
        name: bytes = part(buffer, at + 5, stop)
        if self.session.in_sql(name):
            server.owed.push_noted(80, NOTHING_TO_UNDO)  # P; that name is taken
            return run
        before: Statement = self.session.names.get(name)
        if before is not None and server.shelf.doubts(before):
            return self._ask_shape(before, buffer, run, at)
        good: cython.bint = server.status != 69 and server.owed.ready == 0  # E
        tail: bytes = part(buffer, stop + 1, end)
        ahead: bytes = server.shelf.parse(self.session, name, tail, said, server.owed, good)
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
        self.server.shelf.parse_unnamed(self.session, None, UNREADABLE, self.server.owed)
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
        key: bytes = part(buffer, name, stop)
        if self.session.in_sql(key):
            self.session.ask(PREPARED)
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
