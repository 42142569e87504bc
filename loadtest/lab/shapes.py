"""How many functions there are at which moment."""

from __future__ import annotations

import math
from collections.abc import Callable

Plan = tuple[int, float]
_CALM = 0.02
# A new function costs its generator milliseconds: TLS and SCRAM. A spike must come in seconds.
_FASTEST, _FASTEST_SPIKE = 100.0, 400.0


def planned(
    shape: str, most: int, seconds: float, elapsed: float, generators: int = 1
) -> Plan | None:
    """Functions wanted at `elapsed`, and how many a second to start or end; None when over.

    `most` is the shape's highest number of functions, `seconds` its whole length. So many
    `generators` on one machine start theirs at the same time.
    """
    if elapsed >= seconds:
        return None
    functions = SHAPES[shape](most, elapsed / seconds)
    return functions, _rate(shape, most, seconds, generators)


def _rate(shape: str, most: int, seconds: float, generators: int) -> float:
    """A leak is slow, a storm comes at once, all others take a twentieth of their time."""
    if shape == "storm":
        return max(float(most), 1.0)
    spread = 0.9 if shape == "leak" else 0.05
    fastest = _FASTEST_SPIKE if shape == "spike" else _FASTEST
    return min(max(most / (seconds * spread), 1.0), fastest / generators)


def _steady(most: int, _part: float) -> int:
    return most


def _step(most: int, part: float) -> int:
    return math.ceil(most * (int(part * 4) + 1) / 4)


def calm(most: int) -> int:
    """Functions before and after a spike: 10 of 500."""
    return max(1, round(most * _CALM))


SPIKE_BEGINS, SPIKE_ENDS = 0.3, 0.65


def _spike(most: int, part: float) -> int:
    return most if SPIKE_BEGINS <= part < SPIKE_ENDS else calm(most)


def _storm(most: int, part: float) -> int:
    """A deploy in the middle: every function ends, and every one starts again."""
    return 0 if 0.48 <= part < 0.52 else most


SHAPES: dict[str, Callable[[int, float], int]] = {
    "steady": _steady,
    "step": _step,
    "spike": _spike,
    "storm": _storm,
    "leak": _steady,
}
