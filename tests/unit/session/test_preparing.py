"""What PREPARE read its text under, and which statements can be prepared on another server."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from proxy.session.parameters import Meaning, Prepared
from proxy.session.preparing import (
    NOTHING_READ,
    Readings,
    definition,
    is_stand_in,
    made,
    may_move,
    stand_in,
    stands_for,
)
from proxy.session.verdict import Verdict, verdict

A: Meaning = (("search_path", "a"),)
B: Meaning = (("search_path", "b"),)
PLAIN = "PREPARE p AS SELECT 1"


def noted(
    *texts: str,
    known: Iterable[str] = (),
    meaning: Meaning | None = A,
    quiet: bool = True,
) -> Readings:
    readings = Readings()
    for text in texts:
        octets = text.encode()
        readings.note(verdict(octets), octets, set(known), meaning, quiet, verdict)
    return readings


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        "SELECT 1; prepare P as select 1; EXECUTE p; SELECT 1/0",
        "PREPARE q AS SELECT 1; EXECUTE q; PREPARE p AS SELECT 1",
        "PREPARE p AS UPDATE t SET a = 1; PREPARE q AS SELECT 2",
        "PREPARE p AS SELECT CASE WHEN true THEN 1 END",
        "DEALLOCATE ALL; PREPARE p AS SELECT 1",
        "PREPARE p AS SELECT set_config('timezone', 'UTC', false)",
        "SET work_mem = '5MB'; PREPARE p AS SELECT 1; UPDATE t SET a = 1; RESET my.tag",
    ],
)
def test_alone_it_reads_what_was_before(text: str) -> None:
    assert noted(text).under["p"] == A
    assert not noted(text).open


@pytest.mark.parametrize(
    "text",
    [
        "SET search_path = b; PREPARE p AS SELECT 1",
        "EXECUTE q; PREPARE p AS SELECT set_config('timezone', 'UTC', false)",
        "EXECUTE q; PREPARE p AS SELECT 1",
        "EXECUTE p; DEALLOCATE p; PREPARE p AS SELECT 1",
        "PREPARE p AS SELECT 1; PREPARE TRANSACTION 'x'",
        "PREPARE p AS SELECT set_config($1, $2, false); SELECT 1",
        "SET timezone = 'a'; PREPARE p AS SELECT set_config('timezone', 'UTC', false)",
        "SET LOCAL search_path = b; PREPARE p AS SELECT 1",
        "select set_config('search_path', 'b', true); PREPARE p AS SELECT 1",
        "PREPARE p AS SELECT 1; COMMIT",
        "rollback; PREPARE p AS SELECT 1",
        "DO 'BEGIN END'; PREPARE p AS SELECT 1",
    ],
)
def test_beside_what_may_change_parameters_nobody_can_tell(text: str) -> None:
    for meaning in (A, None):
        readings = noted(text, meaning=meaning)
        assert readings.under == {"p": None}
        assert not readings.open


def test_what_functions_of_the_database_do_counts() -> None:
    def judge(text: bytes) -> Verdict:
        said = verdict(text)
        return Verdict(names=("timezone",), prepared=said.prepared) if b"zone()" in text else said

    for text, under in (
        ("SELECT zone(); PREPARE p AS SELECT 1", None),
        ("PREPARE p AS SELECT zone()", A),
        ("PREPARE p AS SELECT zone(); EXECUTE p", None),
    ):
        readings = Readings()
        readings.note(judge(text.encode()), text.encode(), set(), A, True, judge)
        assert readings.under == {"p": under}
    chain = "PREPARE q AS SELECT set_config('timezone', 'UTC', false); EXECUTE q; " + PLAIN
    assert noted(chain).under["p"] is None


@pytest.mark.parametrize(
    "text, may",
    [
        ("SELECT 1", False),
        ("SET work_mem = '5MB'", False),
        (PLAIN, False),
        ("ROLLBACK TO s", True),
        ("commit and chain", True),
        ("SET LOCAL timezone = 'UTC'", True),
        ("RESET search_path", True),
        ("EXECUTE p", True),
        ("FETCH c", True),
        ("SET CONSTRAINTS ALL IMMEDIATE", True),
    ],
)
def test_behind_a_prepare_some_texts_leave_nothing_to_be_told(text: str, may: bool) -> None:
    octets = text.encode()
    assert may_move(verdict(octets), octets) == may


def test_what_is_spoilt_is_not_told() -> None:
    readings = noted(PLAIN, meaning=None)
    readings.spoil()
    readings.told(A, A)
    assert readings.under == {"p": None}


def test_behind_something_under_way_nobody_can_tell_unless_a_transaction_begins() -> None:
    readings = noted(PLAIN, quiet=False)
    assert readings.under == {"p": None}
    readings.told(A, A)
    assert readings.under == {"p": A}


@pytest.mark.parametrize(
    "quiet, now, found",
    [(True, A, A), (True, B, B), (True, None, None), (False, A, A), (False, B, None)],
)
def test_in_a_transaction_the_server_tells(
    quiet: bool, now: Meaning | None, found: Meaning | None
) -> None:
    readings = noted(PLAIN, meaning=None, quiet=quiet)
    readings.told(now, A)
    assert readings.under == {"p": found}
    readings.told(B, B)
    assert readings.under == {"p": found}


def test_a_name_that_is_taken_is_not_read_again() -> None:
    before = {"p": Prepared(PLAIN, B)}
    assert noted(PLAIN, known=before).under == {}
    assert made({"p": PLAIN}, before, noted(PLAIN, known=before), False) == before
    for freed in ("DEALLOCATE p", "DEALLOCATE ALL"):
        assert noted(freed, PLAIN, known=before).under == {"p": A}
        assert noted(f"{freed}; {PLAIN}", known=before).under == {"p": A}


def test_of_two_of_the_same_name_there_is_the_first_unless_it_failed() -> None:
    other = "PREPARE p AS SELECT 2"
    readings = noted(PLAIN, meaning=None)
    readings.told(A, A)
    readings.note(verdict(other.encode()), other.encode(), set(), None, True, verdict)
    readings.told(None, A)
    assert readings.under == {"p": A}
    failed = noted(PLAIN, meaning=None)
    failed.told(None, A)
    failed.note(verdict(other.encode()), other.encode(), set(), None, True, verdict)
    failed.told(B, A)
    assert failed.under == {"p": B}
    readings.note(verdict(other.encode()), other.encode(), set(), None, False, verdict)
    assert readings.under == {"p": None}


def test_what_is_known_of_every_statement_can_be_made_elsewhere() -> None:
    sources = {"p": PLAIN, "q": "SELECT 1; PREPARE q AS SELECT 'é'; SELECT 2"}
    readings = noted(*sources.values())
    assert made(sources, {}, readings, False) == {
        "p": Prepared(PLAIN, A),
        "q": Prepared("PREPARE q AS SELECT 'é'", (("client_encoding", "UTF8"), *A)),
    }


@pytest.mark.parametrize(
    "source",
    [
        "DO $$ BEGIN EXECUTE 'PREPARE p AS SELECT 1'; END $$",
        "PREPARE p AS SELECT 2",
        f"PREPARE p AS SELECT '{'x' * (1 << 20)}'",
    ],
)
def test_what_nobody_has_noted_or_is_too_much_cannot(source: str) -> None:
    assert made({"p": source}, {"p": Prepared(PLAIN, A)}, NOTHING_READ, False) == {}
    long = noted(source) if len(source) > 1000 else NOTHING_READ
    assert made({"p": source}, {}, long, False) == {}


def test_where_backslashes_count_the_text_is_read_so() -> None:
    source = r"PREPARE p AS SELECT '\'; SELECT 1'; SELECT 2"
    assert made({"p": source}, {}, noted(source, meaning=A), True) == {
        "p": Prepared(r"PREPARE p AS SELECT '\'; SELECT 1'", A)
    }


@pytest.mark.parametrize("name", ["p", 'a "b"', "\udce9", "žluť"])
def test_a_stand_in_has_the_name_and_says_so(name: str) -> None:
    own = stand_in(name)
    assert is_stand_in(own.text)
    assert not is_stand_in(PLAIN)
    failed = own.text.split("'")[1]
    assert stands_for(f'invalid input syntax for type integer: "{failed}"') == name
    assert stands_for("something else") is None
    before = {name: Prepared("PREPARE x AS SELECT 1", A)}
    assert made({name: own.text}, before, NOTHING_READ, False) == before


@pytest.mark.parametrize(
    "source, name, found",
    [
        ("PREPARE a AS SELECT 1", "a", "PREPARE a AS SELECT 1"),
        (
            "SELECT 1; PREPARE a (int) AS SELECT $1; SELECT 2",
            "a",
            "PREPARE a (int) AS SELECT $1",
        ),
        ("PREPARE a AS SELECT 1; PREPARE b AS SELECT 2", "b", "PREPARE b AS SELECT 2"),
        ("PREPARE a AS SELECT 1; DEALLOCATE a; PREPARE a AS SELECT 2", "a", None),
        ("PREPARE a AS SELECT 1; PREPARE a AS SELECT 2", "a", None),
        ('PREPARE "A b" AS SELECT 1', "A b", 'PREPARE "A b" AS SELECT 1'),
        ("PREPARE A AS SELECT 1", "a", "PREPARE A AS SELECT 1"),
        ("PREPARE a AS SELECT ';'; SELECT 1", "a", "PREPARE a AS SELECT ';'"),
        ("SELECT '\u20ac'; PREPARE a AS SELECT '\xfc'", "a", "PREPARE a AS SELECT '\xfc'"),
        ("SELECT 'PREPARE a AS SELECT 1'", "a", None),
        ("PREPARE a AS SELECT 1", "b", None),
        ("", "a", None),
    ],
)
def test_the_prepare_of_a_name_in_its_string(source: str, name: str, found: str | None) -> None:
    assert definition(source, name) == found
