"""What Postgres and the pooler see during a step, sampled from outside."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import psycopg

_EVERY_SECONDS = 0.05
_CROWD_EVERY = 5
_WATCHER = "pgfunnel-lab-watch"
_COUNT = """
SELECT count(*) FROM pg_stat_activity
WHERE backend_type = 'client backend' AND usename = %s AND application_name <> %s
"""


@dataclass(frozen=True)
class Crowd:
    """The clients that a pooler has, and those of them that wait for a server."""

    clients: int
    waiters: int


Ask = Callable[[], Crowd | None]


@dataclass(frozen=True)
class Sample:
    """At `at` (seconds since the epoch): connections of the role, None while Postgres is away."""

    at: float
    connections: int | None
    crowd: Crowd | None


class Watch:
    """Samples in a thread of its own, and connects again when Postgres was restarted."""

    def __init__(self, dsn: str, role: str, ask: Ask) -> None:
        self._dsn = dsn
        self._role = role
        self._ask = ask
        self._connection: psycopg.Connection[tuple[int]] | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self.samples: list[Sample] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        crowd: Crowd | None = None
        while not self._stop.wait(_EVERY_SECONDS):
            if len(self.samples) % _CROWD_EVERY == 0:
                crowd = self._ask()
            self.samples.append(Sample(time.time(), self._count(), crowd))
        self._leave()

    def _count(self) -> int | None:
        try:
            if self._connection is None:
                self._connection = _connect(self._dsn)
            row = self._connection.execute(_COUNT, (self._role, _WATCHER)).fetchone()
        except psycopg.Error:
            self._leave()
            return None
        return row[0] if row else None

    def _leave(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                self._connection.close()
            self._connection = None


def _connect(dsn: str) -> psycopg.Connection[tuple[int]]:
    return psycopg.connect(dsn, application_name=_WATCHER, autocommit=True, connect_timeout=5)
