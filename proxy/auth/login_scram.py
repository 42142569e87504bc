"""The SCRAM conversation with a client (Postgres documentation, "SASL Authentication")."""

from __future__ import annotations

from collections.abc import Callable

import cython

from proxy.auth import codes
from proxy.auth.conversation import flaw
from proxy.auth.keys import ITERATIONS
from proxy.auth.scram import MAX_MESSAGE, SCRAM, SCRAM_PLUS, new_nonce
from proxy.auth.secret import Secret
from proxy.errors import ProtocolViolation

if cython.compiled:
    from cython.cimports.proxy.auth.conversation import Conversation, Done, Next, own_request
    from cython.cimports.proxy.auth.keys import KeyCache, KeyRequest, ScramKeys
    from cython.cimports.proxy.auth.scram import ScramServer
else:
    from proxy.auth.conversation import Conversation, Done, Next, own_request
    from proxy.auth.keys import KeyCache, KeyRequest, ScramKeys
    from proxy.auth.scram import ScramServer

_OFFER = SCRAM + b"\0\0"
_OFFER_WITH_PLUS = SCRAM_PLUS + b"\0" + _OFFER
_NO_DATA = b"\xff\xff\xff\xff"
_LIMIT: cython.Py_ssize_t = MAX_MESSAGE + len(SCRAM_PLUS) + 5
_NOBODYS_KEYS: ScramKeys = ScramKeys(ITERATIONS, bytes(16), None, bytes(32), bytes(32))


@cython.cclass
class ScramConversation(Conversation):
    """Who cannot log in meets a mock secret: a salt that stays the same and keys of zeros."""

    _known: ScramKeys | None
    _own: KeyRequest
    _cache: KeyCache
    _binding: bytes | None
    _random: Callable[[int], bytes]
    _server: ScramServer | None
    _started: bool
    _final: bytes

    def __init__(
        self,
        user: str,
        secret: Secret | None,
        cache: KeyCache,
        channel_binding: bytes | None,
        random: Callable[[int], bytes],
    ) -> None:
        offer = _OFFER if channel_binding is None else _OFFER_WITH_PLUS
        Conversation.__init__(self, user, (codes.SASL, offer), _flaw(secret), _LIMIT)
        self._known = secret.keys if secret else None
        self._own = own_request(user, (secret and secret.password) or "", cache)
        self._cache = cache
        self._binding = channel_binding
        self._random = random
        self._server = None
        self._started = False
        self._final = b""

    @cython.ccall
    def _answered(self, payload: bytes) -> object:
        if self._server is None:
            return self._chosen(payload)
        if not self._started:
            return self._first(payload)
        keys = self._keys()
        if keys is not None:
            return self._verdict(payload, keys)
        self._final, self.pending = payload, self._own
        return None

    @cython.ccall
    def _supplied(self, request: KeyRequest, keys: ScramKeys) -> object:
        self._cache.put(request, keys)
        return self._verdict(self._final, keys)

    @cython.cfunc
    def _keys(self) -> ScramKeys | None:
        """None if they have yet to be derived. One look into the cache, whoever the user is."""
        cached = self._cache.get(self._own)
        return _NOBODYS_KEYS if self.reason else self._known or cached

    @cython.cfunc
    def _chosen(self, payload: bytes) -> object:
        """SASLInitialResponse: mechanism, NUL, Int32 length (-1: no data yet), client-first."""
        mechanism, _, rest = payload.partition(b"\0")
        plus = mechanism == SCRAM_PLUS and self._binding is not None
        if not plus and mechanism != SCRAM:
            raise ProtocolViolation("client selected a SASL mechanism that was not offered")
        place = self._known or self._own
        self._server = ScramServer(
            place.salt, place.iterations, new_nonce(self._random), self._binding, plus
        )
        if rest == _NO_DATA:
            return Next((codes.SASL_CONTINUE, b""))
        if len(rest) < 4 or int.from_bytes(rest[:4], "big") != len(rest) - 4:
            raise ProtocolViolation("SASLInitialResponse message is malformed")
        return self._first(rest[4:])

    @cython.cfunc
    def _first(self, message: bytes) -> object:
        assert self._server is not None
        self._started = True
        return Next((codes.SASL_CONTINUE, self._server.first(message)))

    @cython.cfunc
    def _verdict(self, message: bytes, keys: ScramKeys) -> object:
        server = self._server
        assert server is not None
        final = server.final(message, keys)
        if final is None or server.client_key is None or self.reason:
            raise self.refusal("password does not match")
        return Done((codes.SASL_FINAL, final), keys.with_client_key(server.client_key))


def _flaw(secret: Secret | None) -> str:
    if secret is not None and secret.md5 is not None:
        return "an md5 secret cannot serve scram-sha-256"
    return flaw(secret)
