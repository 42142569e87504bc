"""Cancel requests to Postgres.

One socket at a time per address carries them; Postgres answers it without giving it a backend, so
it takes none of max_connections.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from proxy.errors import PgfunnelError
from proxy.relay.connect import send_cancel
from proxy.relay.names import Places
from proxy.relay.server import Server
from proxy.telemetry.counters import Totals

if TYPE_CHECKING:
    from proxy.relay.replication import Replica


class Cancels:
    """Those under way are `tasks`. `places`: where each server is.

    `patience`: seconds that one may take once its turn has come, None is no limit.
    """

    def __init__(self, places: Places, totals: Totals) -> None:
        self._places = places
        self._totals = totals
        self._turns: dict[tuple[str, int], asyncio.Lock] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self.patience: float | None = None

    def cancel(self, server: Server | Replica, *, still: Callable[[], bool]) -> asyncio.Task[None]:
        """Cancel what the server runs if, when its turn has come, `still()` holds."""
        task = asyncio.get_running_loop().create_task(self._in_turn(server, still))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def _in_turn(self, server: Server | Replica, still: Callable[[], bool]) -> None:
        if server not in self._places:
            return
        address, _ = self._places[server]
        async with self._turns.setdefault((address.host, address.port), asyncio.Lock()):
            if not still() or server.fd < 0:
                return
            server.cancel_begins()
            result = "failed"
            try:
                async with asyncio.timeout(self.patience):
                    await send_cancel(address, server.process_id, server.secret)
                result = "sent"
            except (PgfunnelError, OSError, TimeoutError):
                result = "failed"
            finally:
                self._totals.cancel(result)
                server.cancel_ended()
