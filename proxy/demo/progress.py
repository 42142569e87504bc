"""Live progress on stderr: one line that changes on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from typing import TextIO

_ERASE = "\r\x1b[2K"


class Progress:
    """Tells what runs. `now` may be called as often as one likes, `done` once a step."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stderr
        self._live = self._out.isatty()

    def now(self, text: str) -> None:
        """What is going on at this moment; shown on a terminal only."""
        if self._live:
            self._write(f"{_ERASE}{text}")

    def done(self, text: str) -> None:
        """A line that stays."""
        self._write(f"{_ERASE if self._live else ''}{text}\n")

    def clear(self) -> None:
        """Leave the terminal's line empty for whoever writes next."""
        if self._live:
            self._write(_ERASE)

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()
