"""Connecting to Postgres and logging in: from an address to a socket that is ready for queries.

Source: PostgreSQL documentation, "Message Flow", "Start-up".
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from proxy.auth.upstream import UpstreamLogin
from proxy.errors import PgfunnelError, PostgresError, ProtocolViolation, UpstreamUnreachable
from proxy.relay.tls import ALPN, Tls, TlsPolicy
from proxy.wire import messages

Asked = tuple[tuple[str, str], ...]
_MAX_LOGIN_MESSAGE = 1 << 20


@dataclass(frozen=True, slots=True)
class Keepalive:
    """Options of TCP sockets; 0: as the system has it.

    In seconds, counts, milliseconds (`user_timeout`) and bytes (`buffer`).
    """

    on: bool = True
    idle: int = 0
    interval: int = 0
    count: int = 0
    user_timeout: int = 0
    buffer: int = 0

    def apply(self, sock: socket.socket) -> None:
        if sock.family == socket.AF_UNIX:
            return
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(self.on))
        if self.buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.buffer)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.buffer)
        options = {
            "TCP_KEEPIDLE": self.idle,
            "TCP_KEEPINTVL": self.interval,
            "TCP_KEEPCNT": self.count,
            "TCP_USER_TIMEOUT": self.user_timeout,
        }
        for name, value in options.items():
            if value and hasattr(socket, name):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


@dataclass(frozen=True, slots=True)
class Address:
    """Where Postgres is: a host name or address, or the folder of its unix socket.

    A pool's may name several, with commas between them; `at` makes one of it to connect to.
    """

    host: str
    port: int
    tls: TlsPolicy
    keepalive: Keepalive = field(default_factory=Keepalive)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    def at(self, host: str) -> Address:
        """The same, at one host."""
        return self if host == self.host else replace(self, host=host)

    @property
    def unix(self) -> bool:
        return self.host.startswith(("/", "@"))


@dataclass(slots=True)
class LoggedIn:
    """A socket ready for queries. `reported`: ParameterStatus values by name."""

    stream: Stream
    process_id: int = 0
    secret: bytes = b""
    reported: dict[bytes, bytes] = field(default_factory=dict)


class Stream:
    """A non-blocking socket, plain or TLS, with whole messages for the length of a login."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.tls: Tls | None = None
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()

    async def send(self, data: bytes) -> None:
        if self.tls is None:
            await self._loop.sock_sendall(self.sock, data)
            return
        self.tls.write(data)
        await self._loop.sock_sendall(self.sock, self.tls.take())

    async def start_tls(self, tls: Tls) -> None:
        """Raises ssl.SSLError, UpstreamUnreachable."""
        while not tls.handshake():
            await self._loop.sock_sendall(self.sock, tls.take())
            data = await self._loop.sock_recv(self.sock, 65536)
            if not data:
                raise UpstreamUnreachable("the connection ended during the TLS handshake")
            tls.feed(data)
        await self._loop.sock_sendall(self.sock, tls.take())
        self.tls = tls

    def binding(self) -> bytes | None:
        """What binds SCRAM to the server's certificate; None without TLS."""
        return None if self.tls is None else self.tls.peer_binding()

    async def receive(self, n: int) -> bytes:
        """The next `n` bytes. Raises UpstreamUnreachable when the connection ends first."""
        while len(self._buffer) < n:
            data = await self._receive_some()
            if not data:
                raise UpstreamUnreachable("the connection ended during login")
            self._buffer += data
        taken = bytes(self._buffer[:n])
        del self._buffer[:n]
        return taken

    async def _receive_some(self) -> bytes:
        if self.tls is None:
            return await self._loop.sock_recv(self.sock, 65536)
        plain = bytearray(65536)
        while True:
            with memoryview(plain) as view:
                n = self.tls.read_into(view)
            if n >= 0:
                return bytes(plain[:n])
            data = await self._loop.sock_recv(self.sock, 65536)
            self.tls.feed(data)

    async def message(self) -> tuple[bytes, bytes]:
        """The next message: its type and body."""
        head = await self.receive(5)
        size = int.from_bytes(head[1:], "big") - 4
        if not 0 <= size <= _MAX_LOGIN_MESSAGE:
            raise ProtocolViolation("Postgres sent a message with an invalid length during login")
        return head[:1], await self.receive(size)

    async def wait_closed(self) -> None:
        """Read until the peer has closed."""
        with contextlib.suppress(OSError):
            while await self._loop.sock_recv(self.sock, 65536):
                continue

    def close(self) -> None:
        self.sock.close()


