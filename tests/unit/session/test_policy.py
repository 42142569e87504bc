"""The user's choices as masks, and the words of a refusal."""

from __future__ import annotations

from itertools import product

import pytest

from proxy.conditions import (
    ADVISORY,
    CHOICES,
    CONDITIONS,
    LISTEN,
    PARAMETERS,
    SEQUENCES,
    Condition,
)
from proxy.session.policy import DEFAULT, NOT_NOW, Policy, refusal


@pytest.mark.parametrize("condition, choice", list(product(CONDITIONS, CHOICES)))
def test_one_choice_is_of_one_condition(condition: Condition, choice: str) -> None:
    word, bit = condition.word, condition.bit
    chosen = Policy.of([f"{word}={choice}"])
    masks = (chosen.pinned, chosen.rejected, chosen.ignored)
    assert masks == tuple(bit if choice == c else 0 for c in ("pin", "reject", "ignore"))


def test_a_later_choice_counts() -> None:
    words = ["listen=reject", "parameters=pin", "advisory_lock=ignore", "listen=ignore"]
    assert Policy.of(words) == Policy(pinned=PARAMETERS, ignored=ADVISORY | LISTEN)
    assert Policy.of([]) == DEFAULT == Policy()


@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda c: c.word)
def test_a_refusal_says_what_and_what_to_do_instead(condition: Condition) -> None:
    sqlstate, message, hint = refusal(condition.bit)
    assert sqlstate == "0A000"
    assert f"({condition.word}=reject)" in message
    assert hint == condition.advice


def test_what_cannot_be_had_now_is_an_error_that_a_retry_clears() -> None:
    sqlstate, message, hint = refusal(SEQUENCES | NOT_NOW)
    assert sqlstate == "55000"
    assert "nextval" in message
    assert hint.startswith("Run the transaction again")
