"""SHOW CLIENTS, SERVERS, SOCKETS, ACTIVE_SOCKETS."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, Final

from proxy.admin.look import Look
from proxy.admin.tables import INT4, TEXT, Column, Table
from proxy.relay.client import Client
from proxy.relay.opening import Opening
from proxy.relay.replication import Replica
from proxy.relay.server import Server
from proxy.telemetry.logs import connection_id
from proxy.telemetry.reasons import Side


class Socket:
    """A client's or a server's connection, as the console shows it."""

    kind: str
    state: str
    user: str
    database: str
    request_time: float
    replication: str = "none"
    since: float = 0.0
    closing: bool = False
    name: str
    link: str = ""
    remote_pid: int = 0
    application_name: str = ""
    prepared: int = 0
    number: int

    def __init__(self, look: Look, connection: Any) -> None:
        self.look = look
        self.connection = connection
        self.fd: int = getattr(connection, "fd", -1)
        self.peer, self.own = _ends(self.fd)

    @property
    def opened(self) -> str:
        return self.look.date(getattr(self.connection, "opened_at", self.look.now))

    @property
    def waited(self) -> int:
        """Microseconds."""
        return int(1e6 * max(self.look.now - self.since, 0.0)) if self.since else 0

    @property
    def tls(self) -> str:
        tls = getattr(self.connection, "tls", None)
        return "" if tls is None else tls.spoken()

    @property
    def held(self) -> int:
        """Bytes read and not yet dealt with."""
        return len(getattr(self.connection, "held", None) or b"")

    @property
    def unsent(self) -> int:
        return len(getattr(self.connection, "out", None) or b"")

    @property
    def remaining(self) -> int:
        return int(getattr(self.connection, "remaining", 0))


class ClientSocket(Socket):
    """A client, or an operator at the console."""

    kind = "C"

    def __init__(self, look: Look, client: Client) -> None:
        super().__init__(look, client)
        pool, login = client.pool, client.login
        self.user = client.user or getattr(login, "user", "") or "(nouser)"
        self.database = pool.database if pool else getattr(login, "database", "") or "(nodb)"
        self.state = _client_state(client)
        self.replication = _replication(login)
        self.number = client.number
        self.name = connection_id(Side.CLIENT, client.number)
        self.since = client.waiting_since if client.waiting else 0.0
        self.request_time = max(client.active_at, client.waiting_since, client.lent_at)
        if client.server is not None:
            self.link = connection_id(Side.SERVER, client.server.number)
        elif isinstance(login, Replica):
            self.link = connection_id(Side.SERVER, login.number)
        self.application_name = _application_name(client)
        if client.session is not None:
            self.prepared = len(client.session.names)
        if client.local:
            self.remote_pid = _peer_pid(self.fd)


class ServerSocket(Socket):
    """A server, from before it is connected until Postgres has closed it."""

    kind = "S"

    def __init__(self, look: Look, server: Server | Opening | Replica) -> None:
        super().__init__(look, server)
        pool = server.pool
        self.user, self.database = pool.user, pool.database
        self.state = server_state(server, look.now)
        self.request_time = server.idle_since or look.now
        if isinstance(server, Opening):
            self.name, self.number = "", 0
            return
        self.number = server.number
        self.name = connection_id(Side.SERVER, server.number)
        self.closing = server.reason is not None
        self.replication = _replication(server)
        self.remote_pid = server.process_id
        if isinstance(server, Replica):
            self.link = connection_id(Side.CLIENT, server.client.number)
            self.application_name = server.application_name
            return
        self.prepared = len(server.shelf.held)
        client: Any = server.client
        if client is not None:
            self.link = connection_id(Side.CLIENT, client.number)
            self.application_name = _application_name(client)
            self.request_time = client.lent_at


def _client_state(client: Client) -> str:
    if client.pool is None:
        return "active" if client.login is not None else "login"
    state = client.state
    return "active" if state == "pinned" else state


def _application_name(client: Client) -> str:
    if client.session is not None:
        return str(client.session.parameters.values.get("application_name", ""))
    return getattr(client.login, "application_name", "")  # of a Replica or Desk


def _replication(connection: object) -> str:
    """PostgreSQL documentation, "Streaming Replication Protocol": `database` is for logical."""
    if not isinstance(connection, Replica):
        return "none"
    asked = dict(connection.wish.replication)["replication"].lower()
    return "logical" if asked == "database" else "physical"


def server_state(server: Server | Opening | Replica, now: float) -> str:
    """PgBouncer's word for it; `closing` is ours."""
    if not isinstance(server, Server):
        return "new" if server.state == "connecting" else server.state
    if server.state == "idle":
        return "used" if now - server.idle_since >= server.pool.check_delay else "idle"
    if server.client is None and server.cancels:
        return "being_canceled"
    if server.state == "resetting" or server.waited_for:
        return "tested"
    return server.state


def _ends(fd: int) -> tuple[tuple[str, int], tuple[str, int]]:
    """Address and port of the other end and of this one; `unix` and 0 for a unix socket."""
    if fd < 0:
        return ("", 0), ("", 0)
    sock = socket.socket(fileno=fd)
    try:
        return _place(sock.getpeername()), _place(sock.getsockname())
    except OSError:  # the peer is gone
        return ("", 0), ("", 0)
    finally:
        sock.detach()


