# cython: boundscheck=False, wraparound=False
"""Names of a database that stand for code which may change a session: see `proxy.session.catalog`.

A statement that has one of them in it, outside of comments and constants, may do what that code
may do, besides what its own text says.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from typing import Any

import cython

from proxy.conditions import TEMP
from proxy.session.findings import CREATES, NOTHING, TEMPORARIES, Verdict
from proxy.session.identifiers import LONGEST_NAME
from proxy.session.lexer import masked
from proxy.session.verdict import verdict

if cython.compiled:
    from cython.cimports.cpython.array import array as carray
    from cython.cimports.cpython.bytearray import PyByteArray_AS_STRING
    from cython.cimports.proxy.session.lexer import KIND, QUOTED, UNICODE, WORD, step
    from cython.cimports.proxy.session.tokens import Statements
else:
    from proxy.session.lexer import KIND, QUOTED, UNICODE, WORD, step
    from proxy.session.tokens import Statements

_SWEEPING = ("analyse", "analyze", "cluster", "reindex", "vacuum")
"""Commands that run the expressions of indexes and statistics without naming them."""

ANY_TEXT = ""
"""In place of a name: whatever the text is, since operators and casts need no name in it."""

_DEFINES = Verdict(defines=True)

_MOST_KEPT = 1000
_LONGEST_KEPT = 16 << 10


def _hash(name: bytes) -> int:
    """As `_hashed`."""
    total = 0
    for code in name[:LONGEST_NAME]:
        total = (total * 31 + (code | 32)) & 0x7FFFFFFF
    return total


@cython.cclass
class Routines:
    """`by_name`: what using the name may do to the session, besides what the text says."""

    by_name: Mapping[str, Verdict]
    _always: Verdict

    def __init__(self, by_name: Mapping[str, Verdict]) -> None:
        self.by_name = by_name
        self._always = by_name.get(ANY_TEXT, NOTHING)
        self._foreign = _all(said for name, said in by_name.items() if not name.isascii())
        self._by_word = dict.fromkeys(_SWEEPING, _all(by_name.values()))
        self._kept: dict[tuple[bytes, bool, int], Verdict] = {}
        size = 64
        names = [*by_name, *_SWEEPING]
        while size < 4 * len(names):
            size *= 2
        self._mask = size - 1
        self._slots = array("I", bytes(4 * size))
        for name in names:
            self._enter(_hash(name.replace('"', '""').encode("utf-8", "surrogateescape")))
        if cython.compiled:
            self._table = cython.cast(carray, self._slots).data.as_uints
        else:
            self._table = self._slots

    def _enter(self, value: int) -> None:
        """An open hash table: a name's hash stands in the slot it leads to or behind it."""
        slot = value & self._mask
        while self._slots[slot]:
            slot = (slot + 1) & self._mask
        self._slots[slot] = value

    @cython.ccall
    def named(
        self,
        buffer: bytearray,
        at: cython.Py_ssize_t,
        end: cython.Py_ssize_t,
        backslashes: cython.bint,
        wide: cython.int,
    ) -> cython.bint:
        """Whether one of the names may stand in buffer[at:end], the text of a Query or Parse."""
        if self._always is not NOTHING:
            return True
        if wide:
            buffer = bytearray(masked(bytes(buffer[at:end]), wide))
            at, end = 0, len(buffer)
        p: cython.p_uchar
        if cython.compiled:
            p = cython.cast(cython.p_uchar, PyByteArray_AS_STRING(buffer))
        else:
            p = buffer
        while at < end:
            stop: cython.Py_ssize_t = step(p, at, end, backslashes)
            if self._may_be(p, stop & KIND, at, stop >> 3):
                return True
            at = stop >> 3
        return False

    def _may_be(
        self, p: cython.p_uchar, kind: cython.int, at: cython.Py_ssize_t, stop: cython.Py_ssize_t
    ) -> cython.bint:
        """Whether the token p[at:stop] may be one of the names."""
        if kind != WORD and kind != QUOTED:
            return kind == UNICODE
        quotes: cython.Py_ssize_t = kind == QUOTED
        if _listed(self._table, self._mask, _hashed(p, at + quotes, stop - quotes)):
            return True
        return self._foreign is not NOTHING and not _ascii(p, at, stop)

    def verdict(self, text: bytes, backslashes: bool = False, wide: int = 0) -> Verdict:
        """What the text may do, by itself and by the names in it."""
        key = (text, backslashes, wide)
        known = self._kept.get(key)
        if known is None:
            known = self._read(text, backslashes, wide)
            if len(self._kept) >= _MOST_KEPT:
                self._kept.clear()
            if len(text) <= _LONGEST_KEPT:
                self._kept[key] = known
        return known

    def _read(self, text: bytes, backslashes: bool, wide: int) -> Verdict:
        own: Verdict = verdict(text, backslashes, wide)
        # A DO has its names in a string.
        if b"do" not in text.lower() and not self.named(
            bytearray(text), 0, len(text), backslashes, wide
        ):
            return own
        called: list[Verdict] = []
        self._find(Statements(text, backslashes, wide), called)
        return joined([own, self._always, *called])

    def _find(self, tokens: Statements, called: list[Verdict]) -> object:
        """Note of each name what it may do, in the bodies of DO too."""
        inside: cython.bint = False
        while tokens.advance():
            inside = tokens.says(b"do") if tokens.first else inside
            body: Any = tokens.literal() if inside else None
            if body is not None:
                self._find(Statements(body, tokens.backslashes, tokens.wide), called)
            if _makes_table(tokens):
                called.append(_DEFINES)
            if self._may_be(tokens.p, tokens.kind, tokens.start, tokens.stop):
                called.extend(self._said(tokens.name()))
        return None

    def _said(self, name: str | None) -> list[Verdict]:
        if name is None:
            return []
        if name.isascii():
            return [self.by_name.get(name, NOTHING), self._by_word.get(name, NOTHING)]
        # It may be one of those in another encoding.
        return [self.by_name.get(name, self._foreign)]


