"""Session state that changes by ways of the protocol that few drivers go."""

from __future__ import annotations

import json

import psycopg
import pytest
from psycopg import pq

from tests.conftest import StartFunnel
from tests.funnel import Funnel
from tests.integration.observe import until
from tests.postgres import USERS, Postgres
from tests.wireclient import (
    COPY_DONE,
    FLUSH,
    SYNC,
    Answer,
    Gone,
    Wire,
    bind,
    close,
    copy_data,
    copy_fail,
    execute,
    function_call,
    parse,
    query,
    rows,
    sqlstates,
)

SET_CONFIG = 2078


def wire(funnel: Funnel) -> Wire:
    return Wire(funnel.host, funnel.port, "alice", funnel.upstream.database, USERS["alice"])


def cycle(sql: str, *values: str) -> list[bytes]:
    return [parse("", sql), bind("", "", values), execute(), SYNC]


def run(client: Wire, sql: str, *values: str) -> list[Answer]:
    client.send(*cycle(sql, *values))
    return client.until("Z")


def setting(client: Wire, name: str) -> str | None:
    """None where it was never set, or others have set it."""
    found: str | None = rows(client.ask(f"SELECT nullif(current_setting('{name}', true), '')"))[0][
        0
    ]
    return found


def is_only(name: str, value: str, own: Wire, *others: Wire) -> None:
    """The parameter is this client's and nobody else's, whoever has the server."""
    for _ in range(2):
        assert [setting(other, name) for other in others] == [None] * len(others)
        assert setting(own, name) == value


@pytest.mark.parametrize("length", [9, 36, 48, 57, 65, 90, 95, 97, 122, 200])
@pytest.mark.parametrize("in_front", ["", "x" * 5000, "my.many " * 4000], ids=len)
def test_a_name_among_the_values(pgfunnel: StartFunnel, length: int, in_front: str) -> None:
    funnel = pgfunnel(default_pool_size=1)
    name = f"my.{'n' * (length - 3)}"
    with wire(funnel) as one, wire(funnel) as other:
        run(one, "SELECT length($1::text), set_config($2, $3, false)", in_front, name, "mine")
        is_only(name, "mine", one, other)


def test_a_name_in_a_message_that_is_not_seen_whole(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=2)
    with wire(funnel) as one, wire(funnel) as other:
        sql = "SELECT length($1::text), set_config($2, $3, false)"
        run(one, sql, "x" * 200_000, "my.far", "mine")
        is_only("my.far", "mine", one, other)
        assert [pin["reason"] for pin in json.loads(funnel.get("/pins"))["pinned"]] == [
            "computed_name"
        ]
        one.ask("RESET ALL")
        until(lambda: json.loads(funnel.get("/pins"))["pinned"] == [])


def test_a_function_call_may_set(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=1)
    with wire(funnel) as one, wire(funnel) as other:
        one.send(function_call(SET_CONFIG, ["my.called", "mine", "f"]))
        assert not sqlstates(one.until("Z"))
        is_only("my.called", "mine", one, other)


def test_a_query_that_is_too_long_to_be_read_pins(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=2)
    with wire(funnel) as one, wire(funnel) as other:
        one.send(query(f"SET my.long = 'mine'; SELECT '{'x' * (17 << 20)}' IS NULL"))
        assert not sqlstates(one.until("Z"))
        is_only("my.long", "mine", one, other)


ENDS = {
    "rollback": [parse("", "ROLLBACK"), bind(), execute(), FLUSH],
    "rollback to": [parse("", "ROLLBACK TO s"), bind(), execute(), FLUSH],
}


@pytest.mark.parametrize("ends", ENDS)
@pytest.mark.parametrize("extended", [False, True])
def test_a_failed_transaction_that_was_ended_without_a_sync(
    pgfunnel: StartFunnel, ends: str, extended: bool
) -> None:
    funnel = pgfunnel(default_pool_size=1, session_audit=1)
    sql = "SELECT set_config('my.flushed', 'mine', false)"
    with wire(funnel) as one, wire(funnel) as other:
        one.ask("BEGIN; SAVEPOINT s")
        one.ask("SELECT 1 / 0")
        one.send(*ENDS[ends])
        one.until("C")
        assert not sqlstates(run(one, sql) if extended else one.ask(sql))
        one.ask("COMMIT")
        is_only("my.flushed", "mine", one, other)
    assert "leak" not in funnel.log()


# -- COPY whose Sync comes ahead -----------------------------------------------------------

FAILS = {
    "bad data": ([copy_data(b"bad\n"), COPY_DONE, SYNC], "22P02"),
    "given up": ([copy_fail("no more"), SYNC], "57014"),
}


