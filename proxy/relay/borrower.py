"""What a server asks of the client that has borrowed it."""

from __future__ import annotations

from typing import Any

import cython

if cython.compiled:
    from cython.cimports.proxy.relay.link import Link
    from cython.cimports.proxy.session.session import Session
else:
    from proxy.relay.link import Link
    from proxy.session.session import Session


@cython.cclass
class Borrower(Link):
    """Whoever may borrow a server: a client, as its server sees it.

    `session` is what it believes of its Postgres session; `settling`: it holds messages back
    until what its names stand for is certain; `blockless`: it may open no transaction block.
    """

    session: Session
    settling: bool
    blockless: bool

    @cython.ccall
    def on_boundary(self) -> object:
        """The server owes nothing and is in no transaction."""
        raise NotImplementedError

    @cython.ccall
    def on_in_transaction(self) -> object:
        """The server owes nothing and a transaction is open."""
        raise NotImplementedError

    @cython.ccall
    def on_silence(self) -> object:
        """The server waits for data to copy, or for a Sync."""
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
    def recount(self) -> object:
        """Have a query of ours tell what is still owed (`Owed.recounts`)."""
        raise NotImplementedError

    @cython.ccall
    def on_settled(self) -> object:
        """What was sent ahead is known to be done or undone: go on (see `settling`)."""
        raise NotImplementedError

    @cython.ccall
    def take(self, server: Any) -> object:
        """A waiter's turn has come."""
        raise NotImplementedError
