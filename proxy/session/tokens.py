# cython: boundscheck=False, wraparound=False, nonecheck=False
"""The tokens of a text one after another, white space and comments passed over."""

from __future__ import annotations

from typing import Any

import cython

from proxy.session.identifiers import LONGEST_NAME, cut, unescaped, unquoted
from proxy.session.lexer import masked

if cython.compiled:
    from cython.cimports.cpython.bytes import PyBytes_AS_STRING
    from cython.cimports.libc.string import memchr
    from cython.cimports.proxy.session.glance import matters
    from cython.cimports.proxy.session.lexer import (
        BACKSLASH,
        DOLLAR,
        IN_WORD,
        KIND,
        LOWER_E,
        MARK,
        MINUS,
        NUMBER,
        OPEN,
        QUOTED,
        SEMICOLON,
        SHUT,
        SINGLE,
        SLASH,
        SPACE,
        STRING,
        UNICODE,
        WORD,
        classes,
        step,
    )
    from cython.cimports.proxy.session.words import Words, lowered, part, same
else:
    from proxy.session.glance import matters
    from proxy.session.lexer import (
        BACKSLASH,
        DOLLAR,
        IN_WORD,
        KIND,
        LOWER_E,
        MARK,
        MINUS,
        NUMBER,
        OPEN,
        QUOTED,
        SEMICOLON,
        SHUT,
        SINGLE,
        SLASH,
        SPACE,
        STRING,
        UNICODE,
        WORD,
        classes,
        step,
    )
    from proxy.session.words import Words, lowered, part, same

if not cython.compiled:
    LONGEST_WORD, LONGEST_CALL = 63, 32
    COMMA, COLON = b",:"
    (UNDERSCORE,) = b"_"
    NEXT, ANYWHERE, WITHIN = range(3)

_classes = classes()
_longest_name = LONGEST_NAME
_NOTHING = Words({})


