"""Names of prepared statements that are removed and given anew in one send, by SQL and protocol."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence

import pytest

from tests.conftest import StartFunnel
from tests.integration.twins import Twins
from tests.postgres import USERS
from tests.wireclient import (
    SYNC,
    TERMINATE,
    Gone,
    Wire,
    bind,
    close,
    describe,
    execute,
    function_call,
    parse,
    query,
)

Messages = tuple[bytes, ...]


def run(sql: str, name: str = "") -> Messages:
    return parse(name, sql), bind("", name), execute()


def use(name: str = "") -> Messages:
    return bind("", name), execute(), SYNC


def bind_both() -> Messages:
    return bind("", "s"), execute(), bind("", "t"), execute()


SETS = "SELECT set_config('statement_timeout', '50s', false), set_config('my.name', 'x', false)"
MY_NAME = "nullif(current_setting('my.name', true), '')"
AGAIN: dict[str, Messages] = {
    "closed": (close("s"), *run(SETS, "s"), SYNC),
    "deallocated": (*run("DEALLOCATE s"), *run(SETS, "s"), SYNC),
    "all deallocated": (*run("DEALLOCATE ALL"), *run(SETS, "s"), SYNC),
    "deallocated in a query": (query("DEALLOCATE s"), *run(SETS, "s"), SYNC),
    "discarded": (query("DISCARD ALL"), *run(SETS, "s"), SYNC),
    "closed, executed in SQL": (close("s"), parse("s", SETS), SYNC, query("EXECUTE s")),
    "closed, used in the next cycle": (close("s"), parse("s", SETS), SYNC, *use("s")),
    "parsed twice": (*run(SETS, "s"), SYNC, *use("s")),
    "deallocated and prepared": (query("DEALLOCATE s"), query(f"PREPARE s AS {SETS}"), *use("s")),
    "discarded and prepared": (
        query("DISCARD ALL"),
        query(f"PREPARE s AS {SETS}"),
        query("EXECUTE s"),
    ),
    "failed and prepared": (
        *(execute("nosuch"), parse("t", "SELECT 1"), SYNC),
        *(query(f"PREPARE t AS {SETS}"), *use("t")),
    ),
    "not parsed and prepared": (
        *(parse("t", "SELEC"), SYNC),
        *(query(f"PREPARE t AS {SETS}"), *use("t")),
    ),
    "executed by another": (
        *(parse("t", "EXECUTE u"), SYNC, parse("u", "SELECT 1"), SYNC),
        *(close("u"), parse("u", SETS), query("EXECUTE t")),
    ),
    "one that drops itself": (
        *(parse("t", "DEALLOCATE t"), SYNC, query("DEALLOCATE t")),
        *(parse("t", "DEALLOCATE t"), SYNC, query("EXECUTE t"), query("EXECUTE t")),
    ),
    "one that executes itself": (
        *(parse("t", "EXECUTE u"), parse("u", "EXECUTE t"), SYNC),
        *(query("DEALLOCATE s"), query("SELECT 1")),
    ),
    "PREPAREd behind all deallocated": (
        *(*run("DEALLOCATE ALL"), query(f"RESET work_mem; PREPARE s AS {SETS}")),
        *(query("EXECUTE s"), SYNC),
    ),
    "PREPAREd in a cycle with all deallocated": (
        *(*run("DEALLOCATE ALL"), *run(f"PREPARE s AS {SETS}"), SYNC),
        query("EXECUTE s"),
    ),
    "deallocated in a string that fails": (
        *(query("DEALLOCATE s; EXECUTE s"), parse("s", SETS), SYNC, *use("s")),
    ),
    "not PREPAREd, closed": (
        *(query(f"PREPARE s AS {SETS}"), close("s"), parse("s", "SELECT 7"), SYNC),
        *use("s"),
    ),
    "PREPAREd and committed": (
        *(query(f"DEALLOCATE s; PREPARE s AS {SETS}; COMMIT; BEGIN"), parse("s", "SELECT 6"), SYNC),
        *(query("ROLLBACK"), *use("s"), query("EXECUTE s")),
    ),
    "PREPAREd and parsed": (
        *(*run("SELECT 1"), *run("DEALLOCATE s"), *run(f"PREPARE s AS {SETS}")),
        *(parse("s", "SELECT 7"), SYNC, *use("s")),
    ),
    "deallocated later": (
        *(parse("", "DEALLOCATE s"), bind("later"), *run("EXECUTE s"), *use("s")),
        *(query("DEALLOCATE s"), parse("s", "SELECT 2"), SYNC, *use("s")),
    ),
    "deallocated as libpq does": (
        *(parse("", "DEALLOCATE s"), bind(), describe(what="P"), execute(), SYNC),
        *(parse("s", SETS), SYNC, *use("s")),
    ),
    "all deallocated behind another cycle": (
        *(query("SELECT pg_sleep(0.1)"), *run("DEALLOCATE ALL"), *run("SELECT 2", "s"), SYNC),
        *use("s"),
    ),
    "all deallocated by one that is parsed, behind another cycle": (
        *(parse("all", "DEALLOCATE ALL"), SYNC, query("SELECT pg_sleep(0.1)")),
        *(bind("", "all"), execute(), *run("SELECT 2", "s"), SYNC, *use("s")),
    ),
    "skipped": (
        *(execute("nosuch"), query("DEALLOCATE s"), query(f"PREPARE s AS {SETS}"), SYNC, *use("s")),
    ),
    "skipped in front of DDL": (
        *(*run("SELECT 1/0"), close("s"), parse("s", "SELECT 2"), parse("t", "SELECT 2")),
        *(*run("CREATE TABLE names_made (n int)"), *bind_both(), SYNC, *use("s"), *use("t")),
        *(parse("t", SETS), SYNC, *use("t")),
    ),
    "closed in front of a call, and again": (
        *(close("s"), parse("s", "SELECT 2"), function_call(177, ["1", "2"])),
        *(close("s"), parse("s", SETS), SYNC, *use("s")),
    ),
    "PREPAREd in one string": (
        *(query(f"DEALLOCATE s; PREPARE s AS {SETS}"), parse("s", "SELECT 2"), SYNC, *use("s")),
    ),
    "discarded behind its plans": (query("DISCARD PLANS"), *run("DISCARD ALL"), *use("s")),
    "unnamed behind a failure": (
        *(parse("", "SELECT 1 / 0"), execute("nosuch"), SYNC),
        *(query("SET statement_timeout = '60s'"), bind(), SYNC),
    ),
}


# What a PREPARE behind something else has read its text under nobody can tell: that pins.
PINS = {"PREPAREd and committed", "PREPAREd and parsed", "discarded and prepared"}


def cycles(messages: Sequence[bytes]) -> int:
    """How many ReadyForQuery they bring: none where a failure skips what ends with one."""
    ends, skips = 0, False
    for message in messages:
        skips = (skips or message == execute("nosuch")) and message != SYNC
        ends += message[:1] in b"FQS" and not skips
    return ends


@pytest.mark.parametrize("makes", ["sql", "protocol"])
@pytest.mark.parametrize("again", AGAIN)
def test_a_name_is_given_anew(pgfunnel: StartFunnel, makes: str, again: str) -> None:
    looks = f"SELECT current_setting('statement_timeout'), {MY_NAME}"
    with Twins(pgfunnel(default_pool_size=2 if again in PINS else 1)) as twins:
        twins.ask("other", "SET my.name = 'other'; SET statement_timeout = '9s'")
        if makes == "sql":
            twins.ask("one", "PREPARE s AS SELECT 1")
        else:
            twins.send("one", parse("s", "SELECT 1"), SYNC)
        twins.send("one", *AGAIN[again], times=cycles(AGAIN[again]))
        for name in ("other", "one", "third"):
            twins.ask(name, looks)
        twins.send("one", *use("s"))


def test_what_sql_has_prepared_is_used_by_the_protocol(pgfunnel: StartFunnel) -> None:
    looks = f"SELECT current_setting('work_mem'), {MY_NAME}"
    with Twins(pgfunnel(default_pool_size=1)) as twins:
        twins.ask("one", "PREPARE s (text) AS SELECT set_config('work_mem', $1, false)")
        twins.ask("one", "PREPARE t AS SELECT set_config('my.name', 'x', false)")
        for name, values in (("s", ["7MB"]), ("t", [])):
            twins.send("one", bind("", name, values), execute(), SYNC)
            for who in ("other", "one"):
                twins.ask(who, looks)


@pytest.mark.parametrize(
    "drops", ["EXECUTE 'DEALLOCATE ALL'", "EXECUTE format('DEALLOCATE %s', 'all')"]
)
def test_what_code_drops_is_nobody_elses(pgfunnel: StartFunnel, drops: str) -> None:
    with Twins(pgfunnel(default_pool_size=1)) as twins:
        for who in ("one", "other"):
            twins.send(who, parse("s", f"SELECT '{who}'"), *use("s"))
        for run_it in (query, lambda sql: b"".join((*run(sql), SYNC))):
            twins.send("one", run_it(f"DO $$BEGIN {drops}; END$$"))
            twins.send("other", *use("s"))
            twins.send("one", *use("s"))
            twins.send("one", parse("s", "SELECT 'again'"), *use("s"))
            twins.send("other", *use("s"))


@pytest.mark.parametrize("reset", ["DISCARD PLANS", "DEALLOCATE ALL", "UNLISTEN *", "DISCARD TEMP"])
def test_a_reset_that_is_repeated_in_a_pipeline_loses_nothing(
    pgfunnel: StartFunnel, reset: str
) -> None:
    with Twins(pgfunnel(default_pool_size=1)) as twins:
        twins.ask("other", "SET my.name = 'other'")
        sets = query("SELECT set_config('my.name', 'x', false)")
        twins.send("one", sets, *run(reset), SYNC, *use(), times=3)
        twins.ask("other", "SELECT 1")
        twins.ask("one", "SELECT current_setting('my.name', true)")


GONE = {
    "alone": (query("DEALLOCATE s"),),
    "in a transaction": (query("BEGIN"), query("DEALLOCATE s"), query("SELECT 1"), query("COMMIT")),
    "by the protocol": (*run("DEALLOCATE s"), SYNC),
    "as psycopg does": (*run('DEALLOCATE "s"'), SYNC, *use("s")),
    "and made again": (query("DEALLOCATE s"), parse("s", "SELECT 2"), SYNC, *use("s")),
}


@pytest.mark.parametrize("how", GONE)
def test_what_cannot_be_prepared_any_more_can_be_deallocated(
    pgfunnel: StartFunnel, how: str
) -> None:
    with Twins(pgfunnel(default_pool_size=2)) as twins:
        twins.ask("one", "CREATE TEMP TABLE names_gone (a int)")
        twins.send("one", parse("s", "TABLE names_gone"), SYNC)
        twins.ask("one", "DROP TABLE names_gone")
        twins.send("one", *GONE[how], times=cycles(GONE[how]))
        twins.ask("other", "SELECT 1")
        twins.send("one", *use("s"))


@pytest.mark.parametrize("ends", [TERMINATE, b""])
@pytest.mark.parametrize("last", [query("SELECT 1"), function_call(177, ["1", "2"])])
def test_who_leaves_behind_a_failure_without_a_sync_keeps_no_server(
    pgfunnel: StartFunnel, ends: bytes, last: bytes
) -> None:
    funnel = pgfunnel(default_pool_size=1)
    with Twins(funnel) as twins:
        for _ in range(3):
            with contextlib.suppress(Gone):
                upstream = funnel.upstream
                with Wire(
                    funnel.host, funnel.port, "alice", upstream.database, USERS["alice"]
                ) as leaves:
                    leaves.send(*run("SELECT 1 / 0"), last, ends)
            twins.ask("other", "SELECT 1")


@pytest.mark.parametrize("reset", ["RESET ALL", "DISCARD ALL", "CLOSE ALL; UNLISTEN *; RESET ALL"])
@pytest.mark.parametrize("extended", [False, True])
def test_what_is_set_behind_a_reset_in_a_pipeline_is_ones_own(
    pgfunnel: StartFunnel, reset: str, extended: bool
) -> None:
    sql = "SET timezone = 'Asia/Tokyo'"
    sets = (*run(sql), SYNC) if extended else (query(sql),)
    with Twins(pgfunnel(default_pool_size=1)) as twins:
        for _ in range(2):
            twins.send("one", query(reset), *sets, times=2)
            for who in ("other", "one"):
                twins.ask(who, "SHOW timezone")


def test_who_has_a_server_for_the_session_is_not_pinned(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=1, pool_mode="session")
    with Twins(funnel) as twins:
        twins.ask("one", "LISTEN names_heard")
        twins.send("one", parse("s", "SELECT 1"), SYNC)
        twins.ask("one", "EXECUTE s")
        for name in ("s", "s"):
            twins.ask("one", f"DEALLOCATE {name}")
        assert funnel.metrics().get("pgfunnel_pinned_clients", 0) == 0
        assert not json.loads(funnel.get("/pins"))["pinned"]


@pytest.mark.parametrize("by", ["sql", "protocol"])
@pytest.mark.parametrize("behind", [(), ("SAVEPOINT a",)])
def test_a_first_temporary_table_in_the_transaction_of_the_statement(
    pgfunnel: StartFunnel, by: str, behind: tuple[str, ...]
) -> None:
    funnel = pgfunnel(default_pool_size=1)
    funnel.upstream.psql("CREATE TABLE IF NOT EXISTS names_hidden AS SELECT 1 AS a")
    funnel.upstream.psql("GRANT SELECT ON names_hidden TO PUBLIC")
    with Twins(funnel) as twins:
        twins.ask("one", "BEGIN")
        if by == "sql":
            twins.ask("one", "PREPARE k AS SELECT count(*) FROM names_hidden WHERE a < 0")
        else:
            twins.send("one", parse("k", "SELECT count(*) FROM names_hidden WHERE a < 0"), SYNC)
        makes = "CREATE TEMP TABLE names_hidden AS SELECT -1 AS a"
        for sql in (*behind, "EXECUTE k", makes, "EXECUTE k", "COMMIT", "EXECUTE k"):
            twins.ask("one", sql)


def test_names_are_as_long_as_postgres_keeps_them(pgfunnel: StartFunnel) -> None:
    longest = "n" * 63
    with Twins(pgfunnel(default_pool_size=1)) as twins:
        twins.send("one", parse(longest + "a", "SELECT 1"), SYNC)
        twins.send("one", *use(longest + "c"))
        twins.ask("one", f"EXECUTE {longest}d")
        twins.send("one", close(longest), SYNC)
        twins.send("one", *use(longest + "a"))
        twins.ask("one", f"PREPARE {longest}e AS SELECT 3")
        twins.send("one", parse(longest + "f", "SELECT 4"), SYNC)
        twins.send("one", *use(longest + "f"))
