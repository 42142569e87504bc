"""Temporary folders of processes that are gone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from proxy.demo.folders import OwnedFolder
from tests.funnel import ROOT

_KILLED = """
import os, signal, sys
from proxy.demo.folders import OwnedFolder
OwnedFolder("mine-", sys.argv[1])
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_only_what_is_in_use_stays(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path)], cwd=ROOT, check=False)
    (left,) = tmp_path.iterdir()
    (tmp_path / "mine-but-not-locked").mkdir()
    used = OwnedFolder("mine-", str(tmp_path))
    other = OwnedFolder("mine-", str(tmp_path))
    assert not left.exists()
    assert used.path.exists()
    assert (tmp_path / "mine-but-not-locked").exists()
    used.remove()
    other.remove()
    assert not used.path.exists()
