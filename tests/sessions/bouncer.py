"""PgBouncer in transaction mode, to compare with."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from proxy.demo.children import LOOPBACK, die_with_parent, free_port
from tests.funnel import write_userlist
from tests.postgres import Postgres, make_dsn
from tests.sessions.model import NAMES

_START_SECONDS = 10.0
_FOLLOWED = ("DateStyle", "TimeZone", "standard_conforming_strings", "application_name")


@contextlib.contextmanager
def start_bouncer(postgres: Postgres, folder: Path, pool: int) -> Iterator[str]:
    """A PgBouncer with `pool` servers; gives a DSN to it. Raises FileNotFoundError without one."""
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        raise FileNotFoundError("pgbouncer is not installed (Debian package: pgbouncer)")
    port = free_port()
    ini = _configure(postgres, folder, port, pool)
    user = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None
    process = subprocess.Popen(
        [program, "-q", str(ini)],
        user=user,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=die_with_parent(signal.SIGKILL),
    )
    try:
        _await_port(process, port)
        yield make_dsn(LOOPBACK, port, postgres.user, postgres.password, postgres.database)
    finally:
        process.kill()
        process.wait()


def _configure(postgres: Postgres, folder: Path, port: int, pool: int) -> Path:
    """It follows five parameters, and refuses others at the start unless told to ignore them."""
    ignored = ["options", *(name for name in NAMES if name not in _FOLLOWED)]
    users = write_userlist(folder / "userlist.txt", postgres)
    users.chmod(0o644)
    folder.chmod(0o755)
    settings = {
        "listen_addr": LOOPBACK,
        "listen_port": port,
        "unix_socket_dir": "",
        "pool_mode": "transaction",
        "default_pool_size": pool,
        "max_client_conn": 1000,
        "auth_type": "scram-sha-256",
        "auth_file": users,
        "logfile": "",
        "ignore_startup_parameters": ", ".join(ignored),
    }
    ini = folder / "pgbouncer.ini"
    lines = [f"{name} = {value}" for name, value in settings.items()]
    database = f"[databases]\n* = host={postgres.host} port={postgres.port}\n"
    ini.write_text(database + "\n".join(["[pgbouncer]", *lines, ""]))
    return ini


def _await_port(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError):
            socket.create_connection((LOOPBACK, port), timeout=1).close()
            return
        time.sleep(0.02)
    raise RuntimeError(f"PgBouncer does not listen on port {port} (exit code {process.poll()})")
