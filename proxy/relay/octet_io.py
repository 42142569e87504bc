"""recv(2) and send(2) on a descriptor and a reused buffer, called directly when compiled."""

from __future__ import annotations

import os
import socket
from typing import Any

import cython

if cython.compiled:
    from cython.cimports.cpython.bytearray import PyByteArray_AS_STRING
    from cython.cimports.libc.errno import EAGAIN, ECONNABORTED, EINTR, errno
    from cython.cimports.proxy.relay.csocket import (
        AF_INET,
        AF_INET6,
        MSG_NOSIGNAL,
        SOCK_CLOEXEC,
        SOCK_NONBLOCK,
        accept4,
        inet_ntop,
        ntohs,
        recv,
        send,
        sockaddr,
        sockaddr_in,
        sockaddr_in6,
        sockaddr_storage,
        socklen_t,
    )
else:
    CLOSED, BLOCKED = -1, -2


def accept(listening: socket.socket) -> tuple[int, tuple[Any, ...] | None] | None:
    """(fd, peer) of a new non-blocking connection; peer is None unless it came by TCP.

    None when there is no connection to accept now. Raises OSError.
    """
    if cython.compiled:
        return _accept(listening.fileno())
    try:
        sock, peer = listening.accept()
    except (BlockingIOError, InterruptedError, ConnectionAbortedError):
        return None
    sock.setblocking(False)
    return sock.detach(), peer[:2] if isinstance(peer, tuple) else None


if cython.compiled:

    @cython.cfunc
    def _accept(listening: cython.int) -> object:
        place: sockaddr_storage = cython.declare(sockaddr_storage)
        size: socklen_t = cython.sizeof(place)
        generic: cython.pointer(sockaddr) = cython.cast(
            cython.pointer(sockaddr), cython.address(place)
        )
        fd: cython.int = accept4(
            listening, generic, cython.address(size), SOCK_NONBLOCK | SOCK_CLOEXEC
        )
        if fd >= 0:
            return fd, _peer(generic)
        if errno == EAGAIN or errno == EINTR or errno == ECONNABORTED:
            return None
        raise OSError(errno, os.strerror(errno))

    @cython.cfunc
    def _peer(generic: cython.pointer(sockaddr)) -> object:
        text = cython.declare(cython.char[64])
        if generic.sa_family == AF_INET:
            four = cython.cast(cython.pointer(sockaddr_in), generic)
            inet_ntop(AF_INET, cython.address(four.sin_addr), text, 64)
            return cython.cast(bytes, text).decode("ascii"), ntohs(four.sin_port)
        if generic.sa_family == AF_INET6:
            six = cython.cast(cython.pointer(sockaddr_in6), generic)
            inet_ntop(AF_INET6, cython.address(six.sin6_addr), text, 64)
            return cython.cast(bytes, text).decode("ascii"), ntohs(six.sin6_port)
        return None


def receive_into(
    fd: cython.int, buffer: bytearray, at: cython.Py_ssize_t, end: cython.Py_ssize_t
) -> cython.Py_ssize_t:
    """Bytes read into buffer[at:end]; BLOCKED when there are none now, CLOSED at the end."""
    if cython.compiled:
        n: cython.Py_ssize_t = recv(fd, PyByteArray_AS_STRING(buffer) + at, end - at, 0)
        if n > 0:
            return n
        if n < 0 and (errno == EAGAIN or errno == EINTR):
            return BLOCKED
        return CLOSED
    return _read(fd, memoryview(buffer)[at:end])


def send_from(
    fd: cython.int, buffer: bytearray, at: cython.Py_ssize_t, end: cython.Py_ssize_t
) -> cython.Py_ssize_t:
    """Bytes of buffer[at:end] that the kernel took, perhaps 0; CLOSED when the peer is gone."""
    if cython.compiled:
        n: cython.Py_ssize_t = send(fd, PyByteArray_AS_STRING(buffer) + at, end - at, MSG_NOSIGNAL)
        if n >= 0:
            return n
        return 0 if errno == EAGAIN or errno == EINTR else CLOSED
    return _write(fd, memoryview(buffer)[at:end])


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
