"""Session parameters: what one client set, and how a server is brought to it.

Sets of parameters are interned, so that "this server is set as this client wants" is one
comparison of identity on the way of a transaction. The statements that a client made by PREPARE
travel with its parameters: another server lacks both in the same way.

Postgres reads the text of a statement when it is prepared, and again at EXECUTE where search_path
or the schema has changed; what it returns and which parameters it takes stays as it was (source:
PostgreSQL documentation, "PREPARE"). So it is prepared anew under the parameters of its first time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple
from weakref import WeakValueDictionary

import cython

_HARMLESS = frozenset(
    {
        "application_name",
        "client_connection_check_interval",
        "client_min_messages",
        "commit_delay",
        "cursor_tuple_fraction",
        "deadlock_timeout",
        "effective_cache_size",
        "effective_io_concurrency",
        "from_collapse_limit",
        "hash_mem_multiplier",
        "idle_in_transaction_session_timeout",
        "idle_session_timeout",
        "join_collapse_limit",
        "lock_timeout",
        "log_min_messages",
        "log_statement",
        "maintenance_work_mem",
        "plan_cache_mode",
        "random_page_cost",
        "seq_page_cost",
        "statement_timeout",
        "synchronous_commit",
        "temp_buffers",
        "transaction_timeout",
        "work_mem",
    }
)
"""Parameters that cannot change what a statement means once it is parsed, nor what it returns
once it is planned: constants are written out then (`bytea_output`, `extra_float_digits`).

Names with a dot (an application's own) and `enable_…` (the planner's) are none that can, either.
"""

_STICKY = frozenset({"temp_buffers"})
"""Parameters that a server does not change once it has used temporary tables (source: PostgreSQL
documentation, "Resource Consumption")."""

_UNCERTAIN = frozenset(
    {
        *_STICKY,
        "role",
        "session_authorization",
        "default_tablespace",
        "temp_tablespaces",
        "default_table_access_method",
        "default_text_search_config",
    }
)
"""Parameters whose setting to a value that was valid before may fail all the same.

