"""A reload closes what it has to, when it may, and nothing else; names that lead elsewhere."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.conftest import StartFunnel, StartPostgres
from tests.funnel import Funnel
from tests.integration.console import Operator
from tests.integration.observe import until
from tests.integration.peer import Peer
from tests.postgres import USERS, Postgres


class Ini:
    """PgBouncer's file and the pgfunnel that follows it."""

    def __init__(self, file: Path, start: StartFunnel, postgres: Postgres) -> None:
        self.file = file
        self.postgres = postgres
        self._start = start

    def write(self, *databases: str, settings: str = "") -> None:
        self.file.write_text(
            "[databases]\n" + "\n".join(databases) + f"\n[pgbouncer]\n{settings}\n"
        )

    def line(self, name: str, more: str = "") -> str:
        place = f"host={self.postgres.host} port={self.postgres.port}"
        return f"{name} = {place} dbname={self.postgres.database} {more}"

    def start(self) -> Funnel:
        self.funnel = self._start(
            self.postgres, args=(str(self.file),), upstream=None, auth_type="scram-sha-256"
        )
        return self.funnel

    def reload(self, *databases: str, settings: str = "", word: str = "reloaded") -> None:
        self.write(*databases, settings=settings)
        self.hup(word)

    def hup(self, word: str = "reloaded") -> None:
        before = self.funnel.log().count(word)
        self.funnel.signal(signal.SIGHUP)
        until(lambda: self.funnel.log().count(word) > before)

    def log_in(self, database: str) -> Peer:
        peer = Peer(self.funnel.host, self.funnel.port)
        return peer.log_in("alice", database, USERS["alice"])


@pytest.fixture
def ini(tmp_path: Path, pgfunnel: StartFunnel, postgres: Postgres) -> Ini:
    return Ini(tmp_path / "pgbouncer.ini", pgfunnel, postgres)


def backend(peer: Peer) -> bytes:
    return peer.rows("SELECT pg_backend_pid()")[0][0] or b""


@pytest.mark.parametrize(
    "change", ["dbname=other", "timezone=UTC", "connect_query='SELECT 1'", "sslmode=prefer"]
)
def test_only_the_database_that_is_reached_otherwise(ini: Ini, change: str) -> None:
    ini.write(ini.line("one", "sslmode=disable"), ini.line("two"))
    ini.start()
    with ini.log_in("one") as one, ini.log_in("two") as two, ini.log_in("one") as busy:
        busy.query("BEGIN")
        first, second, third = (backend(peer) for peer in (one, two, busy))
        given = f"sslmode=disable {change}"
        ini.reload(ini.line("one", given), ini.line("two"))
        assert backend(one) != first
        assert backend(two) == second
        assert backend(busy) == third
        busy.query("COMMIT")
        assert backend(busy) != third
    until(lambda: ini.funnel.log().count("reason=reload)") == 2)


def test_sizes_close_only_what_is_too_many(ini: Ini) -> None:
    ini.write(ini.line("one", "pool_size=3"), ini.line("two"))
    ini.start()
    with ini.log_in("one") as one, ini.log_in("one") as other, ini.log_in("two") as two:
        for peer in (one, other):
            peer.query("BEGIN")
        before = {backend(one), backend(other)}
        second = backend(two)
        for peer in (one, other):
            peer.query("COMMIT")
        ini.reload(ini.line("one", "pool_size=5 max_db_connections=9"), ini.line("two"))
        for peer in (one, other):
            peer.query("BEGIN")
        assert {backend(one), backend(other)} == before
        ini.reload(ini.line("one", "pool_size=1"), ini.line("two"))
        assert {backend(one), backend(other)} == before
        for peer in (one, other):
            peer.query("COMMIT")
        until(lambda: ini.funnel.log().count("surplus") == 1)
        assert backend(one) in before
        assert backend(two) == second
    assert "reason=reload)" not in ini.funnel.log()


def test_the_same_file_again_closes_nothing(ini: Ini, tls_postgres: Postgres) -> None:
    ini.postgres = tls_postgres
    ini.write(ini.line("one"), settings="server_tls_sslmode = require")
    ini.start()
    with ini.log_in("one") as peer:
        before = backend(peer)
        ini.hup()
        assert backend(peer) == before
        settings = f"server_tls_sslmode = require\nserver_tls_ca_file = {tls_postgres.certificate}"
        ini.reload(ini.line("one"), settings=settings)
        assert backend(peer) != before


@pytest.mark.parametrize(
    "broken, said",
    [
        ("one = host=127.0.0.1 pool_size=none", "pool_size"),
        ("one = nonsense", "key=value"),
        ("one = host=127.0.0.1 no_such_key=1", "no_such_key"),
    ],
)
def test_a_broken_file_changes_nothing(ini: Ini, broken: str, said: str) -> None:
    ini.write(ini.line("one"), ini.line("two"))
    ini.start()
    with ini.log_in("one") as one, ini.log_in("two") as two:
        before = backend(one), backend(two)
        ini.reload(broken, word="config file loading failed")
        line = next(
            line for line in ini.funnel.log().splitlines() if "config file loading failed" in line
        )
        assert said in line
        assert "pgbouncer.ini:2" in line
        assert (backend(one), backend(two)) == before
        ini.log_in("two").socket.close()


