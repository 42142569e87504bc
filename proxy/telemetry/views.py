"""What the metrics, the health routes and the console may read of a running proxy.

Whoever runs the proxy implements these; nothing here is called on the way of a transaction.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from proxy.telemetry.counters import PoolCounters, Totals
from proxy.telemetry.troubles import Trouble

CLIENT_STATES = ("login", "idle", "active", "pinned", "waiting", "cancelling")
SERVER_STATES = ("connecting", "idle", "active", "resetting", "closing", "cancelling")


class PinView(NamedTuple):
    """One client that keeps its server, for one reason; `seconds`: for how long already.

    `digest`: of the statement, as in the log.
    """

    client: str
    database: str
    user: str
    state: str
    reason: str
    meaning: str
    advice: str
    seconds: float
    statement: str
    digest: str


class PinningStatement(NamedTuple):
    """A statement without its literals, and how often it pinned a client."""

    times: int
    reason: str
    statement: str
    digest: str
    advice: str


class PoolView(Protocol):
    """One pool, as it is at this moment."""

    @property
    def database(self) -> str: ...
    @property
    def user(self) -> str: ...
    @property
    def size(self) -> int:
        """The most server connections that it may have."""
        ...

    @property
    def counters(self) -> PoolCounters: ...
    @property
    def waiting(self) -> int:
        """Clients that wait for a server."""
        ...

    @property
    def clients(self) -> int:
        """Clients that are logged in."""
        ...

    @property
    def failing(self) -> str:
        """Why the last login to Postgres failed; empty when it succeeded."""
        ...

    def servers_by_state(self) -> Mapping[str, int]:
        """Server connections by SERVER_STATES; a state may be missing when it has none."""
        ...

    def oldest_wait(self, now: float) -> float:
        """Seconds the first waiter has waited at `now` (time.monotonic()), 0.0 without one."""
        ...


class ProxyView(Protocol):
    """The whole proxy, as it is at this moment."""

    @property
    def totals(self) -> Totals: ...
    @property
    def ready(self) -> bool:
        """True while new clients are welcome; false before draining begins."""
        ...

    @property
    def why_not_ready(self) -> str:
        """One line for an operator, such as `shutting down`; empty while ready."""
        ...

    @property
    def started_at(self) -> float:
        """Unix time in seconds."""
        ...

    @property
    def max_client_conn(self) -> int: ...

    def clients_by_state(self) -> Mapping[str, int]:
        """Client connections by CLIENT_STATES; a state may be missing when it has none."""
        ...

    def pools(self) -> Iterable[PoolView]: ...

    def pinned(self, most: int | None = None) -> list[PinView]:
        """The pins that there are now, longest first; no more than `most`."""
        ...

    def pinning(self) -> list[PinningStatement]:
        """The statements that pinned most often since the start, most first."""
        ...

    def troubles(self) -> list[Trouble]:
        """The last refusals and unwished closes, latest first."""
        ...
