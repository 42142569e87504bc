"""Lines of fields, as in pg_hba.conf and pg_ident.conf.

PostgreSQL documentation, section 20.1: fields are separated by blanks, words in a field by commas;
`#` begins a comment; a word that begins with a quote loses any special meaning, and `""` in quotes
is a quote; a backslash at the end of a line joins it with the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_BETWEEN: Final = " \t\r\f\v,"


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a field; `quoted` ones are names, whatever they spell."""

    text: str
    quoted: bool = False

    def means(self, keyword: str) -> bool:
        """Whether it is this keyword."""
        return not self.quoted and self.text == keyword


Field = tuple[Word, ...]


def fields_of(text: str) -> Iterator[tuple[int, list[Field] | ValueError]]:
    """(number, fields) of each line that has any, or what is wrong with it; numbers from 1."""
    for number, line in _lines(text):
        try:
            fields = list(_fields(line))
        except ValueError as problem:
            yield number, problem
        else:
            if fields:
                yield number, fields


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with the number of their first part; one that ends in a backslash goes on."""
    begun, first = "", 1
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        part = line.removesuffix("\r")
        if part.endswith("\\"):
            begun += part[:-1]
            continue
        yield first, begun + part
        begun, first = "", number + 1
    if begun:
        yield first, begun


def words_of(text: str) -> list[Word]:
    """Every word of a file of names (`@file`), commas and lines being the same. ValueError."""
    return [word for line in text.split("\n") for field in _fields(line) for word in field]


def _fields(line: str) -> Iterator[Field]:
    """The fields of a line: a comma right behind a word says that the field goes on."""
    at = 0
    field: list[Word] = []
    while at < len(line) and line[at] != "#":
        if line[at] in _BETWEEN:
            at += 1
            continue
        word, at = _word(line, at)
        field.append(word)
        if line[at : at + 1] != ",":
            yield tuple(field)
            field = []
    if field:
        yield tuple(field)


def _word(line: str, at: int) -> tuple[Word, int]:
    """The word that begins at `at`, and where it ends."""
    letters: list[str] = []
    quoted = line[at] == '"'
    inside = False
    while at < len(line) and (inside or line[at] not in f"{_BETWEEN}#"):
        if line[at] != '"':
            letters.append(line[at])
        elif inside and line[at + 1 : at + 2] == '"':
            letters.append('"')
            at += 1
        else:
            inside = not inside
        at += 1
    if inside:
        raise ValueError("a quote is not closed; end the name with one")
    return Word("".join(letters), quoted), at
