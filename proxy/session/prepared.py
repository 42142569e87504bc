"""Prepared statements: names are the client's own, statements are shared between clients.

A client's name stands for a `Statement`: a text with its parameter types, read in the light of
the client's parameters. A server prepares it under the statement's own name when it is first
needed there, and its `Shelf` remembers that. What a client and a server are believed to have is
noted ahead of the server's answer; every step leaves a note by which it is undone when the
server refuses or skips it (see `proxy.session.owed`).
"""

from __future__ import annotations

from typing import Any

import cython

from proxy.session.session import share
from proxy.wire import messages

if cython.compiled:
    from cython.cimports.proxy.session.owed import (
        ANSWER_CLOSE,
        ANSWER_PARSE,
        OUR_CLOSE,
        OUR_PARSE,
        PARSE,
        PARSE_AGAIN,
        Owed,
    )
    from cython.cimports.proxy.session.session import Session, Statement
else:
    from proxy.session.owed import (
        ANSWER_CLOSE,
        ANSWER_PARSE,
        OUR_CLOSE,
        OUR_PARSE,
        PARSE,
        PARSE_AGAIN,
        Owed,
    )
    from proxy.session.session import Session, Statement

# A note is (kind, name, what the name stood for, statement at the server, statement at the
# client), and the kind says what it undoes.
_NAME, _UNNAMED, _OURS, _EVICTED, _AGAIN = 0, 1, 2, 3, 4
NOTHING_TO_UNDO = (_OURS, None, None, None, None)
_REPEATED = (_AGAIN, None, None, None, None)


def _unsure(statement: Statement | None, owed: Owed) -> bool:
    """Whether what was noted in front of a Sync may still be skipped; None: the unnamed one."""
    if statement is None:
        return any(note[0] == _UNNAMED or note[0] == _AGAIN for note in owed.notes)
    return any(note[3] is statement for note in owed.notes)


@cython.cclass
class Shelf:
    """The prepared statements of one server, least recently used first to go.

    At most `limit` of them, but never fewer than one pipeline needs.
    """

    held: dict[Statement, int]
    outdated: set[Statement]
    unnamed: Statement

    def __init__(self, limit: cython.int) -> None:
        self.limit = limit
        self.held = {}
        self.outdated = set()
        self.clock = 0
        self.group = 0
        self.unnamed = None

    @cython.ccall
    def boundary(self) -> cython.void:
        """No pipeline is under way: whatever stands here may go."""
        self.group = self.clock

    @cython.ccall
    def deallocate_all(self, session: Any, owed: Owed) -> cython.void:
        """DEALLOCATE ALL ran here: what was sent behind it will be there all the same.

        The unnamed statement is not among what it drops.
        """
        pending = list(owed.notes)
        behind = {note[3] for note in pending}
        self.held = {s: stamp for s, stamp in self.held.items() if s in behind}
        self.unnamed = _UNKNOWN
        if session is not None:
            names = {note[1]: note[4] for note in pending if note[0] == _NAME}
            session.names = {name: s for name, s in names.items() if s is not None}

    @cython.ccall
    def all_stale(self) -> cython.void:
        """Plans no longer fit the schema: the next use of each prepares it anew."""
        self.held = dict.fromkeys(self.held, -1)

    @cython.ccall
    def schema_changed(self) -> cython.void:
        """A client that prepares one of these texts now must hear what Postgres says of it now."""
        self.outdated = set(self.held)

    @cython.ccall
    def passed_over(self, session: Any) -> cython.void:
        """A Query or Close was skipped: what it would have destroyed is there still."""
        self.unnamed = _UNKNOWN
        if session is not None and session.unnamed is None:
            session.unnamed = session.forgotten

    @cython.ccall
    def need(self, statement: Statement, owed: Owed) -> bytes:
        """Messages to send ahead so that `statement` is prepared here; mostly none."""
        stamp: Any = self.held.get(statement)
        self.clock += 1
        sure: cython.bint = owed.ready == 0 or not _unsure(statement, owed)
        if stamp is not None and stamp >= 0 and sure:
            self.held[statement] = self.clock
            return b""
        ahead: bytes = b""
        if stamp is not None or owed.ready > 0:
            ahead = self._close(statement, owed)
        ahead += self._room(owed)
        self.held[statement] = self.clock
        owed.push_noted(OUR_PARSE, (_OURS, None, None, statement, None))
        return ahead + messages.parse(statement.server_name, statement.tail)

    @cython.cfunc
    def _room(self, owed: Owed) -> bytes:
        ahead: bytes = b""
        while len(self.held) >= self.limit:
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
    def parse(
        self,
        session: Session,
        name: bytes,
        tail: bytes,
        verdict: Any,
        owed: Owed,
        known_good: cython.bint,
    ) -> bytes:
        """A client prepares `name`: what is sent to the server in its place.

        `verdict`: what the text may do to a session, or None.
        `known_good`: the transaction is known not to have failed, so that a statement that is
        there already may be answered without asking.
        """
        before = session.names.get(name)
        if before is not None:
            ahead: bytes = self._parse_again(name, before, tail, owed)
            return ahead
        statement = share(tail, session.parameters, verdict)
        ahead = b""
        if known_good and statement not in self.outdated and self.held.get(statement, -1) >= 0:
            self._touch(statement)
            session.names[name] = statement
            owed.push_noted(ANSWER_PARSE, (_NAME, name, None, None, statement))
            return b""
        if statement in self.held or owed.ready > 0:
            ahead = self._close(statement, owed)
        ahead += self._room(owed)
        self.outdated.discard(statement)
        self._touch(statement)
        session.names[name] = statement
        owed.push_noted(PARSE, (_NAME, name, None, statement, statement))
        return ahead + messages.parse(statement.server_name, tail)

    @cython.cfunc
    def _touch(self, statement: Statement) -> cython.void:
        self.clock += 1
        self.held[statement] = self.clock

    @cython.cfunc
    def _parse_again(self, name: bytes, before: Statement, tail: bytes, owed: Owed) -> bytes:
        """The client has that name: let the server itself refuse a second one."""
        ahead: bytes = self.need(before, owed)
        owed.push_noted(PARSE_AGAIN, (_OURS, name, None, None, None))
        return ahead + messages.parse(before.server_name, tail)

    @cython.ccall
    def parse_unnamed(self, session: Session, tail: Any, verdict: Any, owed: Owed) -> cython.void:
        """The client's own unnamed Parse goes through.

        `tail` is None when it is too large to keep: no other server can then stand in.
        """
        before: Statement = session.unnamed
        if before is None or before.tail is not tail:
            session.unnamed = Statement(b"" if tail is None else tail, b"", verdict)
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
        owed.push_noted(OUR_PARSE, (_UNNAMED, None, session.unnamed, None, session.unnamed))
        return messages.parse(b"", session.unnamed.tail)

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
        elif kind != _NAME:
            self.unnamed = _UNKNOWN

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
        elif kind == _NAME and before is not None:
            session.names.setdefault(name, before)
        elif kind == _NAME and session.names.get(name) is there:
            session.names.pop(name, None)


_UNKNOWN = Statement(b"", b"")
"""Stands for an unnamed statement of which nothing is known: equal to no client's."""
