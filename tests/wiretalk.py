"""Conversations with Postgres, the same straight and through pgfunnel.

A script is what one client says, message by message; None stands for waiting until everything
that Postgres answers has come. Each script is run straight first. A difference can be made small.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import psycopg

from tests.funnel import Funnel
from tests.postgres import Postgres
from tests.wireclient import SYNC, Answer, Gone, Silent, Wire, copy_fail, query

TABLES = 4
CUTS = ("whole", "random", "bytewise")

_QUIET = 0.012
_SHRINKING = 20.0
_PATIENCE = 3.0

Script = list[bytes | None]

_END: Script = [copy_fail(), SYNC, query("ROLLBACK"), query("SELECT 'the end'")]


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
    return Place(postgres.host, postgres.port, postgres.user, postgres.database, postgres.password)


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
        return (
            list(map(_lasting, self.answers)) == list(map(_lasting, other.answers))
            and self.why == other.why
        )


def _lasting(answer: Answer) -> Answer:
    """What must be the same.

    A RowDescription without the tables' oids, which a script that makes tables changes; the error
    of a failed transaction without where in Postgres it came from: a statement that had to make
    room is prepared anew, and Parse refused in place of Bind or Describe.
    """
    if answer.kind == "E" and b"\0C25P02\0" in answer.body:
        kept = [part for part in answer.body.split(b"\0") if part[:1] not in (b"F", b"L", b"R")]
        return Answer("E", b"\0".join(kept))
    if answer.kind != "T":
        return answer
    body = bytearray(answer.body)
    at = 2
    while at < len(body):
        at = body.index(0, at) + 1
        body[at : at + 4] = bytes(4)
        at += 18
    return Answer("T", bytes(body))


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


def _await(postgres: Postgres) -> None:
    """Wait until Postgres takes connections again."""
    deadline = time.monotonic() + 30
    pause = threading.Event()
    while True:
        try:
            postgres.psql("SELECT 1")
            return
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
        pause.wait(0.05)


@dataclass
class Lab:
    """Runs scripts straight and through one pgfunnel."""

    postgres: Postgres
    funnel: Funnel

    def together(
        self, place: Place, scripts: list[Script], cut: str, like: list[Told | None]
    ) -> list[Told]:
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
        if any(told.why == "closed" for told in straight):
            _await(self.postgres)  # some sequences crash Postgres itself
            return ""
        got = self.together(through(self.funnel), scripts, cut, list(straight))
        for number, (want, have) in enumerate(zip(straight, got, strict=True)):
            if not want.same(have):
                return _shown(scripts, number, want, have)
        return ""

    def search(
        self, scripts_of: Callable[[int], tuple[list[Script], str]], seed: int, seconds: float
    ) -> str:
        """The first difference, made small, in the scripts of one seed after another.

        `scripts_of`: a seed's scripts and how they are cut. Empty when time is up.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            scripts, cut = scripts_of(seed)
            if first := self.difference(scripts, cut):
                small = self.difference(self.smallest(scripts, cut), cut)
                return f"seed {seed}, sent {cut}: {small or first}"
            seed += 1
        return ""

    def smallest(self, scripts: list[Script], cut: str, tries: int = 3) -> list[Script]:
        """Leave out what is not needed for a difference."""

        deadline = time.monotonic() + _SHRINKING

        def fails(candidate: list[Script]) -> bool:
            if time.monotonic() > deadline:
                return False
            return any(self.difference(candidate, cut) for _ in range(tries))

        scripts = _without_clients(scripts, fails)
        for number in range(len(scripts)):
            scripts = _without_messages(scripts, number, fails)
        return scripts


def _without_clients(scripts: list[Script], fails: Callable[[list[Script]], bool]) -> list[Script]:
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
    at = next(
        (i for i, (a, b) in enumerate(pairs) if a != b), min(len(want.answers), len(have.answers))
    )
    lines = [f"answer {at} of client {number}: {have.line(at)}, straight {want.line(at)}"]
    lines += [f"  through: {have.line(i)}" for i in range(max(0, at - 3), at + 4)]
    lines += [f"  straight: {want.line(i)}" for i in range(max(0, at - 3), at + 4)]
    for client, script in enumerate(scripts):
        lines += [f"client {client} says:", *(f"  {said!r}" for said in script)]
    return "\n".join(lines)
