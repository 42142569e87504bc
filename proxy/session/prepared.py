"""Prepared statements: names are the client's own, statements are shared between clients.

A client's name stands for a `Statement`: a text with its parameter types, read in the light of
the client's parameters at its Parse. A server prepares it under the statement's own name when it
is first needed there, and its `Shelf` remembers that. What a client and a server are believed to
have is noted ahead of the server's answer; every step leaves a note by which it is undone when the
server refuses or skips it (see `proxy.session.owed`).

What they give, and what becomes of that when the schema changes, is `proxy.session.results`'s.
"""

from __future__ import annotations

from itertools import count
from typing import Any

import cython

from proxy.session.anew import NOTHING_TO_UNDO, OURS
from proxy.session.commands import leads_by_itself
from proxy.session.reread import meaning
from proxy.session.results import UNKNOWN
from proxy.session.statement import as_before, share, told_of
from proxy.wire import messages

if cython.compiled:
    from cython.cimports.proxy.session.anew import forget, prepare, tell
    from cython.cimports.proxy.session.owed import (
        ANSWER_CLOSE,
        ANSWER_PARSE,
        OUR_CLOSE,
        OUR_DESCRIBE,
        OUR_PARSE,
        PARSE,
        PARSE_AGAIN,
        Owed,
    )
    from cython.cimports.proxy.session.results import TOLD, Results
    from cython.cimports.proxy.session.session import Session
    from cython.cimports.proxy.session.statement import Statement
else:
    from proxy.session.anew import forget, prepare, tell
    from proxy.session.owed import (
        ANSWER_CLOSE,
        ANSWER_PARSE,
        OUR_CLOSE,
        OUR_DESCRIBE,
        OUR_PARSE,
        PARSE,
        PARSE_AGAIN,
        Owed,
    )
    from proxy.session.results import TOLD, Results
    from proxy.session.session import Session
    from proxy.session.statement import Statement

# A note is (kind, name, what the name stood for, statement at the server, statement at the
# client), and the kind says what it undoes (see TOLD and OURS, too).
_NAME, _UNNAMED, _EVICTED, _AGAIN, _COPY, _BARE = 0, 1, 3, 4, 7, 8
_REPEATED = (_AGAIN, None, None, None, None)

OTHER_RESULT = "pgfunnel_other_result"
"""A column that Postgres misses in place of a statement whose result has changed."""
_MUST_FAIL = messages.parse(b"pgfunnel_other", b"SELECT %s\0\0\0" % OTHER_RESULT.encode())

_AGAIN_NAME = b"pgfunnel_again"

_generations = count(1)


def new_generation() -> int:
    """No other schema has this one, and none of them had it before."""
    return next(_generations)


def _is_still(statement: Statement | None, noted: Statement | None) -> bool:
    """Whether it is what was noted, which may have been read anew since."""
    return statement is not None and noted is not None and statement.tail == noted.tail


def _unsure(statement: Statement | None, owed: Owed) -> bool:
    """Whether what was noted in front of a Sync may still be skipped; None: the unnamed one."""
    if statement is None:
        return any(note[0] == _UNNAMED or note[0] == _AGAIN for note in owed.notes)
    return any(note[3] is statement for note in owed.notes)


