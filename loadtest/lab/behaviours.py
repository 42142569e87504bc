"""How functions live: what becomes of their connections between two invocations."""

from __future__ import annotations

import contextlib
import time

from loadtest.lab.frozen import frozen, vanish
from loadtest.lab.functions import FAILURES, Function, Terms
from loadtest.lab.workloads import Connection, order, write_note

_OWN_WORK_SECONDS = 0.05
_POOLED = 2
_MOST_LEAKED = 10


class Behaviour:
    """A function that lives in one particular way; `invoke`, `between` and `end` are its life."""

    name = ""

    def __init__(self, function_name: str, terms: Terms, freeze_seconds: float) -> None:
        self._function = Function(function_name, terms)
        self._tally = terms.tally
        self._freeze_seconds = freeze_seconds
        self._kept: list[Connection] = []

    def invoke(self, workload: str) -> float:
        """One invocation, retries included: its latency in ms. Raises GaveUp."""
        return self._function.until_done(self.name, workload, self._attempt)

    def between(self) -> None:
        """What happens after an invocation, before the next."""

    def end(self) -> None:
        """The instance is shut down in order."""
        for connection in self._kept:
            connection.close()
        self._kept.clear()

    def _attempt(self, workload: str) -> None:
        connection = self._take()
        try:
            self._function.transact(connection, workload)
        except BaseException:
            self._forget(connection)
            raise

    def _take(self) -> Connection:
        """The one connection that the module keeps."""
        if not self._kept:
            self._kept.append(self._function.connect())
        return self._kept[0]

    def _forget(self, connection: Connection) -> None:
        connection.close()
        self._kept.remove(connection)


class Warm(Behaviour):
    """One connection for the life of the instance, opened at the first invocation."""

    name = "warm"


class Cold(Behaviour):
    """Every invocation is a new instance: it connects, works, and is gone."""

    name = "cold"

    def between(self) -> None:
        time.sleep(_OWN_WORK_SECONDS)
        self.end()


class Frozen(Behaviour):
    """Warm, and frozen with the connection open after each invocation."""

    name = "frozen"

    def between(self) -> None:
        with contextlib.ExitStack() as ice:
            for connection in self._kept:
                ice.enter_context(frozen(connection.fileno()))
            time.sleep(self._freeze_seconds)


class Killed(Behaviour):
    """Dies in the middle of a second transaction, half a checkout done, without a goodbye."""

    name = "killed"

    def between(self) -> None:
        # Its half of a transaction may itself be refused or lost: then it died a little earlier.
        with contextlib.suppress(*FAILURES):
            for connection in self._kept:
                self._die(connection)
        self.end()

    def _die(self, connection: Connection) -> None:
        connection.execute("BEGIN")
        write_note(connection, self._function.name, "never committed")
        order(connection, self._function.name)
        vanish(connection.fileno())
        self._tally.killed += 1


class Pooled(Behaviour):
    """A runtime with a pool of its own, which holds more connections than it uses."""

    name = "pooled"

    def _take(self) -> Connection:
        while len(self._kept) < _POOLED:
            self._kept.append(self._function.connect())
        self._kept.append(self._kept.pop(0))
        return self._kept[-1]


class Leaky(Behaviour):
    """Forgets to close: another connection with every invocation, up to ten."""

    name = "leaky"

    def _take(self) -> Connection:
        if len(self._kept) < _MOST_LEAKED:
            self._kept.append(self._function.connect())
        return self._kept[-1]


BEHAVIOURS: tuple[type[Behaviour], ...] = (Cold, Warm, Frozen, Killed, Pooled, Leaky)
