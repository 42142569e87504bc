"""Logging in to Postgres, as plain state ("Start-up" in its message flow documentation)."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from proxy.auth import codes
from proxy.auth.keys import KeyCache, KeyRequest, ScramKeys
from proxy.auth.md5 import SALT_BYTES, md5_response, md5_secret
from proxy.auth.saslprep import to_bytes
from proxy.auth.scram import SCRAM, SCRAM_PLUS, ScramClient, new_nonce
from proxy.errors import LoginHopeless, ProtocolViolation, UpstreamUnreachable

_UNSUPPORTED = {
    codes.KERBEROS_V5: "Kerberos V5",
    codes.SCM: "SCM credentials",
    codes.GSS: "GSSAPI",
    codes.GSS_CONTINUE: "GSSAPI",
    codes.SSPI: "SSPI",
}


class UpstreamLogin:
    """One login as `user`, by whatever is known: password, SCRAM keys, or an `md5…` secret.

    Hand each AuthenticationRequest's code and body to `answer` until `done`. `keys` need their
    client key, and serve a server whose salt and iterations are theirs. `channel_binding` is
    the hash of the server's certificate (RFC 5929, tls-server-end-point), None without TLS.
    """

    __slots__ = (
        "_binding", "_cache", "_keys", "_md5", "_password", "_proven", "_random", "_scram",
        "done", "pending", "user",
    )  # fmt: skip

    def __init__(
        self,
        user: str,
        password: str | None,
        keys: ScramKeys | None,
        cache: KeyCache,
        *,
        md5: str | None = None,
        channel_binding: bytes | None = None,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self.user = user
        self.done = False
        self.pending: KeyRequest | None = None
        self._password = password
        self._keys = keys if keys is not None and keys.client_key is not None else None
        self._md5 = md5
        self._cache = cache
        self._binding = channel_binding
        self._random = random
        self._scram: ScramClient | None = None
        self._proven = False

    def answer(self, code: int, body: bytes) -> bytes | None:
        """The payload of the password message to send; None if there is nothing to send now.

        None with `pending` set: run `pending.derive()` where it blocks nobody, send what
        `supply` returns. Raises UpstreamUnreachable when the login fails, LoginHopeless when no
        other try can succeed.
        """
        try:
            return self._answered(code, body)
        except ProtocolViolation as violation:
            raise UpstreamUnreachable(f"login to Postgres failed: {violation.message}") from None

    def supply(self, keys: ScramKeys) -> bytes:
        """The payload to send, made with the keys that were `pending`."""
        request, self.pending = self.pending, None
        if request is None or self._scram is None:
            raise RuntimeError("no keys are pending")
        self._cache.put(request, keys)
        return self._scram.final(keys)

    def _answered(self, code: int, body: bytes) -> bytes | None:
        if self.done or self.pending is not None:
            raise ProtocolViolation("authentication request where none may come")
        if code == codes.OK:
            self._end()
            return None
        if code == codes.CLEARTEXT:
            return self._known_password("password") + b"\0"
        if code == codes.MD5:
            return self._md5_payload(body)
        if code == codes.SASL:
            return self._sasl(body)
        if code == codes.SASL_CONTINUE:
            return self._sasl_continue(body)
        if code == codes.SASL_FINAL:
            self._sasl_final(body)
            return None
        raise self._unsupported(f"{_UNSUPPORTED.get(code, 'request')} (code {code})")

    def _end(self) -> None:
        if self._scram is not None and not self._proven:
            raise ProtocolViolation("server ended SCRAM without proving that it knows the password")
        self.done = True

    def _md5_payload(self, salt: bytes) -> bytes:
        if len(salt) != SALT_BYTES:
            raise ProtocolViolation("salt of the md5 request is not 4 bytes long")
        if self._md5 is not None:
            return md5_response(self._md5, salt) + b"\0"
        self._known_password("md5")
        return md5_response(md5_secret(self.user, self._password or ""), salt) + b"\0"

    def _sasl(self, body: bytes) -> bytes:
        if self._scram is not None:
            raise ProtocolViolation("server began SASL twice")
        offered = body.split(b"\0")
        plus = self._binding is not None and SCRAM_PLUS in offered
        if not plus and SCRAM not in offered:
            raise self._unsupported("SASL without SCRAM-SHA-256")
        if self._keys is None:
            self._known_password("scram-sha-256")
        self._scram = ScramClient(new_nonce(self._random), channel_binding=self._binding, plus=plus)
        first = self._scram.first()
        mechanism = SCRAM_PLUS if plus else SCRAM
        return b"%b\0%b%b" % (mechanism, len(first).to_bytes(4, "big"), first)

    def _sasl_continue(self, body: bytes) -> bytes | None:
        if self._scram is None:
            raise ProtocolViolation("SASL message out of order")
        salt, iterations = self._scram.challenge(body)
        known = self._keys
        if known is not None and (known.salt, known.iterations) == (salt, iterations):
            return self._scram.final(known)
        if self._password is None:
            raise LoginHopeless(
                f'the SCRAM secret known for user "{self.user}" is not the one in Postgres',
                hint="Copy it again from pg_authid.rolpassword, or configure the password.",
            )
        request = KeyRequest(self._password, salt, iterations)
        cached = self._cache.get(request)
        if cached is not None:
            return self._scram.final(cached)
        self.pending = request
        return None

    def _sasl_final(self, body: bytes) -> None:
        if self._scram is None or not self._scram.verify(body):
            raise ProtocolViolation("server did not prove that it knows the password")
        self._proven = True

    def _known_password(self, method: str) -> bytes:
        if self._password is None:
            raise LoginHopeless(
                f'server asks for a password ({method}) and none is known for user "{self.user}"',
                hint="Add the user's password to the upstream's DSN or to auth_file.",
            )
        return to_bytes(self._password)

    def _unsupported(self, what: str) -> LoginHopeless:
        return LoginHopeless(
            f"server asks for an authentication that is not supported: {what}",
            hint="Let pg_hba.conf ask for scram-sha-256, md5, password or trust.",
        )