So may one of a library's own prefix (`_RESERVED`): it takes away what it does not know when it is
loaded (PostgreSQL documentation, "Customized Options"); PL/pgSQL is with its first function.
"""

UNTOLD = (
    "array_nulls",
    "backslash_quote",
    "lc_monetary",
    "timezone_abbreviations",
    "transform_null_equals",
    "xmloption",
)
"""Parameters that the constants of a text are read under, and that Postgres does not report."""

TOLD = ("client_encoding", "datestyle", "intervalstyle", "standard_conforming_strings", "timezone")
"""Those that it reports, when it is ready for the next query."""

READ_UNDER = frozenset({"search_path", *TOLD, *UNTOLD})
"""Parameters that the constants of a text are read under, and search_path, its names."""

USUAL_PATH = '"$user", public'
"""search_path where nobody has set another."""

READ_ONLY = frozenset(
    {"in_hot_standby", "integer_datetimes", "is_superuser", "server_encoding", "server_version"}
)
"""Parameters that a server reports and nobody can set."""

OF_TRANSACTIONS = frozenset(
    {"transaction_deferrable", "transaction_isolation", "transaction_read_only"}
)
"""Parameters that Postgres sets anew when a transaction begins."""

IDENTITY = ("session_authorization", "role")
"""Whom a session acts as: given up first, taken on last, and left alone by RESET ALL."""

IMPATIENT = frozenset({"lock_timeout", "statement_timeout", "transaction_timeout"})
"""Parameters that could end a query of ours."""

_HASTY = re.compile(r"[1-9]\d{0,2}(?:ms)?", re.ASCII)


def hasty(timeout: str) -> bool:
    """Whether a time limit, as Postgres shows it, is of less than a second."""
    return _HASTY.fullmatch(timeout) is not None


Meaning = tuple[tuple[str, str], ...]
"""The parameters, with their values, that can change what the text of a statement means."""


class Prepared(NamedTuple):
    """A statement made by PREPARE, and the parameters that its text was read under."""

    text: str
    meaning: Meaning = ()

    @staticmethod
    def under(text: str, meaning: Meaning) -> Prepared:
        """Text is kept as text: in which encoding it came says nothing any more."""
        kept = dict(meaning)
        kept.pop("client_encoding", None)
        if not text.isascii():
            kept["client_encoding"] = "UTF8"
        return Prepared(text, _same(tuple(sorted(kept.items()))))


NOBODYS = Prepared("")
"""A statement at a server that no client has made by PREPARE, to be dropped."""


_NOT_IN_PLANS = frozenset({"client_encoding", "role", "search_path", "session_authorization"})
"""Parameters that no plan depends on, or that Postgres looks at itself before it uses one again."""

FORGET_PLANS = b"DISCARD PLANS"


@lru_cache(maxsize=4096)
def replans(planned: Meaning, now: Meaning) -> bool:
    """Whether plans made under one meaning may give other results than plans under the other."""
    before, after = (
        tuple(item for item in each if item[0] not in _NOT_IN_PLANS) for each in (planned, now)
    )
    return before != after


@cython.cclass
class Parameters:
    """An immutable, interned mapping of parameter names (lower case) to values.

    Equal sets are the same object. `statements` are those made by PREPARE, by name; `meaning` is
    the part that can change what a statement means; `ways`: how servers were brought to this set
    lately, by what they lacked (see `change`); `hasty`: a time limit of less than a second is
    among them.
    """

    values: Mapping[str, str]
    statements: Mapping[str, Prepared]
    meaning: Meaning
    ways: dict[tuple[tuple[str, ...], ...], tuple[bytes, bool]]

    @staticmethod
    def of(
        values: Mapping[str, str], statements: Mapping[str, Prepared] | None = None
    ) -> Parameters:
        key = tuple(sorted(values.items()))
        prepared = tuple(sorted(statements.items())) if statements else ()
        known = _interned.get((key, prepared))
        if known is None:
            known = _interned[key, prepared] = Parameters(key, prepared)
        return known

    def __init__(
        self, values: Iterable[tuple[str, str]], statements: Iterable[tuple[str, Prepared]]
    ) -> None:
        self.values = dict(values)
        self.statements = dict(statements)
        self.meaning = _same(tuple(item for item in self.values.items() if has_meaning(item[0])))
        self.ways = {}
        self.hasty = any(n in self.values and hasty(self.values[n]) for n in IMPATIENT)

    def with_value(self, name: str, value: str | None) -> Parameters:
        """The same set with one parameter changed; None takes it out."""
        return self.with_values({name: value})

    def with_values(self, changes: Mapping[str, str | None]) -> Parameters:
        """The same set with some parameters changed; None takes one out."""
        if all(self.values.get(name) == value for name, value in changes.items()):
            return self
        changed = {**self.values, **changes}
        kept = {name: value for name, value in changed.items() if value is not None}
        return Parameters.of(kept, self.statements)

    def with_statements(self, statements: Mapping[str, Prepared]) -> Parameters:
        """The same values with other prepared statements."""
        return self if self.statements == statements else Parameters.of(self.values, statements)

    def planned_anew(self) -> Parameters:
        """What is left at a server whose plans were discarded: Postgres reads a statement anew
        when it plans it anew, under what holds then, so all are to be made again."""
        return self.with_statements(dict.fromkeys(self.statements, NOBODYS))

    def unlimited(self) -> Parameters:
        """What is left where its time limits are reset."""
        return self.with_values(dict.fromkeys(IMPATIENT))

    def but_for(self, startup: Parameters) -> Parameters:
        """What RESET ALL leaves of this set in a session that began as `startup`."""
        kept = {name: self.values[name] for name in IDENTITY if name in self.values}
        return Parameters.of({**startup.values, **kept}, self.statements)

    def __repr__(self) -> str:
        return f"Parameters({', '.join([*self.values, *self.statements])})"


@lru_cache(maxsize=10_000)
def _same(meaning: Meaning) -> Meaning:
    """Equal meanings as one object."""
    return meaning


_Key = tuple[tuple[tuple[str, str], ...], tuple[tuple[str, Prepared], ...]]
_interned: WeakValueDictionary[_Key, Parameters] = WeakValueDictionary()

NONE = Parameters.of({})

_MOST_WAYS = 16
_MOST_COLUMNS = 1000


def has_meaning(name: str) -> bool:
    """Whether the parameter can change what the text of a statement means."""
    return name not in _HARMLESS and "." not in name and not name.startswith("enable_")


_RESERVED = frozenset(
    {
        "auth_delay",
        "auto_explain",
        "basic_archive",
        "pg_prewarm",
        "pg_stat_statements",
        "pg_trgm",
        "plperl",
        "plpgsql",
        "pltcl",
        "postgres_fdw",
        "sepgsql",
    }
)
"""Prefixes of names that libraries of Postgres's own keep for themselves once they are loaded."""

