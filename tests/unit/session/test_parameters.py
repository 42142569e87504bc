"""Sets of parameters, and the SQL that brings a server from one to another."""

from __future__ import annotations

import gc

import pytest

from proxy.session import parameters as p
from proxy.session.parameters import NONE, Parameters, certain, difference, quote, settings_query


def test_equal_sets_are_the_same_object() -> None:
    assert Parameters.of({"a": "1", "b": "2"}) is Parameters.of({"b": "2", "a": "1"})
    assert Parameters.of({}) is NONE
    assert Parameters.of({"a": "1"}) is not Parameters.of({"a": "2"})


def test_sets_nobody_uses_are_let_go() -> None:
    before = len(p._interned)
    kept = Parameters.of({"only": "here"})
    assert len(p._interned) == before + 1
    del kept
    gc.collect()
    assert len(p._interned) == before


def test_one_parameter_changed() -> None:
    one = Parameters.of({"a": "1"})
    both = one.with_value("b", "2")
    assert both is Parameters.of({"a": "1", "b": "2"})
    assert both.with_value("b", None) is one
    assert one.with_value("a", "1") is one
    assert one.with_value("missing", None) is one


def test_meaning_is_what_can_change_a_statement() -> None:
    plain = Parameters.of({"application_name": "x", "statement_timeout": "5s"})
    assert plain.meaning == NONE.meaning
    assert Parameters.of({"search_path": "x"}).meaning != NONE.meaning


def test_values_do_not_show_in_a_log_line() -> None:
    assert repr(Parameters.of({"my.token": "secret"})) == "Parameters(my.token)"


@pytest.mark.parametrize(
    "text, quoted",
    [("a", "'a'"), ("", "''"), ("it's", "'it''s'"), ("a\\b", " E'a\\\\b'"), ("\\'", " E'\\\\'''")],
)
def test_quote(text: str, quoted: str) -> None:
    assert quote(text) == quoted


def test_difference_sets_what_differs_and_resets_what_is_gone() -> None:
    have = Parameters.of({"a": "1", "b": "2", "c": "3"})
    want = Parameters.of({"a": "1", "b": "it's"})
    calls = difference(have, want).decode().removeprefix("SELECT ")
    assert set(calls.replace("),", ")\n").split("\n")) == {
        "pg_catalog.set_config('b','it''s',false)",
        "pg_catalog.set_config('c',NULL,false)",
    }


def test_settings_query_keeps_its_order() -> None:
    assert settings_query([("z", "1"), ("a", None)]) == (
        "SELECT pg_catalog.set_config('z','1',false),pg_catalog.set_config('a',NULL,false)"
    )


@pytest.mark.parametrize(
    "have, want, sure",
    [
        ({}, {"timezone": "UTC"}, True),
        ({"search_path": "x"}, {}, True),
        ({}, {"role": "joe"}, False),
        ({"role": "joe"}, {}, False),
        ({"statement_timeout": "1"}, {"statement_timeout": "1", "timezone": "UTC"}, False),
        ({}, {"statement_timeout": "1"}, True),
        ({}, {"work_mem": "64MB", "my.tag": "x"}, True),
        ({}, {"default_tablespace": "x"}, False),
        ({"role": "joe"}, {"role": "joe", "work_mem": "64MB"}, False),
    ],
)
def test_certain(have: dict[str, str], want: dict[str, str], sure: bool) -> None:
    assert certain(Parameters.of(have), Parameters.of(want)) is sure