@cython.cclass
class Tokens:
    """A place in a text: the token text[start:stop] of `kind`, 0 in front and at the end.

    `last`: where the token in front of it ended. `text` is `raw` with its second bytes masked, `p`
    is the text as C has it, `end` its length.
    """

    raw: bytes
    text: bytes

    def __init__(self, raw: bytes, backslashes: cython.bint = False, wide: cython.int = 0) -> None:
        self._open(raw, masked(raw, wide), backslashes, wide)

    def _open(self, raw: bytes, text: bytes, backslashes: cython.bint, wide: cython.int) -> None:
        self.raw = raw
        self.text = text
        self.backslashes = backslashes
        self.wide = wide
        self.start = self.stop = self.last = self.kind = 0
        self.end = len(text)
        if cython.compiled:
            self.p = cython.cast(cython.p_uchar, PyBytes_AS_STRING(text))
        else:
            self.p = text

    def ahead(self) -> Tokens:
        """Another one at the same place, to look ahead with."""
        other: Tokens = Tokens.__new__(Tokens)
        other._open(self.raw, self.text, self.backslashes, self.wide)
        other.start, other.stop = self.start, self.stop
        other.kind, other.last = self.kind, self.last
        return other

    def advance(self) -> cython.bint:
        """Go to the next token; False at the end."""
        return _go(self)

    def over(self) -> cython.bint:
        """Whether this token ends a statement: a semicolon or nothing."""
        return self.start == self.end or self.p[self.start] == SEMICOLON

    def ends(self) -> cython.bint:
        """Whether the statement ends behind this token."""
        following: cython.Py_ssize_t = _begin(self.p, self.stop, self.end)
        return following == self.end or self.p[following] == SEMICOLON

    def called(self) -> cython.bint:
        """Whether an opening parenthesis is next, as behind a function's name."""
        following: cython.Py_ssize_t = _begin(self.p, self.stop, self.end)
        return following < self.end and self.p[following] == OPEN

    def plain(self) -> cython.bint:
        """Whether this is a word that is not quoted nor very long, or a mark."""
        if self.stop - self.start > LONGEST_WORD:
            return False
        return self.kind == WORD or self.kind == MARK

    def mark(self) -> cython.int:
        """Which character it is, if this is a mark."""
        return self.p[self.start] if self.kind == MARK else 0

    def says(self, word: bytes) -> cython.bint:
        """Whether this token is the word, not quoted, or the mark."""
        return _is(self.p, self.start, self.stop, word)

    def assigned(self) -> cython.bint:
        """Whether this may be a parameter's name in SET: a dot, an equals sign, TO or FROM is
        next."""
        at: cython.Py_ssize_t = _begin(self.p, self.stop, self.end)
        return (
            self._is_at(at, b"=")
            or self._is_at(at, b"to")
            or self._is_at(at, b".")
            or self._is_at(at, b"from")
        )

    def follows(self, word: bytes) -> cython.bint:
        """Whether the next token is the word or mark."""
        return self._is_at(_begin(self.p, self.stop, self.end), word)

    def _is_at(self, at: cython.Py_ssize_t, word: bytes) -> cython.bint:
        """Looks at no more than the word: what stands there may be long, and be asked for often."""
        stop: cython.Py_ssize_t = at + len(word)
        if stop > self.end or not same(self.p, at, word):
            return False
        word_ends: cython.bint = stop == self.end or not _classes[self.p[stop]] & IN_WORD
        return word_ends or _classes[self.p[at]] & KIND != WORD

    def begins(self, word: bytes) -> cython.bint:
        """Whether this is the word, not quoted, or goes on behind it with an underscore."""
        stop: cython.Py_ssize_t = self.start + len(word)
        if self.kind != WORD or stop > self.stop or not same(self.p, self.start, word):
            return False
        return stop == self.stop or self.p[stop] == UNDERSCORE

    def of(self, words: Words) -> Any:
        """What the table says of this word; None of all that is no word or quoted."""
        return words.at(self.p, self.start, self.stop) if self.kind == WORD else None

    def names_temporary(self) -> cython.bint:
        """Whether pg_temp stands anywhere in the text, in a constant or comment too."""
        if cython.compiled:
            p: cython.p_char = PyBytes_AS_STRING(self.raw)
            at: cython.Py_ssize_t = len(b"pg")
            last: cython.Py_ssize_t = self.end - len(b"temp")
            while at < last:
                found: cython.p_char = cython.cast(
                    cython.p_char, memchr(p + at, UNDERSCORE, last - at)
                )
                if found == cython.NULL:
                    return False
                at = found - p + 1
                if same(cython.cast(cython.p_uchar, p), at - len(b"pg_"), b"pg_temp"):
                    return True
            return False
        return b"pg_temp" in self.raw.lower()

    def run_to(self, words: Words) -> cython.bint:
        """Go to one of the words where it stands outside of parentheses.

        False at the statement's end, or at a parenthesis that closes what began earlier.
        """
        depth: cython.Py_ssize_t = 0
        while not self.over():
            mark: cython.int = self.mark()
            depth += (mark == OPEN) - (mark == SHUT)
            if depth < 0:
                return False
            if depth == 0 and self.of(words) is not None:
                return True
            _go(self)
        return False

    def past_parentheses(self) -> None:
        """From an opening parenthesis go behind the one that closes it."""
        self.advance()
        self.run_to(_NOTHING)
        self.advance()

    def name(self) -> str | None:
        """The identifier as Postgres reads it; None when this token is none.

        Folded, unquoted, cut at 63 bytes; bytes that are not UTF-8 as surrogates. Behind one in
        U&"" this moves on to its UESCAPE. Letters beyond ASCII are not folded, as in a database
        whose encoding has several bytes a character.
        """
        name: str
        if self.kind == WORD:
            name = lowered(self.raw, self.start, self.stop)
            return name if self.stop - self.start <= _longest_name else cut(name)
        if self.kind == QUOTED:
            name = unquoted(part(self.raw, self.start + 1, self.stop))
            return cut(name)
        if self.kind == UNICODE:
            name = unquoted(part(self.raw, self.start + 3, self.stop))
            return cut(unescaped(name, self._escape()))
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
        following: Tokens = self.ahead()
        if not following.follows(b"uescape") or not (following.advance() and following.advance()):
            return "\\"
        self.advance()
        self.advance()
        escape: bytes | None = self.literal()
        return escape.decode("latin-1") if escape and len(escape) == 1 else "\\"

    def literal(self) -> bytes | None:
        """What a string constant says; None when this is none, or one that has escapes in it."""
        if self.kind != STRING:
            return None
        start: cython.Py_ssize_t = self.start
        escapes: cython.bint = self.backslashes
        if self.p[start] == DOLLAR:
            return _undollared(part(self.raw, start, self.stop))
        if self.p[start] | 32 == LOWER_E:
            escapes = True
            start += 1
        if self.p[start] != SINGLE:
            return None
        inside: bytes = part(self.raw, start + 1, max(start + 1, self.stop - 1))
        if escapes and BACKSLASH in inside:
            return None
        if SINGLE not in inside:
            return inside
        return None if b"'" in inside.replace(b"''", b"") else inside.replace(b"''", b"'")


