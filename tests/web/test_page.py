"""The page in a headless Chromium, in front of the real program and a real Postgres."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.conftest import StartFunnel
from tests.funnel import Funnel
from tests.postgres import USERS, Postgres
from tests.web.browser import Browser, Tab, browser, find_browser

NASTY = "<img src=x onerror=\"document.title='owned'\"><b>shop&amp;"

# Text that is too faint for WCAG 2.1, 1.4.3 (4.5 to 1), with its contrast.
_FAINT = """(() => {
  const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const found = channels(getComputedStyle(at).backgroundColor);
      if (found[3] !== 0) return light(found);
    }
    return 1;
  };
  const told = [...document.querySelectorAll("body *")].filter((element) =>
    [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim()));
  return told.map((element) => {
    const [a, b] = [light(channels(getComputedStyle(element).color)), ground(element)];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    return `${contrast.toFixed(1)} ${element.tagName}.${element.className}`;
  }).filter((text) => parseFloat(text) < 4.5);
})()"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    command = find_browser()
    if command is None:
        pytest.skip("no Chromium here: install chromium-headless-shell (Debian) or chromium")
    with browser(command) as running:
        yield running


@pytest.fixture
def funnel(pgfunnel: StartFunnel, own_postgres: Postgres) -> Funnel:
    return pgfunnel(own_postgres, default_pool_size=7, query_wait_timeout=60)


def url(funnel: Funnel) -> str:
    return f"http://{funnel.host}:{funnel.http_port}/"


def shows(selector: str, text: str) -> str:
    """The condition that an element has this text."""
    quoted = text.replace("\\", "\\\\").replace("`", "\\`")
    return f"document.querySelector('{selector}')?.innerText.includes(`{quoted}`)"


def unblemished(tab: Tab) -> bool:
    """No exception, no complaint in the console, among which are breaches of the policy."""
    kinds = ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled")
    return not [event for kind in kinds for event in tab.events(kind)]


def test_it_follows_what_pgfunnel_does(chromium: Browser, funnel: Funnel) -> None:
    tab = chromium.open(url(funnel), width=1280)
    tab.until(shows("#pools", "No pool yet"))
    tab.until(shows("#state", "Serving"))
    with psycopg.connect(funnel.dsn("alice"), autocommit=True) as client:
        tab.until(shows("#pools", "as alice"))
        tab.until(shows("#pools", "0 of 7 in use, 1 idle"))
        client.execute("LISTEN jobs")
        tab.until(shows("#pins", "It listens on a channel"))
        tab.until(shows("#pinned", "LISTEN jobs"))
        client.execute("UNLISTEN jobs")
        tab.until(shows("#pins", "Nobody is pinned"))
        with client.transaction():
            client.execute("SELECT 1")
            tab.until(shows("#pools", "1 of 7 in use"))
        tab.until("/p99 ≤ /.test(document.querySelector('#tiles')?.innerText)")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(funnel.dsn("alice", "not hers"))
    tab.until(shows("#troubles", "client · login_failed · 28P01"))
    tab.until(shows("#logins", "told 28P01"))
    assert "not hers" not in tab.text()
    assert unblemished(tab)
    asked = {event["request"]["url"] for event in tab.events("Network.requestWillBeSent")}
    assert asked == {url(funnel) + name for name in ("", "page.js", "page.css", "status.json")}


def test_waiters_are_shown(chromium: Browser, pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=1)
    tab = chromium.open(url(funnel), width=1280)
    with psycopg.connect(funnel.dsn("bob")) as holder:
        holder.execute("SELECT 1")
        with psycopg.connect(funnel.dsn("bob"), autocommit=True) as waiter:
            waiter.pgconn.send_query(b"SELECT 2")
            waiter.pgconn.flush()
            tab.until(shows("#pools", "the first for"))
            tab.until(shows("#clients", "waiting"))
            holder.commit()
            while waiter.pgconn.get_result():
                continue
            tab.until("!" + shows("#pools", "the first for"))


def test_names_are_text_and_nothing_else(
    chromium: Browser, pgfunnel: StartFunnel, own_postgres: Postgres
) -> None:
    quoted = NASTY.replace('"', '""')
    own_postgres.psql(f'CREATE DATABASE "{quoted}"')
    any_database = own_postgres.dsn.rpartition("/")[0]
    funnel = pgfunnel(own_postgres, upstream=any_database)
    place = make_conninfo(host=funnel.host, port=funnel.port, dbname=NASTY)
    with psycopg.connect(place, user="alice", password=USERS["alice"]) as client:
        client.execute("SELECT 1")
        tab = chromium.open(url(funnel), width=390)
        tab.until(shows("#pools", NASTY))
    assert tab.run("document.querySelectorAll('#pools img, #pools b').length") == 0
    assert tab.run("document.title") == "pgfunnel"
    assert tab.run("document.documentElement.scrollWidth") == 390
    assert unblemished(tab)


