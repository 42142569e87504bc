"""Clients' sockets in an epoll set of our own, which the event loop watches as one descriptor.

libuv takes six epoll_ctl(2) and an ioctl(2) to watch a socket and let it go (it tries first
whether the descriptor can be watched at all), and uvloop some objects more: a good part of a
login. Here it is two calls.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from typing import Any

import cython

if cython.compiled:
    from cython.cimports.proxy.relay.cepoll import epoll_event, epoll_wait

_IN: cython.int = getattr(select, "EPOLLIN", 1)
_OUT: cython.int = getattr(select, "EPOLLOUT", 4)
_AT_A_TIME: cython.int = 64
"""Sockets that are served before the loop's other work gets its turn."""


@cython.cclass
class Watch:
    """`add_reader` and its like, as of an event loop. Level-triggered (epoll(7)).

    `_readers`: what to call, by descriptor; `_writers`: the same, for the few that are there.
    """

    _loop: asyncio.AbstractEventLoop
    _epoll: Any
    _epoll_fd: cython.int
    _readers: list[Callable[[], object] | None]
    _writers: dict[int, Callable[[], object]]

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._epoll = select.epoll()
        self._epoll_fd = self._epoll.fileno()
        self._readers = []
        self._writers = {}
        loop.add_reader(self._epoll_fd, self._turn)

    def call_exception_handler(self, said: dict[str, Any]) -> object:
        return self._loop.call_exception_handler(said)

    def call_soon(self, callback: Callable[[], object]) -> object:
        return self._loop.call_soon(callback)

    @cython.ccall
    def add_reader(self, fd: cython.int, ready: Callable[[], object]) -> object:
        while len(self._readers) <= fd:
            self._readers.append(None)
        known: cython.bint = self._readers[fd] is not None or fd in self._writers
        self._readers[fd] = ready
        return self._change(fd, known)

    @cython.ccall
    def remove_reader(self, fd: cython.int) -> object:
        if fd >= len(self._readers) or self._readers[fd] is None:
            return None
        self._readers[fd] = None
        return self._change(fd, True)

    @cython.ccall
    def add_writer(self, fd: cython.int, ready: Callable[[], object]) -> object:
        while len(self._readers) <= fd:
            self._readers.append(None)
        known: cython.bint = self._readers[fd] is not None or fd in self._writers
        self._writers[fd] = ready
        return self._change(fd, known)

    @cython.ccall
    def remove_writer(self, fd: cython.int) -> object:
        if self._writers.pop(fd, None) is None:
            return None
        return self._change(fd, True)

    def close(self) -> None:
        if not self._epoll.closed:
            self._loop.remove_reader(self._epoll_fd)
            self._epoll.close()

    @cython.cfunc
    def _change(self, fd: cython.int, known: cython.bint) -> object:
        events: cython.int = 0
        if self._readers[fd] is not None:
            events |= _IN
        if fd in self._writers:
            events |= _OUT
        if not events:
            self._epoll.unregister(fd)
        elif known:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)
        return None

    def _turn(self) -> None:
        if cython.compiled:
            ready = cython.declare(epoll_event[64])
            n: cython.int = epoll_wait(self._epoll_fd, ready, _AT_A_TIME, 0)
            i: cython.int
            for i in range(n):
                self._serve(ready[i].data.fd, ready[i].events)
            return
        for fd, events in self._epoll.poll(0, _AT_A_TIME):
            self._serve(fd, events)

    @cython.cfunc
    def _serve(self, fd: cython.int, events: cython.int) -> object:
        """An end or an error of a connection is told to whoever waits for either direction."""
        if events != _OUT:
            self._tell(self._readers[fd])
        if events != _IN and fd in self._writers:
            self._tell(self._writers[fd])
        return None

    @cython.cfunc
    def _tell(self, ready: Any) -> object:
        if ready is None:
            return None
        try:
            ready()
        except Exception as error:  # noqa: BLE001 - as the loop does with any callback
            said = {"message": "Exception in callback", "exception": error}
            self._loop.call_exception_handler(said)
        return None


def watch_on(loop: asyncio.AbstractEventLoop) -> Any:
    """A Watch, or the loop itself on systems without epoll."""
    return Watch(loop) if hasattr(select, "epoll") else loop
