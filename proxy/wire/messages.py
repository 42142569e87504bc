"""Messages of the Postgres protocol, built and read as bytes.

Source: PostgreSQL documentation, "Message Formats" (protocol 3.0). A message is a type byte, a
length of four bytes that counts itself and the body, and the body. Builders return the whole
message; readers take the body alone and raise `ProtocolViolation` when it does not hold together.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from proxy.errors import PgfunnelError, PostgresError, ProtocolViolation

MAX_MESSAGE = 0x3FFFFFFF + 4
"""Longest length word that Postgres itself accepts (PQ_LARGE_MESSAGE_LIMIT)."""

SYNC = b"S\x00\x00\x00\x04"
FLUSH = b"H\x00\x00\x00\x04"
TERMINATE = b"X\x00\x00\x00\x04"
COPY_DONE = b"c\x00\x00\x00\x04"
PARSE_COMPLETE = b"1\x00\x00\x00\x04"
CLOSE_COMPLETE = b"3\x00\x00\x00\x04"
READY_IDLE = b"Z\x00\x00\x00\x05I"
EMPTY_QUERY = b"I\x00\x00\x00\x04"
CLOSE_UNNAMED = b"C\x00\x00\x00\x06S\x00"

_length = struct.Struct("!I")


def message(kind: bytes, body: bytes) -> bytes:
    return kind + _length.pack(len(body) + 4) + body


def authentication(code: int, body: bytes = b"") -> bytes:
    return message(b"R", _length.pack(code) + body)


def parameter_status(name: bytes, value: bytes) -> bytes:
    return message(b"S", name + b"\0" + value + b"\0")


def backend_key_data(key: bytes) -> bytes:
    """`key`: the process id, then the secret."""
    return message(b"K", key)


def negotiate_protocol_version(newest: int, unknown: Sequence[bytes]) -> bytes:
    """The newest version spoken here (196608: 3.0), and the `_pq_.` options not known."""
    options = b"".join(name + b"\0" for name in unknown)
    return message(b"v", struct.pack("!II", newest, len(unknown)) + options)


def ready(status: int) -> bytes:
    """ReadyForQuery; `status` is I, T or E as a byte."""
    return message(b"Z", bytes((status,)))


def query(sql: bytes) -> bytes:
    return message(b"Q", sql + b"\0")


def parse(name: bytes, tail: bytes) -> bytes:
    """`tail` is what follows the name in a Parse message: text, NUL, parameter types."""
    return message(b"P", name + b"\0" + tail)


def close_statement(name: bytes) -> bytes:
    return message(b"C", b"S" + name + b"\0")


def close_portal(name: bytes) -> bytes:
    return message(b"C", b"P" + name + b"\0")


def bind(portal: bytes, name: bytes) -> bytes:
    """Of a statement without parameters and columns."""
    return message(b"B", portal + b"\0" + name + b"\0" + bytes(6))


def execute(portal: bytes) -> bytes:
    """To its end."""
    return message(b"E", portal + b"\0" + bytes(4))


def describe_statement(name: bytes) -> bytes:
    return message(b"D", b"S" + name + b"\0")


def copy_fail(reason: bytes) -> bytes:
    return message(b"f", reason + b"\0")


def error_fields(fields: Iterable[tuple[str, str]]) -> bytes:
    return message(b"E", _fields(fields))


def _fields(fields: Iterable[tuple[str, str]]) -> bytes:
    body = b"".join(k.encode() + v.replace("\0", "?").encode() + b"\0" for k, v in fields)
    return body + b"\0"


def error_response(error: PgfunnelError, severity: str = "") -> bytes:
    """The ErrorResponse for an error: of ours with its hint, of Postgres's as it was.

    It ends the connection, so its severity is FATAL whatever Postgres said.
    """
    if isinstance(error, PostgresError):
        return error_fields({**error.fields, "S": "FATAL", "V": "FATAL"}.items())
    shown = severity or error.severity
    fields = [("S", shown), ("V", shown), ("C", error.sqlstate), ("M", error.message)]
    if error.advice:
        fields.append(("H", error.advice))
    return error_fields(fields)


def startup(parameters: Iterable[tuple[bytes, bytes]]) -> bytes:
    body = _length.pack(196608) + b"".join(k + b"\0" + v + b"\0" for k, v in parameters) + b"\0"
    return _length.pack(len(body) + 4) + body


def ssl_request() -> bytes:
    return struct.pack("!II", 8, 80877103)


def cancel_request(process_id: int, secret: bytes) -> bytes:
    return struct.pack("!III", 12 + len(secret), 80877102, process_id) + secret


def read_error(body: bytes) -> dict[str, str]:
    """Fields of an ErrorResponse or NoticeResponse by their letter."""
    parts = (part for part in body.split(b"\0") if part)
    return {chr(part[0]): part[1:].decode("utf-8", "replace") for part in parts}


def read_pair(body: bytes) -> tuple[bytes, bytes]:
    """Name and value of a ParameterStatus."""
    parts = body.split(b"\0")
    if len(parts) != 3 or parts[2]:
        raise ProtocolViolation("malformed ParameterStatus message")
    return parts[0], parts[1]


def bound_values(body: bytes) -> bytes:
    """The parameters of a Bind or FunctionCall, from their formats on, with NUL between them.

    A malformed one as it is, for Postgres to refuse.
    """
    try:
        (formats,) = struct.unpack_from("!H", body)
        return b"\0".join(value for value in _columns(body[2 + 2 * formats :]) if value is not None)
    except (struct.error, ProtocolViolation):
        return body


def read_row(body: bytes) -> list[bytes | None]:
    """Column values of a DataRow."""
    try:
        return _columns(body)
    except struct.error as error:
        raise ProtocolViolation("malformed DataRow message") from error


def _columns(body: bytes) -> list[bytes | None]:
    (count,) = struct.unpack_from("!H", body)
    values: list[bytes | None] = []
    at = 2
    for _ in range(count):
        (size,) = struct.unpack_from("!i", body, at)
        at += 4
        values.append(None if size < 0 else body[at : at + size])
        at += max(size, 0)
    if at > len(body):
        raise ProtocolViolation("malformed DataRow message")
    return values


def shape(body: bytes) -> bytes:
    """A RowDescription without the tables that its columns come from, nor whether they are in text
    or binary: names and types alone.

    That is what Postgres compares when it plans a statement anew (equalTupleDescs in
    RevalidateCachedQuery); a table that was dropped and made again is no other result.
    """
    parts = [body[:2]]
    at = 2
    while at < len(body):
        stop = body.find(b"\0", at) + 1
        if stop == 0 or stop + 18 > len(body):
            raise ProtocolViolation("malformed RowDescription message")
        parts += (body[at:stop], body[stop + 6 : stop + 16])
        at = stop + 18
    return b"".join(parts)


def row_description(columns: Iterable[tuple[str, int, int]]) -> bytes:
    """Each column as (name, OID of its type, size of its type: -1 where it varies), in text."""
    fields = [
        name.encode() + b"\0" + struct.pack("!IhIhih", 0, 0, oid, size, -1, 0)
        for name, oid, size in columns
    ]
    return message(b"T", struct.pack("!H", len(fields)) + b"".join(fields))


def data_row(values: Sequence[str | None]) -> bytes:
    """A row in text; None is NULL."""
    parts = [struct.pack("!H", len(values))]
    for value in values:
        if value is None:
            parts.append(b"\xff\xff\xff\xff")
        else:
            octets = value.encode("utf-8", "backslashreplace")
            parts.append(_length.pack(len(octets)) + octets)
    return message(b"D", b"".join(parts))


def command_complete(tag: str) -> bytes:
    return message(b"C", tag.encode() + b"\0")


def notice(words: str, detail: str = "") -> bytes:
    """A NoticeResponse, with what else there is to say as its detail."""
    fields = {"S": "NOTICE", "V": "NOTICE", "C": "00000", "M": words}
    if detail:
        fields["D"] = detail
    return message(b"N", _fields(fields.items()))
