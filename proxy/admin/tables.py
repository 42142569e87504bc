"""What SHOW tells, as tables: each column is declared once, with how it is read and what it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from proxy.admin.look import Look
from proxy.wire import messages

Row = TypeVar("Row")
Value = str | int | None


class Type(NamedTuple):
    """A type of Postgres: its OID, its size in bytes (-1: varies), its name."""

    oid: int
    size: int
    name: str


TEXT = Type(25, -1, "text")
INT4 = Type(23, 4, "int4")
INT8 = Type(20, 8, "int8")
NUMERIC = Type(1700, -1, "numeric")


@dataclass(frozen=True, slots=True)
class Column(Generic[Row]):
    """One column; `read` takes a row of its table to the value."""

    name: str
    type: Type
    read: Callable[[Row], Value]
    doc: str


@dataclass(frozen=True, slots=True)
class Table(Generic[Row]):
    """What one SHOW tells; `rows` may be long, and each is read only when its turn comes."""

    name: str
    doc: str
    columns: tuple[Column[Row], ...]
    rows: Callable[[Look], Iterable[Row]]

    def head(self) -> bytes:
        """The RowDescription."""
        return messages.row_description((c.name, c.type.oid, c.type.size) for c in self.columns)

    def line(self, row: Row) -> bytes:
        """A DataRow."""
        values = [column.read(row) for column in self.columns]
        return messages.data_row([v if v is None else str(v) for v in values])
