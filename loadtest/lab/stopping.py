"""Being asked to stop, and stopping where nothing is half begun."""

from __future__ import annotations

import signal
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(Exception):
    """Somebody asked for a stop."""


class Stopping:
    """Notes SIGINT, SIGTERM and SIGHUP; whoever waits in a loop calls `check` in it.

    An exception out of a signal handler could come between the start of a process and the moment
    somebody knows of it.
    """

    def __init__(self) -> None:
        self._asked = False

    def listen(self) -> None:
        """From now on signals are only noted."""
        for number in _SIGNALS:
            signal.signal(number, self._note)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self._asked = True

    def check(self) -> None:
        """Raises Stopped when a stop was asked for."""
        if self._asked:
            raise Stopped
