"""The page about the console is current, and PgBouncer's commands are all accounted for."""

from __future__ import annotations

from pathlib import Path

from proxy.admin.console import HELP
from proxy.admin.orders import ORDERS
from proxy.admin.reference import page
from proxy.admin.show import TABLES
from proxy.settings.compatibility import CONSOLE, NO_USE

DOCS = Path(__file__).parents[3] / "docs"


def test_the_page_is_current() -> None:
    remedy = "run `python -m proxy.admin.reference > docs/console.md`"
    assert (DOCS / "console.md").read_text() == page().rstrip() + "\n", remedy


def test_the_page_about_pgbouncer_names_every_command() -> None:
    shows = {name.removeprefix("SHOW ") for name in CONSOLE if name.startswith("SHOW ")}
    assert shows - {"HELP", "FDS"} == TABLES.keys() - {"PINS", "PREPARED"}
    assert CONSOLE["SHOW FDS"][0] == CONSOLE["SUSPEND"][0] == NO_USE
    orders = {name.partition(" ")[0] for name in CONSOLE if not name.startswith("SHOW ")}
    assert orders == ORDERS.keys()


def test_every_command_says_what_it_does() -> None:
    assert all(order.doc and "\n" not in order.doc for order in ORDERS.values())


def test_help_names_every_table() -> None:
    shown = [line.removeprefix("\tSHOW ") for line in HELP.splitlines() if "SHOW" in line]
    assert sorted("|".join(shown).split("|")) == sorted(["HELP", *TABLES])
