"""Random bytes for nonces and keys, fetched from the system many at a time."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import cython

_FETCH: cython.Py_ssize_t = 1024


@cython.cclass
class Randomness:
    """Gives out every byte of `source` once, in order. For one thread of one process."""

    _source: Callable[[int], bytes]
    _fetched: bytes
    _used: cython.Py_ssize_t

    def __init__(self, source: Callable[[int], bytes] = secrets.token_bytes) -> None:
        self._source = source
        self._fetched = b""
        self._used = 0

    @cython.ccall
    def take(self, size: cython.Py_ssize_t) -> bytes:
        """The next `size` bytes, at most a kilobyte."""
        if self._used + size > len(self._fetched):
            self._fetched = self._source(_FETCH)
            self._used = 0
        at: cython.Py_ssize_t = self._used
        self._used = at + size
        return self._fetched[at : self._used]
