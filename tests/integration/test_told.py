"""What clients are told of their parameters (ParameterStatus): what they would be of their own."""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Iterator

import pytest

from tests.conftest import StartFunnel
from tests.integration.observe import pool_metric, until
from tests.integration.twins import Twins
from tests.postgres import USERS, Postgres
from tests.wireclient import COPY_DONE, SYNC, Wire, bind, copy_data, describe, execute, parse, query

BEGAN = {
    "TimeZone": "Asia/Tokyo",
    "DateStyle": "German",
    "IntervalStyle": "iso_8601",
    "client_encoding": "LATIN1",
    "application_name": "one",
    "work_mem": "5MB",
    "my.tag": "x",
}

BACK = ["RESET {}", "SET {} TO DEFAULT", "RESET ALL", "DISCARD ALL"]
REPORTED = ["TimeZone", "DateStyle", "IntervalStyle", "client_encoding", "application_name"]


@pytest.mark.parametrize("name", REPORTED)
@pytest.mark.parametrize("back", BACK)
def test_nothing_is_told_of_what_stays_as_it_began(
    pgfunnel: StartFunnel, name: str, back: str
) -> None:
    with Twins(pgfunnel(default_pool_size=1)) as twins:
        twins.connect("one", **BEGAN)
        twins.connect("other")
        for _ in range(2):
            assert not twins.ask("one", back.format(name)).changes
            twins.ask("other", f"SHOW {name}")
            twins.ask("one", f"SHOW {name}")


DATE_STYLES = ["ISO", "DMY", "German", "SQL, YMD", "ISO, MDY", "Postgres", "", "MDY"]


@pytest.mark.parametrize(
    "of", ["DATABASE postgres", "ROLE alice", "ROLE alice IN DATABASE postgres"]
)
@pytest.mark.parametrize("configured", ["ISO, MDY", "SQL, DMY"])
def test_a_date_style_builds_on_what_is_beneath_that_of_the_database(
    own_postgres: Postgres, pgfunnel: StartFunnel, of: str, configured: str
) -> None:
    own_postgres.psql(f"ALTER SYSTEM SET datestyle = '{configured}'")
    own_postgres.psql("SELECT pg_reload_conf()")
    own_postgres.psql(f"ALTER {of} SET datestyle = 'German, YMD'")
    funnel = pgfunnel(own_postgres, default_pool_size=1)
    with Twins(funnel) as twins:
        for style in DATE_STYLES:
            twins.connect(style, DateStyle=style)
            for sql in ("SELECT '01/02/03'::date", "SET DateStyle = SQL", "RESET DateStyle"):
                twins.ask(style, sql)
        twins.ask("none", "SELECT '01/02/03'::date")
        twins.ask("none", f"SET DateStyle = {configured}; ALTER {of} SET datestyle = 'ISO, DMY'")
        for style in DATE_STYLES:
            twins.connect(f"{style} again", DateStyle=style)
            for name in (style, f"{style} again"):
                twins.ask(name, "SELECT '01/02/03'::date")


def test_a_value_is_put_back_that_was_the_servers_default_anyway(pgfunnel: StartFunnel) -> None:
    anything = "DO $$ BEGIN EXECUTE 'SELECT 1'; END $$"
    with Twins(pgfunnel(default_pool_size=1)) as twins:
        twins.connect("one", client_encoding="LATIN1")
        twins.connect("other")
        twins.ask("one", "SET client_encoding = 'UTF8'")
        twins.ask("other", "SET client_encoding = 'UTF8'")
        twins.ask("other", anything)
        twins.ask("other", "RESET client_encoding")
        twins.ask("one", anything)


def test_what_is_put_back_in_one_cycle_is_there_in_the_next(pgfunnel: StartFunnel) -> None:
    with Twins(pgfunnel(default_pool_size=1)) as twins:
        twins.connect("one", TimeZone="Asia/Tokyo")
        for back in ("RESET TimeZone", "RESET ALL"):
            twins.send("one", query(back), query("SHOW TimeZone"), times=2)
            reset = parse("", back), bind(), execute(), SYNC
            twins.send("one", *reset, query("SHOW TimeZone"), times=2)
            twins.send("one", query("BEGIN"), *reset, query("SHOW TimeZone; COMMIT"), times=3)
            twins.send("one", query(f"{back}; SELECT 1 / 0"), query("SHOW TimeZone"), times=2)


