import asyncio
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse
from prometheus_client.samples import Sample

from proxy.telemetry.reasons import CloseReason, Side
from proxy.web.exposition import Exposition
from proxy.web.metrics import METRICS
from proxy.web.metrics_page import page
from tests.unit.web.views import Pool, Proxy, serving, talk

OPEN = "application/openmetrics-text; version=1.0.0"


async def render(proxy: Proxy, accept: str = "") -> str:
    _, pieces = Exposition(proxy).render(accept)
    return b"".join([piece async for piece in pieces]).decode()


def parse_open(text: str) -> list[Metric]:
    return list(openmetrics.text_string_to_metric_families(text))  # type: ignore[no-untyped-call]


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    read: list[Sample] = [sample for family in parse(text) for sample in family.samples]
    found = {(s.name, frozenset(s.labels.items())): s.value for s in read}
    assert len(found) == len(read), "a series appears twice"
    return found


def busy() -> Proxy:
    pool = Pool(first_waited_since=time.monotonic() - 2.0)
    pool.counters.transactions = 11
    pool.counters.queries = 12
    pool.counters.bytes_received = 13
    pool.counters.bytes_sent = 14
    pool.counters.server_logins = 15
    pool.counters.server_login_failures = 16
    pool.counters.waits = 17
    pool.counters.borrow_wait.observe(0.02)
    pool.counters.transaction_time.observe(100.0)
    pool.counters.pin("listen")
    pool.counters.pin("listen")
    pool.counters.unpin("listen", 3.0)
    pool.counters.leaks["parameters"] += 1
    proxy = Proxy([pool, Pool("other")], started_at=time.time() - 60)
    proxy.totals.login("ok")
    proxy.totals.close(Side.SERVER, CloseReason.LIFETIME)
    proxy.totals.refusal("53300")
    proxy.totals.cancel("sent")
    return proxy


async def test_every_value_is_read_from_its_place() -> None:
    found = samples(await render(busy()))

    def value(name: str, **labels: str) -> float:
        return found["pgfunnel_" + name, frozenset(labels.items())]

    pool = {"database": "appdb", "user": "alice"}
    totals = {
        "transactions": 11,
        "queries": 12,
        "bytes_received": 13,
        "bytes_sent": 14,
        "waits": 17,
    }
    assert {name: value(f"{name}_total", **pool) for name in totals} == totals
    assert value("server_logins_total", result="ok", **pool) == 15
    assert value("server_logins_total", result="failed", **pool) == 16
    assert value("pool_size", **pool) == 20
    assert value("pool_clients", **pool) == 7
    assert value("pool_waiters", **pool) == 3
    assert value("pool_oldest_wait_seconds", **pool) == pytest.approx(2.0, abs=1.0)
    assert value("servers", state="active", **pool) == 4
    assert value("servers", state="resetting", **pool) == 0
    assert value("clients", state="idle") == 5
    assert value("clients", state="login") == 0
    assert value("max_client_conn") == 5000
    assert value("ready") == 1
    assert value("uptime_seconds") == pytest.approx(60, abs=5)
    assert value("pins_total", reason="listen", **pool) == 2
    assert value("pinned_clients", reason="listen", **pool) == 1
    assert value("pin_seconds_sum", reason="listen", **pool) == 3.0
    assert value("pin_seconds_bucket", reason="listen", le="604800.0", **pool) == 1
    assert value("leaks_total", kind="parameters", **pool) == 1
    assert value("logins_total", result="ok") == 1
    assert value("closes_total", side="server", reason="lifetime") == 1
    assert value("refusals_total", sqlstate="53300") == 1
    assert value("cancels_total", result="sent") == 1
    assert value("borrow_wait_seconds_bucket", le="0.01", **pool) == 0
    assert value("borrow_wait_seconds_bucket", le="0.025", **pool) == 1
    assert value("borrow_wait_seconds_sum", **pool) == 0.02
    assert value("transaction_duration_seconds_bucket", le="60.0", **pool) == 0
    assert value("transaction_duration_seconds_bucket", le="+Inf", **pool) == 1
    assert value("transaction_duration_seconds_count", **pool) == 1


async def test_every_declared_metric_appears_once_with_the_process() -> None:
    text = await render(busy())
    types = re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE)
    assert len(dict(types)) == len(types)
    assert {metric.name: metric.kind for metric in METRICS}.items() <= dict(types).items()
    assert {"process_resident_memory_bytes", "python_info"} <= dict(types).keys()


async def test_both_formats_say_the_same() -> None:
    proxy = busy()
    opened = await render(proxy, OPEN)
    assert opened.count("# EOF") == 1
    assert opened.endswith("# EOF\n")
    read = [s for family in parse_open(opened) for s in family.samples]
    ours = {(s.name, frozenset(s.labels.items())) for s in read if s.name.startswith("pgfunnel")}
    plain = {key for key in samples(await render(proxy)) if key[0].startswith("pgfunnel")}
    assert ours == plain


async def test_pieces_are_whole_however_many_pools_there_are() -> None:
    proxy = Proxy([Pool(f"db{i}") for i in range(400)])
    for accept in ("", OPEN):
        text = await render(proxy, accept)
        families = {f.name: f for f in (parse_open(text) if accept else parse(text))}
        buckets = families["pgfunnel_borrow_wait_seconds"].samples
        assert len([s for s in buckets if s.name.endswith("_count")]) == 400


async def test_a_scrape_lets_the_loop_run() -> None:
    proxy = Proxy([Pool(f"db{i}") for i in range(400)])
    _, pieces = Exposition(proxy).render("")
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count_turns())
    lines = [len(piece.splitlines()) async for piece in pieces]
    counting.cancel()
    assert max(lines) <= 110
    assert turns >= len(lines)


@given(st.text(st.characters(), max_size=20))
def test_no_name_breaks_the_page(name: str) -> None:
    text = asyncio.run(render(Proxy([Pool(name, user=name)])))
    sizes = [labels for (metric, labels) in samples(text) if metric == "pgfunnel_pool_size"]
    shown = name.encode("utf-8", "backslashreplace").decode()
    assert sizes == [frozenset({("database", shown), ("user", shown)})]


@pytest.mark.parametrize(
    "accept, content_type",
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        (OPEN, "application/openmetrics-text; version=1.0.0"),
        ("application/openmetrics-text; version=x.y", "text/plain; version=0.0.4; charset=utf-8"),
    ],
)
async def test_the_format_is_what_was_asked_for(accept: str, content_type: str) -> None:
    async with serving(busy()) as server:
        sent = f"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAccept: {accept}\r\n\r\n"
        answer = await talk(server.port, sent.encode())
    assert f"content-type: {content_type}".encode() in answer.lower()
    assert (b"# EOF\n" in answer) == ("openmetrics" in content_type)


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
async def test_promtool_has_nothing_to_say() -> None:
    text = await render(busy())
    ours = "".join(line for line in text.splitlines(True) if "pgfunnel" in line)
    ran = await asyncio.to_thread(
        subprocess.run,
        ["promtool", "check", "metrics"],
        input=ours,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert (ran.returncode, ran.stdout + ran.stderr) == (0, "")


def test_the_page_of_the_documentation_is_current() -> None:
    written = (Path(__file__).parents[3] / "docs/metrics.md").read_text()
    assert written == page(), "run: python -m proxy.web.metrics_page > docs/metrics.md"
