"""Locust as child processes: the load of one step."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from loadtest.lab import LabError
from loadtest.lab.steps import Step
from loadtest.lab.tally import BEGUN
from proxy.demo.children import die_with_parent

_LOCUSTFILE = Path(__file__).resolve().parents[1] / "locustfile.py"
_STOP_SECONDS = 10.0
_LATE_SECONDS = 15.0
_FUNCTIONS_EACH = 1000
_FREEZE_SHARE = 0.3


@dataclass(frozen=True)
class Load:
    """What the generators are told besides the step."""

    dsn: str
    session_state: bool
    workloads: Sequence[str]
    folder: Path


def processes(functions: int) -> int:
    """One generator, or two for more functions than one can play."""
    return 1 if functions <= _FUNCTIONS_EACH else 2


@contextmanager
def generating(step: Step, load: Load) -> Iterator[Generators]:
    """The load, from its start until it has ended by itself or was told to."""
    generators = Generators(step, load)
    try:
        yield generators
    finally:
        generators.stop()


class Generators:
    """The Locust processes of a step; each writes its tally when it ends."""

    def __init__(self, step: Step, load: Load) -> None:
        self._step = step
        self._load = load
        count = processes(step.functions)
        shares = [step.functions // count + (n < step.functions % count) for n in range(count)]
        self._children = [self._start(number, share) for number, share in enumerate(shares)]
        self._deadline = time.monotonic() + step.seconds + _LATE_SECONDS

    def _start(self, number: int, functions: int) -> subprocess.Popen[bytes]:
        step, load = self._step, self._load
        command = [
            sys.executable, "-m", "locust", "-f", str(_LOCUSTFILE), *step.users,
            "--headless", "--only-summary", "--loglevel", "WARNING", "--prepared",
            "--users", str(functions), "--run-time", f"{step.seconds:.0f}s",
            "--stop-timeout", "1", "--shape", step.shape, "--pace", f"{step.pace:.3f}",
            "--freeze", f"{step.seconds * _FREEZE_SHARE:.1f}",
            "--workloads", ",".join(load.workloads),
            "--session-state", "yes" if load.session_state else "no",
            "--tally-dir", str(load.folder), "--generators", str(processes(step.functions)),
        ]  # fmt: skip
        environment = {k: v for k, v in os.environ.items() if k[:2] != "PG"}
        with self._log(number).open("wb") as log:
            return subprocess.Popen(
                command,
                cwd=load.folder,
                env=environment | {"LAB_DSN": load.dsn, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGKILL),
            )

    def _log(self, number: int) -> Path:
        return self._load.folder / f"locust-{number}.log"

    @property
    def count(self) -> int:
        return len(self._children)

    def running(self) -> bool:
        """Whether load is still made, and may be. Raises LabError when a generator failed."""
        for number, child in enumerate(self._children):
            # 1 is Locust's own word for "some requests failed".
            if child.poll() not in (None, 0, 1):
                raise LabError(f"Locust ended with {child.poll()}:\n{self._last_words(number)}")
        late = time.monotonic() > self._deadline
        return not late and any(child.poll() is None for child in self._children)

    @property
    def begun(self) -> bool:
        """Whether there is load already."""
        return (self._load.folder / BEGUN).exists()

    def last_words(self) -> str:
        """The ends of their logs."""
        return "\n".join(self._last_words(number) for number in range(self.count))

    def _last_words(self, number: int) -> str:
        return self._log(number).read_text(errors="replace")[-2000:].strip()

    def stop(self) -> None:
        """End the load in order; each process still writes what it has counted."""
        for child in self._children:
            if child.poll() is None:
                child.terminate()
        for child in self._children:
            try:
                child.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
