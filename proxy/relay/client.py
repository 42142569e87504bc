# cython: boundscheck=False, wraparound=False
"""A connection from a function that has logged in (or is about to: see `proxy.relay.login`).

`consume` walks the headers of what the client says. What needs a server borrows one; what a
server must not see as it is (names of prepared statements) is changed on the way; everything
else goes on in runs of bytes. A client that waits keeps what it sent in `held`.
"""

from __future__ import annotations

import cython

from proxy.errors import Cancelled, FeatureRefused, PgfunnelError, ProtocolViolation
from proxy.relay.fitting import STEPS
from proxy.telemetry.reasons import CloseReason
from proxy.wire import messages

if cython.compiled:
    from cython.cimports.proxy.relay.borrowing import LEAVES
    from cython.cimports.proxy.relay.fitting import PIECES, SESSION
    from cython.cimports.proxy.relay.link import RX_SIZE
    from cython.cimports.proxy.relay.naming import MAX_KEPT, Naming
    from cython.cimports.proxy.relay.server import Server
    from cython.cimports.proxy.session.owed import (
        BIND,
        CLOSE,
        DESCRIBE,
        EXECUTE,
        FUNCTION,
        QUERY,
        SYNC,
        Owed,
    )
    from cython.cimports.proxy.wire.octets import kept, u32
else:
    from proxy.relay.borrowing import LEAVES
    from proxy.relay.fitting import PIECES, SESSION
    from proxy.relay.link import RX_SIZE
    from proxy.relay.naming import MAX_KEPT, Naming
    from proxy.relay.server import Server
    from proxy.session.owed import (
        BIND,
        CLOSE,
        DESCRIBE,
        EXECUTE,
        FUNCTION,
        QUERY,
        SYNC,
        Owed,
    )
    from proxy.wire.octets import kept, u32

_COPY_DATA: cython.int = 100  # d
_LEFT, _VANISHED = CloseReason.CLIENT_LEFT, CloseReason.CLIENT_VANISHED
_MAX_SIZE: cython.Py_ssize_t = messages.MAX_MESSAGE


