"""Which of a database's several hosts the next server is opened at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(slots=True)
class HostTurn:
    """A turn through a list of hosts, which may change in between.

    With `in_turn` each server goes to the next host (PgBouncer's load_balance_hosts=round-robin),
    else all go to one until a login there fails (disable).
    """

    turn: int = 0

    def take(self, hosts: Sequence[str], *, in_turn: bool) -> str:
        """The host for a server that is opened now."""
        host = hosts[self.turn % len(hosts)]
        if in_turn:
            self.turn += 1
        return host

    def failed(self, hosts: Sequence[str], host: str, *, in_turn: bool) -> None:
        """A login at `host` failed; of several that failed there at once, the first one counts."""
        if not in_turn and hosts[self.turn % len(hosts)] == host:
            self.turn += 1
