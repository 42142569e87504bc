"""Sessions with much in them, texts that are hard to read, databases that give few rights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg
import pytest

from tests.conftest import StartFunnel
from tests.funnel import Funnel
from tests.integration.observe import until
from tests.postgres import Postgres

Connection = psycopg.Connection[tuple[object, ...]]
ROUNDS = range(2)


@contextmanager
def clients(funnel: Funnel, many: int = 2, **options: Any) -> Iterator[list[Connection]]:
    """They meet on whatever servers there are, and prepare nothing by themselves."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                psycopg.connect(
                    funnel.dsn("alice"), autocommit=True, prepare_threshold=None, **options
                )
            )
            for _ in range(many)
        ]


def pins(funnel: Funnel) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(funnel.get("/pins"))["pinned"]
    return found


# -- names in other encodings ----------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["LATIN1", "UTF8"])
def test_names_beyond_ascii_are_ones_own(pgfunnel: StartFunnel, encoding: str) -> None:
    funnel = pgfunnel(default_pool_size=2)
    reads = "SELECT coalesce(current_setting('my.gr\u00f6\u00dfe', true), '')"
    with clients(funnel, 2) as (one, other):
        one.execute(f"SET client_encoding = '{encoding}'")
        one.execute("SET my.\"gr\u00f6\u00dfe\" = 'secret'")
        reasons = ["computed_name"] * (encoding != "UTF8")
        until(lambda: [pin["reason"] for pin in pins(funnel)] == reasons)
        for _ in ROUNDS:
            assert other.execute(reads).fetchone() == ("",)
            assert one.execute(reads).fetchone() == ("secret",)
    with clients(funnel, 2) as later:
        for each in later:
            assert each.execute(reads).fetchone() == ("",)


# -- much in a session ---------------------------------------------------------------------


def test_large_values_and_texts_follow_their_client(pgfunnel: StartFunnel) -> None:
    """The answers to what is asked of them come in many pieces."""
    funnel = pgfunnel(default_pool_size=1, session_audit=1)
    value, text = "v" * 300_000, f"PREPARE large AS SELECT length('{'t' * 200_000}')"
    with clients(funnel) as (one, other):
        one.execute(f"SET my.value = '{value}'")
        one.execute(text)
        for number in range(20):
            one.execute(f"PREPARE p{number} AS SELECT {number} /* {'c' * 6000} */")
        for _ in ROUNDS:
            assert other.execute("SELECT current_setting('my.value', true)").fetchone() == ("",)
            with pytest.raises(psycopg.errors.InvalidSqlStatementName):
                other.execute("EXECUTE large")
            assert one.execute("SHOW my.value").fetchone() == (value,)
            assert one.execute("EXECUTE large").fetchone() == (200_000,)
            assert one.execute("EXECUTE p19").fetchone() == (19,)
        assert not pins(funnel)
    assert "leak" not in funnel.log()


def test_many_prepared_in_one_string(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=1)
    with clients(funnel) as (one, other):
        one.execute(";".join(f"PREPARE p{n} AS SELECT {n} /* {'c' * 400} */" for n in range(200)))
        for n in (0, 100, 199):
            other.execute("SELECT 1")
            assert one.execute(f"EXECUTE p{n}").fetchone() == (n,)
        assert not pins(funnel)


def test_many_parameters_at_once(pgfunnel: StartFunnel) -> None:
    """More than Postgres allows columns."""
    funnel = pgfunnel(default_pool_size=1)
    sql = "SELECT count(*) FROM generate_series(0, 1999) n WHERE current_setting('my.p' || n) = {}"
    with clients(funnel) as (one, other):
        one.execute(";".join(f"SET my.p{n} = 'one'" for n in range(2000)))
        other.execute(";".join(f"SET my.p{n} = 'two'" for n in range(2000)))
        for _ in ROUNDS:
            assert one.execute(sql.format("'one'")).fetchone() == (2000,)
            assert other.execute(sql.format("'two'")).fetchone() == (2000,)
        assert not pins(funnel)


