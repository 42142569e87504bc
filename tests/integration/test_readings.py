"""What constants of prepared statements are read under, where they are prepared anew.

On a direct connection a text is read at its Parse: `timestamptz '2020-01-01'` under the time zone
of then. Every client here has a connection straight to Postgres beside it, which is told the same.
"""

from __future__ import annotations

import contextlib
import json
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import StartFunnel
from tests.funnel import Funnel
from tests.postgres import USERS, Postgres
from tests.wireclient import (
    SYNC,
    Answer,
    Gone,
    Wire,
    bind,
    close,
    describe,
    execute,
    message,
    parse,
    query,
    rows,
    sqlstates,
)

TIMESTAMPTZ = 1184
MIDNIGHT = "SELECT (timestamptz '2020-01-01')::text"
OF_TOKYO = "2020-01-01 00:00:00+09"


class Both:
    """A client through pgfunnel, and its like on a connection of its own."""

    def __init__(self, funnel: Funnel, postgres: Postgres) -> None:
        database = funnel.upstream.database
        self.funnel = Wire(funnel.host, funnel.port, "alice", database, USERS["alice"])
        self.straight = Wire(
            postgres.host, postgres.port, "alice", postgres.database, USERS["alice"]
        )
        self.open = False

    def send(self, *messages: bytes, times: int = 1) -> list[Answer]:
        """The same to both, who answer the same."""
        answers = []
        for wire in (self.straight, self.funnel):
            wire.send(*messages)
            answers.append([a for a in wire.until("Z", times) if a.kind not in "SN"])
        told = [[(a.kind, a.sqlstate or a.body) for a in each] for each in answers]
        assert told[1] == told[0]
        self.open = answers[0][-1].body != b"I"
        return answers[1]

    def ask(self, sql: str) -> list[Answer]:
        return self.send(query(sql))

    def close(self) -> None:
        self.funnel.close()
        self.straight.close()


@pytest.fixture
def plans(postgres: Postgres) -> Iterator[None]:
    """Where a function in PL/pgSQL makes it necessary to discard plans between clients."""
    with Wire(postgres.host, postgres.port, "alice", postgres.database, USERS["alice"]) as own:
        own.ask(
            "CREATE OR REPLACE FUNCTION readings_plans() RETURNS int LANGUAGE plpgsql AS"
            " 'BEGIN RETURN 1; END'"
        )
        own.ask("CREATE TABLE IF NOT EXISTS readings (at timestamptz)")
        yield
        own.ask("DROP FUNCTION readings_plans()")
        own.ask("DROP TABLE readings")


@pytest.fixture
def both(pgfunnel: StartFunnel, postgres: Postgres, plans: None) -> Iterator[list[Both]]:
    """Two clients on one server, which the other has had last."""
    funnel = pgfunnel(default_pool_size=1)
    clients = [Both(funnel, postgres), Both(funnel, postgres)]
    yield clients
    for client in clients:
        client.close()


def prepared_in_tokyo(one: Both, other: Both, sql: str = MIDNIGHT) -> None:
    one.ask("SET timezone = 'Asia/Tokyo'")
    one.send(parse("s", sql), SYNC)
    one.ask("SET timezone = 'America/New_York'")
    other.ask("SET timezone = 'UTC'")


USES = {
    "alone": [bind("", "s"), execute(), SYNC],
    "described": [describe("s"), bind("", "s"), execute(), SYNC],
    "twice": [bind("", "s"), execute(), bind("p", "s"), execute("p"), SYNC],
    "behind another": [
        *(parse("", "SELECT 1"), bind(), execute()),
        *(bind("", "s"), execute(), SYNC),
    ],
    "amid an unnamed one": [
        *(parse("", "SELECT $1::text"), describe("s")),
        *(bind("", "", ["x"]), execute(), bind("", "s"), execute(), SYNC),
    ],
    "behind a SET": [
        *(parse("", "SET timezone = 'UTC'"), bind(), execute()),
        *(bind("", "s"), execute(), SYNC),
    ],
    "in SQL": [query("EXECUTE s")],
    "in front of a failure": [
        *(bind("", "s"), execute(), parse("", "SELECT 1/0"), bind(), execute(), SYNC)
    ],
}


