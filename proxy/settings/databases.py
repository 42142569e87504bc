"""Settings of single databases and users, and the target that a database name leads to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from proxy.settings.dsn import parse_dsn
from proxy.settings.types import (
    Count,
    HostChoice,
    Kind,
    PoolMode,
    Positive,
    Seconds,
    Secret,
    SessionAttrs,
    SessionPolicy,
    SslMode,
    Statement,
    setting,
)


def _hosts(value: str) -> str:
    hosts = [part.strip() for part in value.split(",") if part.strip()]
    if value and not hosts:
        raise ValueError("has no name in its list; give names separated by commas")
    if len({host[:1] in "/@" for host in hosts}) > 1:
        raise ValueError("mixes unix sockets with others; give entries of their own to them")
    return ",".join(hosts)


Hosts = Annotated[str, AfterValidator(_hosts), Kind("text")]
HostPort = Annotated[int, Field(ge=1, le=65535), Kind("a port from 1 to 65535")]


class DatabaseSettings(BaseModel):
    """One entry of `databases`; None means: as everywhere else."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: Hosts | None = setting(
        None,
        "Host name, address, or folder of the unix socket; several, separated by commas.",
        differs="the addresses of one name are tried in order",
    )
    port: HostPort | None = setting(None, "Port of the Postgres server.")
    dbname: str | None = setting(None, "Name of the database there, if it is another one.")
    user: str | None = setting(None, "Log in as this user, whoever the client is.")
    password: Secret | None = setting(
        None, "Password of that user.", secret=True, differs="only together with user"
    )
    sslmode: SslMode | None = setting(None, "As server_tls_sslmode, for this database.")
    auth_user: str | None = setting(None, "As auth_user, for this database.")
    auth_query: str | None = setting(None, "As auth_query, for this database.")
    auth_dbname: str | None = setting(None, "As auth_dbname, for this database.")
    pool_mode: PoolMode | None = setting(None, "As pool_mode, for this database.")
    pool_size: Positive | None = setting(None, "As default_pool_size, for this database.")
    min_pool_size: Count | None = setting(None, "As min_pool_size, for this database.")
    reserve_pool_size: Count | None = setting(None, "As reserve_pool_size, for this database.")
    max_db_connections: Count | None = setting(None, "As max_db_connections, for this database.")
    max_db_client_connections: Count | None = setting(
        None, "As max_db_client_connections, for this database."
    )
    server_lifetime: Seconds | None = setting(
        None, "As server_lifetime, for this database.", unit="s"
    )
    query_wait_timeout: Seconds | None = setting(
        None, "As query_wait_timeout, for this database.", unit="s"
    )
    session_policy: SessionPolicy | None = setting(
        None, "Before session_policy, for this database."
    )
    query_timeout: Seconds | None = setting(None, "As query_timeout, for this database.", unit="s")
    transaction_timeout: Seconds | None = setting(
        None, "As transaction_timeout, for this database.", unit="s"
    )
    idle_transaction_timeout: Seconds | None = setting(
        None, "As idle_transaction_timeout, for this database.", unit="s"
    )
    client_idle_timeout: Seconds | None = setting(
        None, "As client_idle_timeout, for this database.", unit="s"
    )
    connect_query: Statement | None = setting(
        None,
        "Sent to each new server before it is used.",
        differs="what it sets is undone by RESET ALL and DISCARD ALL",
    )
    load_balance_hosts: HostChoice = setting(
        "round-robin", "Of several hosts, take the next for each server, or the next on failure."
    )
    target_session_attrs: SessionAttrs = setting(
        "any", "What a server has to be when it is opened; where it is not, the next host is tried."
    )
    client_encoding: str | None = setting(None, "Ask Postgres for this client_encoding.")
    datestyle: str | None = setting(None, "Ask Postgres for this datestyle.")
    timezone: str | None = setting(None, "Ask Postgres for this timezone.")
    application_name: str | None = setting(
        None, "The application_name of servers whose client has none."
    )

    @model_validator(mode="before")
    @classmethod
    def _from_dsn(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return {name: part for name, part in asdict(parse_dsn(value)).items() if part is not None}

    @model_validator(mode="after")
    def _password_has_user(self) -> Self:
        if self.password is not None and self.user is None:
            raise ValueError("has a password but no user; add the user")
        return self


class UserSettings(BaseModel):
    """One entry of `users`; None means: as everywhere else."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pool_mode: PoolMode | None = setting(None, "As pool_mode, for this user.")
    pool_size: Positive | None = setting(None, "As default_pool_size, for this user.")
    reserve_pool_size: Count | None = setting(None, "As reserve_pool_size, for this user.")
    session_policy: SessionPolicy | None = setting(None, "Before session_policy, for this user.")
    max_user_connections: Count | None = setting(None, "As max_user_connections, for this user.")
    max_user_client_connections: Count | None = setting(
        None, "As max_user_client_connections, for this user."
    )
    query_wait_timeout: Seconds | None = setting(
        None, "As query_wait_timeout, for this user.", unit="s"
    )
    query_timeout: Seconds | None = setting(None, "As query_timeout, for this user.", unit="s")
    transaction_timeout: Seconds | None = setting(
        None, "As transaction_timeout, for this user.", unit="s"
    )
    idle_transaction_timeout: Seconds | None = setting(
        None, "As idle_transaction_timeout, for this user.", unit="s"
    )
    client_idle_timeout: Seconds | None = setting(
        None, "As client_idle_timeout, for this user.", unit="s"
    )


class PeerSettings(BaseModel):
    """One entry of `peers`: another process behind the same address."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str | None = setting(
        None, "Host name, address, or folder of the unix socket of that process alone."
    )
    port: HostPort = setting(6432, "Its port.")
    pool_size: Positive | None = setting(
        None, "Cancel requests on their way to it at the same time; default_pool_size if not set."
    )


