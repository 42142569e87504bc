"""A proxy to read, as plain data: what a running proxy shows of itself."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from proxy.telemetry.counters import PoolCounters, Totals
from proxy.telemetry.troubles import Trouble, Troubles
from proxy.telemetry.views import PinningStatement, PinView
from proxy.web import Limits, WebServer, start


@dataclass
class Pool:
    database: str = "appdb"
    user: str = "alice"
    size: int = 20
    waiting: int = 3
    clients: int = 7
    counters: PoolCounters = field(default_factory=PoolCounters)
    first_waited_since: float | None = None
    failing: str = ""

    def servers_by_state(self) -> Mapping[str, int]:
        return {"idle": 2, "active": 4}

    def oldest_wait(self, now: float) -> float:
        return 0.0 if self.first_waited_since is None else now - self.first_waited_since


@dataclass
class Proxy:
    all_pools: Sequence[Pool] = ()
    totals: Totals = field(default_factory=Totals)
    ready: bool = True
    why_not_ready: str = ""
    started_at: float = 0.0
    max_client_conn: int = 5000
    pins: Sequence[PinView] = ()
    noted: Troubles = field(default_factory=Troubles)

    def clients_by_state(self) -> Mapping[str, int]:
        return {"idle": 5, "waiting": 3}

    def pools(self) -> Sequence[Pool]:
        return self.all_pools

    def pinned(self, most: int | None = None) -> list[PinView]:
        return list(self.pins[:most])

    def pinning(self) -> list[PinningStatement]:
        return []

    def troubles(self) -> list[Trouble]:
        return self.noted.latest()


@asynccontextmanager
async def serving(proxy: Proxy | None = None, **limits: float) -> AsyncIterator[WebServer]:
    server = await start(proxy or Proxy(), "127.0.0.1", 0, Limits(**limits))  # type: ignore[arg-type]
    try:
        yield server
    finally:
        await server.close()


async def talk(port: int, sent: bytes, *, eof: bool = False) -> bytes:
    """Send bytes on a new connection and return all that comes back until it is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent)
        if eof:
            writer.write_eof()
        return await asyncio.wait_for(reader.read(), 5)
    finally:
        writer.close()