@pytest.mark.parametrize("messages", USES.values(), ids=USES.keys())
@pytest.mark.parametrize("block", [False, True])
def test_it_is_read_as_at_its_parse(both: list[Both], messages: list[bytes], block: bool) -> None:
    one, other = both
    prepared_in_tokyo(one, other)
    for end in ("COMMIT", "ROLLBACK"):
        if block:
            one.ask("BEGIN")
            one.ask("SET LOCAL datestyle = 'SQL, DMY'")
        one.send(*messages)
        one.ask("SELECT current_setting('timezone'), current_setting('datestyle')")
        if block:
            one.ask(end)
        one.ask("SELECT current_setting('timezone'), current_setting('datestyle')")
        other.ask("SELECT 1")


def test_it_is_midnight_in_tokyo(both: list[Both]) -> None:
    one, other = both
    prepared_in_tokyo(one, other)
    assert rows(one.send(bind("", "s"), execute(), SYNC)) == [["2019-12-31 10:00:00-05"]]


def test_others_who_are_set_as_it_was_share_nothing_that_is_read_otherwise(
    both: list[Both],
) -> None:
    one, other = both
    prepared_in_tokyo(one, other)
    one.send(bind("", "s"), execute(), SYNC)
    for zone in ("America/New_York", "Asia/Tokyo", "UTC"):
        other.ask(f"SET timezone = '{zone}'")
        other.send(close("s"), parse("s", MIDNIGHT), bind("", "s"), execute(), SYNC)
        one.send(bind("", "s"), execute(), SYNC)


def test_what_is_prepared_behind_a_set_in_one_pipeline(both: list[Both]) -> None:
    one, other = both
    one.send(
        *(parse("", "SET timezone = 'Asia/Tokyo'"), bind(), execute()),
        *(parse("s", MIDNIGHT), bind("", "s"), execute(), SYNC),
    )
    other.ask("SET timezone = 'UTC'")
    one.ask("SET timezone = 'America/New_York'")
    assert rows(one.send(bind("", "s"), execute(), SYNC)) == [["2019-12-31 10:00:00-05"]]


GOES_ON = {
    "a cursor": [
        query("DECLARE c CURSOR FOR SELECT set_config('timezone', 'Asia/Tokyo', false)"),
        query("FETCH c"),
    ],
    "what was bound": [
        parse("", "SET timezone = 'Asia/Tokyo'") + bind("early") + SYNC,
        execute("early"),
    ],
}


@pytest.mark.parametrize("messages", GOES_ON.values(), ids=GOES_ON.keys())
@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_what_goes_on_in_front_of_a_parse(
    both: list[Both], messages: list[bytes], end: str
) -> None:
    one, other = both
    one.ask("BEGIN")
    begun, goes_on = messages
    one.send(begun)
    one.send(goes_on, parse("s", MIDNIGHT), SYNC, times=1 + (goes_on[:1] == b"Q"))
    one.ask(end)
    one.ask("SET timezone = 'America/New_York'")
    other.ask("SET timezone = 'UTC'")
    assert rows(one.send(bind("", "s"), execute(), SYNC)) == [["2019-12-31 10:00:00-05"]]


ZONE = [parse("", "SET timezone = 'Asia/Tokyo'"), bind(), execute()]
LOCAL = [parse("", "SET LOCAL timezone = 'Asia/Tokyo'"), bind(), execute()]
FAILS = [parse("", "SELECT 1/0"), bind(), execute()]
PIPELINES = {
    "two SETs": [*ZONE, parse("s", MIDNIGHT), parse("", "SET timezone = 'UTC'"), bind(), execute()],
    "a failure": [*ZONE, parse("s", MIDNIGHT), *FAILS],
    "for its own transaction": [*LOCAL, parse("s", MIDNIGHT)],
    "used in between": [
        *(*ZONE, parse("s", MIDNIGHT), bind("", "s"), execute()),
        *(parse("", "SET timezone = 'UTC'"), bind(), execute(), bind("", "s"), execute()),
    ],
    "many rows behind it": [
        *(*ZONE, parse("s", MIDNIGHT)),
        *(parse("", "SELECT repeat('x', 1000) FROM generate_series(1, 500)"), bind(), execute()),
    ],
}


@pytest.mark.parametrize("messages", PIPELINES.values(), ids=PIPELINES.keys())
@pytest.mark.parametrize("end", ["", "COMMIT", "ROLLBACK"])
def test_what_a_pipeline_that_sets_has_prepared(
    both: list[Both], messages: list[bytes], end: str
) -> None:
    one, other = both
    if end:
        one.ask("BEGIN")
    one.send(*messages, SYNC)
    if end:
        one.ask(end)
    one.ask("SET timezone = 'America/New_York'")
    other.ask("SET timezone = 'UTC'")
    for _ in range(2):
        assert rows(one.send(bind("", "s"), execute(), SYNC)) == [["2019-12-31 10:00:00-05"]]
        other.ask("SELECT 1")


