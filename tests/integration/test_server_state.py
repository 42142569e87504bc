"""What lives in a server alone: a client keeps its server for it, nobody gets that afterwards."""

from __future__ import annotations

import json

import psycopg
import pytest

from tests.conftest import StartFunnel, StartPostgres
from tests.funnel import Funnel
from tests.integration.observe import until
from tests.postgres import Postgres


@pytest.fixture
def upstream(start_postgres: StartPostgres) -> Postgres:
    postgres = start_postgres(settings={"wal_level": "logical"})
    postgres.psql("CREATE SCHEMA fast; SELECT pg_replication_origin_create('origin')")
    return postgres


def client(funnel: Funnel) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(funnel.dsn(), autocommit=True)


def pins(funnel: Funnel) -> list[str]:
    return [pin["reason"] for pin in json.loads(funnel.get("/pins"))["pinned"]]


ORIGIN = "SELECT pg_replication_origin_session_is_setup()"
SLOTS = "SELECT count(*) > 0 FROM pg_replication_slots"
CALLS = [
    ("SELECT pg_replication_origin_session_setup('origin')", ORIGIN),
    ("SELECT pg_create_physical_replication_slot('s', true, true)", SLOTS),
    ("SELECT pg_create_logical_replication_slot('s', 'test_decoding', true)", SLOTS),
]


@pytest.mark.parametrize("sql, seen", CALLS)
def test_it_is_its_clients_and_goes_with_it(
    pgfunnel: StartFunnel, upstream: Postgres, sql: str, seen: str
) -> None:
    funnel = pgfunnel(upstream, default_pool_size=2)
    with client(funnel) as other:
        with client(funnel) as one:
            backend = one.execute("SELECT pg_backend_pid()").fetchone()
            one.execute(sql)
            assert pins(funnel) == ["server_state"]
            assert other.execute("SELECT pg_backend_pid()").fetchone() != backend
            assert one.execute(seen).fetchone() == (True,)
            assert one.execute("SELECT pg_backend_pid()").fetchone() == backend
        until(lambda: other.execute(seen).fetchone() == (False,))
        assert other.execute("SELECT pg_backend_pid()").fetchone() != backend
    assert "server_state" in funnel.log()


def test_nobody_ends_the_backup_of_another(pgfunnel: StartFunnel, upstream: Postgres) -> None:
    funnel = pgfunnel(upstream, default_pool_size=2)
    with client(funnel) as one, client(funnel) as other:
        version = one.info.server_version
        begin, end = (
            ("backup_start", "backup_stop")
            if version >= 150000
            else (
                "start_backup",
                "stop_backup",
            )
        )
        more = "" if version >= 150000 else ", false"
        one.execute(f"SELECT pg_{begin}('x', true{more})")
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
            other.execute(f"SELECT pg_{end}({more.removeprefix(', ')})")
        one.execute(f"SELECT pg_{end}({more.removeprefix(', ')})")


def test_connections_of_dblink(pgfunnel: StartFunnel, upstream: Postgres) -> None:
    try:
        upstream.psql("CREATE EXTENSION dblink SCHEMA fast")
    except Exception as reason:  # noqa: BLE001 - whatever psql makes of it
        pytest.skip(f"no dblink: {reason}")
    funnel = pgfunnel(upstream, default_pool_size=2)
    known = "SELECT fast.dblink_get_connections()"
    with client(funnel) as other:
        with client(funnel) as one:
            one.execute("SELECT fast.dblink_connect('there', %s)", (upstream.dsn,))
            assert other.execute(known).fetchone() == (None,)
            assert one.execute(known).fetchone() == (["there"],)
        until(lambda: pins(funnel) == [])
        for _ in range(3):
            assert other.execute(known).fetchone() == (None,)


def test_a_slot_that_lasts_is_no_reason(pgfunnel: StartFunnel, upstream: Postgres) -> None:
    funnel = pgfunnel(upstream, default_pool_size=1, query_wait_timeout=2)
    with client(funnel) as one, client(funnel) as other:
        one.execute("SELECT pg_create_physical_replication_slot('lasting')")
        assert other.execute(SLOTS).fetchone() == (True,)
        other.execute("SELECT pg_drop_replication_slot('lasting')")


def test_the_limit_of_pg_trgm_is_a_parameter(pgfunnel: StartFunnel, upstream: Postgres) -> None:
    try:
        upstream.psql("CREATE EXTENSION pg_trgm SCHEMA fast")
    except Exception as reason:  # noqa: BLE001
        pytest.skip(f"no pg_trgm: {reason}")
    funnel = pgfunnel(upstream, default_pool_size=1, query_wait_timeout=2)
    with client(funnel) as one, client(funnel) as other:
        one.execute("SELECT fast.set_limit(0.75)")
        assert other.execute("SELECT fast.show_limit() < 0.5").fetchone() == (True,)
        assert one.execute("SELECT fast.show_limit()").fetchone() == (0.75,)
