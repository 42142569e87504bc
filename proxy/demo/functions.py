"""Simulated serverless functions: connect, run one short transaction, leave.

A round starts `concurrency` of them together. Each does its own work once all of its round
have connected or been refused, so that exactly that many are open at once.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import asyncpg

_PATIENCE_SECONDS = 60.0
_OWN_WORK_SECONDS = 0.02
_FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError)
_RECENT = "SELECT count(*) FROM (SELECT 1 FROM visits ORDER BY id DESC LIMIT 10) AS recent"

SCHEMA = """
CREATE TABLE visits (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    function int NOT NULL,
    at timestamptz NOT NULL DEFAULT now()
)
"""


@dataclass
class Tally:
    """What the invocations of one step came to: latencies in ms, failures by SQLSTATE."""

    latencies: list[float] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)

    @property
    def invocations(self) -> int:
        return len(self.latencies) + self.failed.total()


@dataclass(frozen=True)
class Step:
    """How long one step lasts: `rounds` when given, else whole rounds until `seconds` are over."""

    dsn: str
    concurrency: int
    seconds: float
    rounds: int | None = None

    def over(self, done: int, began: float) -> bool:
        if self.rounds is not None:
            return done >= self.rounds
        return done > 0 and time.monotonic() - began >= self.seconds


async def run_step(step: Step, tally: Tally, settle: Callable[[], Awaitable[None]]) -> None:
    """Run the rounds of `step` into `tally`; `settle` waits until Postgres has seen them leave."""
    began = time.monotonic()
    done = 0
    while not step.over(done, began):
        await _run_round(step, tally)
        await settle()
        done += 1


async def _run_round(step: Step, tally: Tally) -> None:
    everyone = asyncio.Barrier(step.concurrency)
    async with asyncio.TaskGroup() as group:
        for number in range(step.concurrency):
            group.create_task(_invoke(step.dsn, number, everyone, tally))


async def _invoke(dsn: str, number: int, everyone: asyncio.Barrier, tally: Tally) -> None:
    """One invocation. Its latency is connecting and the transaction, its own work left out."""
    began = time.perf_counter()
    try:
        connection = await asyncpg.connect(
            dsn, timeout=_PATIENCE_SECONDS, command_timeout=_PATIENCE_SECONDS, ssl=False
        )
    except _FAILURES as error:
        tally.failed[_code(error)] += 1
        await everyone.wait()
        return
    connecting = time.perf_counter() - began
    try:
        await everyone.wait()
        await asyncio.sleep(_OWN_WORK_SECONDS)
        began = time.perf_counter()
        await _transact(connection, number)
        tally.latencies.append((connecting + time.perf_counter() - began) * 1000)
        await connection.close(timeout=_PATIENCE_SECONDS)
    except _FAILURES as error:
        tally.failed[_code(error)] += 1
    finally:
        connection.terminate()


async def _transact(connection: asyncpg.Connection, number: int) -> None:
    async with connection.transaction():
        await connection.execute("INSERT INTO visits (function) VALUES ($1)", number)
        await connection.fetchval(_RECENT)
        await connection.execute("SELECT pg_sleep(0.005)")


def _code(error: BaseException) -> str:
    """The error's SQLSTATE, or its name where there is none (a socket that was cut)."""
    return getattr(error, "sqlstate", None) or type(error).__name__