@cython.cclass
class Shelf(Results):
    """The prepared statements of one server, least recently used first to go.

    At most `limit` of them, but never fewer than one pipeline needs.
    """

    def __init__(self, limit: cython.int) -> None:
        Results.__init__(self)
        self.limit = limit
        self.clock = 0
        self.group = 0

    @cython.ccall
    def boundary(self) -> cython.void:
        """No pipeline is under way: whatever stands here may go."""
        self.group = self.clock

    @cython.ccall
    def deallocate_all(self, session: Any, owed: Owed) -> cython.void:
        """DEALLOCATE ALL ran here: what was sent behind it will be there all the same.

        The unnamed statement is not among what it drops.
        """
        behind = {note[3] for note in owed.notes}
        self.held = {s: stamp for s, stamp in self.held.items() if s in behind}
        self.unnamed = UNKNOWN
        if session is not None:
            names = {note[1]: note[4] for note in owed.notes if note[0] == _NAME}
            session.names = {name: s for name, s in names.items() if s is not None}

    @cython.ccall
    def lacks(self, there: cython.int) -> cython.bint:
        """The server has so many of them: where some are missing none is sure to be there."""
        if there >= len([stamp for stamp in self.held.values() if stamp >= 0]):
            return False
        self.held = dict.fromkeys(self.held, -1)
        return True

    @cython.ccall
    def discard_plans(self) -> cython.void:
        """DISCARD PLANS runs here: Postgres reads each text anew when it is used next, under the
        parameters of then. So each is to be prepared anew, for whom it is used."""
        self.held = dict.fromkeys(self.held, -1)
        self.unnamed = UNKNOWN

    @cython.ccall
    def passed_over(self, session: Any) -> cython.void:
        """A Query or Close was skipped: what it would have destroyed is there still."""
        self.unnamed = UNKNOWN
        if session is not None and session.unnamed is None:
            session.unnamed = session.forgotten

    @cython.ccall
    def need(self, session: Session, statement: Statement, owed: Owed) -> bytes:
        """Messages to send ahead so that `statement` is prepared here; mostly none.

        One that differs fails here, or as any other in a failed transaction does.
        """
        ahead: bytes = self._need(session, statement, statement.anew, owed)
        return ahead

    @cython.cfunc
    def _need(self, session: Session, statement: Statement, tail: bytes, owed: Owed) -> bytes:
        stamp: Any = self.held.get(statement)
        self.clock += 1
        sure: cython.bint = owed.ready == 0 or not _unsure(statement, owed)
        if stamp is not None and stamp >= 0 and sure:
            self.held[statement] = self.clock
            return b""
        if statement is self.differs:
            owed.push_noted(OUR_PARSE, NOTHING_TO_UNDO)
            return _MUST_FAIL
        ahead: bytes = b""
        if stamp is not None or owed.ready > 0:
            ahead = self._close(statement, owed)
        ahead += self._room(owed)
        self.held[statement] = self.clock
        note = (OURS, None, None, statement, None)
        ahead += prepare(session, statement, statement.server_name, tail, note, owed)
        return ahead

    @cython.ccall
    def read(self, note: Any, row: Any) -> cython.void:
        """The server has told what it reads the statement of that note under."""
        statement: Statement = note[4]
        statement.meaning = meaning(row)

    @cython.ccall
    def reading(
        self, session: Session, name: bytes, statement: Statement, certain: cython.bint
    ) -> Statement:
        """What `name` stands for on this server, where its text may mean something else now.

        Its constants are what they were at its Parse, as long as Postgres itself would not read it
        anew. `certain`: parameters can be set, so it can be prepared as at its Parse.
        """
        there: cython.bint = self.held.get(statement, -1) >= 0
        apart: cython.bint = session.apart()
        if statement.alone and (there or (not apart and certain and session.keeps(statement))):
            return statement
        if there and (not apart or session.settled) and session.reads_alike(statement):
            return statement
        anew: Statement
        then: Any = None
        if certain:
            keeps: cython.bint = session.keeps_reading(statement)
            then = statement.meaning if keeps else session.reads_anew(statement)
        if then is not None:
            anew = as_before(statement, then, session.parameters)
        else:
            anew = self.read_now(session, statement.tail, statement.verdict)
            if statement.is_analysed() and statement.shape not in (None, anew.shape):
                anew = told_of(anew, statement, session.executed(statement.verdict))
        session.names[name] = anew
        return anew

    @cython.ccall
    def ask(
        self, session: Session, statement: Statement, newcomer: cython.bint, owed: Owed
    ) -> bytes:
        """Messages that prepare a statement in doubt and ask what it takes and gives.

        `newcomer`: for one that was told nothing of it yet; the types of parameters that others
        were told are not its own then.
        """
        self.differs = None
        tail: bytes = statement.tail if newcomer else statement.anew
        ahead: bytes
        if statement.server_name:
            ahead = self._need(session, statement, tail, owed)
        else:
            ahead = self.need_unnamed(session, owed)
        owed.push_noted(OUR_DESCRIBE, (TOLD, None, self.generation, None, statement))
        return ahead + messages.describe_statement(statement.server_name) + messages.FLUSH

    @cython.ccall
    def copy(
        self, session: Session, name: bytes, statement: Statement, drops: cython.bint, owed: Owed
    ) -> bytes:
        """Messages to send ahead so that SQL finds the statement under its client's own name.

        `drops`: it drops it at once and does nothing else, so an empty one will do, which takes no
        lock and does not fail. Where these are skipped, so is what is behind them: then the name is
        as it was.
        """
        note = (_COPY, name, statement, None, None)
        if drops:
            session.names.pop(name, None)
            owed.push_noted(OUR_PARSE, note)
            return messages.parse(name, _EMPTY)
        session.lay_bare(name, statement)
        ahead: bytes = prepare(session, statement, name, statement.tail, note, owed)
        return ahead

    @cython.cfunc
    def _room(self, owed: Owed) -> bytes:
        ahead: bytes = b""
        while self.held and len(self.held) >= self.limit:
            oldest = min(self.held, key=self.held.__getitem__)
            if self.held[oldest] > self.group:
                break
            ahead += self._close(oldest, owed)
        return ahead

    @cython.cfunc
    def _close(self, statement: Statement, owed: Owed) -> bytes:
        self.held.pop(statement, None)
        owed.push_noted(OUR_CLOSE, (_EVICTED, None, None, statement, None))
        return messages.close_statement(statement.server_name)

    @cython.ccall
    def read_now(
        self, session: Session, tail: bytes, verdict: Any, asked: cython.bint = False
    ) -> Statement:
        """A statement whose text is read under what holds at its Parse.

        `verdict`: what the text may do to a session, or None. What is under way may change how it
        is read, as SET in one pipeline with it: then nobody shares it. Nor where this server was
        `asked` and gives something else than others were told.
        """
        executed = session.executed(verdict)
        alone: cython.bint = session.clouded() or session.apart()
        where: Any = session.elsewhere
        if where is not None:
            executed = (*executed, where)
            alone = alone or session.strays or not leads_by_itself(where)
        known: Statement
        known = share(tail, session.parameters, verdict, self.generation, executed, alone=alone)
        if asked and known is self.differs:
            alone = True
            known = share(tail, session.parameters, verdict, self.generation, alone=True)
        if alone:
            session.reads_now(known)
        return known

    @cython.ccall
    def parse(
        self,
        session: Session,
        name: bytes,
        statement: Statement,
        owed: Owed,
        known_good: cython.bint,
    ) -> bytes:
        """A client prepares `name`: what is sent to the server in its place.

        `known_good`: the transaction is known not to have failed, so that a statement that is
        there already may be answered without asking.
        """
        ahead: bytes = b""
        if known_good and self.held.get(statement, -1) >= 0:
            self._touch(statement)
            session.names[name] = statement
            owed.push_noted(ANSWER_PARSE, (_NAME, name, None, None, statement))
            return b""
        if statement in self.held or owed.ready > 0:
            ahead = self._close(statement, owed)
        ahead += self._room(owed)
        ahead += tell(session, statement, owed)
        self._touch(statement)
        session.names[name] = statement
        owed.push_noted(PARSE, (_NAME, name, None, statement, statement))
        return ahead + messages.parse(statement.server_name, statement.tail)

    @cython.ccall
    def forget(self, owed: Owed) -> bytes:
        """DISCARD PLANS, to send within what the client sends."""
        self.discard_plans()
        sent: bytes = forget(owed)
        return sent

    @cython.ccall
    def parse_bare(
        self, session: Session, name: bytes, tail: bytes, verdict: Any, owed: Owed
    ) -> bytes:
        """A client prepares what SQL names, too; its Parse goes through.

        Returns messages to send ahead of it.
        """
        if name not in session.bare:
            session.lay_bare(name, None)
        statement: Statement
        statement = share(tail, session.parameters, verdict, self.generation, alone=True)
        session.reads_now(statement)
        ahead: bytes = tell(session, statement, owed)
        session.lay_bare(name, statement)
        owed.push_noted(PARSE, (_BARE, name, None, None, statement))
        return ahead

    @cython.cfunc
    def _touch(self, statement: Statement) -> cython.void:
        self.clock += 1
        self.held[statement] = self.clock

    @cython.ccall
    def parse_again(
        self, session: Session, name: bytes, before: Statement, tail: bytes, owed: Owed
    ) -> bytes:
        """The client has that name: let the server itself refuse a second one.

        The new text has its own errors first. It must not come to stand under the name that others
        know, even where the first is gone.
        """
        ahead: bytes = self.need(session, before, owed)
        owed.push_noted(OUR_PARSE, NOTHING_TO_UNDO)
        owed.push_noted(OUR_CLOSE, NOTHING_TO_UNDO)
        owed.push_noted(PARSE_AGAIN, (OURS, name, None, before, None))
        ahead += messages.parse(_AGAIN_NAME, tail) + messages.close_statement(_AGAIN_NAME)
        return ahead + messages.parse(before.server_name, before.anew)

    @cython.ccall
    def parse_unnamed(self, session: Session, tail: Any, verdict: Any, owed: Owed) -> cython.void:
        """The client's own unnamed Parse goes through.

        `tail` is None when it is too large to keep: no other server can then stand in.
        """
        before: Statement = session.unnamed
        if (
            before is None
            or before.tail is not tail
            or before.generation != self.generation
            or session.reads_otherwise(before)
        ):
            text: bytes = b"" if tail is None else tail
            session.unnamed = Statement(text, b"", verdict, self.generation)
            session.reads_now(session.unnamed)
        self.unnamed = session.unnamed
        if before is session.unnamed:
            owed.push_noted(PARSE, _REPEATED)
        else:
            owed.push_noted(PARSE, (_UNNAMED, None, before, None, session.unnamed))

    @cython.ccall
    def need_unnamed(self, session: Session, owed: Owed) -> bytes:
        """Messages to send ahead so that the unnamed statement here is the client's own."""
        sure: cython.bint = owed.ready == 0 or not _unsure(None, owed)
        if self.unnamed is session.unnamed and sure:
            return b""
        self.unnamed = session.unnamed
        if session.unnamed is None:
            owed.push_noted(OUR_CLOSE, (_UNNAMED, None, None, None, None))
            return messages.CLOSE_UNNAMED
        if session.unnamed is self.differs:
            self.unnamed = UNKNOWN
            owed.push_noted(OUR_PARSE, NOTHING_TO_UNDO)
            return _MUST_FAIL
        note = (_UNNAMED, None, session.unnamed, None, session.unnamed)
        sent: bytes = prepare(session, session.unnamed, b"", session.unnamed.anew, note, owed)
        return sent

    @cython.ccall
    def close(self, session: Session, name: bytes, owed: Owed) -> cython.void:
        """The client closes a name; the statement stays for others."""
        before = session.names.pop(name, None)
        owed.push_noted(ANSWER_CLOSE, (_NAME, name, before, None, None))

    @cython.ccall
    def undo(self, session: Any, notes: list[Any], failed_parse: cython.bint) -> cython.void:
        """Undo what the server refused or skipped; `notes` in order of sending.

        `failed_parse`: the first note is that of a Parse which the server itself refused.
        """
        i: cython.Py_ssize_t = len(notes)
        while i > 0:
            i -= 1
            kind, name, before, here, there = notes[i]
            self._undo_here(kind, here)
            if session is not None:
                self._undo_there(session, kind, name, before, there, failed_parse and i == 0)

    @cython.cfunc
    def _undo_here(self, kind: cython.int, statement: Any) -> cython.void:
        if statement is not None:
            self.held[statement] = -1
        elif kind != _NAME and kind != TOLD and kind != _BARE:
            self.unnamed = UNKNOWN

    @cython.cfunc
    def _undo_there(
        self,
        session: Session,
        kind: cython.int,
        name: Any,
        before: Any,
        there: Any,
        refused: cython.bint,
    ) -> cython.void:
        """Undo at the client, unless it has gone on since."""
        if kind == _UNNAMED and session.unnamed is there:
            session.unnamed = None if refused else before
        elif kind == _AGAIN:
            session.unnamed = None if refused else session.unnamed
        elif (kind == _NAME or kind == _COPY) and before is not None:
            session.dress(name, before)
        elif kind == _NAME and _is_still(session.names.get(name), there):
            session.names.pop(name, None)
        elif kind == _BARE:
            session.is_not(name, there)


_EMPTY = b"\0\0\0"
