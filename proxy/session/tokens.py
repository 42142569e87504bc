"""The tokens of a text one after another, white space and comments passed over."""

from __future__ import annotations

import re
from typing import Self

import cython

from proxy.session.lexer import masked

if cython.compiled:
    from cython.cimports.cpython.bytes import PyBytes_AS_STRING
    from cython.cimports.proxy.session.glance import matters
    from cython.cimports.proxy.session.lexer import (
        DOLLAR,
        KIND,
        MARK,
        NUMBER,
        OPEN,
        QUOTED,
        SEMICOLON,
        SHUT,
        SPACE,
        STRING,
        UNICODE,
        WORD,
        step,
    )
else:
    from proxy.session.glance import matters
    from proxy.session.lexer import (
        DOLLAR,
        KIND,
        MARK,
        NUMBER,
        OPEN,
        QUOTED,
        SEMICOLON,
        SHUT,
        SPACE,
        STRING,
        UNICODE,
        WORD,
        step,
    )

# NAMEDATALEN - 1 (documentation, "Identifiers and Key Words").
LONGEST_NAME = 63
_LONGEST_WORD = 32
# Words of PL/pgSQL behind which a statement begins.
_OPENING = (b"begin", b"then", b"else", b"loop")


@cython.cclass
class Tokens:
    """A place in a text: the token text[start:stop] of `kind`, 0 in front and at the end.

    `first`: it begins a statement, which `begun` at that place; `last`: where the token in front
    of it ended. `text` is `raw` with its second bytes masked; `body`: it is PL/pgSQL.
    """

    def __init__(
        self, raw: bytes, backslashes: bool = False, wide: int = 0, body: bool = False
    ) -> None:
        self.raw = raw
        self.text = masked(raw, wide)
        self.backslashes = backslashes
        self.wide = wide
        self.body = body
        self.start = self.stop = self.kind = self.begun = self.last = 0
        self._last_start = self._before_start = self._before_stop = 0
        self._end = len(raw)
        self.first = False
        self._follows = True

    def ahead(self) -> Self:
        """Another one at the same place, to look ahead with."""
        other = type(self)(b"", self.backslashes, 0, self.body)
        other.stand_at(self)
        return other

    def stand_at(self, other: Tokens) -> None:
        """Go where the other one is, in its text."""
        self.raw, self.text, self.wide = other.raw, other.text, other.wide
        self.start, self.stop, self.kind = other.start, other.stop, other.kind
        self.begun, self.last, self._end = other.begun, other.last, other._end
        self.first, self._follows = other.first, other._follows

    @cython.ccall
    def advance(self) -> cython.bint:
        """Go to the next token; False at the end."""
        p: cython.p_uchar
        if cython.compiled:
            p = cython.cast(cython.p_uchar, PyBytes_AS_STRING(self.text))
        else:
            p = self.text
        self._before_start, self._before_stop = self._last_start, self.last
        if self.kind:
            self._last_start, self.last = self.start, self.stop
        at: cython.Py_ssize_t = self.stop
        while at < self._end:
            found: cython.Py_ssize_t = step(p, at, self._end, self.backslashes)
            if found & KIND != SPACE:
                self.start, self.stop, self.kind = at, found >> 3, found & KIND
                self.first = self._follows
                if self.first:
                    self.begun = at
                self._follows = self.kind == MARK and p[at] == SEMICOLON
                if self.body and self.kind == WORD:
                    self._follows = self._opens_body()
                return True
            at = found >> 3
        self.start, self.stop, self.kind = self._end, self._end, 0
        self.first = False
        return False

    @cython.cfunc
    def _opens_body(self) -> cython.bint:
        if not 4 <= self.stop - self.start <= 5:
            return False
        return self.text[self.start : self.stop].lower() in _OPENING

    @cython.ccall
    def seek(self) -> cython.bint:
        """Go to the next token that may concern the session; False at the end."""
        while self.advance():
            if self._interesting():
                return True
        return False

    @cython.ccall
    def skim(self) -> cython.bint:
        """Go to the next token of this statement that may concern the session; False at its end.

        The end is a semicolon or the end of the text.
        """
        while self.advance():
            if self.over():
                return False
            if self._interesting():
                return True
        return False

    @cython.cfunc
    def _interesting(self) -> cython.bint:
        p: cython.p_uchar
        if cython.compiled:
            p = cython.cast(cython.p_uchar, PyBytes_AS_STRING(self.text))
        else:
            p = self.text
        if self.kind == WORD:
            return matters(p, self.start, self.stop, self.first or self.body)
        if self.kind == QUOTED:
            return matters(p, self.start + 1, self.stop - 1, False)
        return self.kind == UNICODE

    @cython.ccall
    def over(self) -> cython.bint:
        """Whether this token ends a statement: a semicolon or nothing."""
        return self.kind == 0 or (self.kind == MARK and self.text[self.start] == SEMICOLON)

    @cython.cfunc
    def _is(self, word: bytes) -> cython.bint:
        if self.kind != WORD or self.stop - self.start != len(word):
            return False
        return self.text[self.start : self.stop].lower() == word

    @cython.ccall
    def run_to(self, word: bytes) -> cython.bint:
        """Go to the word where it stands outside of parentheses.

        False at the statement's end, or at a parenthesis that closes what began earlier.
        """
        depth: cython.Py_ssize_t = 0
        while not self.over():
            if self.kind == MARK:
                depth += self.text[self.start] == OPEN
                depth -= self.text[self.start] == SHUT
                if depth < 0:
                    return False
            elif depth == 0 and self._is(word):
                return True
            self.advance()
        return False

    def past_parentheses(self) -> None:
        """From an opening parenthesis go behind the one that closes it."""
        self.advance()
        self.run_to(b"")
        self.advance()

    @cython.ccall
    def called(self) -> cython.bint:
        """Whether an opening parenthesis is next, as behind a function's name."""
        p: cython.p_uchar
        if cython.compiled:
            p = cython.cast(cython.p_uchar, PyBytes_AS_STRING(self.text))
        else:
            p = self.text
        at: cython.Py_ssize_t = self.stop
        while at < self._end:
            found: cython.Py_ssize_t = step(p, at, self._end, self.backslashes)
            if found & KIND != SPACE:
                return p[at] == OPEN
            at = found >> 3
        return False

    @cython.ccall
    def word(self) -> str:
        """A word that is not quoted, in lower case, or the character of a mark; "" for others."""
        if self.kind != WORD and self.kind != MARK:
            return ""
        return _folded(self.text, self.start, self.stop)

    def before(self) -> tuple[str, str]:
        """The two tokens in front of this one as text, nearest last."""
        return (
            _folded(self.text, self._before_start, self._before_stop),
            _folded(self.text, self._last_start, self.last),
        )

    def name(self) -> str | None:
        """The identifier as Postgres reads it; None when this token is none.

        Folded, unquoted, cut at 63 bytes; bytes that are not UTF-8 as surrogates. Behind one in
        U&"" this moves on to its UESCAPE. Letters beyond ASCII are not folded, as in a database
        whose encoding has several bytes a character.
        """
        part = self.raw[self.start : self.stop]
        if self.kind == WORD:
            return _cut(_lower(part))
        if self.kind == QUOTED:
            return _cut(_unquoted(part[1:]))
        if self.kind == UNICODE:
            return _cut(_unescaped(_unquoted(part[3:]), self._escape()))
        return None

    def constant(self) -> bool:
        """Whether this is a string or a number; $1 is neither."""
        if self.kind == NUMBER:
            return self.text[self.start] != DOLLAR
        return self.kind == STRING

    def shown(self, longest: int) -> str:
        """The beginning of the token as it is written."""
        stop = min(self.stop, self.start + longest)
        text: str = self.raw[self.start : stop].decode("utf-8", "replace")
        return text

    def _escape(self) -> str:
        following = self.ahead()
        if not following.advance() or following.word() != "uescape" or not following.advance():
            return "\\"
        self.advance()
        self.advance()
        escape = self.literal()
        return escape.decode("latin-1") if escape and len(escape) == 1 else "\\"

    def literal(self) -> bytes | None:
        """What a string constant says; None when this is none, or one that has escapes in it."""
        if self.kind != STRING:
            return None
        part = self.raw[self.start : self.stop]
        if part[:1] == b"$":
            size = part.index(b"$", 1) + 1
            return part[size:-size]
        escapes = self.backslashes
        if part[:1] in b"eE":
            escapes, part = True, part[1:]
        inside = part[1:-1]
        if part[:1] != b"'" or (escapes and b"\\" in inside):
            return None
        return None if b"'" in inside.replace(b"''", b"") else inside.replace(b"''", b"'")