_PLACEHOLDER = re.compile(r"[a-z_][a-z0-9_$]*(?:\.[a-z_][a-z0-9_$]*)+", re.ASCII)


def is_placeholder(name: str) -> bool:
    """Whether a parameter of this name is an application's own, and may be set anywhere."""
    return _PLACEHOLDER.fullmatch(name) is not None and not _is_reserved(name)


def _is_reserved(name: str) -> bool:
    return name.partition(".")[0] in _RESERVED


def placeholders_query(names: Iterable[str]) -> str:
    """SELECT … that makes these names known, as '', where they are not.

    Postgres keeps a name for as long as a session lives (source: PostgreSQL documentation,
    "Customized Options").
    """
    unknown = (f"pg_catalog.current_setting('{name}',true) IS NULL" for name in names)
    pairs = zip(names, unknown, strict=True)
    calls = (f"CASE WHEN {no} THEN {_set_config(name, '')} END" for name, no in pairs)
    return "SELECT " + ",".join(calls)


def quote(text: str) -> str:
    """A string literal that reads the same whatever the parameters of the session are."""
    if not text.isascii():
        # What is no text names no parameter of Postgres's.
        octets = text.encode("utf-8", "replace").hex()
        return f"pg_catalog.convert_from(pg_catalog.decode('{octets}','hex'),'UTF8')"
    doubled = text.replace("'", "''")
    if "\\" not in doubled:
        return f"'{doubled}'"
    return " E'" + doubled.replace("\\", "\\\\") + "'"


def quote_name(name: str) -> str:
    """An identifier, quoted."""
    return '"' + name.replace('"', '""') + '"'


def difference(have: Parameters, want: Parameters) -> bytes:
    """SQL that brings a server from `have` to `want`, but for statements to be prepared.

    One SELECT of set_config() calls, and DEALLOCATE for statements that are to go; empty when
    there is nothing to do.
    """
    return change(have, want)[0]


def certain(have: Parameters, want: Parameters) -> bool:
    """Whether bringing a server from `have` to `want` cannot fail."""
    return change(have, want)[1]


def sticks(have: Parameters, want: Parameters) -> bool:
    """Whether another server may take what one set as `have` refuses."""
    return any(have.values.get(name) != want.values.get(name) for name in _STICKY)


def change(have: Parameters, want: Parameters) -> tuple[bytes, bool]:
    """`difference`, and whether it cannot fail.

    Only then may the client's bytes follow in the same write: had the change failed, they
    would run in a session that is not set as the client believes. Values are taken to be valid:
    a server has accepted them before.
    """
    before, after = have.values, want.values
    gone = [name for name in before if name not in after]
    changed = [name for name, value in after.items() if before.get(name) != value]
    leaving = tuple(_leaving(have, want))
    sure = not leaving and (not want.statements or not preparations(have, want))
    way = (*gone, *changed), tuple(n for n in IDENTITY if n in before), leaving
    known = want.ways.get(way)
    if known is None:
        if len(want.ways) >= _MOST_WAYS:
            want.ways.clear()
        known = want.ways[way] = _change(want, *way)
    return known[0], known[1] and sure and "statement_timeout" not in before