@pytest.mark.parametrize("ahead", ["SELECT 1", "SELECT pg_sleep(0.05)", "BEGIN"])
@pytest.mark.parametrize("back", ["RESET TimeZone", "RESET ALL", "DO 'BEGIN RESET TimeZone; END'"])
def test_strings_in_one_packet(pgfunnel: StartFunnel, ahead: str, back: str) -> None:
    with Twins(pgfunnel(default_pool_size=1)) as twins:
        twins.connect("one", TimeZone="Asia/Tokyo")
        for _ in range(5):
            strings = query(ahead), query(back), query("SHOW TimeZone"), query("COMMIT")
            twins.send("one", *strings, times=4)
        twins.ask("other", "SHOW TimeZone")


def test_who_puts_something_back_in_a_pipeline_keeps_nobody_waiting(pgfunnel: StartFunnel) -> None:
    """It waits for a server in the midst of that, as others do."""
    funnel = pgfunnel(default_pool_size=2)
    upstream = funnel.upstream
    with contextlib.ExitStack() as stack:

        def connect(**settings: str) -> Wire:
            who = "alice", upstream.database, USERS["alice"]
            return stack.enter_context(Wire(funnel.host, funnel.port, *who, settings))

        one = connect(TimeZone="Asia/Tokyo")
        others = [connect() for _ in range(3)]
        for _ in range(5):
            cycles = [
                (parse("", sql), bind(), execute(), SYNC)
                for sql in ("SELECT pg_sleep(0.1)", "RESET TimeZone", "SELECT pg_sleep(0.1)")
            ]
            one.send(*itertools.chain(*cycles))
            for other in others:
                other.send(query("SELECT pg_sleep(0.05)"))
            assert [answer.kind for answer in one.until("Z", 3)].count("Z") == 3
            for other in others:
                other.until("Z")
        for other in (*others, one):
            other.ask("BEGIN; SELECT 1; COMMIT")
        until(lambda: pool_metric(funnel, "pgfunnel_servers", state="idle") == 2)


@pytest.mark.parametrize("named", ["", "s"])
def test_copy_from_behind_what_may_put_something_back(pgfunnel: StartFunnel, named: str) -> None:
    anything = "DO $$ BEGIN EXECUTE 'RESET TimeZone'; END $$"
    with Twins(pgfunnel(default_pool_size=1)) as twins:
        twins.connect("one", TimeZone="Asia/Tokyo")
        twins.ask("one", "CREATE TEMP TABLE copied (v text)")
        twins.send("one", parse(named, "SELECT 1"), SYNC)
        string = query(f"{anything}; COPY copied FROM STDIN")
        twins.send("one", string, copy_data(b"1\n"), COPY_DONE, query("TABLE copied"), times=2)
        twins.send("one", query("SHOW TimeZone"))


SETS = [
    *(f"SET {{}}TimeZone = '{zone}'" for zone in ("Asia/Tokyo", "Etc/UTC", "Europe/Paris")),
    *(f"SET {{}}DateStyle = '{style}'" for style in ("German", "ISO, MDY", "SQL, DMY")),
    *(f"SET {{}}IntervalStyle = {style}" for style in ("postgres", "iso_8601", "sql_standard")),
    "SET {}application_name = 'two'",
    "SET {}client_encoding = 'UTF8'",
]
ONE_BY_ONE = [
    *(each.format(extent) for each in SETS for extent in ("", "SESSION ")),
    *(back.format(name) for back in BACK[:2] for name in REPORTED),
    "RESET ALL",
    "SELECT set_config('TimeZone', 'Asia/Tokyo', false)",
    "DO $$ BEGIN SET TimeZone = 'Asia/Kabul'; END $$",
    "DO $$ BEGIN EXECUTE 'RESET Time' || 'Zone'; END $$",
    "SELECT now() - now(), '2020-02-03 04:05:06+00'::timestamptz",
    "SELECT 1 / 0",
]
STEPS = [
    *ONE_BY_ONE,
    *(each.format("LOCAL ") for each in SETS),
    *(f"SET LOCAL {name} TO DEFAULT" for name in REPORTED),
    "SET LOCAL TIME ZONE LOCAL",
    "SELECT 1 WHERE set_config('TimeZone', NULL, true) IS NULL",
    "DISCARD ALL",
    "BEGIN; SET TimeZone = 'Asia/Tashkent'; ROLLBACK",
    *["BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT s", "ROLLBACK TO s"] * 2,
]


