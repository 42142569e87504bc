"""What goes wrong on the wire, and what comes at its edges: the same as straight from Postgres."""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator

import pytest

from tests.funnel import Funnel, start_funnel
from tests.postgres import Postgres
from tests.wireclient import (
    COPY_DONE,
    GSS_REQUEST,
    SSL_REQUEST,
    SYNC,
    TERMINATE,
    Answer,
    Gone,
    Wire,
    bind,
    cancel_request,
    copy_data,
    execute,
    kinds,
    message,
    parse,
    query,
    rows,
    sqlstates,
    startup,
)
from tests.wiretalk import Place, clean_tables, straight_to, through

PROTOCOL_3_2 = 196610
_COUNT = "SELECT count(*) FROM wire_0"


@pytest.fixture(scope="module")
def funnel(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Funnel]:
    """A pool of one server: whoever comes next gets what the last one left."""
    folder = tmp_path_factory.mktemp("odd")
    one = start_funnel(postgres, folder, auth_type="trust", default_pool_size=1)
    yield one
    one.stop()
    one.check()


@pytest.fixture(scope="module")
def pair(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Funnel]:
    """A pool of two servers."""
    folder = tmp_path_factory.mktemp("pair")
    two = start_funnel(postgres, folder, auth_type="trust", default_pool_size=2)
    yield two
    two.stop()
    two.check()


def _both(postgres: Postgres, funnel: Funnel) -> tuple[Place, Place]:
    return straight_to(postgres), through(funnel)


def _assert_clean(place: Place) -> None:
    """The next client in the pool is served as if nobody had been there before."""
    with place.connect() as wire:
        answers = wire.ask("SELECT 'clean'; SHOW TimeZone")
        assert kinds(answers) == "TDCTDCZ"
        assert answers[-1].body == b"I"
        wire.send(bind(), SYNC)
        assert sqlstates(wire.until_ready()) == ["26000"]
        wire.send(parse("s", "SELECT 1"), bind("", "s"), execute(), SYNC)
        assert kinds(wire.until_ready()) == "12DCZ"


# -- start-up --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "protocol, options",
    [
        (PROTOCOL_3_2, {}),
        (PROTOCOL_3_2, {"_pq_.one": "1", "_pq_.two": "2"}),
        (196608, {"_pq_.one": "1"}),
        (196608 + 9999, {}),
    ],
)
def test_protocol_is_negotiated(
    postgres: Postgres, funnel: Funnel, protocol: int, options: dict[str, str]
) -> None:
    told = []
    for place in _both(postgres, funnel):
        with Wire(place.host, place.port) as wire:
            answers = wire.log_in(place.user, place.database, place.password, options, protocol)
            told.append([answer for answer in answers if answer.kind == "v"])
            assert rows(wire.ask("SELECT 1")) == [["1"]]
    assert told[1] == told[0] != []


@pytest.mark.parametrize("request_packet", [SSL_REQUEST, GSS_REQUEST])
def test_encryption_is_declined(funnel: Funnel, request_packet: bytes) -> None:
    place = through(funnel)
    with Wire(place.host, place.port) as wire:
        wire.send(request_packet)
        assert wire.receive_raw(1) == b"N"
        wire.log_in(place.user, place.database)
        assert rows(wire.ask("SELECT 1")) == [["1"]]


def test_ssl_then_gss_declined(funnel: Funnel) -> None:
    place = through(funnel)
    with Wire(place.host, place.port) as wire:
        wire.send_bytewise(GSS_REQUEST)
        assert wire.receive_raw(1) == b"N"
        wire.send_bytewise(SSL_REQUEST)
        assert wire.receive_raw(1) == b"N"
        wire.send_bytewise(startup([("user", place.user), ("database", place.database)]))
        assert kinds(wire.until_ready())[0] == "R"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"application_name": "w\u00e4hl"},
        {"TimeZone": "Asia/Tokyo", "DateStyle": "German", "application_name": "me"},
        {"options": "-c TimeZone=Asia/Tokyo -cintervalstyle=iso_8601 --DateStyle=SQL"},
        {"DateStyle": "DMY"},
        {"client_encoding": "LATIN1"},
        {"client_encoding": "UTF8", "extra_float_digits": "3"},
        {"options": "-c standard_conforming_strings=off"},
    ],
)
def test_greeting_tells_the_same_parameters(
    postgres: Postgres, funnel: Funnel, options: dict[str, str]
) -> None:
    """Also when the server has just served a client with others."""
    told = []
    for place in _both(postgres, funnel):
        with place.connect() as before:
            before.ask("SET DateStyle TO 'German'")
        with Wire(place.host, place.port) as wire:
            answers = wire.log_in(place.user, place.database, place.password, options)
            asked = [wire.ask(f"SHOW {n}") for n in ("TimeZone", "DateStyle", "IntervalStyle")]
            named = wire.ask("SHOW application_name")
            told.append((wire.parameters, asked, named, answers[-1]))
    assert told[1] == told[0]


