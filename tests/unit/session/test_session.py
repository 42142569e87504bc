"""A session: what statements put in doubt, what is asked then, and what the answers make of it."""

from __future__ import annotations

import pytest

from proxy.conditions import (
    ADVISORY,
    ANYTHING,
    HOLD,
    LISTEN,
    LOAD,
    PARAMETERS,
    PREPARED,
    SEED,
    SEQUENCES,
    SERVER_STATE,
    TEMP,
    UNSURE,
    words,
)
from proxy.session.inquiry import Answer, read_answer
from proxy.session.parameters import NONE, Parameters, Prepared
from proxy.session.policy import DEFAULT, Policy
from proxy.session.session import Session
from proxy.session.statement import Statement
from proxy.session.verdict import verdict

REPORTED = frozenset({"timezone", "datestyle", "client_encoding", "application_name"})
RESET_QUERY = "SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL;"


def touched(
    *texts: str, session: Session | None = None, policy: Policy = DEFAULT, alone: bool = False
) -> Session:
    """A session whose statements are on their way."""
    session = session or Session()
    for text in texts:
        said = verdict(text.encode(), False)
        session.touch(said, text.encode(), policy, REPORTED, alone)
    return session


def began_with(**values: str) -> Session:
    return Session(Parameters.of(values))


def parameters(session: Session) -> dict[str, str]:
    return dict(session.parameters.values)


# -- what is asked -------------------------------------------------------------------------

QUESTIONS = [
    ("SET work_mem = '5MB'", PARAMETERS, ("work_mem",), ("work_mem",), False),
    ("SET my.tag = 'x'", PARAMETERS, ("my.tag",), (), False),
    ("SET timezone = 'UTC'", 0, ("timezone",), ("timezone",), False),
    (
        "SET timezone = 'UTC'; SET work_mem = '5MB'",
        PARAMETERS,
        ("timezone", "work_mem"),
        ("timezone", "work_mem"),
        False,
    ),
    ("RESET work_mem", PARAMETERS, ("work_mem",), ("work_mem",), False),
    ("RESET timezone", 0, ("timezone",), ("timezone",), False),
    ("SET ROLE joe", PARAMETERS, ("role",), (), False),
    ("SET SESSION AUTHORIZATION joe", PARAMETERS, ("role", "session_authorization"), (), False),
    ("SELECT set_config($1, $2, false)", PARAMETERS, ("role",), (), True),
    ("SELECT set_config('my.tag', $1, false)", PARAMETERS, ("my.tag",), (), False),
    ("LISTEN a", LISTEN, (), (), False),
    ("UNLISTEN a", 0, (), (), False),
    ("SELECT pg_advisory_lock(1)", ADVISORY, (), (), False),
    ("CREATE TEMP TABLE a ()", TEMP, (), (), False),
    ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", HOLD, (), (), False),
    ("PREPARE p AS SELECT 1", PREPARED, (), (), False),
    ("LOAD 'x'", 0, (), (), False),
    ("CALL f()", ANYTHING, ("role",), (), True),
]


@pytest.mark.parametrize("text, asks, names, resets, everything", QUESTIONS)
def test_what_a_statement_makes_pgfunnel_ask(
    text: str, asks: int, names: tuple[str, ...], resets: tuple[str, ...], everything: bool
) -> None:
    session = touched(text)
    asked, wanted, put_back, all_of_them = session.question()
    assert words(asked) == words(asks)
    assert set(names) <= set(wanted)
    assert wanted == names or everything
    assert (put_back, all_of_them) == (resets, everything)


@pytest.mark.parametrize(
    "condition, text",
    [
        (LISTEN, "UNLISTEN a"),
        (TEMP, "DROP TABLE a"),
        (ADVISORY, "SELECT pg_advisory_unlock(1)"),
        (HOLD, "CLOSE c"),
    ],
)
def test_what_may_end_a_hold_is_asked_of_those_who_have_it(condition: int, text: str) -> None:
    assert touched(text).asks == 0
    session = Session()
    session.holds = condition
    assert touched(text, session=session).asks == condition


def test_conditions_that_nobody_can_tell_of_hold_at_once_and_for_ever() -> None:
    session = touched("LOAD 'x'", "SELECT setseed(0.5)", "SELECT pg_backup_start('x')")
    assert (session.holds, session.asks) == (LOAD | SEED | SERVER_STATE, 0)
    touched("SELECT 1", session=session)
    assert session.holds == LOAD | SEED | SERVER_STATE


