"""Runs every step on every path and keeps what was found."""

from __future__ import annotations

import contextlib
import os
import platform
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import psutil  # type: ignore[import-untyped]
import psycopg

from loadtest.bench.children import find_program, server_bindir
from loadtest.bench.probe import cpu_seconds
from loadtest.lab import LabError
from loadtest.lab.findings import Findings, PathCheck
from loadtest.lab.generator import Generators, Load, generating, processes
from loadtest.lab.paths import Open, Target, Way
from loadtest.lab.steps import Result, Step
from loadtest.lab.stopping import Stopping
from loadtest.lab.tally import Tally, added, collect
from loadtest.lab.totals import read_totals
from loadtest.lab.watch import Watch
from loadtest.lab.workloads import DROP, SETUP, SHARES
from proxy.demo.embedded import EmbeddedPostgres
from proxy.demo.folders import OwnedFolder

_ROLE = _DATABASE = "lab"
_POLL_SECONDS = 0.05
_SETTLE_SECONDS = 10.0
_AWAY_SECONDS = 1.0
_NEVER = float("inf")


@dataclass(frozen=True)
class Plan:
    """What to run. Without a `dsn` the Postgres is embedded, with `max_connections`."""

    steps: Sequence[Step]
    ways: Sequence[Way]
    pool_size: int
    session_state: Literal["auto", "yes", "no"]
    dsn: str = ""
    max_connections: int = 75


def findings_of(plan: Plan) -> Findings:
    """Empty findings, with what a reader must know of the circumstances."""
    circumstances: dict[str, Any] = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.platform()}, {os.cpu_count()} CPUs",
        "load_average": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "paths": {way.label: way.version for way in plan.ways},
    }
    return Findings(circumstances, plan.pool_size, bounded=not plan.dsn)


def compare(plan: Plan, findings: Findings, stopping: Stopping, keep: Callable[[], None]) -> None:
    """Everything, into `findings`, which is given to `keep` after each step.

    Raises LabError, EmbeddedPostgresError, BenchError and Stopped.
    """
    with _own_folder() as folder, _postgres(plan, folder) as place:
        findings.limit, version = _limit(place.admin_dsn)
        findings.circumstances["postgres"] = version
        for way in plan.ways:
            _Path(plan, way, place, findings, stopping).run(keep)


@contextlib.contextmanager
def _own_folder() -> Iterator[Path]:
    folder = OwnedFolder("pgfunnel-lab-", tempfile.gettempdir())
    # The account that PgBouncer runs under must reach its files, which are private themselves.
    folder.path.chmod(0o755)
    try:
        yield folder.path
    finally:
        folder.remove()


@dataclass(frozen=True)
class _Place:
    """A Postgres: how functions reach it, how the lab watches it, itself if it may be restarted."""

    target: Target
    admin_dsn: str
    server: EmbeddedPostgres | None = None


def _postgres(plan: Plan, folder: Path) -> contextlib.AbstractContextManager[_Place]:
    return _given(plan, folder) if plan.dsn else _embedded(plan, folder)


@contextlib.contextmanager
def _given(plan: Plan, folder: Path) -> Iterator[_Place]:
    try:
        yield _Place(Target(plan.dsn, folder, plan.pool_size, encrypts=False), plan.dsn)
    finally:
        with contextlib.suppress(LabError), _administering(plan.dsn) as admin:
            admin.execute(DROP)


@contextlib.contextmanager
def _embedded(plan: Plan, folder: Path) -> Iterator[_Place]:
    """Debian's build where it is installed: it takes TLS, which the wheel's does not."""
    _say("starting Postgres")
    bindir = server_bindir()
    encrypts = bindir is not None and find_program("openssl") is not None
    target = Target("postgresql://x:x@127.0.0.1/x", folder, plan.pool_size, encrypts)
    files = _tls_files(target) if encrypts else {}
    settings = {"ssl": "on"} if encrypts else {}
    server = EmbeddedPostgres(plan.max_connections, settings, bindir, files=files)
    with server:
        password = secrets.token_urlsafe(18)
        with _administering(server.dsn) as admin:
            admin.execute(f"CREATE ROLE {_ROLE} LOGIN PASSWORD '{password}'")
            admin.execute(f"CREATE DATABASE {_DATABASE} OWNER {_ROLE}")
            verifier = _verifier(admin)
        place = f"{server.host}:{server.port}/{_DATABASE}"
        dsn = f"postgresql://{_ROLE}:{password}@{place}?sslmode=disable"
        target = replace(target, dsn=dsn, verifier=verifier)
        yield _Place(target, server.dsn.rpartition("/")[0] + f"/{_DATABASE}", server)


def _verifier(admin: psycopg.Connection[tuple[Any, ...]]) -> str:
    kept = "SELECT rolpassword FROM pg_authid WHERE rolname = %s"
    row = admin.execute(kept, (_ROLE,)).fetchone()
    assert row is not None
    return str(row[0])


def _tls_files(target: Target) -> dict[str, bytes]:
    key, cert = target.site().certificate()
    return {"server.key": key.read_bytes(), "server.crt": cert.read_bytes()}


def _administering(dsn: str) -> psycopg.Connection[tuple[Any, ...]]:
    try:
        return psycopg.connect(dsn, autocommit=True, connect_timeout=10)
    except psycopg.Error as error:
        raise LabError(f"Postgres cannot be reached: {str(error).strip()}") from None


