"""PgBouncer's ini file as a source of settings."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from proxy.settings import pgbouncer
from proxy.settings.databases import TABLES, peer_number
from proxy.settings.ini import Entry, IniReader, parse_pairs
from proxy.settings.sources import Source, suggestion

SUFFIXES: Final = (".ini", ".conf", ".cfg")
CONSOLE: Final = "pgbouncer"


class PgBouncerFile(Source):
    """The sections [pgbouncer], [databases], [users] and [peers] of a file.

    [pgfunnel] stands beside [pgbouncer] for settings that PgBouncer does not have; either takes
    all. Lines that mean the same setting: the last one wins.
    """

    def __init__(self, file: Path) -> None:
        super().__init__({})
        self.file = file
        self._places: dict[tuple[str, ...], str] = {}
        self._found: list[str] = []
        self._ignored: dict[str, Entry] = {}
        reader = IniReader(file)
        self._found += reader.problems
        for entry in reader.entries:
            self._read(entry)
        self._fill_in()
        self.problems = tuple(self._found)
        self.notes = tuple(self._said())
        given = {key: entry.value for key, entry in self._ignored.items()}
        self.unused = given | {"conffile": str(file)}

    def origin(self, path: tuple[str, ...]) -> str:
        for length in range(len(path), 0, -1):
            if path[:length] in self._places:
                return self._places[path[:length]]
        return "PgBouncer's default"

    def _read(self, entry: Entry) -> None:
        sections: Mapping[str, Callable[[Entry], None]] = {
            "pgbouncer": self._setting,
            "pgfunnel": self._setting,
            "databases": self._database,
            "users": self._user,
            "peers": self._peer,
        }
        read = sections.get(entry.section)
        if read is None:
            where = f"section [{entry.section}]" if entry.section else "a line before any section"
            remedy = "write it under [pgbouncer], [pgfunnel], [databases], [users] or [peers]"
            self._wrong(entry, f"{where} means nothing; {remedy}")
            return
        try:
            read(entry)
        except ValueError as problem:
            self._wrong(entry, f"{entry.key} {problem}")

    def _wrong(self, entry: Entry, words: str) -> None:
        self._found.append(f"{entry.place}: {words}")

    # -- [pgbouncer] -----------------------------------------------------------------------

    def _setting(self, entry: Entry) -> None:
        name = pgbouncer.setting_of(entry.key)
        if name is not None:
            self.values[name] = _translated(name, entry.value)
            self._places[name,] = entry.place
        elif entry.key in pgbouncer.IGNORED:
            self._ignore(entry)
        else:
            raise ValueError(f"is not a setting; {suggestion(entry.key, _known())}")

    def _ignore(self, entry: Entry) -> None:
        self._ignored.pop(entry.key, None)
        if not pgbouncer.asks_for_nothing(pgbouncer.GLOBAL[entry.key], entry.value):
            self._ignored[entry.key] = entry

    # -- [databases], [users], [peers] -----------------------------------------------------

    def _database(self, entry: Entry) -> None:
        if entry.key == CONSOLE:
            raise ValueError("is the name of the admin console; call the database otherwise")
        self._table("databases", entry)

    def _user(self, entry: Entry) -> None:
        self._table("users", entry)

    def _table(self, table: str, entry: Entry) -> None:
        values = {}
        for key, value in parse_pairs(entry.value):
            name = pgbouncer.ALIASES.get(key, key)
            known = TABLES[table].model_fields
            if name not in known:
                raise ValueError(f"has an unknown key {key}; {suggestion(key, known)}")
            values[name] = value
        for name, text in pgbouncer.INHERITED.items():
            if values.get(name) == text:
                del values[name]
        self.values.setdefault(table, {})[entry.key] = values
        self._places[table, entry.key] = entry.place
        self._places.setdefault((table,), entry.place)

    def _peer(self, entry: Entry) -> None:
        peer_number(entry.key)
        self._table("peers", entry)

    # -- what follows from the whole -------------------------------------------------------

    def _fill_in(self) -> None:
        """What PgBouncer does where the file is silent."""
        for name in pgbouncer.AS_THERE:
            self.values.setdefault(name, pgbouncer.GLOBAL[name])
        usable = os.access(pgbouncer.SOCKET_FOLDER, os.W_OK | os.X_OK)
        if ("unix_socket_dir",) not in self._places and not usable:
            self.values["unix_socket_dir"] = ""
        folder = self.values["unix_socket_dir"] or pgbouncer.SOCKET_FOLDER
        self.values.setdefault("databases", {})
        for table in ("databases", "peers"):
            entries: dict[str, dict[str, Any]] = self.values.get(table, {})
            for values in entries.values():
                values["host"] = values.get("host") or folder

    def _said(self) -> list[str]:
        return [
            f"{entry.place}: {key} is accepted and has no effect: {pgbouncer.IGNORED[key]}"
            for key, entry in self._ignored.items()
        ]


def _translated(name: str, value: str) -> str:
    """PgBouncer's `<empty>` is an empty statement, which `;` is too."""
    return ";" if name == "server_check_query" and value == "<empty>" else value


def _known() -> set[str]:
    from proxy.settings.model import Settings

    return {*pgbouncer.GLOBAL, *Settings.model_fields}