MADE = 1 << 28
"""In `Session.asks`: texts may name other tables than they did."""


def test_what_may_be_temporary_is_known_to_whoever_asks_why() -> None:
    session = touched("CREATE TABLE t (a int)")
    assert (session.asks, session.texts) == (MADE, [(TEMP, b"CREATE TABLE t (a int)")])


def test_a_boundary_behind_ddl_out_of_sight_is_told_of_it() -> None:
    assert words(touched("DO $$ BEGIN ALTER TABLE t ADD a int; END $$").asks) == []
    assert touched("DO $$ BEGIN ALTER TABLE t ADD a int; END $$").asks != 0


def test_currval_pins_only_where_the_policy_says_so() -> None:
    assert touched("SELECT currval('s')").holds == 0
    assert touched("SELECT currval('s')", policy=Policy(pinned=SEQUENCES)).holds == SEQUENCES


@pytest.mark.parametrize("text", ["LISTEN a", "SELECT pg_advisory_lock(1)", "LOAD 'x'"])
def test_what_is_ignored_is_not_asked_for(text: str) -> None:
    session = touched(text, policy=Policy(ignored=LISTEN | ADVISORY | LOAD))
    assert (session.holds, session.asks) == (0, 0)


def test_the_last_ten_statements_that_may_pin_are_kept_for_whoever_asks_why() -> None:
    session = touched(*(f"LISTEN a{n}" for n in range(12)), "SET work_mem = '5MB'")
    assert [text for _, text in session.texts] == [b"LISTEN a%d" % n for n in range(2, 12)]


def test_execute_does_what_its_statement_does() -> None:
    session = Session()
    session.follow(NONE.with_statements({"p": Prepared("PREPARE p AS SELECT pg_advisory_lock(1)")}))
    assert touched("EXECUTE p", session=session).asks == ADVISORY | PREPARED
    assert session.makes(verdict(b"EXECUTE p")) == ADVISORY | PREPARED
    named = Session()
    named.names[b"q"] = Statement(b"LISTEN a\0\0\0", b"pgfunnel_0", verdict(b"LISTEN a"))
    assert named.makes(verdict(b"EXECUTE q")) == LISTEN | PREPARED


def test_ask_leaves_out_what_has_no_answer() -> None:
    session = Session()
    session.ask(LISTEN | LOAD | UNSURE | PREPARED)
    assert session.question() == (LISTEN | PREPARED, (), (), False)


# -- what is sure --------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["DISCARD ALL", "RESET ALL", RESET_QUERY])
def test_a_reset_by_itself_needs_no_question(text: str) -> None:
    session = began_with(work_mem="5MB")
    session.follow(Parameters.of({"work_mem": "9MB", "my.tag": "x"}))
    session.holds = LISTEN | ADVISORY | HOLD if text != "RESET ALL" else 0
    touched(text, session=session, alone=True)
    assert session.sure()
    assert dict(session.reset().values) == {}
    assert parameters(session) == {"work_mem": "5MB"}
    assert (session.holds, session.asks) == (0, 0)


def test_reset_all_leaves_the_role_and_discard_all_does_not() -> None:
    for text, left in (("RESET ALL", {"role": "joe"}), ("DISCARD ALL", {})):
        session = Session()
        session.follow(Parameters.of({"role": "joe", "work_mem": "5MB"}))
        touched(text, session=session, alone=True)
        assert dict(session.reset().values) == left == parameters(session)


def test_a_reset_behind_something_else_is_asked_about() -> None:
    session = touched("SET work_mem = '5MB'", "RESET ALL")
    assert not session.sure()
    assert session.question()[3]


def test_a_sure_reset_that_failed_or_has_company_is_asked_about_after_all() -> None:
    failed = touched("UNLISTEN *", alone=True)
    failed.holds = LISTEN
    failed.unsure()
    assert not failed.sure()
    assert failed.question() == (LISTEN | PARAMETERS | PREPARED, ("role",), (), True)
    followed = touched("DISCARD ALL", alone=True)
    touched("SET work_mem = '5MB'", session=followed)
    assert not followed.sure()
    assert followed.question()[3]


# -- what is believed ----------------------------------------------------------------------


def test_what_was_set_is_what_the_server_says() -> None:
    session = touched("SET work_mem = '5000kB'", "SET my.tag = 'x'")
    settled = frozenset({"work_mem"})
    there = session.believe(Answer(values={"work_mem": "5000kB", "my.tag": "x"}, settled=settled))
    assert parameters(session) == {"work_mem": "5000kB", "my.tag": "x"}
    assert there is session.parameters
    assert session.asks == 0
    assert session.doubt is None


