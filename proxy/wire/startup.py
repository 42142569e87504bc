"""The packets without a type byte that open a connection.

Source: PostgreSQL documentation, "Start-up" in "Message Flow" and "Message Formats":
StartupMessage, SSLRequest, GSSENCRequest, CancelRequest.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from proxy.errors import OptionsRefused, ProtocolViolation

MAX_STARTUP = 10_000
"""Longest start-up packet that Postgres accepts, in bytes (MAX_STARTUP_PACKET_LENGTH)."""

_CANCEL, _SSL, _GSS = 80877102, 80877103, 80877104


@dataclass(frozen=True, slots=True)
class SslRequest:
    """The client asks to speak TLS."""


@dataclass(frozen=True, slots=True)
class GssRequest:
    """The client asks for GSSAPI encryption."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """The client asks to cancel what another of its connections runs.

    `key`: as in that one's BackendKeyData, the process id, then the secret.
    """

    key: bytes


@dataclass(frozen=True, slots=True)
class Startup:
    """A session begins. `options` are the `_pq_.` names; parameters keep the client's order."""

    minor: int
    parameters: dict[str, str]
    options: tuple[bytes, ...]


Packet = SslRequest | GssRequest | Cancel | Startup


def packet_length(buffer: bytes | bytearray, at: int, end: int) -> int:
    """Length in bytes of the packet at `at`, 0 when its length word is not all there yet.

    Raises ProtocolViolation for a length that no start-up packet has.
    """
    if end - at < 4:
        return 0
    (length,) = struct.unpack_from("!I", buffer, at)
    if not 8 <= length <= MAX_STARTUP:
        raise ProtocolViolation("invalid length of startup packet")
    return int(length)


def read_packet(packet: bytes) -> Packet:
    """One whole packet, its length word included. Raises ProtocolViolation."""
    (code,) = struct.unpack_from("!I", packet, 4)
    if code == _SSL:
        return SslRequest()
    if code == _GSS:
        return GssRequest()
    if code == _CANCEL:
        return _read_cancel(packet)
    if code >> 16 != 3:
        raise ProtocolViolation(f"unsupported frontend protocol {code >> 16}.{code & 0xFFFF}")
    return _read_startup(code & 0xFFFF, packet)


def _read_cancel(packet: bytes) -> Cancel:
    if len(packet) < 16:
        raise ProtocolViolation("invalid length of cancel request packet")
    return Cancel(packet[8:])


def _read_startup(minor: int, packet: bytes) -> Startup:
    if len(packet) < 9 or packet[-1] != 0:
        raise ProtocolViolation("invalid startup packet layout: expected terminator as last byte")
    parts = packet[8:-1].split(b"\0")
    if parts.pop() != b"" or len(parts) % 2:
        raise ProtocolViolation("invalid startup packet layout: a name without a value")
    parameters: dict[str, str] = {}
    options: list[bytes] = []
    for name, value in zip(parts[::2], parts[1::2], strict=True):
        if name.startswith(b"_pq_."):
            options.append(name)
            continue
        parameters[_text(name)] = _text(value)
    return Startup(minor, parameters, tuple(options))


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise ProtocolViolation("startup packet is not valid UTF-8") from None


def split_options(options: str) -> dict[str, str]:
    """Settings named in the `options` parameter: `-c name=value`, `-cname=value`, `--name=value`.

    Backslash escapes a character, as in pg_split_opts. Raises OptionsRefused for any other
    switch: a pooled server was started before this client came.
    """
    words = iter(_words(options))
    found: dict[str, str] = {}
    for word in words:
        if word.startswith("--"):
            setting = word[2:]
        elif word.startswith("-c"):
            setting = word[2:] or next(words, "")
        else:
            raise OptionsRefused(
                f'unsupported switch "{word}" in startup parameter "options"',
                hint="Only -c name=value and --name=value can be given through pgfunnel.",
            )
        name, equals, value = setting.partition("=")
        if not equals or not name:
            raise OptionsRefused(f'startup option "{word}" requires a value')
        found[name.replace("-", "_")] = value
    return found


def _words(options: str) -> list[str]:
    words: list[str] = []
    current: list[str] | None = None
    characters = iter(options)
    for character in characters:
        if character in " \t\n\r\v\f":
            if current is not None:
                words.append("".join(current))
            current = None
            continue
        current = [] if current is None else current
        current.append(next(characters, "") if character == "\\" else character)
    if current is not None:
        words.append("".join(current))
    return words
