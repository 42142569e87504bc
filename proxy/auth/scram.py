"""SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677), both sides, without I/O.

    ScramClient                          ScramServer
    first()          -- client-first ->  first()
    challenge()      <- server-first --
    final(keys)      -- client-final ->  final(keys)
    verify()         <- server-final --

Postgres's habits: the name in client-first is ignored (the startup packet named the user),
and channel binding is `tls-server-end-point` (RFC 5929) or none: a `channel_binding` argument
is the hash of the server's certificate. Neither side derives keys: they are handed in.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable

import cython

from proxy.auth.keys import MAX_ITERATIONS
from proxy.errors import LoginForbidden, ProtocolViolation

if cython.compiled:
    from cython.cimports.proxy.auth.keys import ScramKeys
else:
    from proxy.auth.keys import ScramKeys

SCRAM = b"SCRAM-SHA-256"
SCRAM_PLUS = b"SCRAM-SHA-256-PLUS"
MAX_MESSAGE = 1024
_BINDING_TYPE = b"tls-server-end-point"

_NONCE = rb"r=([\x21-\x2b\x2d-\x7e]+)"
_BASE64 = rb"([A-Za-z0-9+/]+={0,2})"
_KEY_LENGTH = 44
_KEY = rb"([A-Za-z0-9+/]{43}=)"
_PRINTABLE = bytes(range(0x21, 0x7F)).replace(b",", b"")
_EXTENSIONS = rb"(?:,[A-Za-z]=[^,\0]+)*"
_SERVER_FIRST = re.compile(_NONCE + rb",s=" + _BASE64 + rb",i=([0-9]{1,10})" + _EXTENSIONS)
_SERVER_FINAL = re.compile(rb"v=" + _KEY + _EXTENSIONS)


def new_nonce(random: Callable[[int], bytes]) -> bytes:
    """24 printable characters from 18 random bytes, as many as Postgres uses."""
    return b2a_base64(random(18), newline=False)


@cython.cclass
class ScramServer:
    """Our side towards a client.

    `plus` says that the client chose SCRAM-SHA-256-PLUS, `channel_binding` (None: not offered)
    what its binding has to be. After a `final` that succeeded, `client_key` holds the key with
    which the client can be spoken for. No regular expressions: each login comes this way.
    """

    _salt: bytes
    _iterations: cython.int
    _nonce: bytes
    _binding: bytes | None
    _plus: bool
    _messages: bytes
    _bound: bytes
    client_key: bytes | None

    def __init__(
        self,
        salt: bytes,
        iterations: cython.int,
        nonce: bytes,
        channel_binding: bytes | None = None,
        plus: bool = False,
    ) -> None:
        self._salt = salt
        self._iterations = iterations
        self._nonce = nonce
        self._binding = channel_binding
        self._plus = plus
        self._messages = self._bound = b""
        self.client_key = None

    @cython.ccall
    def first(self, message: bytes) -> bytes:
        """server-first for a client-first. Raises ProtocolViolation, LoginForbidden.

        client-first is a flag, an empty authorization name, then the bare part: a name, the
        nonce, extensions.
        """
        fields = _fields(message, "client-first")
        flag, name = fields[0], fields[2] if len(fields) > 3 else b""
        if name[:2] != b"n=" or fields[1] or not (flag in (b"n", b"y") or flag[:2] == b"p="):
            raise _malformed("client-first")
        nonce = _nonce_of(fields, 3, "client-first")
        self._check_flag(flag)
        header = flag + b",,"
        self._bound = header + (self._binding or b"") if self._plus else header
        self._nonce = nonce + self._nonce
        salt = b2a_base64(self._salt, newline=False)
        reply = b"r=%b,s=%b,i=%d" % (self._nonce, salt, self._iterations)
        self._messages = b"%b,%b," % (message[len(header) :], reply)
        return reply

    @cython.ccall
    def final(self, message: bytes, keys: ScramKeys) -> bytes | None:
        """server-final for a client-final; None if the proof is wrong.

        Raises ProtocolViolation, and LoginForbidden if the channel binding does not match.
        """
        unproven, _, proof = message.rpartition(b",p=")
        fields = _fields(message, "client-final")
        if fields[0][:2] != b"c=" or len(proof) != _KEY_LENGTH or proof[-2:] == b"==":
            raise _malformed("client-final")
        nonce = _nonce_of(fields[:-1], 1, "client-final")
        if nonce != self._nonce:
            raise ProtocolViolation("SCRAM nonce does not match")
        if not hmac.compare_digest(_decoded(fields[0][2:]), self._bound):
            raise LoginForbidden("SCRAM channel binding check failed")
        signed = self._messages + unproven
        client_key = _xor(_decoded(proof), hmac.digest(keys.stored_key, signed, "sha256"))
        if not hmac.compare_digest(hashlib.sha256(client_key).digest(), keys.stored_key):
            return None
        self.client_key = client_key
        signature = hmac.digest(keys.server_key, signed, "sha256")
        return b"v=" + b2a_base64(signature, newline=False)

    @cython.cfunc
    def _check_flag(self, flag: bytes) -> object:
        if flag == b"y" and self._binding is not None:
            raise LoginForbidden(
                "client believes that SCRAM channel binding is not supported, but it is",
                hint="Something between client and pgfunnel may have changed the offer.",
            )
        if self._plus != (flag[:2] == b"p="):
            raise ProtocolViolation(
                "SCRAM mechanism and channel binding flag contradict each other"
            )
        if self._plus and flag[2:] != _BINDING_TYPE:
            raise ProtocolViolation("unsupported SCRAM channel binding type")
        return None


def _fields(message: bytes, name: str) -> list[bytes]:
    if len(message) > MAX_MESSAGE:
        raise _too_long(name)
    if b"\0" in message:
        raise _malformed(name)
    return message.split(b",")


def _nonce_of(fields: list[bytes], at: int, name: str) -> bytes:
    """The nonce that is field `at`; only extensions may follow it."""
    if len(fields) <= at or fields[at][:2] != b"r=":
        raise _malformed(name)
    nonce = fields[at][2:]
    if not nonce or nonce.translate(None, _PRINTABLE):
        raise _malformed(name)
    for extension in fields[at + 1 :]:
        if len(extension) < 3 or extension[1:2] != b"=" or not extension[:1].isalpha():
            raise _malformed(name)
    return nonce


def _malformed(name: str) -> ProtocolViolation:
    return ProtocolViolation(f"SCRAM {name} message is malformed")


def _too_long(name: str) -> ProtocolViolation:
    return ProtocolViolation(f"SCRAM {name} message is longer than {MAX_MESSAGE} bytes")


class ScramClient:
    """Our side towards Postgres. `plus` says that SCRAM-SHA-256-PLUS was chosen."""

    __slots__ = ("_bare", "_bound", "_header", "_nonce", "_server_first", "_signature")

    def __init__(
        self,
        nonce: bytes,
        *,
        name: bytes = b"",
        channel_binding: bytes | None = None,
        plus: bool = False,
    ) -> None:
        self._nonce = nonce
        self._bare = b"n=%b,r=%b" % (name, nonce)
        self._header = _gs2_header(channel_binding, plus)
        self._bound = self._header + (channel_binding or b"") if plus else self._header
        self._server_first = self._signature = b""

    def first(self) -> bytes:
        return self._header + self._bare

    def challenge(self, message: bytes) -> tuple[bytes, int]:
        """Salt and iterations that a server-first asks for. Raises ProtocolViolation."""
        if self._server_first:
            raise ProtocolViolation("SCRAM server-first message came twice")
        nonce, salt, iterations = _matched(_SERVER_FIRST, message, "server-first").groups()
        if not nonce.startswith(self._nonce) or nonce == self._nonce:
            raise ProtocolViolation("SCRAM nonce does not match")
        if not 0 < int(iterations) <= MAX_ITERATIONS:
            raise ProtocolViolation(f"SCRAM iteration count is not within 1 to {MAX_ITERATIONS}")
        self._nonce, self._server_first = nonce, message
        return _decoded(salt), int(iterations)

    def final(self, keys: ScramKeys) -> bytes:
        """client-final; `keys` must belong to the challenge and hold the client key."""
        if keys.client_key is None:
            raise ValueError("keys without a client key cannot log in")
        bound = b2a_base64(self._bound, newline=False)
        unproven = b"c=%b,r=%b" % (bound, self._nonce)
        signed = b"%b,%b,%b" % (self._bare, self._server_first, unproven)
        self._signature = hmac.digest(keys.server_key, signed, "sha256")
        proof = _xor(keys.client_key, hmac.digest(keys.stored_key, signed, "sha256"))
        return b"%b,p=%b" % (unproven, b2a_base64(proof, newline=False))

    def verify(self, message: bytes) -> bool:
        """Whether a server-final proves that the server knows the keys too."""
        (signature,) = _matched(_SERVER_FINAL, message, "server-final").groups()
        return hmac.compare_digest(_decoded(signature), self._signature)


def _gs2_header(channel_binding: bytes | None, plus: bool) -> bytes:
    if plus:
        return b"p=" + _BINDING_TYPE + b",,"
    return b"n,," if channel_binding is None else b"y,,"


def _matched(pattern: re.Pattern[bytes], message: bytes, name: str) -> re.Match[bytes]:
    if len(message) > MAX_MESSAGE:
        raise _too_long(name)
    match = pattern.fullmatch(message)
    if match is None:
        raise _malformed(name)
    return match


def _decoded(text: bytes) -> bytes:
    try:
        return a2b_base64(text, strict_mode=True)
    except Base64Error:
        raise ProtocolViolation("SCRAM message holds invalid base64") from None


def _xor(left: bytes, right: bytes) -> bytes:
    both = int.from_bytes(left, "big") ^ int.from_bytes(right, "big")
    return both.to_bytes(len(left), "big")
