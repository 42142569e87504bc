"""Reads the settings from all sources and names every problem at once, in plain words."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from proxy.errors import SettingsError
from proxy.settings.checks import CHECKS
from proxy.settings.databases import TABLES
from proxy.settings.dsn import Dsn
from proxy.settings.model import Settings, reading
from proxy.settings.pgbouncer import other_defaults
from proxy.settings.pgbouncer_file import SUFFIXES, PgBouncerFile
from proxy.settings.sources import Environment, File, Options, Source, suggestion
from proxy.settings.types import declared, kind, printed

_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True)
class Understood:
    """The settings, and where they come from.

    `given`: what was set and where, as `name = value (origin)`, without secrets; `notes`: what
    was accepted and has no effect.
    """

    settings: Settings
    given: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def load(
    argv_overrides: Mapping[str, str] = _NOTHING,
    *,
    environ: Mapping[str, str] = os.environ,
    file: Path | None = None,
) -> Settings:
    """The settings that `understand` reads. Raises SettingsError with every problem found."""
    return understand(argv_overrides, environ=environ, file=file).settings


def understand(
    argv_overrides: Mapping[str, str] = _NOTHING,
    *,
    environ: Mapping[str, str] = os.environ,
    file: Path | None = None,
) -> Understood:
    """Read settings: options come first, then environment, then file, then defaults.

    `argv_overrides` maps a setting's name to its text. Without `file`, PGFUNNEL_CONFIG may name
    one; it is PgBouncer's when it ends in .ini, .conf or .cfg, else TOML. Raises SettingsError
    with every problem found.
    """
    sources, problems = _open(argv_overrides, environ, file)
    refused = _leaked_secrets(argv_overrides)
    problems += refused.values()
    settings, wrong = _build(tuple(s.without(set(refused)) for s in sources), problems)
    wrong |= refused.keys()
    for check in CHECKS:
        if not check.looks_at & wrong:
            problems += [_line(name, sources, text) for name, text in check.run(settings)]
    if problems:
        raise SettingsError(problems, settings)
    notes = (*(note for source in sources for note in source.notes), *_doubts(settings))
    settings.keep_unused({key: text for s in sources for key, text in s.unused.items()})
    return Understood(settings, tuple(_given(settings, sources)), notes)


def _doubts(settings: Settings) -> Iterator[str]:
    """What can be told of the settings to have no effect."""
    places = {f"databases.{name}": entry for name, entry in settings.databases.items()}
    queries = {f"{name}.auth_query": entry.auth_query for name, entry in places.items()}
    for name, query in {"auth_query": settings.auth_query, **queries}.items():
        if settings.looks_users_up and query and "$1" not in query:
            yield f"{name} finds nobody: it has no $1 in it, the name of the user"


def _given(settings: Settings, sources: tuple[Source, ...]) -> Iterator[str]:
    """Every setting that some source has, and, for PgBouncer's file, defaults unlike its own."""
    for name, field in Settings.model_fields.items():
        origin = next((s.origin((name,)) for s in sources if name in s.values), None)
        if name in TABLES:
            yield from _given_entries(name, settings, sources)
        elif origin is not None:
            yield f"{name} = {_printed(field, getattr(settings, name))} ({origin})"
    if any(isinstance(source, PgBouncerFile) for source in sources):
        given = {name for source in sources for name in source.values}
        for name, here, there in other_defaults():
            if name not in given:
                yield f"{name} = {here} (not set; PgBouncer's default is {there})"


def _given_entries(table: str, settings: Settings, sources: tuple[Source, ...]) -> Iterator[str]:
    origins = [s for s in sources if table in s.values]
    for name, entry in getattr(settings, table).items():
        fields = type(entry).model_fields
        values = [
            f"{key}={_printed(fields[key], getattr(entry, key))}"
            for key in fields
            if key in entry.model_fields_set
        ]
        yield f"{table}.{name} = {' '.join(values)} ({origins[0].origin((table, name))})"


def _printed(field: FieldInfo, value: object) -> str:
    if isinstance(value, Dsn):
        return str(value)
    return "***" if declared(field).secret and value else printed(field, value)


def _open(
    options: Mapping[str, str], environ: Mapping[str, str], file: Path | None
) -> tuple[tuple[Source, ...], list[str]]:
    named = file or (Path(environ["PGFUNNEL_CONFIG"]) if environ.get("PGFUNNEL_CONFIG") else None)
    sources: list[Source] = [Options(options), Environment(environ)]
    if named is None:
        return tuple(sources), []
    try:
        source = PgBouncerFile(named) if named.suffix in SUFFIXES else File(named)
        return (*sources, source), list(source.problems)
    except SettingsError as error:
        return tuple(sources), error.problems


def _leaked_secrets(options: Mapping[str, str]) -> dict[str, str]:
    """Secrets given as options: every user of the machine can read them in the process list."""
    return {
        name: f"{name} (option --{name.replace('_', '-')}): holds a password, which the list of"
        f" processes shows to everybody; set PGFUNNEL_{name.upper()} or use a file"
        for name, value in options.items()
        if name in Settings.model_fields and declared(Settings.model_fields[name]).secret
        if _has_password(value)
    }


def _has_password(value: str) -> bool:
    login = value.partition("://")[2].rpartition("@")[0]
    return ":" in login or "password=" in value


def _build(sources: tuple[Source, ...], problems: list[str]) -> tuple[Settings, set[str]]:
    """The settings, and the names of those that were wrong and left at their defaults."""
    try:
        with reading(sources):
            return Settings(), set()
    except ValidationError as error:
        found = error.errors(include_url=False)
    problems += dict.fromkeys(_problem(details, sources) for details in found)
    wrong = {str(details["loc"][0]) for details in found}
    with reading(tuple(source.without(wrong) for source in sources)):
        return Settings(), wrong


def _problem(details: ErrorDetails, sources: tuple[Source, ...]) -> str:
    path = tuple(str(part) for part in details["loc"])
    return _line(".".join(path), sources, _wrong(details, path))


def _line(name: str, sources: tuple[Source, ...], text: str) -> str:
    """`default_pool_size (environment variable PGFUNNEL_DEFAULT_POOL_SIZE): what; what to do`."""
    path = tuple(name.split("."))
    origins = (f" ({s.origin(path)})" for s in sources if path[0] in s.values)
    return f"{name}{next(origins, '')}: {text}"


def _wrong(details: ErrorDetails, path: tuple[str, ...]) -> str:
    if details["type"] == "extra_forbidden":
        return _unknown(path)
    if details["type"] == "value_error":
        return str(details["ctx"]["error"])
    field = _field(path)
    if field is None:
        return "is not a table of settings; write its settings as key = value"
    shown = _shown(details["input"], secret=declared(field).secret)
    return f"{shown} will not do; give {kind(field)}"


def _shown(value: object, *, secret: bool) -> str:
    if secret or not isinstance(value, str | int | float):
        return "this value"
    return f'"{value}"' if isinstance(value, str) else str(value).lower()


def _field(path: tuple[str, ...]) -> FieldInfo | None:
    """The declaration of the setting at `path`; None for a whole table."""
    if len(path) == 1:
        return Settings.model_fields.get(path[0])
    nested = TABLES.get(path[0])
    return nested.model_fields.get(path[2]) if nested and len(path) == 3 else None


def _unknown(path: tuple[str, ...]) -> str:
    known = TABLES[path[0]].model_fields if len(path) == 3 else Settings.model_fields
    return "is not a setting; " + suggestion(path[-1], known)
