# cython: boundscheck=False, wraparound=False
"""A connection to Postgres that has logged in.

At the boundary it gives the word to the client that has borrowed it, or, when nobody has it, brings
itself back to a clean state and to its pool (`proxy.relay.resting`).
"""

from __future__ import annotations

import cython

from proxy.relay.resting import RESETTING
from proxy.telemetry.reasons import CloseReason
from proxy.wire import messages

if cython.compiled:
    from cython.cimports.proxy.relay.borrower import Borrower
    from cython.cimports.proxy.relay.clock import now
    from cython.cimports.proxy.relay.database import Database
    from cython.cimports.proxy.relay.resting import Resting
    from cython.cimports.proxy.session.owed import DESCRIBE, SYNC, Owed
else:
    from proxy.relay.borrower import Borrower
    from proxy.relay.clock import now
    from proxy.relay.database import Database
    from proxy.relay.resting import Resting
    from proxy.session.owed import DESCRIBE, SYNC, Owed

_MUST_FAIL = messages.message(b"D", b"Ppgfunnel has no such portal\0")
"""Rolls back an implicit transaction that its client left without a Sync."""

CLOSING = "closing"


@cython.cclass
class Server(Resting):
    """One logged-in server: `secret` and `process_id` are what a cancel request names it by;
    `shared`: values of sequences may be others', or older than its client's last ones."""

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
        Resting.__init__(self, loop, fd, pool, hub, reported, defaults, max_statements)
        self.process_id = process_id
        self.secret = secret
        self.shared = False
        self.expires_at = 0.0
        self.number = 0

    def __repr__(self) -> str:
        return f"<Server {self.pool.database}/{self.pool.user} {self.state} fd={self.fd}>"

    @cython.cfunc
    def _let_go_on(self) -> object:
        """A client that held messages back may send them: what was noted is done or undone."""
        client: Borrower = self.client
        if client is None and self.owed.skipping:
            return self._finish_for_client()
        if client is None or not client.settling or not self.owed.settled():
            return None
        if client.session.withholds or (client.session.withholds_next and self.owed.awaits_ready()):
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
        if self.owed.lost or self.owed.doubtful:
            return (
                self.close(CloseReason.PROTOCOL_VIOLATION) if client is None else client.recount()
            )
        if not self.owed.nothing():
            return None
        if client is None:
            return self._rest()
        if self.waited_for:
            self.waited_for = False
            error, self.error = self.error, None
            return client.on_prepared(error)
        if self.status == 73:  # I
            self.shelf.boundary()
            return client.on_boundary()
        return client.on_in_transaction()

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
        self.audits = self._audit_due()
        if owed.lost:
            return self.close(CloseReason.CLIENT_VANISHED)
        if self.waited_for:
            # Only a query of ours runs, which ends by itself.
            self.waited_for = False
            self.deadline = now() + self.hub.abandon_timeout
            return self.watch()
        finish: cython.bint = orderly and not owed.unsynced and not owed.copying
        if not finish and owed.cycles() + owed.unsynced - mid_message <= 1:
            self.hub.cancel(self)
            self.cancel_again = now() + 1.0
        if mid_message or owed.doubtful or self.out is not None:
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
