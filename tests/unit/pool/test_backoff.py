"""Pauses between failed logins."""

from __future__ import annotations

import pytest

from proxy.pool.backoff import Backoff


@pytest.mark.parametrize("failures, pause", [(1, 1.0), (2, 2.0), (4, 8.0), (5, 15.0), (2000, 15.0)])
def test_pauses_double_up_to_the_longest(failures: int, pause: float) -> None:
    backoff = Backoff(1.0, 15.0)
    for _ in range(failures):
        backoff.failed(100.0, 0.0)
    assert backoff.waits(100.0 + pause - 0.01)
    assert not backoff.waits(100.0 + pause)


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
    backoff.failed(20.0, 0.0)
    assert backoff.retry_at == 21.0
