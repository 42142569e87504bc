"""Where host names lead: servers at an address that its name has left are to go."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Mapping

from proxy.relay.connect import Address

Places = Mapping[object, tuple[Address, str]]
"""The address that each server was opened at, and where its socket leads to."""


def peer_of(sock: socket.socket) -> str:
    """The IP address that a socket is connected to; empty for a unix socket."""
    peer = sock.getpeername()
    return str(peer[0]) if isinstance(peer, tuple) else ""


class Names:
    """Looks at the names in use every `ttl` seconds, through the system's resolver.

    A name that does not resolve leaves its servers as they are.
    """

    def __init__(self, places: Places, leave: Callable[[object], None]) -> None:
        self._places = places
        self._leave = leave
        self._looked_at = 0.0
        self._task: asyncio.Task[None] | None = None

    def tick(self, now: float, ttl: float) -> None:
        if not ttl or now - self._looked_at < ttl or (self._task and not self._task.done()):
            return
        self._looked_at = now
        names = {address.host for address, peer in self._places.values() if _named(address, peer)}
        if names:
            self._task = asyncio.get_running_loop().create_task(self._look(names))

    async def _look(self, names: set[str]) -> None:
        for name in names:
            found = await _resolved(name)
            gone = [
                server
                for server, (address, peer) in self._places.items()
                if found and address.host == name and peer not in found
            ]
            for server in gone:
                self._leave(server)

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()


def _named(address: Address, peer: str) -> bool:
    """Whether a name stands between us and the peer."""
    if not peer or address.unix:
        return False
    try:
        ipaddress.ip_address(address.host)
    except ValueError:
        return True
    return False


async def _resolved(name: str) -> set[str]:
    """The addresses of a name; none when it does not resolve."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError:
        return set()
    return {str(target[0]) for *_, target in found}
