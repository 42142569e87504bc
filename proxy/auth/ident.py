"""Maps from names outside to users of the database: PgBouncer's `auth_ident_file`.

Lines of `map-name system-user database-user`, as in pg_ident.conf (PostgreSQL documentation,
section 20.2) as far as PgBouncer takes them ("Ident map file format"). A system user is what a
certificate or the kernel says of a client.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from proxy.auth.hba import Rule
from proxy.auth.rule_lines import Field, Word, fields_of
from proxy.errors import SettingsError


@dataclass(frozen=True, slots=True)
class IdentMaps:
    """Every map of a file by name: who may come in as whom; None stands for any user."""

    maps: dict[str, frozenset[tuple[str, str | None]]] = field(default_factory=dict)

    def allows(self, name: str | None, system_user: str, user: str) -> bool:
        """Whether `system_user` may come in as `user`; without a map the two must be the same."""
        if name is None:
            return system_user == user
        known = self.maps.get(name, frozenset())
        return (system_user, user) in known or (system_user, None) in known

    def missing(self, rules: Iterable[Rule]) -> list[str]:
        """What is wrong between the rules and the maps: those named by a rule and not there."""
        wanted = ((rule.line, rule.options["map"]) for rule in rules if "map" in rule.options)
        return [
            f"line {line} names the map {name}, which auth_ident_file does not have"
            for line, name in wanted
            if name not in self.maps
        ]


def parse_ident(text: str, source: str) -> IdentMaps:
    """The maps of a file; `source` is its name in error messages.

    Raises SettingsError that names every bad line.
    """
    maps: dict[str, set[tuple[str, str | None]]] = {}
    problems: list[str] = []
    for number, found in fields_of(text):
        try:
            if isinstance(found, ValueError):
                raise found
            name, system_user, user = _line(found)
            maps.setdefault(name, set()).add((system_user, user))
        except ValueError as problem:
            problems.append(f"{source}:{number}: {problem}")
    if problems:
        raise SettingsError(problems)
    return IdentMaps({name: frozenset(pairs) for name, pairs in maps.items()})


def _line(fields: list[Field]) -> tuple[str, str, str | None]:
    words = [word for words in fields for word in words]
    if any(not word.quoted and word.text.startswith("include") for word in words[:1]):
        raise ValueError(f"{words[0].text} is not supported; put the maps into this file")
    if len(fields) != 3 or len(words) != 3:
        raise ValueError("is not three names; write map-name system-user database-user")
    name, system_user, user = words
    _check_plain(system_user)
    _check_plain(user)
    return name.text, system_user.text, None if user.means("all") else user.text


def _check_plain(word: Word) -> None:
    if not word.quoted and word.text.startswith("/"):
        raise ValueError(f"{word.text} is a regular expression, not supported; name the user")
    if not word.quoted and word.text.startswith("+"):
        raise ValueError(f"{word.text} is a group, which is not known here; name its users")
