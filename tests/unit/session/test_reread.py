"""What the constants of a text are read under, and how that is had for one Parse."""

from __future__ import annotations

import time

import pytest

from proxy.session.parameters import NONE, USUAL_PATH, Parameters
from proxy.session.reread import has_constants, is_of_its_moment, looks_up_anew, way
from proxy.session.statement import share
from tests.unit.session.statements import split

READ = [
    "SELECT '2020-01-01'::timestamptz",
    "select 'today'",
    "SELECT '{NULL}'::text[]",
    "SELECT '<a/>'::xml",
    r"SELECT 'a\\b'",
    "INSERT INTO t VALUES (DATE '01/02/2020')",
    "WITH x AS (SELECT '1') SELECT * FROM x",
    "  -- a comment\n /* another */ ((SELECT '1'))",
    "SELECT $$1$$",
    "SELECT $a$2020-01-01$a$",
    "SELECT 1 /* it's */",
    "SELECT x = NULL FROM t",
    "/* a /* b */ c */ SELECT '1'",
    "-- a\rSELECT '1'",
    "SELECT xml 'abc'",
    "SELECT 'Z\u00fcrich'",
    'SELECT 1 AS "\u00fc"',
    "EXPLAIN SELECT '1'",
    "DECLARE c CURSOR FOR SELECT '1'",
    "CREATE TEMP TABLE t AS SELECT '1'",
    "CREATE MATERIALIZED VIEW v AS SELECT '1'",
    "CALL p('1')",
    "SELECT '" + "x" * 200_000 + "'",
]
UNREAD = [
    "",
    ";",
    "SELECT 1",
    "SELECT $1",
    "SELECT a FROM t WHERE state = 'open' AND n = 5",
    'SELECT "it\'s 1" FROM t',
    "SELECT a -- it's 1\n FROM t",
    "UPDATE t SET a = $1 WHERE b = $2",
    "CREATE DATABASE d LC_COLLATE '8'",
    "SET timezone = '1'",
    "BEGIN ISOLATION LEVEL SERIALIZABLE",
    "VACUUM t1",
    "EXECUTE s('1')",
    "SELECT a FROM t WHERE b IS NULL",
]


@pytest.mark.parametrize("text", READ)
def test_what_may_be_read_otherwise(text: str) -> None:
    assert has_constants(text.encode())


@pytest.mark.parametrize("text", UNREAD)
def test_what_is_read_the_same_under_all_parameters(text: str) -> None:
    assert not has_constants(text.encode())


@pytest.mark.parametrize(
    "piece", ["/**/", "(", "'a'", "$a", '"a"', '"', "'", "--", "/*", "create temp ", "*", "null "]
)
@pytest.mark.parametrize("begins", ["", "SELECT ", "CREATE ", "/*"])
def test_hostile_texts_take_linear_time(piece: str, begins: str) -> None:
    def taken(size: int) -> float:
        text = (begins + piece * (size // len(piece))).encode()
        best = 1.0
        for _ in range(3):
            begun = time.thread_time()
            has_constants(text)
            best = min(best, time.thread_time() - begun)
        return best

    assert taken(99_000) < 16 * taken(16_500) + 0.005
    assert taken(1 << 20) < 0.5


def meaning(**values: str) -> tuple[tuple[str, str], ...]:
    found: tuple[tuple[str, str], ...] = Parameters.of(values).meaning
    return found


def test_a_way_sets_what_differs_and_puts_it_back() -> None:
    there, back = way(meaning(timezone="UTC", datestyle="ISO, DMY"), meaning(datestyle="ISO, DMY"))
    assert [kind for kind, _, _ in split(there)] == ["C", "P", "B", "E", "C", "C"]
    assert [kind for kind, _, _ in split(back)] == ["C", "P", "B", "E", "C", "C"]
    sent = split(there)[1][2].decode()
    assert "set_config('timezone','UTC',true)" in sent
    assert "datestyle" not in sent
    assert "set_config('timezone',pg_catalog.current_setting(" in split(back)[1][2].decode()


def test_a_way_leads_to_defaults_too() -> None:
    there, _ = way(meaning(), meaning(timezone="UTC"))
    assert b"set_config('timezone',NULL,true)" in there


def test_no_way_is_needed_where_constants_are_read_the_same() -> None:
    assert way(meaning(row_security="off"), meaning(jit="off")) == (b"", b"")


def test_where_nothing_is_known_of_now_all_is_set() -> None:
    there, back = way(meaning(timezone="UTC"), None)
    for name in ("timezone", "datestyle", "client_encoding", "lc_monetary", "search_path"):
        assert f"set_config('{name}'".encode() in there
        assert f"set_config('{name}'".encode() in back


@pytest.mark.parametrize(
    "then, now, anew",
    [
        ({}, {"search_path": "a"}, True),
        ({}, {"search_path": '"$user", public'}, False),
        ({"search_path": "public"}, {"timezone": "UTC"}, False),
        ({"search_path": "a, b"}, {"search_path": "a,b"}, False),
        ({"search_path": "a, b"}, {"search_path": "b, a"}, True),
    ],
)
def test_what_postgres_looks_up_anew(then: dict[str, str], now: dict[str, str], anew: bool) -> None:
    assert looks_up_anew(meaning(**then), meaning(**now), USUAL_PATH) is anew


def test_the_default_is_a_path_like_any_other() -> None:
    none, own = meaning(), meaning(search_path="own")
    assert not looks_up_anew(none, own, "own")
    assert looks_up_anew(none, meaning(search_path="public"), "own")


@pytest.mark.parametrize(
    "text, of_its_moment",
    [
        ("INSERT INTO log VALUES ($1, 'now')", True),
        ("SELECT * FROM t WHERE d = ' Today '", True),
        ("SELECT timestamptz 'now()'", True),
        ("SELECT '04:05 tomorrow'::timestamp", True),
        ("SELECT now(), 'a', current_date", False),
        ("SELECT 'a' WHERE t < now() AND b = 'c'", False),
        ("/* route='/x' */ SELECT now() - interval '1 day'", False),
        ("/* route='/x' */ SELECT 'yesterday'::date", True),
        ("/* c */ SELECT 'now()'::timestamptz", True),
        ("SELECT $$now$$::timestamptz", True),
        ("SELECT nowhere, todays FROM yesterdays", False),
    ],
)
def test_which_texts_are_of_their_moment(text: str, of_its_moment: bool) -> None:
    assert is_of_its_moment(text.encode()) is of_its_moment
    assert share(text.encode() + b"\0\0\0", NONE).alone is of_its_moment
