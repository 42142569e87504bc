"""The monotonic clock in seconds: `time.monotonic`, without a Python call when compiled."""

from __future__ import annotations

from time import monotonic

import cython

if cython.compiled:
    from cython.cimports.posix.time import CLOCK_MONOTONIC, clock_gettime, timespec


def now() -> cython.double:
    """Seconds on the clock of `time.monotonic`."""
    if cython.compiled:
        read: timespec = cython.declare(timespec)
        clock_gettime(CLOCK_MONOTONIC, cython.address(read))
        return read.tv_sec + read.tv_nsec * 1e-9
    return monotonic()
