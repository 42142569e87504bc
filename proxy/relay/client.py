# cython: boundscheck=False, wraparound=False
"""A connection from a function that has logged in (or is about to: see `proxy.relay.login`).

`consume` walks the headers of what the client says. What needs a server borrows one; what a
server must not see as it is (names of prepared statements) is changed on the way; everything
else goes on in runs of bytes. A client that waits keeps what it sent in `held`.
"""

from __future__ import annotations

from typing import Any

import cython

from proxy.conditions import PREPARED, SEQUENCES
from proxy.errors import (
    FeatureRefused,
    PgfunnelError,
    PostgresError,
    ProtocolViolation,
    TooManyWaiters,
)
from proxy.session.inquiry import question, read_answer
from proxy.session.parameters import NONE, certain, difference, preparations, settings_query
from proxy.session.policy import NOT_NOW, REFUSED
from proxy.session.prepared import NOTHING_TO_UNDO
from proxy.session.session import PREFIX, UNREADABLE
from proxy.session.verdict import NOTHING as HARMLESS
from proxy.session.verdict import Verdict, verdict
from proxy.telemetry.reasons import CloseReason
from proxy.wire import messages

if cython.compiled:
    from cython.cimports.proxy.relay.clock import now
    from cython.cimports.proxy.relay.database import Database
    from cython.cimports.proxy.relay.link import RX_SIZE, Link
    from cython.cimports.proxy.relay.server import Borrower, Server
    from cython.cimports.proxy.session.glance import glance
    from cython.cimports.proxy.session.owed import (
        ANSWER_PARSE,
        BIND,
        CLOSE,
        COPY_DATA,
        COPY_END,
        DESCRIBE,
        EXECUTE,
        FUNCTION,
        OUR_PARSE,
        QUERY,
        SYNC,
        Owed,
    )
    from cython.cimports.proxy.session.parameters import Parameters
    from cython.cimports.proxy.session.session import Session, Statement
    from cython.cimports.proxy.wire.octets import Pieces, equal, part, u32, zero
else:
    from proxy.relay.clock import now
    from proxy.relay.database import Database
    from proxy.relay.link import RX_SIZE, Link
    from proxy.relay.server import Borrower, Server
    from proxy.session.glance import glance
    from proxy.session.owed import (
        ANSWER_PARSE,
        BIND,
        CLOSE,
        COPY_DATA,
        COPY_END,
        DESCRIBE,
        EXECUTE,
        FUNCTION,
        OUR_PARSE,
        QUERY,
        SYNC,
        Owed,
    )
    from proxy.session.parameters import Parameters
    from proxy.session.session import Session, Statement
    from proxy.wire.octets import Pieces, equal, part, u32, zero

MAX_KEPT = 16 << 20
"""Longest Query or Parse message, in bytes, that is read whole: to know what it may do to the
session, and to repeat it on other servers."""

_MAX_SIZE: cython.Py_ssize_t = messages.MAX_MESSAGE
_PREFIX: bytes = PREFIX
_REFUSED: bytes = REFUSED.encode()
_MAX_LOOK: cython.Py_ssize_t = 4096
_PIECES: Pieces = Pieces()
"""What goes to the server when it is not one run of the shared buffer."""

TRANSACTION, SESSION, STATEMENT = 0, 1, 2

if not cython.compiled:
    NOTHING, CHECKING, SETTING, PREPARING, ASKING, RESTORING, RESTORED = range(7)


