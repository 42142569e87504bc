"""PgBouncer's configuration file as text: lines `key = value` in sections.

The rules are those of PgBouncer's documentation ("Description", "Include directive", "Section
[databases]"): `;` and `#` begin a comment only at the start of a line, lines may be indented,
sections may repeat, `%include FILE` is relative to the working directory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MAX_DEPTH: Final = 10
_QUOTED_KEY: Final = re.compile(r'"((?:[^"]|"")*)"\s*=(.*)', re.DOTALL)
_PLAIN_KEY: Final = re.compile(r"([\w.*-]+)\s*=(.*)", re.ASCII | re.DOTALL)
_PAIR: Final = re.compile(r"\s*([A-Za-z_]\w*)\s*=\s*(?:'((?:[^']|'')*)'(?=\s|$)|([^\s']\S*|))")


@dataclass(frozen=True)
class Entry:
    """One `key = value` of a file; `line` counts from 1."""

    section: str
    key: str
    value: str
    file: Path
    line: int

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}"


class IniReader:
    """Reads a file and what it includes; `entries` and `problems` in the order of the lines.

    No problem repeats a value, which may be a password.
    """

    def __init__(self, file: Path) -> None:
        self.entries: list[Entry] = []
        self.problems: list[str] = []
        self._section = ""
        self._read(file, (), str(file))

    def _read(self, file: Path, above: tuple[Path, ...], place: str) -> None:
        if len(above) >= MAX_DEPTH:
            self.problems.append(f"{place}: %include goes more than {MAX_DEPTH} files deep")
            return
        try:
            text = file.read_text(encoding="utf-8-sig")
        except OSError as error:
            why = (error.strerror or "unknown error").lower()
            self.problems.append(f"{place}: {file} cannot be read ({why}); correct the path")
            return
        except UnicodeDecodeError:
            self.problems.append(f"{place}: {file} is not UTF-8; save it as UTF-8")
            return
        for number, line in enumerate(text.split("\n"), 1):
            self._line(file, number, line.strip(), (*above, file))

    def _line(self, file: Path, number: int, line: str, above: tuple[Path, ...]) -> None:
        place = f"{file}:{number}"
        if not line or line[0] in ";#":
            return
        if line[0] == "%":
            self._include(line, above, place)
        elif line[0] == "[":
            self._open_section(line, place)
        else:
            self._entry(file, number, line)

    def _include(self, line: str, above: tuple[Path, ...], place: str) -> None:
        directive, *name = line.split(None, 1)
        if directive != "%include" or not name:
            self.problems.append(f"{place}: is not a directive; write %include FILE")
            return
        self._read(Path(name[0]), above, place)

    def _open_section(self, line: str, place: str) -> None:
        name, closed, rest = line[1:].partition("]")
        if not closed or rest.strip():
            self.problems.append(f"{place}: is not the head of a section; write [NAME]")
        self._section = name.strip()

    def _entry(self, file: Path, number: int, line: str) -> None:
        match = _QUOTED_KEY.fullmatch(line) or _PLAIN_KEY.fullmatch(line)
        if match is None:
            hint = 'write key = value, a name with other characters in quotes: "a b" = value'
            self.problems.append(f"{file}:{number}: has no key and =; {hint}")
            return
        key = match[1].replace('""', '"') if line[0] == '"' else match[1]
        self.entries.append(Entry(self._section, key, match[2].strip(), file, number))


def parse_pairs(text: str) -> Iterator[tuple[str, str]]:
    """The pairs of a connection string: `host=h password='it''s'`.

    Raises ValueError, which repeats no value.
    """
    at = 0
    while at < len(text.rstrip()):
        match = _PAIR.match(text, at)
        if match is None or (match.end() < len(text) and not text[match.end()].isspace()):
            raise ValueError("is not a list of key=value; put a value with spaces into '…'")
        name, quoted, plain = match.groups()
        yield name, plain if quoted is None else quoted.replace("''", "'")
        at = match.end()
