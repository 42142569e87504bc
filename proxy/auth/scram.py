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

from proxy.auth.keys import MAX_ITERATIONS, ScramKeys
from proxy.errors import LoginForbidden, ProtocolViolation

SCRAM = b"SCRAM-SHA-256"
SCRAM_PLUS = b"SCRAM-SHA-256-PLUS"
MAX_MESSAGE = 1024
_BINDING_TYPE = b"tls-server-end-point"

_NONCE = rb"r=([\x21-\x2b\x2d-\x7e]+)"
_BASE64 = rb"([A-Za-z0-9+/]+={0,2})"
_KEY = rb"([A-Za-z0-9+/]{43}=)"
_EXTENSIONS = rb"(?:,[A-Za-z]=[^,\0]+)*"
_CLIENT_FIRST = re.compile(
    rb"((n|y|p=([A-Za-z0-9.-]+)),,)(n=[^,\0]*," + _NONCE + _EXTENSIONS + rb")"
)
_CLIENT_FINAL = re.compile(rb"(c=" + _BASE64 + rb"," + _NONCE + _EXTENSIONS + rb"),p=" + _KEY)
_SERVER_FIRST = re.compile(_NONCE + rb",s=" + _BASE64 + rb",i=([0-9]{1,10})" + _EXTENSIONS)
_SERVER_FINAL = re.compile(rb"v=" + _KEY + _EXTENSIONS)


def new_nonce(random: Callable[[int], bytes]) -> bytes:
    """24 printable characters from 18 random bytes, as many as Postgres uses."""
    return b2a_base64(random(18), newline=False)


class ScramServer:
    """Our side towards a client.

    `plus` says that the client chose SCRAM-SHA-256-PLUS, `channel_binding` (None: not offered)
    what its binding has to be. After a `final` that succeeded, `client_key` holds the key with
    which the client can be spoken for.
    """

    __slots__ = (
        "_binding", "_bound", "_iterations", "_messages", "_nonce", "_plus", "_salt", "client_key",
    )  # fmt: skip

    def __init__(
        self,
        salt: bytes,
        iterations: int,
        nonce: bytes,
        *,
        channel_binding: bytes | None = None,
        plus: bool = False,
    ) -> None:
        self._salt = salt
        self._iterations = iterations
        self._nonce = nonce
        self._binding = channel_binding
        self._plus = plus
        self._messages = self._bound = b""
        self.client_key: bytes | None = None

    def first(self, message: bytes) -> bytes:
        """server-first for a client-first. Raises ProtocolViolation, LoginForbidden."""
        match = _matched(_CLIENT_FIRST, message, "client-first")
        header, flag, binding_type, bare, nonce = match.groups()
        self._check_flag(flag, binding_type)
        self._bound = header + (self._binding or b"") if self._plus else header
        self._nonce = nonce + self._nonce
        salt = b2a_base64(self._salt, newline=False)
        reply = b"r=%b,s=%b,i=%d" % (self._nonce, salt, self._iterations)
        self._messages = b"%b,%b," % (bare, reply)
        return reply

    def final(self, message: bytes, keys: ScramKeys) -> bytes | None:
        """server-final for a client-final; None if the proof is wrong.

        Raises ProtocolViolation, and LoginForbidden if the channel binding does not match.
        """
        match = _matched(_CLIENT_FINAL, message, "client-final")
        unproven, bound, nonce, proof = match.groups()
        if nonce != self._nonce:
            raise ProtocolViolation("SCRAM nonce does not match")
        if not hmac.compare_digest(_decoded(bound), self._bound):
            raise LoginForbidden("SCRAM channel binding check failed")
        signed = self._messages + unproven
        client_key = _xor(_decoded(proof), hmac.digest(keys.stored_key, signed, "sha256"))
        if not hmac.compare_digest(hashlib.sha256(client_key).digest(), keys.stored_key):
            return None
        self.client_key = client_key
        signature = hmac.digest(keys.server_key, signed, "sha256")
        return b"v=" + b2a_base64(signature, newline=False)

    def _check_flag(self, flag: bytes, binding_type: bytes | None) -> None:
        if flag == b"y" and self._binding is not None:
            raise LoginForbidden(
                "client believes that SCRAM channel binding is not supported, but it is",
                hint="Something between client and pgfunnel may have changed the offer.",
            )
        if self._plus != (binding_type is not None):
            raise ProtocolViolation(
                "SCRAM mechanism and channel binding flag contradict each other"
            )
        if binding_type not in (None, _BINDING_TYPE):
            raise ProtocolViolation("unsupported SCRAM channel binding type")


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
        raise ProtocolViolation(f"SCRAM {name} message is longer than {MAX_MESSAGE} bytes")
    match = pattern.fullmatch(message)
    if match is None:
        raise ProtocolViolation(f"SCRAM {name} message is malformed")
    return match


def _decoded(text: bytes) -> bytes:
    try:
        return a2b_base64(text, strict_mode=True)
    except Base64Error:
        raise ProtocolViolation("SCRAM message holds invalid base64") from None


def _xor(left: bytes, right: bytes) -> bytes:
    both = int.from_bytes(left, "big") ^ int.from_bytes(right, "big")
    return both.to_bytes(len(left), "big")
