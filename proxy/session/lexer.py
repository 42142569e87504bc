# cython: boundscheck=False, wraparound=False
"""Tokens of SQL as Postgres reads them, found without looking at what they mean.

The rules are those of PostgreSQL's documentation, "Lexical Structure", and of its scan.l where
that says more: a comment begins in the middle of an operator, a line comment ends at a carriage
return too, and a string goes on behind a line break in the manner it began. What is unterminated
reaches to the end: Postgres refuses such a text whole.

Every byte from 128 up is a letter. Of the client encodings whose second byte may look like ASCII,
`masked` makes a text of the same length where it does not.
"""

from __future__ import annotations

import cython

if cython.compiled:
    from cython.cimports.cpython.bytes import PyBytes_AS_STRING
    from cython.cimports.libc.string import memchr, memcmp
else:
    SPACE, WORD, QUOTED, UNICODE, STRING, NUMBER, MARK = range(1, 8)
    KIND, IN_WORD, IN_TAG = 7, 8, 16
    TAB, LINE, RETURN = b"\t\n\r"
    DOUBLE, DOLLAR, AMPERSAND, SINGLE, OPEN, SHUT, STAR, PLUS = b"\"$&'()*+"
    MINUS, DOT, SLASH, SEMICOLON, BACKSLASH = b"-./;\\"
    LOWER_B, LOWER_E, LOWER_P, LOWER_U, LOWER_X = b"bepux"


def _class(code: int) -> int:
    letter = chr(code)
    if code >= 128 or letter == "_" or letter.isalpha():
        return WORD | IN_WORD | IN_TAG
    if letter.isdigit():
        return NUMBER | IN_WORD | IN_TAG
    if letter == "$":
        return IN_WORD
    if letter in " \t\n\r\f\v":
        return SPACE
    return 0 if letter in "'\"-/" else MARK


# Of each byte: the kind of token it begins (0: that takes a closer look) and where it may go on.
CLASSES = bytes(map(_class, range(256)))

if cython.compiled:  # noqa: SIM108
    _classes = cython.cast(cython.p_uchar, PyBytes_AS_STRING(CLASSES))
else:
    _classes = CLASSES


def classes() -> cython.p_uchar:
    return _classes


# How many bytes a character takes that begins with one from 128 up; see `masked`.
ONE, TWO, TWO_BUT_KANA = 0, 1, 2
_WIDTHS = {
    "BIG5": TWO,
    "GB18030": TWO,
    "GBK": TWO,
    "JOHAB": TWO,
    "UHC": TWO,
    "SJIS": TWO_BUT_KANA,
    "SHIFT_JIS_2004": TWO_BUT_KANA,
}


def width(client_encoding: str) -> int:
    """What `masked` needs to know of a client encoding, named as Postgres reports it.

    ONE for all those in which no byte of a longer character looks like ASCII.
    """
    return _WIDTHS.get(client_encoding.upper(), ONE)


def masked(text: bytes, wide: int) -> bytes:
    """The text with second bytes made into letters, each byte in its place (PostgreSQL
    documentation, "Character Set Support"; a character of four bytes in GB18030 is twice two)."""
    if wide == ONE or text.isascii():
        return text
    changed = bytearray(text)
    at = 0
    while at < len(changed) - 1:
        code = changed[at]
        if code < 128 or (wide == TWO_BUT_KANA and 0xA1 <= code <= 0xDF):
            at += 1
            continue
        changed[at + 1] |= 128
        at += 2
    return bytes(changed)


def step(
    p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t, backslashes: cython.bint
) -> cython.Py_ssize_t:
    """The token at `at` < `end`: where it ends times 8, plus its kind.

    SPACE is also a comment, QUOTED "an identifier", UNICODE one in U&"", STRING any constant in
    quotes, with those that continue it; NUMBER also $1; MARK one other character. `backslashes`:
    standard_conforming_strings is off.
    """
    code: cython.int = p[at]
    kind: cython.int = classes()[code] & KIND
    if kind == WORD:
        return _word(p, at, end)
    if kind == MARK:
        return (at + 1) << 3 | MARK
    if kind == SPACE:
        at += 1
        while at < end and classes()[p[at]] == SPACE:
            at += 1
        return at << 3 | SPACE
    if kind == NUMBER:
        return _number(p, at, end) << 3 | NUMBER
    return _closer(p, at, end, backslashes)


def _closer(
    p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t, backslashes: cython.bint
) -> cython.Py_ssize_t:
    """`step` for a quote, a dollar sign, and what may begin a comment."""
    code: cython.int = p[at]
    if code == SINGLE:
        return _string(p, at + 1, end, backslashes) << 3 | STRING
    if code == DOUBLE:
        return _identifier(p, at + 1, end) << 3 | QUOTED
    if code == DOLLAR:
        return _dollar(p, at, end)
    if at + 1 < end:
        if code == MINUS and p[at + 1] == MINUS:
            return _line(p, at + 2, end) << 3 | SPACE
        if code == SLASH and p[at + 1] == STAR:
            return _comment(p, at + 2, end) << 3 | SPACE
    return (at + 1) << 3 | MARK


