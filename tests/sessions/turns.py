"""What one client does: single actions, transactions, resets, and how it leaves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping

from tests.sessions import objects, parameters, statements
from tests.sessions.client import Action, Client
from tests.sessions.drivers import DRIVER_ERRORS
from tests.sessions.looks import look
from tests.sessions.objects import announce, stop_listening

ACTIONS: Mapping[str, Mapping[Action, int]] = {
    "parameters": parameters.ACTIONS,
    "prepared": statements.ACTIONS,
    **objects.ACTIONS,
}
_WEIGHTS = {
    "parameters": 40, "prepared": 12, "listen": 8, "locks": 6,
    "temp": 6, "cursors": 6, "sequences": 8,
}  # fmt: skip
_HOLD_SECONDS = 0.2


class Left(Exception):
    """The client has decided to leave without a goodbye, in the middle of something."""


async def visit(client: Client, kinds: tuple[str, ...], running: Callable[[], bool]) -> None:
    """One session. Raises Wrong or Unexpected; afterwards the client has left."""
    rude = True
    try:
        await client.connect()
        await look(client, kinds)
        while running() and client.chance.random() > 0.03:
            await turn(client, kinds)
            await client.pause()
        rude = client.chance.random() < 0.5
    except Left:
        pass
    finally:
        await client.leave(rude=rude)


async def turn(client: Client, kinds: tuple[str, ...]) -> None:
    """One action or transaction, then some looks."""
    dice = client.chance.random()
    if client.held_seconds > _HOLD_SECONDS:
        await let_go(client)
    elif dice < 0.25:
        await transaction(client, kinds)
    elif dice < 0.32:
        await reset(client, kinds)
    elif dice < 0.33:
        await leave_in_a_query(client)
    else:
        await act(client, kinds)
    await look(client, kinds)


async def act(client: Client, kinds: tuple[str, ...]) -> None:
    (kind,) = client.chance.choices(kinds, [_WEIGHTS.get(kind, 0) for kind in kinds])
    actions = ACTIONS[kind]
    (action,) = client.chance.choices(list(actions), list(actions.values()))
    await action(client)


# -- transactions ------------------------------------------------------------------------


async def transaction(client: Client, kinds: tuple[str, ...]) -> None:
    model = client.model
    words = ("BEGIN", "START TRANSACTION", "begin isolation level repeatable read")
    await client.run("parameters", client.chance.choice(words), model.begin)
    for _ in range(client.chance.randint(1, 6)):
        if model.failed and not model.savepoints():
            break
        await _inside(client, kinds)
        await look(client, kinds)
        await client.pause()
    if client.chance.random() < 0.6:
        await client.run("parameters", client.chance.choice(("COMMIT", "END")), model.commit)
    else:
        await client.run("parameters", client.chance.choice(("ROLLBACK", "ABORT")), model.rollback)
    announce(client)


async def _inside(client: Client, kinds: tuple[str, ...]) -> None:
    """One step of an open transaction; a failed one goes back to a savepoint first."""
    model, dice = client.model, client.chance.random()
    if model.savepoints() and (model.failed or dice < 0.12):
        name = client.chance.choice(model.savepoints())
        await client.run(
            "parameters", f"ROLLBACK TO SAVEPOINT {name}", lambda: model.rollback_to(name)
        )
    elif model.savepoints() and dice < 0.2:
        name = client.chance.choice(model.savepoints())
        await client.run("parameters", f"RELEASE {name}", lambda: model.release(name))
    elif dice < 0.32:
        name = client.chance.choice(("a", "b"))
        await client.run("parameters", f"SAVEPOINT {name}", lambda: model.savepoint(name))
    elif dice < 0.36:
        await client.run("parameters", "SELECT 1 / 0", fails="22012")
    elif dice < 0.38:
        raise Left
    else:
        await act(client, kinds)


# -- resets ------------------------------------------------------------------------------


async def reset(client: Client, kinds: tuple[str, ...]) -> None:
    """Clears this session's own things, and nobody else's."""
    (kind,) = client.chance.choices(kinds, [1] * len(kinds))
    await client.chance.choice((*_RESETS.get(kind, ()), discard_all, driver_reset, discard_plans))(
        client
    )


async def discard_all(client: Client) -> None:
    await _prepare_to_lose(client)
    await client.run("parameters", "DISCARD ALL", client.model.discard_all)
    client.link.forget_statements()


async def driver_reset(client: Client) -> None:
    """What asyncpg's pool sends between two of its users."""
    await _prepare_to_lose(client)
    await client.reset()
    model = client.model
    model.locks.clear()
    model.now.cursors.clear()
    model.channels.clear()
    model.reset_all()


async def _prepare_to_lose(client: Client) -> None:
    await stop_listening(client)
    client.forget_locks()


async def discard_plans(client: Client) -> None:
    await client.run("prepared", "DISCARD PLANS")


async def discard_temp(client: Client) -> None:
    word = client.chance.choice(("TEMP", "TEMPORARY"))
    await client.run("temp", f"DISCARD {word}", client.model.drop_temps)


async def discard_sequences(client: Client) -> None:
    await client.run("sequences", "DISCARD SEQUENCES", client.model.forget_sequences)


async def close_all(client: Client) -> None:
    await client.run("cursors", "CLOSE ALL", client.model.now.cursors.clear)


async def unlock_all(client: Client) -> None:
    client.forget_locks()
    await client.run("locks", "SELECT pg_advisory_unlock_all()", client.model.locks.clear)


async def unlisten_all(client: Client) -> None:
    await stop_listening(client)
    listens = client.model.now.listens
    await client.run("listen", "UNLISTEN *", lambda: listens.append(("", "*")))


_RESETS: Mapping[str, tuple[Action, ...]] = {
    "parameters": (parameters.reset_all,),
    "prepared": (statements.deallocate_all, discard_plans),
    "listen": (unlisten_all,),
    "locks": (unlock_all,),
    "temp": (discard_temp,),
    "cursors": (close_all,),
    "sequences": (discard_sequences,),
}


async def let_go(client: Client) -> None:
    """Others wait for the server: give up what binds this session to it, or leave."""
    dice = client.chance.random()
    if dice < 0.1:
        raise Left
    if dice < 0.3:
        await discard_all(client)
        return
    for kind in sorted(client.model.holds):
        await _RESETS[kind][0](client)


async def leave_in_a_query(client: Client) -> None:
    """Without a goodbye, while Postgres works for it."""
    client.note("abort in the middle of pg_sleep")
    query = asyncio.ensure_future(client.link.rows("SELECT pg_sleep(0.1)"))
    await asyncio.sleep(client.chance.random() * 0.02)
    client.link.abort()
    with contextlib.suppress(*DRIVER_ERRORS):
        await query
    raise Left