def test_what_a_function_sets_for_its_transaction(both: list[Both]) -> None:
    one, other = both
    one.straight.ask(
        "CREATE OR REPLACE FUNCTION readings_zone(t text) RETURNS void LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM set_config('timezone', t, true); END $$"
    )
    one.funnel.ask("ALTER FUNCTION readings_zone(text) COST 10")  # now it is known, too
    for client in both:
        client.ask("SET timezone = 'UTC'")
    zone = [parse("", "SELECT readings_zone('Asia/Tokyo')"), bind(), execute()]
    one.ask("BEGIN")
    one.send(*zone, parse("s", MIDNIGHT), bind("", "s"), execute(), SYNC)
    one.ask("COMMIT")
    other.send(parse("s", MIDNIGHT), bind("", "s"), execute(), SYNC)
    assert rows(one.send(bind("", "s"), execute(), SYNC)) == [["2019-12-31 15:00:00+00"]]
    one.ask(f"SELECT readings_zone('Asia/Tokyo'); PREPARE p AS {MIDNIGHT}")
    one.ask("EXECUTE p")
    one.ask("DEALLOCATE p")
    other.ask("SELECT 1")
    one.straight.ask("DROP FUNCTION readings_zone")


TO_TOKYO = "SET timezone = 'Asia/Tokyo'"
MADE = f"PREPARE p AS {MIDNIGHT}"
CONFIG = "SELECT set_config('timezone', 'Asia/Tokyo', %s)"
WRITES: dict[str, list[list[bytes]]] = {
    "a function in front": [[query(f"SELECT readings_sets(); {MADE}")]],
    "a trigger in front": [[query(f"INSERT INTO readings_log VALUES (1); {MADE}")]],
    "EXECUTE in front": [
        [query(f"PREPARE z AS {CONFIG % 'false'}")],
        [query(f"EXECUTE z; {MADE}")],
    ],
    "EXECUTE of the protocol's in front": [
        [parse("z", CONFIG % "true"), SYNC],
        [query(f"EXECUTE z; {MADE}")],
    ],
    "SET behind": [[query("BEGIN")], [query(MADE), query(TO_TOKYO)], [query("COMMIT")]],
    "SET behind, undone": [[query("BEGIN")], [query(MADE), query(TO_TOKYO)], [query("ROLLBACK")]],
    "a function behind": [
        [query("BEGIN")],
        [query(MADE), query("SELECT readings_sets()")],
        [query("COMMIT")],
    ],
    "a savepoint's end behind": [
        [query("BEGIN; SAVEPOINT a")],
        [query(TO_TOKYO)],
        [query(MADE), query("ROLLBACK TO a")],
        [query("COMMIT")],
    ],
    "a chain behind": [
        [query("BEGIN")],
        [query(TO_TOKYO.replace("SET", "SET LOCAL"))],
        [query(MADE), query("COMMIT AND CHAIN")],
        [query("COMMIT")],
    ],
    "in one cycle": [
        [query("BEGIN")],
        [parse("", MADE), bind(), execute(), parse("", TO_TOKYO), bind(), execute(), SYNC],
        [query("COMMIT")],
    ],
    "an own statement behind": [
        [parse("z", TO_TOKYO), SYNC],
        [query("BEGIN")],
        [parse("", MADE), bind(), execute(), bind("", "z"), execute(), SYNC],
        [query("COMMIT")],
    ],
    "a cursor behind": [
        [query("BEGIN"), query(f"DECLARE c CURSOR FOR {CONFIG % 'false'}")],
        [query(f"{MADE}; FETCH c")],
        [query("COMMIT")],
    ],
    "a cursor behind, in a message of its own": [
        [query("BEGIN"), query(f"DECLARE c CURSOR FOR {CONFIG % 'false'}")],
        [query(MADE), query("MOVE c")],
        [query("COMMIT")],
    ],
    "what was bound earlier behind": [
        [query("BEGIN")],
        [parse("z", TO_TOKYO), bind("early", "z"), SYNC],
        [parse("", MADE), bind(), execute(), execute("early"), SYNC],
        [query("COMMIT")],
    ],
    "what was bound earlier behind a query": [
        [query("BEGIN")],
        [parse("z", TO_TOKYO), bind("early", "z"), SYNC],
        [query(MADE), execute("early"), SYNC],
        [query("COMMIT")],
    ],
    "bound in front, executed behind": [
        [query("BEGIN")],
        [parse("z", MADE), bind("early", "z"), SYNC],
        [query(TO_TOKYO)],
        [execute("early"), SYNC],
        [query("COMMIT")],
    ],
    "strings that end elsewhere": [
        [parse("z", r"PREPARE p AS SELECT 'a\', ' b'"), SYNC],
        [query("SET standard_conforming_strings = off")],
        [bind("", "z"), execute(), SYNC],
        [query("RESET standard_conforming_strings")],
    ],
    "only reads behind": [
        [query("BEGIN")],
        [query(MADE), query("SELECT 1"), query("SET work_mem = '5MB'")],
        [query("COMMIT")],
    ],
}


