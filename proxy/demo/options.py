"""The demo's arguments."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

MAX_CONNECTIONS = 75
_LARGEST_POOL = 60

N = TypeVar("N", int, float)


@dataclass(frozen=True)
class Options:
    """The demo's arguments; each of eight steps lasts `rounds`, or else about `seconds`."""

    concurrency: tuple[int, ...]
    pool_size: int
    seconds: float
    rounds: int | None
    json: Path | None


def parse(argv: list[str]) -> Options:
    """Raises SystemExit(2) with a message on stderr for what cannot be."""
    parser = argparse.ArgumentParser(
        prog="pgfunnel demo",
        description="Many short-lived functions, straight to an embedded Postgres with "
        f"max_connections = {MAX_CONNECTIONS}, then through pgfunnel.",
    )
    parser.add_argument(
        "--concurrency",
        type=_levels,
        default=(10, 50, 100, 500),
        metavar="N,N,…",
        help="functions open at once, one step each (default: 10,50,100,500)",
    )
    parser.add_argument(
        "--pool-size",
        type=_number(int, 1, _LARGEST_POOL),
        default=20,
        metavar="N",
        help="pgfunnel's server connections (default: 20)",
    )
    parser.add_argument(
        "--seconds",
        type=_number(float, 0.1, 3600),
        default=3.0,
        metavar="S",
        help="how long each step lasts, in whole rounds (default: 3)",
    )
    parser.add_argument(
        "--rounds",
        type=_number(int, 1, 100_000),
        metavar="N",
        help="exactly this many rounds a step, instead of --seconds",
    )
    parser.add_argument("--json", type=_writable, metavar="FILE", help="write the rows there too")
    return Options(**vars(parser.parse_args(argv)))


def _levels(text: str) -> tuple[int, ...]:
    check = _number(int, 1, 10_000)
    return tuple(check(part) for part in text.split(","))


def _number(kind: type[N], least: N, most: N) -> Callable[[str], N]:
    def convert(text: str) -> N:
        wrong = argparse.ArgumentTypeError(f"{text!r} is not a number from {least} to {most}")
        try:
            value = kind(text)
        except ValueError:
            raise wrong from None
        if not least <= value <= most:
            raise wrong
        return value

    return convert


def _writable(text: str) -> Path:
    file = Path(text)
    if file.is_dir() or not os.access(file.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"cannot write {text}: name a file in a folder you own")
    return file
