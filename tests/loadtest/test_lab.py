"""The lab as a user runs it: its report, its verdict, and that nothing of it stays."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from loadtest.lab.__main__ import main
from proxy.demo.children import free_port
from tests.conftest import StartFunnel
from tests.funnel import ROOT, clean_environment
from tests.integration.test_demo import processes, until
from tests.postgres import Postgres


@pytest.fixture
def folder() -> Iterator[Path]:
    """A temporary folder for the lab alone: what it leaves behind is found by its name."""
    path = Path(tempfile.mkdtemp(prefix="lab-"))
    path.chmod(0o755)
    yield path
    for pid in processes(path):
        os.kill(pid, signal.SIGKILL)
    shutil.rmtree(path)


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "loadtest.lab", *arguments],
        cwd=ROOT,
        env=clean_environment() | {"TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def report(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "report.json").read_text())
    return found


@pytest.fixture
def keeps_sessions(pgfunnel: StartFunnel) -> bool:
    """Whether this pgfunnel keeps what one client SETs from the next."""
    dsn = pgfunnel(default_pool_size=1).dsn()
    with psycopg.connect(dsn, autocommit=True) as one, psycopg.connect(dsn) as other:
        one.execute("SET lab.owner TO 'one'")
        row = other.execute("SELECT current_setting('lab.owner', true)").fetchone()
    return row is not None and not row[0]


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_quick_comparison(folder: Path, tmp_path: Path, keeps_sessions: bool) -> None:
    """Straight fails where pgfunnel does not; cross-talk, where there is any, fails the run."""
    out = tmp_path / "out"
    lab = start(folder, "--quick", "--out", str(out))
    _, err = lab.communicate(timeout=150)
    found = report(out)
    steps = {(s["path"], s["scenario"], s["functions"]): s for s in found["steps"]}
    assert "Traceback" not in err
    assert len(steps) == 5, err
    assert "53300" in steps["straight", "spike", 150]["refused_attempts"]
    for key in (("level", 100), ("spike", 150)):
        step = steps["pgfunnel", *key]
        assert step["invocations"] > 0
        assert step["failures"] == 0, step["first_words"]
        assert step["peak_connections"] <= 20
        assert step["state_checks"] > step["invocations"]
    assert steps["pgfunnel", "level", 100]["peak_waiters"] is not None
    assert [entry["faults"] for entry in found["totals"]] == [[], []]
    assert found["passed"] is keeps_sessions
    assert lab.returncode == (0 if keeps_sessions else 1)
    assert {file.name for file in out.iterdir()} == {
        "report.html",
        "report.json",
        "steps.csv",
        "series.csv",
    }
    assert list(folder.iterdir()) == []
    assert processes(folder) == []


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_cut_short_it_reports_what_it_measured(
    folder: Path, tmp_path: Path, sig: signal.Signals
) -> None:
    arguments = ["--quick", "--levels", "5,30", "--scenarios", "level", "--paths", "pgfunnel"]
    lab = start(folder, *arguments, "--session-state", "no", "--out", str(tmp_path))
    assert lab.stderr is not None
    for line in lab.stderr:
        if "level 5 " in line:
            break
    until(lambda: len(list(folder.glob("*/step-*/locust-0.log"))) == 2)
    lab.send_signal(sig)
    _, err = lab.communicate(timeout=60)
    found = report(tmp_path)
    assert lab.returncode == 130, err
    assert found["cut_short"] is True
    assert found["steps"][0]["invocations"] > 0
    assert [step["cut"] for step in found["steps"]] == [False, True]
    assert "CUT SHORT" in (tmp_path / "report.html").read_text()
    assert "Traceback" not in err
    assert list(folder.iterdir()) == []
    assert processes(folder) == []


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_killed_it_leaves_no_process_and_the_steps_before(folder: Path, tmp_path: Path) -> None:
    lab = start(folder, "--quick", "--paths", "pgfunnel", "--out", str(tmp_path))
    kept = tmp_path / "report.json"
    until(lambda: kept.exists() and bool(report(tmp_path)["steps"]), seconds=60)
    lab.kill()
    lab.communicate(timeout=10)
    until(lambda: processes(folder) == [])
    found = report(tmp_path)
    assert found["cut_short"] is True
    assert found["steps"][0]["invocations"] > 0
    assert len(list(folder.iterdir())) == 2
    nothing = ["--quick", "--paths", "straight", "--scenarios", "storm", "--out", str(tmp_path)]
    lab = start(folder, *nothing)
    _, err = lab.communicate(timeout=60)
    assert "NOTHING WAS MEASURED" in err
    assert lab.returncode == 1
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_told_before_the_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loadtest.lab.__main__.Stopping.listen", lambda _: None)
    assert main(["--quick", "--out", "/proc/nope"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "the report cannot be written" in line


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.skipif(shutil.which("pgbouncer", path="/usr/sbin:/usr/bin") is None,
    reason="needs PgBouncer")  # fmt: skip
@pytest.mark.parametrize("kept, code", [("auto", 0), ("yes", 1)])
def test_a_pooler_that_shares_sessions_fails_when_asked_not_to(
    folder: Path, tmp_path: Path, kept: str, code: int
) -> None:
    arguments = ["--quick", "--levels", "40", "--scenarios", "level", "--paths", "pgbouncer"]
    lab = start(
        folder, *arguments, "--pool-size", "3", "--session-state", kept, "--out", str(tmp_path)
    )
    _, err = lab.communicate(timeout=90)
    assert lab.returncode == code, err
    (step,) = report(tmp_path)["steps"]
    assert step["peak_clients"] > step["peak_waiters"] > 0
    assert ("violations of the state check" in err) is bool(code)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_given_postgres_is_left_as_it_was(
    postgres: Postgres, folder: Path, tmp_path: Path
) -> None:
    arguments = ["--quick", "--levels", "5", "--paths", "straight", "--out", str(tmp_path)]
    lab = subprocess.run(
        [sys.executable, "-m", "loadtest.lab", *arguments, "--scenarios", "level"],
        cwd=ROOT,
        env=clean_environment() | {"TMPDIR": str(folder), "LAB_DSN": postgres.dsn},
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert lab.returncode == 0, lab.stderr
    assert postgres.psql("SELECT count(*) FROM pg_namespace WHERE nspname = 'pgfunnel_lab'") == [
        (0,)
    ]
    assert postgres.password not in (tmp_path / "report.json").read_text()


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_locust_alone_takes_its_dsn_from_the_environment(
    postgres: Postgres, tmp_path: Path
) -> None:
    command = ["-m", "locust", "-f", str(ROOT / "loadtest" / "locustfile.py"), "--headless"]
    command += ["-u", "4", "-t", "3s", "--pace", "0.2", "--tally-dir", str(tmp_path)]
    try:
        locust = subprocess.run(
            [sys.executable, *command],
            cwd=tmp_path,
            env=clean_environment() | {"LAB_DSN": postgres.dsn},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert locust.returncode == 0, locust.stderr
        tally = json.loads(next(tmp_path.glob("tally-*.json")).read_text())
    finally:
        postgres.psql("DROP SCHEMA IF EXISTS pgfunnel_lab CASCADE")
    assert tally["checks"] > 0
    assert tally["violations"] == []


def test_locust_refuses_a_workload_it_does_not_know() -> None:
    command = ["-m", "locust", "-f", str(ROOT / "loadtest" / "locustfile.py"), "--headless"]
    locust = subprocess.run(
        [sys.executable, *command, "--workloads", "read,reed"],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert locust.returncode == 2
    assert "'reed' is no workload: some of read, write" in locust.stderr


def test_the_form_refuses_a_workload_it_does_not_know(tmp_path: Path) -> None:
    port = free_port()
    command = ["-m", "locust", "-f", str(ROOT / "loadtest" / "locustfile.py")]
    command += ["--web-host", "127.0.0.1", "--web-port", str(port)]
    with (tmp_path / "log").open("wb") as log:
        locust = subprocess.Popen(
            [sys.executable, *command], env=clean_environment(), stdout=log, stderr=log
        )
    try:
        until(lambda: answers(port), seconds=60)
        form = b"user_count=1&workloads=typo"
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/swarm", form, timeout=10) as page:
            answer = json.load(page)
    finally:
        locust.terminate()
        locust.wait(20)
    assert answer["success"] is False
    assert "'typo' is no workload" in answer["message"]


def answers(port: int) -> bool:
    """Whether somebody listens on this port of loopback."""
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--levels", "0"], "whole number from 1 to 10000"),
        (["--paths", "odyssey"], "'odyssey' is none of straight, pgbouncer, pgfunnel"),
        (["--scenarios", "flood"], "'flood' is none of"),
        (["--dsn", "host=db"], "postgresql://user:password@host:port/database"),
        (["--pool-size", "75"], "leave 5 of --max-connections"),
    ],
)
def test_misuse_is_answered_with_what_to_change(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert words in capsys.readouterr().err


@pytest.mark.timeout(60)
def test_a_postgres_that_is_not_there_is_told_in_words(folder: Path, tmp_path: Path) -> None:
    lab = start(folder, "--quick", "--dsn", "postgresql://u:secret@127.0.0.1:1/d", "--out",
        str(tmp_path))  # fmt: skip
    _, err = lab.communicate(timeout=40)
    assert lab.returncode == 1
    assert "Postgres cannot be reached" in err
    assert "Traceback" not in err
    assert "secret" not in err
