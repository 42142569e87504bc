"""What the kernel says of the two ends of a socket."""

from __future__ import annotations

import pwd
import socket
import struct

_CREDENTIALS = struct.Struct("3i")
"""Process, user, group (unix(7), SO_PEERCRED)."""


def unix_user(fd: int) -> str | None:
    """The name of the account that connected; None where the system does not tell."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return None
    sock = socket.socket(fileno=fd)
    try:
        found = sock.getsockopt(socket.SOL_SOCKET, option, _CREDENTIALS.size)
        return pwd.getpwuid(_CREDENTIALS.unpack(found)[1]).pw_name
    except (OSError, KeyError):
        return None
    finally:
        sock.detach()


def address_here(fd: int) -> str:
    """Address and port of our end of a connection; `unix` for a unix socket."""
    sock = socket.socket(fileno=fd)
    try:
        name = sock.getsockname()
    finally:
        sock.detach()
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else "unix"
