"""Sets of parameters, and the SQL that brings a server from one to another."""

from __future__ import annotations

import gc

import pytest

from proxy.session import parameters as p
from proxy.session.parameters import (
    NONE,
    Parameters,
    Prepared,
    canonical,
    certain,
    difference,
    hasty,
    preparations,
    quote,
    settings_query,
    stageable,
    staging,
)


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


def test_statements_travel_with_the_values() -> None:
    plan = {"plan": Prepared("PREPARE plan AS SELECT 1")}
    one = Parameters.of({"a": "1"}, plan)
    assert one is Parameters.of({"a": "1"}).with_statements(plan)
    assert one.with_statements(plan) is one
    assert one.with_value("b", "2").statements == plan
    assert one.with_statements({}) is Parameters.of({"a": "1"})


def test_reset_all_leads_to_the_start_and_leaves_identity_and_statements() -> None:
    plan = {"plan": Prepared("PREPARE plan AS SELECT 1")}
    now = Parameters.of({"a": "9", "b": "2", "role": "joe"}, plan)
    start = Parameters.of({"a": "1", "c": "3"})
    assert now.but_for(start) is Parameters.of({"a": "1", "c": "3", "role": "joe"}, plan)


def test_identity_is_given_up_first_and_taken_on_last() -> None:
    have = Parameters.of({"role": "ann", "work_mem": "5MB"})
    want = Parameters.of({"role": "joe", "session_authorization": "eve"})
    names = [call.split("'")[1] for call in difference(have, want).decode().split("),")]
    assert names == ["role", "work_mem", "session_authorization", "role"]


def test_a_difference_of_nothing_is_nothing() -> None:
    same = Parameters.of({"a": "1"}, {"plan": Prepared("PREPARE plan AS SELECT 1")})
    assert difference(same, same) == b""
    assert preparations(same, same) == {}
    assert staging(same, same) is same


def test_statements_are_dropped_and_prepared_where_they_differ() -> None:
    one, two = Prepared("PREPARE b AS SELECT 1"), Prepared("PREPARE b AS SELECT 2")
    have = Parameters.of({}, {"a": one, 'b"': one})
    want = Parameters.of({}, {"a": one, 'b"': two})
    assert difference(have, want) == b'DEALLOCATE "b"""'
    assert preparations(have, want) == {'b"': two}
    assert preparations(NONE, have) == have.statements


A, B = (("search_path", "a"),), (("search_path", "b"),)
P, Q = Prepared("PREPARE p AS SELECT 1", A), Prepared("PREPARE q AS SELECT 1", B)


def test_each_statement_is_prepared_under_what_gave_it_its_meaning() -> None:
    want = Parameters.of({"search_path": "c", "work_mem": "5MB"}, {"p": P, "q": Q})
    have, stages = Parameters.of({"timezone": "UTC"}, {"p": Q}), []
    while (stage := staging(have, want)) is not want:
        prepared = stageable(stage, want)
        stages.append((dict(stage.values), [*prepared]))
        have = stage.with_statements({**stage.statements, **prepared})
    assert stages == [
        ({"search_path": "a", "work_mem": "5MB"}, ["p"]),
        ({"search_path": "b", "work_mem": "5MB"}, ["q"]),
    ]
    assert have.statements == want.statements


def test_what_is_prepared_as_the_client_is_set_now_needs_no_step_of_its_own() -> None:
    want = Parameters.of(
        {"search_path": "a", "work_mem": "5MB", "client_encoding": "SJIS"}, {"p": P}
    )
    assert staging(NONE, want).values == want.values


def test_limits_do_not_end_what_is_prepared_anew() -> None:
    want = Parameters.of({"search_path": "a", "statement_timeout": "1ms"}, {"p": P})
    assert staging(NONE, want).values == {"search_path": "a"}


def test_statements_of_where_the_server_stands_come_first() -> None:
    want = Parameters.of({"search_path": "c"}, {"p": P, "q": Q})
    have = Parameters.of({"search_path": "b"})
    assert staging(have, want) is have
    assert stageable(have, want) == {"q": Q}


@pytest.mark.parametrize(
    "shown, short",
    [("0", False), ("5ms", True), ("999", True), ("1s", False), ("1500ms", False), ("9min", False)],
)
def test_time_limits_of_less_than_a_second(shown: str, short: bool) -> None:
    assert hasty(shown) is short


def test_text_says_in_which_encoding_it_is_sent_again() -> None:
    latin = (("client_encoding", "LATIN1"), ("search_path", "a"))
    assert Prepared.under("PREPARE p AS SELECT 1", latin).meaning == A
    assert dict(Prepared.under("PREPARE p AS SELECT 'é'", latin).meaning) == {
        "client_encoding": "UTF8",
        "search_path": "a",
    }


@pytest.mark.parametrize(
    "row, values",
    [
        ([b"5000kB", b"UTC"], {"work_mem": "5000kB", "timezone": "UTC"}),
        ([None, b"UTC"], {"work_mem": "5120kb", "timezone": "UTC"}),
        ([b"\xff", b"UTC"], {"work_mem": "5120kb", "timezone": "UTC"}),
        ([b"5MB"], {"work_mem": "5120kb", "timezone": "utc"}),
    ],
)
def test_values_are_kept_as_the_server_writes_them(
    row: list[bytes | None], values: dict[str, str]
) -> None:
    asked = Parameters.of({"work_mem": "5120kb", "timezone": "utc"})
    in_order_of_name = row[::-1]
    assert canonical(asked, in_order_of_name) == values


@pytest.mark.parametrize("text", ["\xfc", "€'", "\xfc\\"])
def test_what_is_not_ascii_is_written_so_that_no_encoding_changes_it(text: str) -> None:
    written = quote(text)
    assert written.isascii()
    assert "\\" not in written  # which standard_conforming_strings gives another meaning
    assert bytes.fromhex(written.split("'")[1]).decode() == text


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
        ({}, {"temp_buffers": "1MB"}, False),
        ({"role": "joe"}, {"role": "joe", "work_mem": "64MB"}, False),
    ],
)
def test_certain(have: dict[str, str], want: dict[str, str], sure: bool) -> None:
    assert certain(Parameters.of(have), Parameters.of(want)) is sure
