"""Users that auth_file does not have: Postgres is asked for their secrets (`auth_query`).

What a query finds is believed for `auth_query_cache` seconds, be it a secret or that there is
none, so that a user that does not exist costs what a wrong password costs. Why a lookup failed is
for the log; the client is told what a wrong password would be told.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
from dataclasses import dataclass, replace
from time import monotonic
from typing import TYPE_CHECKING, Any

from proxy.auth.secret import Secret
from proxy.errors import PgfunnelError, UpstreamUnreachable
from proxy.pool.backoff import Backoff
from proxy.relay.connect import Address, attempts
from proxy.relay.database import Database
from proxy.settings.databases import AuthLookup
from proxy.telemetry.logs import log_event

if TYPE_CHECKING:
    from proxy.relay.funnel import Funnel

log = logging.getLogger("pgfunnel")

Key = tuple[str, str]
"""The database as the client calls it, and the user."""

_ONE = "auth_query has one parameter, $1, the name of the user"
_MOST_FOUND = 10_000
_LINGERS = 5.0
"""Seconds for which a connection that nobody needs is kept while its place is not needed."""
_YOUNG = 1.0
"""Seconds for which even a refused login does not make the next one look anew."""
_PAUSE = 0.05
_TIMEOUT = 15.0


@dataclass(frozen=True, slots=True)
class Found:
    """The secret, or None: no such user, or none who may log in; and when that was (seconds)."""

    secret: Secret | None
    at: float


class Lookups:
    """Finds secrets by (database, user). `on`: whether any database has an auth_user.

    `logins`: as many connections are opened side by side, whatever names strangers give.
    """

    def __init__(self, funnel: Funnel) -> None:
        self._funnel = funnel
        self._found: dict[Key, Found] = {}
        self._asked: dict[Key, asyncio.Task[Secret | None]] = {}
        self._desks: dict[AuthLookup, Desk] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self.logins = asyncio.Semaphore()
        self.on = False

    def use(self) -> None:
        """Follow the funnel's settings: what was found is forgotten, connections are made anew."""
        self.on = self._funnel.settings.looks_users_up
        self._found.clear()
        self.logins = asyncio.Semaphore(self._funnel.settings.max_server_logins)
        if self.on:
            self._funnel.users.scram = True
        for desk in self._desks.values():
            desk.lingers = False
            self._leave(desk)
        self._desks = {}

    def known(self, database: str, user: str) -> Found | None:
        """What was found lately."""
        found = self._found.get((database, user))
        if found is None or monotonic() - found.at >= self._funnel.settings.auth_query_cache:
            return None
        return found

    def find(self, database: str, user: str) -> asyncio.Future[Secret | None]:
        """Ask Postgres; several who ask for the same get one answer."""
        key = (database, user)
        task = self._asked.get(key)
        if task is None:
            task = self._asked[key] = asyncio.get_running_loop().create_task(self._look(key))
            task.add_done_callback(lambda _: self._asked.pop(key, None))
        return task

    def refused(self, database: str, user: str) -> None:
        """A login was refused: perhaps the secret has changed since it was looked up."""
        found = self._found.get((database, user))
        if found is not None and monotonic() - found.at >= _YOUNG:
            del self._found[database, user]

    async def _look(self, key: Key) -> Secret | None:
        database, user = key
        users = self._funnel.users
        lookup = self._funnel.settings.auth_lookup(database)
        if lookup is None:
            return None
        desk = self._desks.get(lookup)
        if desk is None:
            desk = self._desks[lookup] = Desk(self._funnel, lookup)
        found = await desk.ask(user)
        if found is None:
            return None
        if found.secret is not None:
            users.learn(database, user, found.secret)
        if desk.lingers:
            self._keep(key, found)
        return found.secret

    def _keep(self, key: Key, found: Found) -> None:
        self._found.pop(key, None)
        self._found[key] = found
        if len(self._found) > _MOST_FOUND:
            del self._found[next(iter(self._found))]

    def tick(self, now: float) -> None:
        """Close the connections that nobody needs, or whose place is needed."""
        for lookup, desk in list(self._desks.items()):
            if desk.unneeded(now):
                del self._desks[lookup]
                self._leave(desk)

    def _leave(self, desk: Desk) -> None:
        task = asyncio.get_running_loop().create_task(desk.close())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def close(self) -> None:
        """End everything, now."""
        for task in self._asked.values():
            task.cancel()
        for desk in self._desks.values():
            self._leave(desk)
        await asyncio.gather(*self._leaving, return_exceptions=True)


