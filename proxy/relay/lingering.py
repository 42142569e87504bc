"""Sockets of clients that were told why they are closed: open until that can have been read.

A socket that is closed while something of its peer's is still on the way is answered with RST,
and then the peer's kernel may throw away what it has not read yet: the reason itself. So only the
writing side is shut down, and what comes in is read and dropped for a short time (RFC 1122,
section 4.2.2.13, on half-duplex closes; RFC 7230, section 6.6, on the same trouble of HTTP).
"""

from __future__ import annotations

from typing import Any

from proxy.relay.link import Link

MOST = 256
"""So many linger at a time; the one that has been longest makes room for another."""

_SECONDS = 0.5


class Remnant(Link):
    """What is left of a client: its socket, and what the kernel has not taken yet."""

    def __init__(self, link: Any) -> None:
        Link.__init__(self, link.loop, link.surrender())
        self.out, link.out = link.out, None
        self.watch()
        if self.out is None:
            self.finish_sending()
        else:
            self.loop.add_writer(self.fd, self.on_writable)

    def consume(self, buffer: bytearray, n: int) -> None:
        """It is too late for that."""

    def on_lost(self) -> None:
        self.hang_up()

    def on_violation(self, error: object) -> None:
        del error
        self.hang_up()

    def on_blocked(self) -> None:
        """Nobody feeds this link."""

    def on_drained(self) -> None:
        self.finish_sending()


class Lingering:
    """Those that linger, and until when (monotonic, seconds)."""

    def __init__(self) -> None:
        self._until: dict[Remnant, float] = {}

    def __len__(self) -> int:
        return sum(remnant.fd >= 0 for remnant in self._until)

    def take(self, link: Link, now: float) -> None:
        """Close the socket of `link` as soon as its peer has, or has had time enough to read."""
        if len(self._until) >= MOST:
            self._end(next(iter(self._until)))
        self._until[Remnant(link)] = now + _SECONDS

    def tick(self, now: float) -> None:
        for remnant, until in list(self._until.items()):
            if remnant.fd < 0 or now >= until:
                self._end(remnant)

    def close(self) -> None:
        for remnant in list(self._until):
            self._end(remnant)

    def _end(self, remnant: Remnant) -> None:
        del self._until[remnant]
        remnant.hang_up()
