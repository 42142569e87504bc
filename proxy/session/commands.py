"""Commands that are known by their first words, where no more of the text need be read."""

from __future__ import annotations

import re

_AHEAD = rb"(?>[\s(;]|--[^\n\r]*+[\n\r]|/\*(?>[^*]|\*(?!/))*+\*/)*+"
"""What may stand in front of a command's first word; comments in comments are not looked into."""

_FIRST = re.compile(_AHEAD + rb"([A-Za-z]++)")
_ANALYSED = frozenset(
    b"select with insert update delete merge values table explain declare call".split()
)
"""What is read in full when it is prepared. Other commands are when they run."""
_CREATES = re.compile(
    rb"create\s+(?:(?:global|local|temp|temporary|unlogged)\s+)*+(?:table|materialized)\b",
    re.IGNORECASE,
)


def is_analysed(text: bytes) -> bool:
    """Whether it is read when it is prepared; comments in comments are not looked into."""
    first = _FIRST.match(text)
    if first is None:
        return b"/*" in text
    ahead = text[: first.start(1)]
    if ahead.count(b"/*") != ahead.count(b"*/"):
        return True
    return first[1].lower() in _ANALYSED or _CREATES.match(text, first.start(1)) is not None


_DEFINING = re.compile(
    rb"\balter\b|\bcreate\b(?!\s+(?:(?:local\s+|global\s+)?temp|(?:unlogged|table|index|sequence)\b))",
    re.IGNORECASE,
)
_VACATES = re.compile(
    _AHEAD + rb"(?:drop\s+database\s+(?:if\s+exists\s+)?"
    rb"|create\s+database\s+(?:\"[^\"]+\"|[^\s\"]+)\s(?>[^\0]*?\btemplate\s*)=?\s*)"
    rb"(\"[^\"\0]+\"|'[^'\0]+'|[^\s\"';()\0]+)",
    re.IGNORECASE,
)
_ALONE = re.compile(
    _AHEAD + rb"(?:vacuum|reindex|cluster|analyze|create\s+(?:unique\s+)?index|drop\s+index)\b",
    re.IGNORECASE,
)

_DROPS = re.compile(_AHEAD + rb"drop\b[^;\0]*+;?\s*+(?:\0|$)", re.IGNORECASE)


def defining(text: bytes) -> bool:
    """Whether code out of sight may run DDL, whose outcome no CommandComplete tells.

    But for what is harmless and frequent there (`proxy.session.catalog.changes_routines`).
    """
    lower = text.lower()
    return (b"create" in lower or b"alter" in lower) and _DEFINING.search(lower) is not None


def runs_alone(text: bytes) -> bool:
    """Whether the text may be a command that is not to be in a transaction with others."""
    return _ALONE.match(text) is not None


def only_drops(text: bytes) -> bool:
    """Whether the text is one DROP: it makes nothing."""
    return _DROPS.match(text) is not None


def vacates(text: bytes) -> str:
    """The database that a text drops or copies; empty where it does no such thing."""
    found = _VACATES.match(text)
    if found is None:
        return ""
    name = found[1].decode("utf-8", "replace")
    return name[1:-1] if name[0] in "\"'" else name.lower()


_MAKES = re.compile(rb"\b(?:create|into)\b", re.IGNORECASE)
_LEADS = re.compile(
    rb"\s*+(?:set\s++(?:local\s++|session\s++)?search_path\s*+(?:=|to\b)[^;()$&\\\0]*+"
    rb"|select\s++(?:pg_catalog\.)?set_config\s*+\(\s*+'search_path'\s*+,"
    rb"\s*+(?:'[^'$\\\0]*+'|\$1)(?>\s*::\s*text)?\s*+,\s*+(?:true|false)\s*+\))"
    rb"\s*+;?\s*+(?:\0[^$]*+)?\Z",
    re.IGNORECASE,
)


def makes_in_sight(text: bytes) -> bool:
    """Whether a text that may make tables may do so by itself, not by code that it calls alone."""
    return _MAKES.search(text) is not None


def leads_by_itself(text: bytes) -> bool:
    """Whether a text that sets search_path, with the values behind its NUL, says where it leads:
    to the same for all who say so."""
    return _LEADS.match(text) is not None
