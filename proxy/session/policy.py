"""What is done about each condition that holds a client to its server: the user's choice."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from proxy.conditions import CONDITIONS, IGNORE, PIN, REJECT, REPLAY, among


@dataclass(frozen=True, slots=True)
class Policy:
    """Masks of conditions. What is in none of them is replayed where that can be, or pins.

    `pinned`: pin although it could be replayed; `rejected`: refuse the statement; `ignored`:
    let it happen and forget it.
    """

    pinned: int = 0
    rejected: int = 0
    ignored: int = 0

    @staticmethod
    def of(words: Iterable[str]) -> Policy:
        """From words such as listen=reject; a later one counts."""
        choices = dict(word.split("=") for word in words)
        masks = {PIN: 0, REJECT: 0, IGNORE: 0, REPLAY: 0}
        for condition in CONDITIONS:
            masks[choices.get(condition.word, REPLAY)] |= condition.bit
        return Policy(masks[PIN], masks[REJECT], masks[IGNORE])


DEFAULT = Policy()

NOT_NOW = 1 << 16
"""Beside a condition that is refused: it is allowed, but cannot be had at this moment."""

NOT_YOURS = 1 << 17
"""In place of conditions: the statement names a prepared statement of pgfunnel's own."""

REFUSED = "pgfunnel_refused_"
"""Begins what is sent to Postgres in place of a statement that is refused; a mask follows."""


def refusal(mask: int) -> tuple[str, str, str]:
    """SQLSTATE, message and hint for a statement that is refused because of these conditions."""
    if mask & NOT_YOURS:
        return (
            "26000",
            "a prepared statement of this name does not exist",
            "Names that begin with pgfunnel_ are pgfunnel's own.",
        )
    condition = among(mask)[0]
    if mask & NOT_NOW:
        return (
            "55000",
            "what nextval gave to this session last is not known on this server",
            "Run the transaction again: currval and lastval are watched for from now on. "
            + condition.advice,
        )
    what = condition.meaning.removeprefix("It ").rstrip(".")
    return (
        "0A000",
        f'refused by session_policy: a statement that "{what}" ({condition.word}=reject)',
        condition.advice,
    )
