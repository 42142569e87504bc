"""A TCP proxy on loopback that misbehaves on demand: stalls, cuts, splits and delays traffic.

    async with Misbehave("127.0.0.1", postgres.port) as road:
        connection = await asyncpg.connect(host=road.host, port=road.port, ...)
        road.stall(Way.TO_CLIENT)

What is asked for holds for every connection, those that are open and those to come, until
`behave()`. Without a `Way` it holds for both.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import functools
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

_CHUNK = 64 * 1024
_NO_LINGER = struct.pack("ii", 1, 0)  # close() sends RST, see socket(7)


class Way(enum.Enum):
    """A direction of traffic: what the client sends, what the server answers."""

    TO_SERVER = "to the server"
    TO_CLIENT = "to the client"


class Cut(enum.Enum):
    """How a connection ends."""

    RST = "reset"
    FIN = "closed in good order"


class _Manners:
    """How the traffic of one direction is treated at this moment."""

    def __init__(self) -> None:
        self.flowing = asyncio.Event()
        self.counted = asyncio.Condition()
        self.passed = 0
        self.behave()

    def behave(self) -> None:
        self.flowing.set()
        self.piece = _CHUNK
        self.delay = 0.0
        self.limit: int | None = None
        self.cut = Cut.RST

    @property
    def at_limit(self) -> bool:
        return self.limit is not None and self.passed >= self.limit

    def next_size(self) -> int:
        """How many bytes may be passed on at once."""
        return self.piece if self.limit is None else min(self.piece, self.limit - self.passed)

    async def count(self, size: int) -> None:
        async with self.counted:
            self.passed += size
            self.counted.notify_all()


@dataclass(eq=False)
class _Pair:
    """The two sockets of one connection, and the task that carries its bytes."""

    client: socket.socket
    server: socket.socket
    task: asyncio.Task[None] | None = None
    cut: Cut = field(default=Cut.FIN)

    def end(self, cut: Cut) -> None:
        self.cut = cut
        if self.task is not None:
            self.task.cancel()

    def close(self) -> None:
        for sock in (self.client, self.server):
            if self.cut is Cut.RST:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            else:
                _finish(sock)
            sock.close()


def _finish(sock: socket.socket) -> None:
    """Send FIN, and read what is left: close() with unread bytes would send RST."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(_CHUNK):
            pass


class Misbehave:
    """Listens on a free loopback port as `host` and `port`, in front of another address."""

    host = "127.0.0.1"

    def __init__(self, server_host: str, server_port: int) -> None:
        self._server = (server_host, server_port)
        self._manners = {way: _Manners() for way in Way}
        self._pairs: set[_Pair] = set()
        self._refusing = False
        self.accepted = 0

    async def __aenter__(self) -> Self:
        self._listener = socket.create_server((self.host, 0), backlog=1024)
        self._listener.setblocking(False)
        self.port = int(self._listener.getsockname()[1])
        self._accepting = asyncio.create_task(self._accept())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._accepting.cancel()
        await asyncio.wait([self._accepting])
        self._listener.close()
        await self.cut()

    @property
    def open(self) -> int:
        """How many connections are open."""
        return len(self._pairs)

    def stall(self, *ways: Way) -> None:
        """Pass nothing on; sockets stay open, and senders fill the kernel's buffers."""
        for manners in self._of(ways):
            manners.flowing.clear()

    def resume(self, *ways: Way) -> None:
        """Pass on again what was held up by `stall`."""
        for manners in self._of(ways):
            manners.flowing.set()

    def split(self, *ways: Way, size: int = 1) -> None:
        """Pass on at most `size` bytes at once, each piece in a segment of its own."""
        for manners in self._of(ways):
            manners.piece = size

    def delay(self, seconds: float, *ways: Way) -> None:
        """Hold each piece back for so long."""
        for manners in self._of(ways):
            manners.delay = seconds

    def cut_after(self, size: int, way: Way, cut: Cut = Cut.RST) -> None:
        """Cut every connection once `size` more bytes, of them all, have gone that way."""
        manners = self._manners[way]
        manners.limit, manners.cut = manners.passed + size, cut

    async def inject(self, octets: bytes, way: Way) -> None:
        """Say this on every open connection, as if it came from the other end."""
        for pair in self._pairs:
            target = pair.client if way is Way.TO_CLIENT else pair.server
            await asyncio.get_running_loop().sock_sendall(target, octets)

    def refuse(self) -> None:
        """Reset every new connection as soon as it is there."""
        self._refusing = True

    async def cut(self, cut: Cut = Cut.RST) -> None:
        """Cut every open connection now, on both sides."""
        tasks = self._cut_all(cut)
        if tasks:
            await asyncio.wait(tasks)

    def behave(self) -> None:
        """Forget everything that was asked for; what was stalled goes on."""
        self._refusing = False
        for manners in self._manners.values():
            manners.behave()

    def passed(self, way: Way) -> int:
        """How many bytes have gone that way, over all connections."""
        return self._manners[way].passed

    async def until_passed(self, size: int, way: Way) -> None:
        """Wait until `size` bytes in all have gone that way."""
        manners = self._manners[way]
        async with manners.counted:
            await manners.counted.wait_for(lambda: manners.passed >= size)

    def _of(self, ways: Iterable[Way]) -> list[_Manners]:
        return [self._manners[way] for way in ways or Way]

    def _cut_all(self, cut: Cut) -> list[asyncio.Task[None]]:
        for pair in self._pairs:
            pair.end(cut)
        return [pair.task for pair in self._pairs if pair.task is not None]

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            client, _ = await loop.sock_accept(self._listener)
            self.accepted += 1
            pair = _Pair(client, socket.socket())
            self._pairs.add(pair)
            pair.task = asyncio.create_task(self._carry(pair))
            pair.task.add_done_callback(functools.partial(self._forget, pair))

    def _forget(self, pair: _Pair, _task: asyncio.Task[None]) -> None:
        """Also when the task was cancelled before its first step."""
        pair.close()
        self._pairs.discard(pair)

    async def _carry(self, pair: _Pair) -> None:
        """Carry both directions until both have ended; whoever resets resets the other side."""
        if self._refusing:
            pair.cut = Cut.RST
            return
        try:
            await self._connect(pair)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(pair.client, pair.server, Way.TO_SERVER))
                group.create_task(self._pump(pair.server, pair.client, Way.TO_CLIENT))
        except* OSError:
            pair.cut = Cut.RST

    async def _connect(self, pair: _Pair) -> None:
        for sock in (pair.client, pair.server):
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(pair.server, self._server)

    async def _pump(self, source: socket.socket, target: socket.socket, way: Way) -> None:
        loop = asyncio.get_running_loop()
        manners = self._manners[way]
        while True:
            await manners.flowing.wait()
            chunk = await loop.sock_recv(source, _CHUNK)
            if not chunk:
                await manners.flowing.wait()
                target.shutdown(socket.SHUT_WR)
                return
            await self._pass_on(chunk, target, manners)

    async def _pass_on(self, chunk: bytes, target: socket.socket, manners: _Manners) -> None:
        loop = asyncio.get_running_loop()
        while chunk:
            await asyncio.sleep(manners.delay)
            await manners.flowing.wait()
            piece = chunk[: manners.next_size()]
            chunk = chunk[len(piece) :]
            await loop.sock_sendall(target, piece)
            await manners.count(len(piece))
            if manners.at_limit:
                self._cut_all(manners.cut)
                await asyncio.sleep(0)  # where the cut takes this task, too
