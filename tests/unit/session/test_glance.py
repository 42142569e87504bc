"""Which texts are looked at again, and how Postgres cuts a text into tokens."""

from __future__ import annotations

import pytest

from proxy.session.findings import CREATES
from proxy.session.glance import COMMANDS, WORDS, glance
from proxy.session.lexer import ONE, TWO, TWO_BUT_KANA, masked, width
from proxy.session.tokens import Tokens
from proxy.session.verdict import verdict


def seen(text: str | bytes, backslashes: bool = False, wide: int = ONE) -> bool:
    octets = text.encode() if isinstance(text, str) else text
    padded = bytearray(b"set x;" + octets + b";set y")
    return bool(glance(padded, 6, 6 + len(octets), backslashes, wide))


def tokens(text: str, backslashes: bool = False) -> list[str]:
    found = Tokens(text.encode(), backslashes)
    parts = []
    while found.advance():
        parts.append(found.text[found.start : found.stop].decode())
    return parts


@pytest.mark.parametrize("word", COMMANDS)
def test_a_command_counts_at_the_beginning_of_a_statement(word: str) -> None:
    assert seen(f"{word} x")
    assert seen(f"  /* {word} */ -- {word}\n {word.upper()} x")
    assert seen(f"select 1;{word.title()}")
    assert not seen(f"select {word} x") or word == "execute"
    assert not seen(f"x{word} x")
    assert not seen(f"{word}x x")
    assert not seen(f'"{word}" x')


@pytest.mark.parametrize(
    "text, made",
    [
        ("SELECT id INTO t FROM u", True),
        ("select insert.a, x Into t from u", True),
        ("WITH q AS (SELECT 1) SELECT * INTO t FROM q", True),
        ("SELECT 1;SELECT a\nINTO\nt", True),
        ("INSERT INTO t SELECT 1", False),
        ("insert\n\tinto t values (1)", False),
        ("WITH q AS (INSERT INTO t VALUES (1) RETURNING a) SELECT * FROM q", False),
        ("MERGE INTO t USING u ON true WHEN MATCHED THEN DO NOTHING", False),
    ],
)
def test_select_into_makes_a_table_and_insert_into_does_not(text: str, made: bool) -> None:
    assert seen(text) is made
    assert bool(verdict(text.encode()).does & CREATES) is made


@pytest.mark.parametrize("word", [*WORDS, "pg_temp", "pg_temp_3"])
def test_a_word_counts_anywhere(word: str) -> None:
    assert seen(f"select {word}(1)")
    assert seen(f"select f({word.upper()})")
    assert seen(f'select a."{word}" (1)')
    assert seen(f"select 1e5{word}(1)")
    assert not seen(f"select '{word}', $${word}$$, $a${word}$a$, /* {word} */ 1 -- {word}")
    assert not seen(f"select x{word}, x${word}")


@pytest.mark.parametrize(
    "text",
    [
        "",
        ";;",
        "select 1",
        "begin",
        "commit",
        "update t set a = 1",
        "insert into t values (1) on conflict do nothing",
        "select pg_advisory_xact_lock(1), nextval('s')",
        "select 'it''s; set x'",
        "select 'a\\'; select 'set x",
        "select E'a\\'; set x'",
        "select e'a' -- c\n  '\\'; set x'",
        "select U&'a\\'; select ';set x'",
        "select $a$ $b$; set x $b$ $a$",
        "select $ä$; set x $ä$",
        "/* /* */ ; set x */ select 1",
        "select 1 -- ; set x",
        "select a$b$; select $b$, 1",
        'select "; set x"" ; set y"',
        "alter table t rename close to open",
        "grant select on pgtemp to x",
    ],
)
def test_most_texts_do_not_count(text: str) -> None:
    assert not seen(text)


@pytest.mark.parametrize(
    "text",
    [
        "select 'a\\'; set x",
        "select E'a\\\\'; set x",
        "select E'a' '\\'; set x",
        "select -- \r; set x",
        "select 1 /* */; set x",
        "select 1 */* /**/ */; set x",
        "select a$b$; set x; select $b$",
        "select $1$a; set x",
        "select $$ $a$ $$; set x $a$",
        'select U&"set_conf\\0069g"(1)',
        "\f\v\t\r\nset x",
        "select '' '';set x",
        "select B'\\'; set x",
        "select n'\\'; set x",
    ],
)
def test_postgres_ends_a_constant_here(text: str) -> None:
    assert seen(text)


