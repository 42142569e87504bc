"""An operator's day, the same for PgBouncer and for pgfunnel: what did their clients see?

What is compared is what a client can tell: an answer, no answer yet, an error that leaves the
connection as it is, the end of the connection. Words and SQLSTATEs are ours on purpose.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from proxy.demo.children import LOOPBACK, die_with_parent, free_port
from proxy.wire import messages
from tests.conftest import StartFunnel, StartPostgres
from tests.integration.observe import until
from tests.integration.peer import Peer
from tests.nursery import Child
from tests.postgres import USERS, Postgres

Seen = list[tuple[str, str]]
_SILENCE = 0.7
"""Seconds after which a client counts as waiting."""


class Pooler:
    """One of the two, with its file; `signal` and `port` are all that the day needs of it."""

    def __init__(self, folder: Path, postgres: Postgres) -> None:
        self.folder = folder
        self.postgres = postgres
        self.port = free_port()
        self.users = dict(USERS)
        self.write()

    def write(self, dbname: str = "") -> Path:
        users = self.folder / "userlist.txt"
        users.write_text("".join(f'"{user}" "{word}"\n' for user, word in self.users.items()))
        place = f"host={self.postgres.host} port={self.postgres.port}"
        ini = self.folder / "pgbouncer.ini"
        ini.write_text(
            f"[databases]\napp = {place} dbname={dbname or self.postgres.database}\n"
            f"[pgbouncer]\nlisten_addr = {LOOPBACK}\nlisten_port = {self.port}\n"
            f"unix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {users}\n"
            "pool_mode = transaction\ndefault_pool_size = 3\nadmin_users = alice\n"
            "server_login_retry = 1\n"
        )
        return ini

    def start(self, process: subprocess.Popen[bytes] | Child, log: Path) -> None:
        self.process = process
        until(lambda: self.process.poll() is not None or self._listens())
        assert self.process.poll() is None, log.read_text()

    def _listens(self) -> bool:
        try:
            Peer(LOOPBACK, self.port).socket.close()
        except OSError:
            return False
        return True

    def tell(self, sig: signal.Signals) -> None:
        self.process.send_signal(sig)

    def log_in(self, user: str, database: str = "app") -> Peer:
        return Peer(LOOPBACK, self.port).log_in(user, database, self.users[user])

    def refuses(self, user: str, password: str) -> str:
        with Peer(LOOPBACK, self.port) as peer:
            return "refused" if peer.refusal(user, "app", password) else "let in"

    def has_console(self) -> bool:
        with Peer(LOOPBACK, self.port) as peer:
            return not peer.refusal("alice", "pgbouncer", USERS["alice"])

    def console(self, command: str) -> str:
        with Peer(LOOPBACK, self.port) as peer:
            peer.log_in("alice", "pgbouncer", USERS["alice"])
            return hear(peer, command)


def hear(peer: Peer, sql: str = "") -> str:
    """What a client sees of its query, or of the one it waits for."""
    if sql:
        peer.send(messages.query(sql.encode()))
    peer.socket.settimeout(_SILENCE)
    try:
        return _read(peer)
    except TimeoutError:
        return "waits"
    except (EOFError, ConnectionError):
        return "ended"
    finally:
        peer.socket.settimeout(10)


def _read(peer: Peer) -> str:
    rows: list[str] = []
    failed = False
    while True:
        kind, body = peer.message()
        if kind == b"D":
            rows.append(str(messages.read_row(body)[0]))
        elif kind == b"E" and messages.read_error(body)["S"] == "FATAL":
            assert peer.ended()
            return "ended"
        failed = failed or kind == b"E"
        if kind == b"Z":
            return "error" if failed else f"answered {' '.join(rows)}".strip()


def day(pooler: Pooler, stack: ExitStack, *, console: bool) -> Iterator[tuple[str, str]]:
    """The day's steps, and what was seen at each; `console`: with what is said there."""
    postgres = pooler.postgres
    assert postgres.server is not None

    def come(user: str = "alice") -> Peer:
        return stack.enter_context(pooler.log_in(user))

    idle, busy, other = come(), come(), come("bob")
    yield "morning", hear(idle, "SELECT 1")
    yield "another user", hear(other, "SELECT 2")
    yield "a transaction", hear(busy, "BEGIN")
    yield from _pause(pooler, idle, busy, come)
    yield from _killed(postgres, idle, busy)
    if console:
        yield from _console(pooler, idle)
    yield from _reload(pooler, idle, other, come)
    yield "a transaction before the end", hear(busy := come(), "BEGIN")
    pooler.tell(signal.SIGINT)
    yield "goes on while draining", hear(busy, "SELECT 8")
    yield "ends", hear(busy, "COMMIT").replace("ended", "answered")
    yield "an idle client in the end", "ended" if idle.ended() else "stays"
    yield "the busy one in the end", "ended" if busy.ended() else "stays"
    yield "the exit code", str(pooler.process.wait(10))