def pipeline(chance: random.Random, cycles: int) -> Iterator[bytes]:
    """RESET comes last in its cycle: what is behind it there sees the server's default."""
    for _ in range(cycles):
        for step in chance.choices(ONE_BY_ONE, k=chance.randrange(1, 4)):
            yield from (parse("", step), bind(), execute())
            if "RESET" in step or "DEFAULT" in step:
                break
        yield SYNC


def test_what_is_set_to_the_default_is_told_in_the_midst_of_a_pipeline(
    pgfunnel: StartFunnel,
) -> None:
    made = "CREATE TEMP TABLE told (a int) ON COMMIT DROP"
    with Twins(pgfunnel(default_pool_size=1)) as twins:
        twins.connect("one", client_encoding="LATIN1")
        for sql in ("SET client_encoding = 'UTF8'", "SET client_encoding = 'LATIN1'") * 2:
            for ahead in (sql, f"{sql}; {made}", f"{made}; {sql}"):
                twins.send("one", query(ahead), describe("", "P"), execute(), SYNC, times=2)
                twins.ask("one", "SHOW client_encoding")


OUT_OF_SIGHT = {
    "EXECUTE": [
        query("PREPARE p AS SELECT count(set_config('client_encoding', NULL, false))"),
        query("EXECUTE p"),
    ],
    "EXECUTE of what the protocol prepared": [
        *(parse("p", "RESET client_encoding"), SYNC),
        query("EXECUTE p"),
    ],
    "FETCH": [
        query("BEGIN"),
        query(
            "DECLARE c CURSOR FOR SELECT FROM (SELECT set_config('client_encoding', NULL, false)) s"
            " WHERE set_config IS NULL"
        ),
        query("FETCH c"),
        query("SELECT 1"),
        query("COMMIT"),
    ],
    "a portal": [
        query("BEGIN"),
        *(parse("", "RESET ALL"), bind("p"), SYNC),
        *(execute("p"), SYNC),
        query("SELECT 1"),
        query("COMMIT"),
    ],
}


@pytest.mark.parametrize("cycles", OUT_OF_SIGHT.values(), ids=OUT_OF_SIGHT.keys())
def test_a_reset_that_no_text_shows_leads_back(pgfunnel: StartFunnel, cycles: list[bytes]) -> None:
    with Twins(pgfunnel(default_pool_size=1)) as twins:
        twins.connect("one", client_encoding="LATIN1", TimeZone="Asia/Tokyo")
        sent: list[bytes] = []
        for message in cycles:
            sent.append(message)
            if message[:1] in (b"Q", b"S"):
                twins.send("one", *sent)
                sent.clear()
        for name in ("one", "other", "one"):
            twins.ask(name, "SHOW client_encoding")