def attempts(address: Address) -> tuple[bool, ...]:
    """Whether to ask for TLS, try by try: `prefer` and `allow` have a second one.

    The second follows when Postgres lets nobody in that way (28000), as in libpq.
    """
    if address.unix or not address.tls.offer:
        return (False,)
    if address.tls.insist:
        return (True,)
    return (True, False) if address.tls.first else (False, True)


async def open_stream(address: Address, *, tls: bool) -> Stream:
    """Connect, and ask for TLS if `tls`.

    Raises UpstreamUnreachable, whose words say which address and why.
    """
    stream = Stream(await _connected(address))
    try:
        if tls:
            await _negotiate_tls(stream, address)
    except BaseException:
        stream.close()
        raise
    return stream


async def _connected(address: Address) -> socket.socket:
    failure: OSError | None = None
    for family, target in await _candidates(address):
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            address.keepalive.apply(sock)
            await asyncio.get_running_loop().sock_connect(sock, target)
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    words = failure.strerror or str(failure) if failure else "it has no address"
    raise UpstreamUnreachable(f"connection to Postgres at {address} failed: {words}")


async def _candidates(
    address: Address,
) -> Sequence[tuple[int, Any]]:
    if address.unix:
        return [(socket.AF_UNIX, socket_path(address.host, address.port))]
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM
        )
    except OSError as error:
        raise UpstreamUnreachable(
            f"host name {address.host} of Postgres does not resolve: {error.strerror}"
        ) from None
    return [(family, target) for family, _, _, _, target in found]


def socket_path(folder: str, port: int) -> str:
    """The name of a unix socket; one that starts with @ has no file (unix(7), abstract)."""
    path = f"{folder}/.s.PGSQL.{port}"
    return f"\0{path[1:]}" if path.startswith("@") else path


async def _negotiate_tls(stream: Stream, address: Address) -> None:
    """PostgreSQL documentation, "SSL Session Encryption": after a request, or direct."""
    policy = address.tls
    if policy.direct and policy.context is not None:
        await _start_tls(stream, address, policy.context)
        if stream.tls is None or stream.tls.protocol() != ALPN:
            raise UpstreamUnreachable(
                f"Postgres at {address} does not speak TLS directly",
                hint="Set server_tls_sslnegotiation to postgres.",
            )
        return
    await stream.send(messages.ssl_request())
    answer = await stream.receive(1)
    if answer == b"S" and policy.context is not None:
        await _start_tls(stream, address, policy.context)
    elif policy.insist:
        raise UpstreamUnreachable(
            f"Postgres at {address} does not speak TLS, and server_tls_sslmode insists on it"
        )


async def _start_tls(stream: Stream, address: Address, context: ssl.SSLContext) -> None:
    name = address.host if context.check_hostname else None
    try:
        await stream.start_tls(Tls(context, server_hostname=name))
    except ssl.SSLError as error:
        raise UpstreamUnreachable(f"TLS with Postgres at {address} failed: {error}") from None


