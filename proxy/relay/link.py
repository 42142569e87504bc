# cython: boundscheck=False, wraparound=False
"""A link is one non-blocking socket, plain or TLS, watched by the loop.

Reading: the loop calls `on_readable`, which reads into the one shared buffer `RX` and hands it to
`consume(buffer, n)`. What `consume` cannot use yet it puts into `held`; that is put in front of
the next read. Writing: `transmit` sends at once; what the kernel does not take is copied to
`out`, and whoever feeds this link is told to pause until it is gone. So a link never keeps more
than one buffer in either direction.
"""

from __future__ import annotations

import os
import socket
import ssl
from typing import Any

import cython

from proxy.errors import InternalError, ProtocolViolation
from proxy.relay.tls import Tls
from proxy.wire.octets import drop_pieces

if cython.compiled:
    from cython.cimports.proxy.relay.octet_io import BLOCKED, CLOSED, receive_into, send_from
    from cython.cimports.proxy.wire.octets import append, kept, u32
else:
    from proxy.relay.octet_io import BLOCKED, CLOSED, receive_into, send_from
    from proxy.wire.octets import append, kept, u32

RX_SIZE = 65536
RX: bytearray = bytearray(RX_SIZE)
_RAW: bytearray = bytearray(RX_SIZE)


@cython.cclass
class Link:
    """What client and server links have in common.

    `fd` is -1 once closed. `reading`: the loop watches it for input; `out`: bytes the kernel has
    not taken yet, None in the steady state; `broken`: the peer is gone, `on_lost` is on its way.
    """

    loop: Any
    fd: int
    tls: Tls
    held: bytearray
    out: bytearray
    reading: bool
    broken: bool

    def __init__(self, loop: object, fd: cython.int) -> None:
        self.loop = loop
        self.fd = fd
        self.tls = None
        self.held = None
        self.out = None
        self.reading = False
        self.broken = False

    # -- what a client or server link adds -------------------------------------------------

    @cython.ccall
    def consume(self, buffer: bytearray, n: cython.Py_ssize_t) -> object:
        """Take bytes [0, n) of `buffer`, which is reused afterwards."""
        raise NotImplementedError

    @cython.ccall
    def on_lost(self) -> object:
        """The peer closed the connection or it broke."""
        raise NotImplementedError

    @cython.ccall
    def on_blocked(self) -> object:
        """The peer does not take what is sent: pause whoever feeds this link."""
        raise NotImplementedError

    @cython.ccall
    def on_drained(self) -> object:
        """Everything is sent: go on feeding."""
        raise NotImplementedError

    @cython.ccall
    def on_violation(self, error: object) -> object:
        """The peer broke the protocol (`ProtocolViolation`)."""
        raise NotImplementedError

    # -- reading ---------------------------------------------------------------------------

    @cython.ccall
    def watch(self) -> object:
        """Read from now on."""
        if not self.reading and self.fd >= 0:
            self.reading = True
            self.loop.add_reader(self.fd, self.on_readable)
            if self.tls is not None:
                self.loop.call_soon(self.on_readable)
        return None

    @cython.ccall
    def pause(self) -> object:
        """Read no more until `watch`."""
        if self.reading and self.fd >= 0:
            self.reading = False
            self.loop.remove_reader(self.fd)
        return None

    def on_readable(self) -> None:
        try:
            if self.tls is None:
                self._read_plain()
            else:
                self._read_tls()
        except ProtocolViolation as error:
            self.on_violation(error)
        except Exception:
            drop_pieces()
            self.on_violation(InternalError())
            raise

    @cython.cfunc
    def _read_plain(self) -> object:
        if self.fd < 0:
            return None
        at: cython.Py_ssize_t = self._unhold()
        n: cython.Py_ssize_t
        if at < 0:
            return self._read_large()
        n = receive_into(self.fd, RX, at, RX_SIZE)
        if n > 0:
            self.held = None
            self.consume(RX, at + n)
        elif n == CLOSED:
            self.on_lost()
        return None

    @cython.cfunc
    def _unhold(self) -> cython.Py_ssize_t:
        """Put held bytes at the start of RX; -1 when they fill it."""
        if self.held is None:
            return 0
        size: cython.Py_ssize_t = len(self.held)
        if size >= RX_SIZE:
            return -1
        RX[:size] = self.held
        return size

    @cython.cfunc
    def _read_large(self) -> object:
        """A message that must be seen whole is larger than the shared buffer."""
        n: cython.Py_ssize_t = receive_into(self.fd, RX, 0, RX_SIZE)
        if n == CLOSED:
            self.on_lost()
        elif n > 0:
            self._consume_large(n)
        return None

    @cython.cfunc
    def _consume_large(self, n: cython.Py_ssize_t) -> object:
        whole: bytearray = self.held
        append(whole, RX, 0, n)
        if len(whole) < u32(whole, 1) + 1:
            return None
        self.held = None
        self.consume(whole, len(whole))
        return None

    @cython.cfunc
    def _read_tls(self) -> object:
        if self._feed_tls() == CLOSED:
            return self.on_lost()
        while self.fd >= 0 and self.reading and not self.broken:
            if not self._read_decrypted():
                break
        return None

    @cython.cfunc
    def _feed_tls(self) -> cython.Py_ssize_t:
        n: cython.Py_ssize_t = BLOCKED
        if self.fd >= 0:
            n = receive_into(self.fd, _RAW, 0, RX_SIZE)
        if n > 0:
            with memoryview(_RAW) as view:
                self.tls.feed(view[:n])
        return n

    @cython.cfunc
    def _read_decrypted(self) -> cython.bint:
        """Hand on what TLS has ready; False when it has no more."""
        at: cython.Py_ssize_t = self._unhold()
        large: cython.bint = at < 0
        n: cython.Py_ssize_t = 0
        if large:
            at = 0
        try:
            with memoryview(RX) as view:
                n = self.tls.read_into(view[at:])
        except ssl.SSLError:
            self._flush_tls()  # the alert says why
            n = 0
        if n > 0 and large:
            self._consume_large(n)
        elif n > 0:
            self.held = None
            self.consume(RX, at + n)
        elif n == 0:
            self.on_lost()
        self._flush_tls()
        return n > 0

    # -- writing ---------------------------------------------------------------------------

    @cython.ccall
    def transmit(self, buffer: bytearray, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> object:
        """Send buffer[at:end]; the caller may reuse the buffer at once."""
        if self.fd < 0 or self.broken or at >= end:
            return None
        if self.tls is not None:
            with memoryview(buffer) as view:
                self.tls.write(view[at:end])
            return self._flush_tls()
        if self.out is not None:
            append(self.out, buffer, at, end)
            return self.on_blocked()
        n: cython.Py_ssize_t = send_from(self.fd, buffer, at, end)
        if n == end - at:
            return None
        return self._short(buffer, at, end, n)

    @cython.ccall
    def send(self, message: bytes) -> object:
        """Send a message of ours."""
        return self.transmit(bytearray(message), 0, len(message))

    @cython.cfunc
    def _flush_tls(self) -> object:
        if self.tls is None or self.fd < 0:
            return None
        ciphertext: bytearray = bytearray(self.tls.take())
        if not ciphertext:
            return None
        if self.out is not None:
            self.out += ciphertext
            return self.on_blocked()
        n: cython.Py_ssize_t = send_from(self.fd, ciphertext, 0, len(ciphertext))
        if n == len(ciphertext):
            return None
        return self._short(ciphertext, 0, len(ciphertext), n)

    @cython.cfunc
    def _short(
        self,
        buffer: bytearray,
        at: cython.Py_ssize_t,
        end: cython.Py_ssize_t,
        n: cython.Py_ssize_t,
    ) -> object:
        if n == CLOSED:
            return self._break()
        self.out = kept(buffer, at + n, end)
        self.loop.add_writer(self.fd, self.on_writable)
        return self.on_blocked()

    @cython.cfunc
    def _break(self) -> object:
        if not self.broken:
            self.broken = True
            self.loop.call_soon(self._report_lost)
        return None

    def _report_lost(self) -> None:
        if self.fd >= 0:
            self.on_lost()

    def on_writable(self) -> None:
        if self.fd < 0 or self.out is None:
            return
        n: cython.Py_ssize_t = send_from(self.fd, self.out, 0, len(self.out))
        if n == CLOSED:
            self.loop.remove_writer(self.fd)
            self._break()
        elif n == len(self.out):
            self.out = None
            self.loop.remove_writer(self.fd)
            self.on_drained()
        else:
            del self.out[:n]

    # -- the end ---------------------------------------------------------------------------

    @cython.ccall
    def finish_sending(self) -> object:
        """Nothing more comes: the peer is told so, what was not sent is lost."""
        if self.fd < 0:
            return None
        if self.out is not None:
            self.loop.remove_writer(self.fd)
            self.out = None
        sock = socket.socket(fileno=self.fd)
        try:
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        finally:
            sock.detach()
        return None

    @cython.ccall
    def surrender(self) -> cython.int:
        """Give up the socket without closing it: its descriptor, which another is to watch."""
        if self.tls is not None:
            self.tls.close()
            self._flush_tls()
        fd, self.fd = self.fd, -1
        self.reading = False
        self.tls = None
        self.held = None
        return fd

    @cython.ccall
    def hang_up(self) -> object:
        """Close the socket now. What was not sent is lost."""
        if self.fd < 0:
            return None
        self.pause()
        if self.out is not None:
            self.loop.remove_writer(self.fd)
            self.out = None
        fd, self.fd = self.fd, -1
        os.close(fd)
        self.tls = None
        self.held = None
        return None
