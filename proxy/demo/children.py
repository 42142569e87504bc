"""Child processes that never outlive their parent, and free ports for them to listen on."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import signal
import socket
import sys
from collections.abc import Callable

LOOPBACK = "127.0.0.1"
_PR_SET_PDEATHSIG = 1
_PORTS = range(20_000, 32_000)
_ATTEMPTS = 200


def free_port() -> int:
    """A TCP port on loopback that nobody listened on a moment ago.

    Below the range that systems take the ports of outgoing connections from, so that none of
    those gets it before the listener, or while a server restarts. Raises OSError when all tried
    ports are taken.
    """
    for _ in range(_ATTEMPTS):
        port = random.choice(_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((LOOPBACK, port))
            return port
    raise OSError(f"no free TCP port found on {LOOPBACK}")


def die_with_parent(sig: signal.Signals) -> Callable[[], None] | None:
    """A `preexec_fn` that has the kernel send `sig` to the child when its parent dies.

    Linux only (prctl(2), PR_SET_PDEATHSIG); None elsewhere. The "parent" is the thread that
    started the child, so start children from a thread that lives as long as they should.
    """
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    parent = os.getpid()

    def tie() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(sig))
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)

    return tie
