"""A Watch keeps the promises of an event loop's add_reader and add_writer."""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from proxy.relay.watch import Watch

pytestmark = pytest.mark.skipif(not hasattr(select, "epoll"), reason="needs epoll")


class Pair:
    """Two connected sockets; one of them is watched, and what it hears is kept."""

    def __init__(self) -> None:
        self.watch = Watch(asyncio.get_running_loop())
        self.near, self.far = socket.socketpair()
        self.near.setblocking(False)
        self.fd = self.near.fileno()
        self.heard: asyncio.Queue[bytes] = asyncio.Queue()
        self.drained: asyncio.Queue[str] = asyncio.Queue()

    def read(self) -> None:
        self.heard.put_nowait(self.near.recv(100))

    def read_and_leave(self) -> None:
        self.watch.remove_reader(self.fd)
        self.read()

    def drain(self) -> None:
        self.watch.remove_writer(self.fd)
        self.drained.put_nowait("drained")

    def close(self) -> None:
        self.watch.close()
        self.near.close()
        self.far.close()


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    pair = Pair()
    yield pair
    pair.close()


async def soon(queue: asyncio.Queue[Any]) -> Any:
    return await asyncio.wait_for(queue.get(), 5)


async def turns() -> None:
    """Long enough for anything that is ready to be told."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_readable_socket_is_told_each_time(pair: Pair) -> None:
    pair.watch.add_reader(pair.fd, pair.read)
    for word in (b"one", b"two"):
        pair.far.send(word)
        assert await soon(pair.heard) == word


async def test_what_is_not_watched_is_not_read(pair: Pair) -> None:
    pair.watch.add_reader(pair.fd, pair.read_and_leave)
    pair.far.send(b"one")
    assert await soon(pair.heard) == b"one"
    pair.far.send(b"two")
    await turns()
    assert pair.heard.empty()
    pair.watch.add_reader(pair.fd, pair.read)
    assert await soon(pair.heard) == b"two"


async def test_both_directions_at_once(pair: Pair) -> None:
    pair.watch.add_reader(pair.fd, pair.read)
    pair.watch.add_writer(pair.fd, pair.drain)
    assert await soon(pair.drained) == "drained"
    pair.far.send(b"one")
    assert await soon(pair.heard) == b"one"
    assert pair.drained.empty()


async def test_writing_alone(pair: Pair) -> None:
    pair.watch.add_writer(pair.fd, pair.drain)
    assert await soon(pair.drained) == "drained"
    pair.far.send(b"one")
    await turns()
    assert pair.heard.empty()


async def test_the_end_is_told(pair: Pair) -> None:
    pair.watch.add_reader(pair.fd, pair.read_and_leave)
    pair.far.close()
    assert await soon(pair.heard) == b""


async def test_letting_go_twice_does_no_harm(pair: Pair) -> None:
    pair.watch.add_reader(pair.fd, pair.read)
    for _ in range(2):
        pair.watch.remove_reader(pair.fd)
        pair.watch.remove_writer(pair.fd)
    pair.watch.remove_reader(100_000)


async def test_a_callback_that_fails_harms_no_other(pair: Pair) -> None:
    other = socket.socketpair()
    failures: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: failures.put_nowait(context))

    def fail() -> None:
        pair.watch.remove_reader(other[0].fileno())
        raise ValueError("out of order")

    pair.watch.add_reader(other[0].fileno(), fail)
    pair.watch.add_reader(pair.fd, pair.read)
    other[1].send(b"one")
    pair.far.send(b"two")
    assert await soon(pair.heard) == b"two"
    assert isinstance((await soon(failures))["exception"], ValueError)
    for sock in other:
        sock.close()
