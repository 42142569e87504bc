"""One operator's connection: what it says, one command after the other, and what it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from proxy.errors import (
    Cancelled,
    FeatureRefused,
    InternalError,
    PgfunnelError,
    ProtocolViolation,
)
from proxy.relay.standing import CONSOLE
from proxy.telemetry.counters import PoolCounters
from proxy.telemetry.logs import connection_id
from proxy.telemetry.reasons import CloseReason, Side
from proxy.wire import messages

if TYPE_CHECKING:
    from proxy.relay.client import Client

_MOST_HELD: Final = 32768
_LOOK: Final = 0.02
"""Seconds between two looks at what a command waits for."""


class Desk:
    """Stands where a client's login was: takes its bytes, simple queries only.

    `powerful`: may change things, not only look. A command runs as a task; what is said
    meanwhile waits.
    """

    reason = ""
    database = CONSOLE

    def __init__(
        self,
        client: Client,
        user: str,
        obey: Callable[[Desk, str], Awaitable[None]],
        counters: PoolCounters,
        *,
        powerful: bool,
        application_name: str,
    ) -> None:
        self.user = user
        self.application_name = application_name
        self.powerful = powerful
        self._client = client
        self._obey = obey
        self._counters = counters
        self._task: asyncio.Task[None] | None = None
        self._cancelled = False
        self._skipping = False

    @property
    def name(self) -> str:
        """Its name in the log."""
        return connection_id(Side.CLIENT, self._client.number)

    # -- what the operator says ------------------------------------------------------------

    def feed(self, buffer: bytearray, n: int) -> None:
        """Take bytes [0, n); what cannot be dealt with yet is held. Raises ProtocolViolation."""
        at = 0
        while self._task is None and self.here and at + 5 <= n:
            end = at + 1 + int.from_bytes(buffer[at + 1 : at + 5], "big")
            if not at + 5 <= end <= at + _MOST_HELD:
                raise ProtocolViolation("invalid message length")
            if end > n:
                break
            self._take(chr(buffer[at]), bytes(buffer[at + 5 : end]))
            at = end
        if n - at > _MOST_HELD:
            raise ProtocolViolation("more was said than can be kept; wait for each answer")
        if at < n and self.here:
            self._client.held = buffer[at:n]

    def _take(self, kind: str, body: bytes) -> None:
        self._counters.bytes_received += len(body) + 5
        if kind == "X":
            self._client.close(CloseReason.CLIENT_LEFT)
        elif kind == "Q":
            self._skipping = False
            sql = body.rstrip(b"\0").decode("utf-8", "replace")
            self._task = asyncio.get_running_loop().create_task(self._answer(sql))
        elif kind == "S":
            self._skipping = False
            self.send(messages.READY_IDLE)
        elif kind in "PBDEC":
            self._refuse_extended()
        elif kind not in "Hdcf":
            raise ProtocolViolation(f"unsupported packet type for admin console: {kind!r}")

    def _refuse_extended(self) -> None:
        """Once; what follows is skipped up to Sync, as Postgres does after an error."""
        if not self._skipping:
            self._skipping = True
            self._say_no(
                FeatureRefused(
                    "extended query protocol not supported by admin console",
                    hint="Make the driver use simple queries, without parameters.",
                )
            )

    # -- what it is told -------------------------------------------------------------------

    @property
    def here(self) -> bool:
        """Whether the operator still is."""
        return self._client.fd >= 0

    def send(self, message: bytes) -> None:
        self._counters.bytes_sent += len(message)
        self._client.send(message)

    async def drained(self) -> None:
        """Wait until what was sent is taken: no answer piles up in memory."""
        await self.until(lambda: self._client.out is None)

    async def until(self, done: Callable[[], bool]) -> None:
        """Wait until it is done, or the operator has left."""
        while True:
            if done() or not self.here:
                return
            await asyncio.sleep(_LOOK)

    def cancel(self) -> None:
        """A cancel request came for what runs here."""
        if self._task is not None:
            self._cancelled = True
            self._task.cancel()

    async def _answer(self, sql: str) -> None:
        try:
            await self._obey(self, sql)
        except PgfunnelError as error:
            self._say_no(error)
        except asyncio.CancelledError:
            if not self._cancelled:
                raise
            self._say_no(Cancelled())
        except Exception:
            self._say_no(InternalError("internal error; the log has it"))
            raise
        finally:
            self._go_on()

    def _say_no(self, error: PgfunnelError) -> None:
        self.send(messages.error_response(error, "ERROR"))
        self._client.hub.entrance.log_refused(self._client, error)

    def _go_on(self) -> None:
        """The command is done: the next one, if it is there already."""
        self._task = None
        self._cancelled = False
        if not self.here:
            return
        self.send(messages.READY_IDLE)
        held = self._client.held
        if held is None:
            return
        self._client.held = bytearray()
        try:
            self.feed(held, len(held))
        except ProtocolViolation as error:
            self._client.on_violation(error)
