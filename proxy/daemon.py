"""What a program that runs on its own asks of the machine: an account, a pid file, a log file."""

from __future__ import annotations

import contextlib
import os
import pwd
from pathlib import Path

from proxy.errors import SettingsError


def become(user: str) -> None:
    """Give up root for this account. Raises SettingsError; nothing to do if it is us already."""
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
