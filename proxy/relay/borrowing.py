# cython: boundscheck=False, wraparound=False
"""How a client comes by a server, keeps it, and gives it back.

A server that is lent is brought to the client's session first; at the boundary the client asks
it what became of that session, where the statements leave a doubt (`proxy.session.session`).
"""

from __future__ import annotations

from typing import Any

import cython

from proxy.conditions import PREPARED
from proxy.errors import (
    FeatureRefused,
    PostgresError,
    ProtocolViolation,
    TooManyWaiters,
)
from proxy.session.inquiry import question, read_answer
from proxy.session.parameters import (
    NONE,
    Prepared,
    change,
    difference,
    settings_query,
    stageable,
    staging,
    sticks,
)
from proxy.session.preparing import stand_in
from proxy.telemetry.reasons import CloseReason
from proxy.wire import messages

if cython.compiled:
    from cython.cimports.proxy.relay.borrower import Borrower
    from cython.cimports.proxy.relay.clock import now
    from cython.cimports.proxy.relay.database import NEEDED, Database
    from cython.cimports.proxy.relay.link import Link
    from cython.cimports.proxy.relay.server import Server
    from cython.cimports.proxy.session.parameters import Parameters
    from cython.cimports.proxy.session.session import Session
    from cython.cimports.proxy.wire.octets import Pieces
else:
    from proxy.relay.borrower import Borrower
    from proxy.relay.clock import now
    from proxy.relay.database import NEEDED, Database
    from proxy.relay.link import Link
    from proxy.relay.server import Server
    from proxy.session.parameters import Parameters
    from proxy.session.session import Session
    from proxy.wire.octets import Pieces

    TRANSACTION, SESSION, STATEMENT = range(3)
    STAYS, LEAVES, DISMISSED = range(3)
    NOTHING, CHECKING, SETTING, PREPARING, ASKING, RESTORING, RESTORED = range(7)
    LOOKING, LOOKING_BACK, READING = 7, 8, 9

PIECES: Pieces = Pieces()
"""What goes to the server when it is not one run of the shared buffer."""

_SILENCE = 0.02
"""Seconds behind its transaction in which a client has read the end of it."""

_RETRIES = 3
"""How many servers that fail are replaced by others before the client is told."""

NO_STAND_INS: dict[str, Prepared] = {}


