# cython: boundscheck=False, wraparound=False
"""A connection to Postgres that has logged in.

`consume` walks the headers of what the server says, accounts for every message in `owed`, passes
runs of bytes to the client that has borrowed it, and at the boundary gives the word to that
client, or, when nobody has it, brings the server back to a clean state and to its pool.
"""

from __future__ import annotations

import re
from typing import Any

import cython

from proxy.conditions import COMPUTED, LOAD, PARAMETERS, PREPARED, SEED, UNSURE
from proxy.errors import PostgresError, ProtocolViolation
from proxy.session import audit
from proxy.session.catalog import Look, changes_routines
from proxy.session.cleaning import cleaning
from proxy.session.parameters import NOBODYS, NONE, READ_ONLY
from proxy.session.policy import REFUSED, refusal
from proxy.session.prepared import OTHER_RESULT
from proxy.session.preparing import stands_for
from proxy.telemetry.reasons import CloseReason
from proxy.wire import messages

if cython.compiled:
    from cython.cimports.proxy.relay.clock import now
    from cython.cimports.proxy.relay.database import Database
    from cython.cimports.proxy.relay.link import RX_SIZE, Link
    from cython.cimports.proxy.session.owed import (
        ANSWER_PARSE,
        DESCRIBE,
        OUR_QUERY,
        PARSE,
        SYNC,
        Owed,
    )
    from cython.cimports.proxy.session.parameters import Parameters
    from cython.cimports.proxy.session.prepared import Shelf
    from cython.cimports.proxy.session.session import SURE, Session
    from cython.cimports.proxy.wire.octets import Pieces, part, u32
else:
    from proxy.relay.clock import now
    from proxy.relay.database import Database
    from proxy.relay.link import RX_SIZE, Link
    from proxy.session.owed import ANSWER_PARSE, DESCRIBE, OUR_QUERY, PARSE, SYNC, Owed
    from proxy.session.parameters import Parameters
    from proxy.session.prepared import Shelf
    from proxy.session.session import SURE, Session
    from proxy.wire.octets import Pieces, part, u32

_PIECES: Pieces = Pieces()
"""What goes to the client when it is not one run of the shared buffer."""

_MUST_FAIL = messages.message(b"D", b"Ppgfunnel has no such portal\0")
"""Rolls back an implicit transaction that its client left without a Sync."""

_CHANGED = {
    "C": "0A000",
    "M": "cached plan must not change result type",
    "F": "plancache.c",
    "R": "RevalidateCachedQuery",
}
"""What Postgres says of a prepared statement whose result is another now; drivers go by it."""

_AT_ONCE = b"SET TRANSACTION ISOLATION LEVEL READ COMMITTED;"
"""In front of a query of ours where transactions are read only by default: they may be serializable
and deferrable, too, and then even a SELECT waits for others (PostgreSQL documentation, "SET
TRANSACTION")."""

_READ_ONLY = b"default_transaction_read_only"

_REFUSED = re.compile(f'at or near "{REFUSED}([0-9]+)"')

IDLE, ACTIVE, RESETTING, CLOSING = "idle", "active", "resetting", "closing"


@cython.cclass
class Borrower(Link):
    """Whoever may borrow a server: a client, as its server sees it.

    `session` is what it believes of its Postgres session, `server` the one it has now;
    `settling`: it holds messages back until what its names stand for is certain.
    """

    session: Session
    server: Server
    settling: bool

    @cython.ccall
    def on_boundary(self) -> object:
        """The server owes nothing and is in no transaction."""
        raise NotImplementedError

    @cython.ccall
    def on_in_transaction(self) -> object:
        """The server owes nothing and a transaction is open."""
        raise NotImplementedError

    @cython.ccall
    def on_copy_in(self) -> object:
        """The server waits for data to copy."""
        raise NotImplementedError

    @cython.ccall
    def on_prepared(self, error: object) -> object:
        """The query that `Server.run` sent ahead is done; `error` are its fields, or None."""
        raise NotImplementedError

    @cython.ccall
    def on_server_lost(self, error: object) -> object:
        """The server is gone; `error` says so, or is None when the client was told already."""
        raise NotImplementedError

    @cython.ccall
    def on_settled(self) -> object:
        """What was sent ahead is known to be done or undone: go on (see `settling`)."""
        raise NotImplementedError

    @cython.ccall
    def take(self, server: Server) -> object:
        """A waiter's turn has come."""
        raise NotImplementedError


