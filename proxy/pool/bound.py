"""A bound: how many sockets to Postgres there may be, and how many there are."""

from __future__ import annotations


class Bound:
    """At most `limit` places (0: no limit), of which `used` are taken.

    A place is taken before connect() and given back once the socket is known to be closed.
    """

    __slots__ = ("limit", "name", "used")

    def __init__(self, name: str, limit: int) -> None:
        self.name = name
        self.limit = limit
        self.used = 0

    def room(self) -> int:
        """Places left; a large number when there is no limit."""
        return self.limit - self.used if self.limit else 1 << 30

    def take(self) -> None:
        self.used += 1

    def give(self) -> None:
        if self.used <= 0:
            raise AssertionError(f"{self.name}: a place was given back twice")
        self.used -= 1

    def __repr__(self) -> str:
        return f"<Bound {self.name} {self.used}/{self.limit or 'unlimited'}>"
