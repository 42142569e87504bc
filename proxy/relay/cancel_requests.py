"""What clients ask to cancel: a connection of its own that names another by its key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.relay.client import Client
from proxy.relay.server import Server
from proxy.telemetry.reasons import CloseReason

if TYPE_CHECKING:
    from proxy.relay.funnel import Funnel

_SOON = 0.005
"""Seconds between looks whether a client's own query runs, which is to be cancelled."""


class CancelRequests:
    """Who asks is closed when the request is sent, or is known to be in vain."""

    def __init__(self, funnel: Funnel) -> None:
        self._funnel = funnel

    def cancel_for(self, client: Client, asking: Client) -> None:
        """`asking` wants to cancel what `client` runs, or waits for a server with.

        What it sent may still wait for a query of ours, which is not to be hit in its place.
        """
        server = client.server
        if server is not None and server.owed.ours():
            self._funnel.loop.call_later(_SOON, self.cancel_for, client, asking)
            return
        if client in self._funnel.entrance.at_console:
            client.login.cancel()
        if client.tunnel is not None:
            task = self._funnel.pools_by_key.cancel(
                client.login, still=lambda: client.tunnel is not None
            )
        elif server is None or not server.owed.ready:
            waits = client.cancel_waiting()
            self._funnel.totals.cancel("while_waiting" if waits else "nothing_runs")
            asking.close(CloseReason.CLIENT_LEFT)
            return
        else:
            task = self._funnel.pools_by_key.cancel(
                server, still=lambda: server.client is client and _runs(server)
            )
        task.add_done_callback(lambda _: asking.close(CloseReason.CLIENT_LEFT))

    def cancel_left(self, server: Server) -> None:
        """Cancel what a server runs for a client that has left, and nothing of our own."""
        if server.client is not None or server.fd < 0 or server.owed.nothing():
            return
        if server.owed.ours() and server.owed.cycles() > 0:
            self._funnel.loop.call_later(_SOON, self.cancel_left, server)
            return
        self._funnel.pools_by_key.cancel(
            server, still=lambda: server.client is None and _runs(server)
        )

    def cancel_elsewhere(self, key: bytes, asking: Client) -> None:
        """`asking` wants to cancel what a client with this key runs, who is not one of ours."""
        task = self._funnel.peers.forward(key)
        if task is None:
            self._funnel.totals.cancel("unknown_key")
            asking.close(CloseReason.CLIENT_LEFT)
        else:
            task.add_done_callback(lambda _: asking.close(CloseReason.CLIENT_LEFT))


def _runs(server: Server) -> bool:
    """Whether a query of its client's may be what it runs."""
    return server.owed.ready > 0 and not server.owed.ours()
