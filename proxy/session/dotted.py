# cython: boundscheck=False, wraparound=False
"""Names with a dot in a text, wherever they stand: an application's own parameters look like that.

They are in no catalogue of Postgres's, so where code runs that nobody can read, what is in the
text of its call is asked about (PostgreSQL documentation, "Customized Options").
"""

from __future__ import annotations

import cython

if cython.compiled:
    from cython.cimports.cpython.bytes import PyBytes_AS_STRING
    from cython.cimports.libc.string import memchr
    from cython.cimports.proxy.session.lexer import DOLLAR, DOT, IN_WORD, KIND, WORD, classes
else:
    from proxy.session.lexer import DOLLAR, DOT, IN_WORD, KIND, WORD, classes

MOST = 10_000
LARGEST = 1 << 20
"""So many names can be asked about at once, of so many bytes together."""


def dotted(text: bytes) -> set[str] | None:
    """The names, ASCII letters in lower case, bytes that are not UTF-8 as surrogates.

    A dollar sign may be part of them, or end a string in dollar quotes: both are tried. None: they
    are more than can be asked about.
    """
    names = _names(text, False)
    if names is None or b"$" not in text:
        return names
    more = _names(text, True)
    return None if more is None else names | more


def _names(text: bytes, dollars: cython.bint) -> set[str] | None:
    names: set[str] = set()
    p: cython.p_uchar
    if cython.compiled:  # noqa: SIM108
        p = cython.cast(cython.p_uchar, PyBytes_AS_STRING(text))
    else:
        p = text
    end: cython.Py_ssize_t = len(text)
    seen: cython.Py_ssize_t = 0
    size: cython.Py_ssize_t = 0
    while True:
        dot: cython.Py_ssize_t = _next_dot(p, seen, end)
        if dot < 0:
            return names
        start: cython.Py_ssize_t = dot
        while start > seen and _goes_on(p[start - 1], dollars):
            start -= 1
        seen = dot + 1
        if start == dot or not _begins(p[start]):
            continue
        stop: cython.Py_ssize_t = dot
        while stop + 1 < end and p[stop] == DOT and _begins(p[stop + 1]):
            stop += 2
            while stop < end and _goes_on(p[stop], dollars):
                stop += 1
        if stop == dot:
            continue
        seen = stop
        size += stop - start
        if size > LARGEST or len(names) == MOST:
            return None
        names.add(text[start:stop].lower().decode("utf-8", "surrogateescape"))


def _next_dot(
    p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t
) -> cython.Py_ssize_t:
    if cython.compiled:
        found: cython.p_uchar = cython.cast(cython.p_uchar, memchr(p + at, DOT, end - at))
        return -1 if found == cython.NULL else found - p
    return p.find(DOT, at, end)


def _begins(code: cython.int) -> cython.bint:
    return classes()[code] & KIND == WORD


def _goes_on(code: cython.int, dollars: cython.bint) -> cython.bint:
    return classes()[code] & IN_WORD != 0 and (dollars or code != DOLLAR)
