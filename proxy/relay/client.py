# cython: boundscheck=False, wraparound=False
"""A connection from a function that has logged in (or is about to: see `proxy.relay.login`).

`consume` walks the headers of what the client says. What needs a server borrows one; what a
server must not see as it is (names of prepared statements) is changed on the way; everything
else goes on in runs of bytes. A client that waits keeps what it sent in `held`.
"""

from __future__ import annotations

from typing import Any

import cython

from proxy.errors import (
    FeatureRefused,
    PgfunnelError,
    PostgresError,
    ProtocolViolation,
    TooManyWaiters,
)
from proxy.session.parameters import NONE, Parameters, certain, difference
from proxy.session.prepared import NOTHING_TO_UNDO, drops_statements
from proxy.telemetry.reasons import CloseReason
from proxy.wire import messages

if cython.compiled:
    from cython.cimports.proxy.relay.clock import now
    from cython.cimports.proxy.relay.database import Database
    from cython.cimports.proxy.relay.link import RX_SIZE, Link
    from cython.cimports.proxy.relay.server import Borrower, Server
    from cython.cimports.proxy.session.owed import (
        ANSWER_PARSE,
        BIND,
        CLOSE,
        COPY_DATA,
        COPY_END,
        DESCRIBE,
        EXECUTE,
        FUNCTION,
        QUERY,
        SYNC,
        Owed,
    )
    from cython.cimports.proxy.session.prepared import Session, Statement
    from cython.cimports.proxy.wire.octets import Pieces, equal, part, u32, zero
else:
    from proxy.relay.clock import now
    from proxy.relay.database import Database
    from proxy.relay.link import RX_SIZE, Link
    from proxy.relay.server import Borrower, Server
    from proxy.session.owed import (
        ANSWER_PARSE,
        BIND,
        CLOSE,
        COPY_DATA,
        COPY_END,
        DESCRIBE,
        EXECUTE,
        FUNCTION,
        QUERY,
        SYNC,
        Owed,
    )
    from proxy.session.prepared import Session, Statement
    from proxy.wire.octets import Pieces, equal, part, u32, zero

MAX_KEPT = 16 << 20
"""Longest Parse message, in bytes, that is kept so that it can be repeated on other servers."""

_MAX_SIZE: cython.Py_ssize_t = messages.MAX_MESSAGE
_PREFIX: bytes = b"pgfunnel_"
_PIECES: Pieces = Pieces()
"""What goes to the server when it is not one run of the shared buffer."""

TRANSACTION, SESSION, STATEMENT = 0, 1, 2


