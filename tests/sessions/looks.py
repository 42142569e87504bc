"""Reading what a session can see, and comparing it with the model."""

from __future__ import annotations

import asyncio
import time

from tests.sessions.client import Client, Unexpected
from tests.sessions.model import NAMES, TOLD
from tests.sessions.world import SEQUENCES

_SET_BY_ANYONE = [*NAMES, "role"]
_SETTINGS = "SELECT n, current_setting(n, true) FROM unnest($1::text[]) AS n"
_TEMPS = (
    "SELECT relname::text FROM pg_class WHERE relnamespace = pg_my_temp_schema()"
    " AND relkind IN ('r', 'v', 'S') ORDER BY 1"
)
_LOCKS = (
    "SELECT classid::text || ', ' || objid FROM pg_locks WHERE locktype = 'advisory'"
    " AND objsubid = 2 AND pid = pg_backend_pid() ORDER BY 1"
)
_CURSORS = "SELECT name FROM pg_cursors WHERE statement LIKE 'DECLARE%' ORDER BY 1"
_NOT_DEFINED = "55000"
_LATE = 10.0


async def settings(client: Client) -> None:
    """Every parameter anyone ever sets. Unset custom names read NULL or empty: both are unset."""
    rows = await client.ask("parameters", _SETTINGS, _SET_BY_ANYONE)
    want = {name: client.model.get(name) or "" for name in _SET_BY_ANYONE}
    got = {name: value or "" for name, value in rows}
    differ = {n: (got.get(n), want[n]) for n in want if got.get(n) != want[n]}
    client.check("parameters", "settings (got, want)", differ, {})


async def users(client: Client) -> None:
    rows = await client.ask("parameters", "SELECT session_user::text, current_user::text")
    session = client.model.get("session_authorization")
    client.check("parameters", "users", rows, [(session, client.model.user)])


async def home(client: Client) -> None:
    """What search_path finds."""
    await at_home(client, "parameters", "SELECT v FROM home")


async def at_home(client: Client, kind: str, sql: str) -> None:
    found = client.model.home
    if found is None:
        await client.run(kind, sql, fails="42P01")
        return
    rows = await client.ask(kind, sql)
    client.check(kind, sql, rows, [(found,)])


async def told(client: Client) -> None:
    """ParameterStatus, as the driver has heard it."""
    got = {name: client.link.told(name) for name in TOLD}
    want = {name: client.model.get(name) for name in TOLD}
    differ = {n: (got[n], want[n]) for n in TOLD if got[n] is not None and got[n] != want[n]}
    client.check("told", "ParameterStatus (got, want)", differ, {})


async def channels(client: Client) -> None:
    rows = await client.ask("listen", "SELECT pg_listening_channels() ORDER BY 1")
    client.check("listen", "channels", [c for (c,) in rows], sorted(client.model.channels))


async def notifications(client: Client) -> None:
    """What was sent to this session has come, and nothing else has.

    Postgres tells of nothing while a transaction is open, however long that takes.
    """
    in_transaction = client.model.in_transaction
    if client.ear.due and not in_transaction:
        await client.ask("listen", "SELECT 1")
    strange = [n for n in client.ear.heard if not n[0].startswith(f"ch_{client.serial}_")]
    client.check("listen", "notifications of others", strange, [])
    never = [n for n in client.ear.heard if n[1] in client.ear.never]
    client.check("listen", "notifications rolled back", never, [])
    now = time.monotonic()
    late = [p for p, deadline in client.ear.due.items() if deadline < now and not in_transaction]
    client.check("listen", "notifications missing", late, [])


async def await_notifications(client: Client) -> None:
    """Before it stops listening: what is on its way may come."""
    deadline = time.monotonic() + _LATE
    while client.ear.due and time.monotonic() < deadline:
        await client.ask("listen", "SELECT 1")
        await asyncio.sleep(0.01)
    client.check("listen", "notifications missing", list(client.ear.due), [])


async def locks(client: Client) -> None:
    rows = await client.ask("locks", _LOCKS)
    client.check("locks", "own locks", [key for (key,) in rows], sorted(client.model.locks))


async def temps(client: Client) -> None:
    rows = await client.ask("temp", _TEMPS)
    want = sorted(client.model.now.temps)
    client.check("temp", "relations", [name for (name,) in rows], want)
    if client.model.is_itself:
        for name in want:
            await temp_content(client, name)


async def temp_content(client: Client, name: str) -> None:
    temp = client.model.now.temps[name]
    column = "last_value::text" if temp.kind == "sequence" else "v"
    rows = await client.ask("temp", f"SELECT {column} FROM pg_temp.{name}")
    client.check("temp", name, rows, [(temp.content,)] if temp.content else [])


async def cursors(client: Client) -> None:
    rows = await client.ask("cursors", _CURSORS)
    client.check("cursors", "open", [name for (name,) in rows], sorted(client.model.now.cursors))


async def sequences(client: Client) -> None:
    """currval and lastval: what this session drew, or an error that says there is none."""
    own = {f"SELECT currval('{s}')": client.model.drawn.get(s) for s in SEQUENCES}
    own["SELECT lastval()"] = client.model.last
    sql = client.chance.choice(list(own))
    if client.model.in_transaction and own[sql] is None:
        return  # the error would end the transaction
    try:
        rows = await client.ask("sequences", sql, fails=_NOT_DEFINED if own[sql] is None else "")
    except Unexpected as error:
        if error.state != _NOT_DEFINED:
            raise
        client.world.tally.declined += 1
        client.model.failed = client.model.in_transaction
        return
    if own[sql] is not None:
        client.check("sequences", sql, rows, [(own[sql],)])


async def prepared(client: Client) -> None:
    """One name that the client has works; one that it has not fails with 26000."""
    if not client.link.keeps_names:
        return
    name = client.chance.choice(("plan", "pick", "mine", "house"))
    plan = client.model.plans.get(name)
    if plan is None and client.model.in_transaction:
        return
    if plan is not None and name == "house":
        await at_home(client, "prepared", "EXECUTE house")
        return
    arguments = plan.arguments if plan else "(1, 'x')" if name == "pick" else ""
    sql = f"EXECUTE {name}{arguments}"
    rows = await client.ask("prepared", sql, fails="" if plan else "26000")
    if plan:
        client.check("prepared", sql, rows, [plan.answer])


async def own_prepared(client: Client) -> None:
    """A statement prepared in the protocol, executed there."""
    plan = client.model.plans.get("mine")
    if plan is None or not plan.protocol:
        return
    rows = await client.execute_prepared("mine")
    client.check("prepared", "mine", rows, [plan.answer])


LOOKS = {
    "parameters": (settings, settings, users, home),
    "told": (told,),
    "prepared": (prepared, prepared, own_prepared),
    "listen": (channels, notifications),
    "locks": (locks,),
    "temp": (temps,),
    "cursors": (cursors,),
    "sequences": (sequences,),
}


async def look(client: Client, kinds: tuple[str, ...]) -> None:
    """Some looks at random; in an aborted transaction, that it is one."""
    if client.model.failed:
        await client.run("parameters", "SELECT 'aborted'", fails="25P02")
        return
    if "told" in kinds:
        await told(client)
    for kind in client.chance.sample(kinds, min(2, len(kinds))):
        await client.chance.choice(LOOKS[kind])(client)
        if client.model.failed:
            return
