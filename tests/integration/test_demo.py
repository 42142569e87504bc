"""`pgfunnel demo` as a user runs it: what it finds, and that nothing of it stays."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.funnel import ROOT, clean_environment


@pytest.fixture
def folder() -> Iterator[Path]:
    """A temporary folder for the demo alone: what it leaves behind is found by its name."""
    path = Path(tempfile.mkdtemp(prefix="demo-"))
    path.chmod(0o755)
    yield path
    for pid in processes(path):
        os.kill(pid, signal.SIGKILL)
    shutil.rmtree(path)


def processes(folder: Path) -> list[int]:
    """Every process that works in `folder`: Postgres and its backends, pgfunnel."""
    return [int(entry.name) for entry in Path("/proc").glob("[0-9]*") if _works_in(folder, entry)]


def _works_in(folder: Path, process: Path) -> bool:
    try:
        return str((process / "cwd").readlink()).startswith(f"{folder}/")
    except OSError:
        return False


def start_demo(folder: Path, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "proxy", "demo", *args],
        cwd=ROOT,
        env=clean_environment() | {"TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def until(condition: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)


def test_direct_fails_where_pgfunnel_does_not(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    arguments = ["--concurrency", "5,90", "--rounds", "2", "--pool-size", "7"]
    demo = start_demo(folder, *arguments, "--json", str(file))
    out, err = demo.communicate(timeout=50)
    assert demo.returncode == 0, err
    rows = {(row["path"], row["concurrency"]): row for row in json.loads(file.read_text())}
    assert [row["invocations"] for row in rows.values()] == [10, 180, 10, 180]
    assert rows["direct", 5]["failures"] == 0
    assert rows["direct", 5]["peak_connections"] == 5
    assert set(rows["direct", 90]["sqlstates"]) == {"53300"}
    assert 60 < rows["direct", 90]["peak_connections"] < 75
    for level in (5, 90):
        assert rows["pgfunnel", level]["failures"] == 0
        assert 1 <= rows["pgfunnel", level]["peak_connections"] <= 7
    assert out.count("\n") == 8
    assert "through pgfunnel 0 of 190" in out
    assert "Traceback" not in err
    assert list(folder.iterdir()) == []
    assert processes(folder) == []


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["Postgres", "direct,", "pgfunnel,"])
def test_interrupted_it_cleans_up(folder: Path, sig: signal.Signals, moment: str) -> None:
    demo = start_demo(folder, "--concurrency", "3,80", "--seconds", "0.5")
    assert demo.stderr is not None
    for line in demo.stderr:
        if line.strip().startswith(moment):
            break
    demo.send_signal(sig)
    out, err = demo.communicate(timeout=20)
    assert demo.returncode == 130
    assert out == ""
    assert "Traceback" not in err
    assert list(folder.iterdir()) == []
    assert processes(folder) == []


def test_killed_it_leaves_no_process(folder: Path) -> None:
    demo = start_demo(folder, "--concurrency", "3", "--seconds", "30", "--pool-size", "2")
    until(lambda: len(processes(folder)) > 5)
    demo.kill()
    demo.communicate(timeout=10)
    until(lambda: processes(folder) == [])
