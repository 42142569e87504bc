"""Every metric of pgfunnel, declared once: name, kind, labels, help, and where it is read.

The metrics page and docs/metrics.md both come from METRICS; to add a metric, add a line there.
"""

import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample

from proxy import __version__
from proxy.telemetry import counters
from proxy.telemetry.counters import Histogram
from proxy.telemetry.views import CLIENT_STATES, SERVER_STATES, PoolView, ProxyView

Labels = tuple[str, ...]
Reading = tuple[Labels, float | Histogram]
Read = Callable[["Scrape"], Iterable[Reading]]

_POOL = ("database", "user")


@dataclass(frozen=True, slots=True)
class Scrape:
    """What one scrape reads: the proxy, its pools at the start, and the time (monotonic)."""

    proxy: ProxyView
    pools: tuple[PoolView, ...]
    now: float


@dataclass(frozen=True, slots=True)
class Declared:
    """One metric family. `name` is complete: counters end in _total, durations in _seconds."""

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    labels: Labels
    help: str
    read: Read


def families(view: ProxyView) -> Iterator[tuple[Metric, Iterator[Sample]]]:
    """Each metric family with its samples, which are read only as they are asked for."""
    scrape = Scrape(view, tuple(view.pools()), time.monotonic())
    for declared in METRICS:
        family = Metric(declared.name.removesuffix("_total"), declared.help, declared.kind)
        yield family, _samples(declared, scrape)


def _samples(declared: Declared, scrape: Scrape) -> Iterator[Sample]:
    for values, reading in declared.read(scrape):
        labels = dict(zip(declared.labels, map(_label, values), strict=True))
        if isinstance(reading, Histogram):
            yield from _buckets(declared.name, labels, reading)
        else:
            yield Sample(declared.name, labels, reading)


def _buckets(name: str, labels: dict[str, str], histogram: Histogram) -> Iterator[Sample]:
    bounds, counts, total = histogram.snapshot()
    for bound, count in zip(_le(bounds), counts, strict=True):
        yield Sample(f"{name}_bucket", {**labels, "le": bound}, count)
    yield Sample(f"{name}_sum", labels, total)
    yield Sample(f"{name}_count", labels, counts[-1])


@lru_cache
def _le(bounds: tuple[float, ...]) -> tuple[str, ...]:
    return (*map(repr, bounds), "+Inf")


def _label(value: str) -> str:
    # Names that clients made up may hold octets that were no UTF-8.
    return value.encode("utf-8", "backslashreplace").decode()


def _one(read: Callable[[ProxyView], float]) -> Read:
    return lambda scrape: [((), read(scrape.proxy))]


def _each_pool(read: Callable[[PoolView], float | Histogram]) -> Read:
    return lambda scrape: (((p.database, p.user), read(p)) for p in scrape.pools)


def _counted(read: Callable[[ProxyView], Mapping[str, int]]) -> Read:
    return lambda scrape: [((word,), n) for word, n in sorted(read(scrape.proxy).items())]


def _clients(scrape: Scrape) -> Iterator[Reading]:
    by_state = scrape.proxy.clients_by_state()
    for state in CLIENT_STATES:
        yield (state,), by_state.get(state, 0)


def _servers(scrape: Scrape) -> Iterator[Reading]:
    for pool in scrape.pools:
        by_state = pool.servers_by_state()
        for state in SERVER_STATES:
            yield (pool.database, pool.user, state), by_state.get(state, 0)


def _oldest_wait(scrape: Scrape) -> Iterator[Reading]:
    for pool in scrape.pools:
        yield (pool.database, pool.user), pool.oldest_wait(scrape.now)


def _server_logins(scrape: Scrape) -> Iterator[Reading]:
    for pool in scrape.pools:
        yield (pool.database, pool.user, "ok"), pool.counters.server_logins
        yield (pool.database, pool.user, "failed"), pool.counters.server_login_failures


def _by_word(read: Callable[[PoolView], Mapping[str, float | Histogram]]) -> Read:
    return lambda scrape: (
        ((word, pool.database, pool.user), value)
        for pool in scrape.pools
        for word, value in sorted(read(pool).items())
    )


def _closes(scrape: Scrape) -> Iterator[Reading]:
    for (side, reason), n in sorted(scrape.proxy.totals.closes.items()):
        yield (side.value, reason.value), n


def _build_info(_scrape: Scrape) -> Iterator[Reading]:
    compiled = "no" if counters.__file__.endswith(".py") else "yes"
    yield (__version__, platform.python_version(), compiled), 1


