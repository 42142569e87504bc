"""Many clients side by side, each one session after the other."""

from __future__ import annotations

import asyncio
import random
import time

from tests.sessions import world as shared
from tests.sessions.client import Client, Unexpected, Wrong
from tests.sessions.turns import ACTIONS, visit
from tests.sessions.world import Tally, World

ALL_KINDS = (*ACTIONS, "told")
_GONE_SECONDS = 10.0
_AFTER_TROUBLE = 0.5


def run(
    dsn: str,
    direct: str,
    *,
    seconds: float,
    clients: int = 100,
    seed: int = 1,
    kinds: tuple[str, ...] = ALL_KINDS,
) -> Tally:
    """Let `clients` work on `dsn` and count what was wrong.

    `direct` leads a superuser straight to the same Postgres: it makes and drops the objects, tells
    what a fresh session looks like, and sees in the end what was left behind.
    """
    shared.set_up(direct)
    try:
        world = World(shared.fresh_parameters(direct))
        asyncio.run(_all_clients(world, dsn, seconds, clients, seed, kinds))
        _left_behind(world, direct)
    finally:
        shared.tear_down(direct)
    return world.tally


async def _all_clients(
    world: World, dsn: str, seconds: float, clients: int, seed: int, kinds: tuple[str, ...]
) -> None:
    end = time.monotonic() + seconds

    async def client(number: int) -> None:
        await asyncio.sleep(number * 0.01)
        chance = random.Random(f"{seed}:{number}")
        while time.monotonic() < end:
            await _one_session(world, dsn, chance, kinds, end)

    await asyncio.gather(*(client(number) for number in range(clients)))


async def _one_session(
    world: World, dsn: str, chance: random.Random, kinds: tuple[str, ...], end: float
) -> None:
    """A session that went wrong ends there: its model is true no longer."""
    client = Client(world, dsn, chance)
    try:
        await visit(client, kinds, lambda: time.monotonic() < end)
    except Wrong as wrong:
        world.tally.wrong[wrong.kind] += 1
        world.tally.tell(client.story(wrong))
        await asyncio.sleep(_AFTER_TROUBLE)
    except Unexpected as error:
        world.tally.errors[error.kind] += 1
        world.tally.messages[str(error)[:100]] += 1
        world.tally.tell(client.story(error))
        await asyncio.sleep(_AFTER_TROUBLE)


def _left_behind(world: World, direct: str) -> None:
    """All have gone: their locks go with them, though Postgres may need a moment to see it."""
    deadline = time.monotonic() + _GONE_SECONDS
    while (left := shared.locks_left(direct)) and time.monotonic() < deadline:
        time.sleep(0.1)
    world.tally.checks["locks"] += 1
    if left:
        world.tally.wrong["locks"] += 1
        world.tally.tell(f"advisory locks of sessions that have gone: {sorted(left)}")
