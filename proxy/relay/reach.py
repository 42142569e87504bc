"""A session with Postgres for a pool: at which of its hosts, and as whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.auth.keys import KeyCache
from proxy.auth.upstream import UpstreamLogin
from proxy.errors import PostgresError, UpstreamUnreachable
from proxy.relay.attributes import suits
from proxy.relay.connect import Address, Asked, LoggedIn, open_session, run_query, take_leave
from proxy.relay.database import Database
from proxy.relay.hosts import HostTurn
from proxy.relay.users import Credentials
from proxy.settings.databases import Target

if TYPE_CHECKING:
    from proxy.relay.funnel import Funnel


class Reach:
    """Knows whose turn it is among the hosts of each pool, and the keys of its logins."""

    def __init__(self, funnel: Funnel) -> None:
        self._funnel = funnel
        self._keys = KeyCache()
        self._turns: dict[Database, HostTurn] = {}

    def forget(self, pool: Database) -> None:
        """The pool is no more."""
        self._turns.pop(pool, None)

    async def session(self, pool: Database, target: Target) -> tuple[Address, LoggedIn]:
        """A session, made ready, at the host whose turn it is, or the next that is as wanted.

        Raises what `open_session` and `run_query` raise.
        """
        for _ in target.hosts:
            address, opened = await self.log_in(pool, target.startup, target.connect_query)
            if suits(target.session_attrs, opened.reported):
                return address, opened
            self._turn_away(pool, address)
            await take_leave(opened.stream)
        words = f"no server of {target.host} is {target.session_attrs} (target_session_attrs)"
        raise UpstreamUnreachable(words)

    async def log_in(
        self, pool: Database, asked: Asked, query: str = ""
    ) -> tuple[Address, LoggedIn]:
        """A session at the host whose turn it is, with `query` run; another's comes if it fails."""
        address = self._next_place(pool)
        try:
            opened = await open_session(
                address, pool.target.dbname, lambda bound: self._login(pool, bound), asked
            )
            await self._prepare(pool, opened, query)
        except BaseException:
            self._turn_away(pool, address)
            raise
        return address, opened

    async def date_style(self, pool: Database) -> str:
        """DateStyle as it would be but for ALTER DATABASE and ALTER ROLE; empty: Postgres says no.

        What a start-up packet does not say of style or order stays as it is there.
        """
        try:
            _, opened = await self.log_in(pool, (("DateStyle", ""),))
        except PostgresError:
            return ""
        await take_leave(opened.stream)
        return opened.reported.get(b"DateStyle", b"").decode()

    async def _prepare(self, pool: Database, opened: LoggedIn, query: str) -> None:
        """Run connect_query, if there is one; what Postgres says against it is for the log."""
        if not query:
            return
        try:
            failure = await run_query(opened, query)
        except BaseException:
            opened.stream.close()
            raise
        if failure is not None:
            self._funnel.journal.connect_query_failed(pool, failure)

    def _next_place(self, pool: Database) -> Address:
        """The one of the pool's hosts whose turn it is."""
        target = pool.target
        turn = self._turns.setdefault(pool, HostTurn())
        return pool.address.at(turn.take(target.hosts, in_turn=target.load_balance))

    def _turn_away(self, pool: Database, address: Address) -> None:
        target = pool.target
        turn = self._turns.setdefault(pool, HostTurn())
        turn.failed(target.hosts, address.host, in_turn=target.load_balance)

    def _login(self, pool: Database, binding: bytes | None) -> UpstreamLogin:
        known = self._funnel.users.credentials(pool.database, pool.user)
        if pool.target.password is not None:
            known = Credentials(pool.target.password)
        return UpstreamLogin(
            pool.user,
            known.password,
            known.keys,
            self._keys,
            md5=known.md5,
            channel_binding=binding,
        )
