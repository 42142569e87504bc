"""What a client's statements did to its session: asked of the server at the boundary.

A text only tells what a statement may do: it may fail, be rolled back, or do it through a
function. So a session gathers a `Doubt` on the way, `question` turns it into one SELECT of ours,
and `read_answer` says what is true. Source of every column: PostgreSQL documentation, "System
Views" and "System Information Functions".
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from proxy.conditions import ADVISORY, HOLD, LISTEN, PREPARED, TEMP
from proxy.session.findings import Verdict
from proxy.session.parameters import OF_TRANSACTIONS, quote
from proxy.session.preparing import Readings

EQ = "OPERATOR(pg_catalog.=)"
"""Postgres's own, whatever search_path is."""

_HELD = {
    LISTEN: "EXISTS(SELECT FROM pg_catalog.pg_listening_channels())",
    ADVISORY: (
        f"EXISTS(SELECT FROM pg_catalog.pg_locks WHERE locktype {EQ} 'advisory'"
        f" AND pid {EQ} pg_catalog.pg_backend_pid())"
    ),
    TEMP: (
        "EXISTS(SELECT FROM pg_catalog.pg_depend"
        f" WHERE refclassid {EQ} 'pg_catalog.pg_namespace'::pg_catalog.regclass"
        f" AND refobjid {EQ} pg_catalog.pg_my_temp_schema())"
    ),
    HOLD: "EXISTS(SELECT FROM pg_catalog.pg_cursors WHERE is_holdable)",
}
"""How the server is asked whether a client still holds something: true or false."""

ASKABLE = LISTEN | ADVISORY | TEMP | HOLD
"""Conditions whose end the server can tell."""

_NOT_OF_THE_SESSION = OF_TRANSACTIONS | {"seed"}


@dataclass(slots=True)
class Doubt:
    """What is to be asked at the next boundary.

    `names`: parameters that may have been set; `reported`: those among them that Postgres tells of
    unless they were set to what they are anyway; `resets`: that may have been put back to their
    start; `locally`: those of them where that was for the transaction alone, since they were put
    right last; `masked`: what texts are read under was set behind them, for a moment; `everything`:
    which ones cannot be told; `identity`: so may whom it acts as. `reset`: the only statement,
    whose outcome is known unless it fails. `readings`: of PREPARE, if there was one. `text`: of the
    last of the statements.
    """

    names: set[str] = field(default_factory=set)
    reported: set[str] = field(default_factory=set)
    resets: set[str] = field(default_factory=set)
    locally: set[str] = field(default_factory=set)
    masked: bool = False
    everything: bool = False
    identity: bool = False
    reset: Verdict | None = None
    readings: Readings | None = None
    text: bytes = b""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server says, of what it was asked.

    `held`: the conditions that hold. `values`: parameters as they are now. `settled`: those
    of Postgres's own among them that somebody set in this session. `session`: every parameter that
    was set, None when not asked; `default`: those among them that were set to what they were
    before. `above`: what was set that takes more than an ordinary user.
    `statements`: the strings that PREPARE came in, by the name it gave, None when not asked.
    `strays`: the texts of protocol-level statements not of pgfunnel's making, by name; `ours`: how
    many there are of its making, None when not asked.
    """

    held: int = 0
    values: dict[str, str | None] = field(default_factory=dict)
    settled: frozenset[str] = frozenset()
    session: dict[str, str] | None = None
    default: frozenset[str] = frozenset()
    above: frozenset[str] = frozenset()
    statements: dict[str, str] | None = None
    strays: dict[str, str] = field(default_factory=dict)
    ours: int | None = None


_FEW = 10
"""So many parameters have columns of their own, which costs Postgres less; all of more are one
column, since it allows 1,664."""
_SHORT = 1000
"""Bytes of names; a question with more is not kept."""


def question(asks: int, names: Sequence[str], own: Sequence[str], everything: bool) -> bytes:
    """One SELECT whose single row `read_answer` understands, given the same arguments.

    `own`: those of the names that are Postgres's own.
    """
    short = len(names) <= _FEW and sum(map(len, names)) <= _SHORT
    return (_question if short else _question.__wrapped__)(asks, names, own, everything)


@lru_cache(maxsize=1024)
def _question(asks: int, names: Sequence[str], own: Sequence[str], everything: bool) -> bytes:
    columns = [sql for condition, sql in _HELD.items() if asks & condition]
    if len(names) <= _FEW:
        columns += [text_column(_setting(quote(name))) for name in names]
    else:
        each = f"{_setting('n')} FROM pg_catalog.unnest(ARRAY[{','.join(map(quote, names))}]) n"
        columns.append(_json(f"pg_catalog.array_to_json(ARRAY(SELECT {each}))"))
    if everything:
        columns.append(_set("true"))
    elif own:
        columns.append(_set(f"pg_catalog.lower(name) {EQ} ANY(ARRAY[{','.join(map(quote, own))}])"))
    if asks & PREPARED:
        columns += [_STATEMENTS, _STRAYS, _OURS]
    return f"SELECT {','.join(columns)}".encode()


def read_answer(
    asks: int,
    names: Sequence[str],
    own: Sequence[str],
    everything: bool,
    row: Sequence[bytes | None],
) -> Answer:
    """What the row says that `question` brought. Raises ValueError when it says nothing of it."""
    columns = iter(row)
    held = sum(c for c in _HELD if asks & c and next(columns) == b"t")
    if len(names) <= _FEW:
        values = {name: read_text(next(columns)) for name in names}
    else:
        values = dict(zip(names, json.loads(read_text(next(columns)) or "[]"), strict=True))
    known = _session(read_text(next(columns))) if everything or own else {}
    settled = frozenset(name for name in own if name in known)
    session = {name: value for name, (value, _, _) in known.items()} if everything else None
    default = frozenset(name for name, (_, same, _) in known.items() if same)
    above = frozenset(name for name, (_, _, anybodys) in known.items() if not anybodys)
    if not asks & PREPARED:
        return Answer(held, values, settled, session, default, above)
    told = json.loads(read_text(next(columns)) or "[]")
    statements = {name: statement for statement, names in told for name in names}
    strays = json.loads(read_text(next(columns)) or "{}")
    ours = int(next(columns) or b"")
    return Answer(held, values, settled, session, default, above, statements, strays, ours)


def text_column(expression: str, encoding: str = "'UTF8'") -> str:
    """In hexadecimal, whatever the session's client_encoding is. Postgres fails where it cannot."""
    return f"pg_catalog.encode(pg_catalog.convert_to({expression},{encoding}),'hex')"


