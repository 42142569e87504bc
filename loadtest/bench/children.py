"""Programs the bench looks for, and processes that end with it, however it ends."""

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from loadtest.bench import BenchError
from proxy.demo.children import die_with_parent

_START_SECONDS, _STOP_SECONDS = 20.0, 10.0


def find_program(name: str) -> str | None:
    """PATH, then /usr/sbin, then the newest of Debian's /usr/lib/postgresql/*/bin."""
    bindirs = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_major, reverse=True)
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", *map(str, bindirs)])
    return shutil.which(name, path=path)


def server_bindir() -> Path | None:
    """The newest installed Postgres server's programs, None when there is none."""
    found = (p.parent for p in Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    return max(found, key=_major, default=None)


def _major(bindir: Path) -> float:
    try:
        return float(bindir.parent.name)
    except ValueError:
        return 0.0


def version_text(command: Sequence[str]) -> str:
    """The first line of `command --version`."""
    answer = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False)
    return (answer.stdout or answer.stderr).strip().partition("\n")[0]


def version_tuple(text: str) -> tuple[int, ...]:
    """(1, 18, 0) from 'PgBouncer 1.18.0'; () when there is no number."""
    found = re.search(r"\d+(\.\d+)+", text)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def unprivileged() -> int | None:
    """The account for programs that refuse root; None when we are not root."""
    return pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None


class Child:
    """A server process: started, awaited on its port, stopped."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        *,
        environment: Mapping[str, str],
        user: int | None = None,
    ) -> None:
        self.name = name
        self._log = log
        with log.open("wb") as sink:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                env=environment,
                user=user,
                group=user,
                extra_groups=None if user is None else [],
                preexec_fn=die_with_parent(signal.SIGTERM),
                # Ctrl-C reaches the bench alone, which then stops its children in order.
                start_new_session=True,
            )
        self.pid = self._process.pid

    def await_port(self, port: int) -> None:
        """Wait until it listens. Raises BenchError with its last words when it does not."""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise BenchError(f"{self.name} did not start:\n{self.last_words()}")
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.02)
        raise BenchError(
            f"{self.name} does not listen after {_START_SECONDS:.0f} s:\n{self.last_words()}"
        )

    def last_words(self) -> str:
        """The end of its log."""
        lines = self._log.read_text(errors="replace").splitlines()
        return "\n".join(f"  {line}" for line in lines[-12:]) or "  (it wrote nothing)"

    def stop(self) -> None:
        """SIGTERM, SIGKILL when that does not end it, and wait."""
        # A second SIGTERM is "at once" for pgfunnel, whose first one drains.
        for attempt in (self._process.terminate, self._process.terminate, self._process.kill):
            attempt()
            try:
                self._process.wait(_STOP_SECONDS / 4)
                return
            except subprocess.TimeoutExpired:
                continue
        self._process.wait()
