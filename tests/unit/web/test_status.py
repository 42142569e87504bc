"""/status.json, the page's files and /quitquitquit as an HTTP client sees them."""

import asyncio
import http.client
import json
import time
from collections.abc import Mapping
from contextlib import closing
from typing import Any

import pytest

from proxy.telemetry.reasons import CloseReason, Side
from proxy.telemetry.views import CLIENT_STATES, PinView
from proxy.web import start
from proxy.web.http import Request
from proxy.web.quit import quitting
from proxy.web.routes import routes
from proxy.web.status import MOST_PINS, MOST_POOLS, Status
from tests.unit.web.views import Pool, Proxy, serving


class Answer:
    """What came back: code, headers in lower case, body."""

    def __init__(self, found: http.client.HTTPResponse) -> None:
        self.code = found.status
        self.headers = {name.lower(): value for name, value in found.getheaders()}
        self.body = found.read()


async def ask(
    port: int, path: str, method: str = "GET", headers: Mapping[str, str] | None = None
) -> Answer:
    def run() -> Answer:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as client:
            client.request(method, path, headers=dict(headers or {}))
            return Answer(client.getresponse())

    return await asyncio.to_thread(run)


async def read(status: Status) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(await status.read())
    return found


def pin(number: int) -> PinView:
    return PinView(
        f"C-{number}", "appdb", "alice", "pinned", "listen", "m", "a", 1.0, "LISTEN x", "d"
    )


async def test_the_status_has_pools_clients_pins_logins_and_troubles() -> None:
    pool = Pool(size=20, failing="connection refused", first_waited_since=time.monotonic() - 2)
    pool.counters.pin("listen")
    pool.counters.transactions = 11
    proxy = Proxy([pool], pins=[pin(1)], started_at=time.time() - 60)
    proxy.totals.login("ok")
    proxy.totals.refusal("53300")
    proxy.noted.note(time.time(), Side.CLIENT, CloseReason.WAIT_TIMEOUT, ("appdb", "alice"))
    found = await read(Status(proxy))
    (row,) = found["pools"]
    assert (row["database"], row["user"], row["size"], row["in_use"]) == ("appdb", "alice", 20, 4)
    assert row["servers"] == {"idle": 2, "active": 4}
    assert (row["waiting"], row["clients"], row["transactions"]) == (3, 7, 11)
    assert 2 <= row["oldest_wait_s"] < 4
    assert row["failing"] == "connection refused"
    assert found["clients"] == {**dict.fromkeys(CLIENT_STATES, 0), "idle": 5, "waiting": 3}
    assert (found["servers"]["active"], found["waiters"]) == (4, 3)
    assert found["pins"][0]["clients"] == 1
    assert "UNLISTEN" in found["pins"][0]["advice"]
    assert found["pinned"][0]["client"] == "C-1"
    assert (found["logins"], found["refusals"]) == ({"ok": 1}, {"53300": 1})
    assert found["troubles"][0]["reason"] == "wait_timeout"
    assert found["ready"] is True
    assert 60 <= found["uptime_s"] < 65


async def test_rates_come_with_the_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.web.status._FRESH", 0.0)
    pool = Pool()
    status = Status(Proxy([pool]))
    assert (await read(status))["recent"] is None
    pool.counters.transactions += 10
    pool.counters.transaction_time.observe(0.0007)
    found = await read(status)
    assert found["recent"]["transactions_per_s"] > 0
    assert found["recent"]["transaction"] == {
        "count": 1,
        "p50_s": [0.0005, 0.001],
        "p99_s": [0.0005, 0.001],
    }
    assert found["recent"]["wait"] == {"count": 0, "p50_s": None, "p99_s": None}
    assert found["pools"][0]["transactions_per_s"] > 0


async def test_many_who_ask_at_once_get_one_answer() -> None:
    status = Status(Proxy([Pool(str(i)) for i in range(100)]))
    answers = await asyncio.gather(*(status.read() for _ in range(50)))
    assert len(set(map(id, answers))) == 1


