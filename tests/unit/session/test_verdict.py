"""What a text means for the session, one kind of statement after another."""

from __future__ import annotations

import pytest

from proxy import conditions
from proxy.conditions import (
    ADVISORY,
    ANYTHING,
    COMPUTED,
    CONDITIONS,
    HOLD,
    LISTEN,
    LOAD,
    PARAMETERS,
    PREPARED,
    SEED,
    SEQUENCES,
    SERVER_STATE,
    TEMP,
)
from proxy.session import findings
from proxy.session.catalog import body
from proxy.session.commands import only_drops, runs_alone, vacates
from proxy.session.findings import NOTHING, TEMPORARIES
from proxy.session.lexer import TWO
from proxy.session.verdict import Verdicts, read, verdict


@pytest.mark.parametrize(
    "text",
    [
        "",
        ";",
        "select 1",
        "begin; update t set a = 1; commit",
        "set local x = 1",
        "SET LOCAL SESSION AUTHORIZATION bob",
        "set transaction isolation level serializable",
        "set constraints all deferred",
        "set transaction_isolation = 'serializable'",
        "set session transaction_read_only to on",
        "reset transaction isolation level",
        "select set_config($1, $2, 't'::bool)",
        "select set_config('x', 'y', TRUE), 'set_config'",
        "select set_config(" + "x + " * 13 + "x, 'y', true)",
        "select set_config, pg_advisory_lock from currval",
        "select pg_advisory_xact_lock(1), pg_try_advisory_xact_lock(1), nextval('s')",
        "prepare transaction 'x'",
        "commit prepared 'x'; rollback prepared 'y'",
        "grant execute on function f to bob",
        "select 1 as execute from x",
        "explain select (1) execute from x",
        "insert into temp values (1)",
        "merge into temp using x on true when matched then delete",
        "select temp, temporary from local",
        "select pg_create_physical_replication_slot('a')",
        "select pg_copy_logical_replication_slot('a', 'b')",
        "select pg_create_logical_replication_slot($1, $2, FALSE)",
        "select pg_backup_start, dblink_connect from x",
        "declare c cursor for select 1",
        "declare c cursor without hold for select 1",
        'select "PG_ADVISORY_LOCK"(1)',
        "do $$ begin perform 1; update t set a = 1; end $$",
        "DO LANGUAGE plpgsql 'begin if true then null; end if; end'",
    ],
)
def test_nothing_lasts(text: str) -> None:
    assert read(text.encode()) is NOTHING


@pytest.mark.parametrize(
    "text",
    [
        "create temp table t (a int) on commit drop",
        "create temporary table t on commit drop as select 1",
        "do $$ begin create temp table t (a int) on commit drop; end $$",
    ],
)
def test_what_is_gone_at_commit_is_temporary_all_the_same(text: str) -> None:
    said = read(text.encode())
    assert said.does & TEMPORARIES
    assert not said.makes & TEMP or "do" in text[:2]


@pytest.mark.parametrize(
    "text, alone",
    [
        ("vacuum t", True),
        ("/* a */ REINDEX TABLE CONCURRENTLY t", True),
        ("create unique index concurrently i on t (a)", True),
        ("create temp table t (a int)", False),
        ("select vacuum()", False),
    ],
)
def test_commands_that_may_have_to_be_alone(text: str, alone: bool) -> None:
    assert runs_alone(text.encode()) is alone


@pytest.mark.parametrize(
    "text, drops",
    [
        ("DROP TABLE IF EXISTS pg_temp.t", True),
        ("/* a */ drop view pg_temp.t ; ", True),
        ("drop table pg_temp.t\0\0\0", True),
        ("DROP TABLE pg_temp.t; CREATE TABLE pg_temp.t ()", False),
        ("SELECT 'drop'", False),
        ("dropped", False),
    ],
)
def test_commands_that_make_nothing(text: str, drops: bool) -> None:
    assert only_drops(text.encode()) is drops


