"""Watch from a superuser's connection how many connections of a role Postgres has."""

from __future__ import annotations

import asyncio
import threading
import time
from types import TracebackType
from typing import Self

import asyncpg

_EVERY_SECONDS = 0.005
_SETTLE_SECONDS = 5.0
_COUNT = """
SELECT count(*) FROM pg_stat_activity
WHERE backend_type = 'client backend' AND usename = $1
"""


class Watch:
    """Samples pg_stat_activity in a thread of its own, so that a busy event loop hides no peak."""

    def __init__(self, dsn: str, role: str) -> None:
        self._dsn = dsn
        self._role = role
        self._peak = 0
        self._now = 0
        self._samples = 0
        self._stop = threading.Event()
        self._watching = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._watching.wait()
        self._check()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def now(self) -> int:
        return self._now

    def start_over(self) -> None:
        """Forget the peak."""
        self._peak = 0

    @property
    def peak(self) -> int:
        """The most connections of the role in one sample since `start_over`.

        Raises the watching connection's own error when it was lost.
        """
        self._check()
        return self._peak

    async def settle(self, at_most: int) -> None:
        """Wait until the role has no more than `at_most` connections, for 5 s at the longest.

        Believes only a sample that was begun after the call: the second one to end.
        """
        deadline = time.monotonic() + _SETTLE_SECONDS
        target = self._samples + 2
        while time.monotonic() < deadline:
            self._check()
            if self._samples >= target and self._now <= at_most:
                return
            await asyncio.sleep(_EVERY_SECONDS)

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            asyncio.run(self._sample())
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            self._error = error
        finally:
            self._watching.set()

    async def _sample(self) -> None:
        connection = await asyncpg.connect(self._dsn, ssl=False)
        while not self._stop.is_set():
            self._now = await connection.fetchval(_COUNT, self._role)
            self._peak = max(self._peak, self._now)
            self._samples += 1
            self._watching.set()
            await asyncio.sleep(_EVERY_SECONDS)
        await connection.close()
