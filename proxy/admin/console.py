"""The console itself: who may come to it, and what is said there."""

from __future__ import annotations

import logging
import os
import time
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from proxy.admin.desk import Desk
from proxy.admin.look import Look
from proxy.admin.orders import ENVIRONMENT, ORDERS, Orders, tag
from proxy.admin.program import Program, Shutdown
from proxy.admin.show import TABLES
from proxy.admin.show_inside import PGBOUNCER
from proxy.admin.show_sockets import peer_credentials
from proxy.admin.slices import in_slices
from proxy.admin.statistics import Statistics
from proxy.admin.tables import TEXT, Table
from proxy.admin.words import Said, read, unknown
from proxy.errors import CommandForbidden, CommandImpossible, ConsoleForbidden
from proxy.relay.standing import CONSOLE
from proxy.telemetry.counters import PoolCounters
from proxy.telemetry.logs import log_event
from proxy.wire import messages

if TYPE_CHECKING:
    from proxy.relay.client import Client
    from proxy.relay.funnel import Funnel
    from proxy.relay.login import Login

__all__ = ["Console", "Program", "Shutdown"]

log = logging.getLogger("pgfunnel")

_SHOWN: Final = messages.command_complete("SHOW")
_BATCH: Final = 65536
"""Bytes of an answer that are sent in one go."""
_GREETING: Final = b"".join(
    messages.parameter_status(name, value)
    for name, value in (
        (b"server_version", f"{PGBOUNCER}/bouncer".encode()),
        (b"client_encoding", b"UTF8"),
        (b"server_encoding", b"UTF8"),
        (b"DateStyle", b"ISO"),
        (b"TimeZone", b"GMT"),
        (b"standard_conforming_strings", b"on"),
        (b"is_superuser", b"on"),
    )
)
_SHOWS: Final = (
    "HELP|CONFIG|DATABASES|POOLS|CLIENTS|SERVERS|USERS|VERSION",
    "PEERS|PEER_POOLS",
    "SOCKETS|ACTIVE_SOCKETS|LISTS|MEM|STATE",
    "DNS_HOSTS|DNS_ZONES",
    "STATS|STATS_TOTALS|STATS_AVERAGES|TOTALS",
    "PINS|PREPARED",
)
HELP: Final = "\n\t" + "\n\t".join(
    [*(f"SHOW {names}" for names in _SHOWS), *(order.usage for order in ORDERS.values())]
)


class Console:
    """Lets operators in and does what they say. Averages turn over each `stats_period`."""

    def __init__(self, funnel: Funnel, program: Program) -> None:
        self._funnel = funnel
        self._orders = Orders(funnel, program)
        self.statistics = Statistics(monotonic())
        self.database = CONSOLE
        self.counters = PoolCounters()
        funnel.entrance.console = self
        self._turn_later()

    def _turn_later(self) -> None:
        self._funnel.loop.call_later(self._funnel.settings.stats_period, self._turn)

    def _turn(self) -> None:
        pools, now = list(self._funnel.pools_by_key), monotonic()
        self.statistics.turn([*pools, self], now)
        if self._funnel.settings.log_stats:
            rates = self.statistics.of_all(pools, now).average
            log_event(log, logging.INFO, "stats", **rates.in_the_log())
        self._turn_later()

    # -- who may come ----------------------------------------------------------------------

    def knows(self, client: Client, user: str) -> bool:
        """Whether it needs no password: on a unix socket, by the account that runs pgfunnel."""
        if user != CONSOLE or not client.local:
            return False
        credentials = peer_credentials(client.fd)
        return credentials is not None and credentials[1] == os.getuid()

    def enter(self, client: Client, login: Login) -> None:
        """A client that has proven who it is wants to the console. Raises ConsoleForbidden."""
        settings = self._funnel.settings
        user = login.user
        anybody = settings.auth_type == "any"
        powerful = anybody or user in settings.admin_users or self.knows(client, user)
        if not powerful and user not in settings.stats_users:
            raise ConsoleForbidden("not allowed")
        name = login.wish.name or ""
        desk = Desk(
            client, user, self.obey, self.counters, powerful=powerful, application_name=name
        )
        self._funnel.entrance.seat(client, desk, login.said + _GREETING)

    # -- what is said ----------------------------------------------------------------------

    async def obey(self, desk: Desk, sql: str) -> None:
        """Carry out one command and answer it. Raises PgfunnelError with why not."""
        self.counters.queries += 1
        self.counters.transactions += 1
        said = read(sql)
        if said is None:
            desk.send(messages.EMPTY_QUERY)
        elif said.verb in ("SHOW", "SELECT"):
            await self._show(desk, said.argument, sql)
        elif said.verb == "SET" and said.argument in ENVIRONMENT:
            desk.send(messages.notice("SET ignored") + messages.command_complete("SET"))
        else:
            await self._order(desk, said, sql)

    async def _order(self, desk: Desk, said: Said, sql: str) -> None:
        order = ORDERS.get(said.verb)
        if order is None or (said.argument and not order.takes):
            raise unknown(sql)
        if (said.value is None) == (said.verb == "SET"):
            raise unknown(sql)
        if not desk.powerful:
            raise CommandForbidden("admin access needed")
        whose = f" '{said.argument}'" if said.argument else ""
        words = f"{said.verb}{whose} command issued"
        log_event(
            log,
            logging.INFO,
            "console",
            id=desk.name,
            database=CONSOLE,
            user=desk.user,
            command=words,
        )
        await order.run(self._orders, desk, said)
        desk.send(tag(said))

    async def _show(self, desk: Desk, what: str, sql: str) -> None:
        if what.lower() in ENVIRONMENT:
            name = what.lower()
            head = messages.row_description([(name, TEXT.oid, TEXT.size)])
            desk.send(head + messages.data_row([ENVIRONMENT[name]]) + _SHOWN)
        elif what.upper() == "HELP":
            desk.send(messages.notice("Console usage", HELP) + _SHOWN)
        elif what.upper() == "FDS":
            raise CommandImpossible(
                "SHOW FDS does not apply: there is no takeover by a new process"
            )
        elif what.upper() in TABLES:
            await self._tell(desk, TABLES[what.upper()])
        else:
            raise unknown(sql)

    async def _tell(self, desk: Desk, table: Table[Any]) -> None:
        counted = (*self._funnel.pools_by_key, self)
        look = Look(self._funnel, self.statistics, counted, monotonic(), time.time())
        answer = bytearray(table.head())
        async for row in in_slices(table.rows(look)):
            answer += table.line(row)
            if len(answer) >= _BATCH:
                desk.send(bytes(answer))
                answer.clear()
                await desk.drained()
                if not desk.here:
                    return
        desk.send(bytes(answer) + _SHOWN)
