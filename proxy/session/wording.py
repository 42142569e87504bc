"""A statement as it may be shown in a log: without the values in it."""

from __future__ import annotations

from hashlib import blake2s
from itertools import takewhile

from proxy.session.lexer import ONE, TWO, TWO_BUT_KANA
from proxy.session.tokens import Statements

LONGEST = 1000
_CUT = "?…"


def normalised(text: bytes, wide: int | None = ONE) -> str:
    """The statement with ? for constants, without comments, at most 1,000 characters.

    White space between tokens is one space, what cannot be printed is a question mark too. `wide`:
    `proxy.session.lexer.width` of its client_encoding, None where that is not known. What would be
    another constant if standard_conforming_strings (or the unknown encoding) were another is not
    shown, nor is what stands behind it.
    """
    modes = (False, True) if b"\\" in text else (False,)
    widths = (ONE, TWO, TWO_BUT_KANA) if wide is None and not text.isascii() else (wide or ONE,)
    readings = {_read(text, backslashes, width) for backslashes in modes for width in widths}
    alike = takewhile(lambda letters: len(set(letters)) == 1, zip(*readings, strict=False))
    shown = "".join(letters[0] for letters in alike)
    return shown if len(readings) == 1 else shown[: LONGEST - len(_CUT)] + _CUT


def _read(text: bytes, backslashes: bool, wide: int) -> str:
    """In a SET, and in what may have one, words behind = or TO are values, too."""
    tokens = Statements(text, backslashes, wide)
    parts: list[str] = []
    size = 0
    may_set = sets = value = False
    while size < LONGEST and tokens.advance():
        word = tokens.shown(LONGEST)
        plain = word.lower()
        if tokens.first:
            sets = value = False
            may_set = plain in ("set", "alter", "create")
        sets = sets or (may_set and plain == "set")
        part = " " if parts and tokens.start > tokens.last else ""
        hidden = tokens.constant() or (value and tokens.name() is not None)
        part += "?" if hidden else word
        value = value or (sets and plain in ("=", "to"))
        parts.append(part)
        size += len(part)
    return "".join(c if c.isprintable() else "?" for c in "".join(parts))[:LONGEST]


def digest(text: str) -> str:
    """16 characters that stand for a normalised statement, the same in every process."""
    return blake2s(text.encode("utf-8", "replace"), digest_size=8).hexdigest()
