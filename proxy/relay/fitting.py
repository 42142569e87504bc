# cython: boundscheck=False, wraparound=False
"""A server that is lent is made fit for its client: set, and prepared, as the client's session is.

Where that cannot fail it goes ahead of the client's bytes in the same write; where it can, they
wait for it, and Postgres's refusal is the client's, or that server is replaced by another.
"""

from __future__ import annotations

from typing import Any

import cython

from proxy.conditions import PREPARED
from proxy.errors import QUERY_CANCELED, PostgresError
from proxy.relay.database import MOST_CANCELLED
from proxy.session.doubting import NO_NAMES
from proxy.session.parameters import (
    IMPATIENT,
    NONE,
    Prepared,
    change,
    difference,
    placeholders_query,
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
    from cython.cimports.proxy.wire.octets import Pieces
else:
    from proxy.relay.borrower import Borrower
    from proxy.relay.clock import now
    from proxy.relay.database import NEEDED, Database
    from proxy.relay.link import Link
    from proxy.relay.server import Server
    from proxy.session.parameters import Parameters
    from proxy.wire.octets import Pieces

    TRANSACTION, SESSION, STATEMENT = range(3)
    NOTHING, CHECKING, SETTING, PREPARING, ASKING, RESTORING, RESTORED = range(7)
    LOOKING, LOOKING_BACK, READING, COUNTING, LIFTING, UNREAD = range(7, 13)

PIECES: Pieces = Pieces()
"""What goes to the server when it is not one run of the shared buffer."""

STEPS = (LIFTING, CHECKING, LOOKING, SETTING, PREPARING)
"""What is ahead of a client whose server is being made fit."""

RETRIES = 3
"""How many servers that fail are replaced by others before the client is told."""

_TAKEN_ALONG = (
    "What this session has set is set on every server that it is lent; this one refuses it."
    " Connect again."
)

_NOT_ITS_DOING = ("26000", QUERY_CANCELED)
"""What fails for what others have left at the server, or asked of it: a statement that it does not
have after all, a cancel that came late."""

NO_STAND_INS: dict[str, Prepared] = {}


@cython.cclass
class Fitting(Borrower):
    """A client in what it needs its server to be. `hub` knows everything that is not its own.

    `server`: the one it has now; `keeps`: it keeps its server past the boundary (session pooling,
    or a statement too large to be repeated);
    `ahead`: its server runs something of ours first: a check, its parameters, its prepared
    statements, or (behind its transaction) the question what became of its session;
    `greeting`: it has not been greeted yet; `lacked`: the statements that its server has, or will
    have, as the last of what runs ahead; `instead`: stand-ins for those that it cannot prepare, as
    long as it is lent; `retries`: how many servers were no good; `cancelled`: so often what ran
    ahead was cancelled just now.
    """

    hub: Any
    server: Server
    pool: Database
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
        self.mode = TRANSACTION
        self.blockless = False
        self.keeps = False
        self.ahead = NOTHING
        self.greeting = False
        self.retries = self.cancelled = 0
        self.lent_at = 0.0
        self.had = None
        self.lacked = NO_STAND_INS
        self.instead = NO_STAND_INS

    @cython.cfunc
    def _resume(self) -> object:
        """Go on with what was held while waiting."""
        raise NotImplementedError

    @cython.cfunc
    def _retry(self, server: Server, error: Any, most: cython.int) -> object:
        """The server is no good (or will not be set so); one of so many others is, or tells why."""
        raise NotImplementedError

    @cython.cfunc
    def _suit(self, server: Server, moment: cython.double, wait: cython.bint) -> cython.bint:
        """Have the server suit this client, as `_set_up`; what comes first of that."""
        raise NotImplementedError

    @cython.ccall
    def close(self, reason: object, error: object = None) -> object:
        """Tell the client why (a PgfunnelError), close it, and see to its server."""
        raise NotImplementedError

    @cython.cfunc
    def _again(self) -> cython.bint:
        """What ran ahead was cancelled: whether it is to be tried again."""
        self.cancelled += 1
        return self.cancelled <= MOST_CANCELLED

    @cython.cfunc
    def _lift(self, server: Server) -> cython.bint:
        """End the time limits of who had the server last; nothing else may run into them."""
        limits = [f"RESET {name}" for name in IMPATIENT if name in server.parameters.values]
        self.had = server.parameters
        server.parameters = server.parameters.unlimited()
        return self._run_ahead(LIFTING, [";".join(limits).encode()])

    @cython.cfunc
    def _lifted(self, server: Server, error: Any) -> object:
        if error is not None:
            server.parameters = self.had
            if error.get("C") == QUERY_CANCELED and self._again():
                self._lift(server)
                return None
            return self._retry(server, error, RETRIES)
        self.cancelled = 0
        wait: cython.bint = self.greeting or self.held is None
        return self._resume() if self._suit(server, now(), wait) else None

    @cython.cfunc
    def _set_up(self, server: Server, moment: cython.double, wait: cython.bint) -> cython.bint:
        """Bring the server to this client's session; False when the client waits for that.

        `wait`: nothing of the client's follows in the same write.
        """
        if moment - server.idle_since >= self.pool.check_delay:
            return self._run_ahead(CHECKING, [self.hub.check_query])
        if self.pool.looks == NEEDED and (self.mode != SESSION or self.greeting):
            return self._run_ahead(LOOKING, [server.look()])
        return self._set(server, wait)

    @cython.cfunc
    def _set(self, server: Server, wait: cython.bint) -> cython.bint:
        """Bring the server to this client's parameters and statements; `wait` until it is done."""
        if self.session.defaults is not self.pool.defaults and not self.greeting:
            self._hear()
        if self.session.leaves is not NO_NAMES and not self.session.leaves <= server.leaves:
            self._make_known(server)
        have, want = server.parameters, self._wanted()
        if have is want:
            return True
        stage: Parameters = staging(have, want)
        sql, sure = change(have, stage)
        sure = sure and self.pool.certain
        if self.greeting:
            # A value may stand on what was there before (DateStyle): begin from nothing.
            server.rows = []
            steps = difference(have, NONE), self._beneath(want), difference(NONE, want)
            sql = b";".join([step for step in steps if step])
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
    def _beneath(self, want: Parameters) -> bytes:
        """What its startup DateStyle builds on, where that is not what sessions begin with."""
        style: str = self.pool.date_style
        if not style or "datestyle" not in want.values:
            return b""
        return settings_query([("datestyle", style)]).encode()

    @cython.cfunc
    def _make_known(self, server: Server) -> object:
        """An application's own parameters that its client has used are '' there, not unknown."""
        if not self.pool.certain:
            return None
        names = sorted(self.session.leaves - server.leaves)
        server.leaves = server.leaves | self.session.leaves
        PIECES.add_bytes(server.query_ahead(placeholders_query(names).encode()))
        return None

    @cython.cfunc
    def _hear(self) -> object:
        """What the client was told of parameters that it has not set is true no more."""
        for name, value in self.session.hear(self.pool.defaults).items():
            self.send(messages.parameter_status(name, value))
        return None

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

    @cython.cfunc
    def _go_on(self) -> object:
        """What ran ahead is done: the next of what the server lacks, or what was held."""
        self.lent_at = self.server.idle_since = now()
        wait: cython.bint = self.greeting or self.held is None
        return self._resume() if self._set_up(self.server, self.lent_at, wait) else None

    @cython.cfunc
    def _failed(self, server: Server, what: cython.int, error: Any) -> object:
        """The server was not set as it should be, or could not prepare some statements anew.

        To those it gives a stand-in: EXECUTE says what Postgres says of them now.
        """
        names = [*self.lacked]
        failing = {names[-left]: said for left, said in server.errors if left <= len(names)}
        if what == SETTING:
            failing = dict.fromkeys(names, error)
            server.parameters = self.had
            if error.get("C") == QUERY_CANCELED and self._again():
                return self._go_on()
            if error.get("C") in _NOT_ITS_DOING:
                return self._not_set(server, error)
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

        DEALLOCATE is not rolled back: which prepared statements are left is not known.
        """
        if not self.session.holds and not self.keeps:
            if error.get("C") in _NOT_ITS_DOING:
                return self._retry(server, error, RETRIES)
            if sticks(self.had, self.session.parameters):
                return self._retry(server, error, self.pool.most)
        server.parameters = self.had
        server.rows = None
        if self.had.statements or self.lacked:
            self.session.holds |= PREPARED
        hint = {} if self.greeting else {"H": _TAKEN_ALONG}
        return self.close(CloseReason.REFUSED, PostgresError({**hint, **error}))