def test_a_database_that_is_gone(ini: Ini) -> None:
    ini.write(ini.line("one"), ini.line("two"))
    ini.start()
    with ini.log_in("one") as idle, ini.log_in("one") as busy, ini.log_in("two") as two:
        busy.query("BEGIN")
        second = backend(two)
        ini.reload(ini.line("two"))
        error = idle.error()
        assert (error["C"], error["M"]) == ("57P01", "database removed")
        assert busy.rows("SELECT 1") == [[b"1"]]
        busy.query("COMMIT")
        assert busy.error()["C"] == "57P01"
        assert backend(two) == second
        with Peer(ini.funnel.host, ini.funnel.port) as peer:
            assert peer.refusal("alice", "one", USERS["alice"])["C"] == "3D000"
        ini.reload(ini.line("one"), ini.line("two"))
        with ini.log_in("one") as back:
            assert backend(back)


def test_another_user_there(ini: Ini) -> None:
    ini.write(ini.line("one"))
    ini.start()
    with ini.log_in("one") as peer:
        assert peer.rows("SELECT current_user") == [[b"alice"]]
        ini.reload(ini.line("one", "user=bob password='bob''s pass word'"))
        assert peer.error()["C"] == "57P01"
    with ini.log_in("one") as peer:
        assert peer.rows("SELECT current_user") == [[b"bob"]]


@pytest.mark.parametrize("fast", [False, True])
def test_sessions_end_first_unless_told_to_close_fast(ini: Ini, *, fast: bool) -> None:
    settings = f"server_fast_close = {int(fast)}"
    ini.write(ini.line("one", "pool_mode=session"), settings=settings)
    ini.start()
    with ini.log_in("one") as idle, ini.log_in("one") as busy:
        before = backend(idle)
        busy.query("BEGIN")
        ini.reload(ini.line("one", "pool_mode=session timezone=UTC"), settings=settings)
        assert busy.rows("SELECT 1") == [[b"1"]]
        if fast:
            told = idle.error()
            assert (told["C"], told["M"]) == ("57P01", "database configuration changed")
            busy.query("COMMIT")
            assert busy.error()["M"] == "database configuration changed"
        else:
            busy.query("COMMIT")
            assert backend(idle) == before
    until(lambda: ini.funnel.log().count("reason=reload)") == 2)


@pytest.mark.parametrize(
    "orders",
    [
        ["RECONNECT"],
        ["SET server_fast_close=0", "RECONNECT", "RELOAD"],
    ],
)
@pytest.mark.parametrize("lifetime", [3600, 0])
def test_reconnect_ends_sessions_fast(ini: Ini, orders: list[str], lifetime: int) -> None:
    """Those whose server is to go for its age, too."""
    settings = f"server_fast_close = 1\nserver_lifetime = {lifetime}\n"
    settings += f"admin_users = {ini.postgres.user}"
    ini.write(ini.line("one", "pool_mode=session"), settings=settings)
    ini.start()
    with ini.log_in("one") as idle, ini.log_in("one") as busy, Operator(ini.funnel) as operator:
        backend(idle)
        busy.query("BEGIN")
        for order in orders:
            operator.say(order)
        assert idle.error()["M"] == "database configuration changed"
        assert busy.rows("SELECT 1") == [[b"1"]]
        busy.query("COMMIT")
        assert busy.error()["M"] == "database configuration changed"


def test_a_name_that_leads_elsewhere(
    pgfunnel: StartFunnel, start_postgres: StartPostgres, tmp_path: Path
) -> None:
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"]).returncode:
        pytest.skip("only root may have an /etc/hosts of its own")
    twofold = start_postgres(settings={"listen_addresses": "127.0.0.1,127.0.0.2"})
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost moving.test\n")
    shell = shutil.which("sh") or "/bin/sh"
    mount = f'mount --bind {hosts} /etc/hosts && exec "$@"'
    entry = {"port": twofold.port, "dbname": twofold.database}
    funnel = pgfunnel(
        twofold,
        under=("unshare", "-m", shell, "-c", mount, shell),
        dns_max_ttl=0.2,
        databases={
            "moves": entry | {"host": "moving.test"},
            "stays": entry | {"host": "localhost"},
        },
    )

    def log_in(database: str) -> Peer:
        peer = Peer(funnel.host, funnel.port)
        return peer.log_in("alice", database, USERS["alice"])

    def place(peer: Peer) -> bytes:
        return peer.rows("SELECT host(inet_server_addr())")[0][0] or b""

    with log_in("moves") as idle, log_in("moves") as busy, log_in("stays") as other:
        busy.query("BEGIN")
        assert {place(idle), place(busy), place(other)} == {b"127.0.0.1"}
        before = backend(other)
        hosts.write_text("127.0.0.1 localhost\n")
        hosts.write_text("127.0.0.1 localhost\n127.0.0.2 moving.test\n")
        until(lambda: place(idle) == b"127.0.0.2")
        assert place(busy) == b"127.0.0.1"
        busy.query("COMMIT")
        assert place(busy) == b"127.0.0.2"
        assert backend(other) == before
    until(lambda: funnel.log().count("reason=name_changed)") == 2)
