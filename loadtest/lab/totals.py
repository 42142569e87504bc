"""Whether the checkouts of a path add up, asked of the tables themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg

from loadtest.lab import SCHEMA_NAME
from loadtest.lab.workloads import IN_STOCK

_TOTALS = f"""
SELECT (SELECT count(*) FROM {SCHEMA_NAME}.orders),
    (SELECT coalesce(sum(quantity), 0) FROM {SCHEMA_NAME}.orders),
    (SELECT coalesce(sum({IN_STOCK} - quantity), 0) FROM {SCHEMA_NAME}.stock),
    (SELECT coalesce(sum(amount), 0) FROM {SCHEMA_NAME}.orders),
    (SELECT coalesce(sum(amount), 0) FROM {SCHEMA_NAME}.payments),
    (SELECT count(*) FROM {SCHEMA_NAME}.orders o
        LEFT JOIN {SCHEMA_NAME}.payments p ON p.order_id = o.id WHERE p.order_id IS NULL),
    (SELECT count(*) FROM {SCHEMA_NAME}.notes WHERE token = 'never committed')
"""


@dataclass(frozen=True)
class Totals:
    """What the tables hold: sums over all checkouts, and what must never have been committed."""

    orders: int
    ordered: int
    taken: int
    owed: int
    paid: int
    unpaid_orders: int
    unwritten_notes: int

    def faults(self, begun: int | None, done: int) -> list[str]:
        """Every way in which they do not add up.

        `done` checkouts were confirmed, `begun` reached their COMMIT; None when nobody can tell.
        """
        checks = (
            (self.ordered == self.taken, f"{self.ordered} pieces ordered, {self.taken} taken"),
            (self.owed == self.paid, f"{self.owed} owed, {self.paid} paid"),
            (not self.unpaid_orders, f"{self.unpaid_orders} orders without a payment"),
            (not self.unwritten_notes, f"{self.unwritten_notes} rows of killed functions"),
            (done <= self.orders, f"{done} checkouts confirmed, {self.orders} kept"),
            (
                begun is None or self.orders <= begun,
                f"{self.orders} orders kept, only {begun} checkouts committed",
            ),
        )
        return [words for holds, words in checks if not holds]


def read_totals(dsn: str) -> Totals:
    """Raises psycopg.Error."""
    with psycopg.connect(dsn) as connection:
        row: Sequence[int] | None = connection.execute(_TOTALS).fetchone()
    assert row is not None
    return Totals(*(int(number) for number in row))
