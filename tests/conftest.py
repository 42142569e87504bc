"""Fixtures of all tests: a real Postgres, the real proxy in front of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tests.funnel import Funnel, start_funnel
from tests.postgres import KINDS, Choice, NoPostgresError, Postgres, choose, local_bindir, start_own

_ORDER = ("unit", "property", "loadtest", "integration", "faults", "clients")
"""Fast ones first; then those that take long, so that no worker ends long before the other."""

_choice = pytest.StashKey[Choice]()


class StartPostgres(Protocol):
    def __call__(
        self, *, max_connections: int = ..., settings: dict[str, str] | None = ..., tls: bool = ...
    ) -> Postgres: ...


class StartFunnel(Protocol):
    def __call__(
        self,
        upstream: Postgres | None = ...,
        /,
        *,
        pure: bool = ...,
        args: tuple[str, ...] = ...,
        under: tuple[str, ...] = ...,
        **settings: object,
    ) -> Funnel: ...


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--postgres", choices=KINDS, help="use this kind of Postgres instead of the first found"
    )


def pytest_report_header(config: pytest.Config) -> str | None:
    if config.option.collectonly:
        return None
    try:
        return f"postgres: {_chosen(config)}"
    except NoPostgresError as reasons:
        return f"postgres: none ({reasons})"


def pytest_xdist_auto_num_workers() -> int:
    """Three at a time; one where they would share a Postgres that is not ours."""
    return 1 if "PGFUNNEL_TEST_DSN" in os.environ else 3


def pytest_unconfigure(config: pytest.Config) -> None:
    if _choice in config.stash:
        config.stash[_choice].stop()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In the order of `_ORDER`."""
    items.sort(key=lambda item: _rank(item.path))


def _rank(path: Path) -> int:
    ranks = [_ORDER.index(part) for part in path.parts if part in _ORDER]
    return ranks[-1] if ranks else len(_ORDER)


def _chosen(config: pytest.Config) -> Choice:
    if _choice not in config.stash:
        config.stash[_choice] = choose(config.getoption("--postgres"))
    return config.stash[_choice]


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest) -> Postgres:
    """The Postgres of this run, shared: leave its settings, roles and process alone."""
    try:
        return _chosen(request.config).start()
    except NoPostgresError as reasons:
        pytest.fail(f"the tests need a Postgres: {reasons}", pytrace=False)


@pytest.fixture
def start_postgres(request: pytest.FixtureRequest) -> Iterator[StartPostgres]:
    """Start Postgres servers of the test's own, to restart, kill, or configure."""
    started: list[Postgres] = []

    def start(
        *, max_connections: int = 100, settings: dict[str, str] | None = None, tls: bool = False
    ) -> Postgres:
        try:
            bindir = local_bindir(request.config.getoption("--postgres"))
            options = {"max_connections": max_connections, "settings": settings, "tls": tls}
            started.append(start_own("own", bindir, **options))  # type: ignore[arg-type]
        except NoPostgresError as reason:
            pytest.skip(str(reason))
        return started[-1]

    yield start
    for postgres in started:
        assert postgres.server is not None
        postgres.server.stop()


@pytest.fixture
def own_postgres(start_postgres: StartPostgres) -> Postgres:
    """A fresh Postgres that the test may restart or kill through `.server`."""
    return start_postgres()


@pytest.fixture
def tls_postgres(start_postgres: StartPostgres) -> Postgres:
    """A fresh Postgres with ssl=on; `.certificate` is its own CA."""
    return start_postgres(tls=True)


@pytest.fixture
def pgfunnel(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StartFunnel]:
    """Start the real proxy; settings are keyword arguments, e.g. `default_pool_size=5`."""
    started: list[Funnel] = []

    def start(
        upstream: Postgres | None = None,
        /,
        *,
        pure: bool = False,
        args: tuple[str, ...] = (),
        under: tuple[str, ...] = (),
        **settings: object,
    ) -> Funnel:
        upstream = upstream or request.getfixturevalue("postgres")
        folder = tmp_path / f"pgfunnel-{len(started)}"
        folder.mkdir()
        started.append(
            start_funnel(upstream, folder, pure=pure, args=args, under=under, **settings)
        )
        return started[-1]

    yield start
    for funnel in started:
        funnel.stop()
    for funnel in started:
        funnel.check()
