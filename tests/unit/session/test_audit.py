"""What an audit makes of a server's answer."""

from __future__ import annotations

import json

import pytest

from proxy.conditions import ADVISORY, HOLD, LISTEN, PARAMETERS, PREPARED, TEMP, UNSURE
from proxy.session import audit
from proxy.session.parameters import NOBODYS, NONE, Parameters, Prepared

PLAN = {"plan": "PREPARE plan AS SELECT 1"}
BELIEVED = Parameters.of(
    {"work_mem": "5MB", "my.tag": "x", "role": "joe"}, {n: Prepared(t) for n, t in PLAN.items()}
)
CLEAN = {"work_mem": ("5MB", False, True)}


def shown(value: object) -> bytes:
    text = value if isinstance(value, str) else json.dumps(value)
    return text.encode().hex().encode()


def answer(
    held: int = 0,
    own: tuple[str | None, ...] = ("x", "joe", "5MB"),
    settings: dict[str, tuple[str, bool, bool]] = CLEAN,
    statements: dict[str, str] = PLAN,
    strays: tuple[str, ...] = (),
) -> list[list[bytes | None]]:
    """Holds, the believed set's values in order of name, settings, statements, strays."""
    holds = [b"t" if held & c else b"f" for c in (LISTEN, ADVISORY, TEMP, HOLD)]
    values = [None if value is None else shown(value) for value in own]
    told = [[statement, [name]] for name, statement in statements.items()]
    return [[*holds, *values, shown(settings), shown(told), shown(dict.fromkeys(strays, "")), b"7"]]


def test_a_server_as_believed_leaks_nothing() -> None:
    assert audit.leaks(BELIEVED, answer()) == 0
    nothing = answer(own=("none",), settings={}, statements={})
    assert audit.leaks(NONE, nothing) == 0


@pytest.mark.parametrize("condition", [LISTEN, ADVISORY, TEMP, HOLD])
def test_what_is_held_leaks(condition: int) -> None:
    assert audit.leaks(BELIEVED, answer(held=condition)) == condition


@pytest.mark.parametrize(
    "own, settings",
    [
        (("x", "joe", "4MB"), {}),
        (("x", "joe", "6MB"), {"work_mem": ("6MB", False, True)}),
        (("x", "joe", "5MB"), {**CLEAN, "timezone": ("UTC", False, True)}),
        (("y", "joe", "5MB"), CLEAN),
        (("", "joe", "5MB"), CLEAN),
        ((None, "joe", "5MB"), CLEAN),
        (("x", "none", "5MB"), CLEAN),
        (("x", "ann", "5MB"), CLEAN),
    ],
)
def test_parameters_that_are_lost_changed_or_strange_leak(
    own: tuple[str | None, ...], settings: dict[str, tuple[str, bool, bool]]
) -> None:
    assert audit.leaks(BELIEVED, answer(own=own, settings=settings)) == PARAMETERS


def test_a_parameter_set_to_what_it_is_anyway_is_no_leak() -> None:
    assert audit.leaks(BELIEVED, answer(settings={**CLEAN, "jit": ("on", True, True)})) == 0


def test_a_parameter_believed_to_be_what_it_is_anyway_is_no_leak() -> None:
    assert audit.leaks(BELIEVED, answer(settings={})) == 0
    unset = Parameters.of({"my.tag": "", "role": "none"})
    assert audit.leaks(unset, answer(own=(None, "none"), settings={}, statements={})) == 0


def test_statements_of_the_protocol_that_are_to_be_dropped_are_no_leak() -> None:
    believed = BELIEVED.with_statements({**BELIEVED.statements, "mine": NOBODYS})
    assert audit.leaks(believed, answer(strays=("mine",))) == 0
    assert audit.leaks(believed, answer()) == PREPARED
    assert audit.leaks(BELIEVED, answer(strays=("mine",))) == PREPARED


@pytest.mark.parametrize("there", [{}, {**PLAN, "more": "PREPARE more AS SELECT 2"}])
def test_prepared_statements_that_are_lost_or_strange_leak(there: dict[str, str]) -> None:
    assert audit.leaks(BELIEVED, answer(statements=there)) == PREPARED


def test_leaks_add_up() -> None:
    found = audit.leaks(BELIEVED, answer(LISTEN | TEMP, ("x", "none", "5MB"), statements={}))
    assert found == LISTEN | TEMP | PARAMETERS | PREPARED


def test_no_answer_is_no_all_clear() -> None:
    assert audit.leaks(BELIEVED, []) == UNSURE
