"""Thousands of clients from one thread: each is a generator that yields what its socket awaits.

Cheap on purpose: the generator shares the machine with what it measures.
"""

import contextlib
import errno
import itertools
import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field

from loadtest.bench import BenchError
from loadtest.bench.conversation import (
    SSL_REQUEST,
    TERMINATE,
    Conversation,
    Refused,
    query,
    startup,
)

IN, OUT = select.EPOLLIN, select.EPOLLOUT
SILENCE_SECONDS = 60.0
# Ephemeral ports are counted per pair of addresses: 16 sources are room for 16 times as many.
_SOURCES = itertools.cycle(f"127.0.0.{n}" for n in range(2, 18))
# linux/in.h; Python's socket module names it from 3.12 on. The port is chosen by connect().
_IP_BIND_ADDRESS_NO_PORT = 24
_SELECT_1 = query("select 1")

Steps = Generator[int, None, None]


@dataclass(frozen=True)
class Address:
    """Where to connect, as whom, and how."""

    port: int
    user: str
    password: str
    database: str
    tls: ssl.SSLContext | None = None


class Client:
    """One connection; its methods are steps for `run`, which waits between them."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._conversation = Conversation(address.password)
        self._socket = socket.socket()
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
        self._socket.bind((next(_SOURCES), 0))

    def fileno(self) -> int:
        return self._socket.fileno()

    def login(self) -> Steps:
        """Connect, encrypt when asked for, authenticate, and wait for the first ReadyForQuery."""
        outcome = self._socket.connect_ex(("127.0.0.1", self._address.port))
        if outcome not in (0, errno.EINPROGRESS):
            raise OSError(outcome, f"connect: {errno.errorcode.get(outcome, outcome)}")
        yield OUT
        if self._address.tls:
            yield from self._encrypt(self._address.tls)
        self._socket.send(startup(self._address.user, self._address.database))
        yield from self._until_ready()

    def ask(self, question: bytes = _SELECT_1) -> Steps:
        """One query message and its whole answer."""
        self._conversation.ready = False
        self._socket.send(question)
        yield from self._until_ready()

    def leave(self) -> None:
        """Say goodbye and close."""
        with contextlib.suppress(OSError):
            self._socket.send(TERMINATE)
        self._socket.close()

    def _encrypt(self, context: ssl.SSLContext) -> Steps:
        self._socket.send(SSL_REQUEST)
        yield IN
        if self._socket.recv(1) != b"S":
            raise Refused("the proxy does not offer TLS")
        tls = context.wrap_socket(self._socket, do_handshake_on_connect=False)
        self._socket = tls
        while True:
            try:
                return tls.do_handshake()
            except ssl.SSLWantReadError:
                yield IN
            except ssl.SSLWantWriteError:
                yield OUT

    def _until_ready(self) -> Steps:
        conversation = self._conversation
        while not conversation.ready:
            yield IN
            try:
                received = self._socket.recv(65536)
            except (BlockingIOError, ssl.SSLWantReadError):
                continue
            if not received:
                raise ConnectionError("the connection was closed without an error message")
            reply = conversation.feed(received)
            if reply:
                self._socket.send(reply)


@dataclass
class Tally:
    """What became of the clients: seconds each one took, and the errors' words."""

    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Task:
    client: Client
    steps: Steps
    started: float


def run(tasks: Iterable[tuple[Client, Steps]], concurrency: int) -> Tally:
    """Keep `concurrency` tasks going until `tasks` ends and the last one is done.

    Raises BenchError when nothing at all happens for a minute.
    """
    tally = Tally()
    upcoming = iter(tasks)
    with select.epoll() as epoll:
        loop = _Loop(epoll, tally)
        while loop.fill(upcoming, concurrency):
            loop.turn()
    return tally


class _Loop:
    def __init__(self, epoll: select.epoll, tally: Tally) -> None:
        self._epoll = epoll
        self._tally = tally
        self._running: dict[int, _Task] = {}
        self._watched: dict[int, int] = {}

    def fill(self, upcoming: Iterator[tuple[Client, Steps]], concurrency: int) -> bool:
        """Start what is missing; false when nothing runs any more."""
        for client, steps in itertools.islice(upcoming, concurrency - len(self._running)):
            task = _Task(client, steps, time.perf_counter())
            self._running[client.fileno()] = task
            self._advance(client.fileno(), task)
        return bool(self._running)

    def turn(self) -> None:
        """Wait for sockets and serve them."""
        events = self._epoll.poll(SILENCE_SECONDS, 512)
        if not events:
            waiting = len(self._running)
            raise BenchError(f"{waiting} clients heard nothing for {SILENCE_SECONDS:.0f} seconds")
        for descriptor, _ in events:
            self._advance(descriptor, self._running[descriptor])

    def _advance(self, descriptor: int, task: _Task) -> None:
        try:
            wanted = next(task.steps)
        except StopIteration:
            self._end(descriptor)
            self._tally.seconds.append(time.perf_counter() - task.started)
        except (OSError, Refused, ValueError) as error:
            self._end(descriptor)
            self._tally.errors.append(str(error))
            task.client.leave()
        else:
            self._watch(descriptor, wanted)

    def _end(self, descriptor: int) -> None:
        task = self._running.pop(descriptor)
        watched = self._watched.pop(descriptor, None)
        if watched and task.client.fileno() >= 0:  # closed sockets have left the set already
            self._epoll.unregister(descriptor)

    def _watch(self, descriptor: int, wanted: int) -> None:
        watched = self._watched.get(descriptor)
        if watched == wanted:
            return
        if watched is None:
            self._epoll.register(descriptor, wanted)
        else:
            self._epoll.modify(descriptor, wanted)
        self._watched[descriptor] = wanted


def visitors(address: Address, goes_on: Callable[[], bool]) -> Iterator[tuple[Client, Steps]]:
    """Clients that come, ask once and leave, for as long as `goes_on` says so."""
    while goes_on():
        client = Client(address)
        yield client, _visit(client)


def _visit(client: Client) -> Steps:
    yield from client.login()
    yield from client.ask()
    client.leave()


def newcomers(clients: Iterable[Client]) -> Iterator[tuple[Client, Steps]]:
    """Clients that log in and stay."""
    return ((client, client.login()) for client in clients)


def regulars(
    clients: Iterable[Client], goes_on: Callable[[], bool]
) -> Iterator[tuple[Client, Steps]]:
    """Clients that are logged in and ask again and again, for as long as `goes_on` says so."""
    free = deque(clients)
    while free and goes_on():
        client = free.popleft()
        yield client, _ask_again(client, free)


def _ask_again(client: Client, free: deque[Client]) -> Steps:
    yield from client.ask()
    free.append(client)


def askers(clients: Iterable[Client], sql: str = "select 1") -> Iterator[tuple[Client, Steps]]:
    """Clients that are logged in and ask once."""
    return ((client, client.ask(query(sql))) for client in clients)