@cython.cclass
class Client(Naming):
    """One client, as it speaks and as it is closed."""

    @property
    def local(self) -> bool:
        """Whether it came over a unix socket."""
        return not isinstance(self.address, tuple)

    @property
    def state(self) -> str:
        if self.pool is None:
            return "login"
        if self.waiting or self.ahead in STEPS:
            return "waiting"
        if self.server is None:
            return "idle" if self.tunnel is None else "active"
        return "pinned" if self.session.holds and self.at_rest() else "active"

    # -- what the client says --------------------------------------------------------------

    @cython.ccall
    def consume(self, buffer: bytearray, n: cython.Py_ssize_t) -> object:
        if self.login is not None:
            self.login.feed(buffer, n)
            return self.hear_early()
        if self.waiting or self.ahead or self.settling:
            return self._hold(buffer, 0, n)
        return self._relay(buffer, n)

    @cython.cfunc
    def _hold(self, buffer: bytearray, at: cython.Py_ssize_t, n: cython.Py_ssize_t) -> object:
        """Keep what cannot be sent yet; past one buffer, stop reading."""
        self.held = kept(buffer, at, n)
        if n - at >= RX_SIZE:
            self.pause()
        return None

    @cython.cfunc
    def _violated(
        self, buffer: bytearray, run: cython.Py_ssize_t, end: cython.Py_ssize_t, said: str
    ) -> object:
        """What came in front of a broken message is still done, as by Postgres."""
        self._send_on(buffer, run, end)
        return self.close(CloseReason.PROTOCOL_VIOLATION, ProtocolViolation(said))

    @cython.cfunc
    def _relay(self, buffer: bytearray, n: cython.Py_ssize_t) -> object:  # noqa: C901 - flat
        run: cython.Py_ssize_t = 0
        i: cython.Py_ssize_t = 0
        after: cython.Py_ssize_t
        end: cython.Py_ssize_t
        kind: cython.int
        if self.resting:
            self._stir()
        self.heard = n
        if self.remaining > 0:
            i = min(n, self.remaining)
            self.remaining -= i
            if self.server is None:
                run = i  # of a stray CopyData
        while i + 5 <= n:
            kind = buffer[i]
            end = i + u32(buffer, i + 1) + 1
            if end < i + 5 or end - i > _MAX_SIZE:
                return self._violated(buffer, run, i, "invalid message length")
            if end > n and self._awaited(kind, end - i):
                break
            if self.server is None:
                if self._alone(kind):
                    if self.fd < 0:
                        return None
                    i = run = end
                    continue
                if not self._borrow():
                    return None if self.fd < 0 else self._hold(buffer, i, n)
            if self._waits(kind, buffer, i):
                self._hold(buffer, i, n)
                return self._await_answers(buffer, run, i)
            if kind == self.simple:
                run = self._query(buffer, run, i, end, n)
            elif kind == 80 or kind == BIND or kind == DESCRIBE or kind == CLOSE:  # P
                after = self._prepared(kind, buffer, run, i, end, n)
                if self.settling:
                    self._hold(buffer, i, n)
                    return self._send_on(buffer, i, i)
                if after < 0:
                    break
                run = after
            elif kind == 88:  # X
                return self._leave(buffer, run, i)
            elif kind == QUERY:
                self._send_on(buffer, run, i)
                return self._refuse_simple()
            elif kind == FUNCTION:
                run = self._calls(buffer, run, i, end, n)
                self.server.owed.push(FUNCTION)
            elif not self._other(kind, buffer, i):
                said = f"invalid frontend message type {kind}"
                return self._violated(buffer, run, i, said)
            i = end
        if i > n:
            self.remaining = i - n
            i = n
        elif i < n:
            self.held = kept(buffer, i, n)
        if i == 0 and self.session.holds and not PIECES.used:
            return None  # pinned, and no more is there than a beginning: it is where it was
        return self._send_on(buffer, run, i)

    @cython.cfunc
    def _await_answers(
        self, buffer: bytearray, run: cython.Py_ssize_t, end: cython.Py_ssize_t
    ) -> object:
        """What is in front goes out; what is held follows when that is answered."""
        self.settling = True
        if self.server.owed.unsynced:
            PIECES.add(buffer, run, end)
            PIECES.add_bytes(messages.FLUSH)
            run = end
        return self._send_on(buffer, run, end)

    @cython.cfunc
    def _waits(self, kind: cython.int, buffer: bytearray, at: cython.Py_ssize_t) -> cython.bint:
        """Whether the message of this kind at `at` waits for answers to those in front of it.

        What names stand for may be open; or RESET has led to the server's default, from where
        something is put back first.
        """
        owed: Owed = self.server.owed
        if self.session.withholds_next and owed.awaits_ready():
            return True
        names: cython.bint = kind == QUERY or kind == 80 or kind == BIND  # P
        if kind == DESCRIBE or kind == CLOSE:
            names = buffer[at + 5] == 83  # S, not a portal
        return names and not owed.settled()

    @cython.cfunc
    def _awaited(self, kind: cython.int, size: cython.Py_ssize_t) -> cython.bint:
        """Whether a message of this size is looked at only when it is all there."""
        if kind == _COPY_DATA:
            return False
        return size <= RX_SIZE or (kind == QUERY and size <= MAX_KEPT)

    @cython.cfunc
    def _send_on(self, buffer: bytearray, run: cython.Py_ssize_t, end: cython.Py_ssize_t) -> object:
        server: Server = self.server
        if server is None:
            return None
        if PIECES.used:
            PIECES.add(buffer, run, end)
            size: cython.Py_ssize_t = PIECES.used
            PIECES.used = 0
            self.pool.counters.bytes_received += size
            server.transmit(PIECES.buffer, 0, size)
        elif end > run:
            self.pool.counters.bytes_received += end - run
            server.transmit(buffer, run, end)
        if server.status == 73 and server.owed.nothing() and not server.waited_for:  # I
            server.shelf.boundary()
            self.on_boundary()
        return None

    @cython.cfunc
    def _refuse_simple(self) -> object:
        error = FeatureRefused(
            "PQexec disallowed", hint="disable_pqexec is set: use the extended query protocol."
        )
        return self.close(CloseReason.REFUSED, error)

    @cython.cfunc
    def _other(self, kind: cython.int, buffer: bytearray, at: cython.Py_ssize_t) -> cython.bint:
        """Account for a message that passes as it is; False: there is no such message."""
        owed: Owed = self.server.owed
        if kind == EXECUTE:
            if self.session.doubt is not None:
                self._run_on(buffer, at)
            owed.push(EXECUTE)
            self.pool.counters.queries += 1
        elif kind == SYNC:
            owed.push(SYNC)
        elif kind == 99 or kind == 102:  # c f
            owed.end_copy()
        else:
            return kind == _COPY_DATA or kind == 72  # H
        return True

    # -- without a server ------------------------------------------------------------------

    @cython.cfunc
    def _alone(self, kind: cython.int) -> cython.bint:
        """Deal with a message that needs no server; False when it needs one.

        Stray copy messages are ignored, as by Postgres.
        """
        if kind == SYNC:
            self.send(messages.READY_IDLE)
        elif kind == 88:  # X
            self.close(CloseReason.CLIENT_LEFT)
        elif kind != _COPY_DATA and kind != 99 and kind != 102 and kind != 72:  # c f H
            self._check_kind(kind)
            return False
        return True

    @cython.cfunc
    def _check_kind(self, kind: cython.int) -> object:
        """No server is borrowed for a message that no server takes."""
        if kind not in b"QPBDECF":
            raise ProtocolViolation(f"invalid frontend message type {kind}")
        return None

    # -- the end ---------------------------------------------------------------------------

    @cython.cfunc
    def _leave(self, buffer: bytearray, run: cython.Py_ssize_t, at: cython.Py_ssize_t) -> object:
        """Terminate: what came before it is still done, and answered, as by Postgres."""
        if at > run or PIECES.used:
            self._send_on(buffer, run, at)
        owed: Owed = None if self.server is None else self.server.owed
        done: cython.bint = owed is None or owed.nothing() or owed.lost
        if done or owed.unsynced or owed.copying or owed.skipping:
            return self.close(CloseReason.CLIENT_LEFT)
        self.leaving = LEAVES
        return self.pause()

    @cython.ccall
    def on_silence(self) -> object:
        if self.leaving == LEAVES:
            self.loop.call_soon(self.on_lost)
        return None

    @cython.ccall
    def on_lost(self) -> object:
        if self.settling:
            # What it sent before is still done, as by Postgres: then its end is read again.
            return self.pause()
        if self.leaving == LEAVES or (self.held is not None and self.held[:1] == b"X"):
            return self.close(CloseReason.CLIENT_LEFT)
        return self.close(CloseReason.CLIENT_VANISHED)

    @cython.ccall
    def on_violation(self, error: object) -> object:
        """What its server owes may have been noted, and not all of it sent."""
        PIECES.used = 0
        if self.server is not None:
            self.server.owed.lost = True
        return self.close(CloseReason.PROTOCOL_VIOLATION, error)

    @cython.ccall
    def close(self, reason: object, error: object = None) -> object:
        """Tell the client why (a PgfunnelError), close it, and see to its server."""
        if self.fd < 0:
            return None
        server: Server = self.server
        if isinstance(error, PgfunnelError) and not self._amid():
            self.send(messages.error_response(error))
        self.server = None
        mid_message: cython.bint = self.remaining > 0
        if self.waiting:
            self.waiting = False
            self.pool.leave(self)
        self.hub.client_gone(self, reason, error)
        if self.broken or reason is _LEFT or reason is _VANISHED:
            self.hang_up()
        else:
            self.hub.linger(self)
        if server is None:
            return None
        if self.mode != SESSION and (self.session.holds or self.session.asks):
            server.to_clean(self.session.holds | self.session.asks)
        if self.mode == SESSION or self.pool.resets:
            server.to_reset(self.hub.reset_query)
        if mid_message or not server.owed.nothing() or server.status != 73:
            return server.abandon(mid_message, reason is CloseReason.CLIENT_LEFT)
        return server.free()

    @cython.ccall
    def cancel_waiting(self) -> cython.bint:
        """Refuse what it waits for a server with, as Postgres does what it cancels.

        What is pipelined behind it waits on. False when it does not wait, or has not said all of
        that.
        """
        if not self.waiting or self.held is None or self.login is not None:
            return False
        end: cython.Py_ssize_t = _first_cycle(self.held)
        if end == 0:
            return False
        self.held = self.held[end:] if end < len(self.held) else None
        self.send(messages.error_response(Cancelled(), "ERROR") + messages.READY_IDLE)
        if self.held is None:
            self.waiting = False
            self.pool.leave(self)
            if self.leaving:
                self._see_off()
        self.watch()
        return True

    @cython.cfunc
    def _amid(self) -> cython.bint:
        """Whether words of ours would be read as the rest of a message."""
        if self.server is not None:
            return self.server.remaining > 0
        return self.tunnel is not None and self.tunnel.remaining != 0

    @cython.ccall
    def on_blocked(self) -> object:
        if self.server is not None:
            return self.server.pause()
        return self.pause() if self.tunnel is None else self.tunnel.pause()

    @cython.ccall
    def on_drained(self) -> object:
        if self.server is not None:
            self.server.watch()
        elif self.tunnel is not None:
            self.tunnel.watch()
        return self.watch()


@cython.cfunc
def _first_cycle(held: bytearray) -> cython.Py_ssize_t:
    """Where what is answered first ends: a Query, or all up to a Sync; 0: not all there."""
    at: cython.Py_ssize_t = 0
    while at + 5 <= len(held):
        end: cython.Py_ssize_t = at + u32(held, at + 1) + 1
        kind: cython.int = held[at]
        if end < at + 5 or end > len(held) or kind == 88:  # X
            return 0
        if kind == SYNC or (at == 0 and (kind == QUERY or kind == FUNCTION)):
            return end
        at = end
    return 0
