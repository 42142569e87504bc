"""Who comes in, by which method, and what is told to those who do not."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import asyncpg
import psycopg
import pytest

from proxy.wire import messages
from tests.conftest import StartFunnel
from tests.funnel import Funnel
from tests.integration.observe import resident, until
from tests.integration.peer import Peer
from tests.postgres import USERS, Postgres, make_dsn
from tests.wireclient import Wire, message, query, rows, startup


def whoami(dsn: str) -> str:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT session_user::text").fetchone()
    assert row is not None
    return str(row[0])


def refusal(funnel: Funnel, user: str, password: str = "", database: str = "") -> dict[str, str]:
    """The error that ends a login with this password."""
    with Peer(funnel.host, funnel.port) as peer:
        told = peer.refusal(user, database or funnel.upstream.database, password)
        assert told
        assert peer.ended()
        return told


def secrets_of(postgres: Postgres, *users: str) -> str:
    """Lines of userlist.txt with what pg_authid holds."""
    sql = "SELECT rolname, rolpassword FROM pg_authid WHERE rolname = ANY(%s)"
    rows = postgres.psql(sql, list(users))
    return "".join(f'"{user}" "{secret}"\n' for user, secret in rows)


@pytest.mark.parametrize("auth_type", ["trust", "password", "md5", "scram-sha-256"])
def test_users_and_the_upstreams_own(
    pgfunnel: StartFunnel, postgres: Postgres, auth_type: str
) -> None:
    """Plain secrets serve every method, and every method of Postgres behind it."""
    funnel = pgfunnel(auth_type=auth_type, pure=auth_type == "md5")
    for user in ("", *USERS):
        assert whoami(funnel.dsn(user)) == (user or postgres.user)
    if auth_type != "trust":
        assert refusal(funnel, "alice", "wrong")["C"] == "28P01"


@pytest.mark.parametrize("pure", [False, True])
@pytest.mark.parametrize("secret", ["trust", "plain", "stored"])
def test_a_query_right_behind_the_login_is_answered(
    pgfunnel: StartFunnel, postgres: Postgres, tmp_path: Path, secret: str, pure: bool
) -> None:
    """Sent in one write with the start-up packet and the password, as proxies and drivers may."""
    postgres.require("alice")
    users = tmp_path / "users.txt"
    plain = f'"alice" "{USERS["alice"]}"\n'
    users.write_text(secrets_of(postgres, "alice") if secret == "stored" else plain)
    auth_type = "trust" if secret == "trust" else "password"
    funnel = pgfunnel(auth_type=auth_type, auth_file=users, pure=pure)
    password = b"" if secret == "trust" else message(b"p", USERS["alice"].encode() + b"\0")
    hello = startup([("user", "alice"), ("database", postgres.database)])
    for _ in range(3):  # greeted by a server, then from what is known
        with Wire(funnel.host, funnel.port) as wire:
            wire.send(hello + password + query("SELECT 'heard'"))
            wire.until_ready()
            assert rows(wire.until_ready()) == [["heard"]]


def test_the_upstream_alone_is_enough(pgfunnel: StartFunnel, postgres: Postgres) -> None:
    funnel = pgfunnel(auth_file=None)
    assert whoami(funnel.dsn()) == postgres.user
    assert refusal(funnel, "alice", USERS["alice"])["C"] == "28P01"


@pytest.mark.parametrize("auth_type", ["password", "md5", "scram-sha-256"])
def test_wrong_password_and_unknown_user_read_the_same(
    pgfunnel: StartFunnel, auth_type: str
) -> None:
    funnel = pgfunnel(auth_type=auth_type)
    wrong = refusal(funnel, "alice", "wrong")
    unknown = refusal(funnel, "nobody", "wrong")
    assert wrong["C"] == unknown["C"] == "28P01"
    assert wrong["M"].replace("alice", "") == unknown["M"].replace("nobody", "")
    assert wrong.keys() == unknown.keys()
    assert "wrong" not in funnel.log()
    assert funnel.metrics()['pgfunnel_logins_total{result="failed"}'] == 2


@pytest.mark.parametrize("auth_type", ["password", "scram-sha-256"])
def test_verifiers_alone(
    pgfunnel: StartFunnel, postgres: Postgres, tmp_path: Path, auth_type: str
) -> None:
    """What a client's login reveals, its password or its SCRAM keys, opens Postgres too."""
    users = tmp_path / "users.txt"
    users.write_text(secrets_of(postgres, "alice", "bob"))
    assert "SCRAM-SHA-256$" in users.read_text()
    funnel = pgfunnel(auth_type=auth_type, auth_file=users)
    assert whoami(funnel.dsn("alice")) == "alice"
    assert whoami(funnel.dsn("bob")) == "bob"
    assert refusal(funnel, "alice", "wrong")["C"] == "28P01"


