# cython: boundscheck=False, wraparound=False
"""What a server says, and what of it its client sees.

`consume` walks the headers, accounts for every message in `owed`, and passes runs of bytes to the
client that has borrowed the server. What follows once something is complete is another matter
(`proxy.relay.server`).
"""

from __future__ import annotations

from typing import Any

import cython

from proxy.errors import ProtocolViolation
from proxy.session.catalog import STATEMENTS, outdates
from proxy.session.own_words import own_words
from proxy.session.parameters import NONE, READ_ONLY
from proxy.telemetry.reasons import CloseReason
from proxy.wire import messages

if cython.compiled:
    from cython.cimports.proxy.relay.borrower import Borrower
    from cython.cimports.proxy.relay.database import Database
    from cython.cimports.proxy.relay.link import RX_SIZE, Link
    from cython.cimports.proxy.session.doubting import SURE
    from cython.cimports.proxy.session.owed import ANSWER_PARSE, OUR_QUERY, PARSE, Owed
    from cython.cimports.proxy.session.parameters import Parameters
    from cython.cimports.proxy.session.prepared import Shelf
    from cython.cimports.proxy.session.session import Session
    from cython.cimports.proxy.wire.octets import Pieces, kept, part, u32
else:
    from proxy.relay.borrower import Borrower
    from proxy.relay.database import Database
    from proxy.relay.link import RX_SIZE, Link
    from proxy.session.doubting import SURE
    from proxy.session.owed import ANSWER_PARSE, OUR_QUERY, PARSE, Owed
    from proxy.session.parameters import Parameters
    from proxy.session.prepared import Shelf
    from proxy.session.session import Session
    from proxy.wire.octets import Pieces, kept, part, u32

_PIECES: Pieces = Pieces()
"""What goes to the client when it is not one run of the shared buffer."""

_OPENED = (messages.command_complete("BEGIN"), messages.command_complete("START TRANSACTION"))

_MAY_NOT = "42501"
"""insufficient_privilege: set_config was revoked, it seems."""

IDLE = "idle"

LARGEST_ROW = 32 << 20
"""Bytes of an answer to a question of ours: twice what a session may have, in hexadecimal."""


