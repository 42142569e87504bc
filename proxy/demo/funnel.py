"""pgfunnel itself as a child process of the demo: the same command that everyone runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from proxy.demo.children import LOOPBACK, die_with_parent, free_port

_READY_SECONDS = 30.0
_STOP_SECONDS = 5.0


class FunnelError(Exception):
    """pgfunnel did not start; the message holds its own last words."""


@contextlib.asynccontextmanager
async def running_funnel(upstream: str, settings: Mapping[str, object]) -> AsyncIterator[int]:
    """Run `pgfunnel serve` in front of the DSN `upstream`; the port it listens on.

    Settings go by environment, so that no password is on a command line. Raises FunnelError.
    """
    port, http_port = free_port(), free_port()
    ours: dict[str, object] = {
        "upstream": upstream,
        "listen_addr": LOOPBACK,
        "listen_port": port,
        "http_port": http_port,
        **settings,
    }
    with tempfile.TemporaryDirectory(prefix="pgfunnel-demo-") as folder:
        log = Path(folder) / "pgfunnel.log"
        child = _start(ours, log)
        try:
            await _await_ready(child, http_port, log)
            yield port
        finally:
            _stop(child)


def _start(settings: Mapping[str, object], log: Path) -> subprocess.Popen[bytes]:
    source = str(Path(__file__).resolve().parents[2])
    inherited = {k: v for k, v in os.environ.items() if k == "PGFUNNEL_PURE" or k[:2] != "PG"}
    ours = {f"PGFUNNEL_{name.upper()}": str(value) for name, value in settings.items()}
    path = os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH"))))
    with log.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "proxy", "serve"],
            cwd=log.parent,
            env=inherited | ours | {"PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
            preexec_fn=die_with_parent(signal.SIGKILL),
        )


async def _await_ready(child: subprocess.Popen[bytes], http_port: int, log: Path) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline:
        if child.poll() is not None:
            raise FunnelError(f"pgfunnel stopped at once:\n{_last_words(log)}")
        if await asyncio.to_thread(_is_ready, http_port):
            return
        await asyncio.sleep(0.02)
    raise FunnelError(f"pgfunnel is not ready after {_READY_SECONDS:.0f} s:\n{_last_words(log)}")


def _is_ready(http_port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://{LOOPBACK}:{http_port}/readyz", timeout=1).close()
    except OSError:
        return False
    return True


def _last_words(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:].strip()


def _stop(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