@pytest.mark.parametrize("way", FAILS)
@pytest.mark.parametrize("begin", ["", "BEGIN"])
def test_a_copy_that_fails_behind_a_sync(pgfunnel: StartFunnel, way: str, begin: str) -> None:
    """As PQexecParams sends it: Postgres passes over the Sync in front of the data."""
    data, sqlstate = FAILS[way]
    funnel = pgfunnel(default_pool_size=1)
    with wire(funnel) as one, wire(funnel) as other:
        one.ask("CREATE TABLE IF NOT EXISTS wire_copy (a int)")
        for _ in range(3):
            if begin:
                one.ask(begin)
            one.send(parse("", "COPY wire_copy FROM STDIN"), bind(), execute(), SYNC)
            one.until("G")
            one.send(*data)
            assert sqlstates(one.until("Z")) == [sqlstate]
            if begin:
                assert rows(run(one, "SELECT 1")) == []
                one.ask("ROLLBACK")
            assert rows(other.ask("SELECT 2")) == [["2"]]
            assert rows(one.ask("SELECT 1")) == [["1"]]
        one.ask("DROP TABLE wire_copy")


def test_a_copy_that_fails_in_front_of_its_data(pgfunnel: StartFunnel) -> None:
    """Postgres finds that a view takes none only when it has asked for it; its Sync is answered."""
    funnel = pgfunnel(default_pool_size=1)
    with wire(funnel) as one, wire(funnel) as other:
        one.ask("CREATE OR REPLACE VIEW wire_view AS SELECT 1 AS a")
        for _ in range(3):
            one.send(parse("", "COPY wire_view FROM STDIN"), bind(), execute(), SYNC)
            assert sqlstates(one.until("Z")) == ["42809"]
            assert rows(other.ask("SELECT 2")) == [["2"]]
            one.send(COPY_DONE, SYNC)
            assert [answer.kind for answer in one.until("Z")] == ["Z"]
            assert rows(one.ask("SELECT 1")) == [["1"]]
        one.ask("DROP VIEW wire_view")


def test_who_leaves_behind_such_a_copy_gives_its_server_back(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=1)
    with wire(funnel) as other:
        other.ask("CREATE TABLE IF NOT EXISTS wire_copy (a int)")
        with psycopg.connect(funnel.dsn("alice")) as connection:
            straight = connection.pgconn
            for _ in range(2):
                begun = straight.exec_params(b"COPY wire_copy FROM STDIN", None)
                assert begun.status == pq.ExecStatus.COPY_IN
                straight.put_copy_end(b"no more")
                while (result := straight.get_result()) is not None:
                    assert result.status == pq.ExecStatus.FATAL_ERROR
            connection.rollback()
        assert rows(other.ask("SELECT 2")) == [["2"]]
        other.ask("DROP TABLE wire_copy")


@pytest.mark.parametrize("behind", [[bind(), execute()], [parse("", "SELECT 1"), SYNC]])
def test_what_is_said_in_the_middle_of_a_copy_is_not_held_back(
    pgfunnel: StartFunnel, behind: list[bytes]
) -> None:
    """Postgres ends such a connection; its server is none to wait for."""
    funnel = pgfunnel(default_pool_size=1)
    with wire(funnel) as one, wire(funnel) as other:
        one.ask("CREATE TABLE IF NOT EXISTS wire_copy (a int)")
        one.ask("SELECT 1")
        one.send(parse("", "COPY wire_copy FROM STDIN"), bind(), execute(), SYNC, *behind)
        with pytest.raises(Gone) as gone:
            one.until("Z")
        assert sqlstates(gone.value.answers) == ["08P01", "08P01"]
        other.ask("DROP TABLE wire_copy")


# -- PREPARE and EXECUTE -------------------------------------------------------------------

SETS = "SELECT set_config('my.executed', 'mine', false), pg_advisory_lock(8)"
LOCKS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
UNREPEATABLE = {
    "dynamic": [f"DO $$ BEGIN EXECUTE $q$PREPARE p AS {SETS}$q$; END $$"],
    "one name twice": [f"PREPARE p AS SELECT 1; DEALLOCATE p; PREPARE p AS {SETS}"],
    "between two changes": [
        f"SET search_path = public, a; PREPARE p AS {SETS}; SET search_path = public"
    ],
    "too long": [f"PREPARE p AS {SETS}, '{'x' * (1 << 20)}' IS NULL"],
    "in one transaction": ["BEGIN", f"PREPARE p AS {SETS}", "EXECUTE p", "COMMIT"],
}