def test_reset_leads_the_client_to_its_start_and_the_server_to_its_own() -> None:
    session = began_with(work_mem="5MB")
    touched("RESET work_mem", session=session)
    there = session.believe(Answer(values={"work_mem": "4MB"}))
    assert dict(there.values) == {}
    assert parameters(session) == {"work_mem": "5MB"}


def test_a_reset_that_was_rolled_back_changes_nothing() -> None:
    session = began_with(work_mem="5MB")
    session.follow(Parameters.of({"work_mem": "9MB"}))
    touched("RESET work_mem", session=session)
    answer = Answer(values={"work_mem": "9MB"}, settled=frozenset({"work_mem"}))
    assert session.believe(answer) is session.parameters
    assert parameters(session) == {"work_mem": "9MB"}


@pytest.mark.parametrize(
    "name, unset", [("my.tag", ""), ("role", "none"), ("timezone", "UTC"), ("work_mem", "4MB")]
)
def test_what_is_set_as_if_it_were_not_is_no_reset(name: str, unset: str) -> None:
    session = Session(Parameters.of({name: "x"}))
    touched(f"SET {name} = '{unset}'", session=session)
    session.believe(Answer(values={name: unset}, settled=frozenset({name})))
    assert parameters(session) == {name: unset}
    touched("SELECT set_config($1, $2, false)", session=session)
    catalogue = {name: unset} if name in ("timezone", "work_mem") else {}
    session.believe(Answer(values={} if catalogue else {name: unset}, session=catalogue))
    assert parameters(session) == {name: unset}


def test_reset_all_leads_to_the_start_what_was_set_as_if_it_were_not() -> None:
    session = Session(Parameters.of({"my.tag": "x"}))
    session.follow(Parameters.of({"my.tag": ""}))
    touched("BEGIN; RESET ALL", session=session)
    assert "my.tag" in session.question()[1]
    session.believe(Answer(values={"my.tag": "", "role": "none"}, session={}))
    assert parameters(session) == {"my.tag": "x"}


def test_everything_that_was_set_replaces_what_was_believed() -> None:
    session = touched("SELECT set_config($1, $2, false)")
    session.follow(Parameters.of({"jit": "off", "my.tag": "x"}))
    answer = Answer(values={"my.tag": "x", "role": "none"}, session={"work_mem": "5MB"})
    session.believe(answer)
    assert parameters(session) == {"my.tag": "x", "work_mem": "5MB"}


def test_the_role_none_is_no_role() -> None:
    session = touched("SET ROLE joe")
    session.believe(Answer(values={"role": "joe"}))
    assert parameters(session) == {"role": "joe"}
    touched("RESET ROLE", session=session)
    session.believe(Answer(values={"role": "none"}))
    assert parameters(session) == {}


def test_an_answer_is_read_as_it_was_asked_for() -> None:
    """Sessions may begin otherwise by the time that it comes."""
    session = touched("DO $$ BEGIN EXECUTE 'SET my.tag = 1'; END $$")
    asked = session.question()
    session.outlive({"a.new": "x", "b.new": "y"}, {})
    assert session.question() != asked
    asks, names, own, everything = asked
    assert (names, own, everything) == (("my.tag", "role"), (), True)
    row: list[bytes | None] = [b"f"] * 4
    row += [text.encode().hex().encode() for text in ("1", "none", "{}")]
    row += [None, None, b"0"]
    session.believe(read_answer(asks, names, own, everything, row))
    assert parameters(session) == {"a.new": "x", "b.new": "y", "my.tag": "1"}


def test_who_is_there_goes_on_as_it_began() -> None:
    session = began_with(work_mem="5MB")
    session.follow(session.parameters.with_value("timezone", "UTC"))
    session.outlive({"work_mem": "4MB", "timezone": "Asia/Tokyo", "my.tag": "x"}, {})
    assert parameters(session) == {"work_mem": "5MB", "timezone": "UTC", "my.tag": "x"}
    assert dict(session.startup.values) == {
        "work_mem": "5MB",
        "timezone": "Asia/Tokyo",
        "my.tag": "x",
    }


def test_who_has_been_told_began_as_it_was_told() -> None:
    session = Session(defaults={b"TimeZone": b"Asia/Tokyo", b"DateStyle": b"SQL, DMY"})
    former = {"timezone": "UTC", "datestyle": "ISO, MDY", "work_mem": "4MB"}
    session.outlive(former, {"timezone": "Asia/Tokyo", "work_mem": "5MB"})
    assert parameters(session) == {"datestyle": "SQL, DMY", "work_mem": "4MB"}


