"""What an operator says, as a command and its argument."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from proxy.errors import CommandUnknown

_WORD: Final = r"""("(?:[^"]|"")*"|[^\s;"'=]+)"""
_STRING: Final = r"('(?:[^']|'')*')"
_END: Final = r"\s*(?:;\s*)?"
_COMMAND: Final = re.compile(rf"\s*{_WORD}(?:\s+{_WORD})?{_END}")
_SET: Final = re.compile(
    rf"\s*set\s+{_WORD}(?:\s*=\s*|\s+to\s+)(?:{_WORD}|{_STRING}){_END}", re.IGNORECASE
)


class Said(NamedTuple):
    """`verb` is in upper case; SET has a key and a value, others at most an argument."""

    verb: str
    argument: str = ""
    value: str | None = None


def read(sql: str) -> Said | None:
    """One command; None when nothing was said. Raises CommandUnknown."""
    if not sql.strip(" \t\r\n;"):
        return None
    given = _SET.fullmatch(sql)
    if given is not None:
        return Said("SET", _plain(given[1]).lower(), _plain(given[2] or given[3]))
    command = _COMMAND.fullmatch(sql)
    if command is None:
        raise unknown(sql)
    return Said(_plain(command[1]).upper(), _plain(command[2] or ""))


def unknown(sql: str) -> CommandUnknown:
    return CommandUnknown(f"invalid command '{sql}', use SHOW HELP;")


def _plain(word: str) -> str:
    quote = word[:1]
    if quote not in ('"', "'"):
        return word
    return word[1:-1].replace(quote * 2, quote)
