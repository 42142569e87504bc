"""Random conversations, straight to Postgres and through pgfunnel: the answers must be the same.

A script is what one client says, message by message; None stands for waiting until everything
that Postgres answers has come. Each script is run straight first; then several run side by side
through pools of one, two and four servers. A difference is made small before it is shown.

`PGFUNNEL_WIRE_SECONDS` makes it longer, `PGFUNNEL_WIRE_SEED` makes it begin elsewhere.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable

import pytest

from tests.conftest import StartFunnel
from tests.postgres import Postgres
from tests.wireclient import (
    COPY_DONE,
    FLUSH,
    SYNC,
    bind,
    close,
    copy_data,
    copy_fail,
    describe,
    execute,
    function_call,
    parse,
    query,
)
from tests.wiretalk import TABLES, Lab, Script

SECONDS = float(os.environ.get("PGFUNNEL_WIRE_SECONDS", "5"))
SEED = int(os.environ.get("PGFUNNEL_WIRE_SEED", "1"))

_STATEMENTS = ["", "s1", "s2", "s3"]
_PORTALS = ["", "", "p1"]
_INT4PL = 177


# -- scripts ---------------------------------------------------------------------------------

_PARSED = [
    ("SELECT $1::int4 AS a", 1),
    ("SELECT generate_series(1, 5)", 0),
    ("SELECT 1 / $1::int4", 1),
    ("SELECT 'same for all'", 0),
    ("SELECT current_setting('TimeZone'), now()::date - now()::date", 0),
    ("BEGIN", 0),
    ("COMMIT", 0),
    ("ROLLBACK", 0),
    ("SAVEPOINT a", 0),
    ("ROLLBACK TO a", 0),
    ("INSERT INTO {t} VALUES ($1::int4, 'x')", 1),
    ("SELECT * FROM {t} ORDER BY id", 0),
    ("UPDATE {t} SET v = v || 'y' WHERE id < $1::int4 RETURNING id", 1),
    ("", 0),
    ("SELEC broken", 0),
    ("SELECT nosuch", 0),
    ("COPY {t} TO STDOUT", 0),
    ("DEALLOCATE ALL", 0),
    ("SET TimeZone TO 'Asia/Tokyo'", 0),
    ("SET LOCAL TimeZone TO 'Asia/Tokyo'", 0),
    ("RESET TimeZone", 0),
    ("DO $$BEGIN RAISE NOTICE 'hello'; END$$", 0),
]

_QUERIES = [
    "SELECT 1",
    "SELECT generate_series(1, 3)",
    "SELECT 1; SELECT 2",
    "SELECT 1; SELECT nosuch; SELECT 3",
    "SELECT 1 / 0",
    "",
    ";;",
    "SELEC broken",
    "BEGIN",
    "BEGIN",
    "COMMIT",
    "COMMIT",
    "ROLLBACK",
    "ROLLBACK",
    "BEGIN; SELECT 1",
    "SAVEPOINT a",
    "ROLLBACK TO a",
    "RELEASE a",
    "INSERT INTO {t} VALUES (7, 'q')",
    "DELETE FROM {t} WHERE id > 5",
    "SELECT count(*), min(v) FROM {t}",
    "COPY {t} TO STDOUT",
    "DISCARD ALL",
    "DEALLOCATE ALL",
    "SHOW TimeZone",
    "SHOW DateStyle",
    "SET TimeZone TO 'Europe/Paris'",
    "SET DateStyle TO 'German'",
    "SET LOCAL DateStyle TO 'SQL'",
    "SET application_name TO 'me'",
    "SELECT set_config('application_name', 'you', false)",
    "SHOW application_name",
    "BEGIN; SET TimeZone TO 'Asia/Tokyo'; ROLLBACK",
    "BEGIN; SET TimeZone TO 'Asia/Seoul'; COMMIT; SHOW TimeZone",
    "DO $$BEGIN RAISE NOTICE 'hello'; RAISE WARNING 'you'; END$$",
    "DO $$BEGIN RAISE EXCEPTION 'no' USING ERRCODE = 'P1234', HINT = 'h', DETAIL = 'd'; END$$",
]


class Writer:
    """Writes one client's script; `table` is that client's own."""

    def __init__(self, seed: object, table: str) -> None:
        self._random = random.Random(str(seed))
        self._table = table
        self._takes: dict[str, int] = {}

    def script(self) -> Script:
        script: Script = []
        for _ in range(self._random.randint(3, 14)):
            script += self._random.choice(_WRITERS)(self)
            if self._random.random() < 0.4:
                script.append(None)
        return script

    def _sql(self, sql: str) -> str:
        return sql.replace("{t}", self._table)

    def _name(self) -> str:
        return self._random.choice(_STATEMENTS)

    def _portal(self) -> str:
        return self._random.choice(_PORTALS)

    def _maybe(self, chance: float, *messages: bytes) -> Script:
        return list(messages) if self._random.random() < chance else []

    def query(self) -> Script:
        return [query(self._sql(self._random.choice(_QUERIES)))]

    def parse(self) -> Script:
        sql, takes = self._random.choice(_PARSED)
        name = self._name()
        self._takes[name] = takes
        types = (23,) if takes and self._random.random() < 0.3 else ()
        return [parse(name, self._sql(sql), types)]

    def bind(self) -> Script:
        name = self._name()
        takes = self._takes.get(name, 0)
        if self._random.random() < 0.05:
            takes = 1 - takes
        value = self._random.choice(["0", "1", "42", "7", "bad"]) if takes else ""
        return [bind(self._portal(), name, [value][:takes])]

    def execute(self) -> Script:
        return [execute(self._portal(), self._random.choice([0, 0, 0, 1, 2]))]

    def describe(self) -> Script:
        if self._random.random() < 0.5:
            return [describe(self._name(), "S")]
        return [describe(self._portal(), "P")]

    def close(self) -> Script:
        if self._random.random() < 0.7:
            return [close(self._name(), "S")]
        return [close(self._portal(), "P")]

    def sync(self) -> Script:
        return [SYNC]

    def flush(self) -> Script:
        return [FLUSH]

    def whole(self) -> Script:
        """What drivers do: Parse, Bind, Describe, Execute, Sync."""
        sql, takes = self._random.choice(_PARSED)
        name, portal = self._name(), self._portal()
        self._takes[name] = takes
        values = [self._random.choice(["0", "3", "12"])][:takes]
        return [
            *self._maybe(0.4, close(name)),
            parse(name, self._sql(sql)),
            *self._maybe(0.3, describe(name)),
            *self._maybe(0.2, FLUSH),
            bind(portal, name, values),
            *self._maybe(0.3, describe(portal, "P")),
            execute(portal, self._random.choice([0, 0, 2])),
            *self._maybe(0.3, execute(portal, 1)),
            *self._maybe(0.9, SYNC),
        ]

    def again(self) -> Script:
        """Bind, Execute, Sync with a name prepared earlier."""
        name, portal = self._name(), self._portal()
        values = [self._random.choice(["0", "3", "12"])][: self._takes.get(name, 0)]
        return [bind(portal, name, values), execute(portal), *self._maybe(0.9, SYNC)]

    def stray_copy(self) -> Script:
        return [self._random.choice([copy_data(b"stray"), COPY_DONE, copy_fail()])]

    def _copied(self) -> Script:
        """What is said while COPY IN runs, up to its end."""
        rows = [copy_data(b"%d\tcopied\n" % i) for i in range(self._random.randint(0, 3))]
        if self._random.random() < 0.2:
            rows.append(copy_data(b"no number\tcopied\n"))
        said: Script = [*rows, *self._maybe(0.1, SYNC), *self._maybe(0.1, FLUSH)]
        if self._random.random() < 0.3:
            said.insert(0, None)
        said.append(self._random.choice([COPY_DONE, COPY_DONE, copy_fail()]))
        return said

    def copy_simple(self) -> Script:
        return [query(f"COPY {self._table} FROM STDIN"), *self._copied()]

    def copy_extended(self) -> Script:
        """The Sync in front of the copied rows is what libpq sends, and COPY swallows it."""
        return [
            parse("", f"COPY {self._table} FROM STDIN"),
            bind(),
            execute(),
            *self._maybe(0.4, SYNC),
            *self._copied(),
            *self._maybe(0.9, SYNC),
        ]

    def function_call(self) -> Script:
        arguments = self._random.choice([["1", "2"], ["1", "no"]])
        return [function_call(self._random.choice([_INT4PL, _INT4PL, 0]), arguments)]


_WRITERS: list[Callable[[Writer], Script]] = [
    *[Writer.query] * 5,
    *[Writer.parse] * 4,
    *[Writer.bind] * 4,
    *[Writer.execute] * 4,
    *[Writer.describe] * 2,
    *[Writer.close] * 2,
    *[Writer.sync] * 4,
    Writer.flush,
    *[Writer.whole] * 6,
    *[Writer.again] * 3,
    Writer.stray_copy,
    Writer.copy_simple,
    Writer.copy_extended,
    Writer.function_call,
]


# -- tests -----------------------------------------------------------------------------------


@pytest.mark.timeout(SECONDS * 2 + 60)
@pytest.mark.parametrize("servers, statements", [(1, 200), (1, 2), (2, 2), (4, 200)])
def test_random_conversations(
    own_postgres: Postgres, pgfunnel: StartFunnel, servers: int, statements: int
) -> None:
    funnel = pgfunnel(
        own_postgres,
        auth_type="trust",
        default_pool_size=servers,
        max_prepared_statements=statements,
    )
    lab = Lab(own_postgres, funnel)
    if found := lab.search(scripts_of, SEED, SECONDS):
        pytest.fail(found, pytrace=False)


def scripts_of(seed: int) -> tuple[list[Script], str]:
    dice = random.Random(seed)
    cut = dice.choice(["whole", "whole", "random", "bytewise"])
    clients = dice.randint(1, TABLES)
    return [Writer((seed, i), f"wire_{i}").script() for i in range(clients)], cut
