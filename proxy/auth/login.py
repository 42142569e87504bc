"""Clients log in: `begin` opens the conversation that a method and a secret call for.

A user that does not exist, a secret that cannot serve the method and a wrong password are
refused in the same words after the same work. Two limits: under md5 the request itself tells
users with SCRAM secrets from others, and the first SCRAM login on a plain secret waits for its
keys. `unprepared` names those derivations, to be run before the first client comes.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Iterator, Mapping

from proxy.auth import codes
from proxy.auth.conversation import Conversation, Done, Step, flaw, own_request
from proxy.auth.keys import KeyCache, KeyRequest, ScramKeys
from proxy.auth.login_scram import ScramConversation
from proxy.auth.md5 import SALT_BYTES, md5_matches, md5_secret
from proxy.auth.saslprep import to_bytes, to_text
from proxy.auth.secret import Secret
from proxy.errors import ProtocolViolation

METHODS = ("trust", "password", "md5", "scram-sha-256")
_NOBODY = Secret(md5="md5" + "0" * 32)


def begin(
    method: str,
    user: str,
    secret: Secret | None,
    *,
    cache: KeyCache,
    channel_binding: bytes | None = None,
    scram: bool = False,
    random: Callable[[int], bytes] = secrets.token_bytes,
) -> Conversation:
    """Opens a conversation; `secret` is None for a user that does not exist.

    `method` is one of METHODS; md5 turns into SCRAM for a SCRAM secret. `channel_binding` is
    the hash of our certificate (RFC 5929, tls-server-end-point) on a TLS connection, None
    without. `scram`: md5 asks a user that does not exist as it asks one with a SCRAM secret.
    Raises WrongPassword when `trust` meets a user that does not exist (the name must be known, as
    in PgBouncer), ValueError for an unknown method.
    """
    if method == "trust":
        return _trusted(user, secret)
    if method == "password":
        return _Cleartext(user, secret, cache)
    if method == "md5" and (scram if secret is None else secret.keys):
        method = "scram-sha-256"
    if method == "scram-sha-256":
        return ScramConversation(user, secret, cache, channel_binding, random)
    if method == "md5":
        return _Md5(user, secret, random(SALT_BYTES))
    raise ValueError(f"unknown authentication method {method}: use one of {', '.join(METHODS)}")


def unprepared(users: Mapping[str, Secret], cache: KeyCache) -> Iterator[KeyRequest]:
    """The derivations that first SCRAM logins would wait for: derive, then `cache.put`."""
    for user, secret in users.items():
        if secret.password:
            request = own_request(user, secret.password, cache)
            if cache.get(request) is None:
                yield request


def _trusted(user: str, secret: Secret | None) -> Conversation:
    conversation = Conversation(user, None)
    if secret is None:
        raise conversation.refusal("no such user")
    return conversation


def _text(payload: bytes) -> bytes:
    """A PasswordMessage's string."""
    if not payload or payload.find(b"\0") != len(payload) - 1:
        raise ProtocolViolation("password message is not one string closed by a NUL byte")
    return payload[:-1]


class _Cleartext(Conversation):
    """Every refusal costs one derivation, so that it does not tell which kind the secret is."""

    __slots__ = ("_cache", "_secret")

    def __init__(self, user: str, secret: Secret | None, cache: KeyCache) -> None:
        super().__init__(user, (codes.CLEARTEXT, b""), flaw(secret))
        self._secret = _NOBODY if self.reason or secret is None else secret
        self._cache = cache

    def _answered(self, payload: bytes) -> Step:
        password = to_text(_text(payload))
        request = self._key_request(password)
        keys = self._cache.get(request)
        if self._matches(password, keys) and not self.reason:
            return Done(password=password, keys=keys)
        self.pending = request
        return None

    def _supplied(self, request: KeyRequest, keys: ScramKeys) -> Done:
        if self._secret.keys is None or not self._matches(request.password, keys):
            raise self.refusal("password does not match")
        self._cache.put(request, keys)
        return Done(password=request.password, keys=keys)

    def _key_request(self, password: str) -> KeyRequest:
        wanted = self._secret.keys
        if wanted is None:
            request: KeyRequest = own_request(self.user, password, self._cache)
            return request
        return KeyRequest(password, wanted.salt, wanted.iterations)

    def _matches(self, password: str, keys: ScramKeys | None) -> bool:
        secret = self._secret
        if secret.keys is not None:
            known = secret.keys.stored_key
            return keys is not None and hmac.compare_digest(keys.stored_key, known)
        hashed = md5_secret(self.user, password)
        if secret.md5 is not None:
            return hmac.compare_digest(hashed, secret.md5)
        return hmac.compare_digest(to_bytes(password), to_bytes(secret.password or ""))


class _Md5(Conversation):
    __slots__ = ("_hash", "_salt")

    def __init__(self, user: str, secret: Secret | None, salt: bytes) -> None:
        super().__init__(user, (codes.MD5, salt), flaw(secret))
        known = _NOBODY if self.reason or secret is None else secret
        hashed = md5_secret(user, known.password or "")
        self._hash = known.md5 or hashed
        self._salt = salt

    def _answered(self, payload: bytes) -> Step:
        matches = md5_matches(self._hash, self._salt, _text(payload))
        if self.reason or not matches:
            raise self.refusal("password does not match")
        return Done()
