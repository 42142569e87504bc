"""Actions on prepared statements; SQL's and the protocol's share one space of names."""

from __future__ import annotations

from collections.abc import Mapping

from tests.sessions.client import Action, Client
from tests.sessions.model import Plan

_KIND = "prepared"


async def prepare(client: Client) -> None:
    if not client.link.keeps_names:
        return
    tag = client.tag()
    name = client.chance.choice(("plan", "pick"))
    fails = "42P05" if name in client.model.plans else ""
    sql, plan = _declared(name, tag)
    await client.run(_KIND, sql, lambda: client.model.plans.update({name: plan}), fails=fails)


def _declared(name: str, tag: str) -> tuple[str, Plan]:
    """All sessions give different statements the same two names."""
    if name == "plan":
        return f"PREPARE plan AS SELECT '{tag}'::text", Plan("", (tag,))
    sql = f"PREPARE pick(int, text) AS SELECT $1 + 7, $2 || '{tag}'"
    return sql, Plan("(3, 'it''s ')", (10, f"it's {tag}"))


async def prepare_home(client: Client) -> None:
    """What it finds depends on search_path: now, and again whenever it is executed."""
    if not client.link.keeps_names:
        return
    fails = "" if client.model.home else "42P01"
    if "house" in client.model.plans:
        fails += " 42P05"  # whether the name is taken is looked at after the text is read
    effect = lambda: client.model.plans.update(house=Plan("", ()))  # noqa: E731
    await client.run(_KIND, "PREPARE house AS SELECT v FROM home", effect, fails=fails.strip())


async def parse(client: Client) -> None:
    """By the protocol, under a name that all sessions use."""
    if client.link.can_pipeline:
        return
    tag = client.tag()
    fails = "42P05" if "mine" in client.model.plans else ""
    plan = Plan("", (tag,), protocol=True)
    effect = lambda: client.model.plans.update(mine=plan)  # noqa: E731
    await client.prepare("mine", f"SELECT '{tag}'::text", effect, fails=fails)


async def parse_broken(client: Client) -> None:
    """A Parse that fails takes no name."""
    if client.link.can_pipeline or "mine" in client.model.plans:
        return
    await client.prepare("mine", "SELECT no_such_column", lambda: None, fails="42703")


async def prepare_broken(client: Client) -> None:
    if "plan" not in client.model.plans:
        await client.run(_KIND, "PREPARE plan AS SELECT no_such_column", fails="42703")


async def script(client: Client) -> None:
    """PREPARE, EXECUTE and DEALLOCATE in one string; an error does not undo a PREPARE."""
    if client.model.in_transaction or "plan" in client.model.plans or not client.link.keeps_names:
        return
    sql, plan = _declared("plan", client.tag())
    fate = client.chance.choice(("gone", "kept", "failed"))
    if fate == "gone":
        await client.script(_KIND, [sql, "EXECUTE plan", "DEALLOCATE plan"])
        return
    statements = ["SELECT 1", sql, "EXECUTE plan"] + ["SELECT 1 / 0"] * (fate == "failed")
    await client.script(_KIND, statements, fails="22012" if fate == "failed" else "")
    client.model.plans["plan"] = plan


async def explain(client: Client) -> None:
    if "plan" in client.model.plans:
        rows = await client.ask(_KIND, "EXPLAIN (COSTS OFF) EXECUTE plan")
        client.check(_KIND, "EXPLAIN EXECUTE", rows[0], ("Result",))


async def deallocate(client: Client) -> None:
    name = client.chance.choice(("plan", "pick", "mine", "house"))
    fails = "" if name in client.model.plans else "26000"
    word = client.chance.choice(("DEALLOCATE", "DEALLOCATE PREPARE"))
    await client.run(_KIND, f"{word} {name}", lambda: client.model.plans.pop(name), fails=fails)


async def deallocate_all(client: Client) -> None:
    await client.run(_KIND, "DEALLOCATE ALL", client.model.plans.clear)
    client.link.forget_statements()


ACTIONS: Mapping[Action, int] = {
    prepare: 5,
    prepare_home: 4,
    parse: 3,
    parse_broken: 1,
    prepare_broken: 1,
    script: 2,
    explain: 1,
    deallocate: 4,
    deallocate_all: 1,
}