@pytest.mark.parametrize("name", WRITES)
def test_what_stands_beside_a_prepare(
    pgfunnel: StartFunnel, postgres: Postgres, plans: None, name: str
) -> None:
    """Whatever it is read under, other servers read it so, or its client keeps its own."""
    with Wire(postgres.host, postgres.port, "alice", postgres.database, USERS["alice"]) as own:
        own.ask(
            "CREATE OR REPLACE FUNCTION readings_sets() RETURNS void LANGUAGE plpgsql AS"
            f" $$ BEGIN {TO_TOKYO}; END $$"
        )
        own.ask(
            "CREATE OR REPLACE FUNCTION readings_fires() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN {TO_TOKYO}; RETURN NEW; END $$"
        )
        own.ask("CREATE TABLE IF NOT EXISTS readings_log (n int)")
        own.ask(
            "CREATE OR REPLACE TRIGGER fires BEFORE INSERT ON readings_log"
            " FOR EACH ROW EXECUTE FUNCTION readings_fires()"
        )
    funnel = pgfunnel(default_pool_size=3)
    one, other = Both(funnel, postgres), Both(funnel, postgres)
    try:
        for write in WRITES[name]:
            one.send(*write, times=sum(message[:1] in b"QS" for message in write))
        one.ask("SET timezone = 'America/New_York'")
        one.ask("EXECUTE p")
        for end in ("COMMIT", "ROLLBACK"):
            other.ask("BEGIN")  # on the server that was used last, if that is free
            one.ask("EXECUTE p")
            other.ask(end)
        pinned = json.loads(funnel.get("/pins"))["pinned"]
        assert bool(pinned) == (name != "only reads behind")
    finally:
        one.close()
        other.close()


def test_what_sql_has_used_and_the_protocol_prepares_anew(both: list[Both]) -> None:
    one, other = both
    one.ask("PREPARE r AS SELECT 1")
    one.send(query("EXECUTE r"), query("DEALLOCATE r"), parse("r", MIDNIGHT), SYNC, times=3)
    for zone in ("Asia/Tokyo", "America/New_York"):
        one.ask(f"SET timezone = '{zone}'")
        one.send(bind("", "r"), execute(), SYNC)
        other.ask("SELECT 1")


KEPT = ["EXECUTE p; DO $$ BEGIN EXECUTE 'SELECT 1'; END $$", "EXECUTE p; EXECUTE missing"]


@pytest.mark.parametrize("code", KEPT)
@pytest.mark.parametrize("block", [False, True])
def test_what_was_set_to_the_default_stays_so(
    pgfunnel: StartFunnel, postgres: Postgres, code: str, block: bool
) -> None:
    """Though the client began otherwise, and its statement is read as it was for a moment."""
    funnel = pgfunnel(default_pool_size=1)
    with Wire(
        *(funnel.host, funnel.port, "alice", funnel.upstream.database, USERS["alice"]),
        {"options": "-c array_nulls=off"},
    ) as wire:
        wire.ask("SET array_nulls = on")
        wire.send(parse("p", "SELECT '{null}'::text[]::text"), SYNC)
        wire.until_ready()
        if block:
            wire.ask("BEGIN")
        wire.ask(code)
        if block:
            wire.ask("ROLLBACK")
        assert rows(wire.ask("SHOW array_nulls")) == [["on"]]
        wire.ask("RESET array_nulls")
        assert rows(wire.ask("SHOW array_nulls")) == [["off"]]


def test_simple_queries_in_one_packet(both: list[Both]) -> None:
    one, other = both
    change = query("SELECT 1/0; SET timezone = 'UTC'")
    one.ask("SET timezone = 'Asia/Tokyo'")
    one.send(change, parse("s", MIDNIGHT), SYNC, query("SET timezone = 'UTC'"), times=3)
    other.ask("SET timezone = 'America/New_York'")
    assert rows(one.send(bind("", "s"), execute(), SYNC)) == [["2019-12-31 15:00:00+00"]]


