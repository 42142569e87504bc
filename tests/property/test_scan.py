"""The scan of statements on texts that are made up: of parts with a known meaning, and of noise."""

from __future__ import annotations

import re
from itertools import pairwise
from time import process_time
from typing import NamedTuple

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from proxy.conditions import (
    ADVISORY,
    HOLD,
    LISTEN,
    LOAD,
    PARAMETERS,
    PREPARED,
    SEQUENCES,
    SERVER_STATE,
    TEMP,
)
from proxy.session import lexer
from proxy.session.findings import NOTHING
from proxy.session.glance import glance
from proxy.session.lexer import TWO, TWO_BUT_KANA
from proxy.session.policy import DEFAULT
from proxy.session.session import Session
from proxy.session.tokens import Tokens
from proxy.session.verdict import read
from proxy.session.wording import LONGEST, normalised


class Part(NamedTuple):
    """One statement, its tokens apart; what it means."""

    tokens: list[str]
    makes: int = 0
    clears: int = 0
    names: frozenset[str] = frozenset()
    piece: tuple[str, str | None] | None = None


def cut(text: str) -> list[str]:
    """The tokens, which have spaces between them and ~ for spaces in them."""
    return [token.replace("~", " ") for token in text.split()]


def plain(text: str) -> Part:
    return Part(cut(text))


def part(text: str, makes: int = 0, clears: int = 0, names: str = "") -> Part:
    return Part(cut(text), makes, clears, frozenset(names.split()))


def prepared(text: str, verb: str, name: str | None, clears: int = 0) -> Part:
    return Part(cut(text), PREPARED, clears, piece=(verb, name))


KNOWN = [
    part("set a = 1", PARAMETERS, names="a"),
    part("SET SESSION \"B\" . c TO 'x;y' , $$set$$", PARAMETERS, names="b.c"),
    part("reset d", 0, PARAMETERS, "d"),
    part("set time zone 'utc'", PARAMETERS, names="timezone"),
    part("select set_config ( 'e' , 'f' , false ) from t", PARAMETERS, names="e"),
    part("update t set a = ( select pg_advisory_lock ( 1 ) )", ADVISORY),
    part("select pg_catalog . pg_advisory_unlock ( $1 )", 0, ADVISORY),
    part("listen c", LISTEN),
    part("unlisten c", 0, LISTEN),
    part("create temp table t ( a int default 1 )", TEMP),
    part("select 1 into temporary x from t", TEMP),
    part("drop table t", 0, TEMP),
    part("declare c cursor with hold for select 1", HOLD),
    part("close c", 0, HOLD),
    part("load 'x'", LOAD),
    part("select currval ( 's' )", SEQUENCES),
    part("select pg_backup_start ( 'x' )", SERVER_STATE),
    prepared("prepare p ( int ) as select $1", "PREPARE", "p"),
    prepared("explain ( analyze ) execute P ( 1 , 'a' )", "EXECUTE", "p"),
    prepared('create table x ( a ) as execute "É" ( 1 )', "EXECUTE", "É"),
    prepared("deallocate prepare all", "DEALLOCATE", None, PREPARED),
]
HARMLESS = [
    plain("select 1"),
    plain("update t set a = 1 where b = 'set~x~=~1;~listen~y'"),
    plain("insert into t ( a , b ) values ( $1 , $set$;set~x~=~1;~$set$ )"),
    plain("select a as set_config , E'\\';set' , e'' , U&'\\\\' , x'' , \";set~x\""),
    plain("begin"),
    plain("commit prepared 'x'"),
    plain("select pg_advisory_xact_lock ( 1 ) , nextval ( 's' )"),
    plain("with é as ( select $1 :: int ) select close from é"),
    plain("alter table t drop a$b$ , add a$b$ int"),
]
# Those that glance() needs not be alarmed by: the first tokens of the others are in its lists.
QUIET = [0, 1, 2, 4, 5, 6, 7, 8]
GAP = ["", "", " ", "\n", "\t", "\r\n", "\f", "/**/", "/* ; set x = 1 */", "-- ; set x = 1 '\n"]
GAP += ["/* /* ' */ $a$ */", '/*"*/', "--\r", "/*--*/", "-- /*\n"]
GAPS = st.lists(st.sampled_from(GAP), max_size=3).map("".join)


@st.composite
def texts(draw: st.DrawFn, parts: list[Part]) -> tuple[str, list[Part]]:
    chosen = draw(st.lists(st.sampled_from(parts), min_size=1, max_size=4))
    written = []
    for statement in chosen:
        tokens = [draw(GAPS)]
        for before, token in pairwise(["(", *statement.tokens]):
            swap = token.isalnum() and token.isascii() and draw(st.booleans())
            gap = draw(GAPS)
            if not gap and _stick(before, token):
                gap = " "
            tokens += [gap, token.swapcase() if swap else token]
        written.append("".join([*tokens, draw(GAPS)]))
    return ";".join(written), chosen