@cython.cclass
class Borrowing(Borrower):
    """A client in its dealings with the pool. `hub` knows everything that is not the client's own.

    `server`: the one it has now;
    `remaining`: bytes still to come of a message that is being passed on; `keeps`: it keeps its
    server past the boundary (session pooling, or a statement too large to be repeated);
    `simple`: the type of the simple queries that are served, -1 where none are;
    `ahead`: it has a server that runs something of ours first: a check, its parameters, its
    prepared statements, or (behind its transaction) the question what became of its session;
    `leaving`: it has said goodbye and waits for its last answers (LEAVES), or is to be closed at
    its next boundary (DISMISSED, with `goodbye`: why, and the error); `tunnel`: the server's end of
    a replication connection; `resting`: it has a server that waits for what it says next;
    `begun_at`, `asked_at`: when its transaction began, and what runs in it now; `recalls`: it is to
    be known which statement it sent last, `recalled` (the beginning of a text, or a `Statement`);
    `lacked`: the statements that its server has, or will have, as the last of what runs ahead;
    `instead`: stand-ins for those that it cannot prepare, as long as it is lent.
    """

    hub: Any
    server: Server
    pool: Database
    login: Any
    address: object
    tunnel: Any
    goodbye: tuple[CloseReason, object]
    had: Parameters
    lacked: dict[str, Prepared]
    instead: dict[str, Prepared]

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
        self.simple = 81  # Q
        self.remaining = 0
        self.keeps = False
        self.leaving = STAYS
        self.goodbye = None
        self.waiting = False
        self.ahead = NOTHING
        self.greeting = False
        self.resting = False
        self.retries = 0
        self.pinned_for = 0
        self.opened_at = hub.now
        self.waiting_since = self.lent_at = self.begun_at = self.asked_at = 0.0
        self.active_at = self.opened_at
        self.key = b""
        self.address = None
        self.tunnel = None
        self.user = ""
        self.had = None
        self.recalls = False
        self.recalled = b""
        self.lacked = NO_STAND_INS
        self.instead = NO_STAND_INS

    @cython.cfunc
    def _relay(self, buffer: bytearray, n: cython.Py_ssize_t) -> object:
        """Pass on what the client says."""
        raise NotImplementedError

    @cython.ccall
    def close(self, reason: object, error: object = None) -> object:
        """Tell the client why (a PgfunnelError), close it, and see to its server."""
        raise NotImplementedError

    @cython.ccall
    def at_rest(self) -> cython.bint:
        """Whether its server does nothing and no transaction is open."""
        return self.server.status == 73 and self.server.owed.nothing()  # I

    # -- a server --------------------------------------------------------------------------

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
    def be_replicated(self) -> object:
        """Have the place of a server for a replication connection, or wait for it."""
        server: Server = self.pool.borrow()
        return self._wait(False) if server is None else self.login.take(server)

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
        if front and self.waiting_since < self.active_at:
            self.waiting_since = self.lent_at  # it had not waited for the one that was dead
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
        self.lent_at = self.begun_at = self.asked_at = moment
        if server.last != self.number:
            server.shared = server.shared or server.last != 0
            server.last = self.number
        if (
            server.parameters is self.session.parameters
            and moment - server.idle_since < self.pool.check_delay
            and not (server.shared and self.pool.careful)
            and self.pool.looks != NEEDED
        ):
            return True
        self.instead = NO_STAND_INS
        if server.shared and self.pool.careful and not self.greeting:
            server.shared = False
            PIECES.add_bytes(server.query_ahead(b"DISCARD SEQUENCES"))
        return self._set_up(server, moment, self.greeting)

    @cython.cfunc
    def _set_up(self, server: Server, moment: cython.double, wait: cython.bint) -> cython.bint:
        """Bring the server to this client's session; False when the client waits for that.

        `wait`: nothing of the client's follows in the same write.
        """
        if moment - server.idle_since >= self.pool.check_delay:
            return self._run_ahead(CHECKING, [self.hub.check_query])
        if self.pool.looks == NEEDED and self.mode != SESSION:
            return self._run_ahead(LOOKING, [server.look()])
        return self._set(server, wait)

    @cython.cfunc
    def _set(self, server: Server, wait: cython.bint) -> cython.bint:
        """Bring the server to this client's parameters and statements; `wait` until it is done."""
        have, want = server.parameters, self._wanted()
        if have is want:
            return True
        stage: Parameters = staging(have, want)
        sql, sure = change(have, stage)
        if self.greeting:
            # A value may stand on what was there before (DateStyle): begin from nothing.
            server.rows = []
            sql = b";".join(
                [part for part in (difference(have, NONE), difference(NONE, want)) if part]
            )
        self.had = have
        server.parameters = stage
        self.lacked = stageable(stage, want)
        if stage is want and sure and not wait:
            PIECES.add_bytes(server.query_ahead(sql))
            return True
        if sql and not (sure and self.lacked):
            return self._run_ahead(SETTING, [sql])
        return self._prepare_on([sql] if sql else [])

    @cython.cfunc
    def _wanted(self) -> Parameters:
        """What its server is to be set to and have prepared."""
        want: Parameters = self.session.parameters
        there = self.server.parameters.statements
        instead = {name: each for name, each in self.instead.items() if there.get(name) == each}
        return want.with_statements({**want.statements, **instead}) if instead else want

    @cython.cfunc
    def _prepare_on(self, queries: Any) -> cython.bint:
        """Prepare what the server lacks, behind these queries: always False."""
        server: Server = self.server
        there = {**server.parameters.statements, **self.lacked}
        server.parameters = server.parameters.with_statements(there)
        texts = [statement.text.encode() for statement in self.lacked.values()]
        return self._run_ahead(PREPARING, [*queries, *texts])

    @cython.cfunc
    def _run_ahead(self, what: cython.int, queries: Any) -> cython.bint:
        """Queries of ours that the client waits for (`on_prepared`): always False."""
        server: Server = self.server
        self.ahead = what
        server.waited_for = True
        server.errors = []
        for sql in queries:
            PIECES.add_bytes(server.query_ahead(sql))
        size: cython.Py_ssize_t = PIECES.used
        PIECES.used = 0
        server.transmit(PIECES.buffer, 0, size)
        return False

    @cython.ccall
    def on_prepared(self, error: Any) -> object:
        server: Server = self.server
        what: cython.int = self.ahead
        self.ahead = NOTHING
        if what == ASKING:
            return self._answered(error)
        if what == READING:
            return self._read(error)
        if what == RESTORING or what == RESTORED:
            return self._restored(what, error)
        if what == LOOKING or what == LOOKING_BACK:
            return self._looked(what, error)
        if error is not None and what == CHECKING:
            return self._retry(server, error, _RETRIES)
        if error is not None:
            return self._failed(server, what, error)
        self.retries = 0
        return self._go_on()

    @cython.cfunc
    def _go_on(self) -> object:
        """What ran ahead is done: the next of what the server lacks, or what was held."""
        self.lent_at = self.server.idle_since = now()
        wait: cython.bint = self.greeting or self.held is None
        return self._resume() if self._set_up(self.server, self.lent_at, wait) else None

    @cython.cfunc
    def _looked(self, what: cython.int, error: Any) -> object:
        """The server has told which of the database's own functions change sessions.

        What ran before that was known may have used any of them.
        """
        more: bytes = self.server.looked(error)
        if more:
            self._run_ahead(what, [more])
            return None
        if what == LOOKING_BACK:
            self.session.ask_all(self.pool.routines)
            return self._ask()
        return self._go_on()

    @cython.cfunc
    def _failed(self, server: Server, what: cython.int, error: Any) -> object:
        """The server was not set as it should be, or could not prepare some statements anew.

        To those it gives a stand-in: EXECUTE says what Postgres says of them now.
        """
        names = [*self.lacked]
        failing = {names[-left]: said for left, said in server.errors if left <= len(names)}
        if what == SETTING and error.get("C") != "26000":
            failing = dict.fromkeys(names, error)
            server.parameters = self.had
        again: cython.bint = any(name in self.instead for name in failing)
        if again or not failing or len(failing) < len(server.errors):
            return self._not_set(server, error)
        self.session.failing = {**self.session.failing, **failing}
        self.lacked = {name: stand_in(name) for name in failing}
        self.instead = {**self.instead, **self.lacked}
        self._prepare_on([])
        return None

    @cython.cfunc
    def _not_set(self, server: Server, error: Any) -> object:
        """Postgres refused what the client asks for, or the server lacks what it was to give up.

        DEALLOCATE is not rolled back: which prepared statements are left is not known. What was
        cancelled ran into a time limit of whoever had the server before.
        """
        if not self.session.holds and not self.keeps:
            if error.get("C") in ("26000", "57014"):
                return self._retry(server, error, _RETRIES)
            if sticks(self.had, self.session.parameters):
                return self._retry(server, error, self.pool.most)
        server.parameters = self.had
        server.rows = None
        if self.had.statements or self.lacked:
            self.session.holds |= PREPARED
        return self.close(CloseReason.REFUSED, PostgresError(error))

    @cython.cfunc
    def _retry(self, server: Server, error: Any, most: cython.int) -> object:
        """The server is no good (or will not be set so); one of so many others is, or tells why."""
        self.retries += 1
        self.server = None
        server.client = None
        words = PostgresError(error)
        server.close(CloseReason.CHECK_FAILED)
        if self.retries > most:
            return self.close(CloseReason.SERVER_LOST, words)
        return self._have_another()

    @cython.cfunc
    def _have_another(self) -> object:
        """In place of a server that is gone: one that is idle, or the next."""
        server: Server = self.pool.borrow()
        if server is None:
            return self._wait(True)
        return self._resume() if self._have(server, now()) else None

    @cython.ccall
    def on_settled(self) -> object:
        return self._resume()

    @cython.ccall
    def take(self, server: Any) -> object:
        """This waiter's turn has come."""
        moment: cython.double = now()
        self.waiting = False
        self.pool.counters.borrow_wait.observe(moment - self.waiting_since)
        if self.login is not None and not self.greeting:
            return self.login.take(server)
        if self._have(server, moment):
            self._resume()
        return None

    @cython.cfunc
    def _resume(self) -> object:
        """Go on with what was held while waiting."""
        held: bytearray = self.held
        self.settling = False
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

    @cython.ccall
    def on_server_lost(self, error: object) -> object:
        self.server = None
        if self.ahead in (CHECKING, LOOKING, SETTING, PREPARING) and not self.session.holds:
            self.ahead = NOTHING
            return self._have_another()
        return self.close(CloseReason.SERVER_LOST, error)

    # -- boundaries ------------------------------------------------------------------------

    @cython.ccall
    def on_boundary(self) -> object:
        session: Session = self.session
        self.pool.counters.transactions += 1
        if self.leaving:
            if self.leaving == LEAVES:
                return self.close(CloseReason.CLIENT_LEFT)
            self._see_off()
        if session.holds and self.pool.waiters:
            session.ask(session.holds)
        if session.watches:
            session.ask(session.watches)
        if self.pool.looks == NEEDED and self.mode != SESSION and self.remaining == 0:
            self._run_ahead(LOOKING_BACK, [self.server.look()])
            return None
        if session.asks and (self.mode != SESSION or session.withholds):
            return self._ask()
        return self._part()

    @cython.ccall
    def on_in_transaction(self) -> object:
        self.resting = True
        self.active_at = now()
        self.pool.counters.query_time += self.active_at - self.asked_at
        if self.leaving == LEAVES:
            return self.close(CloseReason.CLIENT_LEFT)
        if self.mode == STATEMENT:
            error = FeatureRefused(
                "transaction blocks are not allowed in statement pooling mode",
                hint='Set pool_mode to "transaction" for this database or user.',
            )
            return self.close(CloseReason.REFUSED, error)
        if self.session.reads:
            return self._ask_readings()
        return self._restore() if self.session.withholds else None

    @cython.ccall
    def at_boundary(self) -> cython.bint:
        """Whether it is at a boundary; who waits for a server is, too."""
        if self.server is None:
            return True
        return not self.ahead and self.remaining == 0 and self.at_rest()

    @cython.ccall
    def silent(self, moment: cython.double) -> cython.bint:
        """Whether it is at a boundary that it has had time to read the end of."""
        return self.at_boundary() and moment - self.active_at >= _SILENCE

    @cython.ccall
    def dismiss(self, reason: CloseReason, error: object) -> object:
        """Whatever it says behind its next boundary, which may be now, is answered with goodbye.

        Not before it says something: drivers that read words of ours together with the end of a
        transaction may take them for a notice and throw them away (libpq does).
        """
        if self.leaving == STAYS:
            self.leaving = DISMISSED
            self.goodbye = reason, error
        return self._see_off()

    @cython.cfunc
    def _see_off(self) -> object:
        if self.login is None and not self.waiting and self.at_boundary():
            self.login = Usher(self, *self.goodbye)
        return None

    @cython.cfunc
    def _part(self) -> object:
        """Give the server back, unless something holds it."""
        session: Session = self.session
        self.active_at = now()
        if session.texts is not None or session.holds != self.pinned_for:
            self.hub.pins.follow(self)
        if self.remaining > 0:
            return None
        self.pool.counters.query_time += self.active_at - self.asked_at
        self.pool.counters.transaction_time.observe(self.active_at - self.begun_at)
        if not self.keeps and not session.holds:
            return self._give_back()
        self.resting = True
        self.begun_at = self.active_at
        self._set(self.server, True)
        return None

    @cython.cfunc
    def _stir(self) -> object:
        """The rest of its server is over: it was no query's time, nor a transaction's if none
        was open."""
        self.resting = False
        self.asked_at = now()
        if self.server.status == 73:  # I
            self.begun_at = self.asked_at
        return None

    @cython.cfunc
    def _give_back(self) -> object:
        server: Server = self.server
        self.server = None
        if self.pool.resets:
            server.to_reset(self.hub.reset_query)
        return server.free()

    # -- what became of its session --------------------------------------------------------

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
        self._part()
        return self._resume() if self.settling else None

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
    def _ask_readings(self) -> object:
        """In a transaction, a PREPARE may have read its text under parameters that end with it."""
        session: Session = self.session
        tells: cython.bint = self.server.status == 84 and self.remaining == 0  # T
        if session.withholds or not tells or self.mode == SESSION or session.impatient():
            session.read_under(None)
            return self._restore() if session.withholds else None
        self.server.rows = []
        self._run_ahead(READING, [question(*session.question_of_readings())])
        return None

    @cython.cfunc
    def _read(self, error: Any) -> object:
        session: Session = self.session
        rows, self.server.rows = self.server.rows, None
        told: cython.bint = error is None and len(rows) == 1
        answer = read_answer(*session.question_of_readings(), rows[0]) if told else None
        session.read_under(answer)
        return self._resume()

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
        if error is not None or what == RESTORING:
            told: cython.bint = error is None and len(rows) == 1
            session.restore(read_answer(*session.question_now(), rows[0]) if told else None)
            if session.back:
                self._run_ahead(RESTORED, [settings_query(session.back.items()).encode()])
                return None
        if session.back:
            known = {k: v for k, v in session.back.items() if k in self.pool.reported}
            server.parameters = server.parameters.with_values(known)
            session.follow(session.parameters.with_values(known))
        self._goes_on(session.back)
        return self._resume()


class Usher:
    """Takes what a client says that is to go (`Client.login`)."""

    def __init__(self, client: Borrowing, reason: CloseReason, error: object) -> None:
        self._client = client
        self._goodbye = reason, error

    def feed(self, buffer: bytearray, n: int) -> None:
        del n
        if buffer[:1] == messages.TERMINATE[:1]:
            self._client.close(CloseReason.CLIENT_LEFT)
        else:
            self._client.close(*self._goodbye)
