"""The cases: what is done to a proxy, what it costs, and what the cost should be."""

import resource
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch

from loadtest.bench import BenchError, pgbench, scan
from loadtest.bench.conversation import query
from loadtest.bench.probe import cpu_seconds, memory_kib
from loadtest.bench.proxies import Door, Proxy, Running
from loadtest.bench.samples import Sample, percentile
from loadtest.bench.visits import (
    Address,
    Client,
    Steps,
    Tally,
    askers,
    newcomers,
    regulars,
    run,
    visitors,
)

DEFAULT_DOOR = Door()
MICROSECONDS, NANOSECONDS, KIB = "µs", "ns", "KiB"
_LOGINS_AT_ONCE = 16
_CROWD_LOGINS_AT_ONCE = 64
# The proxy's servers, log and libraries, counted generously.
_FILES_BESIDES = 200


@dataclass(frozen=True)
class Stand:
    """One proxy that is ready to be measured, and how long and with what."""

    proxy: Proxy
    running: Running
    address: Address
    seconds: int
    pool_size: int
    pgbench: str | None

    def cpu(self) -> float:
        return cpu_seconds(self.running.child.pid)


@dataclass(frozen=True)
class Target:
    """At most `limit`: of the ratio to PgBouncer, of pgfunnel's own cost, or of its errors."""

    limit: float
    of: str = "ratio"


@dataclass(frozen=True)
class Case:
    """One row of the table. `per` names what the cost is divided by and the rate counts."""

    name: str
    title: str
    per: str
    measure: Callable[[Stand], Sample]
    door: Door = DEFAULT_DOOR
    unit: str = MICROSECONDS
    target: Target | None = None
    needs_pgbench: bool = False
    # A new process for each run: memory once used is seldom given back.
    fresh: bool = False
    # PgBouncer does nothing of the kind.
    alone: bool = False


def select(patterns: Sequence[str]) -> list[Case]:
    """The cases whose name matches one of the patterns (shell style, or a part of the name)."""
    chosen = [case for case in CASES if _matches(case.name, patterns)]
    if not chosen:
        names = ", ".join(case.name for case in CASES)
        raise BenchError(f"--only matches no row; there are: {names}")
    return chosen


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return not patterns or any(fnmatch(name, p) or p in name for p in patterns)


def warm(stand: Stand) -> None:
    """Make the proxy open all its servers: as many transactions at once as the pool holds."""
    clients = [Client(stand.address) for _ in range(stand.pool_size)]
    try:
        for tasks in (newcomers(clients), askers(clients, "begin"), askers(clients, "commit")):
            _must_succeed(run(tasks, len(clients)))
    finally:
        _dismiss(clients)


def _must_succeed(tally: Tally) -> None:
    if tally.errors:
        raise BenchError(tally.errors[0])


def _dismiss(clients: Sequence[Client]) -> None:
    for client in clients:
        client.leave()


def _transactions(protocol: str, clients: int) -> Callable[[Stand], Sample]:
    def measure(stand: Stand) -> Sample:
        if stand.pgbench is None:
            raise BenchError("pgbench is missing")
        spoken = protocol
        if protocol == "prepared" and not stand.proxy.prepared:
            spoken = "extended"
        return pgbench.run(
            stand.pgbench,
            stand.address,
            pid=stand.running.child.pid,
            protocol=spoken,
            clients=clients,
            seconds=stand.seconds,
        )

    return measure


def _logins(stand: Stand) -> Sample:
    """Clients that connect, run one transaction and leave, 16 at any moment."""
    deadline = time.perf_counter() + stand.seconds
    began, cpu = time.perf_counter(), stand.cpu()
    tally = run(visitors(stand.address, lambda: time.perf_counter() < deadline), _LOGINS_AT_ONCE)
    served = len(tally.seconds)
    if not served:
        _must_succeed(tally)
    elapsed = time.perf_counter() - began
    return _sample(tally, cost=(stand.cpu() - cpu) / served * 1e6, rate=served / elapsed)


def _sample(tally: Tally, *, cost: float, rate: float) -> Sample:
    milliseconds = [seconds * 1000 for seconds in tally.seconds]
    return Sample(
        cost=cost,
        rate=rate,
        p50_ms=percentile(milliseconds, 50),
        p99_ms=percentile(milliseconds, 99),
        errors=len(tally.errors),
        first_error=tally.errors[0] if tally.errors else "",
    )


def _regular_clients(count: int, *, each_its_own: bool) -> Callable[[Stand], Sample]:
    """Transactions of clients that stay, each with parameters of its own or all with none."""

    def measure(stand: Stand) -> Sample:
        clients = _many(stand.address, count)
        try:
            _must_succeed(run(newcomers(clients), _CROWD_LOGINS_AT_ONCE))
            if each_its_own:
                _must_succeed(run(setters(clients), _CROWD_LOGINS_AT_ONCE))
            return _regulars(stand, clients)
        finally:
            _dismiss(clients)

    return measure


def setters(clients: Sequence[Client]) -> Iterator[tuple[Client, Steps]]:
    """Each sets parameters of its own."""
    for number, client in enumerate(clients):
        yield client, client.ask(query(_five_parameters(number)))


def _five_parameters(number: int) -> str:
    """No two clients alike."""
    return (
        f"SET work_mem = '{4000 + number}kB'; SET lock_timeout = '{1000 + number}ms'; "
        f"SET search_path = tenant_{number}, public; "
        f"SET my.tenant = 't{number}'; SET my.request = 'r{number}'"
    )


