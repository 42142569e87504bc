"""One setting changed while the program runs, and all of them as the console shows them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from proxy.errors import SettingsError
from proxy.settings.checks import CHECKS
from proxy.settings.databases import TABLES
from proxy.settings.dsn import Dsn
from proxy.settings.model import Settings
from proxy.settings.pgbouncer import GLOBAL, setting_of
from proxy.settings.types import declared, kind


def changed(settings: Settings, key: str, text: str) -> Settings:
    """`settings` with one of them set; `key` is its name here or in PgBouncer.

    Raises SettingsError, in words, when there is no such setting, when only a restart changes it,
    or when the value will not do.
    """
    name = setting_of(key)
    if name is None or name in TABLES:
        raise SettingsError([f"{key} is not a setting that can be set here; see SHOW CONFIG"])
    field = Settings.model_fields[name]
    if not declared(field).reload:
        raise SettingsError([f"{key} changes only at a restart"])
    new = settings.model_copy(update={name: _value(key, field, text)})
    problems = [
        f"{found} {words}"
        for check in CHECKS
        if name in check.looks_at
        for found, words in check.run(new)
    ]
    if problems:
        raise SettingsError(problems)
    return new


def _value(key: str, field: FieldInfo, text: str) -> Any:
    accepted: Any = field.annotation
    for part in field.metadata:
        accepted = Annotated[accepted, part]
    try:
        return TypeAdapter(accepted).validate_python(text)
    except ValidationError:
        raise SettingsError([f"{key} cannot be {text!r}; give {kind(field)}"]) from None


def shown(settings: Settings) -> Iterator[tuple[str, str, str, bool]]:
    """(PgBouncer's name or ours, value, default, whether it changes without a restart).

    Sorted by name, in PgBouncer's spelling, without passwords; what has no effect, too.
    """
    yield from sorted([*_in_force(settings), *_without_effect(settings)])


def _in_force(settings: Settings) -> Iterator[tuple[str, str, str, bool]]:
    for name, field in Settings.model_fields.items():
        if name not in TABLES:
            value = _spelled(field, getattr(settings, name))
            value = "plain" if (name, value) == ("auth_type", "password") else value
            key = declared(field).pgbouncer or name
            yield key, value, _spelled(field, field.default), declared(field).reload


def _without_effect(settings: Settings) -> Iterator[tuple[str, str, str, bool]]:
    yield "verbose", str(int(settings.log_level == "debug")), GLOBAL["verbose"], True
    for key, default in GLOBAL.items():
        if setting_of(key) is None:
            yield key, settings.unused.get(key, default), default, False


def _spelled(field: FieldInfo, value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    if "octal" in kind(field) and isinstance(value, int):
        return f"0{value:o}"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    if isinstance(value, Dsn | Path | str):
        return str(value)  # a Dsn leaves its password out
    return f"{value:g}" if isinstance(value, float) else str(value)
