"""Replication connections: each has a server of its own, inside the bound, closed after use.

A replication client waits its turn for a server as others do. What it gets is a place in the
bounds, or a server that is closed to make one; there a connection is opened with what the client
asked for in its start-up packet. From then on bytes pass as they are, both ways.

Source: PostgreSQL documentation, "Streaming Replication Protocol".
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Any

from proxy.errors import NoLongerServed, PgfunnelError, ProtocolViolation, UpstreamUnreachable
from proxy.relay.client import Client
from proxy.relay.connect import LoggedIn, words_of
from proxy.relay.database import Database
from proxy.relay.link import Link
from proxy.relay.server import Server
from proxy.relay.tls import Tls
from proxy.relay.wish import Wish
from proxy.telemetry.reasons import CloseReason
from proxy.wire import messages

if TYPE_CHECKING:
    from proxy.relay.funnel import Funnel

_MAX_EARLY = 65536
"""Bytes that a client may send before its server is there."""


class Tunnel(Link):
    """The server's end of a replication connection.

    `remaining`: bytes still to come of a message that the client has the beginning of; -1 where
    it has only a part of the header (`_head`).
    """

    def __init__(self, loop: object, fd: int, replica: Replica) -> None:
        Link.__init__(self, loop, fd)
        self._replica = replica
        self.remaining = 0
        self._head = b""

    def consume(self, buffer: bytearray, n: int) -> None:
        self._walk(buffer, n)
        self._replica.client.transmit(buffer, 0, n)

    def _walk(self, buffer: bytearray, n: int) -> None:
        at = max(0, self.remaining)
        while at < n:
            head = self._head + buffer[at : min(n, at + 5 - len(self._head))]
            if len(head) < 5:
                self._head = head
                self.remaining = -1
                return
            at += int.from_bytes(head[1:], "big") + 1 - len(self._head)
            self._head = b""
        self.remaining = at - n

    def on_lost(self) -> None:
        self._replica.server_lost()

    def on_violation(self, error: object) -> None:
        del error
        self._replica.server_lost()

    def on_blocked(self) -> None:
        self._replica.client.pause()

    def on_drained(self) -> None:
        self._replica.client.watch()

    def finish(self) -> None:
        """Say goodbye; what Postgres still sends is read and dropped until it has closed."""
        if self.out is None:
            self.send(messages.TERMINATE)
        self.finish_sending()
        self.watch()


class Replica:
    """What a replication client is (`Client.login`), and a server in its pool's eyes.

    `feed` takes what the client says, `take` the server whose place it is given.
    """

    def __init__(self, client: Client, funnel: Funnel) -> None:
        login = client.login
        self.client = client
        self.user: str = login.user
        self.database: str = login.database
        self.wish: Wish = login.wish
        self.pool: Database = client.pool
        self.state = "connecting"
        self.reason: CloseReason | None = None
        self.number = self.process_id = 0
        self.secret = b""
        self.application_name = dict(self.wish.replication).get("application_name", "")
        self.opened_at = self.idle_since = monotonic()
        self.expires_at = float("inf")
        self._said: bytes = login.said
        self._funnel = funnel
        self._opening: asyncio.Task[None] | None = None
        self._tunnel: Tunnel | None = None

    @property
    def fd(self) -> int:
        """Its socket to Postgres, -1 where there is none."""
        return -1 if self._tunnel is None else self._tunnel.fd

    @property
    def tls(self) -> Tls | None:
        return None if self._tunnel is None else self._tunnel.tls

    # -- until there is a server -----------------------------------------------------------

    def begin(self) -> None:
        """Wait for a server's place."""
        self.client.login = self
        self.pool.replicates = True
        self.client.be_replicated()

    def take(self, server: Server) -> None:
        """This one's place is ours, as soon as Postgres has closed it."""
        self._funnel.pools_by_key.bequeath(server, self)
        server.close(CloseReason.REPLICATION)

    def take_place(self) -> None:
        """There is room in the bounds: no server has to leave for this one."""
        self.pool.leave(self.client)
        self.client.waiting = False
        self.pool.enter(self)
        self.pool.opened()  # for this client only: whoever waits needs another
        self.open()

    @property
    def wanted(self) -> bool:
        """Whether the client is still there."""
        return self.client.fd >= 0

    def open(self) -> None:
        """The place is ours now."""
        self._opening = asyncio.get_running_loop().create_task(self._open())

    async def _open(self) -> None:
        limit = self._funnel.settings.server_connect_timeout or None
        asked = dict(self.pool.target.startup) | dict(self.wish.replication)
        try:
            async with asyncio.timeout(limit):
                logged_in = await self._funnel.pools_by_key.openings.log_in(
                    self, tuple(asked.items())
                )
        except TimeoutError:
            self._failed(UpstreamUnreachable("login to Postgres for replication timed out"))
        except (PgfunnelError, OSError) as error:
            self._failed(words_of(error))
        except asyncio.CancelledError:
            self._gone(CloseReason.CONNECT_FAILED)
            raise
        else:
            self._opened(logged_in)

    def _failed(self, error: PgfunnelError) -> None:
        self._opening = None
        self.client.close(CloseReason.UPSTREAM_UNREACHABLE, error)
        self._gone(CloseReason.CONNECT_FAILED)

    def _opened(self, logged_in: LoggedIn) -> None:
        self._opening = None
        self.state = "active"
        self.process_id, self.secret = logged_in.process_id, logged_in.secret
        self._tunnel = Tunnel(self._funnel.loop, logged_in.stream.sock.detach(), self)
        tls: Any = logged_in.stream.tls
        self._tunnel.tls = tls
        self._funnel.journal.server_opened(self)
        told = [messages.parameter_status(*pair) for pair in logged_in.reported.items()]
        self.client.tunnel = self._tunnel
        self._funnel.entrance.welcome(self.client, self.wish, self._said + b"".join(told))
        client: Any = self.client
        early, client.held = client.held, None
        if early:
            self._tunnel.transmit(early, 0, len(early))
        self._tunnel.watch()

    # -- both ways -------------------------------------------------------------------------

    def feed(self, buffer: bytearray, n: int) -> None:
        """What the client says."""
        if self._tunnel is not None:
            self.client.leaving = buffer[max(0, n - 5) : n] == messages.TERMINATE
            self._tunnel.transmit(buffer, 0, n)
        elif n < _MAX_EARLY:
            self.client.held = buffer[:n]
        else:
            error = ProtocolViolation("more was sent before the login was done")
            self.client.close(CloseReason.PROTOCOL_VIOLATION, error)

    # -- cancels ---------------------------------------------------------------------------

    def cancel_begins(self) -> None:
        """Its server is no other client's, so that a cancel that comes late does no harm."""

    def cancel_ended(self) -> None:
        """Nothing waits for that."""

    # -- the end ---------------------------------------------------------------------------

    def retire(self, reason: CloseReason) -> None:
        """End now: it serves one client only, so there is no boundary to wait for."""
        self.reason = reason
        error = NoLongerServed("database configuration changed", hint="Connect again.")
        self.client.close(CloseReason.SERVER_LOST, error)

    def client_gone(self) -> None:
        """The client is being closed: so is its server."""
        if self._opening is not None:
            self._opening.cancel()
        if self._tunnel is None or self.state == "closing":
            return
        self.state = "closing"
        self.client.tunnel = None
        self._tunnel.finish()
        self._funnel.loop.call_later(self._funnel.abandon_timeout, self.server_lost)

    def server_lost(self) -> None:
        """Postgres has closed the connection, or has had time enough to."""
        if self._tunnel is None:
            return
        ended = self.state == "closing"
        self.state = "closing"
        self._tunnel.hang_up()
        self._tunnel = self.client.tunnel = None
        leaves = self.client.leaving
        self.client.close(CloseReason.CLIENT_LEFT if leaves else CloseReason.SERVER_LOST)
        self._gone(CloseReason.REPLICATION if ended or leaves else CloseReason.SERVER_CLOSED)

    def _gone(self, reason: CloseReason) -> None:
        self.reason = self.reason or reason
        self._funnel.server_gone(self)
