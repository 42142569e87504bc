"""Passwords as bytes: SASLprep (RFC 4013) with the leniency of Postgres.

Postgres checks the characters before normalisation and, where a password is not preppable
(prohibited characters, no valid UTF-8), goes on with its raw bytes: see "SCRAM-SHA-256
Authentication" in its protocol documentation.
"""

from __future__ import annotations

import stringprep
import unicodedata

_PROHIBITED = (
    stringprep.in_table_a1,
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def to_bytes(text: str) -> bytes:
    """UTF-8; bytes that were none when the text was decoded (surrogateescape) come back as is."""
    return text.encode("utf-8", "surrogateescape")


def to_text(raw: bytes) -> str:
    """The inverse of `to_bytes`."""
    return raw.decode("utf-8", "surrogateescape")


def prepared(password: str) -> bytes:
    """The bytes that a SCRAM key is derived from."""
    if password.isascii():
        return password.encode("ascii")
    mapped = _mapped(password)
    if not mapped or _is_prohibited(mapped) or _mixes_directions(mapped):
        return to_bytes(password)
    return to_bytes(unicodedata.normalize("NFKC", mapped))


def _mapped(text: str) -> str:
    spaced = (" " if stringprep.in_table_c12(char) else char for char in text)
    return "".join(char for char in spaced if not stringprep.in_table_b1(char))


def _is_prohibited(text: str) -> bool:
    return any(prohibits(char) for char in text for prohibits in _PROHIBITED)


def _mixes_directions(text: str) -> bool:
    """RFC 3454, section 6: right-to-left text holds nothing else and spans the whole string."""
    if not any(map(stringprep.in_table_d1, text)):
        return False
    if any(map(stringprep.in_table_d2, text)):
        return True
    return not (stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1]))
