# cython: boundscheck=False, wraparound=False
"""What statements may do to the session: noted as they go out, or refused by policy.

What goes out changed is put together in `PIECES`.
"""

from __future__ import annotations

import re
from typing import Any

import cython

from proxy.conditions import PREPARED, SEQUENCES, TEMP
from proxy.session.commands import makes_in_sight, only_drops, runs_alone, vacates
from proxy.session.doubting import UNKNOWABLE, UNREADABLE
from proxy.session.findings import CREATES, DISCARD_ALL, TEMPORARIES
from proxy.session.policy import NOT_NOW, NOT_YOURS, REFUSED
from proxy.session.results import UNKNOWN
from proxy.session.statement import PREFIX
from proxy.session.verdict import NOTHING as HARMLESS
from proxy.session.verdict import Verdict, verdict
from proxy.wire import messages

if cython.compiled:
    from cython.cimports.proxy.relay.borrowing import Borrowing
    from cython.cimports.proxy.relay.fitting import PIECES, SESSION
    from cython.cimports.proxy.relay.server import Server
    from cython.cimports.proxy.session.glance import glance
    from cython.cimports.proxy.session.owed import BIND, DESCRIBE, EXECUTE, OUR_SYNC, QUERY
    from cython.cimports.proxy.session.routines import Routines
    from cython.cimports.proxy.session.session import Session
    from cython.cimports.proxy.session.statement import Statement
    from cython.cimports.proxy.wire.octets import part, u32, zero
else:
    from proxy.relay.borrowing import Borrowing
    from proxy.relay.fitting import PIECES, SESSION
    from proxy.relay.server import Server
    from proxy.session.glance import glance
    from proxy.session.owed import BIND, DESCRIBE, EXECUTE, OUR_SYNC, QUERY
    from proxy.session.routines import Routines
    from proxy.session.session import Session
    from proxy.session.statement import Statement
    from proxy.wire.octets import part, u32, zero

_ENDS = re.compile(rb"\b(?:rollback|abort|commit|end|prepare\s+transaction)\b", re.IGNORECASE)
"""What may end a transaction that has failed; nothing else in it does anything."""

_OURS = PREFIX.decode()
_REFUSED: bytes = REFUSED.encode()
_FIRST_OF_USERS: cython.uint = 16384
"""Objects that are not Postgres's own have this number, or a larger one (FirstNormalObjectId)."""
_MAX_RECALLED: cython.Py_ssize_t = 1024


