"""The commands that change something. PgBouncer's words, since operators' scripts look for them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from proxy.admin.desk import Desk
from proxy.admin.program import Program, Shutdown
from proxy.admin.show_pools import database_names
from proxy.admin.slices import in_slices
from proxy.admin.words import Said, unknown
from proxy.errors import (
    ClientKilled,
    CommandImpossible,
    NoSuchDatabase,
    PgfunnelError,
    SettingsError,
)
from proxy.relay.client import Client
from proxy.relay.server import Server
from proxy.relay.standing import CONSOLE
from proxy.telemetry.reasons import CloseReason
from proxy.wire import messages

if TYPE_CHECKING:
    from proxy.relay.funnel import Funnel

_SHUTDOWNS: Final = {
    "": Shutdown.AT_ONCE,
    "WAIT_FOR_SERVERS": Shutdown.WAIT_FOR_SERVERS,
    "WAIT_FOR_CLIENTS": Shutdown.WAIT_FOR_CLIENTS,
}
ENVIRONMENT: Final = {
    "client_encoding": "UTF-8",
    "default_transaction_isolation": "read committed",
    "standard_conforming_strings": "on",
    "datestyle": "ISO",
    "timezone": "GMT",
    "extra_float_digits": "2",
}
"""What some drivers ask for and set before anything else: told as it is, SET is ignored."""


class _ReloadFailed(PgfunnelError):
    sqlstate = "F0000"


class Orders:
    """Carries them out; `program` is what only the whole program can do."""

    def __init__(self, funnel: Funnel, program: Program) -> None:
        self._funnel = funnel
        self._program = program

    # -- pausing ---------------------------------------------------------------------------

    async def pause(self, desk: Desk, said: Said) -> None:
        """Let go of every server, of one database or all; clients wait. Done when all are gone."""
        standing, database = self._funnel.standing, said.argument
        self._not_paused()
        if database:
            self._check(database, "pause")
        self._set_paused(database, paused=True)
        pools = self._funnel.pools_by_key
        try:
            await desk.until(
                lambda: (
                    not standing.pauses(database)
                    or not any(pool.servers for pool in pools.of(database))
                )
            )
        except asyncio.CancelledError:
            self._set_paused(database, paused=False)
            raise
        if not standing.pauses(database):
            raise CommandImpossible("resumed before the last server was closed")

    async def resume(self, desk: Desk, said: Said) -> None:
        """Take back PAUSE or KILL."""
        standing, database = self._funnel.standing, said.argument
        if self._funnel.draining:
            raise CommandImpossible("pooler is shutting down")
        if not database and not standing.everything:
            raise CommandImpossible("pooler is not paused/suspended")
        if database and database not in standing.paused:
            self._check(database, "resume")
            self._known(database)
            raise CommandImpossible(f"database {database} is not paused")
        self._set_paused(database, paused=False)

    def _set_paused(self, database: str, *, paused: bool) -> None:
        standing = self._funnel.standing
        if not database:
            standing.everything = paused
        elif paused:
            standing.paused.add(database)
        else:
            standing.paused.discard(database)
        self._funnel.pools_by_key.follow_standing()

    def _not_paused(self) -> None:
        if self._funnel.standing.everything:
            raise CommandImpossible("already suspended/paused")

    def _check(self, database: str, what: str) -> None:
        """Raises NoSuchDatabase, CommandImpossible."""
        if database == CONSOLE:
            raise CommandImpossible(f"cannot {what} admin db: {database}")
        if self._funnel.settings.target(database) is None:
            raise NoSuchDatabase(f"no such database: {database}")

    def _known(self, database: str) -> None:
        """Raises NoSuchDatabase for one that only `*` could serve, if nobody has asked for it."""
        if database not in database_names(self._funnel):
            raise NoSuchDatabase(f"no such database: {database}")

    async def suspend(self, desk: Desk, said: Said) -> None:
        """Refused: there is no takeover by a new process."""
        raise CommandImpossible(
            "SUSPEND does not apply: there is no takeover by a new process", hint="Use PAUSE."
        )

    # -- who may come in -------------------------------------------------------------------

    async def disable(self, desk: Desk, said: Said) -> None:
        """Refuse new clients of a database."""
        self._named(said.argument, "disable")
        self._funnel.standing.disabled.add(said.argument)

    async def enable(self, desk: Desk, said: Said) -> None:
        """Take back DISABLE."""
        self._named(said.argument, "enable")
        self._known(said.argument)
        self._funnel.standing.disabled.discard(said.argument)

    def _named(self, database: str, what: str) -> None:
        if not database:
            raise CommandImpossible("a database is required")
        self._check(database, what)

    # -- closing ---------------------------------------------------------------------------

    async def reconnect(self, desk: Desk, said: Said) -> None:
        """Close every server as soon as it is given back; others are opened as needed."""
        if said.argument:
            self._check(said.argument, "reconnect")
        self._funnel.pools_by_key.reconnect(said.argument)

    async def wait_close(self, desk: Desk, said: Said) -> None:
        """Wait until the servers are gone that RECONNECT or RELOAD wants closed."""
        if said.argument:
            self._check(said.argument, "wait in")
        pools = self._funnel.pools_by_key.of(said.argument)
        leaving = [s for p in pools for s in p.servers if isinstance(s, Server) and s.reason]
        await desk.until(lambda: all(s.fd < 0 or s.reason is None for s in leaving))

    async def kill(self, desk: Desk, said: Said) -> None:
        """Close clients and servers at once, of one database or all, and pause it."""
        database = said.argument
        self._not_paused()
        if database:
            self._check(database, "kill")
        self._set_paused(database, paused=True)
        pools = self._funnel.pools_by_key.of(database)
        async for client in in_slices(self._everybody()):
            if client.pool in pools:
                client.close(CloseReason.KILLED, ClientKilled("database removed"))
        async for server in in_slices([server for pool in pools for server in pool.servers]):
            if isinstance(server, Server):
                server.close(CloseReason.KILLED)
        for pool in pools:
            pool.greetings.clear()  # newcomers wait in their login, for a server to come

    async def kill_client(self, desk: Desk, said: Said) -> None:
        """Close one client; its server is brought back to a boundary."""
        try:
            number = int(said.argument.upper().removeprefix("C-"), 0)
        except ValueError:
            raise CommandImpossible("invalid client pointer supplied") from None
        client = next((each for each in self._everybody() if each.number == number), None)
        if client is None:
            raise CommandImpossible("client not found", hint="See id in SHOW CLIENTS.")
        client.close(CloseReason.KILLED, ClientKilled("admin forced disconnect"))

    def _everybody(self) -> list[Client]:
        return [*self._funnel.clients, *self._funnel.logging_in]

    # -- the program -----------------------------------------------------------------------

    async def reload(self, desk: Desk, said: Said) -> None:
        """Read the settings and users anew, or none of them."""
        problems = self._program.reload()
        if problems:
            words = "RELOAD failed, see logs for additional details"
            raise _ReloadFailed(words, hint="; ".join(problems))

    async def set(self, desk: Desk, said: Said) -> None:
        """Change a setting until the next reload."""
        try:
            self._program.set(said.argument, said.value or "")
        except SettingsError as error:
            raise CommandImpossible("SET failed", hint=error.message) from None

    async def shutdown(self, desk: Desk, said: Said) -> None:
        """End the program: at once, when no server is lent, or when the last client has left."""
        how = _SHUTDOWNS.get(said.argument.upper())
        if how is None:
            raise unknown(f"SHUTDOWN {said.argument}")
        self._program.shut_down(how)
        if how is Shutdown.AT_ONCE:
            await desk.until(lambda: False)


@dataclass(frozen=True, slots=True)
class Order:
    """`usage` as in SHOW HELP; `takes`: whether it has an argument."""

    usage: str
    run: Callable[[Orders, Desk, Said], Awaitable[None]]
    takes: bool = True

    @property
    def doc(self) -> str:
        return (self.run.__doc__ or "").strip()


ORDERS: Final = {
    "SET": Order("SET key = arg", Orders.set),
    "RELOAD": Order("RELOAD", Orders.reload, takes=False),
    "PAUSE": Order("PAUSE [<db>]", Orders.pause),
    "RESUME": Order("RESUME [<db>]", Orders.resume),
    "DISABLE": Order("DISABLE <db>", Orders.disable),
    "ENABLE": Order("ENABLE <db>", Orders.enable),
    "RECONNECT": Order("RECONNECT [<db>]", Orders.reconnect),
    "KILL": Order("KILL [<db>]", Orders.kill),
    "KILL_CLIENT": Order("KILL_CLIENT <client_id>", Orders.kill_client),
    "SUSPEND": Order("SUSPEND", Orders.suspend, takes=False),
    "SHUTDOWN": Order("SHUTDOWN [WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS]", Orders.shutdown),
    "WAIT_CLOSE": Order("WAIT_CLOSE [<db>]", Orders.wait_close),
}


def tag(said: Said) -> bytes:
    """The CommandComplete of an order."""
    shown = f" {said.argument}={said.value}" if said.verb == "SET" else ""
    return messages.command_complete(f"{said.verb}{shown}")
