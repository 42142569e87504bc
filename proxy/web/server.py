"""The HTTP port: takes connections up to a limit, and lets them all go when closed."""

import asyncio
import logging

from proxy.errors import SettingsError
from proxy.telemetry.logs import log_event
from proxy.web.http import HttpConnection, Limits, PeerLost, Respond

_log = logging.getLogger("pgfunnel.web")

_FULL = b"Too many HTTP connections; try again in a moment.\n"
_FULL_HEAD = (
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-type: text/plain\r\n\r\n"
)


class WebServer:
    """Serves `respond` on a TCP port. Make it with `await WebServer.listen(...)`."""

    def __init__(self, respond: Respond, limits: Limits) -> None:
        self._respond = respond
        self._limits = limits
        self._connections: dict[asyncio.Task[None], HttpConnection] = {}
        self._server: asyncio.Server

    @classmethod
    async def listen(
        cls, respond: Respond, host: str, port: int, limits: Limits | None = None
    ) -> "WebServer":
        """Listen on host and port (0 takes a free one).

        Raises SettingsError when the address cannot be had.
        """
        web = cls(respond, limits or Limits())
        try:
            web._server = await asyncio.start_server(web._accept, host, port)
        except OSError as error:
            why = error.strerror or str(error)
            words = f"http_port: cannot listen on {host}:{port} ({why})"
            raise SettingsError([f"{words}; set it to a free one, or off"]) from None
        log_event(_log, logging.INFO, "listening", host=host, port=web.port)
        return web

    @property
    def port(self) -> int:
        """The port that is listened on."""
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def close(self) -> None:
        """Stop listening and drop every connection; returns when all are gone."""
        self._server.close()
        tasks = list(self._connections)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._make_room():
            writer.write(_FULL_HEAD + _FULL)
            writer.close()
            return
        connection = HttpConnection(reader, writer, self._respond, self._limits)
        task = asyncio.get_running_loop().create_task(self._serve(connection))
        self._connections[task] = connection
        task.add_done_callback(lambda _: writer.transport.abort())
        task.add_done_callback(lambda done: self._connections.pop(done, None))

    async def _serve(self, connection: HttpConnection) -> None:
        try:
            await connection.serve()
        except PeerLost as error:
            log_event(_log, logging.DEBUG, "peer_lost", why=error.__cause__)

    def _make_room(self) -> bool:
        """When full, whoever has been connected longest and is not being answered gives way.

        So idle connections cannot keep a health probe out.
        """
        if len(self._connections) < self._limits.connections:
            return True
        for task, connection in self._connections.items():
            if connection.waiting:
                del self._connections[task]
                task.cancel()
                return True
        return False
