"""The console: who may come in, how it is spoken to, what it shows."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest

from proxy.admin.show import TABLES
from proxy.wire import messages
from tests.conftest import StartFunnel, StartPostgres
from tests.funnel import Funnel
from tests.integration.console import Operator
from tests.integration.observe import until
from tests.integration.peer import Peer, send_cancel
from tests.postgres import USERS, Postgres


def peer(funnel: Funnel, user: str = "alice", database: str = "", **parameters: str) -> Peer:
    found = Peer(funnel.host, funnel.port)
    return found.log_in(user, database or funnel.upstream.database, USERS[user], **parameters)


# -- who may come in -----------------------------------------------------------------------


def test_only_those_who_are_named_may_come_in(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(admin_users="alice", stats_users="bob")
    for user in ("alice", "bob"):
        with Operator(funnel, user) as operator:
            assert operator.show("VERSION")[0]["version"].startswith("PgBouncer 1.25")
    with pytest.raises(psycopg.OperationalError, match="FATAL:  not allowed"):
        Operator(funnel, "carol")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(funnel.dsn("alice", password="wrong", database="pgbouncer"))


def test_stats_users_change_nothing(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(admin_users="alice", stats_users="bob")
    with Operator(funnel, "bob") as operator:
        for command in ("PAUSE", "RESUME", "KILL", "RELOAD", "SHUTDOWN", "SET log_stats = 0"):
            refused = operator.refusal(command)
            assert "admin access needed" in str(refused)
            assert refused.sqlstate == "42501"
        for what in TABLES:
            operator.show(what)


def test_an_operator_finds_a_place_where_clients_find_none(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(admin_users="alice", max_client_conn=1)
    with peer(funnel):
        with pytest.raises(psycopg.OperationalError, match="max_client_conn"):
            psycopg.connect(funnel.dsn("bob"))
        with Operator(funnel, "alice") as operator:
            assert operator.row("POOLS", user="alice")["cl_active"] == 1


def test_the_account_that_runs_it_needs_no_password(pgfunnel: StartFunnel, tmp_path: Path) -> None:
    funnel = pgfunnel(unix_socket_dir=str(tmp_path))
    local = f"host={tmp_path} port={funnel.port} user=pgbouncer"
    with psycopg.connect(f"{local} dbname=pgbouncer", autocommit=True) as connection:
        assert connection.execute("PAUSE").statusmessage == "PAUSE"
        (row,) = connection.execute("SHOW CLIENTS").fetchall()
        assert row[16] == os.getpid()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(f"{local} dbname={funnel.upstream.database}")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(funnel.dsn("pgbouncer", password="", database="pgbouncer"))


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder that every account may enter; those of pytest are their owner's alone."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_another_account_needs_one(pgfunnel: StartFunnel, reachable: Path) -> None:
    funnel = pgfunnel(unix_socket_dir=str(reachable))
    dsn = f"host={reachable} port={funnel.port} user=pgbouncer dbname=pgbouncer"
    tried = subprocess.run(
        ["psql", "-X", "-w", dsn, "-c", "SHOW VERSION"],
        capture_output=True,
        text=True,
        timeout=20,
        user=65534,
    )
    assert tried.returncode == 2
    assert "password" in tried.stderr


# -- how it is spoken to -------------------------------------------------------------------


def test_psql_reads_it(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(admin_users="alice")
    dsn = funnel.dsn("alice", database="pgbouncer")
    sql = "SHOW LISTS;\nSHOW HELP;\nnonsense;\nSHOW STATE;\n"
    ran = subprocess.run(
        ["psql", "-X", "-A", "-t", dsn], input=sql, capture_output=True, text=True, timeout=20
    )
    assert "databases|2" in ran.stdout
    assert ran.stdout.rstrip().endswith("active|yes\npaused|no\nsuspended|no")
    assert "Console usage" in ran.stderr
    assert "KILL_CLIENT <client_id>" in ran.stderr
    assert "ERROR:  invalid command 'nonsense;', use SHOW HELP;" in ran.stderr


def test_the_extended_protocol_is_refused_and_nothing_lost(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(admin_users="alice")
    with peer(funnel, database="pgbouncer") as operator:
        operator.send(
            messages.parse(b"", b"SHOW POOLS\0\0\0"),
            messages.message(b"B", b"\0\0\0\0\0\0\0\0"),
            messages.message(b"E", b"\0\0\0\0\0"),
            messages.SYNC,
        )
        said = operator.until(b"Z")
        assert [kind for kind, _ in said] == [b"E", b"Z"]
        fields = messages.read_error(said[0][1])
        assert fields["M"] == "extended query protocol not supported by admin console"
        assert (fields["S"], fields["C"]) == ("ERROR", "0A000")
        assert operator.rows("SHOW STATE")[0] == [b"active", b"yes"]


def test_commands_sent_at_once_are_answered_in_turn(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(admin_users="alice")
    with peer(funnel, database="pgbouncer") as operator:
        said = [b"PAUSE", b"SHOW STATE", b";", b"RESUME", b"oh no", b"SHOW STATE"]
        whole = b"".join(map(messages.query, said))
        for at in range(0, len(whole), 7):
            operator.send(whole[at : at + 7])
        kinds = b"".join(kind for _ in said for kind, _ in operator.until(b"Z"))
        assert kinds == b"CZTDDDCZIZCZEZTDDDCZ"


def test_what_drivers_set_first_is_ignored(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(stats_users="alice")
    with Operator(funnel, "alice") as operator:
        assert operator.say("SET extra_float_digits = 3") == "SET"
        assert operator.say("SET client_encoding TO 'UTF8'") == "SET"
        assert operator.show("standard_conforming_strings") == [
            {"standard_conforming_strings": "on"}
        ]


def test_rubbish_ends_the_connection(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(admin_users="alice")
    for rubbish in (b"F\0\0\0\4", b"Q\0\0\0\1", b"Q\x7f\xff\xff\xff", b"!\0\0\0\4"):
        with peer(funnel, database="pgbouncer") as operator:
            operator.send(rubbish)
            assert operator.error()["C"] == "08P01"
            assert operator.ended()


def test_operators_are_no_clients_of_postgres(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(admin_users="alice", client_idle_timeout=0.3)
    with Operator(funnel, "alice") as operator, peer(funnel, "bob") as idle:
        assert idle.error()["C"] == "57P05"
        assert [row["user"] for row in operator.show("CLIENTS")] == ["alice"]
        assert 'pgfunnel_clients{state="active"}' in funnel.metrics()


# -- what it shows -------------------------------------------------------------------------


def test_operators_say_what_program_they_are(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(admin_users="alice")
    with (
        Operator(funnel, "alice") as operator,
        peer(funnel, database="pgbouncer", application_name="runbook"),
    ):
        assert operator.row("CLIENTS", application_name="runbook")["database"] == "pgbouncer"


def test_pools_clients_and_servers_agree(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(admin_users="alice", default_pool_size=2)
    with Operator(funnel, "alice") as operator:
        busy = [peer(funnel, "bob", application_name=f"app {i}") for i in range(3)]
        for each in busy[:2]:
            each.query("BEGIN")
        busy[2].send(messages.query(b"SELECT 1"))
        until(lambda: operator.row("POOLS", user="bob")["cl_waiting"])
        pool = operator.row("POOLS", user="bob")
        assert (pool["cl_active"], pool["sv_active"], pool["sv_idle"]) == (2, 2, 0)
        assert (pool["pool_mode"], pool["load_balance_hosts"]) == ("transaction", None)
        clients = [row for row in operator.show("CLIENTS") if row["user"] == "bob"]
        servers = operator.show("SERVERS")
        assert sorted(row["state"] for row in clients) == ["active", "active", "waiting"]
        assert {row["link"] for row in clients} - {""} == {row["ptr"] for row in servers}
        assert {row["link"] for row in servers} < {row["ptr"] for row in clients}
        assert {row["application_name"] for row in clients} == {"app 0", "app 1", "app 2"}
        backends = {int(each.rows("SELECT pg_backend_pid()")[0][0] or 0) for each in busy[:2]}
        assert {row["remote_pid"] for row in servers} == backends
        ports = {each.socket.getsockname()[1] for each in busy}
        assert {row["port"] for row in clients} == ports
        assert {row["local_port"] for row in clients} == {funnel.port}
        waiting = next(row for row in clients if row["state"] == "waiting")
        assert waiting["wait"] + waiting["wait_us"] > 0
        for each in busy:
            each.socket.close()


def test_prepared_statements_are_counted_and_shown(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(admin_users="alice")
    with Operator(funnel, "alice") as operator, psycopg.connect(funnel.dsn("bob")) as client:
        for n in range(4):
            client.execute("SELECT %s::int + 7", (n,), prepare=True)
            client.commit()
        stats = operator.row("STATS_TOTALS", database=funnel.upstream.database)
        assert (stats["client_parse_count"], stats["server_parse_count"]) == (1, 1)
        assert stats["bind_count"] == 4
        (prepared,) = operator.show("PREPARED")
        assert prepared["statement"] == "SELECT $1::int + ?"
        assert prepared["servers"] == 1
        assert operator.row("CLIENTS", user="bob")["prepared_statements"] == 1
        assert operator.row("SERVERS")["prepared_statements"] == 1


def test_statistics_follow_what_is_done(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(admin_users="alice", stats_period=0.2)
    database = funnel.upstream.database
    with Operator(funnel, "alice") as operator, peer(funnel, "bob") as client:
        before = operator.row("STATS", database=database)
        for _ in range(5):
            client.query("BEGIN")
            client.query("SELECT pg_sleep(0.02)")
            client.query("COMMIT")
        after = operator.row("STATS", database=database)
        grown = {key: after[key] - before[key] for key in after if key.startswith("total_")}
        assert grown["total_xact_count"] == 5
        assert grown["total_query_count"] == 15
        assert grown["total_server_assignment_count"] == 5
        assert 100_000 <= grown["total_xact_time"] < 5_000_000
        assert grown["total_received"] > 5 * len("BEGINSELECT pg_sleep(0.02)COMMIT")
        until(lambda: operator.row("STATS", database=database)["avg_xact_count"] == 0)
        totals = {row["name"]: row["value"] for row in operator.show("TOTALS")}
        assert totals["total_query_count"] >= after["total_query_count"]
        assert totals["total_ps_bind_count"] == 0


def test_pins_are_shown_while_they_last(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(admin_users="alice")
    with Operator(funnel, "alice") as operator, peer(funnel, "bob") as client:
        assert operator.show("PINS") == []
        client.query("LISTEN news")
        until(lambda: operator.show("PINS"))
        pin = operator.row("PINS", user="bob")
        assert (pin["reason"], pin["statement"]) == ("listen", "LISTEN news")
        client.query("UNLISTEN *")
        until(lambda: operator.show("PINS") == [])


def test_databases_and_users(pgfunnel: StartFunnel, postgres: Postgres) -> None:
    databases = {
        "app": {"dbname": postgres.database, "pool_size": 3, "pool_mode": "session"},
        "forced": {
            "host": f"{postgres.host},127.0.0.2",
            "port": postgres.port,
            "user": "bob",
            "password": USERS["bob"],
            "pool_size": 5,
            "max_db_connections": 7,
        },
    }
    users = {"bob": {"max_user_connections": 4, "pool_size": 2}}
    funnel = pgfunnel(admin_users="alice", databases=databases, users=users)
    with Operator(funnel, "alice") as operator, peer(funnel, "bob", "app") as client:
        client.query("SELECT 1")
        app = operator.row("DATABASES", name="app")
        assert (app["pool_size"], app["pool_mode"], app["force_user"]) == (3, "session", None)
        assert (app["current_connections"], app["current_client_connections"]) == (1, 1)
        forced = operator.row("DATABASES", name="forced")
        assert (forced["force_user"], forced["max_connections"]) == ("bob", 7)
        assert forced["load_balance_hosts"] == "round-robin"
        console = operator.row("DATABASES", name="pgbouncer")
        assert (console["force_user"], console["pool_size"]) == ("pgbouncer", 2)
        assert console["pool_mode"] == "statement"
        bob = operator.row("USERS", name="bob")
        assert (bob["pool_size"].strip(), bob["max_user_connections"]) == ("2", 4)
        assert (bob["current_connections"], bob["current_client_connections"]) == (1, 1)
        lists = {row["list"]: row["items"] for row in operator.show("LISTS")}
        assert lists["databases"] == len(operator.show("DATABASES"))
        assert lists["users"] == len(operator.show("USERS"))
        assert lists["pools"] == len(operator.show("POOLS"))
        assert (lists["used_clients"], lists["used_servers"]) == (2, 1)


def test_tls_is_told(pgfunnel: StartFunnel, start_postgres: StartPostgres) -> None:
    funnel = pgfunnel(start_postgres(tls=True), admin_users="alice", server_tls_sslmode="require")
    with Operator(funnel, "alice") as operator, peer(funnel, "bob") as client:
        client.query("SELECT 1")
        assert re.fullmatch(r"TLSv1\.[23]/\S+", operator.row("SERVERS")["tls"])


def test_no_secret_is_shown(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(admin_users="alice")
    secrets = {funnel.upstream.password, *USERS.values()} - USERS.keys()
    with Operator(funnel, "alice") as operator:
        for what in TABLES:
            shown = str(operator.show(what))
            assert not [secret for secret in secrets if secret in shown]


def test_a_cancel_at_the_console_ends_what_waits(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(admin_users="alice")
    with peer(funnel, "bob") as client, peer(funnel, database="pgbouncer") as operator:
        client.query("BEGIN")
        operator.send(messages.query(b"PAUSE"))
        with Operator(funnel, "alice") as other:
            until(lambda: other.row("STATE", key="paused")["value"] == "yes")
            send_cancel(funnel.host, funnel.port, operator.key)
            assert operator.error()["C"] == "57014"
            operator.until(b"Z")
            assert other.row("STATE", key="paused")["value"] == "no"
        client.query("COMMIT")
        assert client.rows("SELECT 1") == [[b"1"]]
