"""A socket as that of a frozen machine: whatever arrives is dropped, unanswered."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# asm-generic/socket.h; Linux, "Linux Socket Filtering aka Berkeley Packet Filter".
_ATTACH_FILTER, _DETACH_FILTER = 26, 27
_RETURN_CONSTANT = 0x06


@contextmanager
def frozen(descriptor: int) -> Iterator[None]:
    """No byte, keepalive probe or FIN that comes in is seen or acknowledged meanwhile.

    Elsewhere than on Linux the socket is only left alone.
    """
    if sys.platform != "linux":
        yield
        return
    with socket.socket(fileno=os.dup(descriptor)) as same:
        _attach(same)
        try:
            yield
        finally:
            same.setsockopt(socket.SOL_SOCKET, _DETACH_FILTER, 0)


def _attach(sock: socket.socket) -> None:
    """A filter of one instruction, `return 0`: keep nothing of a packet."""
    instruction = ctypes.create_string_buffer(struct.pack("HBBI", _RETURN_CONSTANT, 0, 0, 0))
    program = struct.pack("HP", 1, ctypes.addressof(instruction))
    sock.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, program)


def vanish(descriptor: int) -> None:
    """End a connection as a killed process does: without the protocol's goodbye."""
    with socket.socket(fileno=os.dup(descriptor)) as same:
        same.shutdown(socket.SHUT_RDWR)
