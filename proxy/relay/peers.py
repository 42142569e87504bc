"""Cancel requests for clients of other processes behind the same address.

The key that a client is told says in which process it is, and how many more times a request with
it may be passed on. Both stand where PgBouncer has them, so that the two can be each other's peers:
the number in the second and third byte, the lower half first; the count in the last two bits of the
eighth.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from proxy.errors import PgfunnelError
from proxy.relay.connect import Address, Keepalive, send_cancel
from proxy.relay.tls import PLAIN
from proxy.settings import Settings
from proxy.telemetry.counters import Totals

KEY_SIZE = 8
"""Bytes of a key: process id and secret (PostgreSQL documentation, BackendKeyData)."""
_COUNT = 3
_PATIENCE = 10.0
"""Seconds that one request may take, its wait for others included."""


def marked(key: bytes, number: int) -> bytes:
    """A random key made into one of process `number`; 0 is a process without peers."""
    octets = bytearray(key)
    octets[0] &= 0x7F  # process ids are positive
    if number:
        octets[1], octets[2] = number & 0xFF, number >> 8
    octets[7] |= _COUNT
    return bytes(octets)


def as_told(key: bytes) -> bytes:
    """The key as its client was told it, however often the request was passed on."""
    return key[:7] + bytes([key[7] | _COUNT]) + key[8:]


def _passed_on(key: bytes) -> bytes:
    return key[:7] + bytes([key[7] - 1])


class Peer:
    """Another process; `waiting` and `under_way` are requests to pass on to it."""

    def __init__(self, number: int, address: Address, most: int) -> None:
        self.number = number
        self.waiting = 0
        self.under_way = 0
        self._address = address
        self._turns = asyncio.Semaphore(most)

    async def send(self, key: bytes) -> None:
        """Deliver a request. Raises UpstreamUnreachable, OSError."""
        self.waiting += 1
        try:
            await self._turns.acquire()
        finally:
            self.waiting -= 1
        self.under_way += 1
        try:
            await send_cancel(self._address, int.from_bytes(key[:4], "big"), key[4:])
        finally:
            self.under_way -= 1
            self._turns.release()


class Peers:
    """The other processes; none without a number of our own."""

    def __init__(self, totals: Totals) -> None:
        self._totals = totals
        self._by_number: dict[int, Peer] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __iter__(self) -> Iterator[Peer]:
        return iter(self._by_number.values())

    def use(self, settings: Settings, keepalive: Keepalive) -> None:
        """Follow these settings; requests under way go on."""
        own = settings.peer_id
        self._by_number = {
            number: Peer(
                number,
                Address(entry.host or "", entry.port, PLAIN, keepalive),
                entry.pool_size or settings.default_pool_size,
            )
            for number, entry in settings.peers_by_number().items()
            if own not in (0, number)
        }

    def forward(self, key: bytes) -> asyncio.Task[None] | None:
        """Pass a request on to the process whose client has this key; None: there is none."""
        peer = self._by_number.get(int.from_bytes(key[1:3], "little"))
        if peer is None or len(key) != KEY_SIZE or not key[7] & _COUNT:
            return None
        task = asyncio.get_running_loop().create_task(self._forward(peer, _passed_on(key)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _forward(self, peer: Peer, key: bytes) -> None:
        result = "failed"
        try:
            async with asyncio.timeout(_PATIENCE):
                await peer.send(key)
            result = "forwarded"
        except (PgfunnelError, OSError, TimeoutError):
            result = "failed"
        finally:
            self._totals.cancel(result)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
