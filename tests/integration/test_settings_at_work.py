"""Settings that PgBouncer has too, each seen to do what it says."""

from __future__ import annotations

import grp
import os
import pwd
import re
import signal
import socket
import subprocess
import threading
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from proxy.wire import messages
from tests.conftest import StartFunnel, StartPostgres
from tests.funnel import Funnel
from tests.integration.console import Operator
from tests.integration.observe import pool_metric, until
from tests.integration.peer import Peer
from tests.postgres import USERS, Postgres


def log_in(funnel: Funnel, user: str = "alice", database: str = "") -> Peer:
    peer = Peer(funnel.host, funnel.port)
    return peer.log_in(user, database or funnel.upstream.database, USERS[user])


def refusal(funnel: Funnel, user: str = "alice", database: str = "") -> str:
    with pytest.raises(psycopg.OperationalError) as error:
        psycopg.connect(funnel.dsn(user, database=database))
    return str(error.value)


# -- limits of clients ---------------------------------------------------------------------


def test_clients_of_a_database(pgfunnel: StartFunnel, postgres: Postgres) -> None:
    databases = {"roomy": {"dbname": postgres.database, "max_db_client_connections": 3}}
    funnel = pgfunnel(max_db_client_connections=2, databases=databases)
    with log_in(funnel), log_in(funnel, "bob"):
        assert "client connections exceeded (max_db_client_connections)" in refusal(funnel)
        with log_in(funnel, database="roomy"), log_in(funnel, database="roomy"):
            log_in(funnel, "bob", "roomy").socket.close()
    until(lambda: pool_metric(funnel, "pgfunnel_pool_clients") == 0)
    log_in(funnel).socket.close()
    assert funnel.metrics()['pgfunnel_refusals_total{sqlstate="53300"}'] == 1


