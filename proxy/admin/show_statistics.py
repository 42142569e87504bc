"""SHOW STATS, STATS_TOTALS, STATS_AVERAGES, TOTALS."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from proxy.admin.look import Look
from proxy.admin.statistics import Line, Reading
from proxy.admin.tables import NUMERIC, TEXT, Column, Table


class _Amount(NamedTuple):
    """An amount: its names in SHOW STATS (total, average), in the other two, and what it is."""

    field: str
    total: str
    average: str
    alone: str
    doc: str


_AMOUNTS: Final = (
    _Amount(
        "server_assignment_count",
        *("total_server_assignment_count", "avg_server_assignment_count"),
        *("server_assignment_count", "times that a client borrowed a server"),
    ),
    _Amount("xact_count", "total_xact_count", "avg_xact_count", "xact_count", "transactions"),
    _Amount("query_count", "total_query_count", "avg_query_count", "query_count", "queries"),
    _Amount("client_bytes", "total_received", "avg_recv", "bytes_received", "bytes from clients"),
    _Amount("server_bytes", "total_sent", "avg_sent", "bytes_sent", "bytes to clients"),
    _Amount(
        "xact_time",
        *("total_xact_time", "avg_xact_time", "xact_time"),
        "µs that transactions took, idle time in them included",
    ),
    _Amount(
        "query_time",
        *("total_query_time", "avg_query_time", "query_time"),
        "µs that servers worked for clients",
    ),
    _Amount(
        "wait_time",
        *("total_wait_time", "avg_wait_time", "wait_time"),
        "µs that clients waited for a server",
    ),
    _Amount(
        "ps_client_parse_count",
        *("total_client_parse_count", "avg_client_parse_count", "client_parse_count"),
        "named statements that clients prepared",
    ),
    _Amount(
        "ps_server_parse_count",
        *("total_server_parse_count", "avg_server_parse_count", "server_parse_count"),
        "times that one of them was prepared on a server",
    ),
    _Amount(
        "ps_bind_count",
        *("total_bind_count", "avg_bind_count", "bind_count"),
        "times that one of them was bound",
    ),
)


def _column(name: str, doc: str, read: Callable[[Line], int]) -> Column[Line]:
    return Column(name, NUMERIC, read, doc)


def _total(amount: _Amount, name: str) -> Column[Line]:
    return _column(name, f"{amount.doc}, in all", lambda row: int(getattr(row.total, amount.field)))


def _average(amount: _Amount, name: str) -> Column[Line]:
    per = "on average" if amount.field.endswith("_time") else "by the second"
    words = f"{amount.doc}, {per}"
    return _column(name, words, lambda row: int(getattr(row.average, amount.field)))


_DATABASE: Final[Column[Line]] = Column(
    "database", TEXT, lambda row: row.database, "name of the database"
)
_TOTALS: Final = tuple(_total(amount, amount.total) for amount in _AMOUNTS)
_AVERAGES: Final = tuple(_average(amount, amount.average) for amount in _AMOUNTS)


def _lines(look: Look) -> Iterable[Line]:
    return look.statistics.by_database(look.counted, look.now)


STATS: Final = Table(
    "STATS",
    "What was done for each database: totals since its pools were made, averages over the last"
    " one to two `stats_period`.",
    (_DATABASE, *_TOTALS, *_AVERAGES),
    _lines,
)
STATS_TOTALS: Final = Table(
    "STATS_TOTALS",
    "The totals of SHOW STATS.",
    (_DATABASE, *(_total(amount, amount.alone) for amount in _AMOUNTS)),
    _lines,
)
STATS_AVERAGES: Final = Table(
    "STATS_AVERAGES",
    "The averages of SHOW STATS.",
    (
        _DATABASE,
        *(
            _average(amount, amount.average if amount.field.startswith("ps_") else amount.alone)
            for amount in _AMOUNTS
        ),
    ),
    _lines,
)


def _of_all(look: Look) -> Iterator[tuple[str, int]]:
    line = look.statistics.of_all(look.counted, look.now)
    for prefix, amounts in (("total", line.total), ("avg", line.average)):
        for name, value in zip(Reading._fields, amounts, strict=True):
            yield f"{prefix}_{name}", value


TOTALS: Final[Table[tuple[str, int]]] = Table(
    "TOTALS",
    "SHOW STATS over all databases, a row for each number.",
    (
        Column("name", TEXT, lambda row: row[0], "`total_` or `avg_` and what it is"),
        Column("value", NUMERIC, lambda row: row[1], "the number"),
    ),
    _of_all,
)
