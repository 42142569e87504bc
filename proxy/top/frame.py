"""One frame: a status as lines of text, cut to the width of the terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

Status = dict[str, Any]
Row = Sequence[str]

_IN_USE = ("active", "resetting", "cancelling")
_BAR = 20
_WIDEST = 32
_POOL_HEADS = ("POOL", "USER", "SERVERS", "", "IDLE", "WAITERS", "OLDEST", "CLIENTS", "TRANS/S")
# Which of them a narrow terminal does without, the first one first.
_DISPENSABLE = ("", "IDLE", "TRANS/S", "USER", "CLIENTS", "OLDEST")


@dataclass(frozen=True, slots=True)
class Line:
    """`kind`: plain, title or alarm."""

    text: str
    kind: str = "plain"


def frame(status: Status, width: int) -> list[Line]:
    """What the page shows, most important first; no line is wider than `width` columns."""
    pools = partial(_pools, width=width)
    parts = (_head, _now, pools, _clients, _pins, _logins, _troubles)
    lines = [line for part in parts for line in part(status)]
    return [Line(cut(line.text, width), line.kind) for line in lines]


def _head(status: Status) -> Iterator[Line]:
    up = f"up {lasting(status['uptime_s'])}"
    if status["ready"]:
        yield Line(f"pgfunnel {status['version']}  serving, {up}", "title")
    else:
        yield Line(f"pgfunnel {status['version']}  not taking new clients, {up}", "title")
        yield Line(status["why_not_ready"], "alarm")


def _now(status: Status) -> Iterator[Line]:
    clients, servers = status["clients"], status["servers"]
    in_use = sum(servers[state] for state in _IN_USE)
    recent = status["recent"]
    if recent is not None:
        yield Line(
            f"{recent['transactions_per_s']:,.0f} transactions/s, "
            f"{recent['queries_per_s']:,.0f} queries/s in the last {recent['seconds']:g} s"
        )
        yield Line(f"transaction  {_latency(recent['transaction'])}")
        yield Line(f"wait         {_latency(recent['wait'])}")
    yield Line(
        f"servers      {in_use:,} in use, {servers['idle']:,} idle, "
        f"{sum(servers.values()):,} in all; {status['waiters']:,} waiters"
    )
    connected = sum(clients.values()) - clients["login"]
    yield Line(f"clients      {connected:,} of {status['max_client_conn']:,}")


def _latency(found: dict[str, Any]) -> str:
    return f"p50 {between(found['p50_s'])}, p99 {between(found['p99_s'])}"


def _pools(status: Status, width: int) -> Iterator[Line]:
    pools = status["pools"]
    yield from _table(*_fitting(_POOL_HEADS, [_pool(pool) for pool in pools], width))
    for pool in pools:
        if pool["failing"]:
            yield Line(f"{pool['database']}: no login to Postgres: {pool['failing']}", "alarm")
    if left := status["pool_count"] - len(pools):
        yield Line(f"and {left:,} pools with less to do")


def _pool(pool: dict[str, Any]) -> Row:
    rate = pool["transactions_per_s"]
    return (
        pool["database"],
        pool["user"],
        f"{pool['in_use']}/{pool['size']}",
        bar(pool["in_use"], sum(pool["servers"].values()), pool["size"]),
        f"{pool['servers'].get('idle', 0):,}",
        f"{pool['waiting']:,}",
        lasting(pool["oldest_wait_s"]) if pool["waiting"] else "-",
        f"{pool['clients']:,}",
        "-" if rate is None else f"{rate:,.0f}",
    )


def _clients(status: Status) -> Iterator[Line]:
    states = ", ".join(f"{n:,} {state}" for state, n in status["clients"].items() if n)
    yield Line("")
    yield Line("CLIENTS", "title")
    yield Line(states or "none")


def _pins(status: Status) -> Iterator[Line]:
    rows = [(pin["reason"], f"{pin['clients']:,}", pin["advice"]) for pin in status["pins"]]
    if rows:
        yield from _table(("PINS", "CLIENTS", "HOW TO DO WITHOUT"), rows)


def _logins(status: Status) -> Iterator[Line]:
    logins = ", ".join(f"{n:,} {result}" for result, n in status["logins"].items())
    refusals = ", ".join(f"{n:,} told {code}" for code, n in status["refusals"].items())
    yield Line("")
    yield Line("LOGINS AND REFUSALS", "title")
    yield Line("; ".join(part for part in (logins, refusals) if part) or "none")


def _troubles(status: Status) -> Iterator[Line]:
    rows = [
        (
            f"{lasting(max(1.0, status['time'] - trouble['at']))} ago",
            f"{trouble['times']:,}",
            trouble["side"],
            " ".join(filter(None, (trouble["reason"], trouble["sqlstate"]))),
            f"{trouble['database']}/{trouble['user']}",
            trouble["words"] or trouble["meaning"],
        )
        for trouble in status["troubles"]
    ]
    if rows:
        yield from _table(("LAST TROUBLES", "TIMES", "SIDE", "REASON", "WHERE", "WORDS"), rows)


def _fitting(heads: Row, rows: Sequence[Row], width: int) -> tuple[Row, Sequence[Row]]:
    """The table without as many dispensable columns as do not fit; names are cut last."""
    for name in _DISPENSABLE:
        if sum(_widths([heads, *rows])) + 2 * len(heads) - 2 <= width:
            break
        kept = [i for i, head in enumerate(heads) if head != name]
        heads, *rows = ([row[i] for i in kept] for row in (heads, *rows))
    others = _widths([heads, *rows])[1:]
    room = max(1, width - sum(others) - 2 * len(others))
    return heads, [[cut(row[0], room), *row[1:]] for row in rows]


def _widths(rows: Sequence[Row]) -> list[int]:
    shown = [[columns(printable(cell)) for cell in row] for row in rows]
    return [min(_WIDEST, max(column)) for column in zip(*shown, strict=True)]


def _table(heads: Row, rows: Sequence[Row]) -> Iterator[Line]:
    """Columns as wide as what is in them, 32 at most; the last has what is left."""
    shown = [[printable(cell) for cell in row] for row in (heads, *rows)]
    widths = _widths(shown)
    yield Line("")
    for i, row in enumerate(shown):
        cells = [_padded(cell, width) for cell, width in zip(row[:-1], widths, strict=False)]
        yield Line("  ".join((*cells, row[-1])).rstrip(), "plain" if i else "title")


def _padded(text: str, width: int) -> str:
    short = cut(text, width)
    return short + " " * (width - columns(short))


def bar(used: int, open_: int, most: int) -> str:
    """`####==......`: in use, open, and room, of `most`."""
    scale = _BAR / max(most, open_, 1)
    full, there = round(used * scale), round(open_ * scale)
    return "#" * full + "=" * (there - full) + "." * (_BAR - there)


def lasting(seconds: float) -> str:
    """A duration in one unit."""
    if seconds < 1:
        return f"{float(f'{seconds * 1000:.2g}'):g} ms"
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:.3g} {unit}" if size == 1 else f"{seconds // size:g} {unit}"
    return f"{seconds // 86400:g} days"


def between(found: Sequence[float | None] | None) -> str:
    """A quantile as its bucket's bounds: at most the upper, more than the lower without one."""
    if found is None:
        return "-"
    above, upto = found
    return f"over {lasting(above or 0.0)}" if upto is None else f"<= {lasting(upto)}"


def printable(text: str) -> str:
    """The text without what could steer a terminal: names are whatever somebody made up."""
    return "".join(each if each.isprintable() else "?" for each in text)


def columns(text: str) -> int:
    """How many columns of a terminal the text takes."""
    return sum(map(_column, text))


def _column(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cut(text: str, width: int) -> str:
    """The text, printable and no wider than `width` columns; `~` says that some is missing."""
    text = printable(text)
    if columns(text) <= width:
        return text
    while text and columns(text) > width - 1:
        text = text[:-1]
    return text + "~"