@pytest.mark.parametrize(
    "text, dbname",
    [
        ("DROP DATABASE Dd", "dd"),
        ('  drop database if exists "Dd x" with (force)', "Dd x"),
        ("DROP DATABASE dd;", "dd"),
        ("DROP DATABASE dd\0\0\0", "dd"),
        ("/* app */ -- x\n ; drop database dd", "dd"),
        ("CREATE DATABASE new TEMPLATE 'dd'\0", "dd"),
        ("create database new template dd", "dd"),
        ('CREATE DATABASE "new" WITH OWNER x TEMPLATE = "Dd"', "Dd"),
        ("CREATE DATABASE template", ""),
        ("CREATE DATABASE dd", ""),
        ("DROP TABLE database", ""),
        ("SELECT 'DROP DATABASE dd'", ""),
    ],
)
def test_databases_that_are_dropped_or_copied(text: str, dbname: str) -> None:
    assert vacates(text.encode()) == dbname


@pytest.mark.parametrize(
    "text",
    [
        "set local A.b = 'c'",
        "select set_config('a.B', 'c', true)",
        "select set_config('a.b', $1, 't')",
        "begin; set local a.b to 1; set local timezone = 'UTC'",
    ],
)
def test_names_of_an_applications_own_parameters_stay(text: str) -> None:
    said = read(text.encode())
    assert said.leaves[0] == "a.b"
    assert said.leaves[1:] == (("timezone",) if "timezone" in text else ())
    assert said.only_leaves()
    assert not said.names


@pytest.mark.parametrize(
    "text",
    [
        "create trigger t after insert on x for each row execute function f()",
        "create trigger t before update on x for each row when (true) execute procedure f()",
        "create view v as select 1 as execute from x",
        "create table t (a int)",
    ],
)
def test_nothing_lasts_but_what_is_made(text: str) -> None:
    assert read(text.encode()) == findings.Verdict(does=findings.CREATES)


@pytest.mark.parametrize(
    "text, names",
    [
        ("set a = 1", "a"),
        ("SET SESSION My.Tag TO 'x'", "my.tag"),
        ('set "Work_Mem" = 1', "work_mem"),
        ('set U&"d\\0061te" = 1', "date"),
        ("set U&\"d!0061te\" uescape '!' = 1", "date"),
        ("set/**/a/**/.--\nb to 1, 2", "a.b"),
        ("set local.x = 1; set session.y = 2", "local.x session.y"),
        ("set local x = 1; set y = 2", "y"),
        ("set time zone 'utc'", "timezone"),
        ("set session time zone interval '1' hour to minute", "timezone"),
        ("set time.zone = 1", "time.zone"),
        ("set names 'utf8'", "client_encoding"),
        ("set schema 'x'", "search_path"),
        ("set xml option document", "xmloption"),
        ("set role none", "role"),
        ("set role = 'bob'", "role"),
        ("set session authorization bob", "session_authorization role"),
        ("set session session authorization 'bob'", "session_authorization role"),
        ("set session_authorization = bob", "session_authorization role"),
        (
            "set session characteristics as transaction read only, isolation level serializable",
            "default_transaction_read_only default_transaction_isolation",
        ),
        (
            "set session characteristics as transaction not deferrable",
            "default_transaction_deferrable",
        ),
        ("select set_config('A.b', 'c', false)", "a.b"),
        ("select pg_catalog.\"set_config\" ('a'::text, f(1, 2), 'f')", "a"),
        ("select * from x where set_config($a$b$a$, 'it''s', $1) = '1'", "b"),
        ("with x as (select set_config(E'a', null, false)) select 1", "a"),
        ("do $$ begin set a = 1; perform set_config('b', 'c', false); end $$", "a b"),
        ("do $$ begin if x then set a = 1; else set b = 1; end if; end $$", "a b"),
        ("do 'begin execute_it; do $x$begin reset c; end$x$; end'", "c"),
    ],
)
def test_names(text: str, names: str) -> None:
    found = read(text.encode())
    assert found.names == tuple(names.split())
    assert not found.everything
    assert not found.opaque
    assert (found.makes | found.clears) & PARAMETERS
    assert not (found.makes | found.clears) & ~PARAMETERS