@pytest.mark.parametrize("block", [False, True])
@pytest.mark.parametrize(
    "back",
    ["RESET TimeZone", "RESET ALL", "SET TimeZone TO DEFAULT", "SET LOCAL TimeZone TO DEFAULT"],
)
def test_a_reset_in_front_of_what_is_read_as_before_leads_back(
    pgfunnel: StartFunnel, back: str, block: bool
) -> None:
    """The statement's own time zone is set for a moment, in the same cycle."""
    sql = "SELECT (timestamptz '2020-01-01' - timestamptz '2020-01-01 00:00+00')::text"
    with Twins(pgfunnel(default_pool_size=1)) as twins:
        twins.connect("one", TimeZone="Asia/Tokyo")
        twins.ask("other", "SET TimeZone = 'Asia/Kabul'")
        twins.send("one", parse("s", sql), SYNC)
        for _ in range(2):
            twins.ask("one", "SET TimeZone = 'Europe/Paris'")
            twins.ask("other", "DISCARD PLANS")
            if block:
                twins.ask("one", "BEGIN")
            reset = parse("", back), bind(), execute()
            twins.send("one", *reset, bind("", "s"), execute(), SYNC)
            twins.ask("one", "SHOW TimeZone; COMMIT")
            for name in ("other", "one"):
                twins.ask(name, "SHOW TimeZone")


LED_BACK = {
    **{name: f"SET LOCAL {name} TO DEFAULT" for name in BEGAN},
    "time zone": "SET LOCAL TIME ZONE LOCAL",
    "set_config": "SELECT count(set_config('work_mem', NULL, true))",
    "by a function": "DO $$ BEGIN PERFORM set_config('work_mem', NULL, true); END $$",
    "twice": "SET LOCAL work_mem = '7MB'; SET LOCAL work_mem TO DEFAULT",
    "and set": "SET LOCAL work_mem TO DEFAULT; SET LOCAL work_mem = '7MB'",
    "and the session": "SET LOCAL work_mem TO DEFAULT; SET work_mem = '7MB'",
    "and all": "SET LOCAL work_mem TO DEFAULT; RESET ALL",
    "by its statement": "PREPARE p AS SELECT count(set_config('work_mem', NULL, true)); EXECUTE p",
    "session characteristics": "SET LOCAL SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
}
SHOWN = "SELECT " + ", ".join(f"current_setting('{name}')" for name in BEGAN)


@pytest.mark.parametrize("ends", ["COMMIT", "ROLLBACK", "ROLLBACK TO s", "RELEASE s"])
@pytest.mark.parametrize("led", LED_BACK.values(), ids=LED_BACK.keys())
def test_a_transaction_is_led_back_to_what_its_client_began_with(
    pgfunnel: StartFunnel, led: str, ends: str
) -> None:
    with Twins(pgfunnel(default_pool_size=1)) as twins:
        twins.connect("one", **BEGAN)
        for change in ("SELECT 1", "SET work_mem = '6MB'; SET TimeZone = 'UTC'; SET my.tag = 'y'"):
            for sql in (change, "BEGIN; SAVEPOINT s", led, SHOWN, "SET LOCAL my.tag = ''", SHOWN):
                twins.ask("one", sql)
            twins.ask("one", ends)
            twins.ask("one", SHOWN)
            twins.ask("one", "COMMIT; DEALLOCATE ALL")
            twins.ask("other", "SELECT 1")
            twins.ask("one", SHOWN)
            twins.ask("one", "BEGIN")
            steps = [(parse("", sql), bind(), execute(), SYNC) for sql in (SHOWN, SHOWN, "COMMIT")]
            twins.send("one", query(led), *itertools.chain(*steps), times=4)
            twins.ask("one", SHOWN + "; DEALLOCATE ALL")


@pytest.mark.parametrize("seed", range(8))
def test_clients_are_told_what_a_session_of_their_own_tells(
    pgfunnel: StartFunnel, seed: int
) -> None:
    chance = random.Random(seed)
    names = ["one", "two", "three"]
    with Twins(pgfunnel(default_pool_size=3)) as twins:
        for name in names:
            twins.connect(name, **{key: BEGAN[key] for key in BEGAN if chance.random() < 0.6})
        for _ in range(300):
            name = chance.choice(names)
            if chance.random() < 0.7:
                twins.ask(name, chance.choice(STEPS))
            else:
                cycles = chance.randrange(1, 4)
                twins.send(name, *pipeline(chance, cycles), times=cycles)
