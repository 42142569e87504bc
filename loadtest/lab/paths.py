"""The ways to Postgres that are compared: straight, through PgBouncer, through pgfunnel."""

from __future__ import annotations

import os
import re
import secrets
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit, urlunsplit

import psycopg

from loadtest.bench.children import (
    Child,
    find_program,
    unprivileged,
    version_text,
    version_tuple,
)
from loadtest.bench.proxies import Site
from loadtest.lab import LabError
from loadtest.lab.watch import Ask, Crowd
from proxy.demo.children import LOOPBACK, free_port

QUERY_WAIT_SECONDS = 30
MAX_CLIENTS = 12_000
_CONSOLE_USER = "lab_console"
_CROWD = re.compile(r"^pgfunnel_pool_(clients|waiters)\{[^}]*\} (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Target:
    """The Postgres of a comparison. `encrypts`: it takes TLS connections.

    `verifier`: how Postgres keeps the password, where that is known.
    """

    dsn: str
    folder: Path
    pool_size: int
    encrypts: bool
    verifier: str = ""

    @property
    def user(self) -> str:
        return unquote(urlsplit(self.dsn).username or "")

    @property
    def password(self) -> str:
        return unquote(urlsplit(self.dsn).password or "")

    @property
    def host(self) -> str:
        return urlsplit(self.dsn).hostname or LOOPBACK

    @property
    def port(self) -> int:
        return urlsplit(self.dsn).port or 5432

    @property
    def database(self) -> str:
        return unquote(urlsplit(self.dsn).path.lstrip("/")) or self.user

    @property
    def sslmode(self) -> str:
        """How the proxies speak to Postgres: as the DSN says."""
        return parse_qs(urlsplit(self.dsn).query).get("sslmode", ["prefer"])[0]

    def site(self) -> Site:
        """The same in the words of the bench, for its files and certificate."""
        return Site(self.folder, self.host, self.port, self.user, self.password, "", self.pool_size)

    def through(self, port: int, encrypted: bool) -> str:
        """The DSN of functions whose pooler listens on `port` of loopback."""
        place = f"{quote(self.user, safe='')}:{quote(self.password, safe='')}@{LOOPBACK}:{port}"
        query = f"sslmode={'require' if encrypted else 'disable'}"
        return urlunsplit(("postgresql", place, f"/{quote(self.database)}", query, ""))


@dataclass(frozen=True)
class Open:
    """A path that can be used: where functions connect, who is there, the pooler's process."""

    dsn: str
    crowd: Ask
    pid: int | None = None


@dataclass(frozen=True)
class Way:
    """One path. `session_state`: it promises each client a session of its own."""

    label: str
    version: str
    open: Callable[[Target], Iterator[Open]]
    session_state: bool = True
    prepared: bool = True

    @contextmanager
    def opened(self, target: Target) -> Iterator[Open]:
        """Start what the path needs; stop it afterwards."""
        yield from self.open(target)


def ways(names: list[str]) -> list[Way]:
    """The paths called so, in their order; PgBouncer only where it is installed."""
    found = [_WAYS[name]() for name in names]
    return [way for way in found if way is not None]


def straight() -> Way:
    return Way("straight", "", _straight)


def pgfunnel() -> Way:
    return Way("pgfunnel", version_text([sys.executable, "-m", "proxy"]), _pgfunnel)


def pgbouncer() -> Way | None:
    """The installed one; it documents that SET is not for transaction pooling."""
    program = find_program("pgbouncer")
    if program is None:
        return None
    version = version_text([program])
    prepared = version_tuple(version) >= (1, 21)
    return Way("PgBouncer", version, _pgbouncer, session_state=False, prepared=prepared)


_WAYS: dict[str, Callable[[], Way | None]] = {
    "straight": straight,
    "pgbouncer": pgbouncer,
    "pgfunnel": pgfunnel,
}
WAY_NAMES = tuple(_WAYS)


def _straight(target: Target) -> Iterator[Open]:
    mode = "require" if target.encrypts else target.sslmode
    parts = urlsplit(target.dsn)
    yield Open(urlunsplit(parts._replace(query=f"sslmode={mode}")), lambda: None)


def _certified() -> bool:
    """Whether functions come in by TLS: openssl makes the certificate."""
    return find_program("openssl") is not None


def _pgfunnel(target: Target) -> Iterator[Open]:
    port, http_port = free_port(), free_port()
    settings: dict[str, object] = {
        "upstream": target.dsn,
        "listen_addr": LOOPBACK,
        "listen_port": port,
        "http_port": http_port,
        "default_pool_size": target.pool_size,
        "max_client_conn": MAX_CLIENTS,
        "max_unauthenticated": MAX_CLIENTS,
        "query_wait_timeout": QUERY_WAIT_SECONDS,
        "log_connections": 0,
        "log_disconnections": 0,
        "drain_timeout": 0,
    }
    if _certified():
        key, cert = target.site().certificate()
        settings |= {
            "client_tls_sslmode": "require",
            "client_tls_key_file": key,
            "client_tls_cert_file": cert,
        }
    ours = {f"PGFUNNEL_{name.upper()}": str(value) for name, value in settings.items()}
    command = [sys.executable, "-m", "proxy", "serve"]
    with _running("pgfunnel", command, target, port, _environment() | ours) as pid:
        yield Open(target.through(port, _certified()), lambda: _scraped(http_port), pid)


def _environment() -> dict[str, str]:
    """Ours without what pgfunnel or libpq would read, but for the choice of pure Python."""
    return {k: v for k, v in os.environ.items() if k == "PGFUNNEL_PURE" or k[:2] != "PG"}


def _scraped(http_port: int) -> Crowd | None:
    try:
        with urllib.request.urlopen(f"http://{LOOPBACK}:{http_port}/metrics", timeout=2) as page:
            text = page.read().decode()
    except OSError:
        return None
    found = dict.fromkeys(("clients", "waiters"), 0)
    for kind, number in _CROWD.findall(text):
        found[kind] += int(float(number))
    return Crowd(**found)


def _pgbouncer(target: Target) -> Iterator[Open]:
    port, console = free_port(), secrets.token_urlsafe(18)
    program = find_program("pgbouncer")
    if program is None:
        raise LabError("pgbouncer is missing (Debian package: pgbouncer)")
    ini = target.site().write("pgbouncer.ini", _ini(target, port, console))
    command = [program, str(ini)]
    with _running("PgBouncer", command, target, port, _environment(), unprivileged()) as pid:
        dsn = f"postgresql://{_CONSOLE_USER}:{console}@{LOOPBACK}:{port}/pgbouncer"
        with ExitStack() as stack:
            yield Open(
                target.through(port, _certified()),
                _Console(f"{dsn}?sslmode=prefer", stack).crowd,
                pid,
            )


def _ini(target: Target, port: int, console: str) -> str:
    site = target.site()
    # From a password it would derive the keys anew at every login, 4,096 rounds each.
    secret = target.verifier or target.password
    users = f'"{_quoted(target.user)}" "{_quoted(secret)}"\n'
    users += f'"{_CONSOLE_USER}" "{console}"\n'
    settings: dict[str, object] = {
        "listen_addr": LOOPBACK,
        "listen_port": port,
        "unix_socket_dir": "",
        "pool_mode": "transaction",
        "default_pool_size": target.pool_size,
        "max_client_conn": MAX_CLIENTS,
        "query_wait_timeout": QUERY_WAIT_SECONDS,
        "server_login_retry": 1,
        "server_tls_sslmode": target.sslmode,
        "auth_type": "scram-sha-256",
        "auth_file": site.write("pgbouncer-users.txt", users),
        "stats_users": _CONSOLE_USER,
        "log_connections": 0,
        "log_disconnections": 0,
    }
    if version_tuple(version_text([find_program("pgbouncer") or "pgbouncer"])) >= (1, 21):
        settings["max_prepared_statements"] = 200
    if _certified():
        key, cert = site.certificate()
        settings |= {
            "client_tls_sslmode": "allow",
            "client_tls_key_file": key,
            "client_tls_cert_file": cert,
        }
    lines = "\n".join(f"{name} = {value}" for name, value in settings.items())
    place = f"host={target.host} port={target.port}"
    return f"[databases]\n* = {place}\n[pgbouncer]\n{lines}\n"


def _quoted(text: str) -> str:
    return text.replace('"', '""')


class _Console:
    """PgBouncer's admin console, connected at the first question."""

    def __init__(self, dsn: str, stack: ExitStack) -> None:
        self._dsn = dsn
        self._stack = stack
        self._connection: psycopg.Connection[tuple[object, ...]] | None = None

    def crowd(self) -> Crowd | None:
        try:
            if self._connection is None:
                self._connection = self._connect()
            cursor = self._connection.execute("SHOW POOLS")
            names = [found.name for found in cursor.description or ()]
            pools = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        except psycopg.Error:
            return None
        served = [pool for pool in pools if pool["database"] != "pgbouncer"]
        waiters = sum(int(str(pool["cl_waiting"])) for pool in served)
        return Crowd(waiters + sum(int(str(pool["cl_active"])) for pool in served), waiters)

    def _connect(self) -> psycopg.Connection[tuple[object, ...]]:
        """The console speaks the simple protocol alone: nothing is prepared."""
        connection = psycopg.connect(
            self._dsn, autocommit=True, connect_timeout=5, prepare_threshold=None
        )
        self._stack.callback(connection.close)
        return connection


@contextmanager
def _running(
    label: str,
    command: list[str],
    target: Target,
    port: int,
    environment: dict[str, str],
    user: int | None = None,
) -> Iterator[int]:
    """The process, by its id, once it listens."""
    log = target.folder / f"{label}.log"
    child = Child(label, command, log, environment=environment, user=user)
    try:
        child.await_port(port)
        yield child.pid
    finally:
        child.stop()
