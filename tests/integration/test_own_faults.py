"""A fault of pgfunnel's own ends who met it, and is nobody else's.

The faults are put in from outside: a function of its own fails as long as a file is there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.funnel import Funnel, start_funnel
from tests.integration.observe import until
from tests.postgres import USERS, Postgres
from tests.wireclient import SYNC, Gone, Wire, bind, execute, parse, query

_FAULTY = """
from pathlib import Path
from proxy.session import understanding

def failing(*given):
    if Path({flag!r}).exists():
        raise RuntimeError("a fault of this test's")
    return sound(*given)

sound, understanding.looks_up_anew = understanding.looks_up_anew, failing
"""


class Faulty:
    """A pgfunnel that may be told to fail."""

    def __init__(self, upstream: Postgres, folder: Path, size: int, *, pure: bool) -> None:
        self.flag = folder / "fails"
        (folder / "sitecustomize.py").write_text(_FAULTY.format(flag=str(self.flag)))
        self.funnel: Funnel = start_funnel(
            upstream,
            folder,
            pure=pure,
            under=("env", f"PYTHONPATH={folder}"),
            default_pool_size=size,
        )

    def connect(self) -> Wire:
        database = self.funnel.upstream.database
        return Wire(self.funnel.host, self.funnel.port, "alice", database, USERS["alice"])

    @contextlib.contextmanager
    def failing(self) -> Iterator[None]:
        self.flag.touch()
        yield
        self.flag.unlink()


@pytest.fixture(params=["compiled", "pure"])
def faulty(
    postgres: Postgres, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[[int], Faulty]]:
    begun: list[Faulty] = []

    def start(size: int) -> Faulty:
        begun.append(Faulty(postgres, tmp_path, size, pure=request.param == "pure"))
        return begun[-1]

    yield start
    for each in begun:
        each.funnel.stop()


def prepared(wire: Wire) -> None:
    """To use `s` now is what fails."""
    wire.send(parse("s", "SELECT (timestamptz '2020-01-01')::text"), SYNC)
    wire.until_ready()
    wire.ask("SET timezone = 'Asia/Tokyo'")


USE = [query("SELECT 'mine'"), bind("", "s"), execute(), SYNC]


def undisturbed(others: list[Wire]) -> None:
    for turn in range(20):
        for number, other in enumerate(others):
            own = f"{number} in turn {turn}"
            assert [a.row for a in other.ask(f"SELECT '{own}'") if a.kind == "D"] == [[own]]


@pytest.mark.parametrize("use", [USE, USE[1:]], ids=["behind a query", "alone"])
def test_others_get_their_own_answers(faulty: Callable[[int], Faulty], use: list[bytes]) -> None:
    lab = faulty(2)
    with contextlib.ExitStack() as stack:
        others = [stack.enter_context(lab.connect()) for _ in range(4)]
        for _ in range(5):
            one = stack.enter_context(lab.connect())
            prepared(one)
            with lab.failing():
                one.send(*use)
                with pytest.raises(Gone):
                    one.until_ready(len(use))
            undisturbed(others)
    assert "a fault of this test's" in lab.funnel.log()


def test_who_frees_the_server_is_not_to_blame(faulty: Callable[[int], Faulty]) -> None:
    """The fault is met when a waiter's turn comes, which is in another client's hands."""
    lab = faulty(1)
    with contextlib.ExitStack() as stack:
        one, holder, *others = [stack.enter_context(lab.connect()) for _ in range(4)]
        prepared(one)
        holder.ask("BEGIN")
        one.send(*USE)
        until(lambda: any("waiting" in k and v == 1 for k, v in lab.funnel.metrics().items()))
        with lab.failing():
            holder.ask("COMMIT")
            with pytest.raises(Gone):
                one.until_ready(len(USE))
        undisturbed([holder, *others])
    assert "a fault of this test's" in lab.funnel.log()
    assert "AttributeError" not in lab.funnel.log()