async def log_in(stream: Stream, dbname: str, login: UpstreamLogin, asked: Asked = ()) -> LoggedIn:
    """Start a session as `login.user`, with the parameters that are `asked` for.

    Raises PostgresError with Postgres's own words, UpstreamUnreachable, ProtocolViolation.
    """
    parameters = [(b"user", login.user.encode()), (b"database", dbname.encode())]
    parameters += [(name.encode(), value.encode()) for name, value in asked]
    await stream.send(messages.startup(parameters))
    result = LoggedIn(stream)
    while True:
        kind, body = await stream.message()
        if kind == b"R":
            await _answer(stream, login, body)
        elif kind == b"S":
            name, value = messages.read_pair(body)
            result.reported[name] = value
        elif kind == b"K":
            result.process_id, result.secret = int.from_bytes(body[:4], "big"), body[4:]
        elif kind == b"E":
            raise PostgresError(messages.read_error(body))
        elif kind == b"Z" and login.done:
            return result
        elif kind != b"N":
            raise ProtocolViolation(f"Postgres sent an unexpected message during login: {kind!r}")


async def _answer(stream: Stream, login: UpstreamLogin, body: bytes) -> None:
    reply = login.answer(int.from_bytes(body[:4], "big"), body[4:])
    if login.pending is not None:
        keys = await asyncio.get_running_loop().run_in_executor(None, login.pending.derive)
        reply = login.supply(keys)
    if reply is not None:
        await stream.send(messages.message(b"p", reply))


async def open_session(
    address: Address,
    dbname: str,
    new_login: Callable[[bytes | None], UpstreamLogin],
    asked: Asked = (),
) -> LoggedIn:
    """Connect and log in, with a second try where sslmode allows one.

    `new_login` is told what SCRAM can be bound to. Raises what `open_stream` and `log_in` raise.
    """
    tries = attempts(address)
    for tls in tries:
        stream = await open_stream(address, tls=tls)
        try:
            return await log_in(stream, dbname, new_login(stream.binding()), asked)
        except PostgresError as error:
            await _hang_up(stream)
            if error.sqlstate != "28000" or tls == tries[-1]:
                raise
        except BaseException:
            stream.close()
            raise
    raise AssertionError("no way to connect")


async def run_query(logged_in: LoggedIn, sql: str) -> PostgresError | None:
    """Run `connect_query` on a session that was just opened; rows are of no interest.

    Returns how it failed. Raises UpstreamUnreachable, ProtocolViolation.
    """
    stream = logged_in.stream
    await stream.send(messages.query(sql.encode()))
    failure: PostgresError | None = None
    while True:
        kind, body = await stream.message()
        if kind == b"S":
            name, value = messages.read_pair(body)
            logged_in.reported[name] = value
        elif kind == b"E":
            failure = PostgresError(messages.read_error(body))
        elif kind in b"GHW":
            raise ProtocolViolation("connect_query begins a COPY; give another statement")
        elif kind == b"Z" and body != b"I":
            raise ProtocolViolation("connect_query leaves a transaction open; end it")
        elif kind == b"Z":
            return failure


async def _hang_up(stream: Stream) -> None:
    """Postgres ends the connection; its place is free when it has."""
    with contextlib.suppress(TimeoutError, OSError):
        await asyncio.wait_for(stream.wait_closed(), 1.0)
    stream.close()


async def take_leave(stream: Stream) -> None:
    """Say goodbye and wait until Postgres has closed."""
    with contextlib.suppress(OSError):
        await stream.send(messages.TERMINATE)
    await _hang_up(stream)


async def send_cancel(address: Address, process_id: int, secret: bytes) -> None:
    """Deliver a CancelRequest and wait until Postgres has closed the connection.

    Raises UpstreamUnreachable, OSError.
    """
    stream = await open_stream(address, tls=attempts(address)[0])
    try:
        await stream.send(messages.cancel_request(process_id, secret))
        await stream.wait_closed()
    finally:
        stream.close()


def words_of(error: Exception) -> PgfunnelError:
    """The error to tell clients for whatever ended a login to Postgres."""
    if isinstance(error, PgfunnelError):
        return error
    return UpstreamUnreachable(f"login to Postgres failed: {error or type(error).__name__}")
