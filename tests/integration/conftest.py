"""Three ways to the same Postgres, for what must be equal on all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.certificates import Certificates, make_certificates
from tests.funnel import Funnel, start_funnel
from tests.postgres import Postgres

POOL_SIZE = 5


@pytest.fixture(scope="session")
def shared_funnels(
    postgres: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[bool], Funnel]]:
    """One proxy of each build for all tests that leave it as it is; few servers, so that
    every test meets servers that others have used."""
    running: dict[bool, Funnel] = {}

    def shared(pure: bool) -> Funnel:
        if pure not in running:
            folder = tmp_path_factory.mktemp("pgfunnel")
            running[pure] = start_funnel(postgres, folder, pure=pure, default_pool_size=POOL_SIZE)
        return running[pure]

    yield shared
    for funnel in running.values():
        funnel.stop()
    for funnel in running.values():
        funnel.check()


@pytest.fixture(params=["straight", "pgfunnel", "pure"])
def dsn(
    request: pytest.FixtureRequest,
    postgres: Postgres,
    shared_funnels: Callable[[bool], Funnel],
) -> str:
    """A DSN as alice: straight to Postgres, through the compiled proxy, through the pure one."""
    if request.param == "straight":
        return postgres.dsn_for("alice")
    return shared_funnels(request.param == "pure").dsn("alice")


@pytest.fixture
def funnel_dsn(shared_funnels: Callable[[bool], Funnel]) -> str:
    """A DSN as alice through the shared, compiled proxy."""
    return shared_funnels(False).dsn("alice")


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))
