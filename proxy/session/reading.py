"""Reads a text for what it means to the session: commands by their first words, and calls.

A command is one only at the beginning of a statement. The grammar is that of PostgreSQL's
documentation, "SQL Commands".
"""

from __future__ import annotations

from collections.abc import Callable

from proxy.conditions import (
    ANYTHING,
    HOLD,
    LISTEN,
    LOAD,
    PARAMETERS,
    PREPARED,
    SEQUENCES,
    TEMP,
)
from proxy.session import findings
from proxy.session.calls import Calls
from proxy.session.findings import Findings, Piece
from proxy.session.tokens import Tokens

_DEEPEST_BODY = 3
_LONGEST_HEAD = 16


class Reading(Calls):
    """One pass over a text, or over the body of a DO in it; what it finds goes to `found`."""

    def __init__(self, tokens: Tokens, found: Findings, depth: int = 0) -> None:
        super().__init__(tokens, found)
        self.depth = depth
        self.pending: tuple[str, str | None, int, int] | None = None

    def run(self) -> None:
        while self.left > 0 and self.tokens.seek():
            command = _COMMANDS.get(self.tokens.word()) if self.tokens.first else None
            if command is None:
                self.notice()
            else:
                self.statement(command)
        if self.left <= 0:
            self.unreadable()

    def statement(self, command: Callable[[Reading], None]) -> None:
        tokens = self.tokens
        begun = tokens.begun
        self.left -= 1
        tokens.advance()
        command(self)
        while not tokens.over():
            self.notice()
            tokens.skim()
        self.drops = False
        if self.pending is not None:
            verb, name, at, to = self.pending
            self.pending = None
            self.found.prepared.append(Piece(verb, name, begun, tokens.last, at, to))

    # Parameters

    def assigned(self) -> bool:
        """Whether this word is a parameter's name: a dot, an equals sign or TO follows."""
        ahead = self.tokens.ahead()
        ahead.advance()
        return ahead.word() in (".", "=", "to", "from")

    def parameter(self) -> str | None:
        """The parameter's name, with its dots; moves behind it."""
        parts = []
        while (part := self.tokens.name()) is not None:
            parts.append(part)
            self.tokens.advance()
            if self.tokens.word() != ".":
                return ".".join(parts).lower()
            self.tokens.advance()
        return None

    def to_default(self, *words: str) -> bool:
        return self.tokens.over() or self.tokens.word() in ("default", *words)

    def set(self) -> None:
        self.temporary_path()
        tokens = self.tokens
        scope = tokens.word()
        if scope in ("local", "session") and not self.assigned():
            if scope == "local":
                return
            tokens.advance()
        special = _SPECIAL.get(tokens.word())
        if special is not None and not self.assigned():
            tokens.advance()
            special(self)
            return
        name = self.parameter()
        tokens.advance()
        if name is not None:
            self.found.change(name, reset=self.to_default())

    def set_nothing(self) -> None:
        """SET TRANSACTION, SET CONSTRAINTS: they end with the transaction."""

    def set_time_zone(self) -> None:
        self.tokens.advance()
        self.found.change("timezone", reset=self.to_default("local"))

    def set_names(self) -> None:
        self.found.change("client_encoding", reset=self.to_default())

    def set_role(self) -> None:
        self.found.change("role")

    def set_schema(self) -> None:
        self.found.change("search_path", reset=self.to_default())

    def set_xml_option(self) -> None:
        self.found.change("xmloption")

    def set_session(self) -> None:
        """SET SESSION SESSION AUTHORIZATION."""
        self.tokens.advance()
        self.set_authorization()

    def set_authorization(self) -> None:
        self.found.change("session_authorization", reset=self.to_default())

    def set_characteristics(self) -> None:
        """SET SESSION CHARACTERISTICS AS TRANSACTION: several modes, in any order."""
        for _ in range(2 * _LONGEST_HEAD):
            mode = _MODES.get(self.tokens.word())
            if mode is not None:
                self.found.change(mode)
            if not self.tokens.advance() or self.tokens.over():
                return
        for mode in _MODES.values():
            self.found.change(mode)

    def reset(self) -> None:
        word = self.tokens.word()
        if word == "all":
            self.found.everything = True
            self.found.clears |= PARAMETERS
            self.found.does |= findings.RESET_ALL
        elif word in _RESET_WORDS and not self.assigned():
            self.found.change(_RESET_WORDS[word], reset=True)
        elif (name := self.parameter()) is not None:
            self.found.change(name, reset=True)

    def discard(self) -> None:
        clears, does = _DISCARDS.get(self.tokens.word(), (0, 0))
        self.found.clears |= clears
        self.found.does |= does
        self.found.everything |= does == findings.DISCARD_ALL

    # Prepared statements

    def piece(self, verb: str, tokens: Tokens, name: str | None) -> None:
        self.found.makes |= PREPARED
        if not tokens.body:
            self.pending = verb, name, tokens.start, tokens.stop

    def named_piece(self, verb: str, tokens: Tokens) -> None:
        start = tokens.start
        name = tokens.name()
        if name is None:
            return
        self.piece(verb, tokens, name)
        if self.pending is not None:
            self.pending = verb, name, start, tokens.stop

    def prepare(self) -> None:
        if self.tokens.word() == "transaction":
            ahead = self.tokens.ahead()
            ahead.advance()
            if ahead.literal() is not None or ahead.word() not in ("as", "("):
                return
        self.named_piece("PREPARE", self.tokens)

    def execute(self) -> None:
        if self.tokens.body:
            self.unreadable()
        else:
            self.named_piece("EXECUTE", self.tokens)

    def deallocate(self) -> None:
        tokens = self.tokens
        if tokens.word() == "prepare":
            ahead = tokens.ahead()
            ahead.advance()
            if not ahead.over():
                tokens.advance()
        if tokens.word() == "all":
            self.piece("DEALLOCATE", tokens, None)
            self.found.does |= findings.DEALLOCATE_ALL
        else:
            self.named_piece("DEALLOCATE", tokens)
        self.found.clears |= PREPARED

    def explain(self) -> None:
        ahead = self.tokens.ahead()
        if ahead.word() == "(":
            ahead.past_parentheses()
        while ahead.word() in ("analyze", "analyse", "verbose"):
            ahead.advance()
        word = ahead.word()
        ahead.advance()
        if word == "execute":
            self.named_piece("EXECUTE", ahead)
        elif word == "create":
            self.create_from(ahead)

    def create(self) -> None:
        self.create_from(self.tokens.ahead())

    def create_from(self, ahead: Tokens) -> None:
        """CREATE TABLE .. AS EXECUTE, and temporary tables that go at commit."""
        query = ahead.ahead()
        if ahead.run_to(b"on") and ahead.advance() and ahead.word() == "commit":
            ahead.advance()
            self.drops = ahead.word() == "drop"
        if query.run_to(b"as") and query.advance() and query.word() == "execute":
            query.advance()
            self.named_piece("EXECUTE", query)

    # Other commands

    def listen(self) -> None:
        self.found.makes |= LISTEN

    def unlisten(self) -> None:
        self.found.clears |= LISTEN
        if self.tokens.word() == "*":
            self.found.does |= findings.UNLISTEN_ALL

    def declare(self) -> None:
        ahead = self.tokens.ahead()
        for _ in range(_LONGEST_HEAD):
            if ahead.over() or ahead.word() == "for":
                return
            if ahead.word() == "hold" and ahead.before()[1] == "with":
                self.found.makes |= HOLD
                return
            ahead.advance()
        self.found.makes |= HOLD

    def close(self) -> None:
        self.found.clears |= HOLD
        if self.tokens.word() == "all":
            self.found.does |= findings.CLOSE_ALL

    def load(self) -> None:
        self.found.makes |= LOAD

    def drop(self) -> None:
        self.found.clears |= TEMP

    def call(self) -> None:
        self.found.anything()

    def do(self) -> None:
        """The body is a string; LANGUAGE may stand on either side of it."""
        tokens = self.tokens
        for _ in range(_LONGEST_HEAD):
            if tokens.over():
                return
            if tokens.word() == "language":
                tokens.advance()
                if (tokens.name() or tokens.literal()) not in ("plpgsql", b"plpgsql"):
                    self.found.anything()
            elif not tokens.word():
                self.body(tokens.literal())
            tokens.advance()
        self.found.anything()

    def body(self, text: bytes | None) -> None:
        if text is None or self.depth == _DEEPEST_BODY:
            self.found.anything()
            return
        outer = self.tokens
        inner = Tokens(text, outer.backslashes, outer.wide, True)
        Reading(inner, self.found, self.depth + 1).run()


_MODES = {
    "isolation": "default_transaction_isolation",
    "read": "default_transaction_read_only",
    "deferrable": "default_transaction_deferrable",
}
_RESET_WORDS = {
    "session": "session_authorization",
    "time": "timezone",
    "transaction": "transaction_isolation",
}
_DISCARDS = {
    "all": (ANYTHING | SEQUENCES, findings.DISCARD_ALL),
    "plans": (0, findings.DISCARD_PLANS),
    "sequences": (SEQUENCES, findings.DISCARD_SEQUENCES),
    "temp": (TEMP, findings.DISCARD_TEMP),
    "temporary": (TEMP, findings.DISCARD_TEMP),
}
_SPECIAL: dict[str, Callable[[Reading], None]] = {
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
_COMMANDS: dict[str, Callable[[Reading], None]] = {
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
