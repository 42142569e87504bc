"""Reads a text for what it means to the session: commands by their first words, and calls.

A command is one only at the beginning of a statement. The grammar is that of PostgreSQL's
documentation, "SQL Commands".
"""

from __future__ import annotations

from typing import Any

import cython

from proxy.conditions import (
    ANYTHING,
    COMPUTED,
    HOLD,
    LISTEN,
    LOAD,
    PARAMETERS,
    PREPARED,
    SEQUENCES,
    TEMP,
)
from proxy.session.commands import defining
from proxy.session.findings import (
    CLOSE_ALL,
    DEALLOCATE_ALL,
    DISCARD_ALL,
    DISCARD_PLANS,
    DISCARD_SEQUENCES,
    DISCARD_TEMP,
    RESET_ALL,
    UNLISTEN_ALL,
)

if cython.compiled:
    from cython.cimports.proxy.session.calls import Calls
    from cython.cimports.proxy.session.findings import Findings, Piece
    from cython.cimports.proxy.session.tokens import Statements, Tokens
    from cython.cimports.proxy.session.words import Words
else:
    from proxy.session.calls import Calls
    from proxy.session.findings import Findings, Piece
    from proxy.session.tokens import Statements, Tokens
    from proxy.session.words import Words

_DEEPEST_BODY = 3
_LONGEST_HEAD = 16


