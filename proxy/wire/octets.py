# cython: boundscheck=False, wraparound=False
"""The few operations on raw bytes that the way of a transaction needs, at C speed when compiled."""

from __future__ import annotations

import cython

if cython.compiled:
    from cython.cimports.cpython.bytearray import (
        PyByteArray_AS_STRING,
        PyByteArray_FromStringAndSize,
        PyByteArray_Resize,
    )
    from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize
    from cython.cimports.libc.string import memchr, memcmp, memcpy


def u32(buffer: bytearray, at: cython.Py_ssize_t) -> cython.Py_ssize_t:
    """The unsigned big-endian number in four bytes from `at`."""
    return (
        (cython.cast(cython.Py_ssize_t, buffer[at]) << 24)
        | (cython.cast(cython.Py_ssize_t, buffer[at + 1]) << 16)
        | (cython.cast(cython.Py_ssize_t, buffer[at + 2]) << 8)
        | cython.cast(cython.Py_ssize_t, buffer[at + 3])
    )


def zero(buffer: bytearray, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.Py_ssize_t:
    """Where the first zero byte from `at` stands; -1 when there is none before `end`."""
    if cython.compiled:
        if end <= at:
            return -1
        start: cython.p_char = PyByteArray_AS_STRING(buffer)
        found: cython.p_char = cython.cast(cython.p_char, memchr(start + at, 0, end - at))
        return -1 if found == cython.NULL else found - start
    return buffer.find(0, at, end)


def part(buffer: bytearray, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> bytes:
    """buffer[at:end] as bytes, copied once."""
    if cython.compiled:
        return PyBytes_FromStringAndSize(PyByteArray_AS_STRING(buffer) + at, end - at)
    return bytes(memoryview(buffer)[at:end])


def kept(buffer: bytearray, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> bytearray:
    """buffer[at:end] without the slice object in between."""
    if cython.compiled:
        return PyByteArray_FromStringAndSize(PyByteArray_AS_STRING(buffer) + at, end - at)
    return buffer[at:end]


def equal(
    buffer: bytearray, at: cython.Py_ssize_t, end: cython.Py_ssize_t, other: bytes
) -> cython.bint:
    """Whether buffer[at:end] holds the same bytes as `other`."""
    if cython.compiled:
        if len(other) != end - at:
            return False
        start: cython.p_char = PyByteArray_AS_STRING(buffer)
        return memcmp(start + at, PyBytes_AS_STRING(other), end - at) == 0
    return memoryview(buffer)[at:end] == other


def append(
    target: bytearray, source: bytearray, at: cython.Py_ssize_t, end: cython.Py_ssize_t
) -> None:
    """`target += source[at:end]` without the slice in between."""
    if cython.compiled:
        size: cython.Py_ssize_t = len(target)
        PyByteArray_Resize(target, size + end - at)
        memcpy(PyByteArray_AS_STRING(target) + size, PyByteArray_AS_STRING(source) + at, end - at)
    else:
        target += memoryview(source)[at:end]


_all_pieces: list[Pieces] = []


def drop_pieces() -> None:
    """Whoever was filling some has failed: nobody is to send them."""
    for pieces in _all_pieces:
        pieces.used = 0


@cython.cclass
class Pieces:
    """A buffer that is filled piece by piece, sent and used again: `buffer[:used]`."""

    def __init__(self) -> None:
        self.buffer = bytearray(65536)
        self.used = 0
        _all_pieces.append(self)

    @cython.cfunc
    def _grow(self, more: cython.Py_ssize_t) -> object:
        self.buffer.extend(bytes(max(more, len(self.buffer))))
        return None

    @cython.ccall
    def add(self, source: bytearray, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> object:
        """Add source[at:end]."""
        size: cython.Py_ssize_t = end - at
        if size <= 0:
            return None
        if self.used + size > len(self.buffer):
            self._grow(size)
        if cython.compiled:
            target: cython.p_char = PyByteArray_AS_STRING(self.buffer) + self.used
            memcpy(target, PyByteArray_AS_STRING(source) + at, size)
        else:
            self.buffer[self.used : self.used + size] = source[at:end]
        self.used += size
        return None

    @cython.ccall
    def add_bytes(self, source: bytes) -> object:
        size: cython.Py_ssize_t = len(source)
        if self.used + size > len(self.buffer):
            self._grow(size)
        if cython.compiled:
            target: cython.p_char = PyByteArray_AS_STRING(self.buffer) + self.used
            memcpy(target, PyBytes_AS_STRING(source), size)
        else:
            self.buffer[self.used : self.used + size] = source
        self.used += size
        return None

    @cython.ccall
    def add_head(self, kind: cython.int, length: cython.Py_ssize_t) -> object:
        """Add a message's type byte and length word."""
        if self.used + 5 > len(self.buffer):
            self._grow(5)
        at: cython.Py_ssize_t = self.used
        self.buffer[at] = kind
        self.buffer[at + 1] = (length >> 24) & 0xFF
        self.buffer[at + 2] = (length >> 16) & 0xFF
        self.buffer[at + 3] = (length >> 8) & 0xFF
        self.buffer[at + 4] = length & 0xFF
        self.used = at + 5
        return None
