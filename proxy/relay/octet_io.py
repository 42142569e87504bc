"""recv(2) and send(2) on a descriptor and a reused buffer, called directly when compiled."""

from __future__ import annotations

import os

import cython

if cython.compiled:
    from cython.cimports.cpython.bytearray import PyByteArray_AS_STRING
    from cython.cimports.libc.errno import EAGAIN, EINTR, errno
    from cython.cimports.proxy.relay.csocket import MSG_NOSIGNAL, recv, send
else:
    CLOSED, BLOCKED = -1, -2


def receive_into(
    fd: cython.int, buffer: bytearray, at: cython.Py_ssize_t, end: cython.Py_ssize_t
) -> cython.Py_ssize_t:
    """Bytes read into buffer[at:end]; BLOCKED when there are none now, CLOSED at the end."""
    if not cython.compiled:
        return _read(fd, memoryview(buffer)[at:end])
    n: cython.Py_ssize_t = recv(fd, PyByteArray_AS_STRING(buffer) + at, end - at, 0)
    if n > 0:
        return n
    if n < 0 and (errno == EAGAIN or errno == EINTR):
        return BLOCKED
    return CLOSED


def send_from(
    fd: cython.int, buffer: bytearray, at: cython.Py_ssize_t, end: cython.Py_ssize_t
) -> cython.Py_ssize_t:
    """Bytes of buffer[at:end] that the kernel took, perhaps 0; CLOSED when the peer is gone."""
    if not cython.compiled:
        return _write(fd, memoryview(buffer)[at:end])
    n: cython.Py_ssize_t = send(fd, PyByteArray_AS_STRING(buffer) + at, end - at, MSG_NOSIGNAL)
    if n >= 0:
        return n
    return 0 if errno == EAGAIN or errno == EINTR else CLOSED


def _read(fd: int, view: memoryview) -> int:
    try:
        return os.readv(fd, [view]) or CLOSED
    except (BlockingIOError, InterruptedError):
        return BLOCKED
    except OSError:
        return CLOSED
    finally:
        view.release()


def _write(fd: int, view: memoryview) -> int:
    try:
        return os.write(fd, view)
    except (BlockingIOError, InterruptedError):
        return 0
    except OSError:
        return CLOSED
    finally:
        view.release()