def test_more_names_than_can_be_asked_about_pin(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=2)
    names = " ".join(f"host{n}.example" for n in range(11_000))
    with clients(funnel) as (one, other):
        one.execute("DO $$ BEGIN EXECUTE 'SET my.secret = 1'; END $$ --" + names)
        until(lambda: [pin["reason"] for pin in pins(funnel)] == ["computed_name"])
        assert pins(funnel)[0]["statement"] == "DO ?"
        for _ in ROUNDS:
            assert other.execute("SELECT current_setting('my.secret', true)").fetchone() != ("1",)
            assert one.execute("SHOW my.secret").fetchone() == ("1",)
        one.execute("RESET ALL")
        until(lambda: not pins(funnel))
    assert "session_unknown" not in funnel.log()


# -- texts ---------------------------------------------------------------------------------

HARD = {
    "one long word": "DO $$ BEGIN EXECUTE 'SELECT 1'; END $$ /* {} */".format("ab" * 400_000),
    "a word and dots": "DO $$ BEGIN EXECUTE 'SELECT 1'; END $$ /* {} */".format("a." * 400_000),
    "behind a long word": "RESET ALL; SELECT '{}'".format("ab" * 400_000),
    "calls behind a long string": "SELECT E'{}', {}".format(
        "\\\\" * 400_000, ",".join(["pg_advisory_unlock_all()"] * 900)
    ),
}


@pytest.mark.parametrize("name", HARD)
def test_nobody_waits_for_a_text_to_be_read(pgfunnel: StartFunnel, name: str) -> None:
    funnel = pgfunnel(default_pool_size=2)
    with clients(funnel) as (one, other):
        before = funnel.metrics()["process_cpu_seconds_total"]
        one.execute(HARD[name].encode())
        assert other.execute("SELECT 1").fetchone() == (1,)
        taken = funnel.metrics()["process_cpu_seconds_total"] - before
    assert taken < 5, "hours, were its time quadratic"


SECRETS = [
    ("SET standard_conforming_strings = off", r"SELECT pg_advisory_lock(1), 'it\'s hush', 'x'"),
    ("", r"SET standard_conforming_strings = off; SELECT pg_advisory_lock(1), 'it''s hush'"),
    ("", "SET my.token = hush; LISTEN here"),
    ("", 'SET my.token TO "hush"; LISTEN here'),
    ("", "SELECT set_config('my.token', $a$hush$a$, false), pg_advisory_lock(2)"),
]


@pytest.mark.parametrize("before, sql", SECRETS)
def test_no_value_is_told_where_a_pin_is_explained(
    pgfunnel: StartFunnel, before: str, sql: str
) -> None:
    funnel = pgfunnel(default_pool_size=1)
    with clients(funnel, 1) as (one,):
        if before:
            one.execute(before)
        one.execute(sql.encode())
        until(lambda: pins(funnel))
        assert "hush" not in funnel.get("/pins")
        assert pins(funnel)[0]["statement"]
    assert "hush" not in funnel.log()


def test_a_name_that_a_call_is_given_is_asked_about(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=1)
    with clients(funnel) as (one, other):
        one.execute(
            "CREATE OR REPLACE PROCEDURE run_it(command text) LANGUAGE plpgsql AS $$"
            " BEGIN EXECUTE command; END $$"
        )
        for quote, name in [("'", "plain"), ("$$", "quoted"), ("'", "größe"), ("'", "a$b")]:
            one.execute(f"CALL run_it({quote}SET my.{name} = 9{quote})".encode())
        sql = "SELECT current_setting('my.plain', true), current_setting('my.quoted', true),"
        sql += " current_setting('my.größe', true), current_setting('my.a$b', true)"
        for _ in ROUNDS:
            assert set(other.execute(sql.encode()).fetchone() or ()) <= {None, ""}
            assert one.execute(sql.encode()).fetchone() == ("9",) * 4
        one.execute("DROP PROCEDURE run_it")
        assert not pins(funnel)