def _regulars(stand: Stand, clients: Sequence[Client]) -> Sample:
    began, cpu = time.perf_counter(), stand.cpu()
    deadline = began + stand.seconds
    tally = run(regulars(clients, lambda: time.perf_counter() < deadline), len(clients))
    served = len(tally.seconds)
    if not served:
        _must_succeed(tally)
    elapsed = time.perf_counter() - began
    return _sample(tally, cost=(stand.cpu() - cpu) / served * 1e6, rate=served / elapsed)


def _scan(cost: Callable[[], float]) -> Callable[[Stand], Sample]:
    """Nanoseconds in the bench's own process, no proxy asked."""

    def measure(_stand: Stand) -> Sample:
        nanoseconds = cost()
        return Sample(nanoseconds, 1e9 / nanoseconds, None, None, 0)

    return measure


def _idle_memory(count: int) -> Callable[[Stand], Sample]:
    """KiB (PSS) by which the proxy grows for each client that is logged in and idle."""

    def measure(stand: Stand) -> Sample:
        before, began = memory_kib(stand.running.child.pid), time.perf_counter()
        clients = _many(stand.address, count)
        try:
            tally = _gather(clients)
            elapsed = time.perf_counter() - began
            grown = memory_kib(stand.running.child.pid)["Pss"] - before["Pss"]
        finally:
            _dismiss(clients)
        return _sample(tally, cost=grown / count, rate=count / elapsed)

    return measure


def _many(address: Address, count: int) -> list[Client]:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit < count + _FILES_BESIDES:
        raise BenchError(
            f"{count:,} clients need {count + _FILES_BESIDES:,} open files, the limit here is "
            f"{limit:,}; raise it (ulimit -Hn, LimitNOFILE=, --ulimit nofile=)"
        )
    return [Client(address) for _ in range(count)]


def _gather(clients: Sequence[Client]) -> Tally:
    """Log all of them in, then have each run a transaction; latencies are of the latter."""
    arrivals = run(newcomers(clients), _CROWD_LOGINS_AT_ONCE)
    if arrivals.errors:
        return arrivals
    return run(askers(clients), _CROWD_LOGINS_AT_ONCE)


def _crowd(count: int) -> Callable[[Stand], Sample]:
    """All are logged in before all of them ask at the same moment."""

    def measure(stand: Stand) -> Sample:
        clients = _many(stand.address, count)
        try:
            tally = run(newcomers(clients), _CROWD_LOGINS_AT_ONCE)
            began, cpu = time.perf_counter(), stand.cpu()
            if not tally.errors:
                tally = run(askers(clients), count)
            elapsed = time.perf_counter() - began
            cost = (stand.cpu() - cpu) / count * 1e6
        finally:
            _dismiss(clients)
        return _sample(tally, cost=cost, rate=len(tally.seconds) / elapsed)

    return measure


def _pgbench_case(protocol: str, clients: int, limit: float) -> Case:
    return Case(
        name=f"{protocol}-{clients}",
        title=f"{protocol}, {clients} clients",
        per="transaction",
        measure=_transactions(protocol, clients),
        target=Target(limit),
        needs_pgbench=True,
    )


def _regulars_case(name: str, title: str, *, each_its_own: bool) -> Case:
    measure = _regular_clients(200, each_its_own=each_its_own)
    return Case(name, f"200 clients that stay, {title}", "transaction", measure)


def _scan_case(name: str, title: str, cost: Callable[[], float], limit: float) -> Case:
    target = Target(limit, of="cost")
    measure = _scan(cost)
    return Case(name, title, "text", measure, unit=NANOSECONDS, target=target, alone=True)


def _login_case(name: str, title: str, door: Door, limit: float | None) -> Case:
    target = Target(limit) if limit else None
    return Case(f"login-{name}", title, "login", _logins, door=door, target=target)


_TLS = Door(tls=True)
_TLS_TRANSACTIONS = Case(
    name="tls-16",
    title="TLS, simple, 16 clients",
    per="transaction",
    measure=_transactions("simple", 16),
    door=_TLS,
    needs_pgbench=True,
)
CASES: tuple[Case, ...] = (
    *(_pgbench_case(protocol, 200, 1.0) for protocol in ("simple", "extended", "prepared")),
    *(_pgbench_case(protocol, 16, 1.25) for protocol in ("simple", "extended", "prepared")),
    _login_case("scram", "login, SCRAM, verifier in the user list", DEFAULT_DOOR, 1.5),
    Case(
        name="open-10000",
        title="10,000 clients at once",
        per="client",
        measure=_crowd(10_000),
        target=Target(0, of="errors"),
        fresh=True,
    ),
    Case(
        name="idle-5000",
        title="memory of an idle client, 5,000 of them",
        per="client",
        measure=_idle_memory(5_000),
        unit=KIB,
        target=Target(4, of="cost"),
        fresh=True,
    ),
    _login_case(
        "plain", "login, SCRAM, plain password in the user list", Door(stored="plain"), 1.5
    ),
    _login_case("trust", "login, trust", Door("trust", stored="plain"), None),
    _TLS_TRANSACTIONS,
    _login_case("tls", "login, SCRAM over TLS", _TLS, None),
    _regulars_case("plain-200", "no parameters set", each_its_own=False),
    _regulars_case("params-200", "5 parameters each", each_its_own=True),
    _scan_case("scan-passed", "scan, 100 bytes that cannot change a session", scan.passed, 1000),
    _scan_case("scan-seen", "scan, 100 bytes that may, seen before", scan.seen, 300),
    _scan_case("scan-new", "scan, 100 bytes that may, new: the dearest", scan.new, 1000),
)


def address_behind(stand_in: Address, running: Running, door: Door) -> Address:
    """The same user and database, by way of a proxy."""
    return replace(stand_in, port=running.port, tls=_any_certificate() if door.tls else None)


def _any_certificate() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