LEXED = {
    "backslashes": ("SET standard_conforming_strings = off", b"SELECT length('a\\\\b') AS l"),
    "another encoding": ("SET client_encoding = 'LATIN1'", b"SELECT length('h\xc3\xa4') AS l"),
}


@pytest.mark.parametrize("before, text", LEXED.values(), ids=LEXED.keys())
@pytest.mark.parametrize("anew", ["SET search_path = pg_catalog", "DISCARD PLANS", "SELECT 1"])
def test_characters_stay_what_they_were(
    both: list[Both], before: str, text: bytes, anew: str
) -> None:
    """Where Postgres reads a text anew it keeps what it has made of the characters."""
    one, other = both
    one.ask(before)
    one.send(message(b"P", b"s\0" + text + b"\0\0\0"), SYNC)
    one.send(message(b"Q", b"PREPARE p AS " + text + b"\0"))
    one.ask("SET standard_conforming_strings = on; SET client_encoding = 'UTF8'")
    for sql in (anew, "SET timezone = 'UTC'", "SET search_path = pg_catalog, public"):
        one.ask(sql)
        other.ask("SELECT readings_plans()")
        one.send(bind("", "s"), execute(), SYNC)
        other.ask("SELECT readings_plans()")
        one.ask("EXECUTE p")


@pytest.mark.parametrize("keeps", [False, True])
@pytest.mark.parametrize("end", ["", " ON COMMIT DROP"])
def test_a_first_temporary_table_has_texts_read_anew(
    own_postgres: Postgres, pgfunnel: StartFunnel, end: str, keeps: bool
) -> None:
    """Whether functions keep plans there, or nothing does."""
    if keeps:
        own_postgres.psql(
            "CREATE FUNCTION kept() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'"
        )
    funnel = pgfunnel(own_postgres, default_pool_size=1)
    one, other = Both(funnel, own_postgres), Both(funnel, own_postgres)
    with contextlib.closing(one), contextlib.closing(other):
        one.send(parse("s", "SELECT date '01/02/2020' - date '2020-01-01'"), SYNC)
        for sql in (
            "SET datestyle = 'German'",
            f"CREATE TEMP TABLE first (a int){end}",
            "SELECT 1",
        ):
            one.ask(sql)
            if end:  # else `one` has the only server
                other.ask("SELECT 1")
            one.send(bind("", "s"), execute(), SYNC)
        for style in ("ISO, MDY", "German"):
            one.ask(
                f"SET datestyle = '{style}'; CREATE TEMP TABLE IF NOT EXISTS second (a int){end}"
            )
            one.send(bind("", "s"), execute(), SYNC)


SUSPECTS = ["SELECT makes(false)", "PREPARE z AS SELECT makes(true)", "ANALYZE analysed"]


@pytest.mark.parametrize("suspect", SUSPECTS)
def test_what_may_make_a_first_temporary_table_and_does_not(
    own_postgres: Postgres, pgfunnel: StartFunnel, suspect: str
) -> None:
    own_postgres.psql(
        "CREATE FUNCTION makes(really bool) RETURNS int LANGUAGE plpgsql AS 'BEGIN IF really THEN"
        " CREATE TEMP TABLE first (a int); END IF; RETURN 1; END';"
        "CREATE TABLE analysed (a int); ALTER TABLE analysed OWNER TO alice"
    )
    funnel = pgfunnel(own_postgres, default_pool_size=1)
    one = Both(funnel, own_postgres)
    use = bind("", "s"), execute(), SYNC
    with contextlib.closing(one):
        one.send(parse("s", MIDNIGHT), SYNC)
        one.ask("SET timezone = 'Asia/Tokyo'")
        one.ask(suspect)
        one.send(*use)
        one.ask("SELECT makes(true)")
        one.send(*use)


def test_the_unnamed_statement(both: list[Both]) -> None:
    one, other = both
    one.ask("SET timezone = 'Asia/Tokyo'")
    one.send(parse("", MIDNIGHT), SYNC)
    one.send(parse("set", "SET timezone = 'America/New_York'"), bind("", "set"), execute(), SYNC)
    other.ask("SET timezone = 'UTC'")
    assert rows(one.send(bind(), execute(), SYNC)) == [["2019-12-31 10:00:00-05"]]


