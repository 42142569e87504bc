"""Tries the settings on the real thing: reach every upstream, log in, look at its limits."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from types import MappingProxyType
from typing import Any, Final

from proxy.settings.databases import Target
from proxy.settings.dsn import is_folder
from proxy.settings.model import Settings
from proxy.settings.types import VERIFYING

ANY_DATABASE: Final = "postgres"
TIMEOUT: Final = 15.0
# Whether this connection is encrypted, and how many there may be for users who are no superuser.
SEEN: Final = """
select coalesce((select ssl from pg_stat_ssl where pid = pg_backend_pid()), false),
       current_setting('max_connections')::int
       - current_setting('superuser_reserved_connections')::int
"""


# Too many connections, cannot connect now, and shutting down.
_NOT_NOW: Final = ("53300", "57P03", "57P01", "57P02")
Passwords = Mapping[str, str | None]
_NONE: Final[Passwords] = MappingProxyType({})


class Verdict(Enum):
    """What a try says of the configuration; nothing, if Postgres is away."""

    RIGHT = "right"
    WRONG = "wrong"
    AWAY = "away"


@dataclass
class Outcome:
    """What was understood and seen, what is wrong, what is away; no line holds a secret."""

    lines: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    away: list[str] = field(default_factory=list)


def try_all(settings: Settings, passwords: Passwords = _NONE, *, connect: bool = True) -> Outcome:
    """Log in at each upstream, side by side; `passwords` of the users of auth_file, if known."""
    outcome = Outcome(lines=_understood(settings))
    if connect:
        asyncio.run(_try_all(settings, passwords, outcome))
    return outcome


async def _try_all(settings: Settings, passwords: Passwords, outcome: Outcome) -> None:
    told = {
        Verdict.RIGHT: outcome.lines,
        Verdict.WRONG: outcome.problems,
        Verdict.AWAY: outcome.away,
    }
    tries = [
        _try_one(settings, label, _with_password(target, passwords))
        for label, target in _targets(settings).items()
    ]
    for line, verdict in await asyncio.gather(*tries):
        told[verdict].append(line)


def _understood(settings: Settings) -> list[str]:
    listening = [f"{address}:{settings.listen_port}" for address in settings.listen_addresses]
    if settings.unix_socket_dir:
        listening.append(f"{settings.unix_socket_dir}/.s.PGSQL.{settings.listen_port}")
    web = "off" if settings.http_port < 0 else f"{settings.http_addr}:{settings.http_port}"
    sizes = f"{settings.default_pool_size} servers a pool, {settings.max_client_conn} clients"
    return [
        f"listens on {', '.join(listening)}; metrics and health on {web}",
        f"clients log in by {settings.auth_type}, TLS: {settings.client_tls_sslmode}",
        f"{settings.pool_mode} pooling, {sizes}",
    ]


def _targets(settings: Settings) -> dict[str, Target]:
    """Each place that is configured, by the name of its setting."""
    names = {f"databases.{name}": name for name in settings.databases}
    if settings.upstream is not None:
        names["upstream"] = settings.upstream.dbname or ANY_DATABASE
    found = {
        label: settings.target(ANY_DATABASE if name == "*" else name)
        for label, name in names.items()
    }
    return {
        label if len(target.hosts) == 1 else f"{label} at {host}": replace(target, host=host)
        for label, target in found.items()
        if target is not None
        for host in target.hosts
    }


def _with_password(target: Target, passwords: Passwords) -> Target:
    """The user of an entry without a password has that of auth_file, or cannot be tried."""
    if target.user is None or target.password is not None or target.user not in passwords:
        return target
    password = passwords[target.user]
    return replace(target, user=target.user if password else None, password=password)


async def _try_one(settings: Settings, label: str, target: Target) -> tuple[str, Verdict]:
    """What to say of one place."""
    place = f"{label}: {_place(target)}"
    try:
        return await _look(settings, place, target)
    except Exception as error:  # noqa: BLE001
        verdict = Verdict.AWAY if _away(error) else Verdict.WRONG
        return f"{place}: {_words(error, settings)}", verdict


def _away(error: Exception) -> bool:
    """Whether it is the network's or Postgres's fault, and may be over at another time."""
    import asyncpg

    if isinstance(error, asyncpg.PostgresError):
        return error.sqlstate in _NOT_NOW
    if isinstance(error, ssl.SSLError | PermissionError) or _offers_no_tls(error):
        return False
    return isinstance(error, OSError)


def _offers_no_tls(error: Exception) -> bool:
    return isinstance(error, ConnectionError) and "rejected SSL" in str(error)


def _place(target: Target) -> str:
    host = f"[{target.host}]" if ":" in target.host else target.host
    return f"{host}:{target.port}/{target.dbname}"


async def _look(settings: Settings, place: str, target: Target) -> tuple[str, Verdict]:
    timeout = settings.server_connect_timeout or TIMEOUT
    user, password = _login(settings, target)
    if user is None:
        await asyncio.wait_for(_reach(target), timeout)
        return (
            f"{place}: can be reached; no user is configured, so no login was tried",
            Verdict.RIGHT,
        )
    import asyncpg

    connection = await asyncpg.connect(
        host=target.host,
        port=target.port,
        database=target.dbname,
        user=user,
        password=password or "",
        passfile=os.devnull,
        ssl=_tls(settings, target),
        direct_tls=_direct(settings, target),
        timeout=timeout,
    )
    try:
        return await _seen(settings, place, target, user, connection)
    finally:
        await connection.close(timeout=timeout)


def _login(settings: Settings, target: Target) -> tuple[str | None, str | None]:
    if target.user is not None:
        return target.user, target.password
    return settings.upstream_user() or (None, None)


async def _reach(target: Target) -> None:
    if is_folder(target.host):
        opening: Any = asyncio.open_unix_connection(f"{target.host}/.s.PGSQL.{target.port}")
    else:
        opening = asyncio.open_connection(target.host, target.port)
    _, writer = await opening
    writer.close()


async def _seen(
    settings: Settings, place: str, target: Target, user: str, connection: Any
) -> tuple[str, Verdict]:
    encrypted, most = await connection.fetchrow(SEEN)
    size = settings.limits(target, user).pool_size
    if size > most:
        words = f"a pool of {size} does not fit into the {most} connections there"
        return f"{place}: {words}", Verdict.WRONG
    version = connection.get_server_version()
    there = f"PostgreSQL {version.major}.{version.minor}, {most} connections for users"
    tls = "with" if encrypted else "without"
    return f"{place}: logged in as {user} {tls} TLS; {there}", Verdict.RIGHT


def _tls(settings: Settings, target: Target) -> ssl.SSLContext | str:
    """What asyncpg calls `ssl`: a mode that may fall back, or a context when TLS is a must."""
    if target.sslmode in ("disable", "allow", "prefer"):
        return target.sslmode
    context = ssl.create_default_context(cafile=settings.server_tls_ca_file)
    context.set_alpn_protocols(["postgresql"])
    context.check_hostname = target.sslmode == "verify-full"
    if target.sslmode not in VERIFYING:
        context.verify_mode = ssl.CERT_NONE
    if settings.server_tls_cert_file is not None:
        context.load_cert_chain(settings.server_tls_cert_file, settings.server_tls_key_file)
    return context


def _direct(settings: Settings, target: Target) -> bool:
    wanted = settings.server_tls_sslnegotiation == "direct"
    return wanted and target.sslmode not in ("disable", "allow", "prefer")


def _words(error: Exception, settings: Settings) -> str:
    """What went wrong at an upstream, and what to change."""
    import asyncpg

    if isinstance(error, asyncpg.PostgresError):
        return f"{error} ({error.sqlstate}); {_remedy(error.sqlstate)}"
    if isinstance(error, TimeoutError):
        limit = settings.server_connect_timeout or TIMEOUT
        return f"no answer within {limit:g} s; check host, port and firewalls"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused: {error.verify_message}; check server_tls_ca_file"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({error.reason}); check server_tls_key_file and server_tls_cert_file"
    if isinstance(error, socket.gaierror):
        return "this host name is unknown; correct it"
    if _offers_no_tls(error):
        return "it offers no TLS; turn ssl on in Postgres, or set sslmode to prefer"
    if isinstance(error, OSError):
        return f"{_os_words(error)}; check host and port, and that Postgres runs"
    return f"{type(error).__name__}: {error}"


def _remedy(sqlstate: str) -> str:
    if sqlstate.startswith("28"):
        return "correct user and password, or Postgres's pg_hba.conf"
    if sqlstate == "3D000":
        return "correct the name of the database"
    return "see the log of Postgres"


def _os_words(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else str(error)