def test_a_client_hears_what_it_has_not_set_itself() -> None:
    before = {b"TimeZone": b"UTC", b"DateStyle": b"ISO, MDY", b"application_name": b""}
    now = {b"TimeZone": b"Asia/Tokyo", b"DateStyle": b"German", b"application_name": b"x"}
    session = Session(defaults=before)
    session.follow(Parameters.of({"datestyle": "SQL"}))
    assert session.hear(now) == {b"TimeZone": b"Asia/Tokyo"}
    assert session.hear(dict(now)) == {}


def test_what_a_client_has_set_itself_stays_when_the_default_becomes_the_same() -> None:
    session = Session(defaults={b"TimeZone": b"UTC"})
    session.follow(Parameters.of({"timezone": "Asia/Tokyo"}))
    assert session.hear({b"TimeZone": b"Asia/Tokyo"}) == {}
    assert parameters(session) == {"timezone": "Asia/Tokyo"}


def test_what_is_set_to_what_it_is_anyway_is_asked_about() -> None:
    session = touched("SET timezone = 'UTC'")
    assert session.asks == 0
    session.settle(DEFAULT.ignored)
    assert session.question() == (PARAMETERS, ("timezone",), ("timezone",), False)
    session.believe(Answer(values={"timezone": "UTC"}, settled=frozenset({"timezone"})))
    assert parameters(session) == {"timezone": "UTC"}


def test_what_failed_to_be_set_is_not_set() -> None:
    session = touched("SET log_min_messages = 'debug1'", "SET work_mem = '1'")
    there = session.believe(Answer(values={"log_min_messages": "warning", "work_mem": "4MB"}))
    assert there is session.parameters is NONE


def test_what_takes_a_superuser_holds_the_server() -> None:
    values: dict[str, str | None] = {"log_min_messages": "debug1", "work_mem": "5MB"}
    names = frozenset(values)
    answer = Answer(values=values, settled=names, above=frozenset({"log_min_messages"}))
    session = touched(
        "SELECT set_config('log_min_messages', 'debug1', false); SET work_mem = '5MB'"
    )
    there = session.believe(answer)
    session.pin(DEFAULT)
    assert there is session.parameters
    assert parameters(session) == {"work_mem": "5MB"}
    assert session.holds == PARAMETERS
    touched("SET work_mem = '6MB'", session=session)
    session.believe(Answer(values={"work_mem": "6MB"}, settled=frozenset({"work_mem"})))
    session.pin(DEFAULT)
    assert session.holds == PARAMETERS
    touched("SET log_min_messages TO DEFAULT", session=session)
    session.believe(Answer(values={"log_min_messages": "warning"}))
    session.pin(DEFAULT)
    assert session.holds == 0


def test_a_superuser_sets_it_everywhere() -> None:
    session = Session(defaults={b"is_superuser": b"on"})
    touched("SET log_min_messages = 'debug1'", session=session)
    names = frozenset({"log_min_messages"})
    session.believe(Answer(values={"log_min_messages": "debug1"}, settled=names, above=names))
    session.pin(DEFAULT)
    assert (parameters(session), session.holds) == ({"log_min_messages": "debug1"}, 0)


def test_what_postgres_tells_of_out_of_nowhere_is_asked_about() -> None:
    session = Session()
    session.wonder("timezone", "Asia/Tokyo")
    asks, names, resets, everything = session.question()
    assert (asks, names, resets, everything) == (PARAMETERS, ("timezone",), ("timezone",), False)
    session.follow(Parameters.of({"timezone": "Asia/Tokyo"}))
    there = session.believe(Answer(values={"timezone": "Asia/Tokyo"}))
    assert there is session.parameters is NONE


def test_what_is_set_to_what_it_is_anyway_is_not_asked_about_where_parameters_are_ignored() -> None:
    session = touched("SET timezone = 'UTC'", policy=Policy(ignored=PARAMETERS))
    session.settle(PARAMETERS)
    assert session.doubt is None


def test_what_is_told_of_behind_a_statement_that_is_ignored_is_not_asked_about() -> None:
    session = touched("SET timezone = 'Asia/Tokyo'", policy=Policy(ignored=PARAMETERS))
    session.wonder("timezone", "Asia/Tokyo")
    assert session.asks == 0


