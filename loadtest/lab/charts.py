"""Line charts as SVG: told apart by their dashes and by a label at each line, not by colour."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 460, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 72, 14, 24
_TICKS = 4
_MOST_SECONDS_MARKED = 7
_LINE_HEIGHT = 13.0
# Where nothing was seen for longer, a line is interrupted.
_GAP_SECONDS = 2.0
# dashes, width, colour; in print and without colour the first two are enough
_STYLES = {
    "straight": ("7 4", 1.6, "#b3261e"),
    "PgBouncer": ("2 3", 1.8, "#6b6b00"),
    "pgfunnel": ("", 2.2, "#0b57d0"),
}
_OTHER = ("10 3 2 3", 1.6, "#333333")

Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """One line and what is written at its end."""

    label: str
    points: Sequence[Point]


@dataclass(frozen=True)
class Frame:
    """What charts of one time have in common: its length, and a moment in it with its name."""

    seconds: float
    event: tuple[str, float] | None = None


@dataclass(frozen=True)
class Chart:
    """Lines over seconds. `limit` draws a level with its name; `log` is for values that differ
    by orders of magnitude."""

    title: str
    unit: str
    lines: Sequence[Line]
    frame: Frame
    limit: tuple[str, float] | None = None
    log: bool = False

    def svg(self) -> str:
        """A self-contained figure; empty when there is nothing to draw."""
        drawn = [line for line in self.lines if line.points]
        if not drawn:
            return ""
        canvas = _Canvas(self, drawn)
        parts = [*canvas.axes(), *canvas.level(self.limit), *canvas.moment(self.frame.event)]
        parts += canvas.drawn(drawn)
        title = escape(f"{self.title} ({self.unit})" if self.unit else self.title)
        return (
            f'<figure><figcaption>{title}</figcaption><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" '
            f'role="img" aria-label="{title}">{"".join(parts)}</svg></figure>'
        )


class _Canvas:
    """Where a value lies, and the marks on the way there."""

    def __init__(self, chart: Chart, lines: Sequence[Line]) -> None:
        values = [value for line in lines for _, value in line.points]
        limit, log = chart.limit, chart.log
        self._seconds = chart.frame.seconds or 1.0
        self._log = log
        top = max([*values, limit[1] if limit else 0.0, 1.0])
        self._low = 10 ** math.floor(math.log10(max(min(values), 0.1))) if log else 0.0
        self._high = (
            10 ** math.ceil(math.log10(max(top, self._low * 10))) if log else _round_up(top)
        )

    def x(self, at: float) -> float:
        return _LEFT + max(at, 0.0) / self._seconds * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        part = self._part(value)
        return _HEIGHT - _BOTTOM - part * (_HEIGHT - _TOP - _BOTTOM)

    def _part(self, value: float) -> float:
        if not self._log:
            return value / self._high
        span = math.log10(self._high / self._low)
        return math.log10(max(value, self._low) / self._low) / span

    def axes(self) -> list[str]:
        marks = [mark for tick in self._ticks() for mark in self._mark(tick)]
        bottom = _HEIGHT - _BOTTOM
        step = _round_step(self._seconds)
        for number in range(int(self._seconds / step) + 1):
            at = number * step
            marks.append(_text(self.x(at), bottom + 16, f"{at} s", "middle"))
        return marks

    def _ticks(self) -> list[float]:
        if not self._log:
            return [self._high * number / _TICKS for number in range(_TICKS + 1)]
        decades = round(math.log10(self._high / self._low))
        return [self._low * 10**number for number in range(decades + 1)]

    def _mark(self, value: float) -> list[str]:
        y, right = self.y(value), _WIDTH - _RIGHT
        rule = f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" class="rule"/>'
        return [rule, _text(_LEFT - 6, y + 4, f"{value:,g}", "end")]

    def level(self, limit: tuple[str, float] | None) -> list[str]:
        if limit is None:
            return []
        name, value = limit
        y, right = self.y(value), _WIDTH - _RIGHT
        rule = f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" class="limit"/>'
        return [rule, _text(_LEFT + 4, y - 4, name, "start")]

    def moment(self, event: tuple[str, float] | None) -> list[str]:
        if event is None or not 0 <= event[1] <= self._seconds:
            return []
        name, at = event
        x, bottom = self.x(at), _HEIGHT - _BOTTOM
        rule = f'<line x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{bottom}" class="limit"/>'
        return [rule, _text(x + 4, bottom - 60, name, "start")]

    def drawn(self, lines: Sequence[Line]) -> list[str]:
        ends = _spread([self.y(line.points[-1][1]) for line in lines])
        return [
            mark for line, end in zip(lines, ends, strict=True) for mark in self._one(line, end)
        ]

    def _one(self, line: Line, label_y: float) -> list[str]:
        dashes, width, colour = _STYLES.get(line.label, _OTHER)
        look = f'stroke="{colour}" stroke-width="{width}" stroke-dasharray="{dashes or "none"}"'
        way = f'<path d="{self._way(line.points)}" fill="none" {look}/>'
        return [way, _text(_WIDTH - _RIGHT + 6, label_y + 4, line.label, "start")]

    def _way(self, points: Sequence[Point]) -> str:
        """SVG's path through the points; a point that stands alone is a short dash."""
        parts, before = [], float("-inf")
        for at, value in points:
            place = f"{self.x(at):.1f},{self.y(value):.1f}"
            parts.append(f"L{place}" if at - before <= _GAP_SECONDS else f"M{place}h1")
            before = at
        return " ".join(parts)


def _spread(wanted: Sequence[float]) -> list[float]:
    """Heights near `wanted`, in the same order, a text's line apart from one another."""
    placed = list(wanted)
    lowest = float("inf")
    for number in sorted(range(len(placed)), key=lambda n: -wanted[n]):
        placed[number] = lowest = min(placed[number], lowest - _LINE_HEIGHT)
    return placed


def _round_up(value: float) -> float:
    """The next value that can be marked at its quarters in whole numbers."""
    power = 1.0
    while 24 * power < value:
        power *= 10
    return next(step * power for step in (4, 8, 12, 16, 20, 24) if step * power >= value * 0.999)


def _round_step(seconds: float) -> int:
    """Seconds from one mark to the next."""
    steps = (1, 2, 5, 10, 15, 20, 30, 60)
    return next((step for step in steps if seconds / step <= _MOST_SECONDS_MARKED), 300)


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