@pytest.mark.parametrize(
    "text, names",
    [
        ("reset a.b", "a.b"),
        ("set a to default", "a"),
        ("set time zone local", "timezone"),
        ("reset time zone", "timezone"),
        ("set names", "client_encoding"),
        ("reset session authorization", "session_authorization role"),
        ("set session authorization default", "session_authorization role"),
        ("reset role", "role"),
        ("reset session.x", "session.x"),
        ("select set_config('a', null, false)", "a"),
    ],
)
def test_resets(text: str, names: str) -> None:
    found = read(text.encode())
    assert found.resets == found.names == tuple(names.split())
    assert (found.makes, found.clears) == (0, PARAMETERS)


@pytest.mark.parametrize("many", [1, 2, 3, 20])
def test_each_name_counts_once_in_the_order_of_the_text(many: int) -> None:
    names = tuple(f"p{number}" for number in range(many))
    there = "".join(f"reset {name};" for name in names)
    back = "".join(f"select set_config('{name}', null, false);" for name in reversed(names))
    assert read((there + back).encode()).resets == names
    found = read((there + "set p0 = 1; set q = 2;" + back).encode())
    assert found.names == (*names, "q")
    assert found.resets == names
    found = read(("set p0 = 1;" + back).encode())
    assert set(found.names) == set(names)
    assert found.resets == tuple(reversed(names))


def test_a_computed_value_may_be_null() -> None:
    found = read(b"select set_config('a', $1, false)")
    assert found.names == found.resets == ("a",)
    assert found.makes == found.clears == PARAMETERS


@pytest.mark.parametrize(
    "text",
    [
        "select set_config($1, 'x', false)",
        "select set_config('a' || 'b', 'x', false)",
        "select set_config(E'a\\142', 'x', false)",
        "select set_config(U&'a', 'x', false)",
        "select set_config('a'\n'b', 'x', false)",
        "select set_config(setting_name => 'a', new_value => 'b', is_local => false)",
        "select set_config(" + "x + " * 50 + "x, 'x', true)",
        "select set_config(" + "x + " * 14 + "x, 'x', true)",
        "select set_config('a', 'x')",
        "select set_config('a', 'x', true, 1)",
        "select set_config(",
    ],
)
def test_which_parameter_cannot_be_told(text: str) -> None:
    found = read(text.encode())
    assert found.everything
    assert not found.opaque
    assert found.names == ()


