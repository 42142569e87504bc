# cython: boundscheck=False, wraparound=False
"""A server that nobody has: what it does until the next client may have it.

It runs what cleans it, is audited, tells what the database's own functions do, and goes back to its
pool.
"""

from __future__ import annotations

from typing import Any

import cython

from proxy.conditions import COMPUTED, LOAD, PARAMETERS, PREPARED, SEED, SERVER_STATE, UNSURE
from proxy.errors import QUERY_CANCELED, PostgresError
from proxy.relay.answering import IDLE
from proxy.session import audit
from proxy.session.catalog import ROUTINES, STATEMENTS, Look
from proxy.session.cleaning import cleaning
from proxy.session.doubting import NO_NAMES
from proxy.session.parameters import NONE, replans
from proxy.telemetry.reasons import CloseReason
from proxy.wire import messages

if cython.compiled:
    from cython.cimports.proxy.relay.answering import Answering
    from cython.cimports.proxy.relay.borrower import Borrower
    from cython.cimports.proxy.relay.clock import now
    from cython.cimports.proxy.relay.database import Database
    from cython.cimports.proxy.session.doubting import DEFINES, NAMES, SURE
    from cython.cimports.proxy.session.owed import OUR_QUERY
    from cython.cimports.proxy.session.parameters import Parameters
else:
    from proxy.relay.answering import Answering
    from proxy.relay.borrower import Borrower
    from proxy.relay.clock import now
    from proxy.relay.database import Database
    from proxy.session.doubting import DEFINES, NAMES, SURE
    from proxy.session.owed import OUR_QUERY
    from proxy.session.parameters import Parameters

_AT_ONCE = b"SET TRANSACTION ISOLATION LEVEL READ COMMITTED;"
"""In front of a query of ours where transactions are read only by default: they may be serializable
and deferrable, too, and then even a SELECT waits for others (PostgreSQL documentation, "SET
TRANSACTION")."""

_READ_ONLY = b"default_transaction_read_only"

_SOMEBODYS = frozenset({b"application_name", b"is_superuser", b"session_authorization"})
"""What it reports of whoever has it."""

RESETTING = "resetting"