@cython.final
@cython.cclass
class Reading(Calls):
    """One pass over a text, or over the body of a DO in it; what it finds goes to `found`."""

    pending: Piece | None

    def run(self, tokens: Statements, found: Findings, depth: cython.int) -> None:
        self.begin(tokens, found)
        self.depth = depth
        self.pending = None
        self.local = False
        while self.left > 0 and tokens.seek():
            command = tokens.of(_COMMANDS) if tokens.first else None
            if command is None:
                self.notice()
            else:
                self.statement(command)
        if self.left <= 0:
            self.unreadable()
        self.temporary_path()

    def statement(self, command: Any) -> None:
        tokens = self.tokens
        begun: cython.Py_ssize_t = tokens.begun
        self.left -= 1
        tokens.advance()
        command(self)
        while not tokens.over():
            self.notice()
            tokens.skim()
        self.drops = self.local = False
        if self.pending is not None:
            self.pending.start, self.pending.end = begun, tokens.last
            self.found.prepare(self.pending)
            self.pending = None

    # Parameters

    def parameter(self) -> str | None:
        """The parameter's name, with its dots; moves behind it."""
        tokens = self.tokens
        folded: cython.bint = tokens.plain()
        name = tokens.name()
        if name is None:
            return None
        tokens.advance()
        if tokens.says(b"."):
            return self.dotted(name)
        return name if folded and name.isascii() else name.lower()

    def dotted(self, name: str) -> str | None:
        tokens = self.tokens
        parts: list[str] = [name]
        while tokens.says(b"."):
            tokens.advance()
            part = tokens.name()
            if part is None:
                return None
            parts.append(part)
            tokens.advance()
        return ".".join(parts).lower()

    def put(self, name: str, resets: cython.bint) -> None:
        """The parameter is put to a value, or back to its default."""
        self.leads(name)
        if self.local:
            self.set_locally(name, not resets, resets)
        else:
            self.found.change(name, not resets, resets)

    def to_default(self) -> cython.bint:
        return self.tokens.over() or self.tokens.says(b"default")

    def set(self) -> None:
        tokens = self.tokens
        if not tokens.assigned():
            self.local = tokens.says(b"local")
            if self.local or tokens.says(b"session"):
                tokens.advance()
        special = tokens.of(_SPECIAL)
        if special is not None and not tokens.assigned():
            tokens.advance()
            special(self)
            return
        name = self.parameter()
        tokens.advance()
        if name is not None:
            self.put(name, self.to_default())

    def set_nothing(self) -> None:
        """SET TRANSACTION, SET CONSTRAINTS: they end with the transaction."""

    def set_time_zone(self) -> None:
        self.tokens.advance()
        self.put("timezone", self.to_default() or self.tokens.says(b"local"))

    def set_names(self) -> None:
        self.put("client_encoding", self.to_default())

    def set_role(self) -> None:
        self.put("role", False)

    def set_schema(self) -> None:
        self.put("search_path", self.to_default())

    def set_xml_option(self) -> None:
        self.put("xmloption", False)

    def set_session(self) -> None:
        """SET SESSION SESSION AUTHORIZATION."""
        self.tokens.advance()
        self.set_authorization()

    def set_authorization(self) -> None:
        self.put("session_authorization", self.to_default())
        # SET SESSION AUTHORIZATION DEFAULT
        if self.tokens.place == 3 and self.tokens.says(b"default"):
            self.put_back(0)

    def set_characteristics(self) -> None:
        """SET SESSION CHARACTERISTICS AS TRANSACTION: several modes, in any order."""
        for _ in range(2 * _LONGEST_HEAD):
            mode = self.tokens.of(_MODES)
            if mode is not None:
                self.put(mode, False)
            if not self.tokens.advance() or self.tokens.over():
                return
        for mode in _MODES.table.values():
            self.put(mode, False)

    def reset(self) -> None:
        tokens = self.tokens
        if tokens.says(b"all"):
            self.found.everything = True
            self.found.clear(PARAMETERS | COMPUTED)
            self.put_back(RESET_ALL)
            return
        name = None if tokens.assigned() else tokens.of(_RESET_WORDS)
        if name is None:
            if tokens.says(b"role"):
                self.put_back(0)
            name = self.parameter()
        elif tokens.follows(b"authorization"):
            ahead: Tokens = tokens.ahead()
            ahead.advance()
            self.resets += ahead.ends() and tokens.says(b"session")
        if name is not None:
            self.put(name, True)

    def discard(self) -> None:
        discarded = self.tokens.of(_DISCARDS)
        if discarded is None:
            return
        what, conditions = discarded
        self.found.clear(conditions)
        self.put_back(what)
        if what == DISCARD_ALL:
            self.found.everything = True

    # Prepared statements

    def piece(
        self, verb: str, name: str | None, start: cython.Py_ssize_t, stop: cython.Py_ssize_t
    ) -> None:
        self.found.make(PREPARED)
        if not self.tokens.body:
            self.pending = Piece(verb, name, 0, 0, start, stop)

    def named_piece(self, verb: str, tokens: Tokens) -> None:
        start: cython.Py_ssize_t = tokens.start
        name = tokens.name()
        if name is not None:
            self.piece(verb, name, start, tokens.stop)

    def prepare(self) -> None:
        tokens = self.tokens
        prepares = tokens.follows(b"as") or tokens.follows(b"(")
        if prepares or not tokens.says(b"transaction"):
            self.named_piece("PREPARE", tokens)

    def execute(self) -> None:
        if self.tokens.body:
            self.unreadable()
        else:
            self.named_piece("EXECUTE", self.tokens)

    def deallocate(self) -> None:
        tokens = self.tokens
        self.found.clear(PREPARED)
        if tokens.says(b"prepare") and not tokens.ends():
            tokens.advance()
        if tokens.says(b"all"):
            self.piece("DEALLOCATE", None, tokens.start, tokens.stop)
            self.put_back(DEALLOCATE_ALL)
        else:
            self.named_piece("DEALLOCATE", tokens)

    def explain(self) -> None:
        ahead: Tokens = self.tokens.ahead()
        if ahead.says(b"("):
            ahead.past_parentheses()
        while ahead.says(b"analyze") or ahead.says(b"analyse") or ahead.says(b"verbose"):
            ahead.advance()
        if ahead.says(b"execute"):
            ahead.advance()
            self.named_piece("EXECUTE", ahead)
        elif ahead.says(b"create"):
            ahead.advance()
            self.create_from(ahead)

    def create(self) -> None:
        tokens = self.tokens
        if not (tokens.says(b"temp") or tokens.says(b"temporary")):
            self.found.create()
        self.create_from(self.tokens.ahead())

    def create_from(self, ahead: Tokens) -> None:
        """CREATE TABLE .. AS EXECUTE, and temporary tables that go at commit."""
        commit: cython.bint = False
        query: cython.bint = False
        while not (commit and query) and ahead.run_to(_CLAUSES):
            if ahead.says(b"on") and not commit:
                commit = True
                self.on_commit(ahead)
            elif ahead.says(b"as") and not query:
                query = True
                self.as_execute(ahead)
            ahead.advance()

    def on_commit(self, ahead: Tokens) -> None:
        if ahead.follows(b"commit"):
            ahead.advance()
            self.drops = ahead.follows(b"drop")

    def as_execute(self, ahead: Tokens) -> None:
        if ahead.follows(b"execute"):
            name: Tokens = ahead.ahead()
            name.advance()
            name.advance()
            self.named_piece("EXECUTE", name)

    # Other commands

    def listen(self) -> None:
        self.found.make(LISTEN)

    def unlisten(self) -> None:
        self.found.clear(LISTEN)
        if self.tokens.says(b"*"):
            self.put_back(UNLISTEN_ALL)

    def declare(self) -> None:
        ahead: Tokens = self.tokens.ahead()
        for _ in range(_LONGEST_HEAD):
            if ahead.over() or ahead.says(b"for"):
                return
            if ahead.says(b"with") and ahead.follows(b"hold"):
                break
            ahead.advance()
        self.found.make(HOLD)

    def close(self) -> None:
        self.found.clear(HOLD)
        if self.tokens.says(b"all"):
            self.put_back(CLOSE_ALL)

    def load(self) -> None:
        self.found.make(LOAD)

    def drop(self) -> None:
        self.found.clear(TEMP)

    def call(self) -> None:
        self.found.anything()

    def do(self) -> None:
        """The body is a string; LANGUAGE may stand on either side of it."""
        tokens = self.tokens
        for _ in range(_LONGEST_HEAD):
            if tokens.over():
                return
            if tokens.says(b"language"):
                tokens.advance()
                if not self.is_plpgsql():
                    self.found.anything()
            elif not tokens.plain():
                self.body(tokens.literal())
            tokens.advance()
        self.found.anything()

    def is_plpgsql(self) -> cython.bint:
        return self.tokens.name() == "plpgsql" or self.tokens.literal() == b"plpgsql"

    def body(self, text: bytes | None) -> None:
        if text is None or self.depth == _DEEPEST_BODY:
            self.found.anything()
            self.found.define()
            return
        if defining(text):
            self.found.define()
        outer = self.tokens
        inner: Statements = Statements.__new__(Statements)
        inner.read(text, outer.backslashes, outer.wide, True)
        reading: Reading = Reading.__new__(Reading)
        reading.run(inner, self.found, self.depth + 1)