def test_what_is_told_of_and_back_again_is_not_asked_about() -> None:
    session = Session()
    session.wonder("timezone", "Asia/Tokyo")
    session.wonder("timezone", None)
    assert session.asks == 0
    assert session.doubt is None


def test_what_is_told_of_behind_a_statement_that_sets_it_is_not_asked_about() -> None:
    session = touched("SET timezone = 'Asia/Tokyo'")
    session.follow(Parameters.of({"timezone": "Asia/Tokyo"}))
    session.wonder("timezone", "Asia/Tokyo")
    assert session.asks == 0
    session.settle(DEFAULT.ignored)
    assert session.doubt is None


def test_holds_are_what_the_server_says_of_what_it_was_asked() -> None:
    session = touched("LISTEN a", "LOAD 'x'")
    session.holds |= TEMP | UNSURE
    session.believe(Answer(held=LISTEN))
    assert session.holds == LISTEN | TEMP | LOAD
    touched("UNLISTEN a", session=session)
    session.believe(Answer())
    assert session.holds == TEMP | LOAD


def test_statements_are_what_the_server_says() -> None:
    session = Session()
    session.follow(Parameters.of({"search_path": "a"}))
    text = "PREPARE p AS SELECT 1"
    touched(text, session=session)
    session.prepares(verdict(text.encode()), text.encode(), session.parameters.meaning, True)
    there = session.believe(Answer(statements={"p": text}))
    assert session.parameters.statements == {"p": Prepared(text, (("search_path", "a"),))}
    assert session.is_bare(b"p")
    assert not session.is_bare(b"q")
    assert there is session.parameters
    assert session.holds == 0


def test_statements_of_which_nobody_knows_what_they_were_read_under_hold_the_server() -> None:
    session = touched("PREPARE p AS SELECT 1")
    there = session.believe(Answer(statements={"p": "PREPARE p AS SELECT 1"}))
    assert session.holds == PREPARED
    assert there is session.parameters is NONE
    assert session.is_bare(b"p")
    text = b"PREPARE p AS SELECT 2"  # fails, since there is one
    touched(text.decode(), session=session)
    session.prepares(verdict(text), text, session.parameters.meaning, True)
    session.believe(Answer(statements={"p": "PREPARE p AS SELECT 1"}))
    assert session.holds == PREPARED


def test_in_a_transaction_the_server_is_asked_what_texts_are_read_under() -> None:
    session, text = Session(), "PREPARE p AS SELECT 1"
    touched(text, session=session)
    session.prepares(verdict(text.encode()), text.encode(), None, True)
    assert session.reads
    local = {"search_path": "b", "jit": "on", "work_mem": "5MB"}
    answer = Answer(values={"role": "joe"}, session=local, default=frozenset({"jit"}))
    session.read_under(answer)
    assert not session.reads
    session.believe(Answer(statements={"p": text}))
    under = (("role", "joe"), ("search_path", "b"))
    assert session.parameters.statements == {"p": Prepared(text, under)}


def test_strays_are_to_be_dropped_before_the_next_client() -> None:
    session = touched("EXECUTE p")
    there = session.believe(Answer(statements={}, strays={"p": "SELECT 1"}))
    assert list(there.statements) == ["p"]
    assert session.parameters.statements == {}


@pytest.mark.parametrize(
    "text, stands_for", [("SELECT 1", 0), ("SELECT 2", 1), ("?", 1), (None, 2)]
)
def test_a_name_stands_for_what_the_server_says(text: str | None, stands_for: int) -> None:
    session = Session()
    may_be = [Statement(b"SELECT %d\0\0\0" % i, b"pgfunnel_%d" % i) for i in (1, 2)]
    session.names[b"p"] = may_be[0]
    for statement in (may_be[0], None, may_be[1]):
        session.lay_bare(b"p", statement)
    assert session.is_bare(b"p")
    assert session.names == {}
    strays = {} if text is None else {"p": text}
    session.believe(Answer(statements={}, strays=strays))
    assert [*session.names.values()] == may_be[stands_for : stands_for + 1]
    assert not session.is_bare(b"p")


def test_what_was_to_lay_a_name_bare_is_skipped() -> None:
    session, statement = Session(), Statement(b"SELECT 1\0\0\0", b"pgfunnel_0")
    session.lay_bare(b"p", statement)
    session.dress(b"p", statement)
    assert session.names == {b"p": statement}
    assert not session.is_bare(b"p")