@pytest.mark.parametrize("way", UNREPEATABLE)
@pytest.mark.parametrize("leaves", [False, True])
def test_what_a_statement_does_that_cannot_be_repeated(
    pgfunnel: StartFunnel, way: str, leaves: bool
) -> None:
    funnel = pgfunnel(default_pool_size=2, session_audit=1, server_round_robin=True)
    with wire(funnel) as other, wire(funnel) as third:
        with wire(funnel) as one:
            for sql in UNREPEATABLE[way]:
                assert not sqlstates(one.ask(sql))
            if "EXECUTE p" not in UNREPEATABLE[way]:
                assert not sqlstates(one.ask("EXECUTE p"))
            if not leaves:
                is_only("my.executed", "mine", one, other, third)
                assert not sqlstates(one.ask("DEALLOCATE p"))
                is_only("my.executed", "mine", one, other, third)
        for client in (other, third) * 2:
            assert setting(client, "my.executed") is None
            assert rows(client.ask(LOCKS)) == [["0"]]
    assert "leak" not in funnel.log()


@pytest.mark.parametrize("name", ["'my.given'", "'my.' || 'given'", "E'my\\x2egiven'"])
def test_a_name_that_execute_is_given(pgfunnel: StartFunnel, name: str) -> None:
    funnel = pgfunnel(default_pool_size=2, server_round_robin=True)
    with wire(funnel) as one, wire(funnel) as other:
        one.ask("PREPARE p(text, text) AS SELECT set_config($1, $2, false)")
        assert not sqlstates(one.ask(f"EXECUTE p({name}, 'mine')"))
        is_only("my.given", "mine", one, other)


def test_a_statement_that_executes_another(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=2, server_round_robin=True)
    with wire(funnel) as one, wire(funnel) as other:
        one.ask("PREPARE p AS SELECT set_config('my.deep', 'mine', false)")
        one.send(parse("pe", "EXECUTE p"), SYNC)
        one.until("Z")
        assert not sqlstates(one.ask("EXECUTE pe"))
        is_only("my.deep", "mine", one, other)


IN_TOKYO = "2020-01-01 00:00:00+09"
SET_AHEAD = [
    ("SET LOCAL timezone = 'Asia/Tokyo'", "SELECT (timestamptz '2020-01-01')::text", IN_TOKYO),
    (
        "SELECT set_config('timezone', 'Asia/Tokyo', true)",
        "SELECT timestamptz '2020-01-01'",
        IN_TOKYO,
    ),
    ("SET datestyle = 'ISO, DMY'", "SELECT date '01/02/2020'", "2020-02-01"),
    ("SET standard_conforming_strings = off", r"SELECT 'a\\\\b'", r"a\\b"),
]


@pytest.mark.parametrize("ahead, sql, shown", SET_AHEAD)
@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("ended", [False, True])
def test_what_is_set_in_the_same_pipeline(
    pgfunnel: StartFunnel,
    postgres: Postgres,
    ahead: str,
    sql: str,
    shown: str,
    named: bool,
    ended: bool,
) -> None:
    """A SET is under way in front of a statement that others have prepared, too."""
    funnel = pgfunnel(default_pool_size=1)
    name = "ahead" if named else ""
    told = []
    straight = Wire(
        postgres.host, postgres.port, postgres.user, postgres.database, postgres.password
    )
    with straight, wire(funnel) as other, wire(funnel) as one:
        for client in (straight, other):
            client.send(parse("s", sql), SYNC, bind("", "s"), execute(), SYNC)
            client.until("Z", 2)
        straight.send(close("s"), SYNC)
        straight.until("Z")
        for client in (straight, one):
            client.ask("BEGIN")
            client.send(parse(name, ahead), bind("", name), execute(), *[SYNC] * ended)
            client.send(parse("s", sql), bind("", "s"), execute(), SYNC)
            answers = client.until("Z", 1 + ended)
            assert not sqlstates(answers)
            told.append(rows(answers)[-1])
            client.ask("COMMIT")
        assert told == [[shown]] * 2
        other.send(bind("", "s"), execute(), SYNC)
        again = rows(other.until("Z"))
        assert again != [told[1]]


def test_plans_that_are_discarded_take_no_reading_with_them(pgfunnel: StartFunnel) -> None:
    """Where a function in PL/pgSQL makes it necessary to discard plans between clients."""
    funnel = pgfunnel(default_pool_size=1)
    sql = "SELECT (timestamptz '2020-01-01')::text"
    with wire(funnel) as x, wire(funnel) as other:
        x.ask(
            "CREATE OR REPLACE FUNCTION wire_plans() RETURNS int LANGUAGE plpgsql AS"
            " 'BEGIN RETURN 1; END'"
        )
        x.ask("SET timezone = 'Asia/Tokyo'")
        x.send(parse("s", sql), SYNC, bind("", "s"), execute(), SYNC)
        first = rows(x.until("Z", 2))
        other.ask("SET timezone = 'UTC'")
        other.ask("SELECT 1")
        x.ask("BEGIN")
        x.ask("SET LOCAL timezone = 'UTC'")
        x.send(bind("", "s"), execute(), SYNC)
        x.until("Z")
        x.ask("COMMIT")
        x.send(bind("", "s"), execute(), SYNC)
        assert rows(x.until("Z")) == first == [["2020-01-01 00:00:00+09"]]
        with wire(funnel) as y:
            y.ask("SET timezone = 'Asia/Tokyo'")
            y.send(parse("s", sql), SYNC, bind("", "s"), execute(), SYNC)
            assert rows(y.until("Z", 2)) == first
        x.ask("DROP FUNCTION wire_plans()")


