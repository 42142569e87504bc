# cython: boundscheck=False, wraparound=False
"""How a client comes by a server, keeps it, and gives it back."""

from __future__ import annotations

from typing import Any

import cython

from proxy.conditions import TEMP
from proxy.errors import (
    FeatureRefused,
    InternalError,
    PostgresError,
    ProtocolViolation,
    TooManyWaiters,
)
from proxy.relay.fitting import NO_STAND_INS, STEPS
from proxy.session.catalog import ROUTINES, STATEMENTS
from proxy.session.doubting import NO_NAMES
from proxy.session.parameters import FORGET_PLANS
from proxy.telemetry.reasons import CHANGED, CloseReason
from proxy.wire import messages

if cython.compiled:
    from cython.cimports.proxy.relay.asking import Asking
    from cython.cimports.proxy.relay.clock import now
    from cython.cimports.proxy.relay.database import NEEDED
    from cython.cimports.proxy.relay.fitting import (
        COUNTING,
        LOOKING_BACK,
        NOTHING,
        PIECES,
        SESSION,
    )
    from cython.cimports.proxy.relay.server import Server
    from cython.cimports.proxy.session.doubting import DEFINES, NAMES, OWN_NAMES
    from cython.cimports.proxy.session.owed import Owed
    from cython.cimports.proxy.session.session import Session
else:
    from proxy.relay.asking import Asking
    from proxy.relay.clock import now
    from proxy.relay.database import NEEDED
    from proxy.relay.fitting import (
        COUNTING,
        LOOKING_BACK,
        NOTHING,
        PIECES,
        SESSION,
    )
    from proxy.relay.server import Server
    from proxy.session.doubting import DEFINES, NAMES, OWN_NAMES
    from proxy.session.owed import Owed
    from proxy.session.session import Session

    STAYS, LEAVES, DISMISSED = range(3)

_SILENCE = 0.02
"""Seconds behind its transaction in which a client has read the end of it."""


