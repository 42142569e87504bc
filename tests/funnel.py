"""The real proxy as a child process, for the tests."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from proxy.demo.children import LOOPBACK, die_with_parent, free_port
from tests.nursery import Child, Nursery
from tests.postgres import USERS, Postgres, make_dsn

ROOT = Path(__file__).resolve().parent.parent
_COMMAND = (sys.executable, "-m", "proxy", "serve")
_START_SECONDS = 20.0
_STOP_SECONDS = 10.0


@dataclass
class Funnel:
    """One running pgfunnel. `port` serves Postgres clients, `http_port` metrics and health."""

    process: subprocess.Popen[bytes] | Child
    port: int
    http_port: int
    log_file: Path
    upstream: Postgres
    host: str = LOOPBACK

    @property
    def pid(self) -> int:
        return self.process.pid

    def dsn(self, user: str = "", password: str | None = None, database: str = "") -> str:
        """A DSN through the proxy; the upstream's superuser and database by default."""
        if password is None:
            password = USERS.get(user, self.upstream.password)
        return make_dsn(
            self.host,
            self.port,
            user or self.upstream.user,
            password,
            database or self.upstream.database,
        )

    def get(self, path: str) -> str:
        """The body of an HTTP GET on the proxy's own HTTP port. Raises URLError."""
        with urllib.request.urlopen(f"http://{self.host}:{self.http_port}{path}", timeout=5) as r:
            return str(r.read().decode())

    def metrics(self) -> dict[str, float]:
        """Every sample of /metrics by its name with labels, as in `name{a="b",c="d"}`."""
        samples = {}
        for family in text_string_to_metric_families(self.get("/metrics")):
            for sample in family.samples:
                labels = ",".join(f'{k}="{v}"' for k, v in sorted(sample.labels.items()))
                samples[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
        return samples

    def log(self) -> str:
        """What the proxy has written so far, to stdout and stderr."""
        return self.log_file.read_text(errors="replace")

    def signal(self, sig: signal.Signals) -> None:
        self.process.send_signal(sig)

    def wait(self, timeout: float = _STOP_SECONDS) -> int:
        """The exit code. Raises TimeoutExpired."""
        return self.process.wait(timeout)

    def stop(self) -> None:
        """End the proxy at once: a drain is only waited for where a test asks for it."""
        if self.process.poll() is not None:
            return
        self.signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(1)
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.signal(signal.SIGTERM)
            self.wait(2)
            return
        self.process.kill()
        self.wait()

    def check(self) -> None:
        """Fail when the log holds a traceback."""
        log = self.log()
        assert "Traceback (most recent call last)" not in log, f"the proxy's log:\n{log}"


def start_funnel(
    upstream: Postgres,
    folder: Path,
    /,
    *,
    pure: bool = False,
    args: tuple[str, ...] = (),
    under: tuple[str, ...] = (),
    **settings: object,
) -> Funnel:
    """Start `pgfunnel serve` with `settings` as PGFUNNEL_ variables; wait until it listens.

    `under`: a command that becomes the one it is given (env, unshare). Without it, and compiled,
    it comes from the nursery.

    Raises AssertionError with the proxy's log when it does not.
    """
    listen_port = free_port()
    while (http_port := free_port()) == listen_port:
        pass
    ports = {"listen_port": listen_port, "http_port": http_port} | settings
    env = _environment(upstream, folder, ports)
    if pure:
        env["PGFUNNEL_PURE"] = "1"
    log_file = folder / "pgfunnel.log"
    if pure or under:
        process: subprocess.Popen[bytes] | Child = _begin([*under, *_COMMAND, *args], env, log_file)
    else:
        process = _nursery().bear([*args], env, folder, log_file)
    port, http_port = (int(str(ports[name] or 0)) for name in ("listen_port", "http_port"))
    funnel = Funnel(process, port, http_port, log_file, upstream)
    _await_listening(funnel)
    return funnel


@cache
def _nursery() -> Nursery:
    return Nursery()


def _begin(words: list[str], env: dict[str, str], log_file: Path) -> subprocess.Popen[bytes]:
    with log_file.open("ab") as log:
        return subprocess.Popen(
            words,
            cwd=log_file.parent,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=die_with_parent(signal.SIGKILL),
        )


def _environment(
    upstream: Postgres, folder: Path, settings: Mapping[str, object]
) -> dict[str, str]:
    defaults: dict[str, object] = {
        "upstream": upstream.dsn,
        "listen_addr": LOOPBACK,
        "http_addr": LOOPBACK,
        "auth_file": write_userlist(folder / "userlist.txt", upstream),
    }
    chosen = {k: v for k, v in (defaults | dict(settings)).items() if v is not None}
    ours = {f"PGFUNNEL_{name.upper()}": _text(value) for name, value in chosen.items()}
    return clean_environment() | ours | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def clean_environment() -> dict[str, str]:
    """Ours without what libpq or pgfunnel would read, but for the choice of pure Python."""
    return {k: v for k, v in os.environ.items() if k == "PGFUNNEL_PURE" or k[:2] != "PG"}


def write_userlist(file: Path, upstream: Postgres) -> Path:
    """PgBouncer's userlist.txt with every user of the tests, passwords in plain."""
    users = {upstream.user: upstream.password, **USERS}
    quoted = {user: password.replace('"', '""') for user, password in users.items()}
    file.write_text("".join(f'"{user}" "{password}"\n' for user, password in quoted.items()))
    file.chmod(0o600)
    return file


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list):
        return json.dumps(value)
    return str(value)


def _await_listening(funnel: Funnel) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if funnel.process.poll() is not None:
            raise AssertionError(f"pgfunnel exited with {funnel.wait()}:\n{funnel.log()}")
        with contextlib.suppress(OSError):
            for port in (funnel.port, funnel.http_port):
                if port > 0:
                    socket.create_connection((funnel.host, port), timeout=1).close()
            return
        time.sleep(0.02)
    funnel.process.kill()
    raise AssertionError(f"pgfunnel does not listen after {_START_SECONDS} s:\n{funnel.log()}")
