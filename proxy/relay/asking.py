# cython: boundscheck=False, wraparound=False
"""A client asks its server what became of its session, where its statements leave a doubt.

At the boundary, behind the client's own ReadyForQuery, or in a transaction, where the answer would
be lost with it (`proxy.session.session`).
"""

from __future__ import annotations

from typing import Any

import cython

from proxy.conditions import TEMP, UNSURE
from proxy.errors import QUERY_CANCELED
from proxy.relay.fitting import RETRIES
from proxy.session.inquiry import question, read_answer
from proxy.session.parameters import settings_query
from proxy.telemetry.reasons import CHANGED
from proxy.wire import messages

if cython.compiled:
    from cython.cimports.proxy.relay.fitting import (
        ASKING,
        CHECKING,
        COUNTING,
        LIFTING,
        LOOKING,
        LOOKING_BACK,
        NOTHING,
        READING,
        RESTORED,
        RESTORING,
        SESSION,
        UNREAD,
        Fitting,
    )
    from cython.cimports.proxy.relay.server import Server
    from cython.cimports.proxy.session.session import Session
else:
    from proxy.relay.fitting import (
        ASKING,
        CHECKING,
        COUNTING,
        LIFTING,
        LOOKING,
        LOOKING_BACK,
        NOTHING,
        READING,
        RESTORED,
        RESTORING,
        SESSION,
        UNREAD,
        Fitting,
    )
    from proxy.relay.server import Server
    from proxy.session.session import Session

_SAVE = b'SAVEPOINT "pgfunnel asks";SET LOCAL statement_timeout = 2000'
_BACK = b'ROLLBACK TO "pgfunnel asks";RELEASE "pgfunnel asks"'
"""Around a question in a transaction: what hits the question does not end that. A limit of the
client's own may be too short for it; it does not wait for ever either (milliseconds)."""

_NOT_BACK = "RESET leads back to what this session began with, which Postgres refuses here."


