"""The last refusals and the last closes that nobody wished for, for a person who looks."""

from __future__ import annotations

import re
from dataclasses import dataclass

from proxy.telemetry.reasons import CloseReason, Side

_MOST = 30
_LONGEST_NAME = 63  # octets; longer names are cut by Postgres too (NAMEDATALEN)
_LONGEST_WORDS = 200

USUAL = frozenset(
    {
        CloseReason.CLIENT_LEFT,
        CloseReason.IDLE_TIMEOUT,
        CloseReason.LIFETIME,
        CloseReason.SURPLUS,
        CloseReason.CANCEL_DONE,
        CloseReason.REPLICATION,
        CloseReason.NAME_CHANGED,
        CloseReason.OUTDATED,
        CloseReason.PAUSED,
        CloseReason.RELOAD,
        CloseReason.SHUTTING_DOWN,
    }
)
"""Reasons for which connections end without anybody's fault: not noted."""


@dataclass(slots=True)
class Trouble:
    """What happened `times` times, last at `at` (Unix time, seconds).

    `reason` is a CloseReason's word, `sqlstate` and `words` what the client was told, without
    what it had written itself; both are empty when it was told nothing.
    """

    at: float
    times: int
    side: str
    reason: str
    meaning: str
    database: str
    user: str
    sqlstate: str
    words: str


class Troubles:
    """The last kinds of trouble. One that comes again is counted, so a storm hides no other."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._by_kind: dict[tuple[str, ...], Trouble] = {}

    def note(
        self,
        at: float,
        side: Side,
        reason: CloseReason,
        place: tuple[str, str],
        sqlstate: str = "",
        words: str = "",
    ) -> None:
        """A connection was closed or refused; `place` is its database and user."""
        kind = (side, reason, sqlstate, *place)
        trouble = self._by_kind.pop(kind, None)
        if trouble is None:
            database, user = (name[:_LONGEST_NAME] for name in place)
            meaning = reason.meaning(side) or ""
            trouble = Trouble(
                at, 0, side.value, reason.value, meaning, database, user, sqlstate, ""
            )
        trouble.at = at
        trouble.times += 1
        trouble.words = words[:_LONGEST_WORDS]
        self._by_kind[kind] = trouble
        if len(self._by_kind) > self._most:
            del self._by_kind[next(iter(self._by_kind))]

    def latest(self) -> list[Trouble]:
        """The latest first."""
        return list(reversed(self._by_kind.values()))


def without_quoted(words: str) -> str:
    """A message of ours without what it quotes: that is what the client wrote."""
    return re.sub(r'".*"', '"…"', words, flags=re.DOTALL)