def test_what_a_client_discards_is_read_as_now(both: list[Both]) -> None:
    one, other = both
    prepared_in_tokyo(one, other)
    one.ask(f"PREPARE p AS {MIDNIGHT}")
    one.ask("SET timezone = 'UTC'")
    one.ask("DISCARD PLANS")
    for zone in ("UTC", "Asia/Tokyo", "UTC"):
        one.send(bind("", "s"), execute(), SYNC)
        one.ask("EXECUTE p")
        other.ask("SELECT 1")
        one.ask(f"SET timezone = '{zone}'")


def test_what_is_only_prepared_sets_nothing_and_pins_nobody(both: list[Both]) -> None:
    one, other = both
    one.ask("PREPARE sets (text) AS SELECT set_config('timezone', $1, false)")
    other.ask("SHOW timezone")
    one.ask("EXECUTE sets('Asia/Tokyo')")
    other.ask("SHOW timezone")
    one.ask(f"PREPARE p AS {MIDNIGHT}")
    one.ask("EXECUTE sets('UTC')")
    other.ask("SHOW timezone")
    assert rows(one.ask("EXECUTE p")) == [["2019-12-31 15:00:00+00"]]


def test_what_it_needs_is_gone(both: list[Both]) -> None:
    """The error is Postgres's own, and nothing of ours is left."""
    one, other = both
    other.ask("CREATE TABLE IF NOT EXISTS readings_gone (at timestamptz)")
    prepared_in_tokyo(one, other, "SELECT * FROM readings_gone WHERE at > '2020-01-01'")
    other.funnel.ask("DROP TABLE readings_gone")
    for block in (False, True):
        if block:
            one.ask("BEGIN")
        assert sqlstates(one.send(bind("", "s"), execute(), SYNC)) == ["42P01"]
        one.ask("ROLLBACK")
        assert rows(one.ask("SHOW timezone")) == [["America/New_York"]]
        other.ask("SELECT 1")


def test_what_cannot_be_in_a_transaction_with_other_commands(both: list[Both]) -> None:
    one, other = both
    prepared_in_tokyo(one, other, "VACUUM readings")
    for _ in range(2):
        one.send(bind("", "s"), execute(), SYNC)
        other.ask("SELECT 1")


def test_the_isolation_of_a_transaction_is_set_first(both: list[Both]) -> None:
    one, other = both
    prepared_in_tokyo(one, other, "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE -- '1'")
    one.ask("BEGIN")
    one.send(bind("", "s"), execute(), SYNC)
    one.ask("SHOW transaction_isolation")
    one.ask("COMMIT")


def test_a_text_in_another_encoding(both: list[Both]) -> None:
    one, other = both
    one.ask("SET client_encoding = 'LATIN1'")
    name = "SELECT convert_to('\u00e9 1', 'UTF8')".encode("latin-1")
    message = b"s\0" + name + b"\0\0\0"
    one.send(b"P" + (len(message) + 4).to_bytes(4, "big") + message, SYNC)
    one.ask("SET client_encoding = 'UTF8'")
    one.ask("SET timezone = 'Asia/Tokyo'")
    other.ask("SET timezone = 'UTC'")
    one.send(bind("", "s"), execute(), SYNC)


def test_where_parameters_cannot_be_set_it_is_read_as_now(
    pgfunnel: StartFunnel, own_postgres: Postgres
) -> None:
    """set_config is not everybody's: a client's own SET works, and its statements do."""
    own_postgres.psql(
        "REVOKE EXECUTE ON FUNCTION pg_catalog.set_config(text, text, boolean) FROM PUBLIC"
    )
    funnel = pgfunnel(own_postgres, default_pool_size=1)
    with Wire(funnel.host, funnel.port, "alice", funnel.upstream.database, USERS["alice"]) as own:
        own.send(parse("s", MIDNIGHT), SYNC)
        own.until("Z")
        own.ask("SET timezone = 'Asia/Tokyo'")
        own.ask("DISCARD PLANS")
        own.send(bind("", "s"), execute(), SYNC)
        assert rows(own.until("Z")) == [[OF_TOKYO]]