@pytest.mark.parametrize(
    "text, makes, clears",
    [
        ("listen a; notify b", LISTEN, 0),
        ("unlisten a", 0, LISTEN),
        ("load 'x'", LOAD, 0),
        ("select pg_advisory_lock(1)", ADVISORY, 0),
        ("select PG_CATALOG . PG_TRY_ADVISORY_LOCK_SHARED /* */ (1)", ADVISORY, 0),
        ('select U&"pg_advisory_lock_share\\0064"(1)', ADVISORY, 0),
        ("select U&\"pg_advisory_loc!006B\" uescape '!' (1)", ADVISORY, 0),
        ("select pg_advisory_unlock(1), pg_advisory_unlock_shared(2)", 0, ADVISORY),
        ("create temp table t (a int)", TEMP, 0),
        ("create or replace local temporary view v as select 1", TEMP, 0),
        ("create temp table t (a int) on commit delete rows", TEMP, 0),
        ("create global temporary sequence s", TEMP, 0),
        ("create temp table a () on commit drop; create temp table b ()", TEMP, 0),
        ("explain analyze create temp table t as select 1", TEMP, 0),
        ("with x as (select 1) select * into local temp table t from x", TEMP, 0),
        ("select 1 into temp x", TEMP, 0),
        ("create table pg_temp.x (a int)", TEMP, 0),
        ('create table "pg_temp_3".x (a int)', TEMP, 0),
        ("drop table x", 0, TEMP),
        ("select set_config('local', pg_advisory_lock(1)::text, true)", ADVISORY, 0),
        ("select set_config('local', 'x', true) from pg_temp.t", TEMP, 0),
        ("select set_config('local', 'x', true); listen a", LISTEN, 0),
        ("declare c insensitive no scroll cursor with hold for select 1", HOLD, 0),
        ("close c", 0, HOLD),
        ("select currval('s'), lastval()", SEQUENCES, 0),
        ("select setseed(0.5)", SEED, 0),
        ("set seed to 0.5", SEED, 0),
        ("select set_config('seed', '0.5', false)", SEED, 0),
        ("do $$ begin listen x; drop table y; create temp table z (); end $$", LISTEN | TEMP, TEMP),
        ("do $$ begin for i in 1..2 loop perform pg_advisory_lock(i); end loop; end $$", 4, 0),
        ("select * from pg_backup_start('x', true)", SERVER_STATE, 0),
        ("select PG_REPLICATION_ORIGIN_SESSION_SETUP('x')", SERVER_STATE, 0),
        ("select dblink_connect($1), x.dblink_connect_u('a', 'b')", SERVER_STATE, 0),
        ("select pg_create_physical_replication_slot('a', false, true)", SERVER_STATE, 0),
        ("select pg_create_physical_replication_slot('a', temporary => $1)", SERVER_STATE, 0),
        ("select pg_create_logical_replication_slot('a', 'b', $1)", SERVER_STATE, 0),
        ("select \"pg_copy_logical_replication_slot\"('a', 'b', 1 = 1)", SERVER_STATE, 0),
        ("select pg_copy_logical_replication_slot('a', 'b', true)", SERVER_STATE, 0),
        ("select pg_copy_physical_replication_slot('a', 'b', true)", SERVER_STATE, 0),
        ("select set_limit(0.9)", PARAMETERS, 0),
        ("discard sequences", 0, SEQUENCES),
        ("discard temporary", 0, TEMP),
        ("discard plans", 0, 0),
    ],
)
def test_conditions(text: str, makes: int, clears: int) -> None:
    found = read(text.encode())
    assert (found.makes, found.clears) == (makes, clears)
    assert not found.everything


@pytest.mark.parametrize(
    "text",
    [
        "call f()",
        "do $$ begin execute 'set x = 1'; end $$",
        "do $$ begin return query execute x; end $$",
        "do $$ begin call f(); end $$",
        "do $$ plpy.execute('set x') $$ language plpython3u",
        "do language 'plperl' 'x'",
        "do E'begin \\163et x = 1; end'",
        "do U&'begin s\\0065t x = 1; end'",
        "do $1$ do $2$ $2$ $1$" + " x" * 100,
        "select query_to_xml('select set_config(''a'', ''b'', false)', true, false, '')",
        "do $a$ begin do $b$ begin do $c$ begin do $d$ begin end $d$; end $c$; end $b$; end $a$",
        "set a = 1;" * 2000,
        "select pg_temp.f() " * 2000,
        "explain select " + "pg_temp.f(), " * 2000 + "1",
    ],
)
def test_what_cannot_be_read_may_do_anything(text: str) -> None:
    found = read(text.encode())
    assert found.opaque
    assert found.everything
    assert found.makes & ANYTHING == found.clears & ANYTHING == ANYTHING


def test_dynamic_sql_hints_at_what_no_server_can_tell() -> None:
    body = "do $$ begin execute 'load ''x'''; execute 'select setseed(1), lastval()'; end $$"
    assert read(body.encode()).makes == ANYTHING | LOAD | SEED | SEQUENCES
    assert read(b"do $$ begin execute 'select payload'; end $$").makes == ANYTHING
    assert read(b"do $$ begin execute 'select dblink_connect(x)'; end $$").makes == (
        ANYTHING | SERVER_STATE
    )
    assert read(b"set a = 1;" * 2000 + b"load 'x'").makes == ANYTHING | LOAD