def _limit(dsn: str) -> tuple[int, str]:
    """max_connections and the version."""
    with _administering(dsn) as admin:
        row = admin.execute(
            "SELECT current_setting('max_connections')::int, current_setting('server_version')"
        ).fetchone()
    assert row is not None
    return int(row[0]), str(row[1])


class _Path:
    """All steps of one path, on tables of their own."""

    def __init__(
        self, plan: Plan, way: Way, place: _Place, findings: Findings, stopping: Stopping
    ) -> None:
        self._way = way
        self._place = place
        self._findings = findings
        self._stopping = stopping
        kept = plan.session_state
        self._session_state = way.session_state if kept == "auto" else kept == "yes"
        self._workloads = [name for name in SHARES if way.prepared or name != "prepared"]
        self._steps = [step for step in plan.steps if self._possible(step)]
        self._whole = True

    def _possible(self, step: Step) -> bool:
        return step.only in ("", self._way.label) and not (
            step.restarts and self._place.server is None
        )

    def run(self, keep: Callable[[], None]) -> None:
        self._note()
        self._renew_tables()
        try:
            with self._way.opened(self._place.target) as door:
                for step in self._steps:
                    self._settle()
                    self._measure(step, door)
                    keep()
        finally:
            self._check_totals()

    def _note(self) -> None:
        label, notes = self._way.label, self._findings.notes
        if not self._session_state:
            notes.append(
                f"{label}: functions used SET LOCAL only: it is not asked to keep the session "
                "state of one client from another"
            )
        if not self._way.prepared:
            notes.append(
                f"{label}: without the workload of prepared statements, which "
                f"{self._way.version} does not support in transaction mode"
            )

    def _renew_tables(self) -> None:
        with _administering(self._place.target.dsn) as owner:
            owner.execute(DROP)
            owner.execute(SETUP)

    def _settle(self) -> None:
        """Wait until Postgres has seen the functions of the step before leave."""
        most = 0 if self._way.label == "straight" else self._findings.pool_size
        deadline = time.monotonic() + _SETTLE_SECONDS
        count = "SELECT count(*) FROM pg_stat_activity WHERE usename = %s AND pid <> %s"
        with _administering(self._place.admin_dsn) as admin:
            while time.monotonic() < deadline:
                self._stopping.check()
                arguments = (self._place.target.user, admin.info.backend_pid)
                row = admin.execute(count, arguments).fetchone()
                if row is not None and row[0] <= most:
                    return
                time.sleep(_POLL_SECONDS)

    def _measure(self, step: Step, door: Open) -> None:
        result = Result(self._way.label, step, Tally())
        self._findings.results.append(result)
        folder = Path(tempfile.mkdtemp(prefix="step-", dir=self._place.target.folder))
        load = Load(door.dsn, self._session_state, self._workloads, folder)
        watch = Watch(self._place.admin_dsn, self._place.target.user, door.crowd)
        used = _cpu(door)
        psutil.cpu_percent()  # since the call before
        try:
            with watch, generating(step, load) as generators:
                self._attend(generators, result)
        except BaseException:
            result.cut = True
            raise
        finally:
            result.tally, result.samples = collect(folder), watch.samples
            result.machine_busy, result.pooler_cpu = psutil.cpu_percent() / 100, _cpu(door) - used
            ended = [generator.ended for generator in result.tally.generators]
            complete = len(ended) == processes(step.functions)
            self._whole = self._whole and complete and all(ended)
            _say(_line(result))
        if not complete:
            raise LabError(f"a generator left no tally; its log:\n{generators.last_words()}")

    def _attend(self, generators: Generators, result: Result) -> None:
        """Until the load has ended; Postgres is restarted when the step says so."""
        after, due = result.step.restart_after, _NEVER
        while generators.running():
            time.sleep(_POLL_SECONDS)
            self._stopping.check()
            if generators.begun and after is not None:
                due, after = time.monotonic() + after, None
            if time.monotonic() >= due:
                due, result.event = _NEVER, time.time()
                assert self._place.server is not None
                self._place.server.restart(_AWAY_SECONDS)

    def _check_totals(self) -> None:
        tally = added(r.tally for r in self._findings.results if r.path == self._way.label)
        begun = tally.checkouts_begun if self._whole else None
        try:
            totals = read_totals(self._place.admin_dsn)
        except psycopg.Error as error:
            self._findings.notes.append(f"{self._way.label}: totals not checked: {error}".strip())
            return
        faults = totals.faults(begun, tally.checkouts_done)
        self._findings.checks.append(PathCheck(self._way.label, totals, faults))


def _cpu(door: Open) -> float:
    """CPU seconds of the pooler so far."""
    return 0.0 if door.pid is None else cpu_seconds(door.pid)


def _line(result: Result) -> str:
    tally = result.tally
    p95 = tally.latency.percentile(95)
    return (
        f"{result.path:>9}, {result.step.name:<13} {tally.invocations:>6,} invocations, "
        f"{result.failures:>6,} failed, {result.peak:>3} connections at most, "
        f"p95 {'-' if p95 is None else f'{p95:,.0f} ms'}"
        f"{f'  ({result.bottleneck} saturated)' if result.bottleneck else ''}"
        f"{'  (cut short)' if result.cut else ''}"
    )


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)
