"""Replication connections: Postgres's own tools and a driver, each with a server of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import psycopg2
import psycopg2.extras
import pytest

from proxy.wire import messages
from tests.conftest import StartFunnel, StartPostgres
from tests.funnel import Funnel
from tests.integration.console import Operator
from tests.integration.observe import resident, until, waiters
from tests.integration.peer import Peer, send_cancel
from tests.postgres import USERS, Postgres, installed_bindir

WAITING = 'pgfunnel_pool_waiters{database="replication",user="alice"}'


@pytest.fixture
def source(start_postgres: StartPostgres) -> Postgres:
    """A Postgres to replicate from, as alice."""
    postgres = start_postgres(settings={"wal_level": "logical"})
    postgres.psql("ALTER ROLE alice REPLICATION")
    return postgres


def tool(name: str) -> str:
    try:
        place = installed_bindir() / name
    except Exception:  # noqa: BLE001 - whatever keeps it away
        place = Path(shutil.which(name) or name)
    if not place.exists():
        pytest.skip(f"{name} is not installed")
    return str(place)


def environment(funnel: Funnel) -> dict[str, str]:
    libpq = {"PGHOST": funnel.host, "PGPORT": str(funnel.port), "PGUSER": "alice"}
    return os.environ | libpq | {"PGPASSWORD": USERS["alice"], "PGAPPNAME": "receiver"}


def senders(postgres: Postgres) -> list[str]:
    found = postgres.psql("SELECT application_name FROM pg_stat_replication")
    return [name for (name,) in found]


def log_in(funnel: Funnel) -> Peer:
    peer = Peer(funnel.host, funnel.port)
    return peer.log_in("alice", funnel.upstream.database, USERS["alice"])


def replicate(funnel: Funnel, replication: str = "database") -> Peer:
    peer = Peer(funnel.host, funnel.port)
    database = funnel.upstream.database
    return peer.log_in("alice", database, USERS["alice"], replication=replication)


@pytest.fixture
def receiver(source: Postgres, pgfunnel: StartFunnel, tmp_path: Path) -> Iterator[Funnel]:
    """A funnel of two servers, one of which pg_receivewal has."""
    funnel = pgfunnel(source, default_pool_size=2)
    command = [tool("pg_receivewal"), "-D", str(tmp_path), "--no-loop"]
    process = subprocess.Popen(command, env=environment(funnel))
    try:
        until(lambda: senders(source) == ["receiver"])
        yield funnel
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        until(lambda: senders(source) == [])
        until(lambda: "S-" in funnel.log() and "reason=replication)" in funnel.log())
    finally:
        process.kill()
        process.wait()


def test_wal_is_received(receiver: Funnel, source: Postgres, tmp_path: Path) -> None:
    source.psql("CREATE TABLE big AS SELECT repeat('x', 1000) FROM generate_series(1, 5000)")
    source.psql("SELECT pg_switch_wal()")
    until(lambda: [file for file in tmp_path.iterdir() if len(file.name) == 24])
    whole = next(file for file in tmp_path.iterdir() if len(file.name) == 24)
    assert whole.stat().st_size == 16 << 20
    assert receiver.metrics()['pgfunnel_clients{state="active"}'] == 1


def test_others_go_on_in_the_places_that_are_left(receiver: Funnel, source: Postgres) -> None:
    with log_in(receiver) as one, log_in(receiver) as two:
        one.query("BEGIN")
        two.send(messages.query(b"SELECT 1"))
        until(lambda: waiters(receiver) == 1)
        assert source.client_backends("alice") == 1
        one.query("COMMIT")
        assert two.until(b"Z")[1][0] == b"D"


def test_a_base_backup_with_its_wal(
    source: Postgres, pgfunnel: StartFunnel, tmp_path: Path
) -> None:
    funnel = pgfunnel(source, default_pool_size=2)
    command = [tool("pg_basebackup"), "-X", "stream", "-D", str(tmp_path / "copy"), "-c", "fast"]
    subprocess.run(command, env=environment(funnel), check=True, timeout=60)
    verify = [tool("pg_verifybackup"), str(tmp_path / "copy")]
    subprocess.run(verify, check=True, timeout=60, capture_output=True)
    until(lambda: backends(source) == 0)


def test_logical_changes_through_a_driver(source: Postgres, pgfunnel: StartFunnel) -> None:
    source.psql("CREATE TABLE watched (i int)")
    funnel = pgfunnel(source)
    place = urlsplit(funnel.dsn("alice"))
    connection = psycopg2.connect(
        host=place.hostname,
        port=place.port,
        dbname=source.database,
        user="alice",
        password=USERS["alice"],
        connection_factory=psycopg2.extras.LogicalReplicationConnection,
    )
    with connection.cursor() as cursor:
        cursor.create_replication_slot("through", output_plugin="test_decoding")
        cursor.start_replication("through", decode=True)
        source.psql("INSERT INTO watched VALUES (42)")
        found: list[str] = []

        def seen() -> bool:
            message = cursor.read_message()
            found.extend([message.payload] if message else [])
            return any("integer]:42" in line for line in found)

        until(seen)
    connection.close()
    until(lambda: senders(source) == [])


def test_it_waits_its_turn_for_a_place(source: Postgres, pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(source, default_pool_size=1, query_wait_timeout=20)
    with log_in(funnel) as busy, Peer(funnel.host, funnel.port) as replica:
        busy.query("BEGIN")
        replica.start("alice", source.database, replication="database")
        assert source.client_backends("alice") == 1
        with Peer(funnel.host, funnel.port) as second:
            refused = second.refusal("alice", "none", USERS["alice"], replication="database")
            assert refused["C"] == "3D000"
        busy.query("COMMIT")
    with replicate(funnel) as replica, log_in(funnel) as other:
        assert replica.rows("IDENTIFY_SYSTEM")[0][3] == source.database.encode()
        assert replica.rows("SELECT 1") == [[b"1"]]
        other.send(messages.query(b"SELECT 2"))
        until(lambda: waiters(funnel) == 1)
        assert backends(source) == 1
        replica.send(messages.TERMINATE)
        assert other.until(b"Z")[1][0] == b"D"
    until(lambda: "client_left" in funnel.log())


def test_many_in_turn_never_exceed_the_bound(source: Postgres, pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(source, default_pool_size=1)
    pids = set()
    for _ in range(10):
        with replicate(funnel) as replica:
            pids.add(replica.rows("SELECT pg_backend_pid()")[0][0])
        with log_in(funnel) as peer:
            pids.add(peer.rows("SELECT pg_backend_pid()")[0][0])
            assert backends(source) == 1
    assert len(pids) == 20


def test_a_client_that_vanishes(source: Postgres, pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(source, default_pool_size=1)
    replicate(funnel).reset()
    with log_in(funnel) as peer:
        assert peer.rows("SELECT 1") == [[b"1"]]
    until(lambda: "client_vanished" in funnel.log())


def test_postgres_refuses_it(source: Postgres, pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(source, default_pool_size=1)
    with Peer(funnel.host, funnel.port) as peer:
        refused = peer.refusal("bob", source.database, USERS["bob"], replication="database")
        assert refused["C"] == "42501"
    with Peer(funnel.host, funnel.port) as peer:
        assert not peer.refusal("bob", source.database, USERS["bob"])
        assert peer.rows("SELECT 1") == [[b"1"]]


def test_a_slow_receiver_stops_the_sender(source: Postgres, pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(source)
    with replicate(funnel, "true") as peer:
        before = resident(funnel.pid)
        start = (peer.rows("IDENTIFY_SYSTEM")[0][2] or b"0/0").decode()
        source.psql("CREATE TABLE big AS SELECT repeat('x', 1000) FROM generate_series(1, 60000)")
        peer.send(messages.query(f"START_REPLICATION {start}".encode()))
        assert peer.message()[0] == b"W"
        until(lambda: unsent(source) > 30 << 20, what="the sender is stopped")
        assert resident(funnel.pid) - before < 20 << 20
        received = 0
        while received < 50 << 20:
            received += len(peer.message()[1])


def unsent(postgres: Postgres) -> int:
    found = postgres.psql(
        "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), sent_lsn) FROM pg_stat_replication"
    )
    return int(found[0][0] or 0) if found else 0


@pytest.fixture
def any_database(source: Postgres, pgfunnel: StartFunnel) -> Funnel:
    """A funnel that knows no database by name; Postgres has none called `replication`."""
    place = {"*": {"host": source.host, "port": source.port}}
    return pgfunnel(source, upstream=None, databases=json.dumps(place), default_pool_size=2)


def test_physical_replication_needs_no_database(
    any_database: Funnel, source: Postgres, tmp_path: Path
) -> None:
    command = [tool("pg_basebackup"), "-X", "stream", "-D", str(tmp_path / "copy"), "-c", "fast"]
    subprocess.run(command, env=environment(any_database), check=True, timeout=60)
    until(lambda: any_database.log().count("client_left") == 2)
    assert "server login failed" not in any_database.log()


def test_more_than_there_is_room_for_take_turns(any_database: Funnel, source: Postgres) -> None:
    def begin() -> Peer:
        peer = Peer(any_database.host, any_database.port)
        return peer.log_in("alice", "replication", USERS["alice"], replication="true")

    with ThreadPoolExecutor() as threads, begin(), begin() as second:
        third = threads.submit(begin)
        until(lambda: any_database.metrics().get(WAITING) == 1)
        assert len(walsenders(source)) == 2
        second.send(messages.TERMINATE)
        with third.result() as peer:
            assert peer.rows("IDENTIFY_SYSTEM")
    assert "server login failed" not in any_database.log()


def test_a_free_place_costs_one_login(source: Postgres, pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(source, default_pool_size=2)
    replicate(funnel).socket.close()
    until(lambda: "reason=replication)" in funnel.log())
    assert funnel.log().count("new connection to server") == 1


def walsenders(postgres: Postgres) -> list[tuple[object, ...]]:
    return postgres.psql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'walsender'")


def backends(postgres: Postgres) -> int:
    """All that alice has, for replication and for queries."""
    return int(postgres.psql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'alice'")[0][0])


def test_rules_for_all_databases_let_no_physical_replication_in(
    source: Postgres, pgfunnel: StartFunnel, tmp_path: Path
) -> None:
    rules = tmp_path / "hba"
    rules.write_text("host all all all scram-sha-256\n")
    funnel = pgfunnel(source, auth_type="hba", auth_hba_file=rules)
    replicate(funnel, "database").socket.close()
    with Peer(funnel.host, funnel.port) as peer:
        peer.start("alice", source.database, replication="true")
        assert peer.error()["C"] == "28000"
    rules.write_text("host replication alice all scram-sha-256\n")
    funnel.signal(signal.SIGHUP)
    until(lambda: "reloaded" in funnel.log())
    replicate(funnel, "true").socket.close()


def named(funnel: Funnel) -> Peer:
    peer = Peer(funnel.host, funnel.port)
    asked = {"replication": "database", "application_name": "receiver"}
    return peer.log_in("alice", funnel.upstream.database, USERS["alice"], **asked)


def test_reconnect_ends_it_at_once(source: Postgres, pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(source, default_pool_size=2, admin_users="dave")
    with replicate(funnel) as replica, Operator(funnel, "dave") as operator:
        assert operator.say(f"RECONNECT {source.database}") == "RECONNECT"
        assert replica.error()["C"] == "57P01"
        assert replica.ended()
        until(lambda: not operator.show("SERVERS"))
        until(lambda: "reason=reconnect)" in funnel.log())


def test_the_console_shows_it_and_can_end_it(source: Postgres, pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(source, default_pool_size=2, admin_users="dave")
    with named(funnel) as replica, Operator(funnel, "dave") as operator:
        client = operator.row("CLIENTS", replication="logical")
        server = operator.row("SERVERS", replication="logical")
        assert (client["state"], server["state"]) == ("active", "active")
        assert (client["link"], server["link"]) == (server["ptr"], client["ptr"])
        assert client["application_name"] == server["application_name"] == "receiver"
        assert (server["addr"], server["port"]) == (source.host, source.port)
        assert server["local_port"] > 0
        assert (server["remote_pid"],) in walsenders(source)
        assert operator.row("POOLS", user="alice")["sv_active"] == 1
        assert operator.say("KILL") == "KILL"
        assert replica.error()["C"] == "57P01"
        until(lambda: operator.row("POOLS", user="alice")["sv_active"] == 0)
        until(lambda: not operator.show("SERVERS"))


def test_what_it_runs_is_cancelled(source: Postgres, pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(source, default_pool_size=2)
    running = "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query ~ 'pg_sleep\\(60'"
    with replicate(funnel) as replica:
        replica.send(messages.query(b"SELECT pg_sleep(60)"))
        until(lambda: source.psql(f"{running} AND pid <> pg_backend_pid()"))
        send_cancel(funnel.host, funnel.port, replica.key)
        assert replica.error()["C"] == "57014"
        replica.until(b"Z")
        assert replica.rows("SELECT 1") == [[b"1"]]


def test_words_of_ours_stand_between_messages(source: Postgres, pgfunnel: StartFunnel) -> None:
    """A backup that is ended while its reader is slow ends with our words, or without any."""
    source.psql("CREATE TABLE big AS SELECT repeat('x', 1000) FROM generate_series(1, 60000)")
    source.psql("CHECKPOINT")
    funnel = pgfunnel(source, default_pool_size=2, admin_users="dave")
    with replicate(funnel, "true") as replica, Operator(funnel, "dave") as operator:
        replica.send(messages.query(b"BASE_BACKUP (CHECKPOINT 'fast')"))
        until(lambda: funnel.metrics()['pgfunnel_clients{state="active"}'] == 1)
        for _ in range(1000):
            replica.message()
        operator.say(f"RECONNECT {source.database}")
        rest = bytearray()
        while more := replica.socket.recv(1 << 20):
            rest += more
    at, last = 0, b""
    while at + 5 <= len(rest):
        last = bytes(rest[at : at + 1])
        at += 1 + int.from_bytes(rest[at + 1 : at + 5], "big")
    assert (last == b"E" and at == len(rest)) or b"configuration changed" not in rest


def test_a_minimum_of_servers_is_for_queries(source: Postgres, pgfunnel: StartFunnel) -> None:
    """Nothing logs in for queries where only physical replication was asked for."""
    place = {"*": {"host": source.host, "port": source.port}}
    funnel = pgfunnel(source, upstream=None, databases=json.dumps(place), min_pool_size=2)
    with Peer(funnel.host, funnel.port) as peer:
        peer.log_in("alice", "replication", USERS["alice"], replication="true")
        assert peer.rows("IDENTIFY_SYSTEM")
        with log_in(funnel) as other:
            assert other.rows("SELECT 1") == [[b"1"]]
            until(lambda: backends(source) == 3)
    until(lambda: not walsenders(source))
    assert "server login failed" not in funnel.log()
    assert backends(source) == 2
