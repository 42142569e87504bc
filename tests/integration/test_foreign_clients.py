"""Drivers of other languages, straight against Postgres and through the proxy.

The programs are in tests/clients/; each prints one JSON line per scenario. They are built where
their toolchain is found, and once for each state of their sources: the result is kept in pytest's
cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from tests.conftest import StartFunnel
from tests.postgres import Postgres

_SOURCES = Path(__file__).resolve().parent.parent / "clients"
_BUILD_SECONDS = 300
_RUN_SECONDS = 120
_CLIENTS = 100
_SPARE_CONNECTIONS = 20
_EVERY_DRIVER = frozenset(
    ["connect", "transactions", "prepared", "copy", "cancel", "errors", "hundred_at_once"]
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * _BUILD_SECONDS + _RUN_SECONDS)]


@dataclass(frozen=True)
class Toolchain:
    """How programs of one language are built; `{out}` stands for the folder of the result."""

    folder: str
    needs: tuple[str, ...]
    version: tuple[str, ...]
    at_least: tuple[int, int]
    fetch: str
    build: str
    run: str


_NODE = Toolchain(
    folder="node",
    needs=("node", "npm"),
    version=("node", "--version"),
    at_least=(20, 0),
    fetch="npm ci --loglevel=error --fetch-retries=1",
    build="node --check main.js",
    run="node {out}/main.js",
)
_GO = Toolchain(
    folder="go",
    needs=("go",),
    version=("go", "env", "GOVERSION"),
    at_least=(1, 25),
    fetch="go mod download",
    build="go build -buildvcs=false -o {out}/clients .",
    run="{out}/clients",
)
_JAVA = Toolchain(
    folder="java",
    needs=("java", "javac", "mvn"),
    version=("javac", "-version"),
    at_least=(17, 0),
    fetch="mvn -q -B dependency:resolve",
    build="mvn -q -B package",
    run="java -cp {out}/target/classes:{out}/target/lib/* clients.Main",
)
_DRIVERS = {
    "pg": "node_program",
    "postgres.js": "node_program",
    "pgx": "go_program",
    "pgxpool": "go_program",
    "pq": "go_program",
    "jdbc": "java_program",
}


@pytest.fixture(scope="session")
def builds(pytestconfig: pytest.Config) -> Path:
    return pytestconfig.cache.mkdir("clients")


@pytest.fixture(scope="session")
def node_program(builds: Path) -> list[str]:
    return _program(_NODE, builds)


@pytest.fixture(scope="session")
def go_program(builds: Path) -> list[str]:
    return _program(_GO, builds)


@pytest.fixture(scope="session")
def java_program(builds: Path) -> list[str]:
    return _program(_JAVA, builds)


@pytest.fixture
def program(request: pytest.FixtureRequest, driver: str) -> list[str]:
    """The command line that runs the scenarios of `driver`."""
    return [*request.getfixturevalue(_DRIVERS[driver]), driver]


@pytest.mark.parametrize("driver", _DRIVERS)
def test_straight(program: list[str], postgres: Postgres) -> None:
    limit = int(postgres.psql("SHOW max_connections")[0][0])
    _run_scenarios(program, postgres.dsn, min(_CLIENTS, limit - _SPARE_CONNECTIONS))


@pytest.mark.parametrize("driver", _DRIVERS)
def test_through_pgfunnel(program: list[str], pgfunnel: StartFunnel) -> None:
    _run_scenarios(program, pgfunnel(default_pool_size=8).dsn(), _CLIENTS)


def test_the_console_as_the_exporter_reads_it(go_program: list[str], pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(stats_users="alice", admin_users="bob")
    with psycopg.connect(funnel.dsn("bob")) as client:
        client.execute("SELECT 1")
        _run_scenarios(
            [*go_program, "console"],
            funnel.dsn("alice", database="pgbouncer"),
            clients=1,
            wanted=frozenset(["ping", "tables", "lists", "config", "version"]),
        )


def _program(toolchain: Toolchain, builds: Path) -> list[str]:
    _skip_if_missing(toolchain)
    sources = _SOURCES / toolchain.folder
    files = _source_files(sources)
    out = builds / f"{toolchain.folder}-{_digest(sources, files)}"
    if not out.exists():
        _forget(builds, toolchain)
        _build(toolchain, sources, files, out)
    return toolchain.run.format(out=out).split(" ")


def _skip_if_missing(toolchain: Toolchain) -> None:
    for tool in toolchain.needs:
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    words = subprocess.run(toolchain.version, capture_output=True, text=True, check=False)
    found = re.search(r"(\d+)\.(\d+)", words.stdout)
    if found is None or (int(found[1]), int(found[2])) < toolchain.at_least:
        wanted = ".".join(map(str, toolchain.at_least))
        pytest.skip(f"{toolchain.needs[0]} {wanted} or newer is needed: {words.stdout.strip()}")


def _source_files(sources: Path) -> list[Path]:
    products = {"node_modules", "target"}
    files = (path.relative_to(sources) for path in sorted(sources.rglob("*")) if path.is_file())
    return [file for file in files if not products & set(file.parts)]


def _digest(sources: Path, files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file}\0".encode() + (sources / file).read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _forget(builds: Path, toolchain: Toolchain) -> None:
    for old in builds.glob(f"{toolchain.folder}-*"):
        shutil.rmtree(old, ignore_errors=True)


def _build(toolchain: Toolchain, sources: Path, files: list[Path], out: Path) -> None:
    """Build in a copy of the sources, which appears as `out` only when it is complete."""
    work = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        for file in files:
            (work / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(sources / file, work / file)
        _command(toolchain.fetch, work, _skip_unfetched)
        _command(toolchain.build, work, lambda words: pytest.fail(words, pytrace=False))
        if not out.exists():
            work.rename(out)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _skip_unfetched(words: str) -> None:
    pytest.skip(f"cannot fetch packages: {' '.join(words.split())[:600]}")


def _command(command: str, work: Path, failed: Callable[[str], None]) -> None:
    arguments = command.format(out=work).split(" ")
    env = os.environ | {"GOTOOLCHAIN": "local"}
    try:
        done = subprocess.run(
            arguments,
            cwd=work,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_BUILD_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        failed(f"{command}: not finished after {_BUILD_SECONDS} s")
        return
    if done.returncode != 0:
        failed(f"{command}: exit code {done.returncode}\n{done.stdout[-4000:]}")


def _run_scenarios(
    program: list[str], dsn: str, clients: int, wanted: frozenset[str] = _EVERY_DRIVER
) -> None:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
    try:
        done = subprocess.run(
            program,
            env=clean | {"TARGET_DSN": dsn, "TARGET_CLIENTS": str(clients)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_RUN_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        pytest.fail(f"not finished after {_RUN_SECONDS} s: {late.stdout!r}", pytrace=False)
    _judge(done.stdout, done.stderr, done.returncode, wanted)


def _judge(lines: str, complaints: str, returncode: int, wanted: frozenset[str]) -> None:
    reports = [json.loads(line) for line in lines.splitlines()]
    failures = [f"{r['scenario']}: {r['detail']}" for r in reports if not r["ok"]]
    missing = wanted - {report["scenario"] for report in reports}
    if missing:
        failures.append(f"did not run: {', '.join(sorted(missing))}")
    if returncode != 0:
        failures.append(f"exit code {returncode} {complaints[-2000:]}")
    if failures:
        pytest.fail("\n".join(failures), pytrace=False)