@pytest.mark.parametrize(
    "options",
    [
        {"TimeZone": "Nowhere/Land"},
        {"no_such_parameter": "1"},
        {"client_encoding": "no-such-encoding"},
        {"options": "-c work_mem=nonsense"},
    ],
)
def test_bad_startup_parameters_are_refused_alike(
    postgres: Postgres, funnel: Funnel, options: dict[str, str]
) -> None:
    told = []
    for place in _both(postgres, funnel):
        with Wire(place.host, place.port) as wire:
            with pytest.raises(Gone) as gone:
                wire.log_in(place.user, place.database, place.password, options)
            fields = gone.value.answers[-1].fields
            told.append((fields["S"], fields["C"], fields["M"]))
    assert told[1] == told[0]
    _assert_clean(through(funnel))


# -- broken messages -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "broken",
    [
        message(b"z"),
        message(b"y", b"body"),
        b"Q\x00\x00\x00\x03",
        b"Q\xff\xff\xff\xff",
        b"S\x00\x00\x00\x00",
        b"P\x7f\xff\xff\xff",
        b"\x00\x00\x00\x00\x04",
        message(b"p", b"secret\0"),
    ],
)
@pytest.mark.parametrize("begun", [False, True])
def test_broken_messages_end_the_connection(
    postgres: Postgres, funnel: Funnel, broken: bytes, begun: bool
) -> None:
    told = []
    for place in _both(postgres, funnel):
        with place.connect() as wire, place.connect() as other:
            other.ask("SET DateStyle TO 'German'")
            if begun:
                wire.ask("BEGIN")
            wire.send(broken)
            told.append([(a.kind, a.sqlstate, a.fields["S"]) for a in wire.until_gone()])
            assert rows(other.ask("SHOW DateStyle"))[0][0] == "German, DMY"
    assert told[0] in ([], told[1])  # Postgres may close without a word
    assert told[1] == [("E", "08P01", "FATAL")]
    _assert_clean(through(funnel))


@pytest.mark.parametrize(
    "broken",
    [
        message(b"Q", b"SELECT 1"),
        message(b"Q", b"SELECT 1\0SELECT 2\0"),
        message(b"S", b"more"),
        message(b"D", b"X\0"),
        message(b"D", b"S"),
        message(b"C", b"S"),
        message(b"P", b"s"),
        message(b"P", b"s\0SELECT 1"),
        message(b"P", b"s\0SELECT 1\0\0\x05"),
        message(b"B", b"p"),
        message(b"B", b"\0\0\0\0\0\x05"),
        message(b"B", b"\0\0\0\0\0\0\0\0more"),
        message(b"E", b""),
        message(b"H", b"more"),
    ],
)
def test_malformed_messages_are_refused_alike(
    postgres: Postgres, funnel: Funnel, broken: bytes
) -> None:
    """Postgres refuses them with an error and goes on after the next Sync."""
    told = []
    for place in _both(postgres, funnel):
        with place.connect() as wire:
            wire.send(parse("", "SELECT 1"), broken, SYNC, query("SELECT 'after'"))
            told.append([_plain(a) for a in wire.until_quiet(0.3)])
    assert told[1] == told[0]
    _assert_clean(through(funnel))


def _plain(answer: Answer) -> tuple[str, object]:
    return (answer.kind, (answer.sqlstate, answer.fields["M"]) if answer.kind == "E" else answer)


def test_query_in_the_middle_of_copy_in(postgres: Postgres, funnel: Funnel) -> None:
    clean_tables(postgres)
    told = []
    for place in _both(postgres, funnel):
        with place.connect() as wire:
            wire.send(query("COPY wire_0 FROM STDIN"))
            assert wire.receive().kind == "G"
            wire.send(query("SELECT 1"))
            told.append([(a.sqlstate, a.fields["M"]) for a in wire.until_gone()])
    assert told[1] == told[0]
    _assert_clean(through(funnel))


# -- leaving ---------------------------------------------------------------------------------

