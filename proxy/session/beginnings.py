"""What sessions begin with, by ALTER ROLE SET and ALTER DATABASE SET.

Whoever is there when that changes goes on with what its session began with. Source of every column:
PostgreSQL documentation, "pg_db_role_setting" and "pg_settings".
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterable, Mapping

from proxy.session.inquiry import EQ, read_text, text_column, unhurried
from proxy.session.parameters import IDENTITY, quote

Rows = list[list[bytes | None]]

GIVEN = (
    "SELECT pg_catalog.unnest(s.setconfig)"
    " FROM pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid()) a,"
    f" pg_catalog.pg_db_role_setting s WHERE (s.setdatabase {EQ} 0 OR s.setdatabase {EQ} a.datid)"
    f" AND (s.setrole {EQ} 0 OR s.setrole {EQ} a.usesysid)"
)
"""What is set for sessions of this role in this database, whoever they act as now."""
_FIRST_COUNTS = f"ORDER BY s.setrole {EQ} 0,s.setdatabase {EQ} 0"
BEGINS = f"pg_catalog.array_to_json(ARRAY({GIVEN} {_FIRST_COUNTS}))::pg_catalog.text"


def begins(given: str | None) -> dict[str, str]:
    """What the column BEGINS says: by parameter, the value that counts."""
    pairs = [item.partition("=") for item in json.loads(given or "[]")]
    return {name.lower(): value for name, _, value in reversed(pairs)}


def former(
    before: Mapping[str, str], after: Mapping[str, str], *, elder: bool
) -> Generator[bytes, Rows, dict[str, str]]:
    """What sessions that are there go on with, as far as it is known and they may set it.

    Yields queries and wants their rows, as `proxy.session.catalog.look`. `elder`: the session that
    tells may have begun with what was before.
    """
    others = {name for name, _ in before.items() ^ after.items()}
    rows = yield unhurried(_began(others))
    began = {read_text(name) or "": read_text(value) for name, value in rows}
    found = {}
    if "role" in others:
        found["role"] = before.get("role", "none")
    for name in others:
        here = began.get(name)
        if name in before and (here is not None or ("." in name and name not in began)):
            found[name] = before[name]
        elif elder and here is not None and here != after.get(name):
            found[name] = here
    return (yield from _as_shown(found))


def _began(names: Iterable[str]) -> bytes:
    """With what the session that tells began, nothing for what only a superuser may set.

    An application's own parameters are not in it.
    """
    plain = ",".join(sorted(name for name in names if re.fullmatch(r"[a-z0-9_.]+", name)))
    value = text_column(f"CASE WHEN context {EQ} 'user' THEN reset_val END")
    return (
        f"SELECT {text_column('pg_catalog.lower(name)')},{value} FROM pg_catalog.pg_settings"
        f" WHERE pg_catalog.lower(name) {EQ} ANY('{{{plain}}}')"
    ).encode()


def _as_shown(former: dict[str, str]) -> Generator[bytes, Rows, dict[str, str]]:
    """The values as Postgres shows them; as they are where it cannot (any more)."""
    plain = {name: value for name, value in former.items() if name not in IDENTITY}
    if not plain:
        return former
    calls = [
        text_column(f"pg_catalog.set_config({quote(name)},{quote(value)},true)")
        for name, value in plain.items()
    ]
    try:
        (shown,) = yield unhurried(f"SELECT {','.join(calls)}".encode())
    except ValueError:
        return former
    values = [read_text(column) for column in shown]
    return {**former, **{n: v for n, v in zip(plain, values, strict=True) if v is not None}}
