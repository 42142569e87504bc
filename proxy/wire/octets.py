"""The few operations on raw bytes that the way of a transaction needs, at C speed when compiled."""

from __future__ import annotations

import cython

if cython.compiled:
    from cython.cimports.cpython.bytearray import PyByteArray_AS_STRING, PyByteArray_Resize
    from cython.cimports.libc.string import memcpy


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
    if not cython.compiled:
        return buffer.find(0, at, end)
    i: cython.Py_ssize_t = at
    while i < end:
        if buffer[i] == 0:
            return i
        i += 1
    return -1


def append(
    target: bytearray, source: bytearray, at: cython.Py_ssize_t, end: cython.Py_ssize_t
) -> None:
    """`target += source[at:end]` without the slice in between."""
    if not cython.compiled:
        target += memoryview(source)[at:end]
        return
    size: cython.Py_ssize_t = len(target)
    PyByteArray_Resize(target, size + end - at)
    memcpy(PyByteArray_AS_STRING(target) + size, PyByteArray_AS_STRING(source) + at, end - at)
