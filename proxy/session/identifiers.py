"""Identifiers as Postgres reads them (documentation, "Identifiers and Key Words").

Bytes that are not UTF-8 are surrogates.
"""

from __future__ import annotations

import re

LONGEST_NAME = 63
"""NAMEDATALEN - 1."""


def unquoted(inside: bytes) -> str:
    """What is written behind a quotation mark, and the one at its end."""
    return inside.removesuffix(b'"').replace(b'""', b'"').decode("utf-8", "surrogateescape")


def unescaped(name: str, escape: str) -> str:
    """U&"..." without its escapes."""
    sign = re.escape(escape)
    units = re.sub(rf"{sign}(?:({sign})|([0-9A-Fa-f]{{4}})|\+([0-9A-Fa-f]{{6}}))", _character, name)
    return units.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _character(escaped: re.Match[str]) -> str:
    if escaped[1]:
        return escaped[1]
    code = int(escaped[2] or escaped[3], 16)
    return chr(code) if code < 0x110000 else "\ufffd"


def cut(name: str) -> str:
    """The name as far as it counts; no character is cut in two."""
    octets = name.encode("utf-8", "surrogateescape")
    if len(octets) <= LONGEST_NAME:
        return name
    end = LONGEST_NAME
    while end > LONGEST_NAME - 4 and octets[end] & 0xC0 == 0x80:
        end -= 1
    return octets[:end].decode("utf-8", "surrogateescape")
