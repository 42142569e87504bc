"""Command line of the lab: `python -m loadtest.lab --help`."""

from __future__ import annotations

import argparse
import importlib.util
import os
import resource
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from loadtest.bench import BenchError
from loadtest.lab import LabError
from loadtest.lab.comparison import Plan, compare, findings_of
from loadtest.lab.findings import Findings
from loadtest.lab.paths import WAY_NAMES, ways
from loadtest.lab.report import write
from loadtest.lab.steps import full, quick
from loadtest.lab.stopping import Stopped, Stopping
from proxy.demo.embedded import EmbeddedPostgresError

_LEVELS = (10, 50, 100, 500, 2000, 5000)
_QUICK_LEVELS = (100,)
_QUICK_WAYS = ("straight", "pgfunnel")
_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 passed, 1 failed or could not run, 130 interrupted; 2 for wrong arguments."""
    chosen = _parse(arguments)
    _raise_open_files_limit()
    stopping = Stopping()
    stopping.listen()
    plan = _plan(chosen)
    findings = findings_of(plan)
    findings.cut = True
    try:
        # The empty one first: an hour later is too late to learn that it cannot be written.
        write(findings, chosen.out)
        code = _compare(plan, findings, stopping, chosen.out)
        write(findings, chosen.out)
    except OSError as error:
        _say(f"the report cannot be written: {error}")
        return 1
    return _conclude(findings, chosen.out, code)


def _compare(plan: Plan, findings: Findings, stopping: Stopping, out: Path) -> int:
    """The report is kept after each step: also of a run that is killed there is one."""
    try:
        compare(plan, findings, stopping, lambda: write(findings, out))
    except Stopped:
        _say("interrupted; everything it started has been stopped")
        return _INTERRUPTED
    except (LabError, BenchError, EmbeddedPostgresError, OSError) as error:
        findings.notes.append(f"the comparison could not go on: {error}")
        _say(str(error))
        return 1
    findings.cut = False
    return 0


def _conclude(findings: Findings, folder: Path, code: int) -> int:
    for line in (findings.verdict(), *findings.faults(), *findings.doubts()):
        _say(line)
    print(f"{folder / 'report.html'}")
    return code if findings.passed else code or 1


def _plan(chosen: argparse.Namespace) -> Plan:
    levels = chosen.levels or (_QUICK_LEVELS if chosen.quick else _LEVELS)
    names = chosen.paths or (_QUICK_WAYS if chosen.quick else WAY_NAMES)
    steps = quick(levels) if chosen.quick else full(levels)
    wanted = chosen.scenarios
    return Plan(
        steps=[step for step in steps if not wanted or step.scenario in wanted],
        ways=ways(list(names)),
        pool_size=chosen.pool_size,
        session_state=chosen.session_state,
        dsn=chosen.dsn,
        max_connections=chosen.max_connections,
    )


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.lab",
        description="Simulated functions on a small Postgres: straight, through PgBouncer, "
        "through pgfunnel; what failed, what waited, what Postgres saw.",
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="under a minute: one level, a spike, a restart")
    add(
        "--out",
        type=Path,
        default=Path("loadtest-report"),
        metavar="DIR",
        help="folder of report.html, report.json, steps.csv, series.csv (loadtest-report)",
    )
    add(
        "--dsn",
        default=os.environ.get("LAB_DSN", ""),
        type=_dsn,
        help="compare on this Postgres instead of an embedded one; rather by LAB_DSN, which the "
        "process list does not show. Its schema pgfunnel_lab is dropped; it is not restarted",
    )
    add(
        "--levels",
        type=_levels,
        metavar="N,N,…",
        help=f"functions at once ({','.join(map(str, _LEVELS))})",
    )
    add(
        "--scenarios",
        type=_words("level", "spike", "restart", "storm", "leak"),
        metavar="NAME,…",
        help="some of level, spike, restart, storm, leak",
    )
    add(
        "--paths",
        type=_words(*WAY_NAMES),
        metavar="NAME,…",
        help=f"some of {', '.join(WAY_NAMES)}; PgBouncer only if installed, not with --quick",
    )
    add("--pool-size", type=_count, default=20, metavar="N", help="servers of each pooler (20)")
    add(
        "--max-connections",
        type=_count,
        default=75,
        metavar="N",
        help="of the embedded Postgres (75)",
    )
    add(
        "--session-state",
        choices=["auto", "yes", "no"],
        default="auto",
        help="whether functions rely on SET between transactions: auto is yes but for PgBouncer",
    )
    chosen = parser.parse_args(arguments)
    if importlib.util.find_spec("locust") is None:
        parser.error("Locust is missing: pip install 'pgfunnel[loadtest]'")
    if not chosen.dsn and chosen.pool_size > chosen.max_connections - 5:
        parser.error("--pool-size must leave 5 of --max-connections to others")
    return chosen


def _count(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 10_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 10000")
    return int(text)


def _levels(text: str) -> tuple[int, ...]:
    return tuple(_count(part) for part in text.split(","))


def _words(*known: str) -> Callable[[str], tuple[str, ...]]:
    def convert(text: str) -> tuple[str, ...]:
        words = tuple(text.split(","))
        strange = [word for word in words if word not in known]
        if strange:
            raise argparse.ArgumentTypeError(f"{strange[0]!r} is none of {', '.join(known)}")
        return words

    return convert


def _dsn(text: str) -> str:
    parts = urlsplit(text)
    if text and (parts.scheme not in ("postgresql", "postgres") or not parts.password):
        raise argparse.ArgumentTypeError(
            "it must be a URI with a password: postgresql://user:password@host:port/database"
        )
    return text


def _raise_open_files_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _say(words: str) -> None:
    print(f"lab: {words}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
