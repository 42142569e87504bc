"""What a process costs: CPU time and memory, its children included, read from outside."""

import time
from pathlib import Path


def family(pid: int) -> list[int]:
    """The process and all its living descendants."""
    found = [pid]
    for member in found:
        for thread in Path(f"/proc/{member}/task").glob("*/children"):
            found.extend(int(child) for child in thread.read_text().split())
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time of the whole family.

    Read from each process's own CPU clock, clock_getcpuclockid(3): nanoseconds, all threads,
    those that have ended included. /proc/<pid>/stat counts the same in steps of 10 ms.
    """
    return sum(time.clock_gettime(~member << 3 | 2) for member in family(pid))


def memory_kib(pid: int) -> dict[str, int]:
    """`Rss` and `Pss` in KiB, summed over the family, from /proc/<pid>/smaps_rollup."""
    total = {"Rss": 0, "Pss": 0}
    for member in family(pid):
        for line in Path(f"/proc/{member}/smaps_rollup").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in total:
                total[name] += int(value.split()[0])
    return total
