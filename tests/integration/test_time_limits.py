"""Time limits of queries, transactions and clients; what a waiting client is told."""

from __future__ import annotations

import re

import pytest

from proxy.wire import messages
from tests.conftest import StartFunnel
from tests.funnel import Funnel
from tests.integration.observe import pool_metric, until
from tests.integration.peer import Peer
from tests.postgres import USERS, Postgres

SLEEP = "SELECT pg_sleep(600)"


def log_in(funnel: Funnel, user: str = "alice", database: str = "", **parameters: str) -> Peer:
    peer = Peer(funnel.host, funnel.port)
    database = database or funnel.upstream.database
    return peer.log_in(user, database, USERS[user], **parameters)


def running(postgres: Postgres, sql: str = SLEEP) -> int:
    """How many backends run this statement."""
    found = postgres.psql(
        "SELECT count(*) FROM pg_stat_activity WHERE query = %s AND state = 'active'", sql
    )
    return int(found[0][0])


def backend(peer: Peer) -> bytes:
    return peer.rows("SELECT pg_backend_pid()")[0][0] or b""


# -- query_timeout -------------------------------------------------------------------------


def test_a_query_that_runs_too_long(pgfunnel: StartFunnel, postgres: Postgres) -> None:
    funnel = pgfunnel(query_timeout=0.3, default_pool_size=1)
    with log_in(funnel) as slow, log_in(funnel) as other:
        before = backend(other)
        slow.send(messages.query(SLEEP.encode()))
        error = slow.error()
        assert (error["S"], error["C"], error["M"]) == ("FATAL", "57014", "query timeout")
        assert slow.ended()
        until(lambda: running(postgres) == 0)
        assert backend(other) == before
    until(lambda: "query_timeout" in funnel.log())


@pytest.mark.parametrize("protocol", ["parse", "in a transaction", "pipeline"])
def test_however_it_is_asked(pgfunnel: StartFunnel, postgres: Postgres, protocol: str) -> None:
    funnel = pgfunnel(query_timeout=0.3, default_pool_size=1)
    bind = messages.message(b"B", b"\0\0\0\0\0\0\0\0") + messages.message(b"E", b"\0\0\0\0\0")
    with log_in(funnel) as slow:
        if protocol == "in a transaction":
            slow.query("BEGIN")
            slow.send(messages.query(SLEEP.encode()))
        else:
            again = b"" if protocol == "parse" else bind
            slow.send(messages.parse(b"", SLEEP.encode() + b"\0\0\0") + bind + again, messages.SYNC)
        assert slow.error()["C"] == "57014"
    until(lambda: running(postgres) == 0)
    with log_in(funnel) as other:
        assert other.rows("SELECT 1") == [[b"1"]]


