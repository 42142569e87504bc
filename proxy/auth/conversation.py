"""What every conversation with a client that logs in has in common; `login.begin` opens one.

Send its `request`, an AuthenticationRequest as (code, body); if there is none, the client is
in. Hand each password message's payload to `respond`, which says how it goes on:

    Next    send its request, wait for the client's next message
    Done    send its request if there is one, then AuthenticationOk
    None    keys are `pending`: run `pending.derive()` where it blocks nobody, `supply` the keys

A refusal is an exception and the end of the conversation; what the log may know beyond its
words is in `reason`.
"""

from __future__ import annotations

import cython

from proxy.auth.keys import ITERATIONS
from proxy.auth.secret import Secret
from proxy.errors import ProtocolViolation, WrongPassword

if cython.compiled:
    from cython.cimports.proxy.auth.keys import KeyCache, KeyRequest, ScramKeys
else:
    from proxy.auth.keys import KeyCache, KeyRequest, ScramKeys

Request = tuple[int, bytes]


MAX_PASSWORD: cython.Py_ssize_t = 8192
"""Longest payload of a password message, in bytes, where a conversation wants no less."""


@cython.cclass
class Next:
    request: Request

    def __init__(self, request: Request) -> None:
        self.request = request


@cython.cclass
class Done:
    """The client is in, and revealed `password`, or `keys` that can log in to Postgres, or none."""

    request: Request | None
    keys: ScramKeys | None
    password: str | None

    def __init__(
        self,
        request: Request | None = None,
        keys: ScramKeys | None = None,
        password: str | None = None,
    ) -> None:
        self.request = request
        self.keys = keys
        self.password = password


Step = Next | Done | None


@cython.cclass
class Conversation:
    """With a client that logs in as `user`. A conversation without a request is over at once.

    `limit` is the longest payload, in bytes, that `respond` takes.
    """

    user: str
    request: Request | None
    reason: str
    pending: KeyRequest | None
    _over: bool
    _limit: cython.Py_ssize_t

    def __init__(
        self,
        user: str,
        request: Request | None,
        reason: str = "",
        limit: cython.Py_ssize_t = MAX_PASSWORD,
    ) -> None:
        self.user = user
        self.request = request
        self.reason = reason
        self.pending = None
        self._over = request is None
        self._limit = limit

    @cython.ccall
    def respond(self, payload: bytes) -> Step:
        """Raises WrongPassword, ProtocolViolation, and LoginForbidden (channel binding)."""
        if self._over or self.pending is not None:
            raise ProtocolViolation("password message where none was asked for")
        self._over = True
        if len(payload) > self._limit:
            raise ProtocolViolation(f"password message is longer than {self._limit} bytes")
        step: Step = self._answered(payload)
        self._over = isinstance(step, Done)
        return step

    @cython.ccall
    def supply(self, keys: ScramKeys) -> Step:
        """Goes on with the keys that were `pending`. Raises as `respond` does."""
        request, self.pending = self.pending, None
        if request is None:
            raise RuntimeError("no keys are pending")
        self._over = True
        step: Step = self._supplied(request, keys)
        return step

    @cython.ccall
    def _answered(self, payload: bytes) -> Step:
        raise NotImplementedError

    @cython.ccall
    def _supplied(self, request: KeyRequest, keys: ScramKeys) -> Step:
        raise NotImplementedError

    def refusal(self, reason: str) -> WrongPassword:
        self.reason = self.reason or reason
        return WrongPassword(f'password authentication failed for user "{self.user}"')


@cython.ccall
def own_request(user: str, password: str, cache: KeyCache) -> KeyRequest:
    """The derivation for a user whose salt is ours to choose."""
    return KeyRequest(password, cache.salt_for(user), ITERATIONS)


def flaw(secret: Secret | None) -> str:
    """Why nobody at all can log in with this secret; empty if somebody can."""
    if secret is None:
        return "no such user"
    return "the user's password is empty" if secret.password == "" else ""