@cython.final
@cython.cclass
class Arguments(Tokens):
    """The arguments of a call, one after another.

    `many`: so many have been gone through; `done`: there are no more; `size`: the tokens of all of
    them, marks included; `simple`: none concerns the session or ends a statement; `bound`: the last
    one was a parameter of the statement ($1) and nothing else.
    """

    def behind(self, name: Tokens) -> None:
        """Stand in front of the arguments of this function."""
        self._open(name.raw, name.text, name.backslashes, name.wide)
        self.stop = name.stop
        self.many = self.size = 0
        self.done = False
        self.simple = True
        self.bound = False
        _go(self)

    def next(self, words: Words) -> Any:
        """The next argument, where it is but one constant, a cast behind it aside.

        Bytes for a string, for a word what the table says of it, None for all others.
        """
        if self.done:
            return None
        said: Any = None
        begun: cython.int = self.size
        colons: cython.int = 0
        depth: cython.int = 0
        size: cython.int = 0
        self.many += 1
        while self.size < LONGEST_CALL:
            self.size += 1
            _go(self)
            mark: cython.int = self.p[self.start] if self.kind == MARK else 0
            size = self.size - begun - 1
            if depth == 0 and (mark == COMMA or mark == SHUT):
                self.done = mark == SHUT
                break
            if size == 0:
                self.bound = self.kind == NUMBER and self.p[self.start] == DOLLAR
                said = self.literal() if self.kind == STRING else self.of(words)
            self.simple = self.simple and mark != SEMICOLON
            self.simple = self.simple and not _concerns(
                self.p, self.start, self.stop, self.kind, False
            )
            depth += (mark == OPEN) - (mark == SHUT)
            colons += mark == COLON and 1 <= size <= 2
        alone: cython.bint = size == 1 or (size == 4 and colons == 2)
        self.bound = self.bound and alone
        return said if alone else None


@cython.final
@cython.cclass
class Statements(Tokens):
    """Tokens that know their statement.

    `first`: this token begins one, which `begun` at that place; `place`: so many of its tokens are
    in front of this one; `many`: so many statements have begun. `body`: the text is PL/pgSQL.
    """

    def __init__(
        self,
        raw: bytes,
        backslashes: cython.bint = False,
        wide: cython.int = 0,
        body: cython.bint = False,
    ) -> None:
        self.read(raw, backslashes, wide, body)

    def read(
        self, raw: bytes, backslashes: cython.bint, wide: cython.int, body: cython.bint
    ) -> None:
        """Stand in front of this text."""
        self._open(raw, masked(raw, wide) if wide else raw, backslashes, wide)
        self.body = body
        self.first = False
        self.begun = self.place = self.many = self._last_start = self._earlier_start = 0
        self._follows = True

    def advance(self) -> cython.bint:
        return self._run(NEXT)

    def seek(self) -> cython.bint:
        """Go to the next token that may concern the session; False at the end."""
        return self._run(ANYWHERE)

    def skim(self) -> cython.bint:
        """Go to the next token of this statement that may concern the session; False at its end."""
        return self._run(WITHIN)

    def _run(self, where: cython.int) -> cython.bint:
        """`advance`, `seek` or `skim`, as `where` says; variables of C's own keep the place on the
        way."""
        p: cython.p_uchar = self.p
        end: cython.Py_ssize_t = self.end
        start: cython.Py_ssize_t = self.start
        stop: cython.Py_ssize_t = self.stop
        kind: cython.Py_ssize_t = self.kind
        last: cython.Py_ssize_t = self.last
        last_start: cython.Py_ssize_t = self._last_start
        earlier_start: cython.Py_ssize_t = self._earlier_start
        place: cython.Py_ssize_t = self.place
        first: cython.bint = self.first
        follows: cython.bint = self._follows
        there: cython.bint = True
        while True:
            earlier_start, last_start = last_start, start
            if kind:
                last = stop
            start = _begin(p, stop, end)
            if start == end:
                stop, kind, first, there = start, 0, False, False
                break
            kind = _step(p, start, end, self.backslashes)
            stop, kind = kind >> 3, kind & KIND
            place += 1
            first, follows = follows, p[start] == SEMICOLON
            if first:
                self.begun, place = start, 0
                self.many += not follows
            if self.body and kind == WORD:
                follows = _opens_body(p, start, stop)
            if where == NEXT:
                break
            if where == WITHIN and p[start] == SEMICOLON:
                there = False
                break
            if _concerns(p, start, stop, kind, first or self.body):
                break
        self.start, self.stop, self.kind, self.last = start, stop, kind, last
        self._last_start, self._earlier_start = last_start, earlier_start
        self.first, self._follows, self.place = first, follows, place
        return there

    def jump(self, call: Arguments) -> None:
        """Go to the end of a call of which no token need be looked at again."""
        self.start, self.stop, self.kind = call.start, call.stop, call.kind
        self.last = call.last
        self.place += call.size + 1

    def before(self, word: bytes) -> cython.bint:
        """Whether the token in front of this one is the word or mark."""
        return self._is_at(self._last_start, word)

    def earlier(self, word: bytes) -> cython.bint:
        """Whether the token in front of that one is."""
        return self._is_at(self._earlier_start, word)

    def opened(self, word: bytes) -> cython.bint:
        """Whether the statement's first token is."""
        return self._is_at(self.begun, word)