def test_servers_that_are_ended_change_no_reading(
    pgfunnel: StartFunnel, own_postgres: Postgres
) -> None:
    """Also where they are while a client's parameters are being set."""
    own_postgres.psql("CREATE FUNCTION plans() RETURNS int LANGUAGE plpgsql AS 'BEGIN END'")
    funnel = pgfunnel(own_postgres, default_pool_size=1)
    stopped = threading.Event()

    def disturb(zone: str) -> None:
        while not stopped.is_set():
            with contextlib.suppress(Gone, OSError), own_wire(funnel) as wire:
                wire.ask(f"SET timezone = '{zone}'")
                while not stopped.is_set():
                    wire.ask("SELECT 1")

    with ThreadPoolExecutor() as threads:
        disturbers = [threads.submit(disturb, zone) for zone in ("UTC", "Asia/Kabul")]
        for _ in range(40):
            own_postgres.psql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'alice'"
            )
        stopped.set()
        for each in disturbers:
            each.result()
    with own_wire(funnel) as one, own_wire(funnel) as other:
        one.ask("SET timezone = 'Asia/Tokyo'")
        one.send(parse("s", MIDNIGHT), SYNC)
        one.until("Z")
        one.ask("SET timezone = 'UTC'")
        other.ask("SET timezone = 'Asia/Kabul'")
        one.send(bind("", "s"), execute(), SYNC)
        assert rows(one.until("Z")) == [["2019-12-31 15:00:00+00"]]


LOCALLY = {
    "SET LOCAL in a pipeline": [
        *(parse("", "SET LOCAL timezone = 'America/Lima'"), bind(), execute()),
    ],
    "set_config in a pipeline": [
        *(parse("", "SELECT set_config('timezone', 'America/Lima', true)"), bind(), execute()),
    ],
    "out of sight in a pipeline": [
        *(parse("", "DO 'BEGIN EXECUTE $$SET LOCAL timezone = UTC$$; END'"), bind(), execute()),
    ],
    "one that is not reported": [query("SET LOCAL transform_null_equals = on")],
    "one that is not reported, out of sight": [
        query("DO $$ BEGIN PERFORM set_config('transform_null_equals', 'on', true); END $$")
    ],
}
TIMES = "CREATE TABLE times AS SELECT timestamptz '2024-01-01 03:00+00' AS v"
LATE = "SELECT count(*) FROM times WHERE v >= timestamptz '2024-01-01 00:00' AND (NULL = v) IS NULL"


@pytest.fixture
def timed(own_postgres: Postgres) -> Postgres:
    own_postgres.psql(TIMES)
    own_postgres.psql("GRANT SELECT ON times TO PUBLIC")
    return own_postgres


@pytest.mark.parametrize("locally", LOCALLY.values(), ids=LOCALLY.keys())
def test_what_postgres_reads_anew_amid_others_settings_is_theirs_alone(
    pgfunnel: StartFunnel, timed: Postgres, locally: list[bytes]
) -> None:
    """Postgres plans anew behind (auto)vacuum and DDL, for whoever uses the statement next."""
    funnel = pgfunnel(timed, default_pool_size=1)
    use = bind("", "s"), execute(), SYNC
    with own_wire(funnel) as one, own_wire(funnel) as other, own_wire(funnel) as third:
        for wire in (one, other, third):
            wire.ask("SET timezone = 'Asia/Tokyo'")
        for wire in (one, other):
            wire.send(parse("s", LATE), *use)
            assert rows(wire.until("Z")) == [["1"]]
        timed.psql("VACUUM ANALYZE times")
        timed.psql("CREATE INDEX ON times (v)")
        other.ask("BEGIN")
        other.send(*locally, *use)
        other.until("Z", 2 if locally[0][:1] == b"Q" else 1)
        other.ask("COMMIT")
        third.send(parse("s", LATE), SYNC)
        third.until("Z")
        for wire in (one, third, one):
            wire.send(*use)
            assert rows(wire.until("Z")) == [["1"]]


def test_what_is_read_under_former_settings_is_so_behind_a_vacuum(
    pgfunnel: StartFunnel, timed: Postgres
) -> None:
    """Postgres reads it anew for who has prepared it before that, not for who does it then."""
    funnel = pgfunnel(timed, default_pool_size=1)
    for _ in range(3):
        with own_wire(funnel) as one:
            one.ask("SET timezone = 'Asia/Tokyo'")
            one.send(parse("s", LATE), bind("", "s"), execute(), SYNC)
            assert rows(one.until("Z")) == [["1"]]
            one.ask("SET timezone = 'America/Lima'")
            one.send(bind("", "s"), execute(), SYNC)
            assert rows(one.until("Z")) == [["1"]]
        timed.psql("VACUUM ANALYZE times")


def own_wire(funnel: Funnel) -> Wire:
    return Wire(funnel.host, funnel.port, "alice", funnel.upstream.database, USERS["alice"])


