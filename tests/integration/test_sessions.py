"""A hundred sessions on eight servers: none sees another's state, none loses its own.

`PGFUNNEL_TEST_SECONDS` makes it longer or shorter, `PGFUNNEL_TEST_SEED` makes it begin elsewhere.
"""

from __future__ import annotations

import os

import pytest

from tests.conftest import StartFunnel, StartPostgres
from tests.sessions.runner import run
from tests.sessions.world import Tally

SECONDS = float(os.environ.get("PGFUNNEL_TEST_SECONDS", "60"))
SEED = int(os.environ.get("PGFUNNEL_TEST_SEED", "1"))
CLIENTS = 100
POOL_SIZE = 8
_CONTROL_SECONDS = 10.0
_ENDING_SECONDS = 120


@pytest.fixture(params=[SECONDS])
def seconds(request: pytest.FixtureRequest) -> float:
    """How long the clients work on pgfunnel."""
    return float(request.param)


def _clean(tally: Tally, checks: int) -> None:
    report = f"seed {SEED}\n{tally.table()}\n" + "\n".join(tally.stories)
    assert tally.wrong.total() == 0, report
    assert tally.errors.total() == 0, report
    assert tally.checks.total() > checks, report


def test_the_model_is_right(start_postgres: StartPostgres) -> None:
    """Straight to Postgres nothing is wrong: what fails below is not the model's fault."""
    postgres = start_postgres(max_connections=3 * CLIENTS)
    tally = run(postgres.dsn, postgres.dsn, seconds=_CONTROL_SECONDS, clients=CLIENTS, seed=SEED)
    _clean(tally, checks=500)


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + _ENDING_SECONDS)
def test_sessions_on_few_servers(
    start_postgres: StartPostgres, pgfunnel: StartFunnel, seconds: float
) -> None:
    """A fifth of the servers is audited, and found to be as believed."""
    postgres = start_postgres()
    funnel = pgfunnel(postgres, default_pool_size=POOL_SIZE, session_audit=0.2)
    tally = run(funnel.dsn(), postgres.dsn, seconds=seconds, clients=CLIENTS, seed=SEED)
    _clean(tally, checks=int(20 * seconds))
    leaks = {k: n for k, n in funnel.metrics().items() if k.startswith("pgfunnel_leaks_total")}
    assert not leaks, leaks
