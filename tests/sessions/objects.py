"""Actions on what a session holds: channels, locks, temporary relations, cursors, sequences."""

from __future__ import annotations

import time
from collections.abc import Mapping

from tests.sessions.client import Action, Client
from tests.sessions.looks import await_notifications, temp_content
from tests.sessions.model import Cursor, Temp
from tests.sessions.world import SEQUENCES

_LATE = 10.0
_ROWS = 6
_TEMP_NAMES = {"scratch": "table", "notes": "table", "peep": "view", "counter": "sequence"}


# -- channels ----------------------------------------------------------------------------


async def listen(client: Client) -> None:
    """A new channel, or one it has: a channel that was given up is not taken again."""
    channel = f"ch_{client.tag().replace('c', '').replace('-', '_')}"
    channel = client.chance.choice((channel, *sorted(client.model.channels)))
    listens = client.model.now.listens
    sql = client.chance.choice((f"LISTEN {channel}", f"SELECT sessions_lab.hear('{channel}')"))
    await client.run("listen", sql, lambda: listens.append(("LISTEN", channel)))
    announce(client)


async def unlisten(client: Client) -> None:
    if client.model.in_transaction and client.ear.due:
        return  # notifications come after the transaction only
    channel = client.chance.choice(("*", "ch_nobody", *sorted(client.model.channels)))
    await stop_listening(client)
    listens = client.model.now.listens
    await client.run("listen", f"UNLISTEN {channel}", lambda: listens.append(("", channel)))
    announce(client)


def announce(client: Client) -> None:
    """Others may notify the channels that this session certainly listens on."""
    if not client.model.in_transaction:
        client.world.open_channels.update(dict.fromkeys(client.model.channels, client.ear))


async def stop_listening(client: Client) -> None:
    """Nobody is to count on this session's channels; what was sent must still come."""
    for channel in client.model.channels:
        client.world.open_channels.pop(channel, None)
    if client.ear.due:
        await await_notifications(client)


async def notify(client: Client) -> None:
    """To a session that listens: it must come, unless it was rolled back."""
    if client.model.in_transaction or not client.world.open_channels:
        return
    channel, ear = client.chance.choice(sorted(client.world.open_channels.items(), key=str))
    payload = client.tag()
    if client.chance.random() < 0.2:
        ear.never.add(payload)
        await client.script("listen", ["BEGIN", f"NOTIFY {channel}, '{payload}'", "ROLLBACK"])
        return
    sql = client.chance.choice(
        (f"NOTIFY {channel}, '{payload}'", f"SELECT pg_notify('{channel}', '{payload}')")
    )
    await client.run("listen", sql)
    if client.world.open_channels.get(channel) is ear:
        ear.expect(payload, time.monotonic() + _LATE)


# -- session advisory locks --------------------------------------------------------------


async def lock(client: Client) -> None:
    key = _key(client)
    function = client.chance.choice(("pg_advisory_lock", "sessions_lab.take"))
    await client.run("locks", f"SELECT {function}({key})", lambda: _locked(client, key))


async def try_lock(client: Client) -> None:
    """Nobody else takes this session's keys."""
    key = _key(client)
    rows = await client.ask("locks", f"SELECT pg_try_advisory_lock({key})")
    client.check("locks", f"own try_lock {key}", rows, [(True,)])
    _locked(client, key)


def _key(client: Client) -> str:
    """A new key, or one it holds: a key that was given up is not taken again."""
    new = client.tag().removeprefix("c").replace("-", ", ")
    return client.chance.choice((new, *sorted(client.model.locks)))


def _locked(client: Client, key: str) -> None:
    client.model.locks[key] = client.model.locks.get(key, 0) + 1
    client.world.held_keys.add(key)


async def unlock(client: Client) -> None:
    key = _key(client)
    held = client.model.locks.get(key, 0)
    if held <= 1:
        client.world.held_keys.discard(key)
    rows = await client.ask("locks", f"SELECT pg_advisory_unlock({key})")
    client.check("locks", f"unlock {key}", rows, [(held > 0,)])
    if held > 1:
        client.model.locks[key] = held - 1
    else:
        client.model.locks.pop(key, None)


async def try_foreign_lock(client: Client) -> None:
    """A key that another session holds all the while cannot be had; the try ends by itself."""
    foreign = sorted(k for k in client.world.held_keys if not k.startswith(f"{client.serial}, "))
    if not foreign or client.model.in_transaction:
        return
    key = client.chance.choice(foreign)
    rows = await client.ask("locks", f"SELECT pg_try_advisory_xact_lock({key})")
    if key in client.world.held_keys:
        client.check("locks", f"try_lock of a foreign key {key}", rows, [(False,)])


# -- temporary relations -----------------------------------------------------------------