@pytest.mark.parametrize(
    "text, pieces",
    [
        ("prepare a as select 1", [("PREPARE", "a", "prepare a as select 1", "a")]),
        (
            ' prepare "A b" (int) as select $1 ; execute "A b" (1);select 1',
            [
                ("PREPARE", "A b", 'prepare "A b" (int) as select $1', '"A b"'),
                ("EXECUTE", "A b", 'execute "A b" (1)', '"A b"'),
            ],
        ),
        ("PREPARE transaction AS select 1", [("PREPARE", "transaction", None, "transaction")]),
        ("deallocate prepare A /* */ -- x", [("DEALLOCATE", "a", "deallocate prepare A", "A")]),
        ("deallocate prepare", [("DEALLOCATE", "prepare", "deallocate prepare", "prepare")]),
        ("deallocate all", [("DEALLOCATE", None, "deallocate all", "all")]),
        ("deallocate prepare all", [("DEALLOCATE", None, "deallocate prepare all", "all")]),
        ('deallocate "all"', [("DEALLOCATE", "all", None, '"all"')]),
        ("explain analyze verbose execute p(1)", [("EXECUTE", "p", None, "p")]),
        ("explain (analyze, costs off) execute p", [("EXECUTE", "p", None, "p")]),
        (
            "create unlogged table if not exists a.t (x) with (f=1) as execute p(1) with no data",
            [("EXECUTE", "p", None, "p")],
        ),
        ("explain analyze create table t as execute p", [("EXECUTE", "p", None, "p")]),
        (
            'execute U&"d!0061!!t""!00E4!+01F600" UESCAPE \'!\' (1)',
            [("EXECUTE", 'da!t"ä\U0001f600', None, None)],
        ),
        (f"execute {'é' * 40}", [("EXECUTE", "é" * 31, None, "é" * 40)]),
        (f"execute {'x' * 70}", [("EXECUTE", "x" * 63, None, "x" * 70)]),
    ],
)
def test_prepared(text: str, pieces: list[tuple[str, str | None, str | None, str | None]]) -> None:
    octets = text.encode()
    found = read(octets)
    assert len(found.prepared) == len(pieces)
    for piece, (verb, name, statement, written) in zip(found.prepared, pieces, strict=True):
        assert (piece.verb, piece.name) == (verb, name)
        assert octets[piece.start : piece.end].decode() == (statement or text)
        if written:
            assert octets[piece.name_start : piece.name_end].decode() == written
    assert found.makes == PREPARED


def test_prepared_in_a_body_has_no_piece() -> None:
    found = read(b"do $$ begin prepare x as select 1; deallocate x; end $$")
    assert found.prepared == ()
    assert found.makes == found.clears == PREPARED


@pytest.mark.parametrize(
    "text, does",
    [
        ("discard all", findings.DISCARD_ALL),
        (" ; /* x */ Discard All ;", findings.DISCARD_ALL),
        (
            "SELECT pg_advisory_unlock_all();\nCLOSE ALL;\nUNLISTEN *;\nRESET ALL;",
            findings.UNLOCK_ALL | findings.CLOSE_ALL | findings.UNLISTEN_ALL | findings.RESET_ALL,
        ),
        ("select pg_catalog.pg_advisory_unlock_all()", findings.UNLOCK_ALL),
        (
            "SET SESSION AUTHORIZATION DEFAULT;RESET ALL;DISCARD SEQUENCES;DISCARD TEMP",
            findings.RESET_ALL | findings.DISCARD_SEQUENCES | findings.DISCARD_TEMP,
        ),
        ("deallocate all; discard plans", findings.DEALLOCATE_ALL | findings.DISCARD_PLANS),
    ],
)
def test_whole_resets(text: str, does: int) -> None:
    found = read(text.encode())
    assert found.whole_reset
    assert found.does == does


@pytest.mark.parametrize(
    "text",
    [
        "select 1",
        "select 1; reset all",
        "reset x",
        "discard all; set x = 1",
        'close "all"',
        'reset "all"',
        "unlisten x",
        "select pg_advisory_unlock_all() from x",
        "reset all" + " " * 1000,
    ],
)
def test_not_whole_resets(text: str) -> None:
    assert not read(text.encode()).whole_reset


def test_discard_all_clears_what_can_be_cleared() -> None:
    found = read(b"DISCARD ALL")
    assert found.everything
    assert found.makes == 0
    assert found.clears == ANYTHING | SEQUENCES | COMPUTED


