"""What a text means for the session of the client that sends it.

Told from the text alone, so it says what *may* come about: a false alarm costs a question to the
server, which is believed. Nothing is told of what ends with the transaction (SET LOCAL,
SET TRANSACTION, transaction-level locks), nor of what a function or a prepared statement does
whose text is elsewhere.
"""

from __future__ import annotations

from proxy.session.findings import NOTHING, Findings, Verdict
from proxy.session.reading import Reading
from proxy.session.tokens import Tokens

# Statements that leave no doubt about what they put back, token by token.
RESETS = frozenset(
    {
        "close all",
        "deallocate all",
        "deallocate prepare all",
        "discard all",
        "discard plans",
        "discard sequences",
        "discard temp",
        "discard temporary",
        "reset all",
        "reset role",
        "reset session authorization",
        "select pg_advisory_unlock_all ( )",
        "select pg_catalog . pg_advisory_unlock_all ( )",
        "set session authorization default",
        "unlisten *",
    }
)
_LONGEST_RESET = 1000


class Verdicts:
    """Verdicts kept by text, in two generations: what is not asked for in a while is forgotten.

    All texts kept are of at most `limit` bytes, what is kept with each counted as `OVERHEAD`; a
    text of more than `longest` bytes is read anew each time.
    """

    OVERHEAD = 400

    def __init__(self, limit: int = 4 << 20, longest: int = 16 << 10) -> None:
        self.limit = limit
        self.longest = longest
        self._young: dict[tuple[bytes, bool, int], Verdict] = {}
        self._old: dict[tuple[bytes, bool, int], Verdict] = {}
        self._size = 0

    def of(self, text: bytes, backslashes: bool = False, wide: int = 0) -> Verdict:
        """The verdict on the text of a Query or Parse.

        `backslashes`: standard_conforming_strings is off; `wide`: `proxy.session.lexer.width` of
        its client_encoding.
        """
        key = (text, backslashes, wide)
        known = self._young.get(key)
        if known is not None:
            return known
        known = self._old.pop(key, None) or read(text, backslashes, wide)
        if len(text) <= self.longest:
            self._keep(key, known)
        return known

    def _keep(self, key: tuple[bytes, bool, int], known: Verdict) -> None:
        size = len(key[0]) + self.OVERHEAD
        if self._size + size > self.limit // 2:
            self._young, self._old = {}, self._young
            self._size = 0
        self._young[key] = known
        self._size += size

    def __len__(self) -> int:
        return len(self._young) + len(self._old)


verdict = Verdicts().of


def read(text: bytes, backslashes: bool = False, wide: int = 0) -> Verdict:
    """The verdict on a text, worked out."""
    found = Findings()
    Reading(Tokens(text, backslashes, wide), found).run()
    return found.verdict(bool(found.does or found.clears) and _is_reset(text, backslashes, wide))


def _is_reset(text: bytes, backslashes: bool, wide: int) -> bool:
    """Whether the text consists of `RESETS` alone."""
    if len(text) > _LONGEST_RESET:
        return False
    tokens = Tokens(text, backslashes, wide)
    statement: list[str] = []
    while True:
        more = tokens.advance()
        if not tokens.over():
            statement.append(tokens.word() or "?")
        elif statement and " ".join(statement) not in RESETS:
            return False
        else:
            statement = []
        if not more:
            return True


__all__ = ["NOTHING", "RESETS", "Verdict", "Verdicts", "read", "verdict"]
