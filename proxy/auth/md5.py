"""MD5 passwords (Postgres documentation, "Password Authentication" and AuthenticationMD5Password).

FIPS builds of OpenSSL refuse MD5 unless told that security does not rest on it: true enough.
"""

from __future__ import annotations

import hashlib
import hmac
import re

from proxy.auth.saslprep import to_bytes

SALT_BYTES = 4
_SECRET = re.compile(r"md5[0-9a-f]{32}")


def is_md5(text: str) -> bool:
    """Whether a secret is `md5` and 32 hexadecimal digits, as in pg_authid.rolpassword."""
    return _SECRET.fullmatch(text) is not None


def md5_secret(user: str, password: str) -> str:
    """What Postgres stores for a user's password."""
    return "md5" + _hex(to_bytes(password) + to_bytes(user))


def md5_response(secret: str, salt: bytes) -> bytes:
    """What a client sends, without the closing NUL, for a stored secret and the server's salt."""
    return b"md5" + _hex(secret[3:].encode("ascii") + salt).encode("ascii")


def md5_matches(secret: str, salt: bytes, response: bytes) -> bool:
    return hmac.compare_digest(md5_response(secret, salt), response)


def _hex(raw: bytes) -> str:
    return hashlib.md5(raw, usedforsecurity=False).hexdigest()
