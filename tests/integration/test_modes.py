"""Session and statement pooling."""

from __future__ import annotations

import contextlib

import psycopg
import pytest

from proxy.wire import messages
from tests.conftest import StartFunnel
from tests.funnel import Funnel
from tests.integration.peer import Peer
from tests.postgres import USERS

PID = "SELECT pg_backend_pid()"


def logged_in(funnel: Funnel) -> Peer:
    return Peer(funnel.host, funnel.port).log_in("alice", funnel.upstream.database, USERS["alice"])


@pytest.mark.parametrize("pure", [False, True])
def test_a_session_keeps_its_server(pgfunnel: StartFunnel, pure: bool) -> None:
    funnel = pgfunnel(pool_mode="session", default_pool_size=2, pure=pure)
    with logged_in(funnel) as one, logged_in(funnel) as two:
        one.query("CREATE TEMP TABLE mine (n int); SET work_mem = '7MB'")
        pids = {str(one.rows(PID)) for _ in range(5)}
        assert len(pids) == 1
        assert str(two.rows(PID)) not in pids
        assert one.rows("SHOW work_mem") == [[b"7MB"]]
        assert two.rows("SHOW work_mem") != [[b"7MB"]]
        assert one.rows("SELECT count(*) FROM mine") == [[b"0"]]


@pytest.mark.parametrize("goodbye", ["close", "reset"])
def test_nothing_of_a_session_is_left(pgfunnel: StartFunnel, goodbye: str) -> None:
    funnel = pgfunnel(pool_mode="session", default_pool_size=1)
    one = logged_in(funnel)
    pid = one.rows(PID)
    one.query("CREATE TEMP TABLE mine (n int); SET work_mem = '7MB'; PREPARE p AS SELECT 1")
    one.query("SELECT pg_advisory_lock(1); LISTEN news")
    if goodbye == "reset":
        one.query("BEGIN")
    one.reset() if goodbye == "reset" else one.socket.close()
    with logged_in(funnel) as two:
        assert two.rows(PID) == pid
        assert two.rows("SHOW work_mem") != [[b"7MB"]]
        held = "SELECT to_regclass('mine') IS NULL, (SELECT count(*) FROM pg_prepared_statements),"
        held += " (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
        held += "  AND pid = pg_backend_pid()), (SELECT count(*) FROM pg_listening_channels())"
        assert two.rows(held) == [[b"t", b"0", b"0", b"0"]]


BLOCKLESS = "transaction blocks not allowed in statement pooling mode"


@pytest.mark.parametrize("pure", [False, True])
@pytest.mark.parametrize("block, kinds", [("BEGIN", b"E"), ("BEGIN; SELECT nonsense", b"CEE")])
def test_statement_pooling_refuses_transaction_blocks(
    pgfunnel: StartFunnel, pure: bool, block: str, kinds: bytes
) -> None:
    funnel = pgfunnel(pool_mode="statement", default_pool_size=1, pure=pure)
    with logged_in(funnel) as one:
        assert one.rows("SELECT 1") == [[b"1"]]
        one.send(messages.query(block.encode()))
        told = []
        with contextlib.suppress(EOFError):
            while True:
                told.append(one.message())
        assert b"".join(kind for kind, _ in told) == kinds
        refused = messages.read_error(told[-1][1])
        assert (refused["C"], refused["M"]) == ("0A000", BLOCKLESS)
    connection = psycopg.connect(funnel.dsn("alice"))
    with pytest.raises(psycopg.Error, match=BLOCKLESS):
        connection.execute("SELECT 1")
    with logged_in(funnel) as two:
        assert two.rows("SELECT pg_current_xact_id_if_assigned() IS NULL") == [[b"t"]]


def test_a_database_with_a_mode_of_its_own(
    pgfunnel: StartFunnel, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("config") / "pgfunnel.toml"
    file.write_text('[databases.kept]\ndbname = "postgres"\npool_mode = "session"\npool_size = 2\n')
    funnel = pgfunnel(args=("--config", str(file)))
    for database, same in (("kept", 1), ("", 2)):
        dsn = funnel.dsn("alice", database=database)
        with psycopg.connect(dsn, autocommit=True) as one, psycopg.connect(dsn) as two:
            pids = {one.execute(PID).fetchone()}
            two.execute("SELECT 1")
            pids.add(one.execute(PID).fetchone())
            assert len(pids) == same
