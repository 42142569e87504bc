"""Long work cut into slices, between which the traffic has its turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from time import monotonic
from typing import TypeVar

SLICE = 0.001
"""Seconds of work in one go."""

Item = TypeVar("Item")


async def in_slices(items: Iterable[Item]) -> AsyncIterator[Item]:
    """The items one by one; others run after each slice."""
    end = monotonic() + SLICE
    for item in items:
        yield item
        if monotonic() >= end:
            await asyncio.sleep(0)
            end = monotonic() + SLICE
