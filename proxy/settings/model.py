"""The settings as one frozen object, and the questions the rest of the program asks it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import ClassVar, Final, TypeVar

from pydantic import PrivateAttr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from proxy.settings.databases import (
    AuthLookup,
    DatabaseSettings,
    Limits,
    PeerSettings,
    Target,
    Times,
    UserSettings,
)
from proxy.settings.dsn import DEFAULT_PORT, is_folder
from proxy.settings.sections import (
    Clients,
    Console,
    Listening,
    Login,
    Outside,
    Pools,
    Postgres,
    Running,
    Servers,
    Sessions,
    Sockets,
    Tls,
)
from proxy.settings.types import declared

STARTUP: Final = ("client_encoding", "datestyle", "timezone", "application_name")
Value = TypeVar("Value", int, float, str)
_sources: ContextVar[tuple[PydanticBaseSettingsSource, ...]] = ContextVar("sources", default=())


@contextmanager
def reading(sources: tuple[PydanticBaseSettingsSource, ...]) -> Iterator[None]:
    """Within it, `Settings()` reads these sources; the first that has a value wins."""
    token = _sources.set(sources)
    try:
        yield
    finally:
        _sources.reset(token)


class Settings(
    Running,
    Console,
    Outside,
    Tls,
    Sockets,
    Sessions,
    Clients,
    Servers,
    Pools,
    Login,
    Listening,
    Postgres,
    BaseSettings,
):
    """All settings, as plain attributes; `load()` makes one.

    `Settings(default_pool_size=5)` is the defaults with this change, whatever the environment.
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid", validate_default=False)

    NOBODY: ClassVar[UserSettings] = UserSettings()
    NOWHERE: ClassVar[DatabaseSettings] = DatabaseSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read what `reading()` names, nothing of pydantic-settings' own accord."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings, *_sources.get())

    _unused: dict[str, str] = PrivateAttr(default_factory=dict)

    @property
    def unused(self) -> Mapping[str, str]:
        """Settings of PgBouncer's that were given and have no effect here."""
        return self._unused

    def keep_unused(self, found: Mapping[str, str]) -> None:
        """Keep these, to be shown."""
        self._unused = dict(found)

    @property
    def listen_addresses(self) -> tuple[str, ...]:
        """The addresses of listen_addr one by one; `*` stands for all."""
        return tuple(part.strip() for part in self.listen_addr.split(",") if part.strip())

    def upstream_user(self) -> tuple[str, str | None] | None:
        """Name and password in `upstream`: a user that clients may log in as."""
        if self.upstream is None or self.upstream.user is None:
            return None
        return self.upstream.user, self.upstream.password

    def target(self, database: str) -> Target | None:
        """Where a client that asks for `database` is led; None if it is not served.

        An entry of `databases` comes first, then the upstream's own database, then `*`, then an
        upstream that names no database.
        """
        entry = self._entry(database)
        return None if entry is None else self._target(database, entry)

    def auth_lookup(self, database: str) -> AuthLookup | None:
        """How users that auth_file does not have are looked up for `database`; None: not at all."""
        entry = self._entry(database)
        if entry is None:
            return None
        user = _first(entry.auth_user, self.auth_user)
        target = self.target(_first(entry.auth_dbname, self.auth_dbname) or database)
        if not user or target is None:
            return None
        return AuthLookup(target, user, entry.auth_query or self.auth_query)

    @property
    def looks_users_up(self) -> bool:
        """Whether any database has an auth_user."""
        return bool(self.auth_user) or any(entry.auth_user for entry in self.databases.values())

    def _entry(self, database: str) -> DatabaseSettings | None:
        upstream = self.upstream
        if database in self.databases:
            return self.databases[database]
        if upstream is not None and upstream.dbname == database:
            return self.NOWHERE
        if "*" in self.databases:
            return self.databases["*"]
        return self.NOWHERE if upstream is not None and upstream.dbname is None else None

    def _target(self, database: str, entry: DatabaseSettings) -> Target | None:
        own_host = entry.host is not None
        upstream = None if own_host else self.upstream
        host = entry.host or (upstream.host if upstream else None)
        if host is None:
            return None
        sslmode = entry.sslmode or (upstream.sslmode if upstream else None)
        return Target(
            database=database,
            host=host,
            port=entry.port or (upstream.port if upstream else DEFAULT_PORT),
            dbname=entry.dbname or database,
            sslmode="disable" if is_folder(host) else sslmode or self.server_tls_sslmode,
            user=entry.user,
            password=entry.password.get_secret_value() if entry.password else None,
            pool_mode=entry.pool_mode,
            pool_size=entry.pool_size,
            min_pool_size=entry.min_pool_size,
            reserve_pool_size=entry.reserve_pool_size,
            max_db_connections=entry.max_db_connections,
            max_db_client_connections=entry.max_db_client_connections,
            server_lifetime=entry.server_lifetime,
            query_wait_timeout=entry.query_wait_timeout,
            session_policy=entry.session_policy or (),
            query_timeout=entry.query_timeout,
            transaction_timeout=entry.transaction_timeout,
            idle_transaction_timeout=entry.idle_transaction_timeout,
            client_idle_timeout=entry.client_idle_timeout,
            connect_query=entry.connect_query or "",
            load_balance=entry.load_balance_hosts == "round-robin",
            session_attrs=entry.target_session_attrs,
            startup=tuple(
                (name, value) for name in STARTUP if (value := getattr(entry, name)) is not None
            ),
        )

    def limits(self, target: Target, user: str) -> Limits:
        """What holds for `user`'s pool on `target`: the user's setting, the database's, all's."""
        own = self.users.get(user, self.NOBODY)
        return Limits(
            pool_mode=own.pool_mode or target.pool_mode or self.pool_mode,
            pool_size=own.pool_size or target.pool_size or self.default_pool_size,
            min_pool_size=_first(target.min_pool_size, self.min_pool_size),
            reserve_pool_size=_first(
                own.reserve_pool_size, target.reserve_pool_size, self.reserve_pool_size
            ),
            max_db_connections=_first(target.max_db_connections, self.max_db_connections),
            max_user_connections=_first(own.max_user_connections, self.max_user_connections),
            server_lifetime=_first(target.server_lifetime, self.server_lifetime),
            query_wait_timeout=_first(
                own.query_wait_timeout, target.query_wait_timeout, self.query_wait_timeout
            ),
            session_policy=(
                *self.session_policy,
                *target.session_policy,
                *(own.session_policy or ()),
            ),
            session_audit=self.session_audit,
            session_catalog_interval=self.session_catalog_interval,
        )

    def times(self, target: Target, user: str) -> Times:
        """The time limits of clients of `user` on `target`: the user's, the database's, all's."""
        own = self.users.get(user, self.NOBODY)
        names = [
            "query_timeout",
            "transaction_timeout",
            "idle_transaction_timeout",
            "client_idle_timeout",
        ]
        return Times(*(_first(*(getattr(o, name) for o in (own, target, self))) for name in names))

    def max_clients(self, target: Target, user: str) -> tuple[int, int]:
        """How many clients the database, and the user, may have; 0 is no limit."""
        own = self.users.get(user, self.NOBODY)
        return (
            _first(target.max_db_client_connections, self.max_db_client_connections),
            _first(own.max_user_client_connections, self.max_user_client_connections),
        )

    def peers_by_number(self) -> dict[int, PeerSettings]:
        """The entries of `peers`, in the order of their numbers."""
        found = [(int(name), entry) for name, entry in self.peers.items()]
        return dict(sorted(found, key=lambda pair: pair[0]))

    def autodb(self, database: str) -> bool:
        """Whether the database has no entry of its own."""
        return database not in self.databases


def _first(*values: Value | None) -> Value:
    """The first that is set; the last one is."""
    return next(value for value in values if value is not None)


@dataclass(frozen=True)
class Change:
    """A setting that differs; `restart` is whether only a restart brings it about."""

    name: str
    restart: bool


def diff(old: Settings, new: Settings) -> list[Change]:
    """The settings that differ between `old` and `new`, in the order of the reference."""
    return [
        Change(name, restart=not declared(field).reload)
        for name, field in Settings.model_fields.items()
        if getattr(old, name) != getattr(new, name)
    ]