def _stick(before: str, token: str) -> bool:
    """Whether the two would read as one, or otherwise, without a gap."""
    return not (before in "(),=." or token in "(),=.")


@settings(deadline=None)
@given(texts(KNOWN + HARMLESS))
def test_the_verdict_is_what_the_parts_mean(made: tuple[str, list[Part]]) -> None:
    text, parts = made
    octets = text.encode()
    found = read(octets)
    makes = clears = 0
    for one in parts:
        makes, clears = makes | one.makes, clears | one.clears
    assert (found.makes, found.clears) == (makes, clears)
    assert set(found.names) == frozenset().union(*(one.names for one in parts))
    assert not found.everything
    pieces = [one.piece for one in parts if one.piece]
    assert [(piece.verb, piece.name) for piece in found.prepared] == pieces
    for piece in found.prepared:
        again = read(octets[piece.start : piece.end])
        assert [(one.verb, one.name) for one in again.prepared] == [(piece.verb, piece.name)]
        assert again.prepared[0].end == piece.end - piece.start
    assert found is NOTHING or glance(bytearray(octets), 0, len(octets), False)


@settings(deadline=None)
@given(texts([HARMLESS[place] for place in QUIET]))
def test_harmless_texts_are_passed_at_a_glance(made: tuple[str, list[Part]]) -> None:
    """But for a comment between INSERT and INTO: then the text is read, and harmless."""
    assume(not re.search(r"insert\s*(?:--|/\*)", made[0], re.IGNORECASE))
    octets = made[0].encode()
    assert not glance(bytearray(octets), 0, len(octets), False)


@settings(deadline=None)
@given(texts(KNOWN + HARMLESS), st.sampled_from(["$x$", "$$", "$_1$"]))
def test_what_is_in_a_string_or_comment_means_nothing(
    made: tuple[str, list[Part]], quote: str
) -> None:
    text = made[0]
    assume(quote not in text)
    hidden = [
        f"select {quote}{text}{quote}",
        "select '" + text.replace("'", "''") + "'",
        "select E'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'",
        'select "' + text.replace('"', '""') + '"',
        "-- " + text.replace("\n", " ").replace("\r", " ") + "\nselect 1",
    ]
    for octets in map(str.encode, hidden):
        assert read(octets) is NOTHING
        assert not glance(bytearray(octets), 0, len(octets), False)


PIECES = [
    *"'\"\\;$/*-()=.,&!eEbxuUN1_ \n\r\0",
    *["''", '""', "E'", "U&'", 'U&"', 'U&"\\0061"', "uescape '!'", "$$", "$a$", "$1", "--", "/*"],
    *["*/", "set ", "SET", "local ", "session ", "set_config(", "'a'", "null", "false)", "role "],
    *["execute ", "prepare ", "p ", "as ", "create temp ", "into temp ", "on commit drop ", "all"],
    *[
        "do ",
        "begin ",
        "language ",
        "plpgsql ",
        "call ",
        "discard ",
        "explain ",
        "declare ",
        "with",
    ],
    *[
        "hold ",
        "for ",
        "pg_temp.",
        '"pg_advisory_lock"(',
        "é",
        "\u8868",
        "currval",
        "1e5",
        "reset ",
    ],
]
HOSTILE = st.lists(st.sampled_from(PIECES), max_size=30).map(lambda made: "".join(made).encode())
ANY = st.one_of(HOSTILE, st.binary(max_size=60))


@settings(max_examples=400, deadline=None)
@given(ANY, st.booleans(), st.sampled_from([0, TWO, TWO_BUT_KANA]))
def test_what_a_glance_passes_means_nothing(text: bytes, backslashes: bool, wide: int) -> None:
    found = read(text, backslashes, wide)
    alarmed = glance(bytearray(b"'" + text + b"'"), 1, 1 + len(text), backslashes, wide)
    assert alarmed or found is NOTHING
    assert len(normalised(text, wide)) <= LONGEST
    assert set(found.resets) <= set(found.names)
    for piece in found.prepared:
        assert 0 <= piece.start < piece.name_start < piece.name_end <= piece.end <= len(text)


@settings(deadline=None)
@given(ANY, st.booleans())
def test_tokens_cover_the_text(text: bytes, backslashes: bool) -> None:
    tokens = Tokens(text, backslashes)
    end = 0
    while tokens.advance():
        assert end == tokens.last <= tokens.start < tokens.stop <= len(text)
        end = tokens.stop
    assert tokens.start == len(text)