@cython.cclass
class Client(Borrower):
    """One client. `hub` knows everything that is not the client's own.

    `remaining`: bytes still to come of a message that is being passed on; `keeps`: it keeps its
    server past the boundary (session pooling, or a statement too large to be repeated);
    `preparing`: it has a server that is being brought to its parameters.
    """

    hub: Any
    pool: Database
    login: Any
    address: object
    had: Parameters

    def __init__(self, loop: object, fd: cython.int, hub: Any, number: cython.int) -> None:
        Link.__init__(self, loop, fd)
        self.hub = hub
        self.number = number
        self.session = None
        self.server = None
        self.settling = False
        self.pool = None
        self.login = None
        self.mode = TRANSACTION
        self.remaining = 0
        self.keeps = False
        self.waiting = False
        self.preparing = False
        self.greeting = False
        self.in_transaction = False
        self.retries = 0
        self.opened_at = hub.now
        self.waiting_since = self.lent_at = 0.0
        self.active_at = self.opened_at
        self.process_id = 0
        self.secret = b""
        self.address = None
        self.user = ""
        self.had = None

    @property
    def local(self) -> bool:
        """Whether it came over a unix socket."""
        return not isinstance(self.address, tuple)

    @property
    def state(self) -> str:
        if self.pool is None:
            return "login"
        if self.waiting or self.preparing:
            return "waiting"
        return "idle" if self.server is None else "active"

    # -- what the client says --------------------------------------------------------------

    @cython.ccall
    def consume(self, buffer: bytearray, n: cython.Py_ssize_t) -> object:
        if self.login is not None:
            return self.login.feed(buffer, n)
        if self.waiting or self.preparing or self.settling:
            return self._hold(buffer, 0, n)
        return self._relay(buffer, n)

    @cython.cfunc
    def _hold(self, buffer: bytearray, at: cython.Py_ssize_t, n: cython.Py_ssize_t) -> object:
        """Keep what cannot be sent yet; past one buffer, stop reading."""
        self.held = buffer[at:n]
        if n - at >= RX_SIZE:
            self.pause()
        return None

    @cython.cfunc
    def _violated(
        self, buffer: bytearray, run: cython.Py_ssize_t, end: cython.Py_ssize_t, said: str
    ) -> object:
        """What came in front of a broken message is still done, as by Postgres."""
        self._send_on(buffer, run, end)
        raise ProtocolViolation(said)

    @cython.cfunc
    def _relay(self, buffer: bytearray, n: cython.Py_ssize_t) -> object:  # noqa: C901 - flat
        run: cython.Py_ssize_t = 0
        i: cython.Py_ssize_t = 0
        after: cython.Py_ssize_t
        end: cython.Py_ssize_t
        kind: cython.int
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
            if end > n and end - i <= RX_SIZE and kind != COPY_DATA:
                break
            if self.server is None:
                if self._alone(kind):
                    if self.fd < 0:
                        return None
                    i = run = end
                    continue
                if not self._borrow():
                    return None if self.fd < 0 else self._hold(buffer, i, n)
            if kind == QUERY:
                self._query(buffer, i, min(n, end))
            elif kind == 80 or kind == BIND or kind == DESCRIBE or kind == CLOSE:  # P
                if not self.server.owed.settled():
                    self.settling = True
                    self._hold(buffer, i, n)
                    return self._send_on(buffer, run, i)
                after = self._prepared(kind, buffer, run, i, end, n)
                if after < 0:
                    break
                run = after
            elif kind == 88:  # X
                return self._leave(buffer, run, i)
            elif not self._other(kind):
                said = f"invalid frontend message type {kind}"
                return self._violated(buffer, run, i, said)
            i = end
        if i > n:
            self.remaining = i - n
            i = n
        elif i < n:
            self.held = buffer[i:n]
        return self._send_on(buffer, run, i)

    @cython.cfunc
    def _send_on(self, buffer: bytearray, run: cython.Py_ssize_t, end: cython.Py_ssize_t) -> object:
        server: Server = self.server
        if server is None:
            return None
        if _PIECES.used:
            _PIECES.add(buffer, run, end)
            size: cython.Py_ssize_t = _PIECES.used
            _PIECES.used = 0
            self.pool.counters.bytes_received += size
            server.transmit(_PIECES.buffer, 0, size)
        elif end > run:
            self.pool.counters.bytes_received += end - run
            server.transmit(buffer, run, end)
        if server.status == 73 and server.owed.nothing() and not server.waited_for:  # I
            server.shelf.boundary()
            self.on_boundary()
        return None

    @cython.cfunc
    def _query(
        self, buffer: bytearray, at: cython.Py_ssize_t, end: cython.Py_ssize_t
    ) -> cython.void:
        server: Server = self.server
        if self.session.unnamed is not None or server.shelf.unnamed is not None:
            self._forget_unnamed()
        if self.session.names and drops_statements(part(buffer, at, end)):
            server.owed.unsettled = True
        server.owed.push(QUERY)
        self.pool.counters.queries += 1

    @cython.cfunc
    def _forget_unnamed(self) -> cython.void:
        """A simple query destroys the unnamed statement (documentation, "Extended Query")."""
        server: Server = self.server
        if server.owed.skipping:
            return
        if self.session.unnamed is not None:
            self.session.forgotten = self.session.unnamed
            self.session.unnamed = None
            server.owed.unsettled = True
        server.shelf.unnamed = None
        self.keeps = self.mode == SESSION

    @cython.cfunc
    def _other(self, kind: cython.int) -> cython.bint:
        """Account for a message that passes as it is; False: there is no such message."""
        owed: Owed = self.server.owed
        if kind == EXECUTE:
            owed.push(EXECUTE)
            self.pool.counters.queries += 1
        elif kind == SYNC:
            owed.push(SYNC)
        elif kind == COPY_DATA:
            owed.mark_copy(COPY_DATA)
        elif kind == 99 or kind == 102:  # c f
            owed.mark_copy(COPY_END)
        elif kind == FUNCTION:
            owed.push(FUNCTION)
        else:
            return kind == 72  # H
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
        elif kind != COPY_DATA and kind != 99 and kind != 102 and kind != 72:  # c f H
            self._check_kind(kind)
            return False
        return True

    @cython.cfunc
    def _check_kind(self, kind: cython.int) -> object:
        """No server is borrowed for a message that no server takes."""
        if kind not in b"QPBDECF":
            raise ProtocolViolation(f"invalid frontend message type {kind}")
        return None

    @cython.cfunc
    def _borrow(self) -> cython.bint:
        """Have a server that is as this client believes; False when it has to wait."""
        server: Server = self.pool.borrow()
        if server is None:
            self._wait(False)
            return False
        self.pool.counters.borrow_wait.observe(0.0)
        return self._have(server, now())

    @cython.ccall
    def be_greeted(self) -> object:
        """Have a server set as this client wants it, so that its greeting can tell how it is."""
        self.greeting = True
        if self._borrow():
            self._resume()
        return None

    @cython.cfunc
    def _wait(self, front: cython.bint) -> object:
        self.waiting = True
        if not front:
            self.waiting_since = now()
            self.pool.counters.waits += 1
        try:
            self.pool.wait(self, front)
        except TooManyWaiters as error:
            self.waiting = False
            return self.close(CloseReason.TOO_MANY_WAITERS, error)
        return None if self.pool.full() else self.hub.needs_server(self)

    @cython.cfunc
    def _have(self, server: Server, moment: cython.double) -> cython.bint:
        self.server = server
        server.client = self
        server.state = "active"
        self.lent_at = moment
        if (
            server.parameters is self.session.parameters
            and moment - server.idle_since < self.pool.check_delay
        ):
            return True
        return self._set_up(server, moment)

    @cython.cfunc
    def _set_up(self, server: Server, moment: cython.double) -> cython.bint:
        """Bring the server to this client's parameters; False when the client waits for that."""
        have, want = server.parameters, self.session.parameters
        stale: cython.bint = moment - server.idle_since >= self.pool.check_delay
        if have is want or stale:
            self.had = None
            self.preparing = True
            server.run_ahead(self.hub.check_query)
            return False
        sql: bytes = difference(have, want)
        if self.greeting:
            # A value may stand on what was there before (DateStyle): begin from nothing.
            sql = b";".join([difference(have, NONE), difference(NONE, want)])
        server.parameters = want
        self.had = have
        if certain(have, want) and not self.greeting:
            _PIECES.add_bytes(server.query_ahead(sql))
            return True
        self.preparing = True
        server.run_ahead(sql)
        return False

    @cython.ccall
    def on_prepared(self, error: Any) -> object:
        server: Server = self.server
        self.preparing = False
        if error is not None and self.had is None:
            return self._retry(server, error)
        if error is not None:
            server.parameters = self.had
            return self.close(CloseReason.REFUSED, PostgresError(error))
        self.retries = 0
        server.idle_since = now()
        if not self._have(server, server.idle_since):
            return None
        return self._resume()

    @cython.cfunc
    def _retry(self, server: Server, error: Any) -> object:
        """The server is no good (or will not be set so); another one is, or tells why."""
        self.retries += 1
        self.server = None
        server.client = None
        words = PostgresError(error)
        server.close(CloseReason.CHECK_FAILED)
        if self.retries > 3:
            return self.close(CloseReason.SERVER_LOST, words)
        return self._wait(True)

    @cython.ccall
    def on_settled(self) -> object:
        self.settling = False
        return self._resume()

    @cython.ccall
    def take(self, server: Server) -> object:
        """This waiter's turn has come."""
        moment: cython.double = now()
        self.waiting = False
        self.pool.counters.borrow_wait.observe(moment - self.waiting_since)
        if self._have(server, moment):
            self._resume()
        return None

    @cython.cfunc
    def _resume(self) -> object:
        """Go on with what was held while waiting."""
        held: bytearray = self.held
        if not self.reading:
            self.watch()
        if self.greeting:
            self.greeting = False
            self.hub.greet(self, self.server)
            self._give_back()
        if held is None or self.fd < 0:
            return None
        self.held = None
        try:
            self._relay(held, len(held))
        except ProtocolViolation as error:
            self.on_violation(error)
        return None

    # -- boundaries ------------------------------------------------------------------------

    @cython.ccall
    def on_boundary(self) -> object:
        self.pool.counters.transactions += 1
        self.in_transaction = False
        if self.keeps or self.remaining > 0:
            return None
        return self._give_back()

    @cython.cfunc
    def _give_back(self) -> object:
        server: Server = self.server
        self.server = None
        self.active_at = now()
        self.pool.counters.transaction_time.observe(self.active_at - self.lent_at)
        return server.free()

    @cython.ccall
    def on_in_transaction(self) -> object:
        self.in_transaction = True
        self.active_at = self.hub.now
        if self.mode == STATEMENT:
            error = FeatureRefused(
                "transaction blocks are not allowed in statement pooling mode",
                hint='Set pool_mode to "transaction" for this database or user.',
            )
            return self.close(CloseReason.REFUSED, error)
        return None

    @cython.ccall
    def on_server_lost(self, error: object) -> object:
        self.server = None
        if self.preparing:
            self.preparing = False
            return self._wait(True)
        return self.close(CloseReason.SERVER_LOST, error)

    # -- prepared statements ---------------------------------------------------------------

    @cython.cfunc
    def _prepared(
        self,
        kind: cython.int,
        buffer: bytearray,
        run: cython.Py_ssize_t,
        at: cython.Py_ssize_t,
        end: cython.Py_ssize_t,
        n: cython.Py_ssize_t,
    ) -> cython.Py_ssize_t:
        """Parse, Bind, Describe or Close: where the next run of bytes begins.

        -1: more of the message must be there first. Bytes up to it are in _PIECES, unless it
        passes as it is.
        """
        if kind == BIND:
            return self._bind(buffer, run, at, end, n)
        if kind == 80:  # P
            return self._parse(buffer, run, at, end, n)
        if end > n:
            return self._incomplete(at, end)
        name: cython.Py_ssize_t = at + 6
        stop: cython.Py_ssize_t = zero(buffer, name, end)
        if stop != end - 1 or buffer[at + 5] != 83:  # S; a portal, or broken for Postgres to refuse
            self.server.owed.push(kind)
            return run
        if kind == DESCRIBE:
            after = self._named(buffer, run, at, name, stop, end)
            self.server.owed.push(DESCRIBE)
            return after
        return self._close_name(buffer, run, at, name, stop, end)

    @cython.cfunc
    def _incomplete(self, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.Py_ssize_t:
        if end - at > RX_SIZE:
            raise ProtocolViolation("the name of a prepared statement is too long")
        return -1

    @cython.cfunc
    def _bind(
        self,
        buffer: bytearray,
        run: cython.Py_ssize_t,
        at: cython.Py_ssize_t,
        end: cython.Py_ssize_t,
        n: cython.Py_ssize_t,
    ) -> cython.Py_ssize_t:
        seen: cython.Py_ssize_t = min(n, end)
        name: cython.Py_ssize_t = zero(buffer, at + 5, seen) + 1
        stop: cython.Py_ssize_t = zero(buffer, name, seen) if name > 0 else -1
        if stop < 0:
            # Broken, for Postgres to refuse (incomplete messages this short do not come here).
            self.server.owed.push(BIND)
            return run
        after: cython.Py_ssize_t = self._named(buffer, run, at, name, stop, end)
        self.server.owed.push(BIND)
        return after

    @cython.cfunc
    def _named(
        self,
        buffer: bytearray,
        run: cython.Py_ssize_t,
        at: cython.Py_ssize_t,
        name: cython.Py_ssize_t,
        stop: cython.Py_ssize_t,
        end: cython.Py_ssize_t,
    ) -> cython.Py_ssize_t:
        """A message from `at` to `end` that names a statement at [name, stop)."""
        server: Server = self.server
        session: Session = self.session
        if server.owed.skipping:
            return run
        if name == stop:
            return self._ahead(server.shelf.need_unnamed(session, server.owed), buffer, run, at)
        key: bytes = part(buffer, name, stop)
        statement: Statement = session.names.get(key)
        if statement is not None:
            ahead: bytes = server.shelf.need(statement, server.owed)
            run = self._ahead(ahead, buffer, run, at)
            key = statement.server_name
        elif not key.startswith(_PREFIX):
            return run
        else:
            key = b"?" + key
        _PIECES.add(buffer, run, at)
        size: cython.Py_ssize_t = end - at - 1 + len(key) - (stop - name)
        _PIECES.add_head(buffer[at], size)
        _PIECES.add(buffer, at + 5, name)
        _PIECES.add_bytes(key)
        return stop

    @cython.cfunc
    def _ahead(
        self, ahead: bytes, buffer: bytearray, run: cython.Py_ssize_t, at: cython.Py_ssize_t
    ) -> cython.Py_ssize_t:
        """Put messages of ours in front of the one at `at`."""
        if not ahead:
            return run
        _PIECES.add(buffer, run, at)
        _PIECES.add_bytes(ahead)
        return at

    @cython.cfunc
    def _parse(
        self,
        buffer: bytearray,
        run: cython.Py_ssize_t,
        at: cython.Py_ssize_t,
        end: cython.Py_ssize_t,
        n: cython.Py_ssize_t,
    ) -> cython.Py_ssize_t:
        server: Server = self.server
        if end > n and end - at <= MAX_KEPT:
            return -1
        stop: cython.Py_ssize_t = zero(buffer, at + 5, min(n, end))
        if server.owed.skipping:
            return run
        if stop < 0:
            server.owed.push_noted(80, NOTHING_TO_UNDO)  # P
            return run
        if end > n:
            return self._parse_large(buffer, run, at, stop)
        if stop == at + 5:
            self._parse_unnamed(buffer, stop + 1, end)
            return run
        tail: bytes = part(buffer, stop + 1, end)
        if drops_statements(tail):
            server.owed.unsettled = True
        good: cython.bint = server.status != 69 and server.owed.ready == 0  # E
        ahead: bytes = server.shelf.parse(
            self.session, part(buffer, at + 5, stop), tail, server.owed, good
        )
        _PIECES.add(buffer, run, at)
        _PIECES.add_bytes(ahead)
        self._answer()
        return end

    @cython.cfunc
    def _parse_unnamed(
        self, buffer: bytearray, at: cython.Py_ssize_t, end: cython.Py_ssize_t
    ) -> object:
        """Most clients prepare the same text again and again without a name."""
        server: Server = self.server
        before: Statement = self.session.unnamed
        tail: bytes
        if before is not None and equal(buffer, at, end, before.tail):
            tail = before.tail
        else:
            tail = part(buffer, at, end)
        server.shelf.parse_unnamed(self.session, tail, server.owed)
        self.keeps = self.mode == SESSION
        return None

    @cython.cfunc
    def _parse_large(
        self,
        buffer: bytearray,
        run: cython.Py_ssize_t,
        at: cython.Py_ssize_t,
        stop: cython.Py_ssize_t,
    ) -> cython.Py_ssize_t:
        """Too large to keep: the client keeps the one server that has it."""
        if stop != at + 5:
            raise ProtocolViolation(
                f"a named statement of more than {MAX_KEPT >> 20} MiB cannot be prepared",
                hint="Prepare it without a name, or send it as a simple query.",
            )
        self.server.shelf.parse_unnamed(self.session, None, self.server.owed)
        self.keeps = True
        return run

    @cython.cfunc
    def _close_name(
        self,
        buffer: bytearray,
        run: cython.Py_ssize_t,
        at: cython.Py_ssize_t,
        name: cython.Py_ssize_t,
        stop: cython.Py_ssize_t,
        end: cython.Py_ssize_t,
    ) -> cython.Py_ssize_t:
        server: Server = self.server
        if server.owed.skipping:
            return run
        if name == stop:
            self._forget_unnamed()
            server.owed.push(CLOSE)
            return run
        server.shelf.close(self.session, part(buffer, name, stop), server.owed)
        _PIECES.add(buffer, run, at)
        self._answer()
        return end

    @cython.cfunc
    def _answer(self) -> object:
        """Give answers of ours that are due at once, since nothing else is owed."""
        code: cython.int = self.server.owed.due()
        while code:
            self.send(messages.PARSE_COMPLETE if code == ANSWER_PARSE else messages.CLOSE_COMPLETE)
            code = self.server.owed.due()
        return None

    @cython.ccall
    def lacking(self, whole: bytearray) -> cython.bint:
        return len(whole) < 5 or len(whole) < u32(whole, 1) + 1

    # -- the end ---------------------------------------------------------------------------

    @cython.cfunc
    def _leave(self, buffer: bytearray, run: cython.Py_ssize_t, at: cython.Py_ssize_t) -> object:
        """Terminate: what came before it is still sent."""
        self._send_on(buffer, run, at)
        return self.close(CloseReason.CLIENT_LEFT)

    @cython.ccall
    def on_lost(self) -> object:
        if self.settling:
            # What it sent before is still done, as by Postgres: then its end is read again.
            return self.pause()
        return self.close(CloseReason.CLIENT_VANISHED)

    @cython.ccall
    def on_violation(self, error: object) -> object:
        _PIECES.used = 0
        return self.close(CloseReason.PROTOCOL_VIOLATION, error)

    @cython.ccall
    def close(self, reason: object, error: object = None) -> object:
        """Tell the client why (a PgfunnelError), close it, and see to its server."""
        if self.fd < 0:
            return None
        if isinstance(error, PgfunnelError):
            self.send(messages.error_response(error))
        server: Server = self.server
        self.server = None
        mid_message: cython.bint = self.remaining > 0
        if self.waiting:
            self.waiting = False
            self.pool.leave(self)
        self.hub.client_gone(self, reason, error)
        self.hang_up()
        if server is None:
            return None
        if self.mode == SESSION:
            server.reset_query = self.hub.reset_query
        if mid_message or not server.owed.nothing() or server.status != 73:
            return server.abandon(mid_message, reason is CloseReason.CLIENT_LEFT)
        return server.free()

    @cython.ccall
    def on_blocked(self) -> object:
        if self.server is not None:
            return self.server.pause()
        return self.pause()

    @cython.ccall
    def on_drained(self) -> object:
        if self.server is not None:
            self.server.watch()
        return self.watch()
