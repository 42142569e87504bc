"""Listening sockets: TCP addresses and a unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import socket
from pathlib import Path

import cython

from proxy.errors import SettingsError
from proxy.relay import octet_io
from proxy.relay.connect import socket_path
from proxy.relay.funnel import Funnel
from proxy.settings import Settings
from proxy.telemetry.logs import log_event

if cython.compiled:
    from cython.cimports.proxy.relay.entrance import Entrance
else:
    from proxy.relay.entrance import Entrance

log = logging.getLogger("pgfunnel")

_AT_A_TIME = 64
"""Connections accepted in one go, so that those already there get their turn."""


_DEFERRED = 45
"""Seconds in which the first bytes of a connection should come (tcp(7), TCP_DEFER_ACCEPT)."""


@cython.cclass
class Listener:
    """Accepts clients for a funnel. It pauses while too many peers are in mid-login.

    `owned`: the sockets' files are ours to remove.
    """

    _loop: asyncio.AbstractEventLoop
    _entrance: Entrance
    _sockets: list[socket.socket]
    _accepted: cython.longlong
    _owned: bool

    def __init__(self, funnel: Funnel, sockets: list[socket.socket], *, owned: bool = True) -> None:
        self._owned = owned
        self._loop = funnel.loop
        self._entrance = funnel.entrance
        self._sockets = sockets
        self._accepted = 0
        for sock in sockets:
            # Accepted sockets inherit these options (Linux).
            funnel.keepalive.apply(sock)
            self._loop.add_reader(sock.fileno(), self._accept, sock)

    @property
    def port(self) -> int:
        """The TCP port, 0 when there is none."""
        for sock in self._sockets:
            if sock.family != socket.AF_UNIX:
                return int(sock.getsockname()[1])
        return 0

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_AT_A_TIME):
            if not self._entrance.has_room():
                self._pause(listening, 0.05)
                return
            try:
                accepted = octet_io.accept(listening)
            except OSError as error:
                log_event(log, logging.ERROR, "accept_failed", error=error.strerror)
                self._pause(listening, 0.2)
                return
            if accepted is None:
                return
            self._accepted += 1
            self._entrance.accepted(accepted[0], accepted[1], self._accepted)

    def _pause(self, listening: socket.socket, seconds: float) -> None:
        self._loop.remove_reader(listening.fileno())
        self._loop.call_later(seconds, self._go_on, listening)

    def _go_on(self, listening: socket.socket) -> None:
        if listening.fileno() >= 0:
            self._loop.add_reader(listening.fileno(), self._accept, listening)

    def close(self) -> None:
        """Stop listening; connections that were accepted stay."""
        for sock in self._sockets:
            self._loop.remove_reader(sock.fileno())
            if (
                self._owned
                and sock.family == socket.AF_UNIX
                and isinstance(sock.getsockname(), str)
            ):
                with contextlib.suppress(OSError):
                    Path(sock.getsockname()).unlink()
            sock.close()
        self._sockets = []


async def open_sockets(settings: Settings) -> list[socket.socket]:
    """Bound and listening sockets for the settings; the log names addresses that cannot be had.

    Raises SettingsError when there is none at all.
    """
    sockets: list[socket.socket] = []
    failed: list[str] = []
    try:
        port = settings.listen_port
        for address in settings.listen_addresses:
            for family, target in await _resolved(address, port):
                try:
                    sockets.append(_listening(family, target, settings))
                    port = port or int(sockets[-1].getsockname()[1])
                except OSError as error:
                    failed.append(_unavailable(target, error))
        if settings.unix_socket_dir:
            sockets.append(_unix(settings, port))
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    if not sockets:
        raise SettingsError(failed or ["nothing to listen on: set listen_addr or unix_socket_dir"])
    return sockets


def _unavailable(target: tuple[object, ...], error: OSError) -> str:
    """Say so in the log: an address may be another machine's for now (a virtual one)."""
    said = {"addr": target[0], "port": target[1], "error": error.strerror}
    log_event(log, logging.WARNING, "cannot_listen", **said)
    words = f"cannot listen on {target[0]}:{target[1]}: {error.strerror}"
    return f"{words}; change listen_addr or listen_port"


async def _resolved(address: str, port: int) -> list[tuple[int, tuple[object, ...]]]:
    if address == "*":
        everywhere: list[tuple[int, tuple[object, ...]]] = [(socket.AF_INET, ("0.0.0.0", port))]
        if socket.has_dualstack_ipv6():
            everywhere.append((socket.AF_INET6, ("::", port)))
        return everywhere
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise SettingsError(
            [f"listen_addr: {address} does not resolve ({error.strerror})"]
        ) from None
    return [(family, target) for family, _, _, _, target in found]


def _listening(family: int, target: tuple[object, ...], settings: Settings) -> socket.socket:
    """Raises OSError."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if settings.so_reuseport:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(target)
        if settings.tcp_defer_accept:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, _DEFERRED)
        sock.listen(settings.listen_backlog)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def _unix(settings: Settings, port: int) -> socket.socket:
    path = socket_path(settings.unix_socket_dir, port)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.startswith("\0"):
            sock.bind(path)
        else:
            _bind_file(sock, Path(path), settings)
        sock.listen(settings.listen_backlog)
    except OSError as error:
        sock.close()
        where = path.replace("\0", "@")
        raise SettingsError(
            [f"unix_socket_dir: cannot listen on {where}: {error.strerror}"]
        ) from None
    sock.setblocking(False)
    return sock


def _bind_file(sock: socket.socket, path: Path, settings: Settings) -> None:
    _remove_stale(path)
    sock.bind(str(path))
    if settings.unix_socket_group:
        shutil.chown(path, group=settings.unix_socket_group)
    path.chmod(settings.unix_socket_mode)


def _remove_stale(path: Path) -> None:
    """Remove a socket that nobody listens on any more."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        except FileNotFoundError:
            return
        else:
            raise OSError(98, "another process listens there")