# KiB of the longer text.
SIZE = 128 if str(lexer.__file__).endswith(".py") else 1024
PATTERNS = [
    *[b"'", b"E'\\'", b'"', b"$", b"$$", b"$a$", b"$a", b"/*", b"/**/", b"*/", b"-", b"--\n", b";"],
    *[b"'a'\n", b"' --\n", b"'a' --\n", b'U&"a"', b"a", b"1", b"1e", b"\x81", b"(", b" ", b"\0"],
    *[b"set a=1;", b"set_config(", b"set_config('a',", b"create ", b"create table a as execute "],
    *[b"explain (", b"do $$", b"do 'a' ", b"prepare a ", b"declare a ", b"set a.", b"temp ", b"a."],
    *[b"do $a$begin do $b$begin do $c$", b"do $a$ begin set x=1; end $a$;", b"pg_temp ", b"a;"],
    *[b"explain (a) create ", b"on commit ", b"set session characteristics as read ", b"call a;"],
    *[b"execute a;", b"query_to_xml(", b"pg_settings ", b"pg_advisory_unlock_all(),"],
    *[b"pg_create_logical_replication_slot(1),", b"ab.c", b"a.b ", b"$.", b"a.1"],
]
# Seconds of CPU for that text, at most.
LONGEST_READING = 1.0 if SIZE == 1024 else 10.0


def seconds(text: bytes, backslashes: bool) -> float:
    buffer = bytearray(text)
    session = Session()
    start = process_time()
    glance(buffer, 0, len(text), backslashes)
    session.touch(read(text, backslashes), text, DEFAULT, frozenset(), False)
    return process_time() - start


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "head",
    [b"", b"set x = 1;", b"do $$begin ", b"call a;"],
    ids=["", "set", "do", "call"],
)
@pytest.mark.parametrize("pattern", PATTERNS, ids=repr)
def test_time_is_linear(pattern: bytes, head: bytes) -> None:
    """Four times the text may take four times as long, and as much again for bad luck."""
    size = len(pattern)
    short, long = (head + pattern * (kib * 1024 // size) for kib in (SIZE // 4, SIZE))
    for backslashes in (False, True):
        taken = min(seconds(short, backslashes) for _ in range(3))
        longer = min(seconds(long, backslashes) for _ in range(2))
        assert longer < 10 * taken + 0.02
        assert longer < LONGEST_READING


@pytest.mark.parametrize("call", ["pg_advisory_unlock_all()", "a.pg_temp", "do 'a'"])
def test_a_long_token_in_front_is_not_read_again_for_each_that_follows(call: str) -> None:
    short, long = (
        f"select e'{'a' * (SIZE << size)}', {','.join([call] * 900)}".encode() for size in (8, 10)
    )
    taken = min(seconds(short, False) for _ in range(3))
    longer = min(seconds(long, False) for _ in range(2))
    assert longer < 10 * taken + 0.02
    assert longer < LONGEST_READING


COMMENTS = {"C_COMMENT", "SQL_COMMENT"}


def _by_postgres(text: str) -> list[tuple[int, int]]:
    """Where its tokens begin and end, as Postgres's own lexer says."""
    parser = pytest.importorskip("pglast.parser")
    try:
        tokens = parser.scan(text)
    except parser.ParseError:
        assume(False)
    return [(one.start, one.end + 1) for one in tokens if one.name not in COMMENTS]


MORE = st.lists(
    st.sampled_from([piece for piece in PIECES if piece not in ("\0", "\\")]), max_size=20
).map("".join)


@settings(deadline=None)
@given(st.one_of(texts(KNOWN + HARMLESS).map(lambda made: made[0]), MORE))
def test_tokens_are_those_of_postgres(text: str) -> None:
    """Operators aside, of which ours are single characters."""
    theirs = _by_postgres(text)
    assume(text.isascii())
    ours = Tokens(text.encode())
    starts = dict(theirs)
    while ours.advance():
        if ours.stop - ours.start == 1 and not text[ours.start].isalnum():
            assert any(start <= ours.start < end for start, end in theirs)
        else:
            assert starts[ours.start] == ours.stop


PREPARED_KINDS = ("PrepareStmt", "ExecuteStmt", "DeallocateStmt")


@settings(deadline=None)
@given(texts(KNOWN + HARMLESS))
def test_statements_are_those_of_postgres(made: tuple[str, list[Part]]) -> None:
    """Each piece is one of its statements, white space and comments around it aside."""
    text = made[0]
    assume(text.isascii())
    parse = pytest.importorskip("pglast").parse_sql
    theirs = []
    for raw in parse(text):
        inner = raw.stmt
        if type(inner).__name__ in ("ExplainStmt", "CreateTableAsStmt"):
            inner = inner.query
        if type(inner).__name__ in PREPARED_KINDS:
            end = raw.stmt_location + (raw.stmt_len or len(text))
            theirs.append((inner.name, _stripped(text, raw.stmt_location, min(end, len(text)))))
    found = read(text.encode())
    assert [(piece.name, (piece.start, piece.end)) for piece in found.prepared] == theirs


def _stripped(text: str, start: int, end: int) -> tuple[int, int]:
    tokens = Tokens(text[start:end].encode())
    tokens.advance()
    first = tokens.start
    while tokens.advance():
        pass
    return start + first, start + tokens.last