def _folded(text: bytes, start: cython.Py_ssize_t, stop: cython.Py_ssize_t) -> str:
    if stop - start > _LONGEST_WORD:
        return ""
    return text[start:stop].lower().decode("latin-1")


def _lower(word: bytes) -> str:
    return word.lower().decode("utf-8", "surrogateescape")


def _unquoted(inside: bytes) -> str:
    return inside.removesuffix(b'"').replace(b'""', b'"').decode("utf-8", "surrogateescape")


def _unescaped(name: str, escape: str) -> str:
    """U&"..." without its escapes (documentation, "Identifiers and Key Words")."""
    sign = re.escape(escape)
    units = re.sub(rf"{sign}(?:({sign})|([0-9A-Fa-f]{{4}})|\+([0-9A-Fa-f]{{6}}))", _character, name)
    return units.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _character(escaped: re.Match[str]) -> str:
    if escaped[1]:
        return escaped[1]
    code = int(escaped[2] or escaped[3], 16)
    return chr(code) if code < 0x110000 else "\ufffd"


def _cut(name: str) -> str:
    octets = name.encode("utf-8", "surrogateescape")
    if len(octets) <= LONGEST_NAME:
        return name
    cut = LONGEST_NAME
    while cut > LONGEST_NAME - 4 and octets[cut] & 0xC0 == 0x80:
        cut -= 1
    return octets[:cut].decode("utf-8", "surrogateescape")
