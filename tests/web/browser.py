"""A headless Chromium, driven by the DevTools protocol over a pair of pipes.

https://chromedevtools.github.io/devtools-protocol/: with --remote-debugging-pipe the browser reads
messages from descriptor 3 and writes them to 4, each JSON and closed by a NUL byte.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import itertools
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from proxy.demo.children import die_with_parent

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
_SECONDS = 20.0

Message = dict[str, Any]


class BrowserError(Exception):
    """The browser refused a command, died, or did not answer in time."""


def find_browser() -> str | None:
    """The command of an installed Chromium, if there is one."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    """One browser process; `events` keeps everything that it reports of its own accord."""

    def __init__(self, process: subprocess.Popen[bytes], to: int, back: int) -> None:
        self._process = process
        self._to, self._back = to, back
        self._numbers = itertools.count(1)
        self._heard = b""
        self.events: list[Message] = []

    def call(self, method: str, session: str = "", **parameters: object) -> Message:
        """The result of one command. Raises BrowserError."""
        number = next(self._numbers)
        message: Message = {"id": number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + _SECONDS
        while (answer := self._next(deadline)).get("id") != number:
            self.events.append(answer)
        if "error" in answer:
            raise BrowserError(f"{method}: {answer['error']}")
        result: Message = answer["result"]
        return result

    def _next(self, deadline: float) -> Message:
        while b"\0" not in self._heard:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._back], [], [], left)[0]:
                raise BrowserError(f"no answer within {_SECONDS:g} s")
            octets = os.read(self._back, 1 << 16)
            if not octets:
                raise BrowserError(f"the browser ended with {self._process.poll()}")
            self._heard += octets
        message, _, self._heard = self._heard.partition(b"\0")
        found: Message = json.loads(message)
        return found

    def open(self, url: str, *, width: int, height: int = 900, dark: bool = False) -> Tab:
        """A new tab that shows `url`, in CSS pixels."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        tab = Tab(self, attached["sessionId"])
        for domain in ("Page", "Runtime", "Log", "Network", "Accessibility"):
            tab.call(f"{domain}.enable")
        tab.resize(width, height)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        tab.call("Emulation.setEmulatedMedia", features=[scheme])
        tab.call("Page.navigate", url=url)
        return tab


class Tab:
    """One page in the browser."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session

    def call(self, method: str, **parameters: object) -> Message:
        return self._browser.call(method, self._session, **parameters)

    def resize(self, width: int, height: int = 900) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression, as JSON has it. Raises BrowserError."""
        answer = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise BrowserError(f"{script}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def text(self, selector: str = "body") -> str:
        """What a reader sees of an element, one line each block; empty while it is not there."""
        query = json.dumps(selector)
        return str(self.run(f"document.querySelector({query})?.innerText ?? ''"))

    def until(self, condition: str, seconds: float = _SECONDS) -> None:
        """Wait until a JavaScript expression is true. Raises AssertionError with the page."""
        deadline = time.monotonic() + seconds
        while not self.run(f"Boolean({condition})"):
            if time.monotonic() > deadline:
                raise AssertionError(f"{condition} is not so on the page:\n{self.text()}")
            time.sleep(0.02)

    def events(self, method: str) -> list[Message]:
        """The parameters of the events of this kind so far."""
        return [
            event["params"]
            for event in self._browser.events
            if event.get("sessionId") == self._session and event["method"] == method
        ]

    def screenshot(self) -> bytes:
        """The whole page as a PNG."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        return base64.b64decode(found)


@contextlib.contextmanager
def browser(command: str) -> Iterator[Browser]:
    """A browser with a profile of its own, ended and forgotten afterwards."""
    # Past 9, so that neither is in the way of 3 and 4.
    theirs_in, ours_out = _pipe()
    ours_in, theirs_out = _pipe()
    redirected = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            ["bash", "-c", redirected, "browser", command, *_options(Path(profile))],
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=die_with_parent(signal.SIGKILL),
        )
        os.close(theirs_in)
        os.close(theirs_out)
        try:
            yield Browser(process, ours_out, ours_in)
        finally:
            os.close(ours_out)  # the end of its input ends it
            os.close(ours_in)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()
            process.wait()


def _pipe() -> tuple[int, int]:
    ends = os.pipe()
    high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends]
    for end in ends:
        os.close(end)
    return high[0], high[1]


def _options(profile: Path) -> list[str]:
    options = [
        "--headless",
        "--remote-debugging-pipe",
        f"--user-data-dir={profile}",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--hide-scrollbars",
        "--no-proxy-server",
    ]
    # Chromium refuses to sandbox itself for root.
    return [*options, "--no-sandbox"] if os.geteuid() == 0 else options
