"""Commands that are known by their first words."""

from __future__ import annotations

import time

import pytest

from proxy.session.commands import leads_by_itself


@pytest.mark.parametrize(
    "text",
    [
        "SET LOCAL search_path = a, public",
        "set search_path to 'x' ; ",
        "SELECT set_config('search_path', 'x', true)",
        "select pg_catalog.set_config ( 'search_path' , $1::text , false );\0the value",
    ],
)
def test_a_text_that_says_where_it_leads(text: str) -> None:
    assert leads_by_itself(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        "",
        'SET LOCAL search_path = "$user"',
        r"SET LOCAL search_path = '\044user'",
        "SET LOCAL search_path = U&'!0024user' UESCAPE '!'",
        """SELECT set_config('search_path', '"$user"', true)""",
        """SELECT set_config('search_path', $1, true)\0"$user", public""",
        "SET LOCAL search_path = a; SELECT 1",
        "SELECT set_config('search_path', current_setting('a'), true)",
        "SELECT set_config('search_path', 'a' || current_schema, true)",
        "SELECT set_config('search_path', $2, $1)\0the values",
    ],
)
def test_a_text_that_leads_elsewhere_for_others(text: str) -> None:
    assert not leads_by_itself(text.encode())


@pytest.mark.parametrize(
    "begins", ["", "set ", "set search_path =", "select set_config('search_path',"]
)
@pytest.mark.parametrize("piece", [" ", "a ", "'a' ", "::text "])
def test_hostile_texts_take_linear_time(begins: str, piece: str) -> None:
    text = (begins + piece * 200_000 + "(").encode()
    begun = time.thread_time()
    assert not leads_by_itself(text)
    assert time.thread_time() - begun < 0.5
