"""SCRAM-SHA-256 keys (RFC 5802, section 3; RFC 7677): derived, stored, remembered.

Deriving costs a millisecond for 4,096 rounds, so no conversation does it by itself: it states
a `KeyRequest`, and whoever drives it decides where `KeyRequest.derive` runs.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable

import cython

from proxy.auth.saslprep import prepared, to_bytes

ITERATIONS = 4096
MAX_ITERATIONS = 10_000_000
SALT_BYTES = 16

_KEY = r"([A-Za-z0-9+/]{43}=)"
_SECRET = re.compile(rf"SCRAM-SHA-256\$([0-9]{{1,8}}):([A-Za-z0-9+/]+={{0,2}})\${_KEY}:{_KEY}")


@cython.cclass
class ScramKeys:
    """What one side of SCRAM knows. Without `client_key` it can verify, but not log in."""

    iterations: cython.int
    salt: bytes
    client_key: bytes | None
    stored_key: bytes
    server_key: bytes

    def __init__(
        self,
        iterations: cython.int,
        salt: bytes,
        client_key: bytes | None,
        stored_key: bytes,
        server_key: bytes,
    ) -> None:
        self.iterations = iterations
        self.salt = salt
        self.client_key = client_key
        self.stored_key = stored_key
        self.server_key = server_key

    @cython.ccall
    def with_client_key(self, client_key: bytes) -> ScramKeys:
        return ScramKeys(self.iterations, self.salt, client_key, self.stored_key, self.server_key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ScramKeys) and (
            (self.iterations, self.salt, self.client_key, self.stored_key, self.server_key)
            == (other.iterations, other.salt, other.client_key, other.stored_key, other.server_key)
        )

    def __repr__(self) -> str:
        return f"<ScramKeys iterations={self.iterations}>"


@cython.cclass
class KeyRequest:
    """A derivation that somebody has to run: `derive` is pure and may run in a thread."""

    password: str
    salt: bytes
    iterations: cython.int

    def __init__(self, password: str, salt: bytes, iterations: cython.int) -> None:
        self.password = password
        self.salt = salt
        self.iterations = iterations

    def derive(self) -> ScramKeys:
        return derive(self.password, self.salt, self.iterations)

    def __repr__(self) -> str:
        return f"<KeyRequest iterations={self.iterations}>"


def derive(password: str, salt: bytes, iterations: int = ITERATIONS) -> ScramKeys:
    """All keys of a password. Takes about 0.25 microseconds a round; releases the GIL."""
    salted = hashlib.pbkdf2_hmac("sha256", prepared(password), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    return ScramKeys(iterations, salt, client_key, hashlib.sha256(client_key).digest(), server_key)


def parse_secret(text: str) -> ScramKeys | None:
    """Keys from a `SCRAM-SHA-256$4096:salt$stored:server` secret as in pg_authid.rolpassword.

    None if the text is not such a secret.
    """
    match = _SECRET.fullmatch(text)
    if match is None:
        return None
    iterations, salt, stored_key, server_key = match.groups()
    if not 0 < int(iterations) <= MAX_ITERATIONS or len(salt) % 4:
        return None
    return ScramKeys(
        int(iterations), a2b_base64(salt), None, a2b_base64(stored_key), a2b_base64(server_key)
    )


def format_secret(keys: ScramKeys) -> str:
    """The inverse of `parse_secret`; the client key is not part of it."""
    salt, stored, server = (
        b2a_base64(part, newline=False).decode()
        for part in (keys.salt, keys.stored_key, keys.server_key)
    )
    return f"SCRAM-SHA-256${keys.iterations}:{salt}${stored}:{server}"


@cython.cclass
class KeyCache:
    """Derived keys, at most `size` of them, the least recently used forgotten first.

    Passwords are not kept, only their BLAKE2b under a key of this process. For one thread.
    """

    _size: cython.Py_ssize_t
    _salts: hashlib.blake2b
    _passwords: hashlib.blake2b
    _found: dict[object, ScramKeys]

    def __init__(
        self,
        size: cython.Py_ssize_t = 10_000,
        *,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        key = random(32)
        self._size = size
        self._found = {}
        # Begun once, since the key is most of the work.
        self._salts = hashlib.blake2b(key=key, person=b"salt", digest_size=SALT_BYTES)
        self._passwords = hashlib.blake2b(key=key, person=b"password", digest_size=32)

    def __len__(self) -> int:
        return len(self._found)

    @cython.ccall
    def get(self, request: KeyRequest) -> ScramKeys | None:
        place = self._place(request)
        keys = self._found.pop(place, None)
        if keys is not None:
            self._found[place] = keys
        return keys

    @cython.ccall
    def put(self, request: KeyRequest, keys: ScramKeys) -> object:
        place = self._place(request)
        self._found.pop(place, None)
        self._found[place] = keys
        if len(self._found) > self._size:
            del self._found[next(iter(self._found))]
        return None

    @cython.ccall
    def salt_for(self, user: str) -> bytes:
        """The salt of a user that has no SCRAM secret or does not exist: the same every time."""
        digest = self._salts.copy()
        digest.update(to_bytes(user))
        return digest.digest()

    @cython.cfunc
    def _place(self, request: KeyRequest) -> object:
        digest = self._passwords.copy()
        digest.update(to_bytes(request.password))
        return digest.digest(), request.salt, request.iterations