async def test_long_lists_are_cut_and_it_is_said() -> None:
    pools = [Pool(f"db{i}", waiting=i) for i in range(MOST_POOLS + 50)]
    found = await read(Status(Proxy(pools, pins=[pin(i) for i in range(1000)])))
    assert [row["waiting"] for row in found["pools"]] == list(range(MOST_POOLS + 49, 49, -1))
    assert found["pool_count"] == MOST_POOLS + 50
    assert found["waiters"] == sum(range(MOST_POOLS + 50))
    assert len(found["pinned"]) == MOST_PINS


async def test_names_that_are_no_text_do_not_break_it() -> None:
    found = await read(Status(Proxy([Pool('a"\\\udcff\u2028</script>')])))
    assert found["pools"][0]["database"] == 'a"\\?\u2028</script>'


async def test_it_is_built_in_slices() -> None:
    """Others get their turn at least once for every twenty pools, twice over."""
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    await Status(Proxy([Pool(str(i)) for i in range(200)])).read()
    task.cancel()
    assert turns >= 20


async def test_the_page_runs_nothing_but_its_own_files() -> None:
    async with serving() as server:
        for path, kind in (
            ("/", "text/html"),
            ("/page.js", "text/javascript"),
            ("/page.css", "text/css"),
            ("/status.json", "application/json"),
        ):
            answer = await ask(server.port, path)
            assert answer.code == 200
            assert answer.headers["content-type"].startswith(kind)
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert answer.headers["cache-control"] == "no-store"
            assert b"://" not in answer.body.replace(b"http://www.w3.org/2000/svg", b"")
            assert (await ask(server.port, path, "POST")).code == 405


async def test_the_page_may_be_off() -> None:
    served = routes(Proxy(), with_page=False)
    assert not {"/", "/page.js", "/status.json"} & set(served)
    assert {"/metrics", "/healthz", "/readyz", "/pins"} <= set(served)


async def test_without_the_setting_nobody_can_stop_it() -> None:
    async with serving() as server:
        assert (await ask(server.port, "/quitquitquit", "POST")).code == 404


async def test_quitquitquit_is_asked_for_by_post_and_stops_once() -> None:
    calls: list[str] = []
    server = await start(Proxy(), "127.0.0.1", 0, stop=lambda: calls.append("stop"))
    try:
        refused = await ask(server.port, "/quitquitquit")
        assert (refused.code, refused.headers["allow"]) == (405, "POST")
        assert calls == []
        for _ in range(3):
            answer = await ask(server.port, "/quitquitquit", "POST")
            assert (answer.code, answer.body) == (200, b"draining\n")
        assert calls == ["stop"]
    finally:
        await server.close()


@pytest.mark.parametrize(
    "peer, headers, code",
    [
        ("127.0.0.1", {}, 200),
        ("127.8.9.10", {}, 200),
        ("::1", {}, 200),
        ("::ffff:127.0.0.1", {}, 200),
        ("10.0.0.1", {}, 403),
        ("::ffff:10.0.0.1", {}, 403),
        ("fe80::1%eth0", {}, 403),
        ("", {}, 403),
        ("127.0.0.1", {"origin": "https://example.org"}, 403),
        ("127.0.0.1", {"origin": "null"}, 403),
        ("127.0.0.1", {"x-forwarded-for": "10.0.0.1"}, 403),
        ("127.0.0.1", {"forwarded": "for=10.0.0.1"}, 403),
    ],
)
async def test_only_this_machine_may_ask(peer: str, headers: dict[str, str], code: int) -> None:
    calls: list[str] = []
    route = quitting(lambda: calls.append("stop"))
    answer = await route(Request("POST", "/quitquitquit", headers=headers, peer=peer))
    assert answer.status == code
    assert calls == (["stop"] if code == 200 else [])