def _change(
    want: Parameters, changed: tuple[str, ...], acting: tuple[str, ...], leaving: tuple[str, ...]
) -> tuple[bytes, bool]:
    """`acting`: whom the server acts as now, by the names of IDENTITY."""
    commands = [f"DEALLOCATE {quote_name(name)}" for name in leaving]
    if changed:
        commands.insert(0, settings_query(_changes(want, changed, acting)))
    reserved = any(map(_is_reserved, changed))
    certain = "role" not in acting and not reserved and _UNCERTAIN.isdisjoint(changed)
    return ";".join(commands).encode(), certain


def canonical(asked: Parameters, row: Sequence[bytes | None]) -> dict[str, str]:
    """`asked` as the server itself writes it: `row` is what difference(NONE, asked) returned."""
    names = [name for name, _ in _changes(asked, asked.values)]
    if len(row) != len(names):
        return dict(asked.values)
    shown = {n: v.decode("utf-8", "replace") for n, v in zip(names, row, strict=True) if v}
    return {**asked.values, **{n: v for n, v in shown.items() if "\ufffd" not in v}}


def staging(have: Parameters, want: Parameters) -> Parameters:
    """What a server set as `have` is to be next on its way to `want`.

    `want` itself, unless it lacks statements: they come first, some at a time, each under the
    parameters that it was prepared under.
    """
    stages = [_stage(have, want, lacked) for lacked in preparations(have, want).values()]
    return have if have in stages else stages[0] if stages else want


def _stage(have: Parameters, want: Parameters, lacked: Prepared) -> Parameters:
    """What has no meaning is as it is wanted, if it does no harm; so one step may do for all."""
    kept = {n: v for n, v in want.values.items() if not has_meaning(n) and n not in IMPATIENT}
    if "client_encoding" in want.values:
        kept["client_encoding"] = want.values["client_encoding"]
    there = have.statements.items()
    staying = {name: each for name, each in there if want.statements.get(name) == each}
    return Parameters.of({**kept, **dict(lacked.meaning)}, staying)


def stageable(stage: Parameters, want: Parameters) -> dict[str, Prepared]:
    """Those of the statements of `want` that a server set as `stage` lacks and may prepare."""
    lacking = preparations(stage, want)
    return {n: each for n, each in lacking.items() if _stage(stage, want, each) is stage}


def preparations(have: Parameters, want: Parameters) -> dict[str, Prepared]:
    """The statements made by PREPARE that a server set as `have` still needs."""
    return {n: each for n, each in want.statements.items() if have.statements.get(n) != each}


def settings_query(values: Iterable[tuple[str, str | None]], locally: bool = False) -> str:
    """SELECT set_config(…) for names with values; None resets to the server's default.

    `locally`: for the transaction alone. Several of them where Postgres would not allow so many
    columns in one. Source: PostgreSQL documentation, "Configuration Settings Functions".
    """
    calls = [_set_config(name, value, locally) for name, value in values]
    first = range(0, len(calls), _MOST_COLUMNS)
    return ";".join("SELECT " + ",".join(calls[at : at + _MOST_COLUMNS]) for at in first)


def _set_config(name: str, value: str | None, locally: bool = False) -> str:
    """One call; what may not exist in the client's encoding is not returned (but NULL is)."""
    new, ends = "NULL" if value is None else quote(value), "true" if locally else "false"
    call = f"pg_catalog.set_config({quote(name)},{new},{ends})"
    if value is None or value.isascii():
        return call
    return f"CASE WHEN {call} IS NULL THEN '' END"


def _changes(
    want: Parameters, changed: Iterable[str], acting: Iterable[str] = ()
) -> list[tuple[str, str | None]]:
    """In the order in which Postgres allows them: what a role may not do is done before it."""
    up = [(name, None) for name in reversed(IDENTITY) if name in acting]
    if "session_authorization" in acting:
        up.append(("role", None))  # which it has changed
    plain = [(n, want.values.get(n)) for n in sorted(set(changed).difference(IDENTITY))]
    down = [(name, want.values[name]) for name in IDENTITY if name in want.values]
    return [*up, *plain, *down]


def _leaving(have: Parameters, want: Parameters) -> list[str]:
    if have.statements is want.statements:
        return []
    return [n for n, each in have.statements.items() if want.statements.get(n) != each]
