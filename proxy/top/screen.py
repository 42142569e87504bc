"""A terminal that is redrawn in place and gives its old contents back afterwards.

Control sequences as in ECMA-48; the alternate screen is xterm's (private mode 1049).
"""

from __future__ import annotations

import os
import select
import shutil
import sys
import termios
import tty
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from proxy.top.frame import Line

_ENTER = "\x1b[?1049h\x1b[?25l"
_LEAVE = "\x1b[?25h\x1b[?1049l"
_STYLES = {"title": "\x1b[1m", "alarm": "\x1b[1;31m"}


class Screen:
    """Use as a context: keys come at once and unseen while it lasts; Ctrl-C still interrupts."""

    def __init__(self) -> None:
        self._styled = not os.environ.get("NO_COLOR")  # https://no-color.org
        self._before: list[Any] = []

    def __enter__(self) -> Self:
        self._before = termios.tcgetattr(sys.stdin)
        tty.setcbreak(sys.stdin)
        sys.stdout.write(_ENTER)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._before)

    @property
    def width(self) -> int:
        return shutil.get_terminal_size().columns

    def draw(self, lines: Sequence[Line]) -> None:
        """Show as many lines as there is room for, in place of what was there."""
        room = shutil.get_terminal_size().lines - 1
        rows = [f"{self._dressed(line)}\x1b[K" for line in lines[:room]]
        sys.stdout.write("\x1b[H" + "\r\n".join(rows) + "\x1b[J")
        sys.stdout.flush()

    def _dressed(self, line: Line) -> str:
        style = _STYLES.get(line.kind, "") if self._styled else ""
        return f"{style}{line.text}\x1b[0m" if style else line.text

    def told_to_stop(self, seconds: float) -> bool:
        """Wait for so long; true as soon as q was pressed, or when there are no keys any more."""
        if not select.select([sys.stdin], [], [], seconds)[0]:
            return False
        pressed = os.read(sys.stdin.fileno(), 64)
        return not pressed or b"q" in pressed.lower()