METRICS = (
    Declared(
        "pgfunnel_build_info",
        "gauge",
        ("version", "python", "compiled"),
        "Always 1; the labels say which pgfunnel runs, and whether compiled.",
        _build_info,
    ),
    Declared(
        "pgfunnel_uptime_seconds",
        "gauge",
        (),
        "Seconds since pgfunnel started.",
        _one(lambda proxy: max(0.0, time.time() - proxy.started_at)),
    ),
    Declared(
        "pgfunnel_ready",
        "gauge",
        (),
        "1 while new clients are welcome, as /readyz says; 0 before and while draining.",
        _one(lambda proxy: int(proxy.ready)),
    ),
    Declared(
        "pgfunnel_max_client_conn",
        "gauge",
        (),
        "The setting max_client_conn: the most clients that may be connected.",
        _one(lambda proxy: proxy.max_client_conn),
    ),
    Declared(
        "pgfunnel_clients",
        "gauge",
        ("state",),
        "Client connections by state.",
        _clients,
    ),
    Declared(
        "pgfunnel_pool_clients",
        "gauge",
        _POOL,
        "Clients of the pool that are logged in.",
        _each_pool(lambda pool: pool.clients),
    ),
    Declared(
        "pgfunnel_pool_waiters",
        "gauge",
        _POOL,
        "Clients of the pool that wait for a server.",
        _each_pool(lambda pool: pool.waiting),
    ),
    Declared(
        "pgfunnel_pool_oldest_wait_seconds",
        "gauge",
        _POOL,
        "How long the pool's first waiter has waited; 0 without waiters.",
        _oldest_wait,
    ),
    Declared(
        "pgfunnel_pool_size",
        "gauge",
        _POOL,
        "The bound: the most server connections the pool may have.",
        _each_pool(lambda pool: pool.size),
    ),
    Declared(
        "pgfunnel_servers",
        "gauge",
        (*_POOL, "state"),
        "Server connections by state; all of them together count against pgfunnel_pool_size.",
        _servers,
    ),
    Declared(
        "pgfunnel_borrow_wait_seconds",
        "histogram",
        _POOL,
        "How long clients waited for a server, those that got one at once included.",
        _each_pool(lambda pool: pool.counters.borrow_wait),
    ),
    Declared(
        "pgfunnel_transaction_duration_seconds",
        "histogram",
        _POOL,
        "How long transactions took, idle time in them included.",
        _each_pool(lambda pool: pool.counters.transaction_time),
    ),
    Declared(
        "pgfunnel_transactions_total",
        "counter",
        _POOL,
        "Transactions that reached their boundary.",
        _each_pool(lambda pool: pool.counters.transactions),
    ),
    Declared(
        "pgfunnel_queries_total",
        "counter",
        _POOL,
        "Queries, simple and extended.",
        _each_pool(lambda pool: pool.counters.queries),
    ),
    Declared(
        "pgfunnel_query_time_seconds_total",
        "counter",
        _POOL,
        "Time that servers worked for clients, idle time in transactions not included.",
        _each_pool(lambda pool: pool.counters.query_time),
    ),
    Declared(
        "pgfunnel_bytes_received_total",
        "counter",
        _POOL,
        "Bytes received from clients.",
        _each_pool(lambda pool: pool.counters.bytes_received),
    ),
    Declared(
        "pgfunnel_bytes_sent_total",
        "counter",
        _POOL,
        "Bytes sent to clients.",
        _each_pool(lambda pool: pool.counters.bytes_sent),
    ),
    Declared(
        "pgfunnel_waits_total",
        "counter",
        _POOL,
        "Times a client had to wait for a server.",
        _each_pool(lambda pool: pool.counters.waits),
    ),
    Declared(
        "pgfunnel_pins_total",
        "counter",
        ("reason", *_POOL),
        "Times a client kept its server past a transaction, by reason.",
        _by_word(lambda pool: pool.counters.pins),
    ),
    Declared(
        "pgfunnel_pinned_clients",
        "gauge",
        ("reason", *_POOL),
        "Clients that keep their server past transactions now, by reason.",
        _by_word(lambda pool: pool.counters.pinned),
    ),
    Declared(
        "pgfunnel_pin_seconds",
        "histogram",
        ("reason", *_POOL),
        "How long clients kept a server, by reason, counted when it ended.",
        _by_word(lambda pool: pool.counters.pin_time),
    ),
    Declared(
        "pgfunnel_leaks_total",
        "counter",
        ("kind", *_POOL),
        "What session_audit found left on a server that should have been clean.",
        _by_word(lambda pool: pool.counters.leaks),
    ),
    Declared(
        "pgfunnel_server_logins_total",
        "counter",
        (*_POOL, "result"),
        "Logins to Postgres by result.",
        _server_logins,
    ),
    Declared(
        "pgfunnel_logins_total",
        "counter",
        ("result",),
        "Logins of clients by result.",
        _counted(lambda proxy: proxy.totals.logins),
    ),
    Declared(
        "pgfunnel_closes_total",
        "counter",
        ("side", "reason"),
        "Connections closed, by side (client or server) and reason.",
        _closes,
    ),
    Declared(
        "pgfunnel_refusals_total",
        "counter",
        ("sqlstate",),
        "Errors of pgfunnel's own that clients were told, by SQLSTATE.",
        _counted(lambda proxy: proxy.totals.refusals),
    ),
    Declared(
        "pgfunnel_cancels_total",
        "counter",
        ("result",),
        "Cancel requests by result.",
        _counted(lambda proxy: proxy.totals.cancels),
    ),
)