async def create_temp(client: Client) -> None:
    """Names are the same for all sessions: one that is seen by another is in its way."""
    if not _may_write(client):
        return
    name = client.chance.choice(list(_TEMP_NAMES))
    kind, content = _TEMP_NAMES[name], client.tag()
    on_commit = client.chance.choice(("", "", "DROP", "DELETE ROWS")) if kind == "table" else ""
    if kind == "sequence":
        content = str(client.serial)
    after = f" ON COMMIT {on_commit}" if on_commit else ""
    sql = {
        "table": f"CREATE TEMP TABLE {name}{after} AS SELECT '{content}'::text AS v",
        "view": f"CREATE TEMPORARY VIEW {name} AS SELECT '{content}'::text AS v",
        "sequence": f"CREATE TEMP SEQUENCE {name} START {content}",
    }[kind]
    taken = name in client.model.now.temps
    temp = Temp(kind, content, on_commit)
    temps = client.model.now.temps
    effect = lambda: temps.update({name: temp})  # noqa: E731
    await client.run("temp", sql, effect, fails="42P07" if taken else "")


async def write_temp(client: Client) -> None:
    name = client.chance.choice(("scratch", "notes"))
    if not _may_write(client):
        return
    temp = client.model.now.temps.get(name)
    if temp is None:
        await client.run("temp", f"UPDATE {name} SET v = 'x'", fails="42P01")
    elif temp.content:
        content = client.tag()
        changed = Temp(temp.kind, content, temp.on_commit)
        sql = f"UPDATE {name} SET v = '{content}'"
        await client.run("temp", sql, lambda: client.model.now.temps.update({name: changed}))
        if name in client.model.now.temps and not client.model.failed:
            await temp_content(client, name)


async def drop_temp(client: Client) -> None:
    if not _may_write(client):
        return
    name = client.chance.choice(list(_TEMP_NAMES))
    fails = "" if name in client.model.now.temps else "42P01"
    sql = f"DROP {_TEMP_NAMES[name]} {name}"
    await client.run("temp", sql, lambda: client.model.now.temps.pop(name), fails=fails)


def _may_write(client: Client) -> bool:
    return client.model.is_itself and not client.model.read_only


# -- cursors -----------------------------------------------------------------------------


async def declare(client: Client) -> None:
    name = client.chance.choice(("walk", "peek"))
    hold = client.chance.random() < 0.7
    content = client.tag()
    words = "WITH HOLD" if hold else ""
    sql = f"DECLARE {name} CURSOR {words} FOR "
    sql += f"SELECT g::int, '{content}'::text FROM generate_series(1, {_ROWS}) g"
    fails = "42P03" if name in client.model.now.cursors else ""
    if not hold and not client.model.in_transaction:
        fails = "25P01"
    cursor = Cursor([(i + 1, content) for i in range(_ROWS)], hold)
    await client.run(
        "cursors", sql, lambda: client.model.now.cursors.update({name: cursor}), fails=fails
    )


async def fetch(client: Client) -> None:
    name = client.chance.choice(("walk", "peek"))
    cursor = client.model.now.cursors.get(name)
    if cursor is None:
        await client.run("cursors", f"FETCH 2 FROM {name}", fails="34000")
        return
    rows = await client.ask("cursors", f"FETCH 2 FROM {name}")
    client.check("cursors", f"FETCH {name}", rows, cursor.rows[:2])
    del cursor.rows[:2]


async def close(client: Client) -> None:
    name = client.chance.choice(("walk", "peek"))
    fails = "" if name in client.model.now.cursors else "34000"
    await client.run(
        "cursors", f"CLOSE {name}", lambda: client.model.now.cursors.pop(name), fails=fails
    )


# -- sequences ---------------------------------------------------------------------------


async def draw(client: Client) -> None:
    """Every value of a sequence is given once, and stays with whom it was given to."""
    model = client.model
    sequence = client.chance.choice(SEQUENCES)
    if model.read_only:
        await client.run("sequences", f"SELECT nextval('{sequence}')", fails="25006")
        return
    rows = await client.ask("sequences", f"SELECT nextval('{sequence}')")
    ((value,),) = rows
    given = client.world.drawn[sequence]
    client.check("sequences", f"nextval {value} was given before", value in given, False)
    given.add(value)
    model.drawn[sequence] = model.last = value


ACTIONS: Mapping[str, Mapping[Action, int]] = {
    "listen": {listen: 3, unlisten: 2, notify: 8},
    "locks": {lock: 2, try_lock: 2, unlock: 4, try_foreign_lock: 6},
    "temp": {create_temp: 4, write_temp: 3, drop_temp: 4},
    "cursors": {declare: 3, fetch: 5, close: 3},
    "sequences": {draw: 6},
}
