"""Frames of `pgfunnel top`, as text."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.telemetry.reasons import CloseReason, Side
from proxy.top.frame import bar, between, columns, cut, frame, lasting
from proxy.web.status import Status
from tests.unit.web.views import Pool, Proxy


async def status(*pools: Pool, **proxy: Any) -> dict[str, Any]:
    noted = Proxy(pools, started_at=time.time() - 7300, **proxy)
    noted.noted.note(
        time.time(), Side.CLIENT, CloseReason.WAIT_TIMEOUT, ("a\x1b[2Jb", "u"), "53300"
    )
    found: dict[str, Any] = json.loads(await Status(noted).read())
    return found


async def test_a_frame_says_what_the_page_says() -> None:
    pool = Pool(size=8, failing="connection refused")
    pool.counters.pin("listen")
    text = "\n".join(line.text for line in frame(await status(pool), 200))
    assert "serving, up 2 h" in text
    assert "4/8      ##########=====.....  2" in text
    assert "appdb: no login to Postgres: connection refused" in text
    assert "5 idle, 3 waiting" in text
    assert "UNLISTEN when done" in text
    assert "client  wait_timeout 53300" in text


async def test_a_narrow_terminal_shows_who_waits() -> None:
    pools = [Pool("a-database-with-a-long-name", "somebody", size=8)]
    lines = [line.text for line in frame(await status(*pools), 40)]
    (heads,) = [line for line in lines if line.startswith("POOL")]
    row = lines[lines.index(heads) + 1]
    assert heads.split() == ["POOL", "SERVERS", "WAITERS"]
    assert row.split()[0].endswith("~")
    assert row.split()[1:] == ["4/8", "3"]


async def test_not_ready_is_an_alarm() -> None:
    found = frame(await status(ready=False, why_not_ready="shutting down"), 80)
    assert [line.text for line in found if line.kind == "alarm"] == ["shutting down"]


async def test_nothing_can_steer_the_terminal() -> None:
    pools = [Pool("evil\x1b]0;owned\x07", "a\r\nb\x9b31m\u202e", failing="\x1b[2J")]
    for line in frame(await status(*pools), 300):
        assert line.text.isprintable()


@pytest.mark.parametrize("width", [1, 20, 80, 200])
async def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    pools = [Pool("数据库" * 30, "e\u0301" * 60, failing="x" * 300)]
    for line in frame(await status(*pools), width):
        assert columns(line.text) <= width


@given(st.text(), st.integers(1, 40))
def test_cut_fits_and_keeps_what_fits(text: str, width: int) -> None:
    found = cut(text, width)
    assert columns(found) <= width
    assert found.isprintable()
    if text.isprintable() and columns(text) <= width:
        assert found == text


@given(st.integers(0, 100), st.integers(0, 100), st.integers(0, 100))
def test_a_bar_is_always_as_long(used: int, idle: int, most: int) -> None:
    assert len(bar(used, used + idle, most)) == 20


@pytest.mark.parametrize(
    "seconds, words",
    [
        (0.00025, "0.25 ms"),
        (0.5, "500 ms"),
        (1.0, "1 s"),
        (119.0, "119 s"),
        (120.0, "2 min"),
        (7199.0, "119 min"),
        (7200.0, "2 h"),
        (200_000.0, "2 days"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert lasting(seconds) == words


def test_quantiles_are_the_bounds_of_their_bucket() -> None:
    assert between([0.0005, 0.001]) == "<= 1 ms"
    assert between([60.0, None]) == "over 60 s"
    assert between(None) == "-"
