"""SHOW POOLS, DATABASES, USERS, LISTS, PEERS, PEER_POOLS."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from proxy.admin.look import Look
from proxy.admin.show_sockets import server_state
from proxy.admin.tables import INT4, TEXT, Column, Table, Value
from proxy.relay.database import Database
from proxy.relay.funnel import Funnel
from proxy.relay.peers import Peer
from proxy.relay.standing import CONSOLE
from proxy.settings.databases import PeerSettings, Target, UserSettings

# -- pools ---------------------------------------------------------------------------------


class PoolLine:
    """One pool; `servers` counts them by state."""

    def __init__(self, look: Look, pool: Database) -> None:
        states = Counter(server_state(server, look.now) for server in pool.servers)
        states["tested"] += states.pop("closing", 0)
        self.database, self.user = pool.database, pool.user
        self.servers: Counter[str] = states
        self.waiting = len(pool.waiters)
        strangers = sum(client.greeting for client in pool.waiters)
        self.clients = pool.clients - (self.waiting - strangers)
        self.cancels = sum(getattr(server, "cancels", 0) for server in pool.servers)
        self.longest = max(int(1e6 * pool.oldest_wait(look.now)), 0)
        self.mode = pool.limits.pool_mode
        self.balance = _balance(pool.target)


class ConsoleLine(PoolLine):
    """The console, which PgBouncer shows as a pool."""

    def __init__(self, look: Look) -> None:
        self.database = self.user = CONSOLE
        self.servers = Counter()
        self.waiting = self.cancels = self.longest = 0
        self.clients = len(look.funnel.entrance.at_console)
        self.mode = "statement"
        self.balance = None


def _pools(look: Look) -> Iterator[PoolLine]:
    for pool in look.funnel.pools_by_key:
        yield PoolLine(look, pool)
    yield ConsoleLine(look)


def _balance(target: Target | None) -> str | None:
    if target is None or len(target.hosts) < 2:
        return None
    return "round-robin" if target.load_balance else "disable"


def _servers(name: str, state: str, doc: str) -> Column[PoolLine]:
    return Column(name, INT4, lambda row: row.servers[state], doc)


POOLS: Final[Table[PoolLine]] = Table(
    "POOLS",
    "The pools: one for each database and user that somebody asked for.",
    (
        Column("database", TEXT, lambda p: p.database, "name of the database"),
        Column("user", TEXT, lambda p: p.user, "the user logged in to Postgres"),
        Column("cl_active", INT4, lambda p: p.clients, "clients that do not wait, idle or not"),
        Column("cl_waiting", INT4, lambda p: p.waiting, "clients that wait for a server"),
        Column("cl_active_cancel_req", INT4, lambda p: p.cancels, "cancels on their way"),
        Column("cl_waiting_cancel_req", INT4, lambda _: 0, "0"),
        _servers("sv_active", "active", "servers lent to a client"),
        Column("sv_active_cancel", INT4, lambda p: p.cancels, "sockets that carry a cancel"),
        _servers("sv_being_canceled", "being_canceled", "servers that wait for a cancel to end"),
        _servers("sv_idle", "idle", "servers ready to be lent"),
        _servers("sv_used", "used", "idle for longer than server_check_delay: checked first"),
        _servers("sv_tested", "tested", "being checked, set up, reset or closed"),
        _servers("sv_login", "new", "being connected or logged in"),
        Column("maxwait", INT4, lambda p: p.longest // 1_000_000, "seconds the first one waits"),
        Column("maxwait_us", INT4, lambda p: p.longest % 1_000_000, "and microseconds"),
        Column("pool_mode", TEXT, lambda p: p.mode, "the pooling mode in use"),
        Column("load_balance_hosts", TEXT, lambda p: p.balance, "with several hosts: the choice"),
    ),
    _pools,
)

# -- databases -----------------------------------------------------------------------------


class DatabaseLine:
    """One database that clients may ask for by this name."""

    def __init__(self, look: Look, name: str, target: Target) -> None:
        funnel, settings = look.funnel, look.funnel.settings
        limits = settings.limits(target, target.user or "")
        self.name, self.target, self.limits = name, target, limits
        self.lifetime = int(limits.server_lifetime)
        self.servers = funnel.pools_by_key.used_by(database=name)
        self.most_clients = settings.max_clients(target, "")[0]
        self.clients = funnel.quota.of_database(name)
        self.paused = int(funnel.standing.pauses(name))
        self.disabled = int(name in funnel.standing.disabled)


def database_names(funnel: Funnel) -> list[str]:
    """Databases with an entry of their own, and those that somebody asked for or spoke of."""
    settings = funnel.settings
    names = {name for name in settings.databases if name != "*"}
    if settings.upstream is not None and settings.upstream.dbname is not None:
        names.add(settings.upstream.dbname)
    spoken_of = funnel.standing.paused | funnel.standing.disabled
    return sorted(names | spoken_of | {pool.database for pool in funnel.pools_by_key})


def _databases(look: Look) -> Iterator[DatabaseLine]:
    for name in database_names(look.funnel):
        target = look.funnel.settings.target(name)
        if target is not None:
            yield DatabaseLine(look, name, target)
    port = look.funnel.settings.listen_port
    console = Target(
        CONSOLE, "", port, CONSOLE, "disable", user=CONSOLE, pool_mode="statement", pool_size=2
    )
    yield DatabaseLine(look, CONSOLE, console)


def _of_target(read: Callable[[Target], Value]) -> Callable[[DatabaseLine], Value]:
    return lambda row: read(row.target)


DATABASES: Final[Table[DatabaseLine]] = Table(
    "DATABASES",
    "The databases with an entry of their own, and those that somebody asked for.",
    (
        Column("name", TEXT, lambda d: d.name, "what clients call it"),
        Column("host", TEXT, _of_target(lambda t: t.host or None), "where Postgres is"),
        Column("port", INT4, _of_target(lambda t: t.port), "its port"),
        Column("database", TEXT, _of_target(lambda t: t.dbname), "its name there"),
        Column("force_user", TEXT, _of_target(lambda t: t.user), "the user of all its servers"),
        Column("pool_size", INT4, lambda d: d.limits.pool_size, "servers that a pool may have"),
        Column("min_pool_size", INT4, lambda d: d.limits.min_pool_size, "that it keeps open"),
        Column("reserve_pool_size", INT4, lambda d: d.limits.reserve_pool_size, "its reserve"),
        Column("server_lifetime", INT4, lambda d: d.lifetime, "seconds that a server may live"),
        Column("pool_mode", TEXT, _of_target(lambda t: t.pool_mode), "its own mode, or NULL"),
        Column("load_balance_hosts", TEXT, _of_target(_balance), "with several hosts: the choice"),
        Column("max_connections", INT4, lambda d: d.limits.max_db_connections, "servers, at most"),
        Column("current_connections", INT4, lambda d: d.servers, "servers now"),
        Column("max_client_connections", INT4, lambda d: d.most_clients, "clients, at most"),
        Column("current_client_connections", INT4, lambda d: d.clients, "clients now"),
        Column("paused", INT4, lambda d: d.paused, "1: PAUSE or KILL was said"),
        Column("disabled", INT4, lambda d: d.disabled, "1: DISABLE was said"),
    ),
    _databases,
)

# -- users ---------------------------------------------------------------------------------


class UserLine:
    """One user: known from auth_file or the settings, or seen in a pool."""

    def __init__(self, look: Look, name: str) -> None:
        funnel, settings = look.funnel, look.funnel.settings
        own = settings.users.get(name, settings.NOBODY)
        self.name, self.own = name, own
        self.most_servers = _own_or(own.max_user_connections, settings.max_user_connections)
        self.servers = funnel.pools_by_key.used_by(user=name)
        self.most_clients = _own_or(
            own.max_user_client_connections, settings.max_user_client_connections
        )
        self.clients = funnel.quota.of_user(name)


def _own_or(own: int | None, everybody: int) -> int:
    return everybody if own is None else own


def user_names(look: Look) -> list[str]:
    """Users of auth_file and of the settings, those logged in to Postgres, and our own."""
    funnel = look.funnel
    seen = {pool.user for pool in funnel.pools_by_key}
    return sorted({CONSOLE} | seen | funnel.users.all().keys() | funnel.settings.users.keys())


def _users(look: Look) -> Iterator[UserLine]:
    return (UserLine(look, name) for name in user_names(look))


def _own(read: Callable[[UserSettings], int | None]) -> Callable[[UserLine], Value]:
    def text(row: UserLine) -> str:
        value = read(row.own)
        return "" if value is None else f"{value:9d}"

    return text


USERS: Final[Table[UserLine]] = Table(
    "USERS",
    "The users that are known.",
    (
        Column("name", TEXT, lambda u: u.name, "the user"),
        Column("pool_size", TEXT, _own(lambda o: o.pool_size), "its own pool_size, or empty"),
        Column(
            "reserve_pool_size",
            TEXT,
            _own(lambda o: o.reserve_pool_size),
            "its own reserve_pool_size, or empty",
        ),
        Column("pool_mode", TEXT, lambda u: u.own.pool_mode, "its own mode, or NULL"),
        Column("max_user_connections", INT4, lambda u: u.most_servers, "servers, at most"),
        Column("current_connections", INT4, lambda u: u.servers, "servers now"),
        Column("max_user_client_connections", INT4, lambda u: u.most_clients, "clients, at most"),
        Column("current_client_connections", INT4, lambda u: u.clients, "clients now"),
    ),
    _users,
)

# -- how many there are --------------------------------------------------------------------


def _lists(look: Look) -> Iterable[tuple[str, int]]:
    funnel = look.funnel
    pools = list(funnel.pools_by_key)
    logging_in = len(funnel.logging_in)
    return (
        ("databases", len(database_names(funnel)) + 1),
        ("users", len(user_names(look))),
        ("peers", len(funnel.settings.peers)),
        ("pools", len(pools) + 1),
        ("peer_pools", len(list(funnel.peers))),
        ("free_clients", 0),
        ("used_clients", len(funnel.clients) + len(funnel.entrance.at_console) + logging_in),
        ("login_clients", logging_in),
        ("free_servers", 0),
        ("used_servers", sum(len(pool.servers) for pool in pools)),
        ("dns_names", 0),
        ("dns_zones", 0),
        ("dns_queries", 0),
        ("dns_pending", 0),
    )


LISTS: Final[Table[tuple[str, int]]] = Table(
    "LISTS",
    "How many there are of what, a row for each. Nothing is kept for reuse, and names are left to"
    " the system's resolver: `free_…` and `dns_…` are 0.",
    (
        Column("list", TEXT, lambda row: row[0], "what is counted"),
        Column("items", INT4, lambda row: row[1], "how many there are"),
    ),
    _lists,
)

# -- peers ---------------------------------------------------------------------------------


def _peers(look: Look) -> Iterator[tuple[int, PeerSettings]]:
    yield from look.funnel.settings.peers_by_number().items()


PEERS: Final[Table[tuple[int, PeerSettings]]] = Table(
    "PEERS",
    "The other processes behind the same address.",
    (
        Column("peer_id", INT4, lambda row: row[0], "number of the peer"),
        Column("host", TEXT, lambda row: row[1].host, "where it is"),
        Column("port", INT4, lambda row: row[1].port, "its port"),
        Column(
            "pool_size", INT4, lambda row: row[1].pool_size, "connections to it, at most, or NULL"
        ),
    ),
    _peers,
)
PEER_POOLS: Final[Table[Peer]] = Table(
    "PEER_POOLS",
    "The cancel requests that are passed on to peers.",
    (
        Column("peer_id", INT4, lambda peer: peer.number, "number of the peer"),
        Column("cl_active_cancel_req", INT4, lambda peer: peer.under_way, "cancels sent to it"),
        Column(
            "cl_waiting_cancel_req", INT4, lambda peer: peer.waiting, "cancels that wait for that"
        ),
        Column(
            "sv_active_cancel", INT4, lambda peer: peer.under_way, "connections that carry a cancel"
        ),
        Column("sv_login", INT4, lambda _: 0, "0: there is no login"),
    ),
    lambda look: look.funnel.peers,
)