def joined(verdicts: Iterable[Verdict]) -> Verdict:
    """What the first text may do, and what code may do that it calls: the other verdicts.

    What only such code may do that nobody can read is `unseen`.
    """
    own, *others = dict.fromkeys(verdicts)
    others = [other for other in others if other is not NOTHING]
    if not others:
        return own
    everything = [own, *others]
    plain = [own, *(other for other in others if not other.opaque)]
    called = _union(other.makes for other in others)
    unseen = called & ~_union(said.makes for said in plain)
    builds = own.does & CREATES and called & ~TEMP
    return Verdict(
        makes=_union(said.makes for said in everything),
        clears=_union(said.clears for said in everything),
        names=tuple(dict.fromkeys(name for said in everything for name in said.names)),
        resets=tuple(dict.fromkeys(name for said in everything for name in said.resets)),
        everything=any(said.everything for said in everything),
        prepared=own.prepared,
        does=own.does | (_union(said.does for said in others) & (CREATES | TEMPORARIES)),
        opaque=any(said.opaque for said in everything),
        unseen=unseen | own.unseen,
        defines=bool(builds) or any(said.defines for said in everything),
        leaves=tuple(dict.fromkeys(name for said in everything for name in said.leaves)),
        locally=tuple(dict.fromkeys(name for said in everything for name in said.locally)),
        elsewhere=any(said.elsewhere for said in everything),
    )


def _makes_table(tokens: Statements) -> cython.bint:
    """SELECT INTO, or what EXPLAIN ANALYZE runs: no CommandComplete says that it made one."""
    if tokens.says(b"into"):
        return not (tokens.before(b"insert") or tokens.before(b"merge"))
    return tokens.says(b"create") and not tokens.first


def _all(verdicts: Iterable[Verdict]) -> Verdict:
    return joined([NOTHING, *verdicts])


def _union(masks: Iterable[int]) -> int:
    total = 0
    for mask in masks:
        total |= mask
    return total


def _listed(slots: cython.p_uint, mask: cython.uint, value: cython.uint) -> cython.bint:
    slot: cython.uint = value & mask
    while slots[slot]:
        if slots[slot] == value:
            return True
        slot = (slot + 1) & mask
    return False


def _ascii(p: cython.p_uchar, at: cython.Py_ssize_t, stop: cython.Py_ssize_t) -> cython.bint:
    while at < stop:
        if p[at] > 127:
            return False
        at += 1
    return True


def _hashed(p: cython.p_uchar, at: cython.Py_ssize_t, stop: cython.Py_ssize_t) -> cython.uint:
    """Of a name, letters in lower case; no more of it counts than Postgres reads."""
    total: cython.uint = 0
    stop = min(stop, at + 63)
    while at < stop:
        total = (total * 31 + (p[at] | 32)) & 0x7FFFFFFF
        at += 1
    return total