def _pause(
    pooler: Pooler, idle: Peer, busy: Peer, come: Callable[[], Peer]
) -> Iterator[tuple[str, str]]:
    postgres = pooler.postgres
    assert postgres.server is not None
    pooler.tell(signal.SIGUSR1)
    until(lambda: postgres.client_backends("alice") == 1, what="idle servers are closed")
    yield "in a pause, in a transaction", hear(busy, "SELECT 3")
    yield "in a pause, its end", hear(busy, "COMMIT")
    until(lambda: postgres.client_backends("alice") == 0, what="all servers are closed")
    yield "in a pause, a query", hear(idle, "SELECT 4")
    postgres.server.halt()
    postgres.server.start()
    yield "after the restart, still paused", hear(idle)
    pooler.tell(signal.SIGUSR2)
    yield "resumed, the one that waited", hear(idle)
    yield "resumed, another", hear(busy, "SELECT 5")
    yield "resumed, a new one", hear(come(), "SELECT 6")


def _killed(postgres: Postgres, idle: Peer, busy: Peer) -> Iterator[tuple[str, str]]:
    """A backend dies under an idle server, then under a transaction."""
    every = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'alice'"
    postgres.psql(every)
    until(lambda: postgres.client_backends("alice") == 0)
    yield "its server died while nobody had it", hear(idle, "SELECT 7")
    hear(busy, "BEGIN")
    postgres.psql(every)
    until(lambda: postgres.client_backends("alice") == 0)
    yield "its server died in its transaction", hear(busy, "SELECT 1")


def _console(pooler: Pooler, idle: Peer) -> Iterator[tuple[str, str]]:
    before = hear(idle, "SELECT pg_backend_pid()")
    yield "RECONNECT", pooler.console("RECONNECT")
    after = hear(idle, "SELECT pg_backend_pid()")
    yield "has another server then", str(before != after and after.startswith("answered"))
    yield "PAUSE app", pooler.console("PAUSE app")
    yield "paused at the console", hear(idle, "SELECT 9")
    yield "RESUME app", pooler.console("RESUME app")
    yield "resumed at the console", hear(idle)
    yield "no such command", pooler.console("NONSENSE")


def _reload(
    pooler: Pooler, idle: Peer, other: Peer, come: Callable[[str], Peer]
) -> Iterator[tuple[str, str]]:
    """bob gets a new password; then the database is another one."""
    old, pooler.users["bob"] = pooler.users["bob"], "a new one"
    pooler.postgres.psql("ALTER ROLE bob PASSWORD 'a new one'")
    pooler.write()
    pooler.tell(signal.SIGHUP)
    until(lambda: pooler.refuses("bob", "a new one") == "let in")
    yield "the old password", pooler.refuses("bob", old)
    yield "who was there before", hear(other, "SELECT 10")
    yield "who comes with the new one", hear(come("bob"), "SELECT 11")
    pooler.write("other")
    pooler.tell(signal.SIGHUP)
    until(lambda: hear(idle, "SELECT current_database()") == "answered b'other'")
    yield "a new client of the other database", hear(come("alice"), "SELECT current_database()")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """One that any account may read; pytest keeps its own to the one that runs it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.fixture
def bouncer(open_folder: Path, start_postgres: StartPostgres) -> Iterator[Pooler]:
    """PgBouncer, as the machine has it."""
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        pytest.skip("PgBouncer is not installed")
    pooler = Pooler(open_folder, start_postgres())
    user = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None
    said = open_folder / "said"
    with said.open("wb") as log:
        process = subprocess.Popen(
            [program, str(pooler.write())],
            user=user,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=die_with_parent(signal.SIGKILL),
        )
    pooler.start(process, said)
    yield pooler
    process.kill()
    process.wait()


@pytest.fixture
def funnel(tmp_path: Path, pgfunnel: StartFunnel, start_postgres: StartPostgres) -> Pooler:
    """pgfunnel with the same file."""
    folder = tmp_path / "funnel"
    folder.mkdir()
    pooler = Pooler(folder, start_postgres())
    started = pgfunnel(
        pooler.postgres,
        args=(str(pooler.write()),),
        upstream=None,
        auth_file=None,
        listen_addr=None,
        listen_port=pooler.port,
    )
    pooler.start(started.process, started.log_file)
    return pooler


def spend(pooler: Pooler, *, console: bool) -> Seen:
    with ExitStack() as stack:
        return list(day(pooler, stack, console=console))


def test_clients_see_the_same_day(bouncer: Pooler, funnel: Pooler) -> None:
    console = funnel.has_console()
    wanted = spend(bouncer, console=console)
    assert spend(funnel, console=console) == wanted
    assert dict(wanted)["in a pause, a query"] == "waits"
    assert dict(wanted)["resumed, the one that waited"] == "answered b'4'"