@cython.cclass
class Answering(Link):
    """A server in what it says.

    `reported` are the parameter values it told last, `defaults` those without anybody's doing;
    `tells`: it has told of some;
    `error`: of the last query of ours that failed, `errors`: of all that a client waits for, each
    with the number of queries that were still to be answered then;
    `status` is that of the last ReadyForQuery (I, T or E); `remaining`: bytes still to come of a
    message that is passed on (or dropped, when `dropping`); `farewell`: it has said why it closes
    the connection; `waited_for`: its client waits for a query of ours; `unsaid`: so many bytes in
    front of a message that is held back are not said either.
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

    def __init__(
        self,
        loop: object,
        fd: cython.int,
        pool: Database,
        hub: object,
        reported: dict[bytes, bytes],
        defaults: dict[bytes, bytes],
        max_statements: int,
    ) -> None:
        Link.__init__(self, loop, fd)
        self.pool = pool
        self.hub = hub
        self.owed = Owed()
        self.shelf = Shelf(max_statements)
        self.shelf.renew(pool.generation)
        self.outdated = 0
        self.tells = False
        self.types = b""
        self.parameters = NONE
        self.reported = reported
        self.defaults = defaults
        self.client = None
        self.state = IDLE
        self.status = 73  # I
        self.remaining = self.unsaid = 0
        self.dropping = False
        self.farewell = False
        self.waited_for = False
        self.error = None
        self.errors = []
        self.instead = None
        self.rows = None

    @cython.cfunc
    def _let_go_on(self) -> object:
        """What its client has noted may be certain now."""
        raise NotImplementedError

    @cython.cfunc
    def _after_ready(self) -> object:
        """A ReadyForQuery is passed on."""
        raise NotImplementedError

    @cython.ccall
    def close(self, reason: CloseReason) -> object:
        """End the connection."""
        raise NotImplementedError

    @cython.ccall
    def consume(self, buffer: bytearray, n: cython.Py_ssize_t) -> object:  # noqa: C901 - flat
        run: cython.Py_ssize_t = 0
        i: cython.Py_ssize_t = 0
        end: cython.Py_ssize_t
        kind: cython.int
        ready: cython.bint = False
        settles: cython.bint = self.owed.asking or self.owed.emptying
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
            if kind == 68 and owed.queue[owed.head] < 97:  # D, of the client's
                i = end
                continue
            if end > n and self._seen_whole(kind, end - i):
                break
            if self._account(kind, buffer, i, end, n):
                pieces = self._piece(buffer, run, i)
                run = end
            ready = ready or kind == 90  # Z
            settles = settles or kind == 69 or kind == 71  # E G
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
            self.held = kept(buffer, i, n)
        self._pass_on(buffer, run, i, pieces)
        if settles and self.fd >= 0:
            self._let_go_on()
        if ready and self.fd >= 0:
            self._after_ready()
        if self.farewell and self.state == IDLE:
            self.close(CloseReason.SERVER_CLOSED)
        return None

    @cython.cfunc
    def _seen_whole(self, kind: cython.int, size: cython.Py_ssize_t) -> cython.bint:
        """Messages whose body is looked at: Z S E C, rows of our own queries, some t T."""
        if kind == 68:
            return (self.rows is not None or self.owed.reads()) and size <= LARGEST_ROW
        if size > RX_SIZE:
            return False
        if kind == 116 or kind == 84:
            return self.owed.looks()
        return kind == 90 or kind == 83 or kind == 69 or kind == 67

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
            return self._parameter_status(part(buffer, at + 5, end), ours) or ours
        if kind == 65:  # A, which is the client's whatever runs meanwhile
            return False
        if kind == 78:  # N
            return ours
        if kind == 68:  # D, of our own query
            if end <= n:
                self._row(messages.read_row(part(buffer, at + 5, end)))
            return True
        if kind == 90:  # Z
            self.status = buffer[at + 5]
            if self.outdated and self.status == 73:  # I
                self.hub.schema_changed(self.pool, self.outdated)
                self.outdated = 0
        elif kind == 67:  # C
            self._command_complete(buffer, at + 5, end)
        elif (kind == 84 or kind == 116 or kind == 110) and owed.looks():  # T t n
            self._described(kind, buffer, at + 5, end, n)
        swallow: cython.bint = owed.answer(kind) != 0
        if self.client is not None and (kind == 71 or (kind == 69 and owed.skipping)):  # G E
            self.client.on_silence()
        if kind == 90 and self.client is not None:  # Z
            if self.client.session.asks or self.client.blockless:
                return swallow or self._withhold(buffer, at)
            return swallow
        if kind == 69:  # E
            return self._error(part(buffer, at + 5, min(n, end)), ours) or swallow
        return swallow

    @cython.cfunc
    def _row(self, row: Any) -> object:
        if self.owed.reads():
            self.shelf.read(self.owed.notes[0], row)
        elif self.rows is not None:
            self.rows.append(row)
        return None

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
        outdated: cython.bint = self.shelf.told(note, self.types, body)
        self.types = b""  # none come with a portal's
        if outdated and self.status == 73:  # I; else it may be so in this transaction alone
            self.hub.schema_changed(self.pool, STATEMENTS)
        return None

    @cython.cfunc
    def _withhold(self, buffer: bytearray, at: cython.Py_ssize_t) -> cython.bint:
        """Whether this ReadyForQuery waits until the client's session is known again.

        Or does not come: who may open no transaction block is told so in its place.
        """
        if self.waited_for or not self.owed.nothing():
            return False
        if self.client.blockless and self.status != 73:  # I
            self.unsaid = _opening_before(buffer, at)
            return True
        session: Session = self.client.session
        if self.status != 69:  # E
            return session.withhold()
        if session.withholds_next:
            self.instead = self.ready_for(session)
        return self.instead is not None

    @cython.ccall
    def ready_for(self, session: Session) -> bytes:
        """ReadyForQuery, behind what its client must hear of the parameters that it began with."""
        news = session.unheard(self.reported).items()
        told = [messages.parameter_status(name, value) for name, value in news]
        return b"".join([*told, messages.ready(self.status)])

    @cython.cfunc
    def _piece(
        self, buffer: bytearray, run: cython.Py_ssize_t, at: cython.Py_ssize_t
    ) -> cython.bint:
        """Take buffer[run:at] for the client, and what stands in place of the message there."""
        _PIECES.add(buffer, run, at - self.unsaid)
        self.unsaid = 0
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
        if self.error is not None and client is not None and not self.waited_for:
            # What is answered was done by a session that is not set as its client's is.
            _PIECES.used = 0
            if self.error.get("C") == _MAY_NOT:
                self.pool.sets_no_more()
            return self.close(CloseReason.RESET_FAILED)
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
    def _parameter_status(self, body: bytes, ours: cython.bint) -> cython.bint:
        """Note a parameter's value; one that the client's own doing changed is the client's.

        True when it is not to hear of that.
        """
        name, value = messages.read_pair(body)
        self.reported[name] = value
        self.tells = True
        key: str = name.decode("utf-8", "replace").lower()
        if key in READ_ONLY or (ours and self.client is not None):
            return False
        session: Session = None if self.client is None else self.client.session
        own: Any = value.decode("utf-8", "replace")
        if self.defaults.get(name) == value and (session is None or not session.began_with(key)):
            own = None
        self.parameters = self.parameters.with_value(key, own)
        if session is not None:
            session.wonder(key, own)
            session.follow(session.parameters.with_value(key, own))
        if session is None:
            return False
        if not session.began_with(key):
            session.heard(name, value)
            return False
        return session.hides(name, value, self.owed.ends())

    @cython.cfunc
    def _command_complete(
        self, buffer: bytearray, at: cython.Py_ssize_t, end: cython.Py_ssize_t
    ) -> object:
        """DISCARD ALL and DEALLOCATE ALL leave no prepared statement behind, DDL outdates them."""
        if buffer[at + 1] == 79 and self.client is not None:  # COMMIT, ROLLBACK (TO) and others
            self.client.session.may_lead_back()
        if (buffer[at + 1] == 82 and buffer[at] != 80) or buffer[at] == 65:
            # CREATE, DROP, ALTER, not PREPARE
            return self._alters(part(buffer, at, end - 1))
        if end - at < 12 or buffer[at] > 68 or (buffer[at + 1] == 69 and buffer[at + 2] == 76):
            return None  # behind D…, or DELETE
        tag: bytes = part(buffer, at, end - 1)
        if tag == b"COMMIT PREPARED":
            return self._alters(tag)
        if tag == b"DISCARD PLANS" and not (self.owed.ours() or self.owed.between()):
            self.shelf.discard_plans()
            if self.client is not None:
                self.reads_anew(self.client.session)
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
    def reads_anew(self, session: Session) -> object:
        """Postgres reads the client's texts anew when it uses them next."""
        behind = [note[4] for note in self.owed.notes]
        there = session.read_anew(behind)
        self.parameters = self.parameters.with_statements({**self.parameters.statements, **there})
        return None

    @cython.cfunc
    def _alters(self, tag: bytes) -> object:
        """DDL was run, maybe by whoever prepared the transaction."""
        self.outdated = max(self.outdated, outdates(tag))
        return self.hub.schema_changed(self.pool, self.outdated)

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
        session: Session = None if self.client is None else self.client.session
        if session is not None:
            session.leaving = ()
        if "pgfunnel_" in fields.get("M", ""):
            self.instead = own_words(fields, owed.undone, session)
        if owed.passed_over:
            owed.passed_over = False
            self.shelf.passed_over(session)
        if owed.undone:
            self.shelf.undo(session, owed.undone, owed.failed == PARSE)
            owed.undone.clear()
        owed.failed = 0
        if fields.get("R") == "RevalidateCachedQuery" and fields.get("C") == "0A000":
            self.shelf.distrust()
            self.hub.schema_changed(self.pool, STATEMENTS)
        return self.instead is not None


def _opening_before(buffer: bytearray, at: int) -> int:
    """The size of the message in front that says that a transaction block is open; 0: none."""
    for opened in _OPENED:
        if at >= len(opened) and buffer[at - len(opened) : at] == opened:
            return len(opened)
    return 0