@cython.cclass
class Resting(Answering):
    """A server in what it does on its own.

    `cancels`: cancel requests under way for it, during which it is lent to nobody; `cancelled`: one
    may still arrive; `cleanings`: queries to run before its next client; `looking`: it tells
    what the database's own functions do; `audits`: it is to be audited, when it is clean;
    `audited`: what it was asked to confirm; `last`: the number of the client that had it last;
    `planned`: what plans that functions keep were made under, None where that has changed
    since; `leaves`: names of applications' own parameters that are known to it; `reason`: why
    it is to be closed; `cancel_again`: when to repeat a cancel request (0: never), since
    Postgres ignores one that comes ahead of what it is to cancel.
    """

    audited: Parameters
    cleanings: list[bytes]
    looking: Look
    reason: CloseReason

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
        Answering.__init__(self, loop, fd, pool, hub, reported, defaults, max_statements)
        self.cancels = 0
        self.cancelled = False
        self.cleanings = []
        self.audited = None
        self.looking = None
        self.changes = 0
        self.last = 0
        self.audits = False
        self.planned = NONE.meaning
        self.leaves = NO_NAMES
        self.opened_at = self.idle_since = now()
        self.deadline = self.cancel_again = 0.0
        self.reason = None

    @property
    def coming(self) -> bool:
        """Whether it is free in a moment: it only tells what the database's functions do."""
        return self.state == RESETTING and self.looking is not None

    # -- queries of ours -------------------------------------------------------------------

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

    # -- given back ------------------------------------------------------------------------

    @cython.ccall
    def to_clean(self, conditions: cython.int) -> object:
        """Its client is leaving and may have left this behind."""
        if conditions & (LOAD | SEED | SERVER_STATE | UNSURE):
            self.reason = CloseReason.UNCLEAN
        if conditions & (DEFINES | NAMES):
            self.outdated = max(self.outdated, ROUTINES if conditions & DEFINES else STATEMENTS)
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
    def free(self) -> object:
        """The client is done with it, at a boundary."""
        self.client = None
        if not self.reading:
            self.watch()
        self.audits = self._audit_due()
        if self.cleanings or self.cancels or self.cancelled or self.reason is not None:
            self.state = RESETTING
            return self._rest()
        if self.pool.looks:
            self.state = RESETTING
            return self.run(self.look())
        return self._audit() if self.audits else self._to_pool()

    @cython.ccall
    def plans_anew(self, meaning: Any) -> cython.bint:
        """Whether functions here may keep plans that somebody made under other parameters.

        Then the caller, who is another now, sends DISCARD PLANS. PL/pgSQL and its like plan an
        expression once, with constants written out (PostgreSQL documentation, "PL/pgSQL under the
        Hood").
        """
        if self.planned is meaning:
            return False
        planned, self.planned = self.planned, meaning
        if not self.pool.catalog.keeps_plans:
            return False
        if planned is not None and not replans(planned, meaning):
            return False
        self.parameters = self.parameters.planned_anew()
        self.shelf.discard_plans()
        return True

    # -- what it tells and whether it is clean ---------------------------------------------

    @cython.ccall
    def replans(self) -> cython.bint:
        """Names in texts come to stand for a client's own tables, which will be gone: plans that
        are kept here are to be made anew for the next, and at once where this says so."""
        self.planned = None
        if not self.pool.catalog.keeps_plans and not self.parameters.statements:
            return False
        self.parameters = self.parameters.planned_anew()
        return True

    @cython.ccall
    def look(self) -> bytes:
        """The first of the queries that tell which of the database's functions change sessions.

        Whoever runs them says so by `looked`.
        """
        self.changes = self.pool.changes
        self.looking = self.pool.begin_look(self.opened_at)
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
                query = self.looking.throw(ValueError(PostgresError(error).message))
            else:
                query = self.looking.send(rows)
            return query
        except StopIteration as end:
            self.hub.looked(self.pool, self.changes, end.value)
        except (ValueError, LookupError) as problem:
            if (
                error is not None
                and error.get("C") == QUERY_CANCELED
                and self.pool.may_look_again()
            ):
                query = self.look()
                return query
            self.pool.end_look(self.changes, self.pool.catalog)
            self.hub.journal.routines_unknown(self.pool, str(problem))
        self.looking = self.rows = None
        return b""

    @cython.cfunc
    def _learn(self) -> object:
        """Tell the pool when it reports other values without anybody's doing than it did.

        Postgres reads its configuration anew, or is promoted, and tells behind the next query.
        """
        self.tells = False
        own = self.parameters.values
        changed = {
            name: value
            for name, value in self.reported.items()
            if self.defaults.get(name) != value
            and name not in _SOMEBODYS
            and name.decode("utf-8", "replace").lower() not in own
        }
        if changed:
            self.defaults = {**self.defaults, **changed}
            self.pool.learn_defaults(self.defaults)
        return None

    @cython.cfunc
    def _audit_due(self) -> cython.bint:
        """Whether this release is to be audited; a server that nobody has had needs none."""
        return self.pool.audit_share > 0 and self.last != 0 and self.pool.audit_due()

    @cython.cfunc
    def _audit(self) -> object:
        """Ask the server whether it is as it is believed to be, before it is lent again."""
        self.state = RESETTING
        self.audits = False
        begins = self.pool.catalog.begins
        role = {"role": begins["role"]} if "role" in begins else {}
        self.audited = self.parameters.with_values({**role, **self.parameters.values})
        self.rows = []
        return self.run(audit.query(self.audited))

    @cython.cfunc
    def _audited(self) -> object:
        """Count, tell and repair what should not be there."""
        believed, self.audited = self.audited, None
        rows, self.rows = self.rows, None
        kinds: cython.int = audit.leaks(believed, rows) & ~self.pool.policy.ignored
        if kinds:
            self.hub.journal.leaked(self, kinds)
            self.to_clean(kinds)
        return None

    @cython.cfunc
    def _cannot_audit(self) -> cython.bint:
        """Whether what failed is an audit, for want of a right: the server may be clean."""
        if self.audited is None or self.error.get("C") != "42501":
            return False
        self.hub.journal.audit_impossible(self.pool, self.error)
        self.pool.audit_share = 0.0
        self.audited = self.error = self.rows = None
        return True

    @cython.cfunc
    def _to_pool(self) -> object:
        if self.farewell:
            return self.close(CloseReason.SERVER_CLOSED)
        if self.parameters.meaning is not self.planned:
            self.planned = None
        if self.tells:
            self._learn()
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
        if self.looking is not None and self.reason is None:
            error, self.error = self.error, None
            more: bytes = self.looked(error)
            if more:
                return self.run(more)
        if self.reason is not None:
            return self.close(self.reason)
        if self.error is not None and not self._cannot_audit():
            return self.close(CloseReason.RESET_FAILED)
        if self.status != 73:  # I
            return self.run(b"ROLLBACK")
        if self.cancelled:
            # A cancel that arrives late must hit nothing of the next client's.
            self.cancelled = False
            return self.run(b"")
        if self.audited is not None:
            self._audited()
        if self.cleanings:
            return self._clean()
        self.shelf.boundary()
        self.deadline = self.cancel_again = 0.0
        return self._audit() if self.audits else self._to_pool()

    @cython.cfunc
    def _clean(self) -> object:
        """One step; a reset query may have to stand alone, so it gets nothing in front of it."""
        if self.reported.get(_READ_ONLY) == b"on":
            self.reported[_READ_ONLY] = b"off"
            return self.run(b"SET default_transaction_read_only=off")
        return self.run(self.cleanings.pop(0))
