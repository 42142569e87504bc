"""Proxies without the half second that each would spend importing the same modules.

A `Nursery` is a process that has imported pgfunnel once and forks for each proxy that is asked for:
one line of JSON in; out come `born` and the child's pid, and when the child has ended `ended`, its
pid and exit code. What the tests need of `subprocess.Popen` a `Child` has, too.
"""

from __future__ import annotations

import gc
import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

from proxy.demo.children import die_with_parent

ROOT = Path(__file__).resolve().parent.parent


class Nursery:
    """Where `Child`ren come from. One thread uses it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.nursery"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            preexec_fn=die_with_parent(signal.SIGKILL),
            bufsize=0,
        )
        self._unread = b""
        self._born: list[int] = []
        self._ended: dict[int, int] = {}

    def bear(self, words: list[str], env: dict[str, str], cwd: Path, log: Path) -> Child:
        """A child that runs the command `pgfunnel` with these words."""
        asked = {"words": words, "env": env, "cwd": str(cwd), "log": str(log)}
        self._pipe(self._process.stdin).write(json.dumps(asked).encode() + b"\n")
        while not self._born:
            self._read(None)
        return Child(self, self._born.pop())

    def ended(self, pid: int, timeout: float | None) -> int | None:
        """Its exit code, as soon as it has ended within so many seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while pid not in self._ended:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not self._read(left) and left == 0:
                break
        return self._ended.get(pid)

    def _read(self, timeout: float | None) -> bool:
        pipe = self._pipe(self._process.stdout)
        if not select.select([pipe], [], [], timeout)[0]:
            return False
        said = os.read(pipe.fileno(), 4096)
        if not said:
            raise RuntimeError("the nursery has ended")
        *lines, self._unread = (self._unread + said).split(b"\n")
        for line in lines:
            match line.split():
                case [b"born", pid]:
                    self._born.append(int(pid))
                case [b"ended", pid, code]:
                    self._ended[int(pid)] = int(code)
        return True

    @staticmethod
    def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
        assert pipe is not None
        return pipe


class Child:
    """A process of the nursery."""

    def __init__(self, nursery: Nursery, pid: int) -> None:
        self._nursery = nursery
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._nursery.ended(self.pid, 0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            self.returncode = self._nursery.ended(self.pid, timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("pgfunnel", timeout or 0)
        return self.returncode

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, sig)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


# -- the process itself ----------------------------------------------------------------------


def _serve() -> None:
    import proxy.app  # noqa: F401 - what all children need
    from proxy import cli

    gc.freeze()
    ended, end = os.pipe()
    os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(end)
    tie = die_with_parent(signal.SIGKILL)
    while True:
        ready, _, _ = select.select([0, ended], [], [])
        if ended in ready:
            os.read(ended, 4096)
            _bury()
        if 0 in ready:
            line = sys.stdin.buffer.readline()
            if not line:
                return
            asked = json.loads(line)
            words = asked.pop("words")
            pid = os.fork()
            if pid == 0:
                if tie is not None:
                    tie()
                _be(**asked)
                sys.exit(cli.main(["serve", *words]))
            os.write(1, b"born %d\n" % pid)


def _bury() -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        os.write(1, b"ended %d %d\n" % (pid, os.waitstatus_to_exitcode(status)))


def _be(env: dict[str, str], cwd: str, log: str) -> None:
    """A process begun anew, with what it says in `log`."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    random.seed()
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    told = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for fd, number in ((os.open(os.devnull, os.O_RDONLY), 0), (told, 1), (told, 2)):
        os.dup2(fd, number)
    os.closerange(3, told + 16)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)


if __name__ == "__main__":
    _serve()