def _word(p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.Py_ssize_t:
    stop: cython.Py_ssize_t = at + 1
    while stop < end and classes()[p[stop]] & IN_WORD:
        stop += 1
    if stop - at > 1 or stop == end:
        return stop << 3 | WORD
    letter: cython.int = p[at] | 32
    if p[stop] == SINGLE:
        if letter == LOWER_E:
            return _string(p, stop + 1, end, True) << 3 | STRING
        if letter == LOWER_B or letter == LOWER_X:
            return _bits(p, stop + 1, end) << 3 | STRING
    elif p[stop] == AMPERSAND and letter == LOWER_U and stop + 1 < end:
        if p[stop + 1] == SINGLE:
            return _string(p, stop + 2, end, False) << 3 | STRING
        if p[stop + 1] == DOUBLE:
            return _identifier(p, stop + 2, end) << 3 | UNICODE
    return stop << 3 | WORD


def _number(p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.Py_ssize_t:
    """Behind the digits from `at` and an exponent; before Postgres 15 a word may follow at once."""
    at = _digits(p, at, end)
    # 1..2 is no number but a range in PL/pgSQL.
    if at < end and p[at] == DOT and (at + 1 == end or p[at + 1] != DOT):
        at = _digits(p, at + 1, end)
    if at == end or p[at] | 32 != LOWER_E:
        return at
    digit: cython.Py_ssize_t = at + 1
    if digit < end and (p[digit] == PLUS or p[digit] == MINUS):
        digit += 1
    exponent: cython.Py_ssize_t = _digits(p, digit, end)
    return exponent if exponent > digit else at


def _digits(p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.Py_ssize_t:
    while at < end and classes()[p[at]] & KIND == NUMBER:
        at += 1
    return at


def _find(
    p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t, code: cython.int
) -> cython.Py_ssize_t:
    """Where the next `code` stands; `end` when there is none."""
    if at >= end:
        return end
    if cython.compiled:
        found: cython.p_uchar = cython.cast(cython.p_uchar, memchr(p + at, code, end - at))
        return end if found == cython.NULL else found - p
    place = p.find(code, at, end)
    return end if place < 0 else place


def _quote(
    p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t, escapes: cython.bint
) -> cython.Py_ssize_t:
    """Where the next quote stands that no backslash escapes; `end` when there is none."""
    if not escapes:
        return _find(p, at, end, SINGLE)
    while at < end and p[at] != SINGLE:
        at += 2 if p[at] == BACKSLASH else 1
    return min(at, end)


def _string(
    p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t, escapes: cython.bint
) -> cython.Py_ssize_t:
    """Behind the string constant whose contents begin at `at`."""
    while True:
        at = _quote(p, at, end, escapes) + 1
        if at >= end:
            return end
        if p[at] == SINGLE:
            at += 1
            continue
        more: cython.Py_ssize_t = _continued(p, at, end)
        if more < 0:
            return at
        at = more


def _bits(p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.Py_ssize_t:
    """`_string` for those in B'' and X'', where two quotes do not stand for one."""
    while True:
        at = _find(p, at, end, SINGLE) + 1
        if at >= end:
            return end
        more: cython.Py_ssize_t = _continued(p, at, end)
        if more < 0:
            return at
        at = more


def _continued(
    p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t
) -> cython.Py_ssize_t:
    """Behind the quote with which a string goes on behind a line break; -1 when it does not."""
    broken: cython.bint = False
    while at < end:
        code: cython.int = p[at]
        if code == SINGLE:
            return at + 1 if broken else -1
        if code == MINUS and at + 1 < end and p[at + 1] == MINUS:
            at = _line(p, at + 2, end)
            continue
        if classes()[code] != SPACE:
            return -1
        broken = broken or code == LINE or code == RETURN
        at += 1
    return -1


def _identifier(
    p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t
) -> cython.Py_ssize_t:
    """Behind the quoted identifier whose contents begin at `at`."""
    while True:
        at = _find(p, at, end, DOUBLE) + 1
        if at >= end:
            return end
        if p[at] != DOUBLE:
            return at
        at += 1


def _dollar(p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.Py_ssize_t:
    """What begins with a dollar sign, like `step`: a parameter, a dollar quote, or a mark."""
    stop: cython.Py_ssize_t = at + 1
    if stop < end and classes()[p[stop]] & KIND == NUMBER:
        return _digits(p, stop, end) << 3 | NUMBER
    while stop < end and classes()[p[stop]] & IN_TAG:
        stop += 1
    if stop < end and p[stop] == DOLLAR:
        return _dollar_quote(p, at, stop + 1, end) << 3 | STRING
    return (at + 1) << 3 | MARK


def _dollar_quote(
    p: cython.p_uchar, at: cython.Py_ssize_t, stop: cython.Py_ssize_t, end: cython.Py_ssize_t
) -> cython.Py_ssize_t:
    """Behind the string between two of the delimiter p[at:stop]."""
    size: cython.Py_ssize_t = stop - at
    # No delimiter has a dollar sign inside: each byte is compared at most once.
    while True:
        stop = _find(p, stop, end, DOLLAR)
        if end - stop < size:
            return end
        if _same(p, at, stop, size):
            return stop + size
        stop += 1


def _same(
    p: cython.p_uchar, at: cython.Py_ssize_t, other: cython.Py_ssize_t, size: cython.Py_ssize_t
) -> cython.bint:
    if cython.compiled:
        return memcmp(p + at, p + other, size) == 0
    return p[at : at + size] == p[other : other + size]


def _line(p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.Py_ssize_t:
    """The end of the line."""
    while at < end and p[at] != LINE and p[at] != RETURN:
        at += 1
    return at


def _comment(p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.Py_ssize_t:
    """Behind the comment that began before `at`, with those nested in it."""
    depth: cython.Py_ssize_t = 1
    while at + 1 < end:
        if p[at] == STAR and p[at + 1] == SLASH:
            depth -= 1
            at += 2
            if depth == 0:
                return at
        elif p[at] == SLASH and p[at + 1] == STAR:
            depth += 1
            at += 2
        else:
            at += 1
    return end