@cython.cclass
class Client(Borrower):
    """One client. `hub` knows everything that is not the client's own.

    `remaining`: bytes still to come of a message that is being passed on; `keeps`: it keeps its
    server past the boundary (session pooling, or a statement too large to be repeated);
    `ahead`: it has a server that runs something of ours first: a check, its parameters, its
    prepared statements, or (behind its transaction) the question what became of its session.
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
        self.leaving = False
        self.waiting = False
        self.ahead = NOTHING
        self.greeting = False
        self.in_transaction = False
        self.retries = 0
        self.pinned_for = 0
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
        if self.waiting or self.ahead in (CHECKING, SETTING, PREPARING):
            return "waiting"
        if self.server is None:
            return "idle"
        return "pinned" if self.session.holds and self.at_rest() else "active"

    @cython.ccall
    def at_rest(self) -> cython.bint:
        """Whether its server does nothing and no transaction is open."""
        return self.server.status == 73 and self.server.owed.nothing()  # I

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
            if kind == QUERY:
                run = self._query(buffer, run, i, end, n)
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
    def _awaited(self, kind: cython.int, size: cython.Py_ssize_t) -> cython.bint:
        """Whether a message of this size is looked at only when it is all there."""
        if kind == COPY_DATA:
            return False
        return size <= RX_SIZE or (kind == QUERY and size <= MAX_KEPT)

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
        self,
        buffer: bytearray,
        run: cython.Py_ssize_t,
        at: cython.Py_ssize_t,
        end: cython.Py_ssize_t,
        n: cython.Py_ssize_t,
    ) -> cython.Py_ssize_t:
        server: Server = self.server
        session: Session = self.session
        if session.unnamed is not None or server.shelf.unnamed is not None:
            self._forget_unnamed()
        self.pool.counters.queries += 1
        if end > n:
            run = self._may(UNREADABLE, b"", buffer, run, at)
        elif glance(buffer, at + 5, end - 1, session.backslashes, session.wide):
            text: bytes = part(buffer, at + 5, end - 1)
            said: Verdict = verdict(text, session.backslashes, session.wide)
            refusal: bytes = self._refusal(said)
            if refusal:
                _PIECES.add(buffer, run, at)
                _PIECES.add_bytes(messages.query(refusal))
                run = end
            elif said is not HARMLESS:
                run = self._may(said, text, buffer, run, at)
        server.owed.push(QUERY)
        return run

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
        if server.last != self.number:
            server.shared = server.shared or server.last != 0
            server.last = self.number
        if (
            server.parameters is self.session.parameters
            and moment - server.idle_since < self.pool.check_delay
            and not (server.shared and self.pool.careful)
        ):
            return True
        return self._set_up(server, moment)

    @cython.cfunc
    def _set_up(self, server: Server, moment: cython.double) -> cython.bint:
        """Bring the server to this client's session; False when the client waits for that."""
        if moment - server.idle_since >= self.pool.check_delay:
            return self._run_ahead(CHECKING, [self.hub.check_query])
        if server.shared and self.pool.careful:
            server.shared = False
            _PIECES.add_bytes(server.query_ahead(b"DISCARD SEQUENCES"))
        return self._set(server, self.greeting)

    @cython.cfunc
    def _set(self, server: Server, wait: cython.bint) -> cython.bint:
        """Bring the server to this client's parameters and statements; `wait` until it is done."""
        have, want = server.parameters, self.session.parameters
        if have is want:
            return True
        sql: bytes = difference(have, want)
        if self.greeting:
            # A value may stand on what was there before (DateStyle): begin from nothing.
            server.rows = []
            sql = b";".join(
                [part for part in (difference(have, NONE), difference(NONE, want)) if part]
            )
        self.had = have
        if certain(have, want) and not wait:
            server.parameters = want
            _PIECES.add_bytes(server.query_ahead(sql))
            return True
        if sql:
            server.parameters = Parameters.of(want.values, _staying(have, want))
            return self._run_ahead(SETTING, [sql])
        server.parameters = want
        return self._run_ahead(PREPARING, preparations(have, want))

    @cython.cfunc
    def _run_ahead(self, what: cython.int, queries: Any) -> cython.bint:
        """Queries of ours that the client waits for (`on_prepared`): always False."""
        server: Server = self.server
        self.ahead = what
        server.waited_for = True
        for sql in queries:
            _PIECES.add_bytes(server.query_ahead(sql))
        size: cython.Py_ssize_t = _PIECES.used
        _PIECES.used = 0
        server.transmit(_PIECES.buffer, 0, size)
        return False

    @cython.ccall
    def on_prepared(self, error: Any) -> object:
        server: Server = self.server
        what: cython.int = self.ahead
        self.ahead = NOTHING
        if what == ASKING:
            return self._answered(error)
        if what == RESTORING or what == RESTORED:
            return self._restored(what, error)
        if error is not None and what == CHECKING:
            return self._retry(server, error)
        if error is not None and what == SETTING:
            server.parameters = self.had
            return self.close(CloseReason.REFUSED, PostgresError(error))
        if error is not None:
            # One of its statements can be prepared no more: it is asked which are left.
            self.session.ask(PREPARED)
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
            server: Server = self.server
            self.server = None
            server.free()
        if held is None or self.fd < 0 or self.ahead:
            return None
        self.held = None
        try:
            self._relay(held, len(held))
        except ProtocolViolation as error:
            self.on_violation(error)
        return None

    @cython.ccall
    def hear_early(self) -> object:
        """Go on with what came together with the last word of the login."""
        if self.login is not None or self.held is None or self.fd < 0:
            return None
        return self._resume()

    # -- boundaries ------------------------------------------------------------------------

    @cython.ccall
    def on_boundary(self) -> object:
        session: Session = self.session
        self.pool.counters.transactions += 1
        self.in_transaction = False
        if self.leaving:
            return self.close(CloseReason.CLIENT_LEFT)
        if session.holds and self.pool.waiters:
            session.ask(session.holds)
        if session.watches:
            session.ask(session.watches)
        if session.asks and (self.mode != SESSION or session.withholds):
            return self._ask()
        return self._part()

    @cython.cfunc
    def _part(self) -> object:
        """Give the server back, unless something holds it."""
        session: Session = self.session
        self.active_at = now()
        if session.texts is not None or session.holds != self.pinned_for:
            self.hub.pins.follow(self)
        if self.remaining > 0:
            return None
        if not self.keeps and not session.holds:
            return self._give_back()
        self._set(self.server, True)
        return None

    @cython.cfunc
    def _give_back(self) -> object:
        server: Server = self.server
        self.server = None
        self.pool.counters.transaction_time.observe(self.active_at - self.lent_at)
        return server.free()

    @cython.ccall
    def on_in_transaction(self) -> object:
        self.in_transaction = True
        self.active_at = self.hub.now
        if self.leaving:
            return self.close(CloseReason.CLIENT_LEFT)
        if self.mode == STATEMENT:
            error = FeatureRefused(
                "transaction blocks are not allowed in statement pooling mode",
                hint='Set pool_mode to "transaction" for this database or user.',
            )
            return self.close(CloseReason.REFUSED, error)
        return self._restore() if self.session.withholds else None

    @cython.ccall
    def on_server_lost(self, error: object) -> object:
        self.server = None
        if self.ahead in (CHECKING, SETTING, PREPARING) and not self.session.holds:
            self.ahead = NOTHING
            return self._wait(True)
        return self.close(CloseReason.SERVER_LOST, error)

    # -- session state ---------------------------------------------------------------------

    @cython.cfunc
    def _refusal(self, said: Verdict) -> bytes:
        """What to send in place of a statement that policy refuses: Postgres fails on it.

        So it fails where it stands, and Postgres itself skips what comes behind it; `Server`
        puts the right words in place of its complaint.
        """
        makes: cython.int = self.session.makes(said)
        refused: cython.int = makes & self.pool.policy.rejected
        if not refused and makes & SEQUENCES:
            refused = self._sequences()
        return b"%s%d" % (_REFUSED, refused) if refused else b""

    @cython.cfunc
    def _sequences(self) -> cython.int:
        """currval() must not see what others left: SEQUENCES when that cannot be had now."""
        server: Server = self.server
        self.pool.careful = not self.pool.policy.ignored & SEQUENCES
        if not server.shared or not self.pool.careful:
            return 0
        if not self.at_rest():
            return SEQUENCES | NOT_NOW
        server.shared = False
        _PIECES.add_bytes(server.query_ahead(b"DISCARD SEQUENCES"))
        return 0

    @cython.cfunc
    def _names(
        self, said: Verdict, buffer: bytearray, run: cython.Py_ssize_t, at: cython.Py_ssize_t
    ) -> cython.Py_ssize_t:
        """SQL is about to name statements that the protocol's Parse has made: let it find them."""
        server: Server = self.server
        for piece in said.prepared:
            if piece.name is None:
                server.owed.unsettled = True
                continue
            name: bytes = piece.name.encode()
            statement: Statement = self.session.names.get(name)
            if statement is not None and not server.knows(piece.name):
                server.owed.push_noted(OUR_PARSE, NOTHING_TO_UNDO)
                run = self._ahead(messages.parse(name, statement.tail), buffer, run, at)
                server.knows_as(piece.name)
                self.session.ask(PREPARED)
        return run

    @cython.cfunc
    def _may(
        self,
        said: Verdict,
        text: bytes,
        buffer: bytearray,
        run: cython.Py_ssize_t,
        at: cython.Py_ssize_t,
    ) -> cython.Py_ssize_t:
        """A statement goes out that may change the session; where the next run begins.

        `text` may have a NUL and more behind it.
        """
        server: Server = self.server
        session: Session = self.session
        run = self._names(said, buffer, run, at)
        alone: cython.bint = server.status == 73 and server.owed.nothing()
        session.touch(said, text, self.pool.policy, self.pool.reported, alone)
        return run

    @cython.cfunc
    def _ask(self) -> object:
        """At a boundary, with a doubt: believe what is sure, ask for the rest."""
        session: Session = self.session
        server: Server = self.server
        if session.sure():
            server.parameters = session.reset()
            return self._known()
        if self.remaining > 0:
            return self._known()  # the next boundary is as good
        server.rows = []
        self._run_ahead(ASKING, [question(*session.question())])
        return None

    @cython.cfunc
    def _answered(self, error: Any) -> object:
        """The server has said what became of the session."""
        server: Server = self.server
        session: Session = self.session
        rows, server.rows = server.rows, None
        if error is not None or len(rows) != 1:
            session.cannot_tell()
        else:
            server.parameters = session.believe(read_answer(*session.question(), rows[0]))
        self._known()
        return self._resume()

    @cython.cfunc
    def _known(self) -> object:
        """The session is known again: keep the server for a reason, or give it back."""
        session: Session = self.session
        session.pin(self.pool.policy)
        if session.withholds:
            self._goes_on(session.parameters.values)
        return self._part()

    @cython.cfunc
    def _goes_on(self, told: Any) -> object:
        """The ReadyForQuery that was withheld, behind what these parameters are for the client."""
        self.session.withholds = False
        return self.send(self._told(told) + messages.ready(self.server.status))

    @cython.cfunc
    def _told(self, values: Any) -> bytes:
        """Postgres has reported what RESET led to; here it led to what the client began with."""
        told: list[bytes] = []
        for name in self.server.reported:
            own = values.get(name.decode("utf-8", "replace").lower())
            if own is not None:
                told.append(messages.parameter_status(name, own.encode()))
        return b"".join(told)

    @cython.cfunc
    def _restore(self) -> object:
        """In a transaction, RESET leads to what the client began with, too."""
        self.server.rows = []
        self._run_ahead(RESTORING, [question(*self.session.question_now())])
        return None

    @cython.cfunc
    def _restored(self, what: cython.int, error: Any) -> object:
        server: Server = self.server
        session: Session = self.session
        rows, server.rows = server.rows, None
        if what == RESTORING and error is None and len(rows) == 1:
            session.restore(read_answer(*session.question_now(), rows[0]))
            if session.back:
                self._run_ahead(RESTORED, [settings_query(session.back.items()).encode()])
                return None
        if what == RESTORED and error is None:
            known = {k: v for k, v in session.back.items() if k in self.pool.reported}
            server.parameters = server.parameters.with_values(known)
            session.follow(session.parameters.with_values(known))
        self._goes_on(session.back)
        return self._resume()

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
        statement: Statement
        if name == stop:
            statement = session.unnamed
            run = self._uses(statement, buffer, run, at, end)
            return self._ahead(server.shelf.need_unnamed(session, server.owed), buffer, run, at)
        key: bytes = part(buffer, name, stop)
        statement = session.names.get(key)
        if statement is not None:
            run = self._uses(statement, buffer, run, at, end)
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
    def _uses(
        self,
        statement: Statement,
        buffer: bytearray,
        run: cython.Py_ssize_t,
        at: cython.Py_ssize_t,
        end: cython.Py_ssize_t,
    ) -> cython.Py_ssize_t:
        """A Bind or Describe of the statement, which may be None, stands at `at`."""
        if statement is None or statement.verdict is None:
            return run
        if buffer[at] != BIND:
            return self._names(statement.verdict, buffer, run, at)
        text: bytes = statement.tail
        if statement.verdict.everything:
            # The name of a parameter may be among the values.
            text += b"\0" + bytes(buffer[at : min(end, at + _MAX_LOOK)])
        return self._may(statement.verdict, text, buffer, run, at)

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
        said: Verdict = self._judge(buffer, stop + 1, end)
        refusal: bytes = b"" if said is None else self._refusal(said)
        if refusal:
            _PIECES.add(buffer, run, at)
            _PIECES.add_bytes(messages.parse(b"", refusal + b"\0\0\0"))
            server.owed.push_noted(80, NOTHING_TO_UNDO)  # P
            return end
        if said is not None:
            run = self._names(said, buffer, run, at)
        if stop == at + 5:
            self._parse_unnamed(said, buffer, stop + 1, end)
            return run
        name: bytes = part(buffer, at + 5, stop)
        if self.session.in_sql(name):
            server.owed.push_noted(80, NOTHING_TO_UNDO)  # P; that name is taken
            return run
        good: cython.bint = server.status != 69 and server.owed.ready == 0  # E
        tail: bytes = part(buffer, stop + 1, end)
        ahead: bytes = server.shelf.parse(self.session, name, tail, said, server.owed, good)
        _PIECES.add(buffer, run, at)
        _PIECES.add_bytes(ahead)
        self._answer()
        return end

    @cython.cfunc
    def _judge(self, buffer: bytearray, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> Any:
        """What the text of a Parse message from `at` may do to the session; None: nothing."""
        session: Session = self.session
        stop: cython.Py_ssize_t = zero(buffer, at, end)
        if stop < 0 or not glance(buffer, at, stop, session.backslashes, session.wide):
            return None
        said: Verdict = verdict(part(buffer, at, stop), session.backslashes, session.wide)
        return None if said is HARMLESS else said

    @cython.cfunc
    def _parse_unnamed(
        self, said: Any, buffer: bytearray, at: cython.Py_ssize_t, end: cython.Py_ssize_t
    ) -> object:
        """Most clients prepare the same text again and again without a name."""
        server: Server = self.server
        before: Statement = self.session.unnamed
        tail: bytes
        if before is not None and equal(buffer, at, end, before.tail):
            tail = before.tail
        else:
            tail = part(buffer, at, end)
        server.shelf.parse_unnamed(self.session, tail, said, server.owed)
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
        self.server.shelf.parse_unnamed(self.session, None, UNREADABLE, self.server.owed)
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
        key: bytes = part(buffer, name, stop)
        if self.session.in_sql(key):
            self.session.ask(PREPARED)
            server.owed.push(CLOSE)
            return run
        server.shelf.close(self.session, key, server.owed)
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
        """Terminate: what came before it is still done, and answered, as by Postgres."""
        self._send_on(buffer, run, at)
        owed: Owed = None if self.server is None else self.server.owed
        if owed is None or owed.nothing() or owed.unsynced or owed.copying or owed.skipping:
            return self.close(CloseReason.CLIENT_LEFT)
        self.leaving = True
        return self.pause()

    @cython.ccall
    def on_copy_in(self) -> object:
        if self.leaving:
            self.loop.call_soon(self.on_lost)
        return None

    @cython.ccall
    def on_lost(self) -> object:
        if self.settling:
            # What it sent before is still done, as by Postgres: then its end is read again.
            return self.pause()
        if self.leaving:
            return self.close(CloseReason.CLIENT_LEFT)
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
        elif self.session.holds or self.session.asks:
            server.to_clean(self.session.holds | self.session.asks)
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


def _staying(have: Parameters, want: Parameters) -> dict[str, str]:
    """The prepared statements that both have."""
    statements = have.statements.items()
    return {name: text for name, text in statements if want.statements.get(name) == text}
