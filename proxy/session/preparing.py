"""Statements that a client makes by PREPARE: what their texts were read under, and stand-ins.

Postgres does not tell under which parameters a PREPARE has read its text. They are known where
nothing else was under way: then they are what they were before, or, in a transaction, what they
are when it is done. Elsewhere the client keeps its server.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet

from proxy.session.findings import Verdict
from proxy.session.parameters import Meaning, Prepared, has_meaning, quote_name
from proxy.session.verdict import verdict

_MOST = 1 << 20
"""Bytes of statements that are prepared anew for one client; more are a pin."""

_MOVES = re.compile(
    rb"\b(?:local|set_config|discard|commit|end|rollback|abort|prepare\s+transaction"
    rb"|do|call|fetch|move|constraints)\b",
    re.IGNORECASE,
)
"""What may change parameters beside SET and RESET, go on with what may, or end a transaction and so
undo that."""

Judge = Callable[[bytes], Verdict]
"""Tells what a text may do, the database's own functions in it, too."""

_UNPREPARED = "pgfunnel_unprepared_"


class Readings:
    """What PREPARE has read texts under since the last boundary.

    `under`: by the name that it gives, None where nobody can tell; `open`: names of which the
    server can tell as long as the transaction is open, and whether nothing else was under way.
    """

    __slots__ = ("_freed", "open", "under")

    def __init__(self) -> None:
        self.under: dict[str, Meaning | None] = {}
        self.open: dict[str, bool] = {}
        self._freed: set[str] = set()

    def note(
        self,
        said: Verdict,
        text: bytes,
        known: AbstractSet[str],
        meaning: Meaning | None,
        quiet: bool,
        judge: Judge,
    ) -> None:
        """A text is on its way. `known`: the names that there were at the last boundary;
        `meaning`: what it is read under, None in a transaction or where nobody can tell; `quiet`:
        nothing else is under way."""
        still = _leaves_meaning(text, said, judge)
        for piece in said.prepared:
            name = piece.name or ""
            if piece.verb == "DEALLOCATE":
                self._freed.update([name] if name else [*known, *self.under])
            elif piece.verb == "PREPARE" and not self._taken(name, known, quiet):
                self._freed.discard(name)
                self.under[name] = meaning if still and quiet else None
                if still and self.under[name] is None:
                    self.open[name] = quiet

    def _taken(self, name: str, known: AbstractSet[str], quiet: bool) -> bool:
        """Whether there is a statement of that name, so that PREPARE will fail."""
        if name in self._freed:
            return False
        return name in known or (quiet and self.under.get(name) is not None)

    def spoil(self) -> None:
        """Nobody can tell of any of them."""
        self.under = dict.fromkeys(self.under)
        self.open.clear()

    def told(self, now: Meaning | None, before: Meaning) -> None:
        """The server has told what it reads texts under `now`, in the open transaction.

        None: it could not. `before`: what it was at the last boundary.
        """
        for name, quiet in self.open.items():
            if now is not None and (quiet or now == before):
                self.under[name] = now
        self.open.clear()


NOTHING_READ = Readings()


def made(
    sources: Mapping[str, str], known: Mapping[str, Prepared], readings: Readings, backslashes: bool
) -> dict[str, Prepared]:
    """Of the statements that the server has, those that can be prepared elsewhere.

    `sources`: the strings that PREPARE came in, by the name that it gave; `backslashes`:
    standard_conforming_strings is off.
    """
    found: dict[str, Prepared] = {}
    size = 0
    for name, source in sources.items():
        own = _made(name, source, known.get(name), readings, backslashes)
        size += 0 if own is None else len(own.text)
        if own is not None and size <= _MOST:
            found[name] = own
    return found


def _made(
    name: str, source: str, before: Prepared | None, readings: Readings, backslashes: bool
) -> Prepared | None:
    if name not in readings.under:
        there = before is not None and (source.endswith(before.text) or is_stand_in(source))
        if there:
            return before
    text = definition(source, name, backslashes)
    if text is None:
        return None
    if name in readings.under:
        meaning = readings.under[name]
        return None if meaning is None else Prepared.under(text, meaning)
    return before if before is not None and before.text == text else None


def definition(source: str, name: str, backslashes: bool = False) -> str | None:
    """The PREPARE of `name` in the string that it came in; None when it is not to be seen there.

    Postgres keeps the whole string that the client sent, and does not tell which of several made
    the statement.
    """
    whole = source.encode()
    said = verdict(whole, backslashes)
    pieces = [p for p in said.prepared if p.verb == "PREPARE" and p.name == name]
    return whole[pieces[0].start : pieces[0].end].decode() if len(pieces) == 1 else None


def stand_in(name: str) -> Prepared:
    """Takes the name of a statement that a server cannot prepare; to execute it fails.

    So the name is taken, may be deallocated, and EXECUTE can be answered with what Postgres would
    say (`stands_for`). Nothing is computed before EXECUTE, since the cast is from text.
    """
    octets = name.encode("utf-8", "surrogateescape").hex()
    fails = f"CAST('{_UNPREPARED}{octets}'::pg_catalog.text AS pg_catalog.int4)"
    return Prepared(f"PREPARE {quote_name(name)} AS SELECT {fails}")


def is_stand_in(source: str) -> bool:
    """Whether a string that PREPARE came in is that of a stand-in."""
    return f"'{_UNPREPARED}" in source


def stands_for(said: str) -> str | None:
    """The name whose stand-in has failed with this message, if it is one's."""
    found = re.search(f'"{_UNPREPARED}([0-9a-f]*)"', said)
    return None if found is None else bytes.fromhex(found[1]).decode("utf-8", "surrogateescape")


def may_move(said: Verdict | None, text: bytes) -> bool:
    """Whether a text may change what texts behind it are read under, or undo what has."""
    return (said is not None and said.stirs()) or _MOVES.search(text) is not None


def _executes_others(said: Verdict) -> bool:
    """Whether the text executes what it has not prepared itself, in front of that."""
    own: set[str | None] = set()
    for piece in said.prepared:
        if piece.verb == "PREPARE":
            own.add(piece.name)
        elif piece.verb == "EXECUTE" and piece.name not in own:
            return True
    return False


def _leaves_meaning(text: bytes, said: Verdict, judge: Judge) -> bool:
    """Whether nothing in the text can change what texts mean, but for what it only prepares."""
    if _executes_others(said):
        return False
    rest = bytearray(text)
    for piece in said.prepared:
        if piece.verb == "PREPARE":
            rest[piece.start : piece.end] = b" " * (piece.end - piece.start)
    if _MOVES.search(rest):
        return False
    if not said.moves(has_meaning) and not said.leads_elsewhere():
        return True
    # Something in it does; where EXECUTE gives a parameter's name, that pins.
    runs = said.everything or any(piece.verb == "EXECUTE" for piece in said.prepared)
    left = judge(bytes(rest))
    return not (runs or left.moves(has_meaning) or left.leads_elsewhere())