def test_a_function_that_changes_after_the_statement_was_prepared(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=1)
    create = "CREATE OR REPLACE FUNCTION wire_fx() RETURNS text LANGUAGE sql AS "
    with wire(funnel) as one, wire(funnel) as other:
        one.ask(create + "$$ SELECT 'x' $$")
        one.send(parse("n1", "SELECT wire_fx()"), SYNC)
        one.until("Z")
        one.ask(create + "$$ SELECT set_config('my.later', 'mine', false) $$")
        assert not sqlstates(one.ask("EXECUTE n1"))
        is_only("my.later", "mine", one, other)
        one.ask("DROP FUNCTION wire_fx()")


# -- other modes ---------------------------------------------------------------------------


def test_prepared_statements_of_which_none_are_kept(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=1, max_prepared_statements=0)
    with wire(funnel) as one, wire(funnel) as other:
        for client in (one, other):
            client.send(parse("p1", "SELECT 1"), parse("p2", "SELECT 2"), SYNC)
            assert not sqlstates(client.until("Z"))
        for client in (one, other, one):
            client.send(bind("", "p2"), execute(), bind("", "p1"), execute(), SYNC)
            assert rows(client.until("Z")) == [["2"], ["1"]]


@pytest.mark.parametrize("deallocate", ["DEALLOCATE p1", "BEGIN; DEALLOCATE p1; ROLLBACK"])
@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_a_statement_of_the_protocol_is_deallocated_by_sql(
    pgfunnel: StartFunnel, mode: str, deallocate: str
) -> None:
    funnel = pgfunnel(default_pool_size=1, pool_mode=mode)
    with wire(funnel) as one:
        one.send(parse("p1", "SELECT 1"), SYNC)
        one.until("Z")
        assert not sqlstates(one.ask(deallocate))
        assert sqlstates(one.ask("EXECUTE p1")) == ["26000"]
        assert rows(one.ask("SELECT 1")) == [["1"]]
        one.send(parse("p1", "SELECT 3"), SYNC, bind("", "p1"), execute(), SYNC)
        assert not sqlstates(one.until("Z"))
        assert rows(one.until("Z")) == [["3"]]


@pytest.mark.parametrize("skipped", [query("SELECT 1"), close("")])
def test_what_is_skipped_destroys_no_statement(pgfunnel: StartFunnel, skipped: bytes) -> None:
    """The unnamed statement of the client that had the server before is still there then."""
    funnel = pgfunnel(default_pool_size=1)
    with wire(funnel) as before, wire(funnel) as other:
        assert rows(run(before, "SELECT 'of another'")) == [["of another"]]
        other.send(bind("", "nothing"), skipped, SYNC, bind(), execute(), SYNC)
        assert sqlstates(other.until_ready(2)) == ["26000", "26000"]


READ_UNDER = {
    "SET search_path = aside": [["(x,2)", "{NULL}"]],
    "SET array_nulls = off": [["(1)", '{"null"}']],
}


@pytest.mark.parametrize("first", READ_UNDER)
def test_prepare_behind_what_it_is_read_under(
    pgfunnel: StartFunnel, own_postgres: Postgres, first: str
) -> None:
    """In one send, with a Sync between them: what the first does is not asked before the second."""
    own_postgres.psql(
        "CREATE SCHEMA aside; GRANT USAGE ON SCHEMA aside TO alice;"
        "CREATE TABLE told (a int); INSERT INTO told VALUES (1); GRANT SELECT ON told TO alice;"
        "SET search_path = aside; CREATE TABLE told (a text, b int);"
        "INSERT INTO told VALUES ('x', 2); GRANT SELECT ON told TO alice"
    )
    funnel = pgfunnel(own_postgres, default_pool_size=3)
    prepare = "PREPARE mine AS SELECT told, '{null}'::text[] FROM told"
    with wire(funnel) as one, wire(funnel) as other:
        one.send(*cycle(first), *cycle(prepare))
        one.until_ready(2)
        for _ in range(3):
            assert rows(other.ask("SELECT 1")) == [["1"]]
            assert rows(one.ask("EXECUTE mine")) == READ_UNDER[first]
