"""Temporary folders that do not outlive their process for long, however it ends."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

_LOCK = "in-use.lock"


class OwnedFolder:
    """A temporary folder, locked while its process lives.

    Folders with the same prefix whose process is gone are removed first: who was killed by
    SIGKILL could not.
    """

    def __init__(self, prefix: str, parent: str) -> None:
        _sweep(prefix, Path(parent))
        self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        # By its name it is found only once it is locked.
        part = self.path / f"{_LOCK}.part"
        self._lock = os.open(part, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        part.rename(self.path / _LOCK)

    def remove(self) -> None:
        """With all that is in it. Call it once."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _sweep(prefix: str, parent: Path) -> None:
    for folder in parent.glob(f"{prefix}*"):
        if _abandoned(folder / _LOCK):
            shutil.rmtree(folder, ignore_errors=True)


def _abandoned(lock: Path) -> bool:
    """Whether there is a lock that nobody holds."""
    try:
        opened = os.open(lock, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(opened)
    return True
