"""What counts wherever it stands in a text: functions, and the schema of temporary objects.

A function is one wherever an opening parenthesis follows its name.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from proxy.conditions import ADVISORY, LOAD, SEED, SEQUENCES, TEMP
from proxy.session import findings
from proxy.session.findings import Findings
from proxy.session.glance import LOCKS, RUNNERS, UNLOCKS
from proxy.session.tokens import Tokens

# More than so many words that may matter are not read: the text may then do anything.
MANY = 1000
_LONGEST_CALL = 32
_TRUE = (b"t", b"true", b"y", b"yes", b"on", b"1")
# Of conditions outside of ANYTHING: how they look in what is not read.
_HINTS = (
    (LOAD, re.compile(rb"\bload\s+'", re.IGNORECASE)),
    (SEED, re.compile(rb"\b(?:set)?seed\b", re.IGNORECASE)),
    (SEQUENCES, re.compile(rb"\b(?:curr|last)val\b", re.IGNORECASE)),
)

Argument = list[str | bytes | None]


class Calls:
    """What is found at one token after another goes to `found`.

    `left`: so many more tokens are looked at; `drops`: the statement's temporary table goes at
    commit.
    """

    def __init__(self, tokens: Tokens, found: Findings) -> None:
        self.tokens = tokens
        self.found = found
        self.left = MANY
        self.drops = False

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

    def temporary_path(self) -> None:
        """Where search_path begins with pg_temp, in a constant too, tables are temporary."""
        if b"pg_temp" in self.tokens.raw.lower():
            self.found.makes |= TEMP

    def call_set_config(self, name: str) -> None:
        self.temporary_path()
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


def _constant(argument: Argument) -> str | bytes | None:
    """What the only token of an argument is, a cast behind it aside."""
    if len(argument) == 1 or (len(argument) == 4 and argument[1:3] == [":", ":"]):
        return argument[0]
    return None


_CALLS: dict[str, Callable[[Calls, str], None]] = {
    "currval": Calls.call_sequence,
    "lastval": Calls.call_sequence,
    "set_config": Calls.call_set_config,
    "setseed": Calls.call_seed,
    **dict.fromkeys(LOCKS, Calls.call_lock),
    **dict.fromkeys(RUNNERS, Calls.call_runner),
    **dict.fromkeys(UNLOCKS, Calls.call_unlock),
}
