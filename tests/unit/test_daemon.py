"""The pid file and the log file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from proxy.daemon import PidFile, become, open_log
from proxy.errors import SettingsError


def test_a_pid_file_comes_and_goes(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    file = PidFile(path)
    assert path.read_text() == f"{os.getpid()}\n"
    file.remove()
    file.remove()
    assert not path.exists()


@pytest.mark.parametrize("left", ["", "nonsense", "-1", "999999999"])
def test_a_stale_pid_file_is_replaced(tmp_path: Path, left: str) -> None:
    path = tmp_path / "pid"
    path.write_text(left)
    PidFile(path)
    assert path.read_text() == f"{os.getpid()}\n"


def test_another_that_runs(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    path.write_text(f"{os.getppid()}\n")
    with pytest.raises(SettingsError, match="names a process that runs"):
        PidFile(path)


def test_a_pid_file_of_another_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    file = PidFile(path)
    path.write_text(f"{os.getppid()}\n")
    file.remove()
    assert path.exists()


def test_files_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="correct the path"):
        PidFile(tmp_path)
    with pytest.raises(SettingsError, match="correct the path"):
        open_log(tmp_path)


def test_to_become_oneself_is_nothing() -> None:
    import pwd

    become(pwd.getpwuid(os.geteuid()).pw_name)