@pytest.mark.parametrize("auth_type", ["password", "md5"])
def test_md5_secrets(
    pgfunnel: StartFunnel, postgres: Postgres, tmp_path: Path, auth_type: str
) -> None:
    postgres.require("carol")
    users = tmp_path / "users.txt"
    users.write_text(secrets_of(postgres, "carol"))
    assert '"md5' in users.read_text()
    funnel = pgfunnel(auth_type=auth_type, auth_file=users)
    assert whoami(funnel.dsn("carol")) == "carol"
    assert refusal(funnel, "carol", "wrong")["C"] == "28P01"


def test_login_timeout(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(client_login_timeout=0.5)
    with Peer(funnel.host, funnel.port) as peer:
        began = time.monotonic()
        peer.start("alice", funnel.upstream.database)
        assert peer.error()["C"] == "57014"
        assert peer.ended()
        assert 0.4 < time.monotonic() - began < 3
    until(lambda: "login_timeout" in funnel.log())


def test_a_login_byte_by_byte(pgfunnel: StartFunnel) -> None:
    """Slow is no crime within client_login_timeout, whose clock no byte sets back."""
    funnel = pgfunnel(client_login_timeout=1)
    packet = messages.startup([(b"user", b"alice"), (b"database", b"postgres")])
    with Peer(funnel.host, funnel.port) as peer:
        for byte in packet:
            peer.send(bytes([byte]))
        assert peer.message()[0] == b"R"
    with Peer(funnel.host, funnel.port) as peer:
        began = time.monotonic()
        peer.send(packet[:8])
        peer.socket.settimeout(0.1)
        for byte in packet[8:]:
            try:
                if not peer.socket.recv(1000):
                    break
            except TimeoutError:
                peer.send(bytes([byte]))
        assert 0.8 < time.monotonic() - began < 3


@pytest.mark.parametrize(
    "junk", [b"\0" * 50_000, b"GET / HTTP/1.1\r\n" * 4000, b"\0\0\x27\x10\0\3\0\0" + b"x" * 90_000]
)
def test_no_startup_packet_among_thousands_of_bytes(pgfunnel: StartFunnel, junk: bytes) -> None:
    funnel = pgfunnel()
    before = resident(funnel.pid)
    for _ in range(20):
        with Peer(funnel.host, funnel.port) as peer:
            try:
                peer.send(junk)
            except ConnectionError:
                continue
            assert peer.ended()
    assert resident(funnel.pid) - before < 10_000_000
    assert whoami(funnel.dsn("alice")) == "alice"


def test_max_unauthenticated(pgfunnel: StartFunnel) -> None:
    """Those who dawdle make room for those who log in; nobody waits for ever."""
    funnel = pgfunnel(max_unauthenticated=5, client_login_timeout=1)
    idlers = [Peer(funnel.host, funnel.port) for _ in range(20)]
    until(lambda: funnel.metrics()['pgfunnel_clients{state="login"}'] == 5)
    assert whoami(funnel.dsn("alice")) == "alice"
    for idler in idlers:
        idler.socket.close()


def test_no_such_database(pgfunnel: StartFunnel, postgres: Postgres) -> None:
    funnel = pgfunnel()
    refused = refusal(funnel, "alice", USERS["alice"], "nowhere")
    assert refused["C"] == "3D000"
    assert "nowhere" in refused["M"]


def test_postgres_own_word_on_a_database(pgfunnel: StartFunnel, postgres: Postgres) -> None:
    funnel = pgfunnel(
        upstream=make_dsn(postgres.host, postgres.port, postgres.user, postgres.password).rstrip(
            "/"
        )
    )
    began = time.monotonic()
    refused = refusal(funnel, "alice", USERS["alice"], "nowhere")
    assert (refused["C"], refused["M"]) == ("3D000", 'database "nowhere" does not exist')
    assert time.monotonic() - began < 3
    assert whoami(funnel.dsn("alice", database="other")) == "alice"


def test_unix_sockets_on_both_sides(
    pgfunnel: StartFunnel, own_postgres: Postgres, tmp_path: Path
) -> None:
    assert own_postgres.server is not None
    folder = own_postgres.server.socket_dir
    secret = f"{own_postgres.user}:{own_postgres.password}"
    funnel = pgfunnel(
        own_postgres,
        upstream=f"postgresql://{secret}@/postgres?host={folder}&port={own_postgres.port}",
        unix_socket_dir=tmp_path,
        unix_socket_mode="0700",
    )
    path = tmp_path / f".s.PGSQL.{funnel.port}"
    assert path.stat().st_mode & 0o777 == 0o700
    with psycopg.connect(
        host=str(tmp_path), port=funnel.port, user="alice", password=USERS["alice"],
        dbname="postgres",
    ) as connection:  # fmt: skip
        row = connection.execute("SELECT inet_client_addr() IS NULL").fetchone()
    assert row == (True,)
    funnel.stop()
    assert not path.exists()


async def test_startup_parameters_hold_on_every_server(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=3)
    settings = {"search_path": "pg_catalog", "TimeZone": "Asia/Kolkata", "work_mem": "5MB"}
    asked = await asyncpg.connect(funnel.dsn("alice"), server_settings=settings)
    plain = [await asyncpg.connect(funnel.dsn("alice")) for _ in range(2)]
    assert asked.get_settings().TimeZone == "Asia/Kolkata"
    sql = "SELECT pg_backend_pid(), current_setting('search_path'), current_setting('timezone'),"
    sql += " current_setting('work_mem')"
    seen = set()
    for hold in (0, 1, 2):
        for connection in plain[:hold]:
            await connection.execute("BEGIN")
        for _ in range(3):
            pid, *values = await asked.fetchrow(sql)
            seen.add(pid)
            assert values == ["pg_catalog", "Asia/Kolkata", "5MB"]
        for connection in plain[:hold]:
            assert (await connection.fetchrow(sql))[2] != "Asia/Kolkata"
            await connection.execute("COMMIT")
    assert len(seen) > 1
    await asyncio.gather(*(connection.close() for connection in (asked, *plain)))


def test_options(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=1)
    options = "-c statement_timeout=50s -c datestyle=German,\\ YMD --work-mem=6MB"
    sql = "SELECT current_setting(s) FROM unnest(%s::text[]) s"
    names = ["statement_timeout", "datestyle", "work_mem"]
    with (
        psycopg.connect(funnel.dsn("alice"), options=options, autocommit=True) as one,
        psycopg.connect(funnel.dsn("alice"), autocommit=True) as other,
    ):
        for _ in range(3):
            assert one.execute(sql, [names]).fetchall() == [("50s",), ("German, YMD",), ("6MB",)]
            assert other.execute(sql, [names]).fetchall()[0] == ("0",)


def test_whoever_logs_in_is_the_session_user(pgfunnel: StartFunnel, postgres: Postgres) -> None:
    funnel = pgfunnel()
    options = "-c session_authorization=bob"
    sql = "SELECT session_user, current_user"
    with psycopg.connect(funnel.dsn("alice"), options=options) as through:
        assert through.execute(sql).fetchone() == ("alice", "alice")
    with psycopg.connect(postgres.dsn, options=options) as straight:
        assert straight.execute("SELECT session_user = 'bob'").fetchone() == (False,)


def test_a_transaction_of_ones_own_is_none_of_the_logins(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(session_audit=1)
    with psycopg.connect(
        funnel.dsn("alice"), options="-c transaction_read_only=on", autocommit=True
    ) as connection:
        for _ in range(3):
            assert connection.execute("SHOW transaction_read_only").fetchone() == ("off",)
    assert "leak" not in funnel.log()


@pytest.mark.parametrize("name", ["seed", "session_preload_libraries", "local_preload_libraries"])
def test_what_only_a_server_of_ones_own_could_begin_with(pgfunnel: StartFunnel, name: str) -> None:
    funnel = pgfunnel()
    with pytest.raises(psycopg.OperationalError, match=f'"{name}" cannot be given at login'):
        psycopg.connect(funnel.dsn("alice"), options=f"-c {name}=0")


def test_application_name(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=1)
    with (
        psycopg.connect(funnel.dsn("alice"), application_name="one", autocommit=True) as one,
        psycopg.connect(funnel.dsn("alice"), application_name="two", autocommit=True) as two,
    ):
        for connection, name in [(one, "one"), (two, "two"), (one, "one")]:
            assert connection.info.parameter_status("application_name") == name
            assert connection.execute("SHOW application_name").fetchone() == (name,)


@pytest.mark.parametrize(
    "parameters",
    [
        {"timezone": "Nowhere/Land"},
        {"no_such_parameter": "1"},
        {"work_mem": "lots"},
        {"transaction_read_only": "maybe"},
        {"transaction_isolation": "serializable"},
        {"options": "-c work_mem"},
        {"options": "--work_mem=1MB --work-mem"},
        {"options": "surplus"},
    ],
)
def test_invalid_startup_parameters_get_postgres_own_error(
    pgfunnel: StartFunnel, postgres: Postgres, parameters: dict[str, str]
) -> None:
    funnel = pgfunnel()
    told = []
    for host, port in ((postgres.host, postgres.port), (funnel.host, funnel.port)):
        with Peer(host, port) as peer:
            told.append(peer.refusal("alice", postgres.database, USERS["alice"], **parameters))
    assert told[0]
    assert told[0]["C"] == told[1]["C"]
    assert "options" in parameters or told[0]["M"] == told[1]["M"]
    assert whoami(funnel.dsn("alice")) == "alice"