def read_text(column: bytes | None, errors: str = "strict") -> str | None:
    """What a text_column says. Raises ValueError where it is not UTF-8, unless `errors` is
    "surrogateescape"."""
    return None if column is None else bytes.fromhex(column.decode("ascii")).decode("utf-8", errors)


def unhurried(query: bytes) -> bytes:
    """The query, whatever time limits, kinds of transactions and plans the session has by default.

    What shows a rule's definition runs queries itself, whose operators are those of search_path.
    """
    return _UNHURRIED + query


_PLANNING = ("seqscan", "indexscan", "bitmapscan", "nestloop", "hashjoin", "mergejoin", "sort")
_UNHURRIED = b"".join(
    (
        b"SET LOCAL statement_timeout=0;SET LOCAL search_path=pg_catalog;SET LOCAL jit=off;",
        *(b"SET LOCAL enable_%s=on;" % kind.encode() for kind in _PLANNING),
        b"SET TRANSACTION ISOLATION LEVEL READ COMMITTED;",
    )
)


def _setting(name: str) -> str:
    return f"pg_catalog.current_setting({name},true)"


def _json(expression: str) -> str:
    return text_column(f"{expression}::pg_catalog.text")


_SET = _json(
    "pg_catalog.json_object_agg(pg_catalog.lower(name),pg_catalog.json_build_array("
    f"pg_catalog.current_setting(name),setting {EQ} reset_val,context {EQ} 'user'))"
)


def _set(condition: str) -> str:
    """The parameters of Postgres's own that were set in this session."""
    where = f"source {EQ} 'session' AND {condition}"
    return f"(SELECT {_SET} FROM pg_catalog.pg_settings WHERE {where})"


# All that came in one string have the whole of it as their statement.
_STATEMENTS = (
    "(SELECT "
    + _json("pg_catalog.json_agg(pg_catalog.json_build_array(statement,names))")
    + " FROM (SELECT statement,pg_catalog.json_agg(name) AS names"
    + " FROM pg_catalog.pg_prepared_statements WHERE from_sql GROUP BY statement) s)"
)
_OF_THE_PROTOCOL = " FROM pg_catalog.pg_prepared_statements WHERE NOT from_sql"
_IS_OURS = "pg_catalog.starts_with(name,'pgfunnel_')"
_STRAYS = (
    "(SELECT "
    + _json("pg_catalog.json_object_agg(name,statement)")
    + f"{_OF_THE_PROTOCOL} AND NOT {_IS_OURS})"
)
_OURS = f"(SELECT pg_catalog.count(*){_OF_THE_PROTOCOL} AND {_IS_OURS})"


def _session(text: str | None) -> dict[str, tuple[str, bool | None, bool]]:
    found: dict[str, tuple[str, bool | None, bool]] = json.loads(text or "{}")
    return {name: known for name, known in found.items() if name not in _NOT_OF_THE_SESSION}
