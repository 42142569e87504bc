"""Clients through pgfunnel, each with a twin straight to Postgres that says the same."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from types import TracebackType
from typing import NamedTuple, Self

from tests.funnel import Funnel
from tests.postgres import USERS
from tests.wireclient import Answer, Wire, query


class Told(NamedTuple):
    """What a client was told for one query string."""

    columns: list[list[str]]
    rows: list[list[str | None]]
    tags: list[str]
    errors: list[tuple[str, str]]
    parameters: dict[str, str]
    changes: list[bytes]


class Twins:
    """`ask` fails where the twins are not told the same."""

    def __init__(self, funnel: Funnel, user: str = "alice") -> None:
        self._funnel = funnel
        self._user = user
        self._pairs: dict[str, tuple[Wire, Wire]] = {}
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.close()

    def connect(self, name: str, **settings: str) -> None:
        """A client and its twin, with these startup parameters."""
        upstream = self._funnel.upstream
        password = USERS.get(self._user, upstream.password)
        user = self._user or upstream.user
        ways = ((self._funnel.host, self._funnel.port), (upstream.host, upstream.port))
        through, straight = (
            self._open.enter_context(Wire(host, port, user, upstream.database, password, settings))
            for host, port in ways
        )
        self._pairs[name] = through, straight

    def ask(self, name: str, sql: str) -> Told:
        """What both were told."""
        return self.send(name, query(sql), shown=sql)

    def send(self, name: str, *messages: bytes, times: int = 1, shown: str = "") -> Told:
        """Messages, up to so many ReadyForQuery."""
        if name not in self._pairs:
            self.connect(name)
        told = []
        for wire in reversed(self._pairs[name]):
            wire.send(*messages)
            told.append(_told(wire.until_ready(times), wire))
        straight, through = told
        assert through == straight, f"{name}: {shown or messages!r}: {through} is not {straight}"
        return through


def _names(description: bytes) -> list[str]:
    """Of a RowDescription; none of NoData."""
    names, at = [], 2
    while at < len(description):
        end = description.index(b"\0", at)
        names.append(description[at:end].decode())
        at = end + 19
    return names


def _told(answers: Iterable[Answer], wire: Wire) -> Told:
    answers = list(answers)
    fields = [answer.fields for answer in answers if answer.kind == "E"]
    return Told(
        columns=[_names(answer.body) for answer in answers if answer.kind in "Tn"],
        rows=[answer.row for answer in answers if answer.kind == "D"],
        tags=[answer.body[:-1].decode() for answer in answers if answer.kind == "C"],
        errors=[(each["C"], each["M"]) for each in fields],
        parameters=dict(wire.parameters),
        changes=sorted(answer.body for answer in answers if answer.kind == "S"),
    )
