"""Actions that set and reset parameters, in every way that SQL has."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tests.sessions.client import Action, Client
from tests.sessions.model import CUSTOM, NAMES, REPORTED, ROLES
from tests.sessions.world import word_of

_KIND = "parameters"


def quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _literal(name: str, value: str) -> str:
    """Lists such as search_path lose their meaning in quotes."""
    return value if name in ("search_path", "DateStyle") else quoted(value)


def _pick(client: Client) -> tuple[str, str]:
    name = client.chance.choice((*NAMES, *REPORTED, *CUSTOM))
    return name, client.value_for(name)


_FORMS: tuple[Callable[[str, str], str], ...] = (
    lambda n, v: f"SET {n} TO {_literal(n, v)}",
    lambda n, v: f"SET SESSION {n} = {_literal(n, v)}",
    lambda n, v: f"/* a /* nested */ comment; */ sEt\n{n} = {_literal(n, v)} -- no SET LOCAL",
    lambda n, v: f"SELECT set_config({quoted(n)}, {quoted(v)}, false)",
    lambda n, v: f"WITH s AS (SELECT set_config({quoted(n)}, {quoted(v)}, false)) SELECT * FROM s",
    lambda n, v: f"SELECT sessions_lab.put_{word_of(n)}({quoted(v)})",
    lambda n, v: f"DO $x$BEGIN PERFORM set_config({quoted(n)}, {quoted(v)}, false); END$x$",
)


async def set_one(client: Client) -> None:
    name, value = _pick(client)
    sql = client.chance.choice(_FORMS)(name, value)
    await client.run(_KIND, sql, lambda: client.model.put(name, value))


async def set_by_arguments(client: Client) -> None:
    """set_config with parameters of the protocol: the text does not tell what is set."""
    name, value = _pick(client)
    local = client.chance.random() < 0.3
    sql = "SELECT set_config($1::text, $2::text, $3::bool)"
    rows = await client.ask(_KIND, sql, name, value, local)
    client.check(_KIND, f"set_config {name}", rows, [(value,)])
    client.model.put(name, value, local=local)
    if not client.model.in_transaction:
        client.model.commit()


async def set_by_update(client: Client) -> None:
    """ "An UPDATE ... is equivalent to executing the SET command" (pg_settings)."""
    name, value = "work_mem", client.value_for("work_mem")
    sql = f"UPDATE pg_settings SET setting = {quoted(value)} WHERE name = '{name}'"
    effect = lambda: client.model.put(name, value)  # noqa: E731
    await client.run(_KIND, sql, effect, fails="25006" if client.model.read_only else "")


async def set_local(client: Client) -> None:
    name, value = _pick(client)
    sql = f"SET LOCAL {name} TO {_literal(name, value)}"
    if client.chance.random() < 0.4:
        sql = f"SELECT set_config({quoted(name)}, {quoted(value)}, true)"
    await client.run(_KIND, sql, lambda: client.model.put(name, value, local=True))


async def reset_one(client: Client) -> None:
    name = client.chance.choice(NAMES)
    sql = client.chance.choice((f"RESET {name}", f"SET {name} TO DEFAULT"))
    await client.run(_KIND, sql, lambda: client.model.reset(name))


async def reset_all(client: Client) -> None:
    await client.run(_KIND, "RESET ALL", client.model.reset_all)


async def time_zone(client: Client) -> None:
    if client.chance.random() < 0.3:
        sql = client.chance.choice(("SET TIME ZONE DEFAULT", "SET TIME ZONE LOCAL"))
        await client.run(_KIND, sql, lambda: client.model.reset("TimeZone"))
        return
    value = client.value_for("TimeZone")
    await client.run(_KIND, f"SET TIME ZONE '{value}'", lambda: client.model.put("TimeZone", value))


async def characteristics(client: Client) -> None:
    name, value, words = client.chance.choice(
        (
            ("default_transaction_isolation", "repeatable read", "ISOLATION LEVEL REPEATABLE READ"),
            ("default_transaction_isolation", "read committed", "ISOLATION LEVEL READ COMMITTED"),
            ("default_transaction_read_only", "on", "READ ONLY"),
            ("default_transaction_read_only", "off", "READ WRITE"),
        )
    )
    sql = f"SET SESSION CHARACTERISTICS AS TRANSACTION {words}"
    await client.run(_KIND, sql, lambda: client.model.put(name, value))


async def role(client: Client) -> None:
    if client.model.get("session_authorization") != client.model.base("session_authorization"):
        return
    name = client.chance.choice(("none", *ROLES))
    local = "LOCAL " if client.chance.random() < 0.3 else ""
    sql = f"SET {local}ROLE {name}"
    if name == "none" and not local:
        sql = client.chance.choice((sql, "RESET ROLE"))
    await client.run(_KIND, sql, lambda: client.model.put("role", name, local=bool(local)))


async def authorization(client: Client) -> None:
    if client.model.in_transaction or client.model.get("role") != "none":
        return
    name = client.chance.choice(ROLES)
    sql = f"SET SESSION AUTHORIZATION {name}"
    if not client.model.is_itself:
        name = client.model.base("session_authorization") or ""
        sql = client.chance.choice(
            ("RESET SESSION AUTHORIZATION", "SET SESSION AUTHORIZATION DEFAULT")
        )
    await client.run(_KIND, sql, lambda: client.model.put("session_authorization", name))


async def refused(client: Client) -> None:
    """A SET that Postgres refuses changes nothing."""
    sql, state = client.chance.choice(
        (
            ("SET work_mem TO 'banana'", "22023"),
            ("SET no_such_parameter TO 1", "42704"),
            ("SET TimeZone TO 'Mars/Olympus'", "22023"),
            ("SELECT set_config('work_mem', '5MB', false), 1 / 0", "22012"),
            ("SET ROLE nobody_at_all", "22023"),
        )
    )
    await client.run(_KIND, sql, fails=state)


async def several(client: Client) -> None:
    """A multi-statement string is one transaction: an error in it undoes its SETs."""
    if client.model.in_transaction:
        return
    (one, first), (two, second) = _pick(client), _pick(client)
    statements = [f"SET {one} TO {_literal(one, first)}", "SELECT 1"]
    statements.append(f"SELECT set_config({quoted(two)}, {quoted(second)}, false)")

    def both() -> None:
        client.model.put(one, first)
        client.model.put(two, second)

    fate = client.chance.choice(("done", "failed", "committed, then failed", "rolled back"))
    if fate == "done":
        await client.script(_KIND, statements, both)
    elif fate == "failed":
        await client.script(_KIND, [*statements, "SELECT 1 / 0"], fails="22012")
    elif fate == "rolled back":
        await client.script(_KIND, ["BEGIN", *statements, "ROLLBACK", "SELECT 2"])
    else:
        ended = [*statements, "COMMIT", "SET work_mem TO '1GB'", "SELECT 1 / 0"]
        await client.script(_KIND, ended, fails="22012")
        both()
        client.model.commit()


async def pipelined(client: Client) -> None:
    """Statements up to one Sync are one transaction too."""
    if client.model.in_transaction or not client.link.can_pipeline:
        return
    name, value = _pick(client)
    statements = [f"SELECT set_config({quoted(name)}, {quoted(value)}, false)"]
    statements.append(f"SELECT current_setting('{name}')")
    if client.chance.random() < 0.4:
        statements = ["BEGIN", *statements, "COMMIT"]
    fails = client.chance.random() < 0.3
    if fails:
        await client.pipeline(_KIND, [*statements, "SELECT 1 / 0"], "22012")
    else:
        rows = await client.pipeline(_KIND, statements)
        client.check(_KIND, "pipelined", [v for row in rows for (v,) in row], [value] * 2)
    if not fails or statements[-1] == "COMMIT":
        client.model.put(name, value)
        client.model.commit()


async def put_back_in_cycles(client: Client) -> None:
    """RESET in one cycle of a pipeline holds in the next."""
    if client.model.in_transaction or not client.link.can_pipeline:
        return
    name = client.chance.choice([n for n in NAMES if client.model.base(n) is not None])
    back = client.chance.choice((f"RESET {name}", f"SET {name} TO DEFAULT", "RESET ALL"))
    ahead = client.chance.choice(("SELECT 1", "SELECT pg_sleep(0.01)"))
    asks = f"SELECT current_setting('{name}')"
    rows = await client.pipeline(_KIND, [ahead, back, asks, "SELECT 2"], syncs=True)
    client.check(_KIND, f"{back} in cycles", rows[2], [(client.model.base(name),)])
    if back == "RESET ALL":
        client.model.reset_all()
    else:
        client.model.reset(name)
    client.model.commit()


ACTIONS: Mapping[Action, int] = {
    set_one: 8,
    set_by_arguments: 2,
    set_by_update: 1,
    set_local: 4,
    reset_one: 4,
    reset_all: 1,
    time_zone: 2,
    characteristics: 1,
    role: 2,
    authorization: 1,
    refused: 1,
    several: 3,
    pipelined: 4,
    put_back_in_cycles: 3,
}