@cython.cclass
class Asking(Fitting):
    """A client in what it has its server tell.

    `remaining`: bytes still to come of a message that is being passed on, amid which nothing can
    be asked. `asked`: what was asked last, which may not be what would be asked now; `back`: what
    was put back last within a transaction.
    """

    remaining: int
    asked: tuple[int, tuple[str, ...], tuple[str, ...], bool]
    back: dict[str, str]

    @cython.cfunc
    def _part(self) -> object:
        """Give the server back, unless something holds it."""
        raise NotImplementedError

    @cython.cfunc
    def _counted(self) -> object:
        """It is certain that the server owes nothing: go on as at any ReadyForQuery."""
        raise NotImplementedError

    @cython.cfunc
    def _exchange(self) -> object:
        """Have another server in place of one that is to be closed."""
        raise NotImplementedError

    @cython.ccall
    def on_prepared(self, error: Any) -> object:
        server: Server = self.server
        what: cython.int = self.ahead
        self.ahead = NOTHING
        if what == ASKING:
            return self._answered(error)
        if what == LIFTING:
            return self._lifted(server, error)
        if what == READING or what == UNREAD:
            return self._read(what, error)
        if what == RESTORING or what == RESTORED:
            return self._restored(what, error)
        if what == LOOKING or what == LOOKING_BACK:
            return self._looked(what, error)
        if what == COUNTING:
            return self._counted()
        if error is not None and what == CHECKING:
            return self._retry(server, error, RETRIES)
        if error is not None:
            return self._failed(server, what, error)
        self.cancelled = 0
        return self._go_on()

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
        if self.server.reason in CHANGED and not self.session.holds and not self.keeps:
            return self._exchange()
        return self._go_on()

    @cython.cfunc
    def _ask(self) -> object:
        """At a boundary, with a doubt: believe what is sure, ask for the rest."""
        session: Session = self.session
        server: Server = self.server
        had: cython.int = session.holds & TEMP
        if session.sure():
            server.parameters = session.reset()
            self._have_gone(had)
            return self._go_on_known()
        if self.remaining > 0:
            return self._go_on_known()  # the next boundary is as good
        self.asked = session.question()
        server.rows = []
        self._run_ahead(ASKING, [question(*self.asked)])
        return None

    @cython.cfunc
    def _answered(self, error: Any) -> object:
        """The server has said what became of the session."""
        server: Server = self.server
        session: Session = self.session
        rows, server.rows = server.rows, None
        had: cython.int = session.holds & TEMP
        if error is not None and error.get("C") == QUERY_CANCELED and self._again():
            server.rows = []
            self._run_ahead(ASKING, [question(*self.asked)])
            return None
        self.cancelled = 0
        if error is not None or len(rows) != 1:
            if not session.holds & UNSURE:
                self.hub.journal.session_unknown(self, error)
            session.cannot_tell()
        else:
            self._believe(read_answer(*self.asked, rows[0]))
            self._has_left()
            if session.holds & TEMP:
                server.planned = None
                self._has_first()
            self._have_gone(had)
        self._known()
        return self._resume()

    @cython.cfunc
    def _believe(self, answer: Any) -> object:
        if answer.ours is not None and self.server.shelf.lacks(answer.ours) and answer.ours == 0:
            self.session.lose_names()
        self.server.parameters = self.session.believe(answer)
        return None

    @cython.cfunc
    def _has_first(self) -> object:
        """It has temporary tables, made by code out of sight if they are the first."""
        if not self.session.tempted:
            self.session.tempted = True
            self.server.reads_anew(self.session)
        return None

    @cython.cfunc
    def _have_gone(self, had: cython.int) -> object:
        """What was prepared amid the temporary tables that it had is not good any more."""
        if had and not self.session.holds & TEMP:
            self.server.shelf.distrust()
        return None

    @cython.cfunc
    def _go_on_known(self) -> object:
        """Without a question; what was held back may go on."""
        self._known()
        return self._resume() if self.settling else None

    @cython.cfunc
    def _has_left(self) -> object:
        """Names of parameters are known to its server now, and are to be to others, too."""
        self.session.has_left()
        if not self.session.leaves <= self.server.leaves:
            self.server.leaves = self.server.leaves | self.session.leaves
        return None

    @cython.cfunc
    def _known(self) -> object:
        """The session is known again: keep the server for a reason, or give it back."""
        session: Session = self.session
        session.pin(self.pool.policy)
        if session.withholds:
            self._goes_on()
        return self._part()

    @cython.cfunc
    def _goes_on(self) -> object:
        """The ReadyForQuery that was withheld; ahead of it, what its parameters have become."""
        self.session.withholds = False
        server: Server = self.server
        return self.send(server.ready_for(self.session))

    @cython.cfunc
    def _ask_readings(self) -> object:
        """In a transaction, a PREPARE may have read its text under parameters that end with it."""
        session: Session = self.session
        tells: cython.bint = self.server.status == 84 and self.remaining == 0  # T
        if session.withholds or not tells or self.mode == SESSION or session.parameters.hasty:
            session.read_under(None)
            return self._restore() if session.withholds else None
        self.server.rows = []
        asked: bytes = question(*session.question_of_readings())
        self._run_ahead(READING, [b";".join([_SAVE, asked, _BACK])])
        return None

    @cython.cfunc
    def _read(self, what: cython.int, error: Any) -> object:
        session: Session = self.session
        if what == READING and error is not None:
            self._run_ahead(UNREAD, [_BACK])
            return None
        rows, self.server.rows = self.server.rows, None
        told: cython.bint = error is None and len(rows) == 1
        answer = read_answer(*session.question_of_readings(), rows[0]) if told else None
        session.read_under(answer)
        return self._resume()

    @cython.cfunc
    def _restore(self) -> object:
        """In a transaction, RESET leads to what the client began with, too.

        Where it cannot, the client is told that its transaction has failed.
        """
        self.asked = self.session.question_now()
        self.server.rows = []
        self._run_ahead(RESTORING, [question(*self.asked)])
        return None

    @cython.cfunc
    def _restored(self, what: cython.int, error: Any) -> object:
        server: Server = self.server
        session: Session = self.session
        rows, server.rows = server.rows, None
        if what == RESTORING and error is None and len(rows) == 1:
            lasting, passing = session.restore(read_answer(*self.asked, rows[0]))
            self.back = {**lasting, **passing}
            if self.back:
                ways = settings_query(lasting.items()), settings_query(passing.items(), True)
                self._run_ahead(RESTORED, [way.encode() for way in ways if way])
                return None
        if error is not None:
            self.send(messages.error_fields({"H": _NOT_BACK, **error}.items()))
        elif what == RESTORED:
            known = {k: v for k, v in self.back.items() if k in self.pool.reported}
            server.parameters = server.parameters.with_values(known)
            session.follow(session.parameters.with_values(known))
        self._goes_on()
        return self._resume()
