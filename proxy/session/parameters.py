"""Session parameters: what one client set, and how a server is brought to it.

Sets of parameters are interned, so that "this server is set as this client wants" is one
comparison of identity on the way of a transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from weakref import WeakValueDictionary

_HARMLESS = frozenset(
    {
        "application_name",
        "client_min_messages",
        "extra_float_digits",
        "bytea_output",
        "statement_timeout",
        "lock_timeout",
        "idle_in_transaction_session_timeout",
        "client_connection_check_interval",
    }
)
"""Parameters that cannot change what the text of a statement means once it is parsed."""

_CERTAIN = frozenset(
    {
        "application_name",
        "client_encoding",
        "client_min_messages",
        "datestyle",
        "extra_float_digits",
        "intervalstyle",
        "search_path",
        "standard_conforming_strings",
        "timezone",
    }
)
"""Parameters whose setting to a value that was valid before cannot fail, nor time out."""


READ_ONLY = frozenset(
    {"in_hot_standby", "integer_datetimes", "is_superuser", "server_encoding", "server_version"}
)
"""Parameters that a server reports and nobody can set."""


class Parameters:
    """An immutable, interned mapping of parameter names (lower case) to values.

    Equal sets are the same object. `meaning` is the part that can change what a statement means.
    """

    __slots__ = ("__weakref__", "meaning", "values")

    values: Mapping[str, str]
    meaning: tuple[tuple[str, str], ...]

    @staticmethod
    def of(values: Mapping[str, str]) -> Parameters:
        key = tuple(sorted(values.items()))
        known = _interned.get(key)
        if known is None:
            known = Parameters()
            known.values = dict(key)
            known.meaning = tuple(item for item in key if item[0] not in _HARMLESS)
            _interned[key] = known
        return known

    def with_value(self, name: str, value: str | None) -> Parameters:
        """The same set with one parameter changed; None takes it out."""
        changed = {k: v for k, v in self.values.items() if k != name}
        if value is not None:
            changed[name] = value
        return Parameters.of(changed)

    def __repr__(self) -> str:
        return f"Parameters({', '.join(self.values)})"


_interned: WeakValueDictionary[tuple[tuple[str, str], ...], Parameters] = WeakValueDictionary()

NONE = Parameters.of({})


def quote(text: str) -> str:
    """A string literal that reads the same whatever standard_conforming_strings says."""
    doubled = text.replace("'", "''")
    if "\\" not in doubled:
        return f"'{doubled}'"
    return " E'" + doubled.replace("\\", "\\\\") + "'"


@lru_cache(maxsize=4096)
def difference(have: Parameters, want: Parameters) -> bytes:
    """SQL that brings a server from `have` to `want`: one SELECT of set_config() calls."""
    return settings_query(
        [(name, want.values.get(name)) for name in _changed(have, want)],
    )


def settings_query(values: Iterable[tuple[str, str | None]]) -> bytes:
    """SELECT set_config(…) for names with values; None resets to the server's default.

    Source: PostgreSQL documentation, "Configuration Settings Functions".
    """
    calls = (
        f"pg_catalog.set_config({quote(name)},{'NULL' if value is None else quote(value)},false)"
        for name, value in values
    )
    return ("SELECT " + ",".join(calls)).encode()


@lru_cache(maxsize=4096)
def certain(have: Parameters, want: Parameters) -> bool:
    """Whether bringing a server from `have` to `want` cannot fail.

    Only then may the client's bytes follow in the same write: had the change failed, they
    would run in a session that is not set as the client believes.
    """
    return "statement_timeout" not in have.values and _changed(have, want) <= _CERTAIN


def _changed(have: Parameters, want: Parameters) -> set[str]:
    names = set(have.values) | set(want.values)
    return {name for name in names if have.values.get(name) != want.values.get(name)}
