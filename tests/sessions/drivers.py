"""Two drivers behind one face: asyncpg, and psycopg 3 with its pipelines."""

from __future__ import annotations

import contextlib
import os
import random
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import asyncpg
import psycopg
from psycopg import AsyncConnection, AsyncRawCursor
from psycopg.pq import TransactionStatus

Rows = list[tuple[Any, ...]]
Notify = Callable[[str, str], None]

RESET_QUERY = "SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL;"
DRIVER_ERRORS = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    psycopg.Error,
    OSError,
)


class Link(Protocol):
    """One connection. Errors are the driver's own (`DRIVER_ERRORS`)."""

    can_pipeline: bool
    keeps_names: bool  # it never runs a DEALLOCATE ALL of its own

    async def simple(self, sql: str) -> None:
        """Run a string of statements by the simple protocol."""

    async def rows(self, sql: str, *args: object) -> Rows:
        """Run one statement by the extended protocol."""

    async def prepare(self, name: str, sql: str) -> None:
        """Parse under a name of ours."""

    async def execute_prepared(self, name: str) -> Rows: ...

    async def pipeline(self, statements: Sequence[str], *, syncs: bool = False) -> list[Rows]:
        """Send all before the first answer, one Sync at the end, or one behind each."""
        raise NotImplementedError

    async def reset(self) -> None:
        """What the driver's pool does between two users of a connection."""

    def forget_statements(self) -> None:
        """The server has dropped the statements that the driver keeps in its cache."""

    def told(self, parameter: str) -> str | None:
        """The last ParameterStatus of a parameter."""

    async def close(self) -> None: ...

    def abort(self) -> None:
        """Leave without a goodbye."""


def sqlstate(error: BaseException) -> str:
    """The SQLSTATE of a driver's error, or the error's class where it has none."""
    return getattr(error, "sqlstate", None) or type(error).__name__


def first_line(error: BaseException) -> str:
    """A driver's error without its hints."""
    return str(error).partition("\n")[0]


class _Listening(asyncpg.Connection):  # type: ignore[misc]
    """Hands on every notification, also on channels that nobody asked for."""

    on_notify: Notify

    def _process_notification(self, pid: int, channel: str, payload: str) -> None:
        self.on_notify(channel, payload)


class AsyncpgLink:
    can_pipeline = False
    keeps_names = True

    def __init__(self, connection: _Listening) -> None:
        self._connection = connection
        self._prepared: dict[str, Any] = {}
        self._all_prepared: list[Any] = []  # asyncpg closes a statement that is garbage collected

    @classmethod
    async def open(
        cls, dsn: str, startup: Mapping[str, str], on_notify: Notify, chance: random.Random
    ) -> AsyncpgLink:
        connection = await asyncpg.connect(
            dsn,
            server_settings=dict(startup),
            statement_cache_size=chance.choice((0, 4, 100)),
            connection_class=_Listening,
            timeout=60,
            command_timeout=60,
        )
        connection.on_notify = on_notify
        return cls(connection)

    async def simple(self, sql: str) -> None:
        await self._connection.execute(sql)

    async def rows(self, sql: str, *args: object) -> Rows:
        if sql.startswith(("EXECUTE", "FETCH")):
            # What these answer depends on what the name stands for now; asyncpg would remember.
            statement = await self._connection.prepare(sql)
            return [tuple(row) for row in await statement.fetch(*args)]
        return [tuple(row) for row in await self._connection.fetch(sql, *args)]

    async def prepare(self, name: str, sql: str) -> None:
        self._prepared[name] = await self._connection.prepare(sql, name=name)
        self._all_prepared.append(self._prepared[name])

    async def execute_prepared(self, name: str) -> Rows:
        return [tuple(row) for row in await self._prepared[name].fetch()]

    async def pipeline(self, statements: Sequence[str], *, syncs: bool = False) -> list[Rows]:
        raise NotImplementedError("asyncpg has no pipelines")

    async def reset(self) -> None:
        await self._connection.reset()

    def forget_statements(self) -> None:
        self._connection._drop_local_statement_cache()

    def told(self, parameter: str) -> str | None:
        value: str | None = getattr(self._connection.get_settings(), parameter, None)
        return value

    async def close(self) -> None:
        await self._connection.close(timeout=30)

    def abort(self) -> None:
        self._connection.terminate()


class PsycopgLink:
    can_pipeline = True

    def __init__(self, connection: AsyncConnection[tuple[Any, ...]]) -> None:
        self._connection = connection
        # Where it prepares statements itself, it drops all of them after DROP and ROLLBACK.
        self.keeps_names = connection.prepare_threshold is None

    @classmethod
    async def open(
        cls, dsn: str, startup: Mapping[str, str], on_notify: Notify, chance: random.Random
    ) -> PsycopgLink:
        """Startup parameters travel as `options=-c name=value`."""
        connection = await AsyncConnection.connect(
            dsn,
            autocommit=True,
            options=" ".join(f"-c {k}={_escaped(v)}" for k, v in startup.items()),
            cursor_factory=AsyncRawCursor,
            prepare_threshold=chance.choice((None, 1, 3)),
            connect_timeout=60,
        )
        connection.add_notify_handler(lambda notify: on_notify(notify.channel, notify.payload))
        return cls(connection)

    async def simple(self, sql: str) -> None:
        await self._connection.execute(sql.encode(), prepare=False)

    async def rows(self, sql: str, *args: object) -> Rows:
        return await _fetched(await self._connection.execute(sql.encode(), args))

    async def prepare(self, name: str, sql: str) -> None:
        raise NotImplementedError("psycopg names its statements itself")

    async def execute_prepared(self, name: str) -> Rows:
        raise NotImplementedError("psycopg names its statements itself")

    async def pipeline(self, statements: Sequence[str], *, syncs: bool = False) -> list[Rows]:
        cursors = []
        async with self._connection.pipeline() as pipeline:
            for sql in statements:
                cursors.append(await self._connection.execute(sql.encode()))
                if syncs:
                    await pipeline.sync()
        return [await _fetched(cursor) for cursor in cursors]

    async def reset(self) -> None:
        await self.simple(RESET_QUERY)

    def forget_statements(self) -> None:
        self._connection._prepared.clear()

    def told(self, parameter: str) -> str | None:
        return self._connection.info.parameter_status(parameter)

    async def close(self) -> None:
        await self._connection.close()

    def abort(self) -> None:
        """No Terminate. While a statement runs the socket stays libpq's: its end ends that too."""
        with contextlib.suppress(OSError, psycopg.Error):
            with socket.socket(fileno=os.dup(self._connection.fileno())) as wire:
                wire.shutdown(socket.SHUT_RDWR)
            if self._connection.pgconn.transaction_status != TransactionStatus.ACTIVE:
                self._connection.pgconn.finish()


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace(" ", "\\ ")


async def _fetched(cursor: psycopg.AsyncCursor[tuple[Any, ...]]) -> Rows:
    return await cursor.fetchall() if cursor.description else []
