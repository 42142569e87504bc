"""One run of pgbench against a proxy, with the proxy's CPU time read while pgbench runs."""

import itertools
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtest.bench import BenchError
from loadtest.bench.probe import cpu_seconds
from loadtest.bench.samples import Sample, percentile
from loadtest.bench.visits import Address
from proxy.demo.children import die_with_parent

SCALE = 10
_SAMPLING_RATE = "0.02"
_PROGRESS = re.compile(r"progress: [\d.]+ s, ([\d.]+) tps")
_FAILED = re.compile(r"number of failed transactions: (\d+)")
_ABORTED = re.compile(r"client \d+ (script \d+ )?aborted")


@dataclass(frozen=True)
class Reading:
    """The clock, the proxy's CPU clock, and the tps pgbench reported, at one progress line."""

    wall: float
    cpu: float
    tps: float


def prepare(program: str, address: Address) -> None:
    """Fill the database with pgbench's tables."""
    command = [program, "-i", "-q", "-s", str(SCALE), *_target(address), address.database]
    made = subprocess.run(
        command, env=_environment(address), capture_output=True, text=True, check=False
    )
    if made.returncode:
        raise BenchError(f"pgbench -i failed: {made.stderr.strip()}")


def run(
    program: str, address: Address, *, pid: int, protocol: str, clients: int, seconds: int
) -> Sample:
    """`pgbench -S` for a second to warm up and `seconds` to measure."""
    with tempfile.TemporaryDirectory(prefix="pgfunnel-bench-") as folder:
        logging = ["-l", f"--log-prefix={folder}/t", f"--sampling-rate={_SAMPLING_RATE}"]
        load = ["-M", protocol, "-c", str(clients), "-j", "1", "-T", str(seconds + 1), "-P", "1"]
        command = [program, "-n", "-S", *load, *logging, *_target(address), address.database]
        readings, output = _watch(command, _environment(address), pid)
        latencies = _latencies(Path(folder).iterdir(), readings)
    return evaluate(readings, latencies, output)


def _watch(
    command: Sequence[str], environment: dict[str, str], pid: int
) -> tuple[list[Reading], str]:
    readings, said = [], []
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        preexec_fn=die_with_parent(signal.SIGTERM),
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                said.append(line)
                progress = _PROGRESS.match(line)
                if progress:
                    readings.append(Reading(time.time(), cpu_seconds(pid), float(progress[1])))
        finally:
            process.terminate()
    return readings, "".join(said)


def evaluate(readings: Sequence[Reading], latencies_ms: Sequence[float], output: str) -> Sample:
    """CPU microseconds per transaction between the first progress line and the last.

    Logins and warm-up come before the first line and are left out. Raises BenchError with
    pgbench's words when it did not get that far.
    """
    failed = _FAILED.search(output)
    aborted = _ABORTED.findall(output)
    if len(readings) < 2 or not failed:
        raise BenchError(f"pgbench did not finish:\n{_last_lines(output)}")
    transactions = sum(
        now.tps * (now.wall - before.wall) for before, now in itertools.pairwise(readings)
    )
    if not transactions:
        raise BenchError(f"pgbench got nothing through:\n{_last_lines(output)}")
    first, last = readings[0], readings[-1]
    errors = int(failed[1]) + len(aborted)
    return Sample(
        cost=(last.cpu - first.cpu) / transactions * 1e6,
        rate=transactions / (last.wall - first.wall),
        p50_ms=percentile(latencies_ms, 50),
        p99_ms=percentile(latencies_ms, 99),
        errors=errors,
        first_error=_last_lines(output) if errors else "",
    )


def _latencies(logs: Iterable[Path], readings: Sequence[Reading]) -> list[float]:
    """Milliseconds of the sampled transactions that ended between the first and last reading.

    A line: client, transaction, microseconds, script, seconds and microseconds of its end.
    """
    if not readings:
        return []
    begin, end = readings[0].wall, readings[-1].wall
    found = []
    for log in logs:
        for line in log.read_text().splitlines():
            fields = line.split()
            if begin <= int(fields[4]) + int(fields[5]) / 1e6 <= end:
                found.append(int(fields[2]) / 1000)
    return found


def _target(address: Address) -> list[str]:
    return ["-h", "127.0.0.1", "-p", str(address.port), "-U", address.user]


def _environment(address: Address) -> dict[str, str]:
    """The password by environment: a command line is public."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
    mode = "require" if address.tls else "disable"
    return kept | {"PGPASSWORD": address.password, "PGSSLMODE": mode}


def _last_lines(output: str) -> str:
    telling = [line for line in output.splitlines() if not _PROGRESS.match(line)]
    return "\n".join(f"  {line}" for line in telling[-6:])