def test_silence_is_said_and_the_end_of_it(chromium: Browser, funnel: Funnel) -> None:
    tab = chromium.open(url(funnel), width=1280)
    tab.until(shows("#state", "Serving"))
    os.kill(funnel.pid, signal.SIGSTOP)
    try:
        tab.until(shows("#alarm", "Nothing heard from pgfunnel: it does not answer"))
        assert "What is below is of" in tab.text("#alarm")
    finally:
        os.kill(funnel.pid, signal.SIGCONT)
    tab.until("!document.querySelector('#alarm').innerText")
    funnel.stop()
    tab.until(shows("#alarm", "it cannot be reached"))
    assert tab.run("document.title").startswith("⚠")


def test_draining_is_said(chromium: Browser, funnel: Funnel) -> None:
    tab = chromium.open(url(funnel), width=1280)
    with psycopg.connect(funnel.dsn("alice")) as client:
        client.execute("SELECT 1")
        funnel.signal(signal.SIGTERM)
        tab.until(shows("#state", "Not taking new clients: shutting down"))
    assert funnel.wait() == 0


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_can_be_read(chromium: Browser, funnel: Funnel, width: int, dark: bool) -> None:
    """Wide and narrow, light and dark: nothing beside the screen, nothing too faint."""
    with psycopg.connect(funnel.dsn("alice"), autocommit=True) as client:
        client.execute("CREATE TEMP TABLE kept (x int)")
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(funnel.dsn("alice", "not hers"))
        tab = chromium.open(url(funnel), width=width, dark=dark)
        tab.until(shows("#pinned", "CREATE TEMP TABLE"))
        tab.until(shows("#troubles", "28P01"))
    assert tab.run("document.documentElement.scrollWidth") == width
    assert tab.run(_FAINT) == []
    ground = tab.run("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, ground.strip("rgb()").split(","))) < 150) == dark


@pytest.mark.parametrize("width", [1280, 390])
def test_a_screen_reader_finds_its_way(chromium: Browser, funnel: Funnel, width: int) -> None:
    """The narrow layout shows no tables, and they are still tables to who cannot see it."""
    with psycopg.connect(funnel.dsn("alice"), autocommit=True) as client:
        client.execute("SELECT 1")
        tab = chromium.open(url(funnel), width=width)
        tab.until(shows("#pools", "alice"))
    nodes = tab.call("Accessibility.getFullAXTree")["nodes"]
    found = {(n["role"]["value"], n.get("name", {}).get("value", "")) for n in nodes if "role" in n}
    roles = {role for role, _ in found}
    assert {"main", "banner", "contentinfo", "status", "heading"} <= roles
    tables = {name for role, name in found if role == "table"}
    assert {"Pools", "Clients", "Pins", "Logins and refusals", "Last troubles"} <= tables
    headers = {name for role, name in found if role == "columnheader"}
    assert {"Pool", "Servers", "Waiters", "Clients"} <= headers
    assert tab.run("document.querySelectorAll('[aria-live], [role=status]').length") == 1


def test_the_page_may_be_switched_off(chromium: Browser, pgfunnel: StartFunnel) -> None:
    tab = chromium.open(url(pgfunnel(http_page=False)), width=1280)
    tab.until("document.body.innerText.includes('Nothing here')")


@pytest.mark.parametrize("width, shown", [(390, [5, 11]), (1280, [11, 11])])
def test_a_phone_shows_a_long_list_when_asked(
    chromium: Browser, funnel: Funnel, width: int, shown: list[int]
) -> None:
    tab = chromium.open(url(funnel), width=width)
    tab.until("document.querySelector('#troubles tbody')")
    assert tab.run(_FOLDED) == shown


_FOLDED = """(() => {
  const body = document.querySelector("#troubles tbody");
  body.replaceChildren(...Array.from({ length: 11 }, () => {
    const row = document.createElement("tr");
    row.append(document.createElement("td"));
    return row;
  }));
  const shown = () => [...body.rows].filter((row) => row.getClientRects().length).length;
  const folded = shown();
  document.querySelector("#troubles + .fold input").checked = true;
  return [folded, shown()];
})()"""