_CLAUSES = Words({"as": True, "on": True})
_MODES = Words(
    {
        "isolation": "default_transaction_isolation",
        "read": "default_transaction_read_only",
        "deferrable": "default_transaction_deferrable",
    }
)
_RESET_WORDS = Words(
    {
        "session": "session_authorization",
        "time": "timezone",
        "transaction": "transaction_isolation",
    }
)
_DISCARDS = Words(
    {
        "all": (DISCARD_ALL, ANYTHING | SEQUENCES | COMPUTED),
        "plans": (DISCARD_PLANS, 0),
        "sequences": (DISCARD_SEQUENCES, SEQUENCES),
        "temp": (DISCARD_TEMP, TEMP),
        "temporary": (DISCARD_TEMP, TEMP),
    }
)
_SPECIAL = Words(
    {
        "authorization": Reading.set_authorization,
        "catalog": Reading.set_nothing,
        "characteristics": Reading.set_characteristics,
        "constraints": Reading.set_nothing,
        "names": Reading.set_names,
        "role": Reading.set_role,
        "schema": Reading.set_schema,
        "session": Reading.set_session,
        "time": Reading.set_time_zone,
        "transaction": Reading.set_nothing,
        "xml": Reading.set_xml_option,
    }
)
_COMMANDS = Words(
    {
        "call": Reading.call,
        "close": Reading.close,
        "create": Reading.create,
        "deallocate": Reading.deallocate,
        "declare": Reading.declare,
        "discard": Reading.discard,
        "do": Reading.do,
        "drop": Reading.drop,
        "execute": Reading.execute,
        "explain": Reading.explain,
        "listen": Reading.listen,
        "load": Reading.load,
        "prepare": Reading.prepare,
        "reset": Reading.reset,
        "set": Reading.set,
        "unlisten": Reading.unlisten,
    }
)