# They run for each token, so they are inlined.


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _is(
    p: cython.p_uchar, start: cython.Py_ssize_t, stop: cython.Py_ssize_t, word: bytes
) -> cython.bint:
    return stop - start == len(word) and same(p, start, word)


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _begin(p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.Py_ssize_t:
    """Where the next token begins, behind white space and comments."""
    while at < end:
        if _classes[p[at]] == SPACE:
            at += 1
        elif p[at] == MINUS or p[at] == SLASH:
            found: cython.Py_ssize_t = step(p, at, end, False)
            if found & KIND != SPACE:
                return at
            at = found >> 3
        else:
            return at
    return end


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _step(
    p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t, backslashes: cython.bint
) -> cython.Py_ssize_t:
    """`step`, with most words read here."""
    stop: cython.Py_ssize_t = at + 1
    if _classes[p[at]] & KIND != WORD or stop >= end or not _classes[p[stop]] & IN_WORD:
        return step(p, at, end, backslashes)
    while stop < end and _classes[p[stop]] & IN_WORD:
        stop += 1
    return stop << 3 | WORD


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _concerns(
    p: cython.p_uchar,
    start: cython.Py_ssize_t,
    stop: cython.Py_ssize_t,
    kind: cython.Py_ssize_t,
    first: cython.bint,
) -> cython.bint:
    """Whether the token may concern the session, as a command too where it is `first`."""
    if kind == WORD:
        return matters(p, start, stop, first)
    if kind == QUOTED:
        return matters(p, start + 1, stop - 1, False)
    return kind == UNICODE


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _go(tokens: Tokens) -> cython.bint:
    """`Tokens.advance`."""
    if tokens.kind:
        tokens.last = tokens.stop
    start: cython.Py_ssize_t = _begin(tokens.p, tokens.stop, tokens.end)
    tokens.start = start
    if start == tokens.end:
        tokens.stop, tokens.kind = start, 0
        return False
    found: cython.Py_ssize_t = _step(tokens.p, start, tokens.end, tokens.backslashes)
    tokens.stop, tokens.kind = found >> 3, found & KIND
    return True


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _opens_body(
    p: cython.p_uchar, start: cython.Py_ssize_t, stop: cython.Py_ssize_t
) -> cython.bint:
    """Whether a statement of PL/pgSQL begins behind this word."""
    return (
        _is(p, start, stop, b"begin")
        or _is(p, start, stop, b"then")
        or _is(p, start, stop, b"else")
        or _is(p, start, stop, b"loop")
    )


def _undollared(quoted: bytes) -> bytes:
    size = quoted.index(b"$", 1) + 1
    return quoted[size : len(quoted) - size]
