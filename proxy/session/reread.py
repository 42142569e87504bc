"""Prepared anew under the parameters of its Parse: what a text's constants were read under.

Postgres reads the constants of a statement when it is prepared: `timestamptz '2020-01-01'` under
the time zone of then. Where another server prepares it, under other parameters, these are set for
that one moment, in front of the Parse, and put back behind it. What they were is kept by the server
itself, so nothing need be known of what else is under way; all of it ends with the transaction.

Postgres looks up names anew whenever search_path has changed since, and reads constants anew with
them (source: PostgreSQL documentation, "PREPARE"): such a text is read under the parameters of now.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from proxy.session.commands import is_analysed
from proxy.session.parameters import FORGET_PLANS, READ_UNDER, Meaning, quote
from proxy.wire import messages

_PIECES = re.compile(rb"""'[^']*+'|"[^"]*+"|--[^\n\r]*+|/\*|\$(?:[A-Za-z_\x80-\xff]\w*+)?\$""")
_READ_SOMEHOW = re.compile(
    rb"[0-9\\<]|\b(?:allballs|midnight|noon|null|now|today|tomorrow|yesterday)\b", re.IGNORECASE
)

_MOMENTS = re.compile(rb"\b(?:now|today|tomorrow|yesterday)\b", re.IGNORECASE)
_UNCALLED = re.compile(_MOMENTS.pattern + rb"(?!\s*\()|'\s*now\b", re.IGNORECASE)
"""The same where more than constants are looked into: now() is the function, but for `'now()'`."""

_WORDS = re.compile(rb"=\s*null\b|\bnull\s*=|\bxml", re.IGNORECASE)
"""`= NULL`, where transform_null_equals counts, and XML, where a document may be wanted."""

_LONG = 100_000
"""Bytes of a text that is taken to have some."""

_NAME = b"pgfunnel_reading"
_ALL = tuple(sorted(READ_UNDER))


def has_constants(text: bytes) -> bool:
    """Whether the text may have constants that are read otherwise under other parameters.

    Dates, times, amounts of money and the like have digits, or are one of few words. What is not
    ASCII depends on client_encoding.
    """
    if not is_analysed(text):
        return False
    if len(text) > _LONG or not text.isascii():
        return True
    constants = _constants(text)
    if _READ_SOMEHOW.search(text if constants is None else constants):
        return True
    return _WORDS.search(text) is not None


def is_of_its_moment(text: bytes) -> bool:
    """Whether it may have a constant such as 'now' or 'today', which stands for the time of its
    Parse (source: PostgreSQL documentation, "Date/Time Types", "Special Values")."""
    if _MOMENTS.search(text) is None:
        return False
    constants = None if len(text) > _LONG else _constants(text)
    if constants is None:
        return _UNCALLED.search(text) is not None
    return _MOMENTS.search(constants) is not None


def _constants(text: bytes) -> bytes | None:
    """The constants of a text that has nothing but plain ones."""
    pieces = _PIECES.findall(text)
    if b"/*" in pieces or any(piece[:1] == b"$" for piece in pieces):
        return None
    return b" ".join(piece for piece in pieces if piece[:1] == b"'")


@lru_cache(maxsize=4096)
def looks_up_anew(then: Meaning, now: Meaning, default: str) -> bool:
    """Whether Postgres itself reads a text anew that was read under `then`.

    `default`: the search_path of who has set none. Where nobody can tell it does so all the same.
    """
    return _path(then, default) != _path(now, default)


LEXICAL = frozenset({"client_encoding", "standard_conforming_strings"})
"""Parameters that count when a text is first read, and not where Postgres reads it anew: it keeps
what it has made of the characters (CachedPlanSource.raw_parse_tree)."""


@lru_cache(maxsize=4096)
def read_anew(then: Meaning, now: Meaning) -> Meaning:
    """What Postgres reads a text under that it has read under `then`, and reads anew now."""
    kept = [item for item in then if item[0] in LEXICAL]
    return tuple(sorted([*kept, *(item for item in now if item[0] not in LEXICAL)]))


def _path(meaning: Meaning, default: str) -> list[str]:
    """The schemas of search_path, without that of the user, which mostly does not exist."""
    path = dict(meaning).get("search_path", default)
    names = [name.strip() for name in path.split(",")]
    return [name for name in names if name != '"$user"']


@lru_cache(maxsize=1024)
def way(then: Meaning, now: Meaning | None) -> tuple[bytes, bytes]:
    """Messages to send in front of a Parse, and behind it, so that it reads as under `then`.

    `now`: what the server is set to, None where that is not known. Empty where nothing differs.
    Each is one query (see `_query`).
    """
    there, here = dict(then), {} if now is None else dict(now)
    names = [n for n in _ALL if now is None or there.get(n) != here.get(n)]
    if not names:
        return b"", b""
    if "search_path" not in names:
        names.append("search_path")  # SET LOCAL may have changed it
    keep = [_set(f"pgfunnel.{name}", _current(name)) for name in names]
    read = [_set(n, quote(there[n]) if n in there else "NULL") for n in names]
    back = [_set(name, _current(f"pgfunnel.{name}")) for name in names]
    return _run([*keep, *read]), _run(back)


def meaning(row: Sequence[bytes | None]) -> Meaning:
    """What the row of TELL says."""
    told = zip(_ALL, row, strict=True)
    return tuple((name, (value or b"").decode("utf-8", "replace")) for name, value in told)


def _current(name: str) -> str:
    return f"pg_catalog.current_setting('{name}')"


def _set(name: str, value: str) -> str:
    return f"pg_catalog.set_config('{name}',{value},true)"


def _run(calls: Iterable[str]) -> bytes:
    """A query without a row, in the transaction of what comes behind it."""
    return _query(f"SELECT WHERE pg_catalog.concat({','.join(calls)}) IS NULL")


def _query(sql: str) -> bytes:
    """A Close, Parse, Bind, Execute, and a Close of the portal and of the statement."""
    return b"".join(
        (
            messages.close_statement(_NAME),
            messages.parse(_NAME, sql.encode() + b"\0\0\0"),
            messages.bind(_NAME, _NAME),
            messages.execute(_NAME),
            messages.close_portal(_NAME),
            messages.close_statement(_NAME),
        )
    )


TELL = _query("SELECT " + ",".join(map(_current, _ALL)))
"""A query whose row says what a Parse behind it is read under (`meaning`)."""

FORGET = _query(FORGET_PLANS.decode())
