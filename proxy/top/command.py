"""Runs `pgfunnel top`: once, or until told to stop."""

from __future__ import annotations

import shutil
import sys
import time

from proxy.errors import SettingsError
from proxy.top.ask import NoStatus, Source, Status
from proxy.top.frame import Line, cut, frame


def run(url: str, *, once: bool, seconds: float = 1.0) -> int:
    """Show the status of the pgfunnel at `url`, anew every so many seconds; the exit code.

    Raises NoStatus when the first question is not answered, and SettingsError.
    """
    source = Source(url)
    if not once and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise SettingsError(["there is no terminal to draw on: add --once for one frame"])
    status = source.read()
    if once:
        return _print(source, status)
    return _watch(source, status, seconds)


def _print(source: Source, status: Status) -> int:
    if status["recent"] is None:  # rates need a second look
        time.sleep(1.0)
        status = source.read()
    width = shutil.get_terminal_size((100, 24)).columns if sys.stdout.isatty() else 1000
    for line in frame(status, width):
        sys.stdout.write(f"{line.text}\n")
    return 0


def _watch(source: Source, status: Status, seconds: float) -> int:
    from proxy.top.screen import Screen

    with Screen() as screen:
        silence = ""
        while True:
            foot = Line(cut(f"{source.url}  q ends this", screen.width))
            alarm = [Line(cut(silence, screen.width), "alarm")] if silence else []
            screen.draw([*alarm, *frame(status, screen.width), Line(""), foot])
            if screen.told_to_stop(seconds):
                return 0
            try:
                status, silence = source.read(), ""
            except NoStatus as error:
                silence = f"NOTHING HEARD, what is below is old: {error.message}"
