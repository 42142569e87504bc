"""The same ini, HBA rules and certificates in PgBouncer and here: the same clients come in."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from proxy.demo.children import LOOPBACK, die_with_parent, free_port
from tests.certificates import Certificates
from tests.conftest import StartFunnel
from tests.integration.observe import until
from tests.postgres import USERS, Postgres, make_dsn

QUERY = "SELECT usename, passwd FROM pg_shadow WHERE usename=$1"
RULES = """
local     all      all                peer
hostssl   postgres alice 127.0.0.1/32 cert
hostssl   all      all   127.0.0.1/32 scram-sha-256
host      all      dave  127.0.0.1/32 reject
hostnossl forced   all   127.0.0.1/32 trust
hostnossl all      carol 127.0.0.1/32 md5
hostnossl all      all   127.0.0.0/8  scram-sha-256
"""


@dataclass(frozen=True)
class Visit:
    """Somebody who comes with what is shown; `files` names a certificate."""

    user: str
    password: str = ""
    database: str = "postgres"
    tls: bool = False
    files: str = ""
    local: bool = False

    def outcome(self, port: int, folder: Path) -> str:
        """Who it is in Postgres, or `refused`."""
        options = {"host": str(folder)} if self.local else {}
        options["sslmode"] = "require" if self.tls else "disable"
        if self.files:
            options["sslcert"] = str(folder / f"{self.files}.crt")
            options["sslkey"] = str(folder / f"{self.files}.key")
        dsn = make_dsn(LOOPBACK, port, self.user, self.password, self.database)
        try:
            with psycopg.connect(dsn, **options) as connection:  # type: ignore[arg-type]
                row = connection.execute("SELECT session_user::text").fetchone()
        except psycopg.OperationalError:
            return "refused"
        return str(row and row[0])


VISITS = {
    Visit("alice", USERS["alice"]): "alice",
    Visit("alice", "wrong"): "refused",
    Visit("bob", USERS["bob"]): "bob",
    Visit("nobody", "wrong"): "refused",
    Visit("carol", USERS["carol"]): "carol",
    Visit("carol", "wrong"): "refused",
    Visit("dave", USERS["dave"]): "refused",
    Visit("late", "late"): "refused",
    Visit("alice", "", "forced"): "bob",
    Visit("nobody", "", "forced"): "refused",
    Visit("alice", tls=True, files="client"): "alice",
    Visit("alice", USERS["alice"], tls=True): "refused",
    Visit("alice", USERS["alice"], tls=True, files="other"): "refused",
    Visit("bob", USERS["bob"], tls=True): "bob",
    Visit("alice", USERS["alice"], "other", tls=True): "alice",
    Visit("alice", USERS["alice"], local=True): "refused",
}


@pytest.fixture
def folder(certificates: Certificates) -> Iterator[Path]:
    """Where an unprivileged PgBouncer can read, with certificates."""
    certificates.make_leaf("other", "/CN=bob")
    with tempfile.TemporaryDirectory(prefix="pgfunnel-") as name:
        made = Path(name)
        for file in certificates.folder.iterdir():
            shutil.copy(file, made)
            if os.geteuid() == 0:
                shutil.chown(made / file.name, "nobody")
        made.chmod(0o777)
        yield made


def configure(postgres: Postgres, folder: Path, port: int) -> Path:
    place = f"host={postgres.host} port={postgres.port}"
    (folder / "hba.conf").write_text(RULES)
    (folder / "users.txt").write_text('"looker" "looks"\n')
    secret = USERS["bob"].replace("'", "''")
    ini = folder / f"{port}.ini"
    ini.write_text(
        f"""
[databases]
forced = {place} dbname=postgres user=bob password='{secret}'
* = {place}
[pgbouncer]
listen_addr = {LOOPBACK}
listen_port = {port}
unix_socket_dir = {folder}
pool_mode = transaction
auth_type = hba
auth_hba_file = {folder}/hba.conf
auth_file = {folder}/users.txt
auth_user = looker
auth_query = {QUERY} AND (valuntil IS NULL OR valuntil > now())
client_tls_sslmode = prefer
client_tls_key_file = {folder}/server.key
client_tls_cert_file = {folder}/server.crt
client_tls_ca_file = {folder}/ca.crt
client_tls_protocols = secure
client_tls_ciphers = default
client_tls_ecdhcurve = auto
client_tls_dheparams = auto
"""
    )
    return ini


@contextlib.contextmanager
def bouncer(ini: Path, port: int) -> Iterator[None]:
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        pytest.skip("PgBouncer is not installed")
    with (ini.parent / "pgbouncer.log").open("wb") as log:
        process = subprocess.Popen(
            [program, str(ini)],
            user=pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=die_with_parent(signal.SIGKILL),
        )
    try:
        until(lambda: process.poll() is not None or _listens(port))
        assert process.poll() is None, (ini.parent / "pgbouncer.log").read_text()
        yield
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) == 0


def test_the_same_clients_come_in(
    pgfunnel: StartFunnel, own_postgres: Postgres, folder: Path
) -> None:
    own_postgres.psql(
        "CREATE ROLE looker SUPERUSER LOGIN PASSWORD 'looks';"
        "CREATE ROLE late LOGIN PASSWORD 'late' VALID UNTIL '2001-01-01'"
    )
    theirs = free_port()
    funnel = pgfunnel(
        own_postgres,
        args=(str(configure(own_postgres, folder, free_port())),),
        upstream=None,
        listen_addr=None,
        auth_file=None,
    )
    ours = {visit: visit.outcome(funnel.port, folder) for visit in VISITS}
    assert ours == VISITS
    with bouncer(configure(own_postgres, folder, theirs), theirs):
        assert {visit: visit.outcome(theirs, folder) for visit in VISITS} == ours
