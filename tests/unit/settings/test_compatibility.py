"""The page about PgBouncer is current and true."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.settings import Settings, compatibility, pgbouncer
from proxy.settings.compatibility import NO_USE, SAME
from proxy.settings.databases import TABLES

DOCS = Path(__file__).parents[3] / "docs"


def test_the_page_is_current() -> None:
    remedy = "run `python -m proxy.settings.compatibility > docs/compatibility.md`"
    found = (DOCS / "compatibility.md").read_text()
    assert found == compatibility.page().rstrip() + "\n", remedy


def test_nothing_is_both_declared_and_ignored() -> None:
    assert not [key for key in pgbouncer.IGNORED if pgbouncer.setting_of(key)]
    assert pgbouncer.IGNORED.keys() <= pgbouncer.GLOBAL.keys()
    assert set(pgbouncer.RENAMED) <= pgbouncer.GLOBAL.keys()


def test_everything_of_pgbouncers_is_known_here() -> None:
    assert not [
        key
        for key in pgbouncer.GLOBAL
        if pgbouncer.setting_of(key) is None and key not in pgbouncer.IGNORED
    ]
    for table, keys in pgbouncer.TABLES.items():
        known = TABLES[table].model_fields.keys() | pgbouncer.ALIASES.keys()
        assert keys.keys() <= known


def test_every_key_of_a_table_is_known_there() -> None:
    for table, model in TABLES.items():
        ours_alone = model.model_fields.keys() - pgbouncer.TABLES[table].keys()
        limits = {f"{what}_timeout" for what in ("query", "transaction", "idle_transaction")}
        assert ours_alone <= {"session_policy", "sslmode", "client_idle_timeout"} | limits


@pytest.mark.parametrize("method", list(compatibility.METHODS))
def test_the_methods_are_as_it_says(method: str) -> None:
    status, _ = compatibility.METHODS[method]
    try:
        Settings(auth_type=method)  # type: ignore[arg-type]
    except ValueError:
        assert status == NO_USE
    else:
        assert status == SAME