_INSERT = "INSERT INTO wire_0 VALUES (99, 'left')"
_LEAVING = {
    "query": [query(_INSERT)],
    "pipeline with Sync": [parse("", _INSERT), bind(), execute(), SYNC],
    "pipeline without Sync": [parse("", _INSERT), bind(), execute()],
    "two pipelines": [parse("", _INSERT), bind(), execute(), SYNC, bind(), execute(), SYNC],
    "one and a half pipelines": [parse("", _INSERT), bind(), execute(), SYNC, bind(), execute()],
    "a slow query, then another": [query("SELECT pg_sleep(0.3)"), query(_INSERT)],
    "a slow pipeline": [
        parse("", "SELECT pg_sleep(0.3)"),
        bind(),
        execute(),
        parse("", _INSERT),
        bind(),
        execute(),
        SYNC,
    ],
    "open transaction": [query("BEGIN"), query(_INSERT)],
    "failed transaction": [query("BEGIN"), query(_INSERT), query("SELECT nosuch")],
    "error in the pipeline": [parse("", _INSERT), bind(), execute(), bind("", "nosuch")],
    "COPY done": [query("COPY wire_0 FROM STDIN"), copy_data(b"1\ta\n"), COPY_DONE],
    "COPY in the middle": [query("COPY wire_0 FROM STDIN"), copy_data(b"1\ta\n")],
    "COPY in a pipeline": [
        parse("", "COPY wire_0 FROM STDIN"),
        bind(),
        execute(),
        copy_data(b"1\ta\n"),
        COPY_DONE,
        SYNC,
    ],
    "COPY OUT": [query("COPY (SELECT generate_series(1, 200000)) TO STDOUT"), query(_INSERT)],
    "many rows": [query("SELECT generate_series(1, 300000)"), query(_INSERT)],
}

_MUCH = {"COPY OUT", "many rows"}


@pytest.mark.parametrize("name", _LEAVING)
@pytest.mark.parametrize("reading", [False, True])
def test_terminate_in_mid_pipeline(
    postgres: Postgres, funnel: Funnel, name: str, reading: bool
) -> None:
    """What was sent in front of Terminate takes effect exactly as with Postgres.

    Where much is answered, Postgres itself stops when nobody reads: then it is read.
    """
    counts = []
    for place in _both(postgres, funnel):
        clean_tables(postgres)
        with place.connect() as wire:
            wire.send(*_LEAVING[name], TERMINATE)
            if reading or name in _MUCH:
                wire.until_gone()
        counts.append(_settled_count(postgres, place))
    assert counts[1] == counts[0]
    _assert_clean(through(funnel))


def _settled_count(postgres: Postgres, place: Place) -> object:
    """Rows in the table once whoever left has no transaction any more."""
    stop = threading.Event()
    busy = "SELECT 1 FROM pg_stat_activity WHERE state <> 'idle' AND pid <> pg_backend_pid()"
    while postgres.psql(f"{busy} AND backend_type = 'client backend'"):
        stop.wait(0.01)
    with place.connect() as wire:
        return rows(wire.ask(_COUNT))


_MESSAGES = {
    "Query": query("SELECT 'x' || repeat('y', 100)"),
    "Parse": parse("s", "SELECT 1"),
    "Bind": bind("", "", ["1"]),
    "Execute": execute(),
    "Sync": SYNC,
    "CopyData": copy_data(b"1\ta\n" * 1000),
    "big Query": query("SELECT '" + "x" * 200_000 + "'"),
    "big Bind": bind("", "", ["x" * 200_000]),
    "big CopyData": copy_data(b"1\ta\n" * 50_000),
    "big Parse": parse("s", "SELECT '" + "x" * 200_000 + "'"),
}
_BEFORE = {
    "nothing": [],
    "a transaction": [query("BEGIN"), query(_INSERT)],
    "a pipeline": [parse("", "SELECT $1::text"), bind("", "", ["a"]), execute()],
    "a failed pipeline": [bind("", "nosuch")],
    "COPY": [query("COPY wire_0 FROM STDIN")],
    "a long query": [query("SELECT pg_sleep(30)")],
}


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
@pytest.mark.parametrize("before", _BEFORE)
@pytest.mark.parametrize("name", _MESSAGES)
def test_disconnect_in_the_middle_of_a_message(
    postgres: Postgres, funnel: Funnel, name: str, before: str, reset: bool
) -> None:
    clean_tables(postgres)
    place = through(funnel)
    wire = place.connect()
    part = _MESSAGES[name][: max(3, len(_MESSAGES[name]) - 2)]
    wire.send(*_BEFORE[before], part)
    if reset:
        wire.abort()
    else:
        wire.close()
    _assert_clean(place)
    with place.connect() as other:
        assert rows(other.ask(_COUNT)) == [["5"]]


# -- cancel ----------------------------------------------------------------------------------


def _cancel(place: Place, process_id: int, secret: bytes) -> None:
    with Wire(place.host, place.port) as wire:
        wire.send(cancel_request(process_id, secret))
        assert wire.until_gone() == []


def test_cancel(postgres: Postgres, funnel: Funnel) -> None:
    told = []
    for place in _both(postgres, funnel):
        with place.connect() as wire:
            wire.send(query("SELECT pg_sleep(30)"))
            _await_sleeping(postgres)
            _cancel(place, wire.process_id, wire.secret)
            told.append(wire.until_ready())
            assert rows(wire.ask("SELECT 1")) == [["1"]]
    assert told[1] == told[0]
    assert sqlstates(told[0]) == ["57014"]


