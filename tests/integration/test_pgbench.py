"""pgbench, 200 clients on 20 servers, in each of its query modes."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.conftest import StartFunnel, StartPostgres
from tests.integration.observe import Watch, failed_logins
from tests.postgres import Postgres, local_bindir

CLIENTS, SERVERS = 200, 20


@pytest.fixture(scope="module")
def pgbench() -> str:
    beside = local_bindir() / "pgbench"
    found = str(beside) if beside.exists() else shutil.which("pgbench")
    if found is None:
        pytest.skip("pgbench is not installed")
    return str(found)


@pytest.fixture
def benched(start_postgres: StartPostgres, pgbench: str) -> Postgres:
    postgres = start_postgres(max_connections=SERVERS + 10)
    subprocess.run(
        [pgbench, "-i", "-q", "-s", "2", postgres.dsn_for("alice")],
        check=True,
        capture_output=True,
        timeout=30,
    )
    return postgres


def test_no_error_in_any_query_mode(benched: Postgres, pgfunnel: StartFunnel, pgbench: str) -> None:
    funnel = pgfunnel(benched, default_pool_size=SERVERS)
    with Watch(benched, "alice") as watch:
        for mode in ("simple", "extended", "prepared"):
            done = run(pgbench, funnel.dsn("alice"), "-M", mode, "-b", "tpcb-like", "-t", "15")
            assert "number of failed transactions: 0" in done
            assert f"transactions actually processed: {CLIENTS * 15}/{CLIENTS * 15}" in done
    assert 1 < watch.most["alice"] <= SERVERS
    assert failed_logins(funnel) == 0


def test_a_connection_for_each_transaction(
    benched: Postgres, pgfunnel: StartFunnel, pgbench: str
) -> None:
    funnel = pgfunnel(benched, default_pool_size=SERVERS)
    done = run(pgbench, funnel.dsn("alice"), "-C", "-S", "-t", "3")
    assert f"transactions actually processed: {CLIENTS * 3}/{CLIENTS * 3}" in done


def run(pgbench: str, dsn: str, *args: str) -> str:
    # One thread a client: pgbench waits for PQprepare with the whole thread, and would hold up
    # the very clients in mid-transaction whose servers it waits for.
    command = [pgbench, "-n", "-c", str(CLIENTS), "-j", str(CLIENTS), *args, dsn]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert "ERROR" not in done.stderr
    assert "FATAL" not in done.stderr
    return done.stdout
