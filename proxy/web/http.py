"""One HTTP/1.1 connection: requests in, responses out, every wait with an end (RFC 9112).

h11 does the parsing and the framing; this adds the deadlines, the limits and plain-text errors.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from typing import TypeAlias
from urllib.parse import unquote

import h11

PLAIN_TEXT = "text/plain; charset=utf-8"
JSON = "application/json"

_LINGER = 1.0  # seconds

_log = logging.getLogger("pgfunnel.web")


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one peer may ask for; times in seconds, sizes in bytes."""

    connections: int = 64
    idle: float = 75.0  # between requests on a connection that is kept alive
    request: float = 10.0  # from the first byte of a request to its last
    write: float = 10.0  # for a piece of the response to be taken
    header_bytes: int = 16 * 1024
    body_bytes: int = 64 * 1024


@dataclass(frozen=True, slots=True)
class Request:
    """`path` is decoded, `query` is as it came; header names are lower case; `peer`: who asks."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    peer: str = ""


@dataclass(slots=True)
class Response:
    """A body in one piece has a Content-Length; one that iterates is sent as it comes."""

    status: int = 200
    body: bytes | AsyncGenerator[bytes, None] = b""
    content_type: str = PLAIN_TEXT
    headers: tuple[tuple[str, str], ...] = ()


Respond: TypeAlias = Callable[[Request], Awaitable[Response]]
_Event: TypeAlias = h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]


class PeerLost(Exception):
    """The peer went away, or did not take what was written to it in time."""


class HttpError(Exception):
    """Answered with its status and words; the connection is closed after it."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


def plain(status: int, words: str = "", *headers: tuple[str, str]) -> Response:
    """A plain-text answer of one line: the words, or the status's own phrase."""
    line = words or HTTPStatus(status).phrase
    return Response(status, f"{line}\n".encode(), headers=headers)


class HttpConnection:
    """Serves one peer until it leaves, breaks the protocol or lets a deadline pass."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        respond: Respond,
        limits: Limits,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._respond = respond
        self._limits = limits
        # So that drain() waits until the kernel has taken everything.
        writer.transport.set_write_buffer_limits(high=0)
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.header_bytes)
        self._head_only = False
        self._peer = str((writer.get_extra_info("peername") or ("",))[0])
        self.waiting = True  # for a request, or for the rest of one

    async def serve(self) -> None:
        """Answer requests in the order they came; returns when the connection is of no more use.

        Raises PeerLost.
        """
        try:
            while await self._serve_one():
                self._h11.start_next_cycle()
        except HttpError as error:
            await self._refuse(error)
        except PeerLost:
            raise
        except Exception:  # noqa: BLE001 - whatever a route raises, its peer is told
            _log.exception("request_failed")
            await self._refuse(HttpError(500, "It failed here; the log of pgfunnel says why."))

    async def _serve_one(self) -> bool:
        request = await self._next_request()
        if request is None:
            return False
        self.waiting = False
        await self._send(await self._respond(request))
        self.waiting = True
        # MUST_CLOSE after "Connection: close" and HTTP/1.0.
        return self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE

    async def _next_request(self) -> Request | None:
        """The next request with its body, or None when the peer has nothing more to ask."""
        limit = self._limits.request if self._begun() else self._limits.idle
        try:
            async with asyncio.timeout(limit) as deadline:
                head = await self._next_event(deadline)
                if not isinstance(head, h11.Request):
                    return None
                self._head_only = head.method == b"HEAD"
                return _request(head, await self._body(deadline), self._peer)
        except TimeoutError:
            if not self._begun():
                return None
            raise HttpError(408, "The request took too long to arrive.") from None
        except OSError as error:
            raise PeerLost from error
        except h11.RemoteProtocolError as error:
            raise _protocol_error(error) from None

    def _begun(self) -> bool:
        """Whether some of a request has arrived."""
        return self._h11.their_state is not h11.IDLE or bool(self._h11.trailing_data[0])

    async def _body(self, deadline: asyncio.Timeout) -> bytes:
        body = bytearray()
        if self._h11.they_are_waiting_for_100_continue:
            self._write(h11.InformationalResponse(status_code=100, headers=[]))
        while isinstance(event := await self._next_event(deadline), h11.Data):
            body += event.data
            if len(body) > self._limits.body_bytes:
                raise HttpError(413, f"The body is larger than {self._limits.body_bytes} bytes.")
        return bytes(body)

    async def _next_event(self, deadline: asyncio.Timeout) -> _Event:
        while (event := self._h11.next_event()) is h11.NEED_DATA:
            begun = self._begun()
            octets = await self._reader.read(16 * 1024)
            if not begun:
                deadline.reschedule(asyncio.get_running_loop().time() + self._limits.request)
            self._h11.receive_data(octets)
        return event

    async def _send(self, response: Response) -> None:
        headers = [
            ("date", formatdate(usegmt=True)),
            ("content-type", response.content_type),
            *response.headers,
        ]
        body = response.body
        if isinstance(body, bytes):
            headers.append(("content-length", str(len(body))))
        reason = HTTPStatus(response.status).phrase.encode()
        self._write(h11.Response(status_code=response.status, headers=headers, reason=reason))
        if isinstance(body, bytes):
            self._write_body(body)
        else:
            async with aclosing(body) as pieces:
                await self._stream(pieces)
        self._write(h11.EndOfMessage())
        await self._drain()

    async def _stream(self, pieces: AsyncGenerator[bytes, None]) -> None:
        if self._head_only:
            return
        async for piece in pieces:
            self._write_body(piece)
            await self._drain()

    def _write_body(self, piece: bytes) -> None:
        if piece and not self._head_only:
            self._write(h11.Data(data=piece))

    def _write(self, event: h11.Event) -> None:
        octets = self._h11.send(event)
        if octets:
            self._writer.write(octets)

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(self._limits.write):
                await self._writer.drain()
        except OSError as error:  # TimeoutError is one
            raise PeerLost from error

    async def _refuse(self, error: HttpError) -> None:
        if self._h11.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            return
        await self._send(plain(error.status, str(error), ("connection", "close")))
        await self._linger()

    async def _linger(self) -> None:
        """Read what the peer still sends, or its kernel may drop our answer (RFC 9112, 9.6)."""
        try:
            self._writer.write_eof()
            async with asyncio.timeout(_LINGER):
                while await self._reader.read(64 * 1024):
                    pass
        except OSError as error:
            raise PeerLost from error


def _request(head: h11.Request, body: bytes, peer: str) -> Request:
    path, _, query = _origin_form(head.target.decode("ascii")).partition("?")
    headers = {name.decode("ascii"): value.decode("latin-1") for name, value in head.headers}
    return Request(head.method.decode("ascii"), unquote(path), query, headers, body, peer)


def _origin_form(target: str) -> str:
    """The target without `http://host`, which a client may put before it (RFC 9112, 3.2.2)."""
    if not target.lower().startswith(("http://", "https://")):
        return target
    _, slash, path = target.partition("//")[2].partition("/")
    return slash + path


def _protocol_error(error: h11.RemoteProtocolError) -> HttpError:
    status = error.error_status_hint
    if status == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
        return HttpError(status, "The request's line and headers are too large.")
    return HttpError(status, f"This is not HTTP/1.1 as RFC 9112 has it: {error}.")
