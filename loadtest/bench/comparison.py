"""Runs the cases on both proxies in turn: A B A B …"""

import secrets
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from loadtest.bench import BenchError, pgbench
from loadtest.bench.cases import Case, Stand, address_behind, warm
from loadtest.bench.children import server_bindir
from loadtest.bench.proxies import Door, Proxy, Site
from loadtest.bench.report import Row
from loadtest.bench.samples import Sample
from loadtest.bench.scram import verifier
from loadtest.bench.visits import Address, Client, askers, newcomers, run
from proxy.demo.embedded import EmbeddedPostgres

USER = DATABASE = "bench"
_SPARE_CONNECTIONS = 20
# The bench's own clients come from all of 127.0.0.0/8.
_LOOPBACK_CLIENTS = "host all all 127.0.0.0/8 scram-sha-256"


@dataclass(frozen=True)
class Plan:
    """What to run, on whom, how often and how long."""

    proxies: Sequence[Proxy]
    cases: Sequence[Case]
    runs: int
    seconds: int
    pool_size: int
    pgbench: str | None


def compare(plan: Plan) -> Iterator[Row]:
    """One row after another; progress goes to stderr."""
    with _site(plan) as site:
        bench = _Bench(plan, site)
        try:
            for case in plan.cases:
                yield bench.row(case)
        finally:
            bench.close_door()


@contextmanager
def _site(plan: Plan) -> Iterator[Site]:
    """A Postgres with pgbench's tables, and a folder for the proxies' files."""
    # Debian's build where there is one: it is what PgBouncer's users run.
    say("starting Postgres")
    connections = len(plan.proxies) * plan.pool_size * 2 + _SPARE_CONNECTIONS
    server = EmbeddedPostgres(
        connections, {"shared_buffers": "256MB"}, server_bindir(), hba=[_LOOPBACK_CLIENTS]
    )
    with tempfile.TemporaryDirectory(prefix="pgfunnel-bench-") as name, server as postgres:
        site = _describe(Path(name), postgres, plan.pool_size)
        # The proxies' account must reach its files; those files themselves are private.
        site.folder.chmod(0o755)
        _create_database(postgres, site)
        if plan.pgbench and any(case.needs_pgbench for case in plan.cases):
            say(f"filling it: pgbench -i -s {pgbench.SCALE}")
            pgbench.prepare(plan.pgbench, _direct(site))
        yield site


def _describe(folder: Path, postgres: EmbeddedPostgres, pool_size: int) -> Site:
    password = secrets.token_urlsafe(18)
    return Site(
        folder=folder,
        postgres_host=postgres.host,
        postgres_port=postgres.port,
        user=USER,
        password=password,
        verifier=verifier(password, secrets.token_bytes(16)),
        pool_size=pool_size,
    )


def _direct(site: Site) -> Address:
    return Address(site.postgres_port, site.user, site.password, DATABASE)


def _create_database(postgres: EmbeddedPostgres, site: Site) -> None:
    """Postgres takes the verifier as the password, so both know the same salt and rounds."""
    address = Address(postgres.port, "postgres", postgres.password, "postgres")
    client = Client(address)
    statements = (
        f"CREATE ROLE {USER} LOGIN PASSWORD '{site.verifier}'",
        f"CREATE DATABASE {DATABASE} OWNER {USER}",
    )
    tallies = [run(newcomers([client]), 1)]
    tallies += [run(askers([client], statement), 1) for statement in statements]
    client.leave()
    for tally in tallies:
        if tally.errors:
            raise BenchError(f"the database could not be set up: {tally.errors[0]}")


class _Bench:
    def __init__(self, plan: Plan, site: Site) -> None:
        self._plan = plan
        self._site = site
        self._door: Door | None = None
        self._stands: list[Stand] = []
        self._started = ExitStack()

    def row(self, case: Case) -> Row:
        """All runs of one case. What stands in the way of a case costs that case alone."""
        row = Row(case, note=self._note(case))
        samples = (row.subject,) if case.alone else (row.subject, row.baseline)
        try:
            for number in range(self._plan.runs):
                for at, kept in zip(range(len(self._plan.proxies)), samples, strict=False):
                    kept.append(self._measure(case, at))
                    self._progress(case, at, number, kept[-1])
        except BenchError as error:
            row.skipped = str(error)
            say(f"{case.name}: {error}")
            self.close_door()
        return row

    def _note(self, case: Case) -> str:
        if case.name == "params-200":
            return "PgBouncer loses and mixes up the parameters that its clients set; pgfunnel not"
        behind = [proxy for proxy in self._plan.proxies if not proxy.prepared]
        if not case.name.startswith("prepared") or not behind:
            return ""
        return (
            f"{behind[-1].version} has no protocol-level prepared statements in transaction mode "
            "(1.21 and later do): its figures are those of -M extended"
        )

    def _measure(self, case: Case, at: int) -> Sample:
        if case.needs_pgbench and not self._plan.pgbench:
            raise BenchError("pgbench is missing (Debian package: postgresql-contrib)")
        if case.fresh:
            self.close_door()
            with ExitStack() as alone:
                return _measure(case, self._start(self._plan.proxies[at], case.door, alone))
        if case.door != self._door:
            self._open_door(case.door)
        return _measure(case, self._stands[at])

    def _open_door(self, door: Door) -> None:
        self.close_door()
        with ExitStack() as stack:
            self._stands = [self._start(proxy, door, stack) for proxy in self._plan.proxies]
            self._started = stack.pop_all()
        self._door = door

    def close_door(self) -> None:
        """Stop both proxies."""
        self._door = None
        self._stands = []
        self._started.close()

    def _start(self, proxy: Proxy, door: Door, stack: ExitStack) -> Stand:
        plan = self._plan
        running = proxy.launch(self._site, door, proxy.label)
        stack.callback(running.child.stop)
        address = address_behind(_direct(self._site), running, door)
        stand = Stand(proxy, running, address, plan.seconds, plan.pool_size, plan.pgbench)
        with _blamed(stand):
            warm(stand)
        return stand

    def _progress(self, case: Case, at: int, number: int, sample: Sample) -> None:
        row = f"{self._plan.cases.index(case) + 1}/{len(self._plan.cases)} {case.name}"
        label = self._plan.proxies[at].label
        figures = f"{sample.cost:8.1f} {case.unit}/{case.per}  {sample.rate:8,.0f}/s"
        errors = f"  {sample.errors} errors: {sample.first_error}" if sample.errors else ""
        say(f"{row:<20} run {number + 1}/{self._plan.runs}  {label:<14} {figures}{errors}")


def _measure(case: Case, stand: Stand) -> Sample:
    with _blamed(stand):
        return case.measure(stand)


@contextmanager
def _blamed(stand: Stand) -> Iterator[None]:
    """Say which proxy a failure came from, and what it logged last."""
    try:
        yield
    except (BenchError, OSError) as error:
        last_words = stand.running.child.last_words()
        raise BenchError(
            f"{stand.proxy.label}: {error}\n  its log ends with:\n{last_words}"
        ) from error


def say(words: str) -> None:
    """Progress, on stderr."""
    print(words, file=sys.stderr, flush=True)
