"""SCRAM-SHA-256 (RFC 5802, RFC 7677) as a client that logs in thousands of times a second.

The bench has its own, so that what measures shares no code with what is measured.
"""

import hashlib
import hmac
import os
from base64 import b64decode, b64encode
from functools import lru_cache

ROUNDS = 4096
# gs2-header "n,,": no channel binding; its base64 is repeated in the final message.
GS2, GS2_BASE64 = b"n,,", b"biws"


def _hmac(key: bytes, text: bytes) -> bytes:
    return hmac.digest(key, text, "sha256")


@lru_cache(maxsize=64)
def keys(password: str, salt: bytes, rounds: int) -> tuple[bytes, bytes, bytes]:
    """ClientKey, StoredKey and ServerKey; 4,096 rounds take about a millisecond, once a salt."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, rounds)
    client_key = _hmac(salted, b"Client Key")
    return client_key, hashlib.sha256(client_key).digest(), _hmac(salted, b"Server Key")


def verifier(password: str, salt: bytes, rounds: int = ROUNDS) -> str:
    """The secret as Postgres stores it in pg_authid.rolpassword and PgBouncer in its user list."""
    _, stored_key, server_key = keys(password, salt, rounds)
    parts = (b64encode(part).decode() for part in (salt, stored_key, server_key))
    return "SCRAM-SHA-256${}:{}${}:{}".format(rounds, *parts)


class ScramLogin:
    """One login: `first()`, then `final(challenge)`, then `verify(outcome)`."""

    def __init__(self, password: str, nonce: bytes | None = None) -> None:
        self._password = password
        self._nonce = nonce or b64encode(os.urandom(18))
        self._expected = b""

    def first(self) -> bytes:
        """The client-first-message."""
        return GS2 + self._bare()

    def _bare(self) -> bytes:
        # Postgres takes the user from the startup packet and ignores the one here.
        return b"n=,r=" + self._nonce

    def final(self, challenge: bytes) -> bytes:
        """The client-final-message that answers the server-first-message.

        Raises ValueError when the nonce is not ours.
        """
        nonce, salt, rounds = (field[2:] for field in challenge.split(b",", 2))
        if not nonce.startswith(self._nonce):
            raise ValueError("the SCRAM challenge does not repeat our nonce")
        client_key, stored_key, server_key = keys(self._password, b64decode(salt), int(rounds))
        unproven = b"c=" + GS2_BASE64 + b",r=" + nonce
        spoken = b",".join((self._bare(), challenge, unproven))
        self._expected = b"v=" + b64encode(_hmac(server_key, spoken))
        signature = _hmac(stored_key, spoken)
        proof = int.from_bytes(client_key, "big") ^ int.from_bytes(signature, "big")
        return unproven + b",p=" + b64encode(proof.to_bytes(32, "big"))

    def verify(self, outcome: bytes) -> None:
        """Raises ValueError when the server-final-message is not signed with the secret."""
        if not hmac.compare_digest(outcome, self._expected):
            raise ValueError("the server does not know the SCRAM secret")
