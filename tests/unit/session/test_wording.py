"""Statements as they are shown: never a value in them."""

from __future__ import annotations

import pytest

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
    ],
)
def test_normalised(text: str, shown: str) -> None:
    assert normalised(text.encode()) == shown


def test_backslashes_hide_no_value() -> None:
    text = b"select 'it\\'s secret'"
    assert normalised(text, backslashes=True) == "select ?"


def test_it_is_short_whatever_comes() -> None:
    for text in (b"x" * 5000, b'"' + b"x" * 5000, b"1," * 5000, b"\xff " * 5000):
        assert len(normalised(text)) == LONGEST


def test_digest() -> None:
    one, other = (normalised(b"select %d /* x */ from t" % number) for number in (1, 2))
    assert digest(one) == digest(other) == "7d23d069fb40d83b"
    assert digest(one) != digest("select")
    assert len(digest(one)) == 16