# -- few rights ----------------------------------------------------------------------------


@contextmanager
def guarded(
    pgfunnel: StartFunnel, postgres: Postgres, revoke: str, **settings: Any
) -> Iterator[tuple[Funnel, list[Connection]]]:
    """Clients of a database where something was revoked from everybody."""
    postgres.psql("CREATE DATABASE guarded")
    postgres.psql(f"REVOKE {revoke} FROM PUBLIC", database="guarded")
    place = {"host": postgres.host, "port": postgres.port}
    funnel = pgfunnel(postgres, databases={"guarded": place}, default_pool_size=1, **settings)
    with clients(funnel, dbname="guarded") as found:
        yield funnel, found


SET_CONFIG = "EXECUTE ON FUNCTION pg_catalog.set_config(text, text, bool)"


def test_who_may_not_set_is_told_so_and_sees_nothing(
    pgfunnel: StartFunnel, own_postgres: Postgres
) -> None:
    with guarded(pgfunnel, own_postgres, SET_CONFIG) as (_, (one, other)):
        one.execute("SET work_mem = '9MB'")
        with pytest.raises(psycopg.Error, match="set_config"):
            other.execute("SHOW work_mem")


def test_a_right_that_is_taken_away_leaves_nobody_anothers_session(
    pgfunnel: StartFunnel, own_postgres: Postgres
) -> None:
    harmless = "EXECUTE ON FUNCTION pg_catalog.pg_sleep(float8)"
    with guarded(pgfunnel, own_postgres, harmless) as (funnel, (one, other)):
        one.execute("SET work_mem = '9MB'")
        own_postgres.psql(f"REVOKE {SET_CONFIG} FROM PUBLIC", database="guarded")
        with pytest.raises(psycopg.OperationalError):
            other.execute("SHOW work_mem")
        until(lambda: "42501: permission denied for function set_config" in funnel.log())


def test_an_audit_without_the_right_to_ask_is_no_reason_to_close(
    pgfunnel: StartFunnel, own_postgres: Postgres
) -> None:
    locks = "SELECT ON pg_catalog.pg_locks"
    with guarded(pgfunnel, own_postgres, locks, session_audit=1) as (funnel, (one, other)):
        pids = {c.execute("SELECT pg_backend_pid()").fetchone() for c in (one, other) * 5}
        assert len(pids) == 1
        assert funnel.log().count("audit_impossible") == 1


def test_what_cannot_be_asked_is_explained(pgfunnel: StartFunnel, own_postgres: Postgres) -> None:
    locks = "SELECT ON pg_catalog.pg_locks"
    with guarded(pgfunnel, own_postgres, locks) as (funnel, (one, _)):
        one.execute("SELECT pg_advisory_lock(1), 'hush'")
        until(lambda: [pin["reason"] for pin in pins(funnel)] == ["unsure"])
        assert pins(funnel)[0]["statement"] == "SELECT pg_advisory_lock(?), ?"
        assert "session_unknown" in funnel.log()
        assert "42501: permission denied for view pg_locks" in funnel.log()


# -- the audit and what is ignored ---------------------------------------------------------


def test_what_is_ignored_is_no_leak(pgfunnel: StartFunnel) -> None:
    policy = "advisory_lock=ignore,parameters=ignore,prepared=ignore"
    funnel = pgfunnel(default_pool_size=1, session_audit=1, session_policy=policy)
    with clients(funnel) as (one, other):
        one.execute("SELECT pg_advisory_lock(7)")
        one.execute("SET work_mem = '9MB'")
        one.execute("PREPARE p AS SELECT 1")
        assert other.execute("SHOW work_mem").fetchone() == ("9MB",)
        assert other.execute("EXECUTE p").fetchone() == (1,)
        assert other.execute("SELECT pg_advisory_unlock(7)").fetchone() == (True,)
    assert "leak" not in funnel.log()
