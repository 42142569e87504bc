"""Names with a dot are found wherever they stand in a text."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.session.dotted import LARGEST, MOST, dotted

# The same in words that are easier to believe, if slower.
BEGINS = r"[a-zA-Z_\x80-\xff]"
NAMES = [
    re.compile(f"(?<!{rest}){BEGINS}{rest}*(?:\\.{BEGINS}{rest}*)+".encode("latin-1"))
    for rest in (r"[a-zA-Z0-9_\x80-\xff]", r"[a-zA-Z0-9_$\x80-\xff]")
]
PIECES = [b".", b"a", b"B_", b"1", b"$", b" ", b"'", b"\xc3\xa9", b"\0", b"a.b", b"my.tag"]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=25).map(b"".join)


@given(TEXTS | st.binary(max_size=40))
def test_they_are_those_of_a_pattern(text: bytes) -> None:
    found = {name for pattern in NAMES for name in pattern.findall(text)}
    assert dotted(text) == {name.lower().decode("utf-8", "surrogateescape") for name in found}


@pytest.mark.parametrize(
    "text, names",
    [
        (b"CALL f('My.Tag', 'a.b.c') -- or x.y", {"my.tag", "a.b.c", "x.y"}),
        (b"CALL f($$my.tag$$, 'a.b$c')", {"my.tag", "a.b", "a.b$c"}),
        ("CALL f('my.größe')".encode(), {"my.größe"}),
        (b"1a.b a.1 a. .b a..b 3.14", set()),
        (b'"my"."tag" me@example.com', {"example.com"}),
        (b"", set()),
        (b".", set()),
    ],
)
def test_names(text: bytes, names: set[str]) -> None:
    assert dotted(text) == names


def test_more_of_them_than_can_be_asked_about() -> None:
    assert len(dotted(b" ".join(b"a.b%d" % n for n in range(MOST))) or ()) == MOST
    assert dotted(b" ".join(b"a.b%d" % n for n in range(MOST + 1))) is None
    assert dotted(b"a." + b"b" * (LARGEST - 2)) is not None
    assert dotted(b"a." + b"b" * (LARGEST - 1)) is None
    assert dotted(b"ab" * LARGEST) == set()
