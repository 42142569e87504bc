"""The clients that are pinned now, and why: for the log, the metrics and the page /pins."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from time import monotonic

from proxy.conditions import Condition, among
from proxy.errors import PgfunnelError
from proxy.relay.client import Client
from proxy.relay.database import Database
from proxy.session.wording import digest, normalised
from proxy.telemetry.logs import log_event
from proxy.telemetry.reasons import CloseReason
from proxy.telemetry.views import PinningStatement, PinView

log = logging.getLogger("pgfunnel")

_MOST_STATEMENTS = 1000


class PinnedAndIdle(PgfunnelError):
    sqlstate = "57P05"


@dataclass(slots=True)
class Pin:
    """One condition for which one client keeps its server, since when (monotonic, seconds)."""

    condition: Condition
    since: float
    statement: str


class Pins:
    """Every pin there is, and which statements pinned how often."""

    def __init__(self) -> None:
        self._held: dict[Client, dict[int, Pin]] = {}
        self._statements: dict[tuple[str, str], int] = {}

    def __iter__(self) -> Iterator[Client]:
        return iter(list(self._held))

    def follow(self, client: Client) -> None:
        """What holds the client may have changed: say so."""
        session = client.session
        texts, session.texts = session.texts, None
        before, after = client.pinned_for, session.holds
        if before == after:
            return
        client.pinned_for = after
        for condition in among(before & ~after):
            self._unpin(client, condition)
        for condition in among(after & ~before):
            statement = _culprit(texts or [], condition.bit, session.wide)
            self._pin(client, condition, statement)

    def gone(self, client: Client) -> None:
        """The client is being closed."""
        for condition in among(client.pinned_for):
            self._unpin(client, condition)
        client.pinned_for = 0

    def check_idle(self, now: float, timeout: float) -> None:
        """End the pinned clients that were idle for so long (seconds) while others wait.

        One for each waiter, those that were idle longest.
        """
        if not timeout:
            return
        waiting = {client.pool: _wanted(client.pool) for client in self._held}
        for client, held in sorted(self._held.items(), key=lambda item: item[0].active_at):
            if client.server is None or not client.at_rest() or now - client.active_at < timeout:
                continue
            if waiting[client.pool] > 0:
                waiting[client.pool] -= 1
                self._end(client, held, timeout)

    @staticmethod
    def _end(client: Client, held: dict[int, Pin], timeout: float) -> None:
        pins = list(held.values())
        statement = next((pin.statement for pin in pins if pin.statement), "")
        log_event(
            log,
            logging.WARNING,
            "pinned_and_idle",
            id=f"C-{client.number:#x}",
            database=client.pool.database,
            user=client.user,
            reason=",".join(pin.condition.word for pin in pins),
            statement=statement,
            digest=digest(statement),
        )
        error = PinnedAndIdle(
            f"pinned to its server ({pins[0].condition.word}) and idle for {timeout:g} s while"
            " others wait (pin_idle_timeout)",
            hint=pins[0].condition.advice,
        )
        client.close(CloseReason.PIN_IDLE_TIMEOUT, error)

    def _pin(self, client: Client, condition: Condition, statement: str) -> None:
        pin = Pin(condition, monotonic(), statement)
        self._held.setdefault(client, {})[condition.bit] = pin
        client.pool.counters.pin(condition.word)
        self._count(condition.word, statement)
        log_event(
            log,
            logging.INFO,
            "pinned",
            id=f"C-{client.number:#x}",
            database=client.pool.database,
            user=client.user,
            reason=condition.word,
            statement=statement,
            digest=digest(statement),
        )

    def _unpin(self, client: Client, condition: Condition) -> None:
        held = self._held.get(client, {})
        pin = held.pop(condition.bit, None)
        if not held:
            self._held.pop(client, None)
        if pin is None:
            return
        lasted = monotonic() - pin.since
        client.pool.counters.unpin(condition.word, lasted)
        log_event(
            log,
            logging.INFO,
            "unpinned",
            id=f"C-{client.number:#x}",
            database=client.pool.database,
            user=client.user,
            reason=condition.word,
            lasted_s=round(lasted, 3),
        )

    def _count(self, word: str, statement: str) -> None:
        key = (word, statement)
        if key not in self._statements and len(self._statements) >= _MOST_STATEMENTS:
            del self._statements[min(self._statements, key=self._statements.__getitem__)]
        self._statements[key] = self._statements.get(key, 0) + 1

    # -- what others look at ---------------------------------------------------------------

    def those_of(self, pool: Database) -> int:
        """How many of its clients are pinned."""
        return sum(client.pool is pool for client in self._held)

    def now(self, most: int | None = None) -> list[PinView]:
        """The clients that are pinned at this moment, those pinned longest first."""
        moment = monotonic()
        pins = [(client, pin) for client, held in self._held.items() for pin in held.values()]
        return [
            PinView(
                client=f"C-{client.number:#x}",
                database=client.pool.database,
                user=client.user,
                state=client.state,
                reason=pin.condition.word,
                meaning=pin.condition.meaning,
                advice=pin.condition.advice,
                seconds=round(moment - pin.since, 3),
                statement=pin.statement,
                digest=digest(pin.statement),
            )
            for client, pin in sorted(pins, key=lambda each: each[1].since)[:most]
        ]

    def statements(self, most: int = 20) -> list[PinningStatement]:
        """The statements that pinned most often."""
        first = sorted(self._statements.items(), key=lambda item: -item[1])[:most]
        return [
            PinningStatement(count, word, statement, digest(statement), _ADVICE[word])
            for (word, statement), count in first
        ]


def _wanted(pool: Database) -> int:
    """Waiters for whom no server is about to be free."""
    resetting = sum(1 for server in pool.servers if server.state == "resetting")
    return len(pool.waiters) - resetting


_ADVICE = {condition.word: condition.advice for condition in among(-1)}


def _culprit(texts: list[tuple[int, bytes]], bit: int, wide: int) -> str:
    """The last statement that may have brought the condition about, without its literals."""
    for may, text in reversed(texts):
        if may & bit:
            return normalised(text.partition(b"\0")[0], wide)
    return ""