def test_cancel_in_a_pipeline(postgres: Postgres, funnel: Funnel) -> None:
    told = []
    for place in _both(postgres, funnel):
        with place.connect() as wire:
            sleep = (parse("", "SELECT pg_sleep(30)"), bind(), execute())
            wire.send(*sleep, parse("s", "SELECT 1"), SYNC, bind("", "s"), SYNC)
            _await_sleeping(postgres)
            _cancel(place, wire.process_id, wire.secret)
            told.append([_plain(answer) for answer in wire.until_ready(2)])
    assert told[1] == told[0]


def test_cancel_with_a_wrong_key_or_nothing_to_cancel(postgres: Postgres, funnel: Funnel) -> None:
    place = through(funnel)
    with place.connect() as idle, place.connect() as busy:
        busy.send(query("SELECT pg_sleep(0.5)"))
        _await_sleeping(postgres)
        _cancel(place, busy.process_id, bytes(byte ^ 255 for byte in busy.secret))
        _cancel(place, busy.process_id ^ 1, busy.secret)
        _cancel(place, idle.process_id, idle.secret)
        assert kinds(busy.until_ready()) == "TDCZ"
        assert rows(idle.ask("SELECT 1")) == [["1"]]


def _await_sleeping(postgres: Postgres) -> None:
    seen = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    stop = threading.Event()
    for _ in range(500):
        if postgres.psql(seen):
            return
        stop.wait(0.01)
    raise AssertionError("nothing sleeps")


# -- sessions across servers -----------------------------------------------------------------


def _elsewhere(wire: Wire, blocker: Wire, sql: str) -> list[Answer]:
    """Ask while `blocker` holds the server that `wire` had last."""
    own = rows(wire.ask("SELECT pg_backend_pid()"))
    for _ in range(10):
        blocker.ask("BEGIN")
        if rows(blocker.ask("SELECT pg_backend_pid()")) == own:
            answers = wire.ask(sql)
            assert rows(wire.ask("SELECT pg_backend_pid()")) != own
            blocker.ask("ROLLBACK")
            return answers
        wire.ask("SELECT 1")
        blocker.ask("ROLLBACK")
        own = rows(wire.ask("SELECT pg_backend_pid()"))
    raise AssertionError("the servers never changed")


@pytest.mark.parametrize(
    "change, name, expected",
    [
        ("SET TimeZone TO 'Asia/Tokyo'", "TimeZone", "Asia/Tokyo"),
        ("BEGIN; SET TimeZone TO 'Asia/Seoul'; COMMIT", "TimeZone", "Asia/Seoul"),
        ("BEGIN; SET TimeZone TO 'Asia/Seoul'; ROLLBACK", "TimeZone", ""),
        ("SET DateStyle TO 'German'", "DateStyle", "German, DMY"),
        ("SET application_name TO 'it''s me'", "application_name", "it's me"),
        ("SET IntervalStyle TO 'iso_8601'", "IntervalStyle", "iso_8601"),
        ("SET standard_conforming_strings TO off", "standard_conforming_strings", "off"),
        ("SET client_encoding TO 'LATIN1'", "client_encoding", "LATIN1"),
        ("SET application_name TO E'back\\\\slash'", "application_name", "back\\slash"),
    ],
)
def test_parameters_follow_their_client(
    pair: Funnel, change: str, name: str, expected: str
) -> None:
    place = through(pair)
    with place.connect() as wire, place.connect() as other:
        before = rows(other.ask(f"SHOW {name}"))
        wire.ask(change)
        want = [[expected]] if expected else before
        for _ in range(3):
            assert rows(_elsewhere(wire, other, f"SHOW {name}")) == want
            assert rows(other.ask(f"SHOW {name}")) == before


def test_statements_follow_their_client(pair: Funnel) -> None:
    place = through(pair)
    with place.connect() as wire, place.connect() as other:
        wire.send(parse("s", "SELECT $1 || 'named'"), SYNC)
        assert kinds(wire.until_ready()) == "1Z"
        other.send(parse("s", "SELECT $1 || 'other'"), SYNC)
        assert kinds(other.until_ready()) == "1Z"
        for _ in range(3):
            _elsewhere(wire, other, "SELECT 1")
            for client, value in ((wire, "xnamed"), (other, "xother")):
                client.send(bind("", "s", ["x"]), execute(), SYNC)
                assert rows(client.until_ready()) == [[value]]


def test_length_of_a_startup_packet(postgres: Postgres, funnel: Funnel) -> None:
    told = []
    for place in _both(postgres, funnel):
        with Wire(place.host, place.port) as wire:
            wire.send(struct.pack("!II", 100_000, 196608))
            told.append([answer.kind for answer in wire.until_gone()])
    assert told[1] in (told[0], ["E"])
