"""The client's side of protocol 3.0 for login and simple queries: bytes in, bytes out, no socket.

Source: Postgres documentation, "Message Flow" and "Message Formats".
"""

import struct

from loadtest.bench.scram import ScramLogin

SSL_REQUEST = struct.pack("!ii", 8, 80877103)
TERMINATE = b"X\x00\x00\x00\x04"
_MECHANISM = b"SCRAM-SHA-256"
_AUTH_OK, _AUTH_SASL, _AUTH_CONTINUE, _AUTH_FINAL = 0, 10, 11, 12
_header = struct.Struct("!ci").unpack_from


class Refused(Exception):
    """The server answered with an error; carries its SQLSTATE and message."""


def message(kind: bytes, body: bytes) -> bytes:
    """One typed message."""
    return kind + struct.pack("!i", len(body) + 4) + body


def startup(user: str, database: str) -> bytes:
    """A StartupMessage for protocol 3.0."""
    fields = f"user\0{user}\0database\0{database}\0\0".encode()
    return struct.pack("!ii", len(fields) + 8, 196608) + fields


def query(sql: str) -> bytes:
    """A Query message."""
    return message(b"Q", sql.encode() + b"\0")


class Conversation:
    """Feed it what the server sends; `ready` is true once ReadyForQuery has come."""

    def __init__(self, password: str) -> None:
        self.ready = False
        self._scram = ScramLogin(password)
        self._pending = b""

    def feed(self, received: bytes) -> bytes:
        """What to send in reply, often nothing. Raises Refused on an ErrorResponse."""
        unread = self._pending + received
        at, reply = 0, b""
        while len(unread) - at >= 5:
            kind, length = _header(unread, at)
            end = at + 1 + length
            if end > len(unread):
                break
            if kind == b"R":
                reply += self._authenticate(unread[at + 5 : end])
            elif kind == b"E":
                raise Refused(_error_text(unread[at + 5 : end]))
            self.ready = kind == b"Z"
            at = end
        self._pending = unread[at:]
        return reply

    def _authenticate(self, body: bytes) -> bytes:
        (code,) = struct.unpack_from("!i", body)
        if code == _AUTH_OK:
            return b""
        if code == _AUTH_SASL:
            first = self._scram.first()
            return message(b"p", _MECHANISM + b"\0" + struct.pack("!i", len(first)) + first)
        if code == _AUTH_CONTINUE:
            return message(b"p", self._scram.final(body[4:]))
        if code == _AUTH_FINAL:
            self._scram.verify(body[4:])
            return b""
        raise Refused(f"the server asks for authentication {code}, the bench speaks SCRAM alone")


def _error_text(body: bytes) -> str:
    fields = {field[:1]: field[1:].decode(errors="replace") for field in body.split(b"\0") if field}
    return f"{fields.get(b'C', '?????')} {fields.get(b'M', 'no message')}"
