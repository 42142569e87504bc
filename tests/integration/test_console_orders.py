"""The commands of the console that change something, against a real Postgres."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from proxy.wire import messages
from tests.conftest import StartFunnel
from tests.funnel import Funnel
from tests.integration.console import Operator
from tests.integration.observe import until, waiters
from tests.integration.peer import Peer
from tests.postgres import USERS, Postgres


def peer(funnel: Funnel, user: str = "alice", database: str = "") -> Peer:
    found = Peer(funnel.host, funnel.port)
    return found.log_in(user, database or funnel.upstream.database, USERS[user])


class Aside:
    """A command given in a thread; `wait` for its tag, or what it failed with."""

    def __init__(self, funnel: Funnel, command: str) -> None:
        self.outcome = ""
        self._thread = threading.Thread(target=self._run, args=(funnel, command), daemon=True)
        self._thread.start()

    def _run(self, funnel: Funnel, command: str) -> None:
        with Operator(funnel, "dave") as operator:
            try:
                self.outcome = operator.say(command)
            except psycopg.Error as error:
                self.outcome = str(error)

    @property
    def waits(self) -> bool:
        return self._thread.is_alive()

    def wait(self) -> str:
        self._thread.join(10)
        assert not self.waits
        return self.outcome


@pytest.fixture
def start(pgfunnel: StartFunnel) -> Callable[..., Funnel]:
    def with_operators(upstream: Postgres | None = None, **settings: object) -> Funnel:
        chosen: dict[str, Any] = {"admin_users": "dave", "default_pool_size": 2, **settings}
        return pgfunnel(upstream, **chosen)

    return with_operators


# -- PAUSE and RESUME ----------------------------------------------------------------------


def test_pause_lets_transactions_end_and_clients_wait(start: Callable[..., Funnel]) -> None:
    funnel = start()
    with Operator(funnel, "dave") as operator, peer(funnel) as busy, peer(funnel) as other:
        busy.query("BEGIN")
        pausing = Aside(funnel, "PAUSE")
        until(lambda: operator.row("STATE", key="paused")["value"] == "yes")
        other.send(messages.query(b"SELECT 7"))
        until(lambda: waiters(funnel) == 1)
        assert busy.rows("SELECT 1") == [[b"1"]]
        assert pausing.waits
        busy.query("COMMIT")
        assert pausing.wait() == "PAUSE"
        assert operator.show("SERVERS") == []
        with peer(funnel) as newcomer:
            newcomer.send(messages.query(b"SELECT 8"))
            until(lambda: waiters(funnel) == 2)
            assert "already suspended/paused" in str(operator.refusal("PAUSE"))
            assert operator.say("RESUME") == "RESUME"
            for each, answer in ((other, b"7"), (newcomer, b"8")):
                assert messages.read_row(each.until(b"D")[-1][1]) == [answer]


def test_postgres_restarts_and_nobody_sees_it(
    start: Callable[..., Funnel], own_postgres: Postgres
) -> None:
    funnel = start(own_postgres, upstream_grace=0.1, server_login_retry=0.2)
    with Operator(funnel, "dave") as operator, peer(funnel) as client:
        client.query("SELECT 1")
        assert operator.say("PAUSE") == "PAUSE"
        assert own_postgres.server is not None
        own_postgres.server.stop()
        client.send(messages.query(b"SELECT 2"))
        until(lambda: waiters(funnel) == 1)
        own_postgres.server.start()
        operator.say("RESUME")
        assert messages.read_row(client.until(b"D")[-1][1]) == [b"2"]


def test_one_database_is_paused_and_the_others_are_not(
    start: Callable[..., Funnel], postgres: Postgres
) -> None:
    databases = {name: {"dbname": postgres.database} for name in ("one", "two")}
    funnel = start(databases=databases)
    with (
        Operator(funnel, "dave") as operator,
        peer(funnel, database="one") as one,
        peer(funnel, database="two") as two,
    ):
        one.query("SELECT 1")
        two.query("SELECT 1")
        assert operator.say("PAUSE one;") == "PAUSE"
        assert [row["database"] for row in operator.show("SERVERS")] == ["two"]
        assert operator.row("DATABASES", name="one")["paused"] == 1
        assert operator.row("DATABASES", name="two")["paused"] == 0
        assert operator.row("STATE", key="paused")["value"] == "no"
        one.send(messages.query(b"SELECT 1"))
        until(lambda: operator.row("POOLS", database="one")["cl_waiting"])
        assert two.rows("SELECT 2") == [[b"2"]]
        assert "pooler is not paused/suspended" in str(operator.refusal("RESUME"))
        assert "database two is not paused" in str(operator.refusal("RESUME two"))
        operator.say("RESUME one")
        assert one.until(b"Z")


def test_what_pause_refuses(start: Callable[..., Funnel]) -> None:
    funnel = start(upstream=None, databases={"app": {"host": "127.0.0.1"}})
    with Operator(funnel, "dave") as operator:
        assert "no such database: nowhere" in str(operator.refusal("PAUSE nowhere"))
        assert "cannot pause admin db: pgbouncer" in str(operator.refusal("PAUSE pgbouncer"))
        assert "SUSPEND does not apply" in str(operator.refusal("SUSPEND"))
        assert "invalid command" in str(operator.refusal("SUSPEND app"))


def test_a_resume_ends_the_pause_that_still_waits(start: Callable[..., Funnel]) -> None:
    funnel = start()
    with Operator(funnel, "dave") as operator, peer(funnel) as busy:
        busy.query("BEGIN")
        pausing = Aside(funnel, "PAUSE")
        until(lambda: operator.row("STATE", key="paused")["value"] == "yes")
        operator.say("RESUME")
        assert "resumed before the last server was closed" in pausing.wait()
        assert busy.rows("SELECT pg_backend_pid()") == busy.rows("SELECT pg_backend_pid()")
        busy.query("COMMIT")
        assert operator.row("SERVERS")["close_needed"] == 0


def test_a_pause_outlives_its_operator(start: Callable[..., Funnel]) -> None:
    funnel = start()
    with peer(funnel) as busy, Operator(funnel, "dave") as operator:
        busy.query("BEGIN")
        gone = peer(funnel, "dave", "pgbouncer")
        gone.send(messages.query(b"PAUSE"))
        until(lambda: operator.row("STATE", key="paused")["value"] == "yes")
        gone.reset()
        busy.query("COMMIT")
        until(lambda: operator.show("SERVERS") == [])


def test_in_session_pooling_a_pause_waits_for_the_client_to_leave(
    start: Callable[..., Funnel],
) -> None:
    funnel = start(pool_mode="session")
    client = peer(funnel)
    client.query("SELECT 1")
    pausing = Aside(funnel, "PAUSE")
    with Operator(funnel, "dave") as operator:
        until(lambda: operator.row("SERVERS")["close_needed"] == 1)
    assert client.rows("SELECT 1") == [[b"1"]]
    assert pausing.waits
    client.socket.close()
    assert pausing.wait() == "PAUSE"


# -- DISABLE, RECONNECT, KILL --------------------------------------------------------------


def test_a_disabled_database_takes_nobody_new(start: Callable[..., Funnel]) -> None:
    funnel = start()
    database = funnel.upstream.database
    with Operator(funnel, "dave") as operator, peer(funnel) as client:
        assert operator.say(f"DISABLE {database}") == "DISABLE"
        with pytest.raises(psycopg.OperationalError) as refused:
            psycopg.connect(funnel.dsn("alice"))
        assert f'database "{database}" is disabled' in str(refused.value)
        assert client.rows("SELECT 1") == [[b"1"]]
        assert operator.row("DATABASES", name=database)["disabled"] == 1
        assert operator.say(f"ENABLE {database}") == "ENABLE"
        peer(funnel).socket.close()
        assert "a database is required" in str(operator.refusal("DISABLE"))
        assert "cannot disable admin db" in str(operator.refusal("DISABLE pgbouncer"))


def test_reconnect_closes_at_the_next_boundary(start: Callable[..., Funnel]) -> None:
    funnel = start()
    with Operator(funnel, "dave") as operator, peer(funnel) as busy, peer(funnel) as other:
        busy.query("BEGIN")
        before = busy.rows("SELECT pg_backend_pid()")
        idle = other.rows("SELECT pg_backend_pid()")
        assert operator.say("RECONNECT") == "RECONNECT"
        closing = Aside(funnel, "WAIT_CLOSE")
        assert other.rows("SELECT pg_backend_pid()") not in (idle, before)
        assert busy.rows("SELECT pg_backend_pid()") == before
        assert closing.waits
        busy.query("COMMIT")
        assert closing.wait() == "WAIT_CLOSE"
        assert busy.rows("SELECT pg_backend_pid()") != before
    assert funnel.log().count("reason=reconnect") == 2


def test_kill_drops_everybody_and_pauses(start: Callable[..., Funnel]) -> None:
    funnel = start()
    database = funnel.upstream.database
    with Operator(funnel, "dave") as operator, peer(funnel) as busy, peer(funnel) as idle:
        busy.query("BEGIN")
        assert operator.say(f"KILL {database}") == "KILL"
        for each in (busy, idle):
            fields = each.error()
            assert (fields["S"], fields["C"], fields["M"]) == ("FATAL", "57P01", "database removed")
        until(lambda: operator.show("SERVERS") == [])
        with ThreadPoolExecutor() as threads:
            newcomer = threads.submit(peer, funnel)
            until(lambda: waiters(funnel) == 1)
            assert operator.row("LISTS", list="login_clients")["items"] == 1
            assert operator.say(f"RESUME {database}") == "RESUME"
            with newcomer.result() as resumed:
                assert resumed.rows("SELECT 1") == [[b"1"]]


def test_what_only_a_star_could_serve_is_not_known(start: Callable[..., Funnel]) -> None:
    funnel = start(upstream=None, databases={"*": {"host": "127.0.0.1"}})
    with Operator(funnel, "dave") as operator:
        for command in ("RESUME", "ENABLE"):
            assert "no such database: nodb" in str(operator.refusal(f"{command} nodb"))
        assert operator.say("DISABLE nodb") == "DISABLE"
        assert operator.row("DATABASES", name="nodb")["disabled"] == 1
        assert operator.say("ENABLE nodb") == "ENABLE"
        assert operator.say("PAUSE nodb") == "PAUSE"
        assert operator.say("RESUME nodb") == "RESUME"


def test_kill_of_everything_is_taken_back_by_resume(start: Callable[..., Funnel]) -> None:
    funnel = start()
    with Operator(funnel, "dave") as operator, peer(funnel) as client:
        assert operator.say("KILL") == "KILL"
        assert client.error()["M"] == "database removed"
        assert operator.say("RESUME") == "RESUME"
        with peer(funnel) as newcomer:
            assert newcomer.rows("SELECT 1") == [[b"1"]]


def test_one_client_is_killed(start: Callable[..., Funnel]) -> None:
    funnel = start(default_pool_size=1)
    with Operator(funnel, "dave") as operator, peer(funnel, "bob") as bad, peer(funnel) as good:
        bad.query("BEGIN")
        bad.send(messages.query(b"SELECT pg_sleep(60)"))
        number = operator.row("CLIENTS", user="bob")["id"]
        assert operator.say(f"KILL_CLIENT {number}") == "KILL_CLIENT"
        assert bad.error()["M"] == "admin forced disconnect"
        assert good.rows("SELECT 1") == [[b"1"]]
        until(lambda: operator.row("SERVERS", user="bob")["state"] == "idle")
        assert "client not found" in str(operator.refusal(f"KILL_CLIENT {number}"))
        assert "invalid client pointer supplied" in str(operator.refusal("KILL_CLIENT bob"))


# -- settings ------------------------------------------------------------------------------


def test_set_holds_until_the_next_reload(start: Callable[..., Funnel]) -> None:
    funnel = start(default_pool_size=1)
    with Operator(funnel, "dave") as operator, peer(funnel) as one, peer(funnel) as two:
        one.query("BEGIN")
        two.send(messages.query(b"SELECT 1"))
        until(lambda: waiters(funnel) == 1)
        assert operator.say("SET default_pool_size = 2;") == "SET default_pool_size=2"
        assert two.until(b"Z")
        assert operator.row("CONFIG", key="default_pool_size")["value"] == "2"
        assert operator.say("RELOAD") == "RELOAD"
        assert operator.row("CONFIG", key="default_pool_size")["value"] == "1"
        assert operator.say("SET verbose=2") == "SET verbose=2"
        assert operator.row("CONFIG", key="log_level")["value"] == "debug"
        refused = operator.refusal("SET listen_port = 1")
        assert "SET failed" in str(refused)
        assert refused.diag.message_hint == "listen_port changes only at a restart"
        assert "is not a setting" in str(operator.refusal("SET frobnicate = 1"))


def test_reload_says_what_is_wrong_and_changes_nothing(
    postgres: Postgres, tmp_path: Path, pgfunnel: StartFunnel
) -> None:
    file = tmp_path / "pgfunnel.toml"
    file.write_text("default_pool_size = 3\n")
    funnel = pgfunnel(admin_users="dave", args=("--config", str(file)))
    with Operator(funnel, "dave") as operator:
        file.write_text('default_pool_size = "lots"\n')
        refused = operator.refusal("RELOAD")
        assert "RELOAD failed, see logs for additional details" in str(refused)
        assert refused.sqlstate == "F0000"
        assert "default_pool_size" in str(refused.diag.message_hint)
        assert operator.row("CONFIG", key="default_pool_size")["value"] == "3"
        file.write_text("default_pool_size = 4\n")
        operator.say("RELOAD")
        assert operator.row("CONFIG", key="default_pool_size")["value"] == "4"


# -- SHUTDOWN ------------------------------------------------------------------------------


def test_shutdown_ends_it_at_once(start: Callable[..., Funnel]) -> None:
    funnel = start()
    with peer(funnel) as busy:
        busy.query("BEGIN")
        assert "shutting down" in Aside(funnel, "SHUTDOWN").wait()
        assert busy.error()["C"] == "57P01"
    assert funnel.wait() == 0


def test_shutdown_waits_for_servers(start: Callable[..., Funnel]) -> None:
    funnel = start(drain_timeout=0)
    with peer(funnel) as busy, peer(funnel) as idle, Operator(funnel, "dave") as operator:
        busy.query("BEGIN")
        assert operator.say("SHUTDOWN WAIT_FOR_SERVERS") == "SHUTDOWN"
        assert idle.error()["C"] == "57P01"
        with pytest.raises(psycopg.OperationalError, match="shutting down"):
            psycopg.connect(funnel.dsn("alice"))
        assert "pooler is shutting down" in str(operator.refusal("RESUME"))
        assert busy.rows("SELECT 1") == [[b"1"]]
        busy.query("COMMIT")
        assert funnel.wait() == 0


def test_shutdown_waits_for_clients(start: Callable[..., Funnel]) -> None:
    funnel = start()
    with peer(funnel) as client, Operator(funnel, "dave") as operator:
        assert operator.say("SHUTDOWN WAIT_FOR_CLIENTS") == "SHUTDOWN"
        with pytest.raises(psycopg.OperationalError, match="shutting down"):
            psycopg.connect(funnel.dsn("alice"))
        assert client.rows("SELECT 1") == [[b"1"]]
        with Operator(funnel, "dave") as late:
            assert late.row("POOLS", user="alice")["cl_active"] == 1
        client.socket.close()
        assert funnel.wait() == 0
