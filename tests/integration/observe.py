"""Waiting for conditions, and watching a Postgres while something else goes on."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg

from tests.funnel import Funnel
from tests.postgres import Postgres

_PAUSE = 0.01


def until(condition: Callable[[], object], seconds: float = 10.0, what: str = "") -> None:
    """Return as soon as `condition()` holds. Raises AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what or condition}"
        time.sleep(_PAUSE)


async def eventually(
    condition: Callable[[], object], seconds: float = 10.0, what: str = ""
) -> None:
    """As `until`, for a coroutine: `condition` runs in a thread."""
    await asyncio.to_thread(until, condition, seconds, what)


def pool_metric(funnel: Funnel, name: str, user: str = "alice", **labels: str) -> float:
    """One sample of the pool of `user` on the upstream's database, 0 while there is none."""
    every = {"database": funnel.upstream.database, "user": user, **labels}
    shown = ",".join(f'{key}="{value}"' for key, value in sorted(every.items()))
    return funnel.metrics().get(f"{name}{{{shown}}}", 0.0)


def waiters(funnel: Funnel, user: str = "alice") -> int:
    return int(pool_metric(funnel, "pgfunnel_pool_waiters", user))


def failed_logins(funnel: Funnel, user: str = "alice") -> int:
    """Logins at Postgres that it refused, as one past its own limit would be."""
    return int(pool_metric(funnel, "pgfunnel_server_logins_total", user, result="failed"))


def cancel_who_waits(postgres: Postgres, times: int, user: str = "alice") -> None:
    """Cancel what a server of this user waits with for a lock, so many times."""
    cancel = (
        "SELECT pg_cancel_backend(pid) FROM pg_stat_activity"
        " WHERE usename = %s AND wait_event_type = 'Lock'"
    )
    with psycopg.connect(postgres.dsn, autocommit=True) as admin:
        for _ in range(times):
            until(lambda: admin.execute(cancel, [user]).fetchall() == [(True,)])


def resident(pid: int) -> int:
    """Resident memory of a process in bytes (proc(5), status)."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    line = next(line for line in status if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


class Watch:
    """Counts the backends of each user every few milliseconds, until its block ends.

    `most` has the highest count seen of each user, and of all together under the empty name.
    """

    _SQL = (
        "SELECT usename::text, count(*) FROM pg_stat_activity"
        " WHERE backend_type = 'client backend' AND usename = ANY(%s) GROUP BY usename"
    )

    def __init__(self, postgres: Postgres, *users: str) -> None:
        self._dsn = postgres.dsn
        self._users = list(users)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.most: Counter[str] = Counter()
        self.looks = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopped.set()
        self._thread.join()

    def _look(self) -> None:
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            while not self._stopped.wait(0.003):
                seen: Counter[str] = Counter(
                    dict(connection.execute(self._SQL, [self._users]).fetchall())
                )
                self.most |= seen | Counter({"": seen.total()})
                self.looks += 1