def test_clients_of_a_user(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(
        max_user_client_connections=2, users={"bob": {"max_user_client_connections": 1}}
    )
    with log_in(funnel), log_in(funnel), log_in(funnel, "bob"):
        assert "exceeded (max_user_client_connections)" in refusal(funnel)
        assert "exceeded (max_user_client_connections)" in refusal(funnel, "bob")


def test_who_was_refused_takes_no_place(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(max_user_client_connections=1)
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(funnel.dsn("alice", password="wrong"))
    with log_in(funnel):
        refusal(funnel)
    until(lambda: pool_metric(funnel, "pgfunnel_pool_clients") == 0)
    log_in(funnel).socket.close()


# -- pools ---------------------------------------------------------------------------------


@pytest.mark.parametrize("in_turn", [False, True])
def test_which_server_is_lent(pgfunnel: StartFunnel, *, in_turn: bool) -> None:
    funnel = pgfunnel(default_pool_size=3, server_round_robin=in_turn)
    with log_in(funnel) as one, log_in(funnel) as two, log_in(funnel) as three:
        for peer in (one, two, three):
            peer.query("BEGIN")
        for peer in (one, two, three):
            peer.query("COMMIT")
        backends = [one.rows("SELECT pg_backend_pid()")[0][0] for _ in range(6)]
    assert len(set(backends)) == (3 if in_turn else 1)
    assert backends[:3] == backends[3:]


def test_query_wait_timeout_of_a_database_and_a_user(
    pgfunnel: StartFunnel, postgres: Postgres
) -> None:
    databases = {"short": {"dbname": postgres.database, "query_wait_timeout": 0.2}}
    users = {"bob": {"query_wait_timeout": 0.2}}
    funnel = pgfunnel(default_pool_size=1, databases=databases, users=users)
    for user, database in (("alice", "short"), ("bob", postgres.database)):
        with log_in(funnel, user, database) as busy, log_in(funnel, user, database) as late:
            busy.query("BEGIN")
            late.send(b"Q\0\0\0\rSELECT 1\0")
            assert late.error()["C"] == "53300"


def test_server_lifetime_of_a_database(pgfunnel: StartFunnel, postgres: Postgres) -> None:
    databases = {"brief": {"dbname": postgres.database, "server_lifetime": 0.3}}
    funnel = pgfunnel(databases=databases)
    with log_in(funnel, database="brief") as peer:
        first = peer.rows("SELECT pg_backend_pid()")
        until(lambda: "lifetime" in funnel.log())
        assert peer.rows("SELECT pg_backend_pid()") != first


@pytest.mark.parametrize("pure", [False, True])
@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_a_server_for_each_use(
    pgfunnel: StartFunnel, postgres: Postgres, mode: str, pure: bool
) -> None:
    others = postgres.client_backends("alice")
    brief = {"dbname": postgres.database, "server_lifetime": 0, "min_pool_size": 1}
    funnel = pgfunnel(databases={"brief": brief}, pool_mode=mode, pure=pure, stats_period=0.3)

    def ended() -> int:
        return funnel.log().count("closing because: server lifetime over")

    with log_in(funnel, database="brief") as peer:
        peer.query("BEGIN")
        first = peer.rows("SELECT pg_backend_pid()")
        before = ended()
        assert peer.rows("SELECT pg_backend_pid()") == first
        peer.query("COMMIT")
        assert (peer.rows("SELECT pg_backend_pid()") == first) is (mode == "session")
        until(lambda: ended() > before or mode == "session")
    until(lambda: postgres.client_backends("alice") <= others + 1)
    before, periods = ended(), funnel.log().count("stats:")
    until(lambda: funnel.log().count("stats:") >= periods + 2)
    assert ended() == before, "one that nobody has had stays"


@pytest.mark.parametrize("setting", ["pool_idle_timeout", "autodb_idle_timeout"])
def test_pools_are_forgotten(pgfunnel: StartFunnel, postgres: Postgres, setting: str) -> None:
    databases = {"own": {"dbname": postgres.database}, "*": {"dbname": postgres.database}}
    unused = {"pool_idle_timeout": 0.0, "autodb_idle_timeout": 0.0} | {setting: 0.2}
    funnel = pgfunnel(
        databases=databases,
        server_idle_timeout=0.2,
        pool_idle_timeout=unused["pool_idle_timeout"],
        autodb_idle_timeout=unused["autodb_idle_timeout"],
    )

    def pools() -> set[str]:
        return set(re.findall(r'pgfunnel_pool_size{database="(\w+)"', funnel.get("/metrics")))

    with log_in(funnel, database="own") as kept, log_in(funnel, database="any") as other:
        other.rows("SELECT 1")
        kept.rows("SELECT 1")
        until(lambda: funnel.log().count("closing because: server idle timeout") == 2)
        assert pools() == {"own", "any"}
    wanted = {"own"} if setting == "autodb_idle_timeout" else set()
    until(lambda: pools() == wanted)
    with log_in(funnel, database="any") as again:
        assert again.rows("SELECT 1") == [[b"1"]]
    assert "any" in pools()


# -- several hosts -------------------------------------------------------------------------


@pytest.fixture
def twofold(start_postgres: StartPostgres) -> Postgres:
    """A Postgres at two addresses, which tell its servers apart."""
    return start_postgres(settings={"listen_addresses": "127.0.0.1,127.0.0.2"})


def addresses(funnel: Funnel) -> list[str]:
    """Where three servers are, opened one after the other."""
    with ExitStack() as stack:
        found = []
        for _ in range(3):
            peer = stack.enter_context(log_in(funnel, database="many"))
            peer.query("BEGIN")
            found.append((peer.rows("SELECT host(inet_server_addr())")[0][0] or b"").decode())
        return found


@pytest.mark.parametrize(
    "hosts, choice, wanted",
    [
        ("127.0.0.1,127.0.0.2", "round-robin", ["127.0.0.1", "127.0.0.2", "127.0.0.1"]),
        ("127.0.0.2,127.0.0.1", "disable", ["127.0.0.2"] * 3),
        ("127.0.0.3,127.0.0.2", "disable", ["127.0.0.2"] * 3),
        ("127.0.0.3,127.0.0.2", "round-robin", ["127.0.0.2"] * 3),
    ],
)
def test_several_hosts(
    pgfunnel: StartFunnel, twofold: Postgres, hosts: str, choice: str, wanted: list[str]
) -> None:
    entry = {"host": hosts, "port": twofold.port, "dbname": twofold.database}
    funnel = pgfunnel(twofold, databases={"many": entry | {"load_balance_hosts": choice}})
    assert addresses(funnel) == wanted


_READ_ONLY_AT_ONE = """
SELECT set_config('default_transaction_read_only',
    CASE host(inet_server_addr()) WHEN '127.0.0.1' THEN 'on' ELSE 'off' END, false)
"""


@pytest.mark.parametrize("choice", ["round-robin", "disable"])
@pytest.mark.parametrize(
    "attrs, wanted",
    [("read-write", ["127.0.0.2"] * 3), ("read-only", ["127.0.0.1"] * 3), ("standby", [])],
)
def test_servers_are_as_wanted(
    pgfunnel: StartFunnel, twofold: Postgres, choice: str, attrs: str, wanted: list[str]
) -> None:
    entry = {
        "host": "127.0.0.1,127.0.0.2",
        "port": twofold.port,
        "dbname": twofold.database,
        "target_session_attrs": attrs,
        "load_balance_hosts": choice,
        "connect_query": _READ_ONLY_AT_ONE,
    }
    funnel = pgfunnel(twofold, upstream_grace=0.3, databases={"many": entry})
    if wanted:
        assert addresses(funnel) == wanted
    else:
        words = "no server of 127.0.0.1,127.0.0.2 is standby (target_session_attrs)"
        assert words in refusal(funnel, database="many")
    most = len(wanted)
    until(lambda: twofold.client_backends("alice") == most)


def test_a_cancel_goes_to_the_host_of_its_server(pgfunnel: StartFunnel, twofold: Postgres) -> None:
    entry = {"host": "127.0.0.1,127.0.0.2", "port": twofold.port, "dbname": twofold.database}
    funnel = pgfunnel(twofold, databases={"many": entry})
    with (
        psycopg.connect(funnel.dsn("alice", database="many")) as one,
        psycopg.connect(funnel.dsn("alice", database="many")) as two,
    ):
        one.execute("SELECT 1")
        two.execute("SELECT 1")
        for connection in (one, two):
            with pytest.raises(psycopg.errors.QueryCanceled):
                _canceled(funnel, connection)


def _canceled(funnel: Funnel, connection: psycopg.Connection) -> None:
    waiting = threading.Timer(0.3, connection.cancel)
    waiting.start()
    try:
        connection.execute("SELECT pg_sleep(20)")
    finally:
        waiting.join()


# -- sockets -------------------------------------------------------------------------------


def test_two_processes_on_one_port(pgfunnel: StartFunnel) -> None:
    first = pgfunnel(so_reuseport=True)
    second = pgfunnel(so_reuseport=True, listen_port=first.port)
    logins = "pgfunnel_logins_total{" + 'result="ok"}'
    for _ in range(100):
        log_in(first).socket.close()
        if all(funnel.metrics().get(logins) for funnel in (first, second)):
            return
    pytest.fail("the kernel gave every connection to one of the two")


def test_silent_peers_are_not_accepted(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(tcp_defer_accept=True)
    with socket.create_connection((funnel.host, funnel.port)):
        log_in(funnel).socket.close()
        assert funnel.metrics()['pgfunnel_clients{state="login"}'] == 0


def test_a_group_owns_the_unix_socket(pgfunnel: StartFunnel, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may give files to any group")
    name = grp.getgrgid(pwd.getpwnam("nobody").pw_gid).gr_name
    funnel = pgfunnel(unix_socket_dir=tmp_path, unix_socket_group=name, unix_socket_mode="0770")
    status = (tmp_path / f".s.PGSQL.{funnel.port}").stat()
    assert grp.getgrgid(status.st_gid).gr_name == name
    assert status.st_mode & 0o777 == 0o770


def test_an_abstract_unix_socket(pgfunnel: StartFunnel) -> None:
    folder = f"@pgfunnel-{os.getpid()}"
    behind = pgfunnel(unix_socket_dir=folder)
    entry = {"host": folder, "port": behind.port, "dbname": behind.upstream.database}
    before = pgfunnel(databases={"through": entry})
    with log_in(before, database="through") as peer:
        assert peer.rows("SELECT 1") == [[b"1"]]
    assert "@unix" in behind.log()


# -- the program ---------------------------------------------------------------------------


def test_the_pid_file(pgfunnel: StartFunnel, tmp_path: Path) -> None:
    file = tmp_path / "pid"
    file.write_text("999999999\n")
    funnel = pgfunnel(pidfile=file)
    assert file.read_text() == f"{funnel.pid}\n"
    with pytest.raises(AssertionError, match="names a process that runs; stop that one first"):
        pgfunnel(pidfile=file)
    assert file.read_text() == f"{funnel.pid}\n"
    funnel.signal(signal.SIGTERM)
    assert funnel.wait() == 0
    assert not file.exists()


def test_another_account(pgfunnel: StartFunnel) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    funnel = pgfunnel(run_as="nobody", auth_type="trust", auth_file="")
    with psycopg.connect(funnel.dsn(), host="localhost") as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert funnel.get("/metrics")
    funnel.signal(signal.SIGHUP)
    until(lambda: "reloaded" in funnel.log())
    status = Path(f"/proc/{funnel.pid}/status").read_text()
    nobody = pwd.getpwnam("nobody").pw_uid
    assert f"Uid:\t{nobody}\t{nobody}\t{nobody}" in status
    assert "Groups:\t0" not in status
    funnel.signal(signal.SIGTERM)
    assert funnel.wait() == 0


def test_a_word_of_welcome(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(login_notify_message="this is a pooler", admin_users="alice")
    for database in (funnel.upstream.database, "pgbouncer"):
        ran = subprocess.run(
            ["psql", funnel.dsn("alice", database=database), "-Xc", "SHOW timezone"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert ran.stderr == "NOTICE:  this is a pooler\n"


@pytest.mark.parametrize("pure", [False, True])
def test_no_simple_queries(pgfunnel: StartFunnel, postgres: Postgres, pure: bool) -> None:
    others = postgres.client_backends("alice")
    funnel = pgfunnel(disable_pqexec=True, admin_users="alice", pure=pure)
    with log_in(funnel) as peer:
        peer.send(
            messages.message(b"P", b"\0SELECT 7\0\0\0"),
            messages.message(b"B", b"\0\0\0\0\0\0\0\0"),
            messages.message(b"E", b"\0\0\0\0\0"),
            messages.SYNC,
        )
        assert b"D" in [kind for kind, _ in peer.until(b"Z")]
        peer.send(messages.query(b"SELECT 8"))
        error = peer.error()
        assert (error["S"], error["C"], error["M"]) == ("FATAL", "0A000", "PQexec disallowed")
        assert peer.ended()
    with log_in(funnel, database="pgbouncer") as operator:
        assert operator.rows("SHOW VERSION")
    until(lambda: postgres.client_backends("alice") <= others + 1)


@pytest.mark.parametrize("said", [True, False])
def test_errors_in_the_log(pgfunnel: StartFunnel, *, said: bool) -> None:
    funnel = pgfunnel(log_pooler_errors=said, admin_users="alice")
    with Operator(funnel, "alice") as operator:
        operator.refusal("SET pool_mode=nonsense")
        operator.refusal("KILL zzz")
    if said:
        for words in ("SET failed", "no such database: zzz"):
            until(lambda: f"pooler error: {words}" in funnel.log())  # noqa: B023 - done within
    refusal(funnel, database="postgres-is-not-my-name")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(funnel.dsn("alice", password="wrong"))
    until(lambda: "reason=login_failed" in funnel.log())
    assert ("pooler error: " in funnel.log()) is said


def test_statistics_in_the_log(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(stats_period=0.2)
    with log_in(funnel) as peer:

        def seen() -> bool:
            peer.rows("SELECT 1")
            return bool(re.search(r"stats: [1-9]\d* xacts/s, ", funnel.log()))

        until(seen)
    silent = pgfunnel(stats_period=0.05, log_stats=False)
    with log_in(silent) as peer:
        peer.rows("SELECT pg_sleep(0.3)")
    assert "stats" not in silent.log()


def test_a_reload_changes_the_log_level(pgfunnel: StartFunnel, tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("log_level = 'warning'\n")
    funnel = pgfunnel(args=("--config", str(file)))
    file.write_text("log_level = 'info'\n")
    funnel.signal(signal.SIGHUP)
    until(lambda: "reloaded" in funnel.log())