def test_no_answer_keeps_the_server_and_asks_again_without_names_that_may_be_secret() -> None:
    session = touched("SET work_mem = '5MB'; RESET log_directory; SET my.tag = 'x'; RESET role")
    session.cannot_tell()
    assert session.holds == UNSURE
    assert session.question() == (PARAMETERS, ("my.tag", "role"), (), True)
    session.believe(Answer(values={"my.tag": "x", "role": "none"}, session={"work_mem": "5MB"}))
    assert session.holds == 0
    assert parameters(session) == {"my.tag": "x", "work_mem": "5MB"}


@pytest.mark.parametrize(
    "set_, policy, holds",
    [
        ({"work_mem": "9MB"}, Policy(pinned=PARAMETERS), PARAMETERS),
        ({"work_mem": "5MB"}, Policy(pinned=PARAMETERS), 0),
        ({"work_mem": "9MB"}, DEFAULT, 0),
    ],
)
def test_parameters_pin_by_policy_once_they_differ_from_the_start(
    set_: dict[str, str], policy: Policy, holds: int
) -> None:
    session = began_with(work_mem="5MB")
    session.follow(Parameters.of(set_))
    session.pin(policy)
    assert session.holds == holds


def test_prepared_statements_pin_by_policy() -> None:
    session = Session()
    session.follow(NONE.with_statements({"p": Prepared("PREPARE p AS SELECT 1")}))
    session.pin(Policy(pinned=PREPARED))
    assert session.holds == PREPARED
    session.ask(PREPARED)
    session.believe(Answer(statements={}))
    session.pin(Policy(pinned=PREPARED))
    assert session.holds == 0


# -- RESET of what a client began with -----------------------------------------------------


@pytest.mark.parametrize(
    "text, waits",
    [("RESET work_mem", True), ("RESET ALL", True), ("RESET jit", False), ("SELECT 1", False)],
)
def test_the_client_waits_while_reset_led_elsewhere(text: str, waits: bool) -> None:
    session = touched(text, session=began_with(work_mem="5MB"))
    assert session.withhold() is waits
    assert session.withhold() is False
    assert touched(text).withhold() is False


def test_in_a_transaction_what_reset_undid_is_set_again() -> None:
    session = touched("RESET work_mem; RESET jit", session=began_with(work_mem="5MB"))
    assert session.question_now() == (PARAMETERS, ("jit", "work_mem"), ("jit", "work_mem"), False)
    undone = Answer(values={"work_mem": "4MB", "jit": "on"})
    assert session.restore(undone) == ({"work_mem": "5MB"}, {})
    settled = Answer(values={"work_mem": "9MB"}, settled=frozenset({"work_mem"}))
    assert session.restore(settled) == ({}, {})


BACK_LOCALLY = [
    "SET LOCAL work_mem TO DEFAULT",
    "SELECT set_config('work_mem', NULL, true)",
    "SELECT set_config('work_mem', $1, true)",
]


@pytest.mark.parametrize("text", BACK_LOCALLY)
def test_what_was_undone_for_the_transaction_is_set_again_for_the_transaction(text: str) -> None:
    said = verdict(text.encode())
    assert said.only_leaves()
    assert not began_with(jit="off").leads_back(said)
    session = touched(text, session=began_with(work_mem="5MB"))
    assert session.leads_back(said)
    assert session.withhold()
    undone = Answer(values={"work_mem": "4MB"})
    assert session.restore(undone) == ({}, {"work_mem": "5MB"})
    assert session.restore(undone) == ({"work_mem": "5MB"}, {})


@pytest.mark.parametrize(
    "text",
    [
        "SELECT set_config('my.tag', $1, true)",
        "SELECT set_config('role', $1, true)",
        "SET LOCAL my.tag = 'x'",
    ],
)
def test_what_may_be_a_value_of_its_own_is_not_undone(text: str) -> None:
    session = began_with(role="r", **{"my.tag": "x"})
    assert not session.leads_back(verdict(text.encode()))


# -- what parameters mean for the reading of statements ------------------------------------


def test_the_session_says_how_its_statements_are_to_be_read() -> None:
    session = Session(NONE, {b"standard_conforming_strings": b"off", b"client_encoding": b"UTF8"})
    assert (session.backslashes, session.wide, session.watches) == (True, 0, 0)
    session.follow(Parameters.of({"standard_conforming_strings": "on", "client_encoding": "SJIS"}))
    assert session.backslashes is False
    assert session.wide != 0
    session.follow(Parameters.of({"search_path": "pg_temp, public"}))
    assert session.watches == TEMP