class Desk:
    """Where one Postgres is asked: at most one connection, which has a place in its pool's bounds.

    The connection's parameters are its own, whatever clients ask for.
    """

    __slots__ = (
        "_backoff", "_connection", "_funnel", "_lookup", "_place", "_turn",
        "expires_at", "idle_since", "lingers", "state",
    )  # fmt: skip

    def __init__(self, funnel: Funnel, lookup: AuthLookup) -> None:
        self._funnel = funnel
        self._lookup = lookup
        self._backoff = Backoff(first=0.1, longest=1.0)
        self._turn = asyncio.Lock()
        self._connection: Any = None
        self._place: Database | None = None
        self.idle_since = self.expires_at = 0.0
        self.lingers = True
        self.state = "connecting"

    async def ask(self, user: str) -> Found | None:
        """What Postgres says of `user`; None: it could not be asked, the log says why."""
        async with self._turn:
            trying = not self._backoff.waits(monotonic())
            while trying:
                try:
                    return await self._ask(user)
                except (PgfunnelError, OSError, TimeoutError) as failure:
                    trying = await self._worth_another_try(failure)
        return None

    async def _worth_another_try(self, failure: Exception) -> bool:
        """Whether Postgres may be back in a moment: within upstream_grace, as for servers."""
        await self._hang_up()
        now = monotonic()
        self._backoff.failed(now, random.random())
        log_event(
            log,
            logging.WARNING,
            "auth_query_failed",
            database=self._lookup.target.database,
            user=self._lookup.user,
            error=str(failure) or type(failure).__name__,
        )
        grace = self._funnel.settings.upstream_grace
        if isinstance(failure, _Refusal) or self._backoff.failing_for(now) >= grace:
            return False
        await asyncio.sleep(self._backoff.retry_at - now)
        return True

    async def _ask(self, user: str) -> Found:
        """Raises _Refusal, OSError, TimeoutError."""
        import asyncpg

        limit = self._funnel.settings.server_connect_timeout or _TIMEOUT
        async with asyncio.timeout(limit):
            if self._connection is None or self._connection.is_closed():
                await self._connect()
            self.state = "active"
            try:
                rows = await self._connection.fetch(self._lookup.query, user)
            except asyncpg.PostgresError as error:
                raise _failed(error) from None
            except asyncpg.InterfaceError as error:
                said = str(error).partition("\n")[0]
                lost = self._connection.is_closed()
                raise OSError(said) if lost else _Refusal(f"{said}: {_ONE}") from None
        self._backoff.succeeded()
        self.state = "idle"
        self.idle_since = monotonic()
        if not self.lingers or self._in_the_way():
            await self._hang_up()
        return Found(_secret(rows, user), self.idle_since)

    # -- its connection --------------------------------------------------------------------

    async def _connect(self) -> None:
        await self._hang_up()
        await self._take_place()
        lookup = self._lookup
        address = self._funnel.address(lookup.target)
        failure: Exception = UpstreamUnreachable("no way to connect")
        for host in lookup.target.hosts:
            for tls in attempts(address):
                try:
                    async with self._funnel.entrance.lookups.logins:
                        self._connection = await self._log_in(address.at(host), tls)
                except (PgfunnelError, OSError) as error:
                    failure = error
                else:
                    return
        raise failure

    async def _log_in(self, address: Address, tls: bool) -> Any:
        """Raises _Refusal, OSError."""
        import asyncpg

        lookup = self._lookup
        try:
            return await asyncpg.connect(
                host=address.host,
                port=address.port,
                user=lookup.user,
                password=self._password(),
                passfile=os.devnull,
                database=lookup.target.dbname,
                ssl=address.tls.context if tls else False,
                direct_tls=tls and address.tls.direct,
                statement_cache_size=0,
                server_settings={"application_name": "pgfunnel auth_query"},
            )
        except asyncpg.PostgresError as error:
            raise _failed(error) from None
        except asyncpg.InterfaceError as error:
            raise OSError(str(error)) from None

    def _password(self) -> str:
        lookup = self._lookup
        if lookup.target.user == lookup.user and lookup.target.password is not None:
            return lookup.target.password
        users = self._funnel.users
        known = users.credentials(lookup.target.database, lookup.user)
        if known.password is None and users.secret(lookup.user) is not None:
            raise _Refusal("the password of auth_user must be known in plain, not as a hash")
        return known.password or ""

    async def _hang_up(self) -> None:
        """Close the connection, and give its place back once Postgres has closed it too."""
        connection, self._connection = self._connection, None
        self.state = "closing"
        try:
            if connection is not None:
                await connection.close(timeout=1.0)
        except Exception:  # noqa: BLE001
            connection.terminate()
        finally:
            place, self._place = self._place, None
            if place is not None:
                place.gone(self)
                self._funnel.pools_by_key.drop(place)

    async def close(self) -> None:
        """Close the connection after what is being asked."""
        async with self._turn:
            await self._hang_up()

    def unneeded(self, now: float) -> bool:
        if self._turn.locked() or self._backoff.waits(now):
            return False
        return self._place is None or now - self.idle_since >= _LINGERS or self._in_the_way()

    # -- its place in the bounds -----------------------------------------------------------

    async def _take_place(self) -> None:
        """Stand in the bounds ahead of everybody who comes later, wait until there is room."""
        pools = self._funnel.pools_by_key
        lookup = self._lookup
        target = replace(lookup.target, user=None, password=None, min_pool_size=0)
        pool = self._place = pools.get(target, lookup.user)
        self.state = "connecting"
        pool.enter(self)
        pool.opened()
        while len(pool.servers) > pool.size.size or any(b.room() < 0 for b in pool.bounds):
            pools.make_room(pool)
            await asyncio.sleep(_PAUSE)

    def _in_the_way(self) -> bool:
        return self._place is not None and self._place.room(monotonic()) <= 0


class _Refusal(PgfunnelError):
    """Postgres said no; another try would hear the same."""


def _failed(error: Any) -> Exception:
    """Postgres that starts, stops or is full (class 57, 53) is worth another try."""
    words = f"{error} ({error.sqlstate})"
    return OSError(words) if str(error.sqlstate)[:2] in ("53", "57", "08") else _Refusal(words)


def _secret(rows: list[Any], user: str) -> Secret | None:
    """Name and secret of the first row. Raises _Refusal for a row that is something else."""
    if not rows:
        return None
    if len(rows[0]) < 2:
        raise _Refusal("auth_query returned one column; it has to return name and secret")
    name, secret = rows[0][0], rows[0][1]
    if name != user or not isinstance(secret, str | None):
        raise _Refusal("auth_query did not return name and secret of the user in question")
    return None if secret is None else Secret.parse(secret)