def test_backslashes_escape_when_strings_do_not_conform() -> None:
    assert seen("select 'a\\'; set x --'") is True
    assert seen("select 'a\\'; set x --'", backslashes=True) is False
    assert seen("select '\\\\'; set x", backslashes=True) is True
    assert seen("select $$\\$$; set x", backslashes=True) is True
    assert seen("select B'\\'; set x", backslashes=True) is True
    assert seen("select n'a\\'; set x --'", backslashes=True) is False


@pytest.mark.parametrize(
    "end", ["'", '"', "$$", "$a$", "/*", "/* /* */", "E'\\", "U&'", "--", "$a"]
)
def test_what_is_unterminated_reaches_to_the_end(end: str) -> None:
    assert not seen(f"select 1 {end}")
    assert seen(f"set x; {end}")
    assert seen(b"set \x00" + end.encode())


def test_second_bytes_that_look_like_ascii() -> None:
    kana_ends = b"select E'\xb1'; set x --'"
    backslash = b"select E'\x95\\'; set x --'"
    tag = b"select $\x83@$ ; set x $\x83@$"
    assert not seen(kana_ends, wide=TWO)
    assert seen(kana_ends, wide=TWO_BUT_KANA)
    assert not seen(backslash)
    assert seen(backslash, wide=TWO)
    assert seen(backslash, wide=TWO_BUT_KANA)
    assert seen(tag)
    assert not seen(tag, wide=TWO)


@pytest.mark.parametrize(
    "name, encoding, wide",
    [
        ("SJIS", "cp932", TWO_BUT_KANA),
        ("SHIFT_JIS_2004", "shift_jis_2004", TWO_BUT_KANA),
        ("BIG5", "big5", TWO),
        ("gbk", "gbk", TWO),
        ("UHC", "cp949", TWO),
        ("GB18030", "gb18030", TWO),
    ],
)
def test_masked_leaves_ascii_alone(name: str, encoding: str, wide: int) -> None:
    assert width(name) == wide
    sample = "".join(map(chr, [*range(0x4E00, 0x5000), *range(0x3041, 0x3090), 0x20AC, 0x00E9]))
    for letter in sample.encode(encoding, "ignore").decode(encoding):
        octets = b"a'" + letter.encode(encoding) + b"'\\"
        changed = masked(octets, wide)
        assert len(changed) == len(octets)
        assert changed[:2] == b"a'"
        assert changed[-2:] == b"'\\"
        assert all(code >= 128 for code in changed[2:-2])


@pytest.mark.parametrize("name", ["UTF8", "LATIN1", "EUC_JP", "SQL_ASCII", "WIN1252"])
def test_other_encodings_are_read_as_they_are(name: str) -> None:
    assert width(name) == ONE


@pytest.mark.parametrize(
    "text, parts",
    [
        ("a.b", ["a", ".", "b"]),
        ("1e5x 1.5e-3 1e+ $12a", ["1e5", "x", "1.5e-3", "1", "e", "+", "$12", "a"]),
        ("1..2 .5 1.e5", ["1", ".", ".", "2", ".", "5", "1.e5"]),
        ("a--b\rc", ["a", "c"]),
        ("'a'\n'b''c' 'd'", ["'a'\n'b''c'", "'d'"]),
        ("'a' -- 'x'\n  'b'", ["'a' -- 'x'\n  'b'"]),
        ("'a' /* \n */ 'b'", ["'a'", "'b'"]),
        ("U&\"a\" u&'b' u & b", ['U&"a"', "u&'b'", "u", "&", "b"]),
        ("$a$ $a $a$b$b", ["$a$ $a $a$", "b$b"]),
        ("$$a$ $$", ["$$a$ $$"]),
        ("$1$a$b$a$", ["$1", "$a$b$a$"]),
        ("ae'x' _1$ é", ["ae", "'x'", "_1$", "é"]),
        ("x'1''2'\n'3'", ["x'1'", "'2'\n'3'"]),
        ("b'1'\n'2'", ["b'1'\n'2'"]),
        ("a/*/*/b*/*/c", ["a", "c"]),
    ],
)
def test_tokens(text: str, parts: list[str]) -> None:
    assert tokens(text) == parts