@pytest.mark.parametrize(
    "text, computed",
    [
        (b"SELECT set_config('app.' || 'x', '1', false)", True),
        (b"SELECT set_config('app.' || $1, $2, false)", True),
        (b"SELECT set_config(name, setting, false) FROM pg_settings", True),
        (b"SELECT set_config('app.' || $1, $2, true)", False),
        (b"SELECT set_config($1, $2, false)", False),
        (b"SELECT set_config($1::text, $2, $3::bool)", False),
        (b"SELECT set_config('app.x'::text, a || b, false)", False),
        (b"DO $$ BEGIN EXECUTE format('SET app.%I = %L', k, v); END $$", True),
        (b"DO $$ BEGIN EXECUTE 'UPDATE t SET a = ' || v; END $$", False),
        (b"DO $$ BEGIN EXECUTE 'SELECT * FROM s.' || t; END $$", False),
    ],
)
def test_names_that_are_computed_are_noticed(text: bytes, computed: bool) -> None:
    assert bool(read(text).makes & COMPUTED) is computed


@pytest.mark.parametrize(
    "dynamic, computed",
    [
        ("set my.'||'k'||'=1", True),
        ('set "my"."k"=1', True),
        ("set my . k=1", True),
        ("set %I.%I=1", True),
        ("select 1; set %s = 1", True),
        ("set my'||chr(46)||'k=1", True),
        ("set my.k=1", False),
        ("SET work_mem to 5", False),
        ("set session my.k = 1", False),
        ("set local x.%s = 1", False),
        ("set role %I", False),
        ("set session authorization %I", False),
        ("set constraints all deferred", False),
        ("select 1; set a.b = 1", False),
        ("alter table x set (a = b)", False),
        ("insert into t values (1) on conflict do update set a = 1", False),
        ("update %I set %I = 1", False),
        ("select set_config($1, $2, false)", True),
        ("select set_config(%L, %L, false)", True),
        ("select set_config($1, $2, true)", False),
        ("select set_config(''my.k'', $2, false)", False),
    ],
)
def test_names_that_are_computed_in_strings_are_noticed(dynamic: str, computed: bool) -> None:
    assert (
        bool(read(f"DO $$ BEGIN EXECUTE '{dynamic}'; END $$".encode()).makes & COMPUTED) is computed
    )
    assert bool(body("plpgsql", f"BEGIN EXECUTE '{dynamic}'; END").makes & COMPUTED) is computed


def test_names_of_long_encodings_keep_their_bytes() -> None:
    text = b"set x = E'\x95\\'; execute \x83A"
    found = read(text, wide=TWO)
    assert found.names == ("x",)
    assert [text[p.name_start : p.name_end] for p in found.prepared] == [b"\x83A"]


def test_a_body_is_read_with_the_backslashes_of_its_text() -> None:
    text = b"do $$ begin perform 'a\\'; set x = 1; --'; end $$"
    assert read(text).names == ("x",)
    assert read(text, backslashes=True) is NOTHING


def test_conditions_are_declared_once() -> None:
    bits = [condition.bit for condition in CONDITIONS]
    assert bits == [1 << place for place in range(len(bits))]
    assert len({condition.word for condition in CONDITIONS}) == len(bits)
    assert conditions.words(LISTEN | SEED) == ["listen", "seed"]


def test_verdicts_are_kept() -> None:
    kept = Verdicts()
    first = kept.of(b"set x = 1")
    assert kept.of(bytes(bytearray(b"set x = 1"))) is first
    assert kept.of(b"select 'a\\'; set x --'").names == ("x",)
    assert kept.of(b"select 'a\\'; set x --'", True) is NOTHING
    assert verdict(b"set x = 1") == first


def test_what_is_kept_has_a_bound() -> None:
    kept = Verdicts(limit=100_000, longest=1000)
    for number in range(1000):
        kept.of(b"set x%d = 1" % number)
        assert len(kept) * Verdicts.OVERHEAD <= 100_000
        recent = kept.of(b"set recent = 1")
    assert recent is kept.of(b"set recent = 1")
    before = len(kept)
    assert kept.of(b"set y = '" + b"y" * 1000 + b"'").names == ("y",)
    assert len(kept) == before
