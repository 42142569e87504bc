"""An operator at the console."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg.rows import dict_row

from tests.funnel import Funnel


class Operator:
    """Logged in to the database `pgbouncer`; speaks simple queries, as psql does."""

    def __init__(self, funnel: Funnel, user: str = "") -> None:
        dsn = funnel.dsn(user, database="pgbouncer")
        self.connection = psycopg.connect(
            dsn, autocommit=True, row_factory=dict_row, prepare_threshold=None
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.connection.close()

    def say(self, command: str) -> str:
        """Give a command; its tag. Raises psycopg.Error."""
        return self.connection.execute(command.encode()).statusmessage or ""

    def show(self, what: str) -> list[dict[str, Any]]:
        return self.connection.execute(f"SHOW {what};".encode()).fetchall()

    def row(self, what: str, **like: object) -> dict[str, Any]:
        """The one row with these values."""
        rows = [row for row in self.show(what) if like.items() <= row.items()]
        assert len(rows) == 1, rows
        return rows[0]

    def refusal(self, command: str) -> psycopg.Error:
        """How a command fails."""
        try:
            self.say(command)
        except psycopg.Error as error:
            return error
        raise AssertionError(f"{command} was not refused")