@pytest.mark.parametrize("text", ["SELECT 'now' >= $1::timestamptz", "SELECT $1 <= ' Now'"])
def test_now_as_a_constant_is_the_time_of_ones_own_parse(both: list[Both], text: str) -> None:
    prepared = parse("s", text, [TIMESTAMPTZ])
    for one in both:
        ((now,),) = rows(one.funnel.ask("SELECT clock_timestamp()"))
        one.send(prepared, SYNC)
        for _ in range(2):
            one.send(bind("", "s", [now]), execute(), SYNC)
    late = both[1]
    late.send(close("s"), SYNC)
    ((now,),) = rows(late.funnel.ask("SELECT clock_timestamp()"))
    late.send(prepared, bind("", "s", [now]), execute(), SYNC)


TEXTS = [
    MIDNIGHT,
    "SELECT date '01/02/2020'::text",
    "SELECT (interval '-1 2:03:04')::text",
    "SELECT 'a' || $1::text",
    "/* c */ SELECT 'x' WHERE timestamptz '2020-01-01' < '2020-01-01 03:00+00'",
    "INSERT INTO readings VALUES (timestamptz '2020-01-01') RETURNING extract(epoch FROM at)",
    "SELECT 1 AS plain",
]
SETS = [
    *(f"timezone = '{zone}'" for zone in ("UTC", "Asia/Tokyo", "America/New_York")),
    "timezone = DEFAULT",
    *("datestyle = 'ISO, MDY'", "datestyle = 'ISO, DMY'"),
    *("intervalstyle = 'postgres'", "intervalstyle = 'sql_standard'"),
    *("lc_monetary = 'C'", "application_name = 'x'", "work_mem = '1MB'"),
]


class Random:
    """What clients say at random; `texts`: what their names stand for."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def uses(self, texts: dict[str, str], name: str = "") -> list[bytes]:
        name = name or self.random.choice("abcd")
        values = ["v"] if "$1" in texts.get(name, "") else []
        return [bind("", name, values), execute()]

    def sets(self) -> list[bytes]:
        return [parse("", "SET " + self.random.choice(SETS)), bind(), execute()]

    def prepares(self, texts: dict[str, str], name: str) -> list[bytes]:
        texts[name] = self.random.choice(TEXTS)
        return [close(name), parse(name, texts[name])]

    def says(self, texts: dict[str, str]) -> list[bytes]:
        name = self.random.choice("abcd")
        what = self.random.random()
        if what < 0.2:
            local = "LOCAL " * (self.random.random() < 0.3)
            return [query(f"SET {local}{self.random.choice(SETS)}")]
        if what < 0.3:
            words = ["BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT a", "ROLLBACK TO a", "SHOW timezone"]
            return [query(self.random.choice(words))]
        if what < 0.5:
            return [*self.prepares(texts, name), SYNC]
        if what < 0.75:
            return [*self.uses(texts, name), *self.uses(texts), SYNC]
        if what < 0.85:
            return [*self.sets(), *self.uses(texts, name), SYNC]
        if what < 0.93:
            return [*self.sets(), *self.prepares(texts, name), *self.uses(texts, name), SYNC]
        if what < 0.96:
            fails = [parse("", "SELECT 1/0"), bind(), execute()]
            return [*self.uses(texts, name), *fails, *self.uses(texts, name), SYNC]
        if what < 0.98:
            return [describe(name), SYNC]
        if what < 0.99:
            return [query("DISCARD PLANS")]
        texts.clear()
        return [query(self.random.choice(["DEALLOCATE ALL", "DISCARD ALL"]))]


@pytest.mark.parametrize("seed", range(4))
def test_four_clients_on_three_servers(
    pgfunnel: StartFunnel, postgres: Postgres, plans: None, seed: int
) -> None:
    said = Random(seed)
    funnel = pgfunnel(default_pool_size=3)
    clients = [Both(funnel, postgres) for _ in range(4)]
    texts: list[dict[str, str]] = [{} for _ in clients]
    for _ in range(400):
        who = said.random.randrange(4)
        client = clients[who]
        if not client.open and sum(each.open for each in clients) > 1:
            continue  # servers are short
        if client.open and said.random.random() < 0.1:
            client.ask("ROLLBACK")
        if sqlstates(client.send(*said.says(texts[who]))):
            client.ask("ROLLBACK")
            client.ask("DEALLOCATE ALL")
            texts[who].clear()
    for client in clients:
        client.close()
