"""Names of a database that stand for code which changes sessions."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from proxy.conditions import ADVISORY, ANYTHING, COMPUTED, LISTEN, PARAMETERS, TEMP
from proxy.session.catalog import (
    BEGINNINGS,
    FINGERPRINT,
    ROUTINES,
    SOURCES,
    STATEMENTS,
    UNSEEN,
    USES,
    Catalog,
    body,
    look,
    outdates,
)
from proxy.session.findings import NOTHING, Verdict
from proxy.session.routines import Routines, joined
from proxy.session.verdict import verdict

LOCKS = Verdict(makes=ADVISORY)
SETS = Verdict(makes=PARAMETERS, names=("app.who",))


def names(*known: str) -> Routines:
    return Routines(dict.fromkeys(known, LOCKS))


def named(routines: Routines, text: str, wide: int = 0) -> bool:
    whole = b"Q...." + text.encode() + b"\0"
    return bool(routines.named(bytearray(whole), 5, len(whole) - 1, False, wide))


@pytest.mark.parametrize(
    "text, there",
    [
        ("SELECT log_in('x')", True),
        ("select LOG_IN('x')", True),
        ('select "log_in"(1)', True),
        ("select app.log_in(1)", True),
        ("log_in", True),
        ("select 'log_in(1)'", False),
        ("select 1 -- log_in(1)", False),
        ("select /* log_in */ $$log_in$$", False),
        ("select log_ins, xlog_in", False),
        ('select U&"log_\\0069n"(1)', True),
        ("", False),
    ],
)
def test_a_name_is_found_where_it_is_one(text: str, there: bool) -> None:
    assert named(names("log_in"), text) is there


def test_of_many_names_each_is_found() -> None:
    many = [f"routine_{n}" for n in range(500)] + ['odd "one"', "žluť", "x" * 63]
    routines = names(*many)
    for name in many:
        quoted = name.replace('"', '""')
        assert named(routines, f'SELECT "{quoted}"()'), name
    assert named(routines, f"SELECT {'x' * 80}()"), "Postgres reads 63 bytes of a name"
    assert not named(routines, "SELECT id, name FROM routine, routines WHERE id = 500")


def test_what_the_text_and_the_names_in_it_do_is_joined() -> None:
    routines = Routines({"log_in": SETS, "locks": LOCKS})
    said = routines.verdict(b"SELECT log_in('x'), locks(1); SET work_mem = 1")
    assert said.makes == PARAMETERS | ADVISORY
    assert said.names == ("work_mem", "app.who")
    assert routines.verdict(b"SET work_mem = 1") is verdict(b"SET work_mem = 1")
    assert routines.verdict(b"SELECT 1") is NOTHING
    assert routines.verdict(b"DO $$ BEGIN PERFORM locks(1); END $$").makes == ADVISORY
    assert routines.verdict(b"DO $a$ BEGIN PERFORM 'locks(1)'; END $a$").makes == 0


def test_what_nobody_can_read_is_a_mere_suspicion() -> None:
    opaque = body("plpgsql", "BEGIN EXECUTE q; END")
    assert opaque.makes == ANYTHING
    said = joined([verdict(b"LISTEN x"), opaque])
    assert said.makes == ANYTHING
    assert said.unseen == ANYTHING & ~LISTEN


@pytest.mark.parametrize(
    "language, text, makes, found",
    [
        ("plpgsql", "BEGIN PERFORM set_config('a.b', x, false); END", PARAMETERS, ("a.b",)),
        ("plpgsql", "BEGIN PERFORM set_config('a.b', x, true); END", 0, ()),
        ("plpgsql", "BEGIN UPDATE t SET a = 1; RETURN NEW; END", 0, ()),
        ("sql", "SELECT pg_advisory_lock(1)", ADVISORY, ()),
        ("sql", "SELECT pg_advisory_xact_lock(1)", 0, ()),
        ("plpgsql", "BEGIN EXECUTE 'SET ' || 'a.b' || '=1'; END", ANYTHING | COMPUTED, ("a.b",)),
        ("plpython3u", "pass", ANYTHING, ()),
        ("sql", None, ANYTHING, ()),
    ],
)
def test_what_a_body_does(
    language: str, text: str | None, makes: int, found: tuple[str, ...]
) -> None:
    said = body(language, text)
    assert (said.makes, said.names) == (makes, found)


def rows(*known: tuple[str | None, ...]) -> list[list[bytes | None]]:
    return [[None if v is None else v.encode().hex().encode() for v in row] for row in known]


def state(
    fingerprint: str, temporary: bool = False, begins: Sequence[str] = ()
) -> list[list[bytes | None]]:
    (given,) = rows((json.dumps(begins),))
    temporarily = b"t" if temporary else b"f"
    (path,) = rows(('"$user", public',))
    return [[fingerprint.encode().hex().encode(), b"f", temporarily, b"t", *given, *path]]


def test_a_look_follows_who_uses_whom() -> None:
    asked = look(UNSEEN)
    assert FINGERPRINT in next(asked)
    assert SOURCES in asked.send(state("state 1"))
    sources = rows(
        ("inner", "sql", "SELECT set_config('app.who', 'x', false)"),
        ("outer", "plpgsql", "BEGIN PERFORM inner(); PERFORM outer(); END"),
        ("harmless", "sql", "SELECT 1"),
        ("marks", "plpgsql", "BEGIN PERFORM outer(); RETURN NEW; END"),
    )
    assert USES in asked.send(sources)
    with pytest.raises(StopIteration) as end:
        asked.send(rows(("plain", "marks"), ("over_it", "plain"), ("other", "harmless")))
    found: Catalog = end.value.value
    assert found.fingerprint == "state 1"
    assert found.routines is not None
    assert set(found.routines.by_name) == {"inner", "outer", "marks", "plain", "over_it"}
    assert {said.names for said in found.routines.by_name.values()} == {("app.who",)}


def test_a_look_ends_where_nothing_has_changed_or_is_found() -> None:
    known = Catalog("state 1", names("f"))
    asked = look(known)
    next(asked)
    with pytest.raises(StopIteration) as end:
        asked.send(state("state 1"))
    assert end.value.value is known
    asked = look(known)
    next(asked)
    asked.send(state("state 2"))
    with pytest.raises(StopIteration) as end:
        asked.send(rows(("harmless", "sql", "SELECT 1")))
    assert end.value.value == Catalog("state 2", None)


def test_a_look_tells_where_objects_are_temporary_by_default() -> None:
    asked = look(UNSEEN)
    next(asked)
    asked.send(state("state 1", temporary=True))
    with pytest.raises(StopIteration) as end:
        asked.send([])
    assert end.value.value == Catalog("state 1", None, temporary=True)


@pytest.mark.parametrize(
    "text, defines",
    [
        ("BEGIN EXECUTE 'create function f() ...'; END", True),
        ("BEGIN ALTER TABLE t ADD b text; END", True),
        ("BEGIN EXECUTE 'create ' || what; END", True),
        ("BEGIN CREATE TEMP TABLE t (a int); END", False),
        ("BEGIN CREATE UNLOGGED TABLE t (a int); CREATE INDEX ON t (a); END", False),
        ("BEGIN CREATE TABLE t (a text DEFAULT set_config('a.b', 'x', false)); END", True),
        ("BEGIN PERFORM create_user(altered); END", False),
    ],
)
def test_ddl_out_of_sight(text: str, defines: bool) -> None:
    assert bool(body("plpgsql", text).defines) is defines
    assert bool(verdict(b"DO $$ %s $$" % text.encode()).defines) is defines


def test_what_is_made_with_a_name_that_changes_sessions_may_change_them_too() -> None:
    routines = Routines({"log_in": SETS, "harmless": Verdict(makes=TEMP)})
    assert routines.verdict(b"CREATE TABLE t (a text DEFAULT log_in('x'))").defines
    assert routines.verdict(b"SELECT 1; CREATE INDEX ON t (log_in(a))").defines
    assert not routines.verdict(b"CREATE TABLE t (a text DEFAULT harmless())").defines
    assert not routines.verdict(b"SELECT log_in('x')").defines
    assert not routines.verdict(b"CREATE TABLE t (a int)").defines
    assert verdict(b"CREATE TABLE t (a text DEFAULT set_config('a', 'b', false))").defines
    assert not verdict(b"CREATE TEMP TABLE t AS SELECT 1").defines


def test_equal_findings_stay_the_same_object() -> None:
    known = Catalog("state 1", Routines({"f": body("sql", "SELECT pg_advisory_lock(1)")}))
    asked = look(known)
    next(asked)
    asked.send(state("state 2"))
    asked.send(rows(("f", "sql", "SELECT pg_advisory_lock(1)")))
    with pytest.raises(StopIteration) as end:
        asked.send([])
    assert end.value.value.routines is known.routines


def test_what_sessions_began_with_is_told_when_it_is_another() -> None:
    known = Catalog("state 1", begins={"app.tenant": "old", "timezone": "Asia/Tokyo"})
    given = ["timezone=Europe/Paris", "timezone=UTC", "Search_Path=a, b", "log_statement=all"]
    asked = look(known)
    next(asked)
    question = asked.send(state("state 1", begins=given)).decode()
    names = ("app.tenant", "log_statement", "search_path", "timezone")
    assert "ANY('{" + ",".join(names) + "}')" in question
    asked.send(rows(("timezone", "UTC"), ("search_path", "public"), ("log_statement", None)))
    with pytest.raises(StopIteration) as end:
        asked.throw(ValueError("Postgres cannot show them"))
    found = end.value.value
    begins = {"timezone": "Europe/Paris", "search_path": "a, b", "log_statement": "all"}
    assert found.begins == begins
    assert found.path == "a, b"
    assert found.former == {
        "app.tenant": "old",
        "timezone": "Asia/Tokyo",
        "search_path": "public",
    }


def test_a_server_that_is_younger_does_not_tell_what_sessions_began_with() -> None:
    known = Catalog("state 1", begins={"timezone": "asia/tokyo"})
    asked = look(known, elder=False)
    next(asked)
    asked.send(state("state 1", begins=["search_path=a"]))
    assert b"set_config('timezone','asia/tokyo',true)" in asked.send(
        rows(("timezone", "UTC"), ("search_path", "public"))
    )
    with pytest.raises(StopIteration) as end:
        asked.send(rows(("Asia/Tokyo",)))
    assert end.value.value.former == {"timezone": "Asia/Tokyo"}


def test_a_role_to_begin_with_is_none_where_none_was_given() -> None:
    asked = look(Catalog("state 1"))
    next(asked)
    asked.send(state("state 1", begins=["role=joe"]))
    with pytest.raises(StopIteration) as end:
        asked.send([])
    assert end.value.value.former == {"role": "none"}


@pytest.mark.parametrize(
    "tag, what",
    [
        (b"ALTER ROLE", BEGINNINGS),
        (b"ALTER DATABASE", BEGINNINGS),
        (b"CREATE FUNCTION", ROUTINES),
        (b"CREATE VIEW", ROUTINES),
        (b"CREATE TRIGGER", ROUTINES),
        (b"CREATE EXTENSION", ROUTINES),
        (b"ALTER TABLE", ROUTINES),
        (b"CREATE SCHEMA", ROUTINES),
        (b"COMMIT PREPARED", BEGINNINGS),
        (b"CREATE TABLE", STATEMENTS),
        (b"CREATE TABLE AS", STATEMENTS),
        (b"CREATE INDEX", STATEMENTS),
        (b"DROP FUNCTION", STATEMENTS),
    ],
)
def test_tags_of_commands_that_matter(tag: bytes, what: int) -> None:
    assert outdates(tag) == what
