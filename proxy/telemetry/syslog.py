"""The system's log: each line as a datagram to its socket (RFC 3164, as syslog(3) writes it)."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Final

SOCKET: Final = "/dev/log"
_FACILITIES: Final = {"user": 1, "daemon": 3, "auth": 4, "authpriv": 10} | {
    f"local{number}": 16 + number for number in range(8)
}
_SEVERITIES: Final = {"DEBUG": 7, "LOG": 6, "WARNING": 4, "ERROR": 3, "FATAL": 2}
_LONGEST = 2000


class Syslog:
    """Says lines to the system's log and never waits for it: what it does not take is lost.

    A log that is not there yet, or was started anew, is looked for at each line.
    """

    def __init__(self, ident: str, facility: str, path: str = SOCKET) -> None:
        self._tag = f"{ident}[{os.getpid()}]"
        self._facility = _FACILITIES[facility]
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def say(self, level: str, text: str) -> None:
        """`level` as lines of text have it."""
        priority = self._facility * 8 + _SEVERITIES.get(level, 6)
        line = f"<{priority}>{self._tag}: {text[:_LONGEST]}"
        with contextlib.suppress(OSError):
            self._socket.sendto(line.encode("utf-8", "backslashreplace"), self._path)

    def close(self) -> None:
        self._socket.close()
