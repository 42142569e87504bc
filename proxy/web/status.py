"""What pgfunnel does now, as JSON: what the page and `pgfunnel top` show.

Built in slices, at most twice a second however many ask, so that traffic is never kept waiting.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from proxy import __version__
from proxy.conditions import among
from proxy.telemetry.recent import Range, Recent, Sample, Window
from proxy.telemetry.views import CLIENT_STATES, SERVER_STATES, PoolView, ProxyView

MOST_POOLS = 200
MOST_PINS = 50

_FRESH = 0.5  # seconds
# A pool takes about 20 us to read and about as long to write: a slice keeps the loop for 0.5 ms.
_POOLS_IN_A_SLICE = 20
_IDLE = ("idle", "connecting", "closing")
_CONDITIONS = {condition.word: condition for condition in among(-1)}

Json = dict[str, Any]


class Status:
    """Reads one proxy for everyone who asks."""

    def __init__(self, view: ProxyView) -> None:
        self._view = view
        self._recent = Recent()
        self._building = asyncio.Lock()
        self._built = b""
        self._built_at = float("-inf")

    async def read(self) -> bytes:
        """The JSON, no older than half a second."""
        async with self._building:
            if time.monotonic() - self._built_at >= _FRESH:
                self._built = await self._build()
                self._built_at = time.monotonic()
            return self._built

    async def _build(self) -> bytes:
        pools = list(self._view.pools())
        sample = Sample(time.monotonic())
        reading = _Reading()
        for part in _slices(pools):
            for pool in part:
                sample.add(pool.counters)
                reading.add(pool)
            await asyncio.sleep(0)
        window = self._recent.window(sample)
        pieces = [
            await _written(self._head(reading, window)),
            await _written(self._pins(reading)),
            await _written(self._connections()),
        ]
        rows: list[str] = []
        for part in _slices(reading.busiest(MOST_POOLS)):
            rows += [_dump(_pool(pool, sample.at, window)) for pool in part]
            await asyncio.sleep(0)
        inside = ",".join(piece[1:-1] for piece in pieces)
        text = f'{{{inside},"pools":[{",".join(rows)}]}}\n'
        return text.encode("utf-8", "replace")

    def _head(self, reading: _Reading, window: Window | None) -> Json:
        view = self._view
        clients = view.clients_by_state()
        return {
            "version": __version__,
            "time": round(time.time(), 3),
            "uptime_s": round(max(0.0, time.time() - view.started_at), 1),
            "ready": view.ready,
            "why_not_ready": view.why_not_ready,
            "clients": {state: clients.get(state, 0) for state in CLIENT_STATES},
            "max_client_conn": view.max_client_conn,
            "servers": {state: reading.servers[state] for state in SERVER_STATES},
            "waiters": reading.waiters,
            "pool_count": len(reading.pools),
            "recent": None if window is None else _rates(window),
        }

    def _pins(self, reading: _Reading) -> Json:
        by_reason = [
            {
                "reason": word,
                "clients": clients,
                "meaning": _CONDITIONS[word].meaning,
                "advice": _CONDITIONS[word].advice,
            }
            for word, clients in reading.pinned.most_common()
            if clients
        ]
        pinned = [pin._asdict() for pin in self._view.pinned(MOST_PINS)]
        return {"pins": by_reason, "pinned": pinned}

    def _connections(self) -> Json:
        totals = self._view.totals
        return {
            "logins": dict(sorted(totals.logins.items())),
            "refusals": dict(sorted(totals.refusals.items())),
            "troubles": [asdict(trouble) for trouble in self._view.troubles()],
        }


class _Reading:
    """Sums over the pools."""

    def __init__(self) -> None:
        self.pools: list[tuple[int, int, PoolView]] = []
        self.servers: Counter[str] = Counter()
        self.pinned: Counter[str] = Counter()
        self.waiters = 0

    def add(self, pool: PoolView) -> None:
        servers = pool.servers_by_state()
        self.servers.update(servers)
        self.pinned.update(pool.counters.pinned)
        self.waiters += pool.waiting
        self.pools.append((pool.waiting, sum(servers.values()), pool))

    def busiest(self, most: int) -> list[PoolView]:
        """Those with the most waiters, then servers, first."""
        ordered = sorted(self.pools, key=lambda each: each[:2], reverse=True)
        return [pool for _, _, pool in ordered[:most]]


async def _written(part: Json) -> str:
    text = _dump(part)
    await asyncio.sleep(0)
    return text


def _dump(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _slices(pools: list[PoolView]) -> Iterator[list[PoolView]]:
    for at in range(0, len(pools), _POOLS_IN_A_SLICE):
        yield pools[at : at + _POOLS_IN_A_SLICE]


def _pool(pool: PoolView, now: float, window: Window | None) -> Json:
    servers = pool.servers_by_state()
    counters = pool.counters
    return {
        "database": pool.database,
        "user": pool.user,
        "size": pool.size,
        "servers": {state: servers[state] for state in SERVER_STATES if servers.get(state)},
        "in_use": sum(n for state, n in servers.items() if state not in _IDLE),
        "clients": pool.clients,
        "waiting": pool.waiting,
        "oldest_wait_s": round(pool.oldest_wait(now), 3),
        "transactions": counters.transactions,
        "transactions_per_s": None if window is None else round(window.pool_rate(counters), 1),
        "server_logins": counters.server_logins,
        "server_login_failures": counters.server_login_failures,
        "failing": pool.failing,
    }


def _rates(window: Window) -> Json:
    return {
        "seconds": round(window.seconds, 1),
        "transactions_per_s": round(window.rate("transactions"), 1),
        "queries_per_s": round(window.rate("queries"), 1),
        "bytes_received_per_s": round(window.rate("bytes_received")),
        "bytes_sent_per_s": round(window.rate("bytes_sent")),
        "waits_per_s": round(window.rate("waits"), 1),
        "wait": _latency(window, "wait_seconds"),
        "transaction": _latency(window, "transaction_seconds"),
    }


def _latency(window: Window, durations: str) -> Json:
    """Each quantile as [more than, at most] in seconds: the bounds of its bucket."""
    count, (p50, p99) = window.quantiles(durations, 0.5, 0.99)
    return {"count": count, "p50_s": _range(p50), "p99_s": _range(p99)}


def _range(found: Range | None) -> list[float | None] | None:
    return None if found is None else list(found)
