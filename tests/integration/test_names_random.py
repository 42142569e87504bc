"""Random conversations in which SQL and the protocol prepare statements of the same names.

As `test_wire_random`, whose seconds and seed these are, too. What statements set tells which of
them ran, and what other clients see of it.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tests.conftest import StartFunnel
from tests.integration.test_wire_random import SECONDS, SEED
from tests.postgres import Postgres
from tests.wireclient import (
    FLUSH,
    SYNC,
    bind,
    close,
    describe,
    execute,
    function_call,
    parse,
    query,
)
from tests.wiretalk import TABLES, Lab, Script

_NAMES = ["s1", "s2"]
_INT4PL = 177
_LOOKS = (
    "SELECT current_setting('work_mem'), current_setting('TimeZone'),"
    " nullif(current_setting('my.name', true), '')"
)

_STATEMENTS = [
    "SELECT 'one'",
    "SELECT 'two'",
    "SELECT 'three', 3",
    _LOOKS,
    "SELECT set_config('work_mem', '{n}MB', false)",
    "SELECT set_config('my.name', '{c}{n}', false)",
]
_ONLY_PARSED = [
    "DEALLOCATE {s}",
    "DEALLOCATE ALL",
    "PREPARE {s} AS SELECT 'four'",
    "SET work_mem = '{n}MB'",
    "SELECT 1 / 0",
    "SELEC broken",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
]
_IN_SQL = [
    "PREPARE {s} AS {statement}",
    "PREPARE {s} AS {statement}",
    "EXECUTE {s}",
    "EXECUTE {s}",
    "DEALLOCATE {s}",
    "DEALLOCATE {s}",
    "DEALLOCATE ALL",
    "DISCARD ALL",
    "DISCARD PLANS",
    "SELECT 1 / 0",
    "SELECT 'something else'",
    "SET my.name = '{c}{n}'",
    "SET timezone = 'Etc/GMT+{n}'",
    "RESET work_mem",
    "RESET ALL",
    _LOOKS,
]
_BLOCKS = ["BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT a", "ROLLBACK TO a"]


class Writer:
    """Writes one client's script; `letter` tells it from the others."""

    def __init__(self, seed: object, letter: str) -> None:
        self._random = random.Random(str(seed))
        self._letter = letter

    def script(self) -> Script:
        script: Script = []
        for _ in range(self._random.randint(3, 12)):
            script += self._random.choice(_WRITERS)(self)
            if self._random.random() < 0.35:
                script.append(None)
        return [*script, SYNC, None, query("ROLLBACK"), query(_LOOKS)]

    def _filled(self, sql: str) -> str:
        sql = sql.replace("{statement}", self._random.choice(_STATEMENTS))
        sql = sql.replace("{s}", self._name()).replace("{c}", self._letter)
        return sql.replace("{n}", str(self._random.randint(1, 9)))

    def _name(self) -> str:
        return self._random.choice(_NAMES)

    def _maybe(self, chance: float, *messages: bytes) -> Script:
        return list(messages) if self._random.random() < chance else []

    def query(self) -> Script:
        many = self._random.choice([1, 1, 1, 2, 2, 3])
        sql = "; ".join(self._filled(self._random.choice(_IN_SQL)) for _ in range(many))
        # What goes ahead of it may make a pipeline, where it is refused (docs/safety.md, Limits).
        return [*([SYNC] if "DISCARD ALL" in sql else []), query(sql)]

    def block(self) -> Script:
        return [query(self._random.choice(_BLOCKS))]

    def parse(self) -> Script:
        sql = self._random.choice(_STATEMENTS * 2 + _ONLY_PARSED)
        name = self._random.choice([*_NAMES, *_NAMES, ""])
        return [*self._maybe(0.4, close(name)), parse(name, self._filled(sql))]

    def run(self) -> Script:
        """Of the unnamed statement, at once."""
        sql = self._random.choice(_IN_SQL + _ONLY_PARSED).replace("DISCARD ALL", "DEALLOCATE ALL")
        return [parse("", self._filled(sql)), bind(), execute()]

    def use(self) -> Script:
        name = self._random.choice([*_NAMES, *_NAMES, ""])
        return [*self._maybe(0.3, describe(name)), bind("", name), execute()]

    def close(self) -> Script:
        return [close(self._name())]

    def sync(self) -> Script:
        return [SYNC]

    def flush(self) -> Script:
        return [FLUSH]

    def function_call(self) -> Script:
        return [function_call(_INT4PL, ["1", "2"])]


_WRITERS: list[Callable[[Writer], Script]] = [
    *[Writer.query] * 6,
    *[Writer.block] * 2,
    *[Writer.parse] * 5,
    *[Writer.run] * 3,
    *[Writer.use] * 5,
    *[Writer.close] * 2,
    *[Writer.sync] * 7,
    Writer.flush,
    Writer.function_call,
]


@pytest.mark.timeout(SECONDS * 2 + 60)
@pytest.mark.parametrize("servers", [1, 2])
def test_random_names(own_postgres: Postgres, pgfunnel: StartFunnel, servers: int) -> None:
    lab = Lab(own_postgres, pgfunnel(own_postgres, auth_type="trust", default_pool_size=servers))
    if found := lab.search(scripts_of, SEED, SECONDS):
        pytest.fail(found, pytrace=False)


def scripts_of(seed: int) -> tuple[list[Script], str]:
    dice = random.Random(seed)
    cut = dice.choice(["whole", "whole", "whole", "random"])
    clients = dice.randint(1, TABLES)
    return [Writer((seed, i), "abcd"[i]).script() for i in range(clients)], cut
