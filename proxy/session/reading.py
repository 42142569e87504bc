"""Reads a text for what it means to the session: commands by their first words, and calls.

A command is one only at the beginning of a statement, a function wherever an opening parenthesis
follows its name. The grammar is that of PostgreSQL's documentation, "SQL Commands".
"""

from __future__ import annotations

import re
from collections.abc import Callable

from proxy.conditions import (
    ADVISORY,
    ANYTHING,
    HOLD,
    LISTEN,
    LOAD,
    PARAMETERS,
    PREPARED,
    SEED,
    SEQUENCES,
    TEMP,
)
from proxy.session import findings
from proxy.session.findings import Findings, Piece
from proxy.session.glance import LOCKS, RUNNERS, UNLOCKS
from proxy.session.tokens import Tokens

# More than so many words that may matter are not read: the text may then do anything.
MANY = 1000
_DEEPEST_BODY = 3
_LONGEST_CALL, _LONGEST_HEAD = 32, 16
_TRUE = (b"t", b"true", b"y", b"yes", b"on", b"1")
# Of conditions outside of ANYTHING: how they look in what is not read.
_HINTS = (
    (LOAD, re.compile(rb"\bload\s+'", re.IGNORECASE)),
    (SEED, re.compile(rb"\b(?:set)?seed\b", re.IGNORECASE)),
    (SEQUENCES, re.compile(rb"\b(?:curr|last)val\b", re.IGNORECASE)),
)

Argument = list[str | bytes | None]


class Reading:
    """One pass over a text, or over the body of a DO in it; what it finds goes to `found`."""

    def __init__(self, tokens: Tokens, found: Findings, depth: int = 0) -> None:
        self.tokens = tokens
        self.found = found
        self.depth = depth
        self.left = MANY
        self.drops = False
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

    # Words that count anywhere

    def notice(self) -> None:
        """The token is a name that may matter, or stands behind a command's first words."""
        tokens = self.tokens
        word = tokens.word()
        self.left -= 1
        if self.left <= 0:
            return
        if word == "temp" or word == "temporary":
            self.temporary()
        if word == "execute" and tokens.body:
            self.unreadable()
        name = word or tokens.name() or ""
        call = _CALLS.get(name)
        if call is not None:
            if tokens.called():
                call(self, name)
        elif name == "pg_temp" or name.startswith("pg_temp_"):
            self.found.makes |= TEMP
        elif name == "pg_settings" and b"update" in tokens.raw[: tokens.start].lower():
            self.found.unknown()  # a rule makes it set_config

    def temporary(self) -> None:
        """CREATE TEMP, CREATE OR REPLACE TEMP, SELECT INTO TEMP; not INSERT INTO temp."""
        earlier, before = self.tokens.before()
        if before in ("local", "global"):
            earlier, before = "", earlier
        creates = before in ("create", "replace") or (
            before == "into" and earlier not in ("insert", "merge")
        )
        if creates and not self.drops:
            self.found.makes |= TEMP

    def unreadable(self) -> None:
        """Dynamic SQL, or too much of it all."""
        self.found.anything()
        for condition, hint in _HINTS:
            if hint.search(self.tokens.raw):
                self.found.makes |= condition

    # Functions

    def call_lock(self, name: str) -> None:
        self.found.makes |= ADVISORY

    def call_unlock(self, name: str) -> None:
        self.found.clears |= ADVISORY
        if name == "pg_advisory_unlock_all":
            self.found.does |= findings.UNLOCK_ALL

    def call_sequence(self, name: str) -> None:
        self.found.makes |= SEQUENCES

    def call_seed(self, name: str) -> None:
        self.found.makes |= SEED

    def call_runner(self, name: str) -> None:
        self.unreadable()

    def call_set_config(self, name: str) -> None:
        arguments = self.arguments()
        parameter = value = local = None
        if len(arguments) == 3:
            parameter, value, local = map(_constant, arguments)
        if local in (*_TRUE, "true"):
            return
        if not isinstance(parameter, bytes):
            self.found.unknown()
            return
        setting = parameter.lower().decode("utf-8", "surrogateescape")
        if value != "null":
            self.found.change(setting)
        if not isinstance(value, bytes):
            self.found.change(setting, reset=True)

    def arguments(self) -> list[Argument]:
        """Of the call that is next: bytes for a constant, text for a word, None for others."""
        tokens = self.tokens.ahead()
        tokens.advance()
        depth = 1
        arguments: list[Argument] = [[]]
        for _ in range(_LONGEST_CALL):
            tokens.advance()
            word = tokens.word()
            depth += (word == "(") - (word == ")")
            if depth == 0:
                return arguments
            if word == "," and depth == 1:
                arguments.append([])
            else:
                arguments[-1].append(word or tokens.literal())
        return []

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


def _constant(argument: Argument) -> str | bytes | None:
    """What the only token of an argument is, a cast behind it aside."""
    if len(argument) == 1 or (len(argument) == 4 and argument[1:3] == [":", ":"]):
        return argument[0]
    return None


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
_CALLS: dict[str, Callable[[Reading, str], None]] = {
    "currval": Reading.call_sequence,
    "lastval": Reading.call_sequence,
    "set_config": Reading.call_set_config,
    "setseed": Reading.call_seed,
    **dict.fromkeys(LOCKS, Reading.call_lock),
    **dict.fromkeys(RUNNERS, Reading.call_runner),
    **dict.fromkeys(UNLOCKS, Reading.call_unlock),
}
