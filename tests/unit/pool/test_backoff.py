"""Pauses between failed logins."""

from __future__ import annotations

import pytest

from proxy.pool.backoff import Backoff


@pytest.mark.parametrize("away, pause", [(0, 1.0), (3, 1.0), (8, 2.0), (60, 15.0), (9e9, 15.0)])
def test_a_pause_is_a_quarter_of_the_time_that_it_has_failed_for(away: float, pause: float) -> None:
    backoff = Backoff(1.0, 15.0)
    backoff.failed(100.0, 0.0)
    now = 100.0 + away
    backoff.failed(now, 0.0)
    assert backoff.waits(now + 0.99 * pause)
    assert not backoff.waits(now + 1.01 * pause)


def test_logins_that_fail_side_by_side_make_no_pause_longer() -> None:
    backoff = Backoff(0.1, 15.0)
    for i in range(8):
        backoff.failed(100.0 + i / 100, 0.0)
    assert not backoff.waits(100.2)


def test_jitter_shortens_by_up_to_a_half() -> None:
    backoff = Backoff(4.0, 15.0)
    backoff.failed(100.0, 1.0)
    assert backoff.retry_at == 102.0


def test_success_ends_it() -> None:
    backoff = Backoff(1.0, 15.0)
    assert backoff.failing_for(5.0) == 0.0
    backoff.failed(10.0, 0.0)
    backoff.failed(12.0, 0.0)
    assert backoff.failing_for(13.0) == 3.0
    backoff.succeeded()
    assert not backoff.waits(13.0)
    assert backoff.failing_for(14.0) == 0.0
    backoff.failed(90.0, 0.0)
    assert backoff.retry_at == 91.0
