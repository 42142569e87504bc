"""One client: runs statements, keeps its model in step, and compares every answer with it."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tests.sessions.drivers import (
    DRIVER_ERRORS,
    AsyncpgLink,
    Link,
    PsycopgLink,
    Rows,
    first_line,
    sqlstate,
)
from tests.sessions.model import CUSTOM, NAMES, TAGGED, VALUES, Model
from tests.sessions.world import Ear, World

_HISTORY = 20
_PATIENCE = 60.0
Answer = TypeVar("Answer")
Effect = Callable[[], object]


class Wrong(Exception):
    """An answer that a session of one's own would not have given, success included."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Unexpected(Exception):
    """An SQL error that the model did not predict."""

    def __init__(self, kind: str, state: str, message: str) -> None:
        super().__init__(f"{state}: {message}")
        self.kind = kind
        self.state = state


class Client:
    """One session from its login to its end. `chance` decides everything that is random."""

    def __init__(self, world: World, dsn: str, chance: random.Random) -> None:
        self.world = world
        self.chance = chance
        self.serial = next(world.serials)
        self._tags = 0
        self.ear = Ear()
        self.history: deque[str] = deque(maxlen=_HISTORY)
        self.startup = self._choose_startup()
        self.model = Model(world.defaults, self.startup)
        self.link: Link
        self.holding_since: float | None = None
        self._dsn = dsn

    def tag(self) -> str:
        """A text that no other session ever uses."""
        self._tags += 1
        return f"c{self.serial}-{self._tags}"

    def value_for(self, name: str) -> str:
        return self.tag() if name in TAGGED else self.chance.choice(VALUES[name])

    def _choose_startup(self) -> dict[str, str]:
        if self.chance.random() < 0.5:
            return {}
        names = set(self.chance.sample(NAMES, 3)) | {self.chance.choice(CUSTOM)}
        names.discard("default_transaction_read_only")
        return {name: self.value_for(name) for name in sorted(names)}

    async def connect(self) -> None:
        kind: type[AsyncpgLink | PsycopgLink]
        kind = AsyncpgLink if self.chance.random() < 0.7 else PsycopgLink
        self.note(f"connect with {kind.__name__} and {self.startup}")
        try:
            self.link = await kind.open(self._dsn, self.startup, self.ear.hear, self.chance)
        except (*DRIVER_ERRORS, TimeoutError) as error:
            raise Unexpected("connection", sqlstate(error), first_line(error)) from error
        self.world.tally.sessions += 1

    # -- statements ----------------------------------------------------------------------

    async def run(
        self,
        kind: str,
        sql: str,
        effect: Effect = lambda: None,
        *,
        fails: str = "",
        simple: bool | None = None,
    ) -> Rows:
        """One statement by either protocol; then its `effect` on the model, if it succeeded."""
        if simple is None:
            simple = self.chance.random() < 0.5
        self.note(f"{'Q' if simple else 'X'} {sql}" + (f"  -- fails: {fails}" if fails else ""))
        rows: Rows = []
        try:
            rows = await self._send(sql, simple)
        except (*DRIVER_ERRORS, TimeoutError) as error:
            self._failed(kind, error, fails)
            return rows
        if fails:
            raise Wrong(kind, f"{sql} should have failed with {fails}")
        self._done(effect)
        return rows

    async def ask(self, kind: str, sql: str, *args: object, fails: str = "") -> Rows:
        """Rows of one query by the extended protocol."""
        self.note(f"X {sql}" + (f" {args}" if len(str(args)) < 80 and args else ""))
        try:
            rows = await self._sent(self.link.rows(sql, *args))
        except (*DRIVER_ERRORS, TimeoutError) as error:
            self._failed(kind, error, fails)
            return []
        if fails:
            raise Wrong(kind, f"{sql} should have failed with {fails} and gave {rows}")
        return rows

    async def execute_prepared(self, name: str) -> Rows:
        """What was prepared in the protocol, executed in the protocol."""
        self.note(f"X execute {name}")
        try:
            return await self._sent(self.link.execute_prepared(name))
        except (*DRIVER_ERRORS, TimeoutError) as error:
            raise Unexpected("prepared", sqlstate(error), first_line(error)) from error

    async def prepare(self, name: str, sql: str, effect: Effect, *, fails: str = "") -> None:
        """Prepare in the protocol, under a name of ours."""
        self.note(f"parse {name} as {sql}")
        try:
            await self._sent(self.link.prepare(name, sql))
        except (*DRIVER_ERRORS, TimeoutError) as error:
            self._failed("prepared", error, fails)
            return
        if fails:
            raise Wrong("prepared", f"{sql} should have failed with {fails}")
        self._done(effect)

    async def pipeline(
        self, kind: str, statements: list[str], fails: str = "", *, syncs: bool = False
    ) -> list[Rows]:
        """All sent before the first answer; no effect on the model."""
        self.note(f"P {'; '.join(statements)}" + (f"  -- fails: {fails}" if fails else ""))
        try:
            rows = await self._sent(self.link.pipeline(statements, syncs=syncs))
        except (*DRIVER_ERRORS, TimeoutError) as error:
            self._failed(kind, error, fails)
            return []
        if fails:
            raise Wrong(kind, f"{statements} should have failed with {fails}")
        return rows

    async def script(
        self, kind: str, statements: list[str], effect: Effect = lambda: None, *, fails: str = ""
    ) -> None:
        """Several statements in one simple query: one transaction, unless it says otherwise."""
        await self.run(kind, "; ".join(statements), effect, fails=fails, simple=True)

    async def reset(self) -> None:
        """What the driver does between two users of a connection."""
        self.note("driver's reset")
        try:
            await self._sent(self.link.reset())
        except (*DRIVER_ERRORS, TimeoutError) as error:
            raise Unexpected("parameters", sqlstate(error), first_line(error)) from error

    async def _send(self, sql: str, simple: bool) -> Rows:
        if simple:
            await self._sent(self.link.simple(sql))
            return []
        return await self._sent(self.link.rows(sql))

    async def _sent(self, answer: Awaitable[Answer]) -> Answer:
        self.world.tally.statements += 1
        return await asyncio.wait_for(answer, _PATIENCE)

    def _failed(self, kind: str, error: BaseException, fails: str) -> None:
        state = sqlstate(error)
        if not fails or state not in fails.split():
            raise Unexpected(kind, state, f"{first_line(error)} (predicted: {fails or 'success'})")
        self.world.tally.checks[kind] += 1
        if self.model.in_transaction:
            self.model.failed = True

    def _done(self, effect: Effect) -> None:
        effect()
        if not self.model.in_transaction:
            self.model.commit()

    def note(self, line: str) -> None:
        self.history.append(line)

    # -- checks --------------------------------------------------------------------------

    def check(self, kind: str, what: str, got: object, want: object) -> None:
        self.world.tally.checks[kind] += 1
        if got != want:
            raise Wrong(kind, f"{what}: got {got!r}, want {want!r}")

    async def pause(self) -> None:
        """Short while this session keeps a server from others."""
        busy = self.model.in_transaction or bool(self.model.holds)
        await asyncio.sleep(self.chance.random() * (0.01 if busy else 4.0))

    @property
    def held_seconds(self) -> float:
        """For how long this session has held things that bind it to its server."""
        if not self.model.holds:
            self.holding_since = None
            return 0.0
        self.holding_since = self.holding_since or time.monotonic()
        return time.monotonic() - self.holding_since

    # -- the end -------------------------------------------------------------------------

    async def leave(self, *, rude: bool) -> None:
        """Disconnect; nobody may count on this session any more."""
        self.forget()
        if not hasattr(self, "link"):
            return
        if rude:
            self.link.abort()
            return
        with contextlib.suppress(*DRIVER_ERRORS, TimeoutError):
            await self.link.close()

    def forget(self) -> None:
        """Take this session's channels and locks out of what others rely on."""
        channels = self.world.open_channels
        for channel in [c for c, ear in channels.items() if ear is self.ear]:
            del channels[channel]
        self.forget_locks()

    def forget_locks(self) -> None:
        self.world.held_keys.difference_update(self.model.locks)

    def story(self, error: BaseException) -> str:
        lines = "\n".join(f"    {line}" for line in self.history)
        return f"session {self.serial}: {type(error).__name__}: {error}\n{lines}"


Action = Callable[[Client], Awaitable[None]]