@cython.cclass
class Server(Link):
    """One logged-in server.

    `reported` are the parameter values it told last, `defaults` those it had after login;
    `error`: of the last query of ours that failed, `errors`: of all that a client waits for, each
    with the number of queries that were still to be answered then;
    `status` is that of the last ReadyForQuery (I, T or E); `remaining`: bytes still to come of a
    message that is passed on (or dropped, when `dropping`); `cancels`: cancel requests under way
    for it, during which it is lent to nobody; `cancel_again`: when to repeat one (0: never),
    since Postgres ignores a cancel that comes ahead of what it is to cancel; `cleanings`: queries
    to run before its next client; `looking`: it tells what the database's own functions do.
    """

    hub: Any
    client: Borrower
    parameters: Parameters
    reported: dict[bytes, bytes]
    defaults: dict[bytes, bytes]
    error: dict[str, str]
    errors: list[tuple[int, dict[str, str]]]
    instead: bytes
    types: bytes
    rows: list[list[bytes | None]]
    cleanings: list[bytes]
    looking: Look
    reason: CloseReason
    number: int

    def __init__(
        self,
        loop: object,
        fd: cython.int,
        pool: Database,
        hub: object,
        process_id: int,
        secret: bytes,
        reported: dict[bytes, bytes],
        defaults: dict[bytes, bytes],
        max_statements: int,
    ) -> None:
        Link.__init__(self, loop, fd)
        self.pool = pool
        self.hub = hub
        self.process_id = process_id
        self.secret = secret
        self.owed = Owed()
        self.shelf = Shelf(max_statements)
        self.shelf.renew(pool.generation)
        self.altered = self.alters_routines = False
        self.types = b""
        self.parameters = NONE
        self.reported = reported
        self.defaults = defaults
        self.client = None
        self.state = IDLE
        self.status = 73  # I
        self.remaining = 0
        self.dropping = False
        self.cancels = 0
        self.cancelled = False
        self.farewell = False
        self.cleanings = []
        self.waited_for = False
        self.error = None
        self.errors = []
        self.instead = None
        self.rows = None
        self.auditing = False
        self.looking = None
        self.changes = 0
        self.last = 0
        self.shared = False
        self.opened_at = self.idle_since = now()
        self.expires_at = self.deadline = self.cancel_again = 0.0
        self.reason = None
        self.number = 0

    def __repr__(self) -> str:
        return f"<Server {self.pool.database}/{self.pool.user} {self.state} fd={self.fd}>"

    @property
    def coming(self) -> bool:
        """Whether it is free in a moment: it only tells what the database's functions do."""
        return self.state == RESETTING and self.looking is not None

    # -- what the server says --------------------------------------------------------------

    @cython.ccall
    def consume(self, buffer: bytearray, n: cython.Py_ssize_t) -> object:  # noqa: C901 - flat
        run: cython.Py_ssize_t = 0
        i: cython.Py_ssize_t = 0
        end: cython.Py_ssize_t
        kind: cython.int
        ready: cython.bint = False
        settles: cython.bint = self.owed.asking
        pieces: cython.bint = False
        owed: Owed = self.owed
        if self.remaining > 0:
            i = min(n, self.remaining)
            self.remaining -= i
            if self.dropping:
                run = i
            if self.remaining == 0 and owed.head < owed.tail and owed.queue[owed.head] <= 51:
                pieces = self._answer_due(buffer, run, i)
                run = i
        while i + 5 <= n:
            kind = buffer[i]
            end = i + u32(buffer, i + 1) + 1
            if end < i + 5:
                raise ProtocolViolation("Postgres sent a message with an invalid length")
            if kind == 68 and owed.queue[owed.head] != OUR_QUERY:  # D
                i = end
                continue
            if end > n and end - i <= RX_SIZE and self._seen_whole(kind):
                break
            if self._account(kind, buffer, i, end, n):
                pieces = self._piece(buffer, run, i)
                run = end
            ready = ready or kind == 90  # Z
            settles = settles or kind == 69  # E
            i = end
            if i <= n and owed.head < owed.tail and owed.queue[owed.head] <= 51:  # 1 3, our own
                pieces = self._answer_due(buffer, run, i)
                run = i
        if i > n:
            self.remaining = i - n
            self.dropping = run == i
            i = n
            run = min(n, run)
        elif i < n:
            self.held = buffer[i:n]
        self._pass_on(buffer, run, i, pieces)
        if settles and self.fd >= 0:
            self._let_go_on()
        if ready and self.fd >= 0:
            self._after_ready()
        if self.farewell and self.state == IDLE:
            self.close(CloseReason.SERVER_CLOSED)
        return None

    @cython.cfunc
    def _seen_whole(self, kind: cython.int) -> cython.bint:
        """Messages whose body is looked at: Z S E C, rows of our own queries, some t T."""
        if kind == 116 or kind == 84:
            return self.owed.looks()
        return kind == 90 or kind == 83 or kind == 69 or kind == 67 or kind == 68

    @cython.cfunc
    def _account(  # noqa: C901 - flat
        self,
        kind: cython.int,
        buffer: bytearray,
        at: cython.Py_ssize_t,
        end: cython.Py_ssize_t,
        n: cython.Py_ssize_t,
    ) -> cython.bint:
        """Account for one message; True when the client does not see it as it is."""
        owed: Owed = self.owed
        ours: cython.bint = owed.head < owed.tail and owed.queue[owed.head] == OUR_QUERY
        if kind == 83:  # S
            self._parameter_status(part(buffer, at + 5, end), ours)
            return ours
        if kind == 65:  # A, which is the client's whatever runs meanwhile
            return False
        if kind == 78:  # N
            return ours
        if kind == 68:  # D, of our own query
            if self.rows is not None and end <= n:
                self.rows.append(messages.read_row(part(buffer, at + 5, end)))
            return True
        if kind == 90:  # Z
            self.status = buffer[at + 5]
            if self.altered and self.status == 73:  # I
                self.hub.schema_changed(self.pool, self.alters_routines)
                self.altered = self.alters_routines = False
        elif kind == 67:  # C
            self._command_complete(buffer, at + 5, end)
        elif (kind == 84 or kind == 116 or kind == 110) and owed.looks():  # T t n
            self._described(kind, buffer, at + 5, end, n)
        swallow: cython.bint = owed.answer(kind) != 0
        if kind == 71 and self.client is not None:  # G
            self.client.on_copy_in()
        if kind == 90 and self.client is not None and self.client.session.asks:  # Z
            return swallow or self._withhold()
        if kind == 69:  # E
            return self._error(part(buffer, at + 5, min(n, end)), ours) or swallow
        return swallow

    @cython.cfunc
    def _described(
        self,
        kind: cython.int,
        buffer: bytearray,
        at: cython.Py_ssize_t,
        end: cython.Py_ssize_t,
        n: cython.Py_ssize_t,
    ) -> object:
        """Remember what Postgres tells of a statement: its parameters (t), its result (T or n).

        Of what is too long to be seen whole the length must do.
        """
        note: Any = self.owed.notes[0]
        body: bytes = part(buffer, at, end) if end <= n else b""
        if kind == 116:  # t
            self.types = body
            return None
        if end > n:
            body = b"%d" % (end - at)
        elif kind == 84:  # T
            body = messages.shape(body)
        self.shelf.told(note, self.types, body)
        return None

    @cython.cfunc
    def _withhold(self) -> cython.bint:
        """Whether this ReadyForQuery waits until the client's session is known again."""
        if self.status == 69 or self.waited_for or not self.owed.nothing():  # E
            return False
        return self.client.session.withhold()

    @cython.cfunc
    def _piece(
        self, buffer: bytearray, run: cython.Py_ssize_t, at: cython.Py_ssize_t
    ) -> cython.bint:
        """Take buffer[run:at] for the client, and what stands in place of the message there."""
        _PIECES.add(buffer, run, at)
        if self.instead is not None:
            _PIECES.add_bytes(self.instead)
            self.instead = None
        return True

    @cython.cfunc
    def _answer_due(
        self, buffer: bytearray, run: cython.Py_ssize_t, end: cython.Py_ssize_t
    ) -> cython.bint:
        _PIECES.add(buffer, run, end)
        code: cython.int = self.owed.due()
        while code:
            _PIECES.add_bytes(
                messages.PARSE_COMPLETE if code == ANSWER_PARSE else messages.CLOSE_COMPLETE
            )
            code = self.owed.due()
        return True

    @cython.cfunc
    def _pass_on(
        self,
        buffer: bytearray,
        run: cython.Py_ssize_t,
        end: cython.Py_ssize_t,
        pieces: cython.bint,
    ) -> object:
        client: Borrower = self.client
        if pieces:
            _PIECES.add(buffer, run, end)
            buffer, run, end = _PIECES.buffer, 0, _PIECES.used
        if client is not None and end > run:
            self.pool.counters.bytes_sent += end - run
            client.transmit(buffer, run, end)
        if pieces:
            _PIECES.used = 0
        return None

    @cython.cfunc
    def _parameter_status(self, body: bytes, ours: cython.bint) -> object:
        """Note a parameter's value; one that the client's own doing changed is the client's."""
        name, value = messages.read_pair(body)
        self.reported[name] = value
        key: str = name.decode("utf-8", "replace").lower()
        if key in READ_ONLY or (ours and self.client is not None):
            return None
        session: Session = None if self.client is None else self.client.session
        own: Any = value.decode("utf-8", "replace")
        if self.defaults.get(name) == value and (session is None or not session.began_with(key)):
            own = None
        self.parameters = self.parameters.with_value(key, own)
        if session is not None:
            session.follow(session.parameters.with_value(key, own))
        return None

    @cython.cfunc
    def _command_complete(
        self, buffer: bytearray, at: cython.Py_ssize_t, end: cython.Py_ssize_t
    ) -> object:
        """DISCARD ALL and DEALLOCATE ALL leave no prepared statement behind, DDL outdates them."""
        if (buffer[at + 1] == 82 and buffer[at] != 80) or buffer[at] == 65:
            # CREATE, DROP, ALTER, not PREPARE
            self.altered = True
            self.alters_routines |= changes_routines(part(buffer, at, end - 1))
            self.hub.schema_changed(self.pool, self.alters_routines)
            return None
        if end - at < 12 or buffer[at] != 68 or (buffer[at + 1] == 69 and buffer[at + 2] == 76):
            return None  # not D…, or DELETE
        tag: bytes = part(buffer, at, end - 1)
        if tag != b"DISCARD ALL" and tag != b"DEALLOCATE ALL":
            return None
        session: Session = None if self.client is None else self.client.session
        self.shelf.deallocate_all(session, self.owed)
        self.parameters = NONE if tag == b"DISCARD ALL" else self.parameters.with_statements({})
        if session is not None and tag == b"DISCARD ALL":
            session.follow(session.startup)
        elif session is not None:
            session.follow(session.parameters.with_statements({}))
        return None

    @cython.ccall
    def knows(self, name: str) -> cython.bint:
        """Whether a statement is there under this name of a client's own."""
        return name in self.parameters.statements

    @cython.ccall
    def knows_as(self, name: str) -> object:
        """A statement of the protocol is to be there under the client's own name for it."""
        there = {**self.parameters.statements, name: NOBODYS}
        self.parameters = self.parameters.with_statements(there)
        return None

    @cython.cfunc
    def _error(self, body: bytes, ours: cython.bint) -> cython.bint:
        """An ErrorResponse; True when words of ours stand in its place."""
        owed: Owed = self.owed
        fields = messages.read_error(body)
        if ours:
            self.error = fields
            self.errors.append((owed.ready, fields))
            return False
        self.farewell = fields.get("V", fields.get("S")) == "FATAL"
        if self.client is not None and self.client.session.asks & SURE:
            self.client.session.unsure()
        if "pgfunnel_" in fields.get("M", ""):
            self.instead = self._own_words(fields, owed.undone)
        session: object = None if self.client is None else self.client.session
        if owed.passed_over:
            owed.passed_over = False
            self.shelf.passed_over(session)
        if owed.undone:
            self.shelf.undo(session, owed.undone, owed.failed == PARSE)
            owed.undone.clear()
        owed.failed = 0
        if fields.get("R") == "RevalidateCachedQuery" and fields.get("C") == "0A000":
            self.hub.schema_changed(self.pool, False)
        return self.instead is not None

    @cython.cfunc
    def _own_words(self, fields: Any, undone: list[Any]) -> bytes:
        """Postgres calls a statement by our name for it; the client knows it by its own."""
        said: str = fields["M"]
        severity = {k: v for k, v in fields.items() if k in "SV"}
        if OTHER_RESULT in said:
            return messages.error_fields({**severity, **_CHANGED}.items())
        unprepared = stands_for(said)
        if unprepared is not None and self.client is not None:
            then = self.client.session.failing.get(unprepared, fields)
            return messages.error_fields({**then, **severity}.items())
        refused = _REFUSED.search(said)
        if refused is not None:
            words = dict(zip("CMH", refusal(int(refused[1])), strict=True))
            return messages.error_fields({**severity, **words}.items())
        if '"?pgfunnel_' in said:
            said = said.replace('"?pgfunnel_', '"pgfunnel_')
            return messages.error_fields({**fields, "M": said}.items())
        if fields.get("C") == "42P05" and undone and undone[0][1] is not None:
            again: str = undone[0][1].decode("utf-8", "replace")
            said = re.sub(r'"pgfunnel_\d+"', lambda _: f'"{again}"', said)
        names: dict[Any, Any] = {note[4]: note[1] for note in undone if note[1] is not None}
        if self.client is not None:
            session: Session = self.client.session
            for known in (session.gone, session.names):
                names.update({statement: name for name, statement in known.items()})
        for statement, name in names.items():
            if statement is not None:
                ours: str = statement.server_name.decode()
                said = said.replace(f'"{ours}"', f'"{name.decode("utf-8", "replace")}"')
        return messages.error_fields({**fields, "M": said}.items())

    # -- boundaries ------------------------------------------------------------------------

    @cython.cfunc
    def _let_go_on(self) -> object:
        """A client that held messages back may send them: what was noted is done or undone."""
        client: Borrower = self.client
        if client is None or not client.settling or not self.owed.settled():
            return None
        if client.session.withholds:
            return None  # its last ReadyForQuery comes first
        if self.owed.nothing():
            self.shelf.boundary()
        return client.on_settled()

    @cython.cfunc
    def _after_ready(self) -> object:
        client: Borrower = self.client
        self._let_go_on()
        if self.client is not client:
            return None  # what was held back was not all there, and the server is released
        if self.owed.lost and client is None:
            return self.close(CloseReason.PROTOCOL_VIOLATION)
        if not self.owed.nothing():
            return None
        if client is None:
            return self._rest()
        if self.waited_for:
            self.waited_for = False
            error, self.error = self.error, None
            return client.on_prepared(error)
        if self.error is not None:
            return self.close(CloseReason.RESET_FAILED)
        if self.status == 73:  # I
            self.shelf.boundary()
            return client.on_boundary()
        return client.on_in_transaction()

    @cython.ccall
    def to_clean(self, conditions: cython.int) -> object:
        """Its client is leaving and may have left this behind."""
        if conditions & (LOAD | SEED | UNSURE):
            self.reason = CloseReason.UNCLEAN
        if conditions & (SURE | COMPUTED):
            conditions |= PARAMETERS  # what a reset has put back was never taken note of
        if conditions & PARAMETERS:
            self.parameters = Parameters.of({}, self.parameters.statements)
        if conditions & PREPARED:
            self.parameters = self.parameters.with_statements({})
        sql: bytes = cleaning(conditions)
        if sql:
            self.cleanings.append(sql)
        return None

    @cython.ccall
    def to_reset(self, sql: bytes) -> object:
        """The user's `server_reset_query`: what it leaves of parameters is reset, too."""
        if sql:
            self.cleanings.append(sql)
        if sql and sql.strip(b"; ").upper() != b"DISCARD ALL":
            self.to_clean(PARAMETERS)
        return None

    @cython.ccall
    def run(self, sql: bytes) -> object:
        """Send a query of our own, whose answer no client sees."""
        return self.send(self.query_ahead(sql))

    @cython.ccall
    def query_ahead(self, sql: bytes) -> bytes:
        """A query of our own, accounted for; the caller sends it."""
        if self.status == 73 and self.reported.get(_READ_ONLY) == b"on":  # I
            sql = _AT_ONCE + sql
        self.owed.push(OUR_QUERY)
        self.shelf.unnamed = None
        return messages.query(sql)

    @cython.ccall
    def free(self) -> object:
        """The client is done with it, at a boundary."""
        self.client = None
        if not self.reading:
            self.watch()
        if self.cleanings or self.cancels or self.cancelled or self.reason is not None:
            self.state = RESETTING
            return self._rest()
        if self.pool.looks:
            self.state = RESETTING
            return self.run(self.look())
        if self.pool.audit_share > 0 and self.pool.audit_due():
            return self._audit()
        return self._to_pool()

    @cython.ccall
    def look(self) -> bytes:
        """The first of the queries that tell which of the database's functions change sessions.

        Whoever runs them says so by `looked`.
        """
        self.changes = self.pool.changes
        self.looking = self.pool.begin_look(now())
        self.rows = []
        first: bytes = next(self.looking)
        return first

    @cython.ccall
    def looked(self, error: Any) -> bytes:
        """One answer is there, or the fields of an error: the next query, or nothing at the end."""
        rows, self.rows = self.rows, []
        query: bytes
        try:
            if error is not None:
                raise ValueError(PostgresError(error).message)
            query = self.looking.send(rows)
            return query
        except StopIteration as end:
            if self.pool.end_look(self.changes, end.value):
                self.hub.routines_found(self.pool)
        except (ValueError, LookupError) as problem:
            self.pool.end_look(self.changes, self.pool.catalog)
            self.hub.routines_unknown(self.pool, str(problem))
        self.looking = self.rows = None
        return b""

    @cython.cfunc
    def _audit(self) -> object:
        """Ask the server whether it is as it is believed to be, before it is lent again."""
        self.state = RESETTING
        self.auditing = True
        self.rows = []
        return self.run(audit.query(self.parameters))

    @cython.cfunc
    def _audited(self) -> object:
        """Count, tell and repair what should not be there."""
        self.auditing = False
        rows, self.rows = self.rows, None
        kinds: cython.int = audit.leaks(self.parameters, rows)
        if kinds:
            self.hub.leaked(self, kinds)
            self.to_clean(kinds)
        return None

    @cython.cfunc
    def _to_pool(self) -> object:
        if self.farewell:
            return self.close(CloseReason.SERVER_CLOSED)
        waiter: Borrower = self.pool.release(self)
        if waiter is not None:
            return waiter.take(self)
        self.state = IDLE
        self.idle_since = now()
        return None

    @cython.cfunc
    def _rest(self) -> object:
        """Nothing is owed and nobody has it: one step nearer to a clean server."""
        if self.state != RESETTING or self.cancels or not self.owed.nothing():
            return None
        if self.reason is not None:
            return self.close(self.reason)
        if self.looking is not None:
            error, self.error = self.error, None
            more: bytes = self.looked(error)
            if more:
                return self.run(more)
        if self.error is not None:
            return self.close(CloseReason.RESET_FAILED)
        if self.status != 73:  # I
            return self.run(b"ROLLBACK")
        if self.cancelled:
            # A cancel that arrives late must hit nothing of the next client's.
            self.cancelled = False
            return self.run(b"")
        if self.auditing:
            self._audited()
        if self.cleanings:
            return self._clean()
        self.shelf.boundary()
        self.deadline = self.cancel_again = 0.0
        return self._to_pool()

    @cython.cfunc
    def _clean(self) -> object:
        """One step; a reset query may have to stand alone, so it gets nothing in front of it."""
        if self.reported.get(_READ_ONLY) == b"on":
            self.reported[_READ_ONLY] = b"off"
            return self.run(b"SET default_transaction_read_only=off")
        return self.run(self.cleanings.pop(0))

    # -- clients that leave, cancels, the end ----------------------------------------------

    @cython.ccall
    def abandon(self, mid_message: cython.bint, orderly: cython.bint) -> object:
        """The client left without bringing its server to a boundary.

        `mid_message`: half a message of its is on its way, so nothing can be said to the server.
        `orderly`: it said goodbye, so that what it asked for before is done, as by Postgres.
        """
        owed: Owed = self.owed
        self.client = None
        self.state = RESETTING
        if self.waited_for:
            # Only a query of ours runs, which ends by itself.
            self.waited_for = False
            self.deadline = now() + self.hub.abandon_timeout
            return self.watch()
        finish: cython.bint = orderly and not owed.unsynced and not owed.copying
        if not finish and owed.ready + owed.unsynced - mid_message <= 1:
            self.hub.cancel(self)
            self.cancel_again = now() + 1.0
        if mid_message or owed.lost or self.out is not None:
            return self.close(CloseReason.CLIENT_VANISHED)
        self.watch()
        self._finish_for_client()
        if not finish:
            self.deadline = now() + self.hub.abandon_timeout
        return self._rest()

    @cython.cfunc
    def _finish_for_client(self) -> object:
        """End a COPY IN that is or may be under way, fail what has no Sync yet, and send one."""
        owed: Owed = self.owed
        if not owed.nothing():
            self.send(messages.copy_fail(b"the client left"))
            owed.end_copy()
        if owed.unsynced and not owed.skipping:
            owed.push(DESCRIBE)
            self.send(_MUST_FAIL)
        if owed.unsynced or owed.skipping:
            owed.push(SYNC)
            self.send(messages.SYNC)
        return None

    @cython.ccall
    def cancel_begins(self) -> object:
        self.cancels += 1
        self.cancelled = True
        return None

    @cython.ccall
    def cancel_ended(self) -> object:
        self.cancels -= 1
        if self.client is None and self.state == RESETTING:
            return self._rest()
        return None

    @cython.ccall
    def close(self, reason: CloseReason) -> object:
        """Say goodbye and wait until Postgres has closed: only then is its place free."""
        if self.state == CLOSING or self.fd < 0:
            return None
        client: Borrower = self.client
        self.client = None
        self.reason = reason
        self.state = CLOSING
        self.deadline = now() + self.hub.close_timeout
        self.pool.withdraw(self)
        if self.out is None:
            self.send(messages.TERMINATE)
        self.finish_sending()
        self.watch()
        if client is not None:
            mute: cython.bint = self.remaining > 0
            client.on_server_lost(None if mute else self.hub.lost_words(self, reason))
        return None

    @cython.ccall
    def end(self) -> object:
        """Close the socket for good and give back its place."""
        if self.fd < 0:
            return None
        self.hang_up()
        self.hub.server_gone(self)
        return None

    @cython.ccall
    def on_lost(self) -> object:
        client: Borrower = self.client
        self.client = None
        if self.reason is None:
            self.reason = CloseReason.SERVER_CLOSED
        self.end()
        if client is not None:
            # In the middle of a message, words of ours would be read as the rest of it.
            mute: cython.bint = self.farewell or self.remaining > 0
            client.on_server_lost(None if mute else self.hub.lost_words(self, self.reason))
        return None

    @cython.ccall
    def on_violation(self, error: object) -> object:
        return self.close(CloseReason.PROTOCOL_VIOLATION)

    @cython.ccall
    def on_blocked(self) -> object:
        if self.client is not None:
            self.client.pause()
        return None

    @cython.ccall
    def on_drained(self) -> object:
        if self.client is not None:
            self.client.watch()
        return None
