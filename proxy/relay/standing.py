"""What operators have said of databases: which are paused, which take no new clients."""

from __future__ import annotations

CONSOLE = "pgbouncer"
"""The database whose clients are operators, and the user that a local one may be."""


class Standing:
    """Holds until it is taken back, whatever is reloaded in between.

    `everything`: all databases are paused, those not yet known included.
    """

    __slots__ = ("disabled", "everything", "paused")

    def __init__(self) -> None:
        self.everything = False
        self.paused: set[str] = set()
        self.disabled: set[str] = set()

    def pauses(self, database: str) -> bool:
        """Whether clients of the database have to wait."""
        return self.everything or database in self.paused
