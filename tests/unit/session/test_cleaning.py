"""What takes from a server what a client left: SQL per condition, in an order that works."""

from __future__ import annotations

import pytest

from proxy.conditions import (
    ADVISORY,
    HOLD,
    LISTEN,
    LOAD,
    PARAMETERS,
    PREPARED,
    SEED,
    SEQUENCES,
    SERVER_STATE,
    TEMP,
    UNSURE,
)
from proxy.session.cleaning import cleaning
from proxy.session.verdict import verdict

CLEANABLE = (PARAMETERS, HOLD, LISTEN, ADVISORY, TEMP, PREPARED)


@pytest.mark.parametrize("condition", CLEANABLE)
def test_a_condition_is_ended_by_what_the_scan_knows_to_end_it(condition: int) -> None:
    said = verdict(cleaning(condition), False)
    assert said.clears & condition
    assert said.whole_reset


@pytest.mark.parametrize("condition", [LOAD, SEED, SEQUENCES, SERVER_STATE, UNSURE])
def test_nothing_undoes_the_others(condition: int) -> None:
    assert cleaning(condition) == b""


def test_together_they_undo_all_and_identity_comes_first() -> None:
    """Dropping a role's own temporary tables takes the rights of whoever logged in."""
    whole = cleaning(sum(CLEANABLE))
    first = [b"SET SESSION AUTHORIZATION DEFAULT", b"RESET ROLE", b"RESET ALL"]
    assert whole.split(b";")[:3] == first
    assert sorted(whole.split(b";")) == sorted(b";".join(map(cleaning, CLEANABLE)).split(b";"))