@cython.cclass
class Borrowing(Asking):
    """A client in its dealings with the pool.

    `simple`: the type of the simple queries that are served, -1 where none are;
    `leaving`: it has said goodbye and waits for its last answers (LEAVES), or is to be closed at
    its next boundary (DISMISSED, with `goodbye`: why, and the error); `tunnel`: the server's end of
    a replication connection; `resting`: it has a server that waits for what it says next; `latest`:
    the number of the server that it had last; `begun_at`, `asked_at`: when its transaction began,
    and what runs in it now; `recalls`: it is to be known which statement it sent last, `recalled`
    (the beginning of a text, or a `Statement`).
    """

    login: Any
    address: object
    tunnel: Any
    goodbye: tuple[CloseReason, object]

    def __init__(self, loop: object, fd: cython.int, hub: Any, number: cython.int) -> None:
        Asking.__init__(self, loop, fd, hub, number)
        self.login = None
        self.simple = 81  # Q
        self.remaining = 0
        self.leaving = STAYS
        self.goodbye = None
        self.waiting = False
        self.resting = False
        self.pinned_for = self.latest = 0
        self.opened_at = hub.now
        self.waiting_since = self.begun_at = self.asked_at = 0.0
        self.active_at = self.opened_at
        self.key = b""
        self.address = None
        self.tunnel = None
        self.user = ""
        self.recalls = False
        self.recalled = b""

    @cython.cfunc
    def _relay(self, buffer: bytearray, n: cython.Py_ssize_t) -> object:
        """Pass on what the client says."""
        raise NotImplementedError

    @cython.ccall
    def at_rest(self) -> cython.bint:
        """Whether its server does nothing and no transaction is open."""
        return self.server.status == 73 and self.server.owed.nothing()  # I

    # -- a server --------------------------------------------------------------------------

    @cython.cfunc
    def _borrow(self) -> cython.bint:
        """Have a server that is as this client believes; False when it has to wait."""
        self.retries = 0
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

    @cython.ccall
    def need_not_wait(self) -> object:
        """It waited for a server to be greeted, and can be without one."""
        self.waiting = self.greeting = False
        if not self.reading:
            self.watch()
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
        if server.parameters.hasty and not self._suits(server, moment):
            return self._lift(server)
        return self._suit(server, moment, self.greeting)

    @cython.cfunc
    def _suits(self, server: Server, moment: cython.double) -> cython.bint:
        """Whether the client may use it as it is, but for plans that others have left there."""
        return (
            server.parameters is self.session.parameters
            and moment - server.idle_since < self.pool.check_delay
            and not (server.shared and self.pool.careful)
            and self.pool.looks != NEEDED
            and self.session.defaults is self.pool.defaults
            and (self.session.leaves is NO_NAMES or self.session.leaves <= server.leaves)
        )

    @cython.cfunc
    def _suit(self, server: Server, moment: cython.double, wait: cython.bint) -> cython.bint:
        """Have the server suit this client, as `_set_up`; what comes first of that."""
        if not self.greeting and (server.last != self.number or self.latest != server.number):
            # Values of sequences there are another's, or not its own last ones.
            server.shared = server.shared or server.last != 0
            server.last = self.number
            self.latest = server.number
            if self.pool.once and server.reason is None:
                server.reason = CloseReason.LIFETIME
            if server.plans_anew(self.session.parameters.meaning):
                PIECES.add_bytes(server.query_ahead(FORGET_PLANS))
        if self._suits(server, moment):
            return True
        self.instead = NO_STAND_INS
        if server.shared and self.pool.careful and not self.greeting:
            server.shared = False
            PIECES.add_bytes(server.query_ahead(b"DISCARD SEQUENCES"))
        return self._set_up(server, moment, wait)

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
    def _exchange(self) -> object:
        """Have another server in place of one that is to be closed."""
        server: Server = self.server
        self.server = None
        server.free()
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
            server: Server = self.server
            if server.reason in CHANGED:
                return self._exchange()
            self.greeting = False
            self.hub.greet(self, server)
            self.server = None
            server.free()
        if held is None or self.fd < 0 or self.ahead:
            return None
        self.held = None
        try:
            self._relay(held, len(held))
        except ProtocolViolation as error:
            self.on_violation(error)
        except Exception as error:  # noqa: BLE001 - who has freed its server is not to blame
            self.on_violation(InternalError())
            said = {"message": "Exception in callback", "exception": error}
            self.loop.call_exception_handler(said)
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
        if self.ahead in STEPS and not self.session.holds:
            self.ahead = NOTHING
            return self._have_another()
        return self.close(CloseReason.SERVER_LOST, error)

    # -- boundaries ------------------------------------------------------------------------

    @cython.ccall
    def on_boundary(self) -> object:
        session: Session = self.session
        session.stirred = session.strays = False
        session.elsewhere = None
        session.forgotten = None
        if session.leaving:
            self._has_left()
        self.pool.counters.transactions += 1
        if self.leaving:
            if self.leaving == LEAVES:
                return self.close(CloseReason.CLIENT_LEFT)
            self._see_off()
        if session.holds and self.pool.waiters:
            session.ask(session.holds)
        watches: cython.int = session.watches | self.pool.watches
        if watches:
            session.ask(watches)
        if session.asks & (DEFINES | NAMES | OWN_NAMES):
            self._made(session)
        if self.pool.looks == NEEDED and self.mode != SESSION and self.remaining == 0:
            self._run_ahead(LOOKING_BACK, [self.server.look()])
            return None
        if session.doubt is not None:
            session.settle(self.pool.policy.ignored)
        if session.asks and (self.mode != SESSION or session.withholds):
            return self._ask()
        return self._go_on_known() if session.withholds else self._part()

    @cython.ccall
    def on_in_transaction(self) -> object:
        self.resting = True
        self.session.stirred = self.session.strays = False
        if self.server.status == 69:  # E
            self.session.may_lead_back()
        self.session.forgotten = None
        if self.session.leaving:
            self._has_left()
        self.active_at = now()
        self.pool.counters.query_time += self.active_at - self.asked_at
        if self.leaving == LEAVES:
            return self.close(CloseReason.CLIENT_LEFT)
        if self.blockless:
            error = FeatureRefused(
                "transaction blocks not allowed in statement pooling mode",
                hint='Set pool_mode to "transaction" for this database or user.',
            )
            return self.close(CloseReason.REFUSED, error)
        if self.session.reads:
            return self._ask_readings()
        return self._restore() if self.session.withholds else None

    @cython.cfunc
    def _made(self, session: Session) -> object:
        """Its transaction may have made what texts name otherwise from now on."""
        if session.asks & (DEFINES | NAMES):
            self.hub.schema_changed(self.pool, ROUTINES if session.asks & DEFINES else STATEMENTS)
        if session.asks & OWN_NAMES:
            session.made = True
            session.settled = session.settled or not (session.asks | session.holds) & TEMP
        session.asks &= ~(DEFINES | NAMES | OWN_NAMES)
        return None

    @cython.ccall
    def recount(self) -> object:
        owed: Owed = self.server.owed
        if self.remaining > 0:
            owed.lost = True  # nothing of ours can be said amid a message
        if owed.recounts():
            self._run_ahead(COUNTING, [b""])
        elif owed.lost and self.leaving == LEAVES:
            return self.close(CloseReason.CLIENT_LEFT)
        return None

    @cython.cfunc
    def _counted(self) -> object:
        settling: cython.bint = self.settling  # then who has put things right goes on
        if self.server.status == 73:  # I
            self.server.shelf.boundary()
            self.on_boundary()
        else:
            self.on_in_transaction()
        return None if self.ahead or self.fd < 0 or settling else self._resume()

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
        if self.login is None and not self.waiting and not self.settling and self.at_boundary():
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
        if self.mode != SESSION or not session.asks:
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