TABLES: Final[Mapping[str, type[BaseModel]]] = MappingProxyType(
    {"databases": DatabaseSettings, "users": UserSettings, "peers": PeerSettings}
)
"""The settings that are tables of named entries."""


def by_name(value: object) -> object:
    """Refuse what is not a table of tables before pydantic looks inside; read JSON."""
    if isinstance(value, str):
        value = _json(value)
    if not isinstance(value, dict):
        raise ValueError("is not a table; write [databases.NAME] or the like in the file")
    return value


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        raise ValueError('is not JSON; write {"NAME": {"setting": "value"}}') from None


Databases = Annotated[
    dict[str, DatabaseSettings], BeforeValidator(by_name), Kind("tables; JSON in the environment")
]
Users = Annotated[
    dict[str, UserSettings], BeforeValidator(by_name), Kind("tables; JSON in the environment")
]

MOST_PEERS: Final = 16383
"""The highest number of a peer: it has 14 bits, as in PgBouncer."""


def peer_number(name: str) -> int:
    """The number that names a peer. Raises ValueError."""
    if not (name.isascii() and name.isdigit() and 0 < int(name[:6]) <= MOST_PEERS):
        raise ValueError(f"is not a peer's number; give 1 to {MOST_PEERS}")
    return int(name)


def _numbered(value: dict[str, PeerSettings]) -> dict[str, PeerSettings]:
    for name in value:
        try:
            peer_number(name)
        except ValueError as problem:
            raise ValueError(f"has {name!r}, which {problem}") from None
    return value


PeerNumber = Annotated[
    int, Field(ge=0, le=MOST_PEERS), Kind(f"a whole number from 0 to {MOST_PEERS}")
]
Peers = Annotated[
    dict[str, PeerSettings],
    BeforeValidator(by_name),
    AfterValidator(_numbered),
    Kind("tables; JSON in the environment"),
]


@dataclass(frozen=True)
class Target:
    """The Postgres that a client's database name leads to.

    `database` is the name the client gave, `dbname` the name there. `user` is None when the
    client's own name is used. Sizes and `pool_mode` are None when inherited: `Settings.limits`
    resolves them. `host` is a folder for a unix socket, or several hosts with commas between them.
    `startup`: parameters that are asked for at each login there.
    """

    database: str
    host: str
    port: int
    dbname: str
    sslmode: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    pool_mode: str | None = None
    pool_size: int | None = None
    min_pool_size: int | None = None
    reserve_pool_size: int | None = None
    max_db_connections: int | None = None
    max_db_client_connections: int | None = None
    server_lifetime: float | None = None
    query_wait_timeout: float | None = None
    session_policy: tuple[str, ...] = ()
    query_timeout: float | None = None
    transaction_timeout: float | None = None
    idle_transaction_timeout: float | None = None
    client_idle_timeout: float | None = None
    load_balance: bool = True
    startup: tuple[tuple[str, str], ...] = ()
    connect_query: str = ""
    session_attrs: str = "any"

    @property
    def hosts(self) -> tuple[str, ...]:
        """The hosts one by one."""
        return tuple(self.host.split(","))

    @property
    def place(self) -> tuple[object, ...]:
        """Which database it is, whatever its name here."""
        return self.host, self.port, self.dbname

    @property
    def way(self) -> tuple[object, ...]:
        """How Postgres is reached, and as whom: servers that were reached otherwise are to go."""
        place = (self.host, self.port, self.sslmode, self.dbname, self.session_attrs)
        return (*place, self.user, self.password, self.startup, self.connect_query)


@dataclass(frozen=True)
class AuthLookup:
    """Where users that auth_file does not have are looked up: as `user` at `target`."""

    target: Target
    user: str
    query: str


@dataclass(frozen=True)
class Limits:
    """What holds for the pool of one (database, user); numbers of servers and seconds, 0: none.

    A `server_lifetime` of 0 is the exception: a server then serves once. Of `session_policy` a
    later word counts; `session_audit` is a share.
    """

    pool_mode: str
    pool_size: int
    min_pool_size: int
    reserve_pool_size: int
    max_db_connections: int
    max_user_connections: int
    server_lifetime: float
    query_wait_timeout: float
    session_policy: tuple[str, ...] = ()
    session_audit: float = 0.0
    session_catalog_interval: float = 60.0


@dataclass(frozen=True)
class Times:
    """Time limits of one user on one database, in seconds; 0 is no limit."""

    query: float
    transaction: float
    idle_transaction: float
    client_idle: float

    @property
    def any_of_servers(self) -> bool:
        """Whether there is one for clients that have a server."""
        return bool(self.query or self.transaction or self.idle_transaction)
