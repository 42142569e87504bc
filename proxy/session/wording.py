"""A statement as it may be shown in a log: without the values in it."""

from __future__ import annotations

from hashlib import blake2s

from proxy.session.tokens import Tokens

LONGEST = 1000


def normalised(text: bytes, backslashes: bool = False, wide: int = 0) -> str:
    """The statement with ? for constants, without comments, at most 1,000 characters.

    White space between tokens is one space, what cannot be printed is a question mark too.
    """
    tokens = Tokens(text, backslashes, wide)
    parts: list[str] = []
    size = 0
    while size < LONGEST and tokens.advance():
        part = " " if parts and tokens.start > tokens.last else ""
        part += "?" if tokens.constant() else tokens.shown(LONGEST)
        parts.append(part)
        size += len(part)
    return "".join(c if c.isprintable() else "?" for c in "".join(parts))[:LONGEST]


def digest(text: str) -> str:
    """16 characters that stand for a normalised statement, the same in every process."""
    return blake2s(text.encode("utf-8", "replace"), digest_size=8).hexdigest()
