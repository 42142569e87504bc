"""Statements as they are shown: never a value in them."""

from __future__ import annotations

import pytest

from proxy.session.lexer import TWO_BUT_KANA
from proxy.session.wording import LONGEST, digest, normalised


@pytest.mark.parametrize(
    "text, shown",
    [
        ("  select  1 ;  ", "select ? ;"),
        ("SELECT a.b,'c''d' -- e\n FROM /* f */ t", "SELECT a.b,? FROM t"),
        ("alter role bob password E'se\\'cret'", "alter role bob password ?"),
        ("select $1, 1.5e3, -2, x'ff', $$a$$", "select $1, ?, -?, ?, ?"),
        ('select "a b" from "q\n1"', 'select "a b" from "q?1"'),
        ("select 'a'\n'b', U&'c'", "select ?, ?"),
        ("select 'open", "select ?"),
        ("set my.token = s3cret, also; select a = b", "set my.token = ?, ?; select a = b"),
        ('SET SESSION my.token TO "s3cret"', "SET SESSION my.token TO ?"),
        ("set role bob; set time zone local", "set role bob; set time zone local"),
        ("alter role bob set my.token to s3cret", "alter role bob set my.token to ?"),
        ("update t set a = b where c = d", "update t set a = b where c = d"),
        (
            'do language plpython3u $a$ f("secret") # more $a$; select 1',
            "do language plpython3u ?; select ?",
        ),
    ],
)
def test_normalised(text: str, shown: str) -> None:
    assert normalised(text.encode()) == shown


@pytest.mark.parametrize(
    "text, shown",
    [
        (rb"select 'it\'s secret', a", "select ??…"),
        (rb"select 'it\'s', a from b where secret = 'it\''", "select ??…"),
        (rb"select '\d+', a, '\'", "select ?, a, ?"),
        (rb"select e'it\'s secret', a", "select ?, a"),
    ],
)
def test_what_may_be_a_value_is_hidden(text: bytes, shown: str) -> None:
    assert normalised(text) == shown


def test_an_encoding_that_is_not_known() -> None:
    text = "select e'表', secret, e'表'".encode("sjis")
    assert normalised(text, TWO_BUT_KANA) == "select ?, secret, ?"
    assert normalised(text, None) == "select ??…"


def test_it_is_short_whatever_comes() -> None:
    for text in (b"x" * 5000, b'"' + b"x" * 5000, b"1," * 5000, b"\xff " * 5000):
        assert len(normalised(text)) == LONGEST


def test_digest() -> None:
    one, other = (normalised(b"select %d /* x */ from t" % number) for number in (1, 2))
    assert digest(one) == digest(other) == "7d23d069fb40d83b"
    assert digest(one) != digest("select")
    assert len(digest(one)) == 16