def test_time_between_queries_does_not_count(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(query_timeout=0.6, default_pool_size=1)
    with log_in(funnel) as peer:
        peer.query("BEGIN")
        for _ in range(4):
            assert peer.rows("SELECT 1 FROM pg_sleep(0.3)") == [[b"1"]]
        with log_in(funnel) as waiting:
            waiting.send(messages.query(b"SELECT 2"))
            peer.rows("SELECT pg_sleep(0.4)")
            peer.rows("SELECT pg_sleep(0.4)")
            peer.query("COMMIT")
            assert waiting.until(b"Z")[1][0] == b"D"


def test_rows_in_mid_message_are_followed_by_nothing(pgfunnel: StartFunnel) -> None:
    """A client that is in the middle of a row would read words of ours as the rest of it."""
    funnel = pgfunnel(query_timeout=1.5)
    with log_in(funnel) as peer:
        peer.send(messages.query(b"SELECT repeat('x', 50000000)"))
        until(lambda: "query_timeout" in funnel.log())
        assert peer.message()[0] == b"T"
        found = peer.octets(6)
        try:
            while more := peer.socket.recv(1 << 20):
                found += more
        except ConnectionError:
            pass
        assert found[:1] == b"D"
        assert b"query timeout" not in found


def test_limits_of_a_user_and_a_database(pgfunnel: StartFunnel, postgres: Postgres) -> None:
    funnel = pgfunnel(
        query_timeout=0.2,
        users={"bob": {"query_timeout": 0}},
        databases={
            "short": {"dbname": postgres.database, "idle_transaction_timeout": 0.2},
            "*": {"dbname": postgres.database},
        },
    )
    with log_in(funnel, "bob") as patient, log_in(funnel) as hasty:
        patient.send(messages.query(b"SELECT 1 FROM pg_sleep(0.8)"))
        hasty.send(messages.query(b"SELECT 1 FROM pg_sleep(0.8)"))
        assert hasty.error()["C"] == "57014"
        assert patient.until(b"Z")[1][0] == b"D"
    with log_in(funnel, "bob", "short") as peer:
        peer.query("BEGIN")
        assert peer.error()["C"] == "25P03"


# -- transaction_timeout -------------------------------------------------------------------


def test_a_transaction_that_takes_too_long(pgfunnel: StartFunnel, postgres: Postgres) -> None:
    postgres.psql("DROP TABLE IF EXISTS too_long; CREATE TABLE too_long (i int)")
    postgres.psql("GRANT ALL ON too_long TO alice")
    funnel = pgfunnel(transaction_timeout=0.5, default_pool_size=1)
    with log_in(funnel) as peer, log_in(funnel) as other:
        before = backend(other)
        peer.query("BEGIN")
        peer.query("INSERT INTO too_long VALUES (1)")
        error = peer.error()
        assert (error["C"], error["M"]) == ("25P04", "transaction timeout")
        assert other.rows("SELECT count(*) FROM too_long") == [[b"0"]]
        assert backend(other) == before


def test_many_transactions_of_a_pinned_client(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(transaction_timeout=0.5)
    with log_in(funnel) as peer:
        peer.query("LISTEN something")
        for _ in range(5):
            peer.rows("SELECT pg_sleep(0.2)")
        peer.query("BEGIN")
        assert peer.error()["C"] == "25P04"


# -- idle clients --------------------------------------------------------------------------


def test_an_idle_client_of_a_user(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(users={"bob": {"client_idle_timeout": 0.2}})
    with log_in(funnel) as patient, log_in(funnel, "bob") as idle:
        error = idle.error()
        assert (error["C"], error["M"]) == ("57P05", "client_idle_timeout")
        assert patient.rows("SELECT 1") == [[b"1"]]


# -- waiting -------------------------------------------------------------------------------


def test_a_client_that_waits_is_told(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=1, query_wait_notify=0.3)
    with log_in(funnel) as busy, log_in(funnel) as waiting:
        for _ in range(2):
            busy.query("BEGIN")
            waiting.send(messages.query(b"SELECT 1"))
            kind, body = waiting.message()
            assert kind == b"N"
            words = "No server connection available in postgres backend, client being queued"
            assert messages.read_error(body)["M"] == words
            busy.query("COMMIT")
            assert [kind for kind, _ in waiting.until(b"Z")] == [b"T", b"D", b"C", b"Z"]
        busy.query("BEGIN")
        waiting.send(messages.query(b"SELECT 1"))
        busy.query("COMMIT")
        assert waiting.message()[0] == b"T"


# -- servers -------------------------------------------------------------------------------


@pytest.mark.parametrize("query", ["DISCARD ALL", "RESET ALL"])
def test_a_reset_query_in_transaction_pooling(pgfunnel: StartFunnel, query: str) -> None:
    funnel = pgfunnel(default_pool_size=1, server_reset_query=query, server_reset_query_always=True)
    with log_in(funnel) as peer, log_in(funnel) as other:
        peer.query("SET work_mem = '3MB'")
        peer.query("SET \"my.own\" = 'mine'")
        assert other.rows("SELECT current_setting('my.own', true)") != [[b"mine"]]
        assert other.rows("SHOW work_mem") != [[b"3MB"]]
        assert peer.rows("SHOW work_mem") == [[b"3MB"]]
        assert peer.rows("SELECT current_setting('my.own', true)") == [[b"mine"]]
        peer.send(messages.parse(b"s", b"SELECT 1\0\0\0"), messages.SYNC)
        peer.until(b"Z")
        other.rows("SELECT 1")
        peer.send(
            messages.message(b"B", b"\0s\0\0\0\0\0\0\0"), messages.message(b"E", b"\0\0\0\0\0")
        )
        peer.send(messages.SYNC)
        assert [kind for kind, _ in peer.until(b"Z")] == [b"2", b"D", b"C", b"Z"]


def test_a_query_for_each_new_server(pgfunnel: StartFunnel, postgres: Postgres) -> None:
    entry = {"dbname": postgres.database, "connect_query": "SET \"my.own\" = 'there'"}
    funnel = pgfunnel(databases={"asked": entry})
    with log_in(funnel, database="asked") as peer:
        assert peer.rows("SELECT current_setting('my.own')") == [[b"there"]]


def test_a_query_that_fails_is_passed_over(pgfunnel: StartFunnel, postgres: Postgres) -> None:
    entry = {"dbname": postgres.database, "connect_query": "SELECT nonsense"}
    funnel = pgfunnel(databases={"asked": entry})
    with log_in(funnel, database="asked") as peer:
        assert peer.rows("SELECT 1") == [[b"1"]]
    assert re.search("WARNING asked/alice connect_query_failed .*nonsense.* does not", funnel.log())


@pytest.mark.parametrize("query", ["BEGIN", "BEGIN; SELECT nonsense", "COPY pg_class TO STDOUT"])
def test_a_query_that_leaves_something_open_is_told(
    pgfunnel: StartFunnel, postgres: Postgres, query: str
) -> None:
    entry = {"dbname": postgres.database, "connect_query": query}
    before = postgres.client_backends("alice")
    funnel = pgfunnel(databases={"asked": entry}, upstream_grace=0.1)
    with Peer(funnel.host, funnel.port) as peer:
        refused = peer.refusal("alice", "asked", USERS["alice"])
    assert "connect_query" in refused["M"]
    until(lambda: postgres.client_backends("alice") <= before)


def test_the_host_in_the_application_name(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(application_name_add_host=True, default_pool_size=1)
    with (
        log_in(funnel, application_name="web") as named,
        log_in(funnel) as unnamed,
    ):
        for peer, name in ((named, "web"), (unnamed, "app")):
            host, port = peer.socket.getsockname()
            wanted = f"{name} - {host}:{port}".encode()
            assert peer.rows("SHOW application_name") == [[wanted]]
            peer.query("RESET ALL")
            assert peer.rows("SHOW application_name") == [[wanted]]
    assert pool_metric(funnel, "pgfunnel_pool_clients") >= 0