def _place(name: Any) -> tuple[str, int]:
    return (name[0], name[1]) if isinstance(name, tuple) else ("unix", 0)


def _peer_pid(fd: int) -> int:
    credentials = peer_credentials(fd)
    return credentials[0] if credentials else 0


def peer_credentials(fd: int) -> tuple[int, int] | None:
    """Process and user id of a unix socket's other end (unix(7), SO_PEERCRED); None: not known."""
    if fd < 0 or not hasattr(socket, "SO_PEERCRED"):
        return None
    sock = socket.socket(fileno=fd)
    try:
        if sock.family != socket.AF_UNIX:
            return None
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    finally:
        sock.detach()
    pid, uid, _ = struct.unpack("3i", raw)
    return pid, uid


_COLUMNS: Final[tuple[Column[Socket], ...]] = (
    Column("type", TEXT, lambda s: s.kind, "C: a client, S: a server"),
    Column("user", TEXT, lambda s: s.user, "the client's user, or the one logged in to Postgres"),
    Column("database", TEXT, lambda s: s.database, "name of the database"),
    Column("replication", TEXT, lambda s: s.replication, "`none`, `physical` or `logical`"),
    Column("state", TEXT, lambda s: s.state, "what it does now"),
    Column("addr", TEXT, lambda s: s.peer[0], "address of the other end, or `unix`"),
    Column("port", INT4, lambda s: s.peer[1], "port of the other end"),
    Column("local_addr", TEXT, lambda s: s.own[0], "address of this end"),
    Column("local_port", INT4, lambda s: s.own[1], "port of this end"),
    Column("connect_time", TEXT, lambda s: s.opened, "when it was accepted or opened"),
    Column(
        "request_time",
        TEXT,
        lambda s: s.look.date(s.request_time),
        "when it began to wait, got its partner, or ended a transaction, whichever was last",
    ),
    Column("wait", INT4, lambda s: s.waited // 1_000_000, "seconds that it has waited"),
    Column("wait_us", INT4, lambda s: s.waited % 1_000_000, "and microseconds"),
    Column(
        "close_needed", INT4, lambda s: int(s.closing), "1: it ends as soon as its client lets go"
    ),
    Column("ptr", TEXT, lambda s: s.name, "the name that log lines have for it"),
    Column("link", TEXT, lambda s: s.link, "the same of its partner"),
    Column("remote_pid", INT4, lambda s: s.remote_pid, "Postgres's process, or the local client's"),
    Column("tls", TEXT, lambda s: s.tls, "version and cipher, empty without TLS"),
    Column("application_name", TEXT, lambda s: s.application_name, "the client's application_name"),
    Column("prepared_statements", INT4, lambda s: s.prepared, "named statements that it has"),
    Column("id", INT4, lambda s: s.number, "its number: see KILL_CLIENT"),
)
_LOW_LEVEL: Final[tuple[Column[Socket], ...]] = (
    Column("recv_pos", INT4, lambda _: 0, "0: there is one buffer for all connections"),
    Column("pkt_pos", INT4, lambda _: 0, "0"),
    Column("pkt_remain", INT4, lambda s: s.remaining, "bytes to come of a message passed on"),
    Column("send_pos", INT4, lambda _: 0, "0"),
    Column("send_remain", INT4, lambda _: 0, "0"),
    Column("pkt_avail", INT4, lambda s: s.held, "bytes read that wait for their turn"),
    Column("send_avail", INT4, lambda s: s.unsent, "bytes that the other end does not take"),
)


def clients(look: Look) -> Iterator[Socket]:
    """Those that have logged in, and the operators."""
    funnel = look.funnel
    for client in [*funnel.clients, *funnel.entrance.at_console]:
        if client.fd >= 0:
            yield ClientSocket(look, client)


def servers(look: Look) -> Iterator[Socket]:
    """All that hold a place, those being connected or closed included."""
    for server in [server for pool in look.funnel.pools_by_key for server in pool.servers]:
        yield ServerSocket(look, server)


def _sockets(look: Look) -> Iterator[Socket]:
    prefixes = {"C": "cl_", "S": "sv_"}
    logging_in = (ClientSocket(look, client) for client in list(look.funnel.logging_in))
    for row in chain(clients(look), servers(look)):
        row.state = prefixes[row.kind] + row.state
        yield row
    for row in logging_in:
        row.state = "cl_login"
        yield row


def _busy(look: Look) -> Iterable[Socket]:
    return (row for row in _sockets(look) if row.held or row.unsent or row.remaining)


CLIENTS: Final = Table("CLIENTS", "The clients that have logged in.", _COLUMNS, clients)
SERVERS: Final = Table("SERVERS", "The connections to Postgres.", _COLUMNS, servers)
SOCKETS: Final = Table(
    "SOCKETS", "All connections, those in mid-login included.", (*_COLUMNS, *_LOW_LEVEL), _sockets
)
ACTIVE_SOCKETS: Final = Table(
    "ACTIVE_SOCKETS",
    "Those of SHOW SOCKETS with bytes on their way.",
    (*_COLUMNS, *_LOW_LEVEL),
    _busy,
)
