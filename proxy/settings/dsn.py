"""A Postgres connection URI, read without ever repeating the password.

PostgreSQL documentation, section 34.1.1.2 (connection URIs).
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote_to_bytes

SCHEMES: Final = ("postgresql://", "postgres://")
SSLMODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
DEFAULT_PORT: Final = 5432
ENCODE_HINT: Final = (
    "characters such as @ / ? # % in the user or the password must be percent-encoded"
    " (@ is %40, / is %2F, ? is %3F, % is %25)"
)
_UNDERSTOOD: Final = ("host", "port", "dbname", "user", "password", "sslmode")
_OTHER_PARAMETERS: Final = {
    "sslrootcert": "set server_tls_ca_file instead",
    "sslcert": "set server_tls_cert_file instead",
    "sslkey": "set server_tls_key_file instead",
    "connect_timeout": "set server_connect_timeout instead",
    "keepalives": "set tcp_keepalive instead",
    "keepalives_idle": "set tcp_keepidle instead",
    "pgbouncer": "remove it, it is meant for Prisma",
    "application_name": "remove it, each client sends its own",
    "options": "remove it, each client sends its own",
    "channel_binding": "remove it",
    "target_session_attrs": "remove it and name one host",
}


@dataclass(frozen=True)
class Dsn:
    """Where a Postgres is and as whom to log in. `host` is a name, an address or a folder.

    `dbname` None means any database, `user` None that the URI names nobody. Neither `repr` nor
    `str` shows the password.
    """

    host: str
    port: int = DEFAULT_PORT
    dbname: str | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    sslmode: str | None = None

    def __str__(self) -> str:
        login = f"{self.user or ''}{':***' if self.password else ''}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        place = f"?host={host}&port={self.port}" if is_folder(host) else f"{host}:{self.port}"
        path = f"/{self.dbname}" if self.dbname else ""
        mode = f"{'&' if '?' in place else '?'}sslmode={self.sslmode}" if self.sslmode else ""
        where = f"{path}{place}" if is_folder(host) else f"{place}{path}"
        return f"postgresql://{login}{'@' if login else ''}{where}{mode}"


def is_folder(host: str) -> bool:
    """Whether `host` is the folder of a unix socket; `@` starts an abstract one."""
    return host.startswith(("/", "@"))


def parse_dsn(text: str) -> Dsn:
    """Read `postgresql://user:password@host:port/db?sslmode=…`; ValueError says what to change.

    A unix socket is given as `?host=/folder` or as a percent-encoded host. No message repeats
    anything that could be part of a password.
    """
    scheme = next((known for known in SCHEMES if text.startswith(known)), None)
    if scheme is None:
        raise ValueError("does not start with postgresql://; write postgresql://user:password@host")
    rest, _, query = text[len(scheme) :].partition("?")
    authority, _, path = rest.partition("/")
    if authority.count("@") > 1 or "@" in path or "@" in query:
        raise ValueError(f"has an @ in an odd place; {ENCODE_HINT}")
    login, _, place = authority.rpartition("@")
    user, _, password = login.partition(":")
    if "," in place:
        raise ValueError("names several hosts; name one")
    host, port = _split_place(place)
    parts = {"host": host, "port": port, "dbname": path, "user": user, "password": password}
    decoded = {name: _decode(value) for name, value in parts.items()} | _parameters(query)
    return _build(decoded)


def _build(parts: dict[str, str]) -> Dsn:
    sslmode = parts.get("sslmode")
    if sslmode is not None and sslmode not in SSLMODES:
        raise ValueError(f"has an unknown sslmode; give one of {', '.join(SSLMODES)}")
    return Dsn(
        host=_checked_host(parts["host"]),
        port=_checked_port(parts["port"]),
        dbname=parts["dbname"] or None,
        user=parts["user"] or None,
        password=parts["password"] or None,
        sslmode=sslmode,
    )


def _split_place(place: str) -> tuple[str, str]:
    if place.startswith("["):
        address, closed, rest = place[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")):
            raise ValueError("has a broken IPv6 address; write it as [::1]:5432")
        _check_ipv6(address)
        return address, rest[1:]
    if place.count(":") > 1:
        raise ValueError(f"has more than one : after the @; write IPv6 as [::1]; {ENCODE_HINT}")
    host, _, port = place.partition(":")
    return host, port


def _check_ipv6(address: str) -> None:
    try:
        ipaddress.IPv6Address(_decode(address))
    except ValueError:
        raise ValueError("has a broken IPv6 address; write it as [::1]:5432") from None


def _checked_host(host: str) -> str:
    if not host:
        raise ValueError("names no host; write postgresql://user:password@host or ?host=/folder")
    if "," in host:
        raise ValueError("names several hosts; name one")
    if not is_folder(host) and re.search(r"[\s/@?#]", host):
        raise ValueError(f"has a host that cannot be one; {ENCODE_HINT}")
    return host


def _checked_port(port: str) -> int:
    if not port:
        return DEFAULT_PORT
    if not (port.isascii() and port.isdigit() and 1 <= int(port[:6]) <= 65535):
        raise ValueError(f"has a port that is not a number from 1 to 65535; {ENCODE_HINT}")
    return int(port)


def _parameters(query: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in filter(None, query.split("&")):
        name, equals, value = pair.partition("=")
        if not equals or name not in _UNDERSTOOD:
            raise ValueError(_unknown_parameter(name))
        found[name] = _decode(value)
    return found


def _unknown_parameter(name: str) -> str:
    """Only well-known names are repeated: an unknown one may be a piece of a password."""
    if name in _OTHER_PARAMETERS:
        return f"has the parameter {name}, which is not used here; {_OTHER_PARAMETERS[name]}"
    return f"has an unknown parameter after the ?; only {', '.join(_UNDERSTOOD)} are understood"


def _decode(text: str) -> str:
    if re.search(r"%(?![0-9A-Fa-f]{2})", text):
        raise ValueError(f"has a % that is not followed by two hex digits; {ENCODE_HINT}")
    try:
        decoded = unquote_to_bytes(text).decode()
    except UnicodeError:
        raise ValueError("has bytes that are not UTF-8") from None
    if "\0" in decoded:
        raise ValueError("has a zero byte (%00), which Postgres cannot take")
    return decoded
