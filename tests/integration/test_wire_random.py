"""Random conversations, straight to Postgres and through pgfunnel: the answers must be the same.

A script is what one client says, message by message; None stands for waiting until everything
that Postgres answers has come. Each script is run straight first; then several run side by side
through pools of one, two and four servers. A difference is made small before it is shown.

`PGFUNNEL_WIRE_SECONDS` makes it longer, `PGFUNNEL_WIRE_SEED` makes it begin elsewhere.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from tests.conftest import StartFunnel
from tests.funnel import Funnel
from tests.postgres import Postgres
from tests.wireclient import (
    COPY_DONE,
    FLUSH,
    SYNC,
    Answer,
    Gone,
    Silent,
    Wire,
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

SECONDS = float(os.environ.get("PGFUNNEL_WIRE_SECONDS", "15"))
SEED = int(os.environ.get("PGFUNNEL_WIRE_SEED", "1"))
TABLES = 4

_QUIET = 0.012
_STATEMENTS = ["", "s1", "s2", "s3"]
_PORTALS = ["", "", "p1"]
_INT4PL = 177

Script = list[bytes | None]


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
    ("DISCARD ALL", 0),
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

_END: Script = [copy_fail(), SYNC, query("ROLLBACK"), query("SELECT 'the end'")]


# -- conversations ---------------------------------------------------------------------------


@dataclass
class Place:
    """Where clients connect to."""

    host: str
    port: int
    user: str
    database: str
    password: str

    def connect(self) -> Wire:
        return Wire(self.host, self.port, self.user, self.database, self.password)


def straight_to(postgres: Postgres) -> Place:
    return Place(
        postgres.host, postgres.port, postgres.user, postgres.database, postgres.password
    )


def through(funnel: Funnel) -> Place:
    upstream = funnel.upstream
    return Place(funnel.host, funnel.port, upstream.user, upstream.database, upstream.password)


@dataclass
class Told:
    """What one client was answered; `seen`: how much of it at each wait; `why` it ended."""

    answers: list[Answer]
    seen: list[int]
    why: str = ""

    def line(self, at: int) -> str:
        return repr(self.answers[at]) if at < len(self.answers) else f"nothing ({self.why})"

    def same(self, other: Told) -> bool:
        return self.answers == other.answers and self.why == other.why


def tell(place: Place, script: Script, cut: str, like: Told | None = None) -> Told:
    """Say a script. `like`: the answers straight from Postgres, how many to wait for."""
    told = Told([], [])
    with place.connect() as wire:
        try:
            _say(wire, script + _END, cut, like, told)
        except Gone as gone:
            told.answers += gone.answers
            told.why = "closed"
        except Silent as silent:
            told.answers += silent.answers
            told.why = "silence"
    return told


def _say(wire: Wire, script: Script, cut: str, like: Told | None, told: Told) -> None:
    run: list[bytes] = []
    for said in script:
        if said is not None:
            run.append(said)
            continue
        _send(wire, run, cut)
        run.clear()
        _wait(wire, like, told)
        told.seen.append(len(told.answers))
    _send(wire, run, cut)
    while not any(answer.body[6:] == b"the end" for answer in told.answers[-3:]):
        told.answers += wire.until("Z", seconds=_PATIENCE)


_PATIENCE = 4.0


def _wait(wire: Wire, like: Told | None, told: Told) -> None:
    if like is None:
        told.answers += wire.until_quiet(_QUIET)
        return
    while len(told.answers) < like.seen[len(told.seen)]:
        told.answers.append(wire.receive(_PATIENCE))


def _send(wire: Wire, run: list[bytes], cut: str) -> None:
    size = sum(map(len, run))
    if cut == "bytewise":
        wire.send_bytewise(*run)
    elif cut == "random" and size > 1:
        dice = random.Random(size)
        wire.send(*run, pieces=sorted(dice.sample(range(1, size), min(size - 1, 5))))
    else:
        wire.send(*run)


def clean_tables(postgres: Postgres) -> None:
    for number in range(TABLES):
        table = f"wire_{number}"
        postgres.psql(f"CREATE TABLE IF NOT EXISTS {table} (id int4, v text)")
        postgres.psql(
            f"TRUNCATE {table}; INSERT INTO {table} SELECT i, 'v' || i FROM generate_series(1, 5) i"
        )


@dataclass
class Lab:
    """Runs scripts straight and through one pgfunnel."""

    postgres: Postgres
    funnel: Funnel
    label: str

    def together(self, place: Place, scripts: list[Script], cut: str, like: list[Told | None]) -> list[Told]:
        clean_tables(self.postgres)
        with ThreadPoolExecutor(len(scripts)) as threads:
            running = [
                threads.submit(tell, place, script, cut, model)
                for script, model in zip(scripts, like, strict=True)
            ]
            return [one.result() for one in running]

    def difference(self, scripts: list[Script], cut: str) -> str:
        """Empty when all the answers are the same."""
        nothing: list[Told | None] = [None] * len(scripts)
        straight = self.together(straight_to(self.postgres), scripts, cut, nothing)
        got = self.together(through(self.funnel), scripts, cut, list(straight))
        for number, (want, have) in enumerate(zip(straight, got, strict=True)):
            if not want.same(have):
                return _shown(scripts, number, want, have)
        return ""

    def smallest(self, scripts: list[Script], cut: str, tries: int = 3) -> list[Script]:
        """Leave out what is not needed for a difference."""

        def fails(candidate: list[Script]) -> bool:
            return any(self.difference(candidate, cut) for _ in range(tries))

        scripts = _without_clients(scripts, fails)
        for number in range(len(scripts)):
            scripts = _without_messages(scripts, number, fails)
        return scripts


def _without_clients(
    scripts: list[Script], fails: Callable[[list[Script]], bool]
) -> list[Script]:
    for number in reversed(range(len(scripts))):
        fewer = scripts[:number] + scripts[number + 1 :]
        if fewer and fails(fewer):
            scripts = fewer
    return scripts


def _without_messages(
    scripts: list[Script], number: int, fails: Callable[[list[Script]], bool]
) -> list[Script]:
    size = max(1, len(scripts[number]) // 2)
    while size:
        at = 0
        while at < len(scripts[number]):
            shorter = list(scripts)
            shorter[number] = scripts[number][:at] + scripts[number][at + size :]
            if fails(shorter):
                scripts = shorter
            else:
                at += size
        size //= 2
    return scripts


def _shown(scripts: list[Script], number: int, want: Told, have: Told) -> str:
    pairs = zip(want.answers, have.answers, strict=False)
    at = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(want.answers), len(have.answers)))
    lines = [f"answer {at} of client {number}: {have.line(at)}, straight {want.line(at)}"]
    lines += [f"  through: {have.line(i)}" for i in range(max(0, at - 3), at + 4)]
    lines += [f"  straight: {want.line(i)}" for i in range(max(0, at - 3), at + 4)]
    for client, script in enumerate(scripts):
        lines += [f"client {client} says:", *(f"  {said!r}" for said in script)]
    return "\n".join(lines)


# -- tests -----------------------------------------------------------------------------------


@pytest.mark.timeout(SECONDS * 2 + 60)
@pytest.mark.parametrize(
    "servers, statements", [(1, 200), (1, 2), (2, 2), (4, 200)]
)
def test_random_conversations(
    postgres: Postgres, pgfunnel: StartFunnel, servers: int, statements: int
) -> None:
    funnel = pgfunnel(
        auth_type="trust", default_pool_size=servers, max_prepared_statements=statements
    )
    lab = Lab(postgres, funnel, "")
    deadline = time.monotonic() + SECONDS
    seed = SEED
    while time.monotonic() < deadline:
        scripts, cut = scripts_of(seed)
        if lab.difference(scripts, cut):
            scripts = lab.smallest(scripts, cut)
            pytest.fail(f"seed {seed}, sent {cut}: {lab.difference(scripts, cut)}", pytrace=False)
        seed += 1


def scripts_of(seed: int) -> tuple[list[Script], str]:
    dice = random.Random(seed)
    cut = dice.choice(["whole", "whole", "random", "bytewise"])
    clients = dice.randint(1, TABLES)
    return [Writer((seed, i), f"wire_{i}").script() for i in range(clients)], cut
