"""pgfunnel and PgBouncer, started alike: same port range, pool, users, certificate and logging."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from loadtest.bench import BenchError
from loadtest.bench.children import (
    Child,
    find_program,
    unprivileged,
    version_text,
    version_tuple,
)
from proxy.demo.children import free_port

MAX_CLIENTS = 12_000


@dataclass(frozen=True)
class Door:
    """How clients come in: `auth_type`, what the users file holds, and whether by TLS."""

    auth_type: str = "scram-sha-256"
    stored: str = "verifier"
    tls: bool = False


@dataclass(frozen=True)
class Site:
    """What both proxies share: a folder for their files, the Postgres behind, the user."""

    folder: Path
    postgres_host: str
    postgres_port: int
    user: str
    password: str
    verifier: str
    pool_size: int

    def users_file(self, door: Door) -> Path:
        """A user list in PgBouncer's format, readable by the proxies' account alone."""
        secret = self.verifier if door.stored == "verifier" else self.password
        return self.write(f"users-{door.stored}.txt", f'"{self.user}" "{secret}"\n')

    def write(self, name: str, text: str) -> Path:
        """A private file of the account the proxies run under."""
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_text(text)
        return self.hand_over(path)

    def hand_over(self, path: Path) -> Path:
        """Give a file to the account the proxies run under."""
        account = unprivileged()
        if account is not None:
            os.chown(path, account, account)
        return path

    def certificate(self) -> tuple[Path, Path]:
        """Key and self-signed certificate (ECDSA P-256), made once by openssl."""
        key, cert = self.folder / "tls.key", self.folder / "tls.crt"
        if not cert.exists():
            _make_certificate(key, cert)
        return self.hand_over(key), self.hand_over(cert)


def _make_certificate(key: Path, cert: Path) -> None:
    openssl = find_program("openssl")
    if not openssl:
        raise BenchError("openssl is missing (Debian package: openssl); TLS cannot be measured")
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(cert)]
    command = [openssl, "req", "-x509", *kind, *name, *files]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        raise BenchError(f"openssl could not make a certificate: {made.stderr.strip()}")


@dataclass(frozen=True)
class Running:
    """A proxy that listens."""

    label: str
    child: Child
    port: int


@dataclass(frozen=True)
class Proxy:
    """One of the two that are compared, not started yet."""

    label: str
    version: str
    launch: Callable[[Site, Door, str], Running]
    # False: protocol-level prepared statements fail in transaction mode.
    prepared: bool = True


def pgfunnel() -> Proxy:
    """This interpreter's `python -m proxy serve`."""
    version = version_text([sys.executable, "-m", "proxy"])
    return Proxy("pgfunnel", version, _launch_pgfunnel)


def pgbouncer(label: str = "PgBouncer") -> Proxy | None:
    """The installed PgBouncer, None when there is none."""
    program = find_program("pgbouncer")
    if not program:
        return None
    version = version_text([program])
    return Proxy(label, version, _launch_pgbouncer, version_tuple(version) >= (1, 21))


def _launch_pgfunnel(site: Site, door: Door, label: str) -> Running:
    port = free_port()
    settings = {
        "UPSTREAM": f"postgresql://{site.user}:{site.password}"
        f"@{site.postgres_host}:{site.postgres_port}",
        "LISTEN_ADDR": "127.0.0.1",
        "LISTEN_PORT": str(port),
        "HTTP_PORT": str(free_port()),
        "POOL_MODE": "transaction",
        "DEFAULT_POOL_SIZE": str(site.pool_size),
        "MAX_CLIENT_CONN": str(MAX_CLIENTS),
        "AUTH_TYPE": door.auth_type,
        "AUTH_FILE": str(site.users_file(door)),
        "LOG_CONNECTIONS": "1",
        "LOG_DISCONNECTIONS": "1",
    }
    if door.tls:
        key, cert = site.certificate()
        settings |= {
            "CLIENT_TLS_SSLMODE": "require",
            "CLIENT_TLS_KEY_FILE": str(key),
            "CLIENT_TLS_CERT_FILE": str(cert),
        }
    environment = _without_settings() | {f"PGFUNNEL_{k}": v for k, v in settings.items()}
    command = [sys.executable, "-m", "proxy", "serve"]
    return _start(label, command, site, port, environment=environment)


def _without_settings() -> dict[str, str]:
    """Our environment without settings of pgfunnel and libpq that are not the bench's."""
    strange = ("PGFUNNEL_", "PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGSERVICE", "PGSSL")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(strange)}
    pure = os.environ.get("PGFUNNEL_PURE")
    return kept if pure is None else kept | {"PGFUNNEL_PURE": pure}


def _launch_pgbouncer(site: Site, door: Door, label: str) -> Running:
    program = find_program("pgbouncer")
    if not program:
        raise BenchError("pgbouncer is missing (Debian package: pgbouncer)")
    port = free_port()
    settings = {
        "listen_addr": "127.0.0.1",
        "listen_port": str(port),
        "unix_socket_dir": "",
        "pool_mode": "transaction",
        "default_pool_size": str(site.pool_size),
        "max_client_conn": str(MAX_CLIENTS),
        "auth_type": door.auth_type,
        "auth_file": str(site.users_file(door)),
        "log_connections": "1",
        "log_disconnections": "1",
    }
    if version_tuple(version_text([program])) >= (1, 21):
        settings["max_prepared_statements"] = "200"
    if door.tls:
        key, cert = site.certificate()
        settings |= {
            "client_tls_sslmode": "require",
            "client_tls_key_file": str(key),
            "client_tls_cert_file": str(cert),
        }
    database = f"[databases]\n* = host={site.postgres_host} port={site.postgres_port}\n"
    lines = "\n".join(f"{name} = {value}" for name, value in settings.items())
    ini = site.write(f"pgbouncer-{port}.ini", f"{database}[pgbouncer]\n{lines}\n")
    return _start(label, [program, str(ini)], site, port, user=unprivileged())


def _start(
    label: str,
    command: list[str],
    site: Site,
    port: int,
    *,
    environment: dict[str, str] | None = None,
    user: int | None = None,
) -> Running:
    log = site.folder / f"{label.replace(' ', '-')}-{port}.log"
    environment = _without_settings() if environment is None else environment
    child = Child(label, command, log, environment=environment, user=user)
    try:
        child.await_port(port)
    except BaseException:
        child.stop()
        raise
    return Running(label, child, port)