@cython.cclass
class Judging(Borrowing):
    """A client in what its statements may do.

    `heard`: where what it has said ends in the buffer that is being looked at; `portal`: the name
    in its last Bind, None behind a Query that concerns the session.
    """

    portal: bytes

    def __init__(self, loop: object, fd: cython.int, hub: Any, number: cython.int) -> None:
        Borrowing.__init__(self, loop, fd, hub, number)
        self.heard = 0
        self.portal = None

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
        if server.owed.skipping:
            return run
        session: Session = self.session
        if session.unnamed is not None or server.shelf.unnamed is not None:
            self._forget_unnamed()
        session.strays = session.elsewhere is not None
        if session.doubt is not None:
            session.run_on()
        self.pool.counters.queries += 1
        if self.recalls:
            self.recalled = part(buffer, at + 5, min(n, end - 1, at + 5 + _MAX_RECALLED))
        if end > n:
            if session.reads:
                session.spoil()
            run = self._may(UNKNOWABLE, b"", buffer, run, at)
        else:
            said: Verdict = self._judge(buffer, at + 5, end - 1)
            if session.reads:
                session.goes_on(said, part(buffer, at + 5, end - 1))
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
        self.portal = None
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
        if self.session.unnamed is not None:
            self.session.forgotten = self.session.unnamed
            self.session.unnamed = None
            server.owed.unsettled = True
        server.shelf.unnamed = None if server.owed.synced() else UNKNOWN  # it may be skipped
        self.keeps = self.mode == SESSION

    @cython.cfunc
    def _refusal(self, said: Verdict) -> bytes:
        """What to send in place of a statement that policy refuses: Postgres fails on it.

        So it fails where it stands, and Postgres itself skips what comes behind it; `Server`
        puts the right words in place of its complaint.
        """
        makes: cython.int = self.session.makes(said)
        refused: cython.int = 0 if self.mode == SESSION else makes & self.pool.policy.rejected
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
        self,
        said: Verdict,
        text: bytes,
        buffer: bytearray,
        run: cython.Py_ssize_t,
        at: cython.Py_ssize_t,
    ) -> cython.Py_ssize_t:
        """SQL is about to name statements that the protocol's Parse has made: let it find them."""
        server: Server = self.server
        if self._has_failed():
            return run
        session: Session = self.session
        runs: cython.bint = buffer[at] == QUERY or buffer[at] == BIND
        fails_alone: cython.bint = self._stands_alone(buffer, at)
        ahead: cython.bint = False
        pieces: list[Any] = [*said.prepared]
        executed: set[bytes] = set()
        for piece in pieces:
            name: bytes = piece.octets
            if not runs and piece.verb != "EXECUTE":
                continue
            if piece.name is None:
                server.owed.emptying = True
                continue
            statement: Statement = session.names.get(name)
            if statement is not None:
                drops: cython.bint = (
                    piece.verb == "DEALLOCATE"
                    and piece.is_all_of(text)
                    and self._runs_now(buffer, at)
                )
                copy: bytes = server.shelf.copy(session, name, statement, drops, server.owed)
                run = self._ahead(copy, buffer, run, at)
                ahead = True
            elif piece.verb != "EXECUTE" and not self.pool.policy.ignored & PREPARED:
                session.lay_bare(name, None)
            if piece.verb == "EXECUTE" and name not in executed:
                executed.add(name)
                for one in session.may_be(name):
                    # What it executes by name, or drops, in turn.
                    pieces += () if one is None or one.verdict is None else one.verdict.prepared
        if ahead and fails_alone:
            PIECES.add_bytes(self._end_alone())
        return run

    @cython.cfunc
    def _stands_alone(self, buffer: bytearray, at: cython.Py_ssize_t) -> cython.bint:
        """Whether what goes ahead of the message at `at` may fail without it."""
        return buffer[at] == QUERY and self.server.owed.synced()

    @cython.cfunc
    def _end_alone(self) -> bytes:
        """Behind what may fail without the client's own message."""
        self.server.owed.push(OUR_SYNC)
        return messages.SYNC

    @cython.cfunc
    def _runs_now(self, buffer: bytearray, at: cython.Py_ssize_t) -> cython.bint:
        """Whether what the message at `at` brings is done before anything else: a Query, or a Bind
        with its Execute behind it (what libpq says between them is Describe)."""
        if buffer[at] == QUERY:
            return True
        portal: cython.int = buffer[at + 5]
        at += u32(buffer, at + 1) + 1
        if at + 6 < self.heard and buffer[at] == DESCRIBE and buffer[at + 5] == 80:  # P
            at += u32(buffer, at + 1) + 1
        runs: cython.bint = at + 5 < self.heard and buffer[at] == EXECUTE
        return runs and portal == 0 and buffer[at + 5] == 0

    @cython.cfunc
    def _calls(
        self,
        buffer: bytearray,
        run: cython.Py_ssize_t,
        at: cython.Py_ssize_t,
        end: cython.Py_ssize_t,
        n: cython.Py_ssize_t,
    ) -> cython.Py_ssize_t:
        """A FunctionCall names its function by a number: it may do anything.

        Names of parameters are among its arguments.
        """
        if self.server.owed.skipping:
            return run
        said: Verdict = UNREADABLE
        if self.session.reads:
            self.session.spoil()
        if end > n and not 0 < u32(buffer, at + 5) < _FIRST_OF_USERS:
            said = UNKNOWABLE
        text: bytes = messages.bound_values(bytes(buffer[at + 9 : min(end, n)]))
        return self._may(said, text, buffer, run, at)

    @cython.cfunc
    def _has_failed(self) -> cython.bint:
        """Whether its transaction has failed, and nothing was sent since that may have ended it."""
        return self.server.status == 69 and self.server.owed.nothing()  # E

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
        under: Any = session.reads_under() if said.prepared else None
        session.leave(said)
        if said.stirs():
            session.stirred = True
            if said.leads_elsewhere():
                session.lead(text)
        if said.only_leaves() and not (said.locally and session.leads_back(said)):
            return run
        if text and self._has_failed() and not _ENDS.search(text):
            return run  # it can only fail
        if said.does & CREATES or said.clears & TEMP:
            dbname = vacates(text)
            if dbname:
                self.hub.vacate(self.pool, dbname)
        if said.does & TEMPORARIES and not only_drops(text):
            run = self._makes_temporary(text, buffer, run, at)
        run = self._names(said, text, buffer, run, at)
        idle: cython.bint = server.status == 73  # I
        alone: cython.bint = idle and server.owed.nothing()
        session.routines = self.pool.routines
        session.begins = self.pool.catalog.begins
        session.touch(said, text, self.pool.policy, self.pool.reported, alone)
        server.owed.emptying |= said.does & DISCARD_ALL != 0 or said is UNKNOWABLE
        server.owed.unsettled |= any(piece.verb != "EXECUTE" for piece in said.prepared)
        if said.prepared and not said.whole_reset:
            session.prepares(said, text, under if idle else None, not server.owed.runs())
        return run

    @cython.cfunc
    def _makes_temporary(
        self, text: bytes, buffer: bytearray, run: cython.Py_ssize_t, at: cython.Py_ssize_t
    ) -> cython.Py_ssize_t:
        """On a connection of its own, search_path changes with the first temporary table, in a
        way: texts are read anew for that, and plans made anew.

        What code out of sight may make is seen at the boundary (`proxy.relay.asking`).
        """
        server: Server = self.server
        session: Session = self.session
        replans: cython.bint = server.replans() or len(session.bare) > 0
        if replans and not runs_alone(text):
            run = self._replan(buffer, run, at)
        if not session.tempted and makes_in_sight(text):
            server.reads_anew(session)
            session.tempted = True
        return run

    @cython.cfunc
    def _replan(
        self, buffer: bytearray, run: cython.Py_ssize_t, at: cython.Py_ssize_t
    ) -> cython.Py_ssize_t:
        server: Server = self.server
        fails_alone: cython.bint = self._stands_alone(buffer, at)
        ahead: bytes = server.shelf.forget(server.owed)
        if fails_alone:
            ahead += self._end_alone()
        return self._ahead(ahead, buffer, run, at)

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
