# cython: boundscheck=False, wraparound=False, nonecheck=False
"""Words of SQL where they stand in a text: compared, looked up and taken out of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cython

if cython.compiled:
    from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize
    from cython.cimports.cpython.unicode import PyUnicode_1BYTE_DATA, PyUnicode_New
    from cython.cimports.libc.string import memcpy
else:
    TOO_LONG = 64
    LOWER_A, UPPER_A, UPPER_Z = b"aAZ"


def same(p: cython.p_uchar, at: cython.Py_ssize_t, word: bytes) -> cython.bint:
    """Whether `word`, written in lower case, stands at `at` in whatever case."""
    size: cython.Py_ssize_t = len(word)
    if cython.compiled:
        w: cython.p_uchar = cython.cast(cython.p_uchar, PyBytes_AS_STRING(word))
        place: cython.Py_ssize_t
        for place in range(size):
            code: cython.int = p[at + place]
            if code != w[place] and (w[place] < LOWER_A or code | 32 != w[place]):
                return False
        return True
    return p[at : at + size].lower() == word


def part(text: bytes, start: cython.Py_ssize_t, stop: cython.Py_ssize_t) -> bytes:
    """text[start:stop]."""
    if cython.compiled:
        return PyBytes_FromStringAndSize(PyBytes_AS_STRING(text) + start, stop - start)
    return text[start:stop]


def lowered(text: bytes, start: cython.Py_ssize_t, stop: cython.Py_ssize_t) -> str:
    """text[start:stop], ASCII letters in lower case, bytes that are not UTF-8 as surrogates."""
    if cython.compiled:
        p: cython.p_uchar = cython.cast(cython.p_uchar, PyBytes_AS_STRING(text))
        at: cython.Py_ssize_t = start
        while at < stop and p[at] < 128 and not UPPER_A <= p[at] <= UPPER_Z:
            at += 1
        if at == stop:
            plain: str = PyUnicode_New(stop - start, 127)
            memcpy(PyUnicode_1BYTE_DATA(plain), p + start, stop - start)
            return plain
    return part(text, start, stop).lower().decode("utf-8", "surrogateescape")


@cython.final
@cython.cclass
class Words:
    """What there is to say of each of some words: `table` by the word in lower case.

    Words of the same length and first letter stand together, and are compared one by one.
    """

    table: dict[str, Any]

    def __init__(self, table: Mapping[str, Any]) -> None:
        self.table = dict(table)
        kinds: dict[int, list[tuple[bytes, Any]]] = {}
        for word, said in table.items():
            kinds.setdefault(_kind(ord(word[0]), len(word)), []).append((word.encode(), said))
        self._alike: list[list[tuple[bytes, Any]]] = [[], *kinds.values()]
        places = bytearray(32 * TOO_LONG)
        for place, kind in enumerate(kinds, 1):
            places[kind] = place
        self._places: bytes = bytes(places)
        if cython.compiled:
            self._place = cython.cast(cython.p_uchar, PyBytes_AS_STRING(self._places))
        else:
            self._place = self._places

    def at(self, p: cython.p_uchar, start: cython.Py_ssize_t, stop: cython.Py_ssize_t) -> Any:
        """What the table says of p[start:stop] in whatever case; None of what it does not have."""
        if stop - start >= TOO_LONG:
            return None
        place: cython.int = self._place[_kind(p[start], stop - start)]
        if not place:
            return None
        entry: tuple[bytes, Any]
        for entry in self._alike[place]:
            if same(p, start, entry[0]):
                return entry[1]
        return None


def _kind(first: cython.int, size: cython.Py_ssize_t) -> cython.Py_ssize_t:
    return (first & 31) * TOO_LONG + size
