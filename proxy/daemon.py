"""What a program that runs on its own asks of the machine: an account, a pid file, a log file.

And what systemd tells it and wants to be told.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import socket
import time
from importlib import import_module
from pathlib import Path

from proxy.errors import SettingsError

_LATER = ("asyncpg", "concurrent.futures.thread", "encodings.idna", "uvloop")
"""Modules that are not imported until they are needed, by us, asyncio or the resolver."""

_FIRST_INHERITED = 3
"""File descriptor of the first socket (sd_listen_fds(3), SD_LISTEN_FDS_START)."""


def become(user: str) -> None:
    """Give up root for this account. Raises SettingsError; nothing to do if it is us already.

    The account may not be able to read Python's folders: modules that may be needed come first.
    """
    for name in _LATER:
        with contextlib.suppress(ImportError):
            import_module(name)
    entry = pwd.getpwnam(user)
    if os.geteuid() == entry.pw_uid:
        return
    if os.geteuid() != 0:
        raise SettingsError([f"run_as: only root can become {user}; start as root or as {user}"])
    os.initgroups(user, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


class PidFile:
    """The process id in a file, for as long as the process runs.

    Raises SettingsError when the file cannot be written or another process that lives is in it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        if _lives(path):
            raise SettingsError([f"pidfile {path}: names a process that runs; stop that one first"])
        try:
            path.write_text(f"{os.getpid()}\n")
        except OSError as error:
            raise SettingsError([f"pidfile {path}: {error.strerror}; correct the path"]) from None

    def remove(self) -> None:
        """Take the file away, if it is still ours."""
        with contextlib.suppress(OSError):
            if _written(self._path) == os.getpid():
                self._path.unlink()


def _written(path: Path) -> int:
    """The process id in a file, 0 if there is none."""
    try:
        return int(path.read_text(errors="replace").strip())
    except (OSError, ValueError):
        return 0


def _lives(path: Path) -> bool:
    pid = _written(path)
    if pid <= 0 or pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def open_log(path: Path) -> int:
    """A file descriptor that appends to the log file. Raises SettingsError."""
    try:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise SettingsError([f"logfile {path}: {error.strerror}; correct the path"]) from None


def notify(*words: str) -> None:
    """Tell systemd, if it wants to know, how we are (sd_notify(3)): `READY=1` and the like."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    place = f"\0{address[1:]}" if address.startswith("@") else address
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto("\n".join(words).encode(), place)


def notify_reloading() -> None:
    """A reload begins; `READY=1` ends it (systemd.service(5), Type=notify-reload)."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


def inherited_sockets() -> list[socket.socket]:
    """Listening sockets that systemd has opened for us (sd_listen_fds(3)); none without it.

    Raises SettingsError for one that cannot be listened on.
    """
    count = os.environ.get("LISTEN_FDS", "")
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or not count.isdecimal():
        return []
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)
    return [_listening(_FIRST_INHERITED + i) for i in range(int(count))]


def _listening(fd: int) -> socket.socket:
    try:
        sock = socket.socket(fileno=fd)
        listening = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError:
        listening = 0
    if not listening:
        raise SettingsError(
            [f"socket activation: {fd} is not a listening socket; correct the unit"]
        )
    sock.setblocking(False)
    sock.set_inheritable(False)
    return sock
