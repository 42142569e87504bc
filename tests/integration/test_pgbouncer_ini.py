"""PgBouncer's ini file and users file, unchanged, on the real thing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from tests.conftest import StartFunnel
from tests.funnel import ROOT, Funnel, clean_environment, write_userlist
from tests.integration.console import Operator
from tests.integration.observe import until
from tests.postgres import USERS, Postgres, make_dsn


@pytest.fixture
def ini(postgres: Postgres, tmp_path: Path) -> Path:
    """A file as PgBouncer reads it: indented, commented, included, with repeated sections."""
    users = write_userlist(tmp_path / "userlist.txt", postgres)
    place = f"host={postgres.host} port={postgres.port}"
    (tmp_path / "more.ini").write_text(
        f"[databases]\n;app = host=nowhere\n  app = {place} dbname='{postgres.database}'\n"
        f'"second app" = {place} dbname={postgres.database} user=alice pool_size=1\n'
        f"asked = {place} dbname={postgres.database} client_encoding=LATIN1 timezone='Asia/Tokyo'"
        " application_name=ours max_db_connections=2 min_pool_size=30\n"
    )
    file = tmp_path / "pgbouncer.ini"
    file.write_text(
        f"%include {tmp_path / 'more.ini'}\n"
        "[users]\nbob = pool_mode=session max_user_connections=2\n"
        "[peers]\n1 = host=/tmp/other\n"
        "[pgbouncer]\n# a comment\n  listen_addr = 127.0.0.1\nunix_socket_dir =\n"
        f"auth_file = {users}\npeer_id = 1\nserver_check_query = <empty>\n"
        "server_check_delay = 0\nquery_timeout = 0\n"
        "suspend_timeout = 5\npkt_buf = 8192\ndefault_pool_size = 3\n"
        f"logfile = {tmp_path / 'own.log'}\n"
        "[databases]\n"
        f"* = {place}\n"
    )
    return file


@pytest.fixture
def funnel(pgfunnel: StartFunnel, ini: Path) -> Funnel:
    return pgfunnel(
        args=(str(ini),), upstream_grace=0.1, upstream=None, listen_addr=None, auth_file=None
    )


def ask(funnel: Funnel, database: str, sql: str, user: str = "alice") -> object:
    dsn = make_dsn(funnel.host, funnel.port, user, USERS[user], database)
    with psycopg.connect(dsn) as connection:
        row = connection.execute(sql).fetchone()
        assert row is not None
        return row[0]


def test_its_databases_are_served(funnel: Funnel) -> None:
    name = funnel.upstream.database
    assert ask(funnel, "app", "SELECT current_database()") == name
    assert ask(funnel, name, "SELECT current_database()") == name
    assert ask(funnel, "second app", "SELECT current_user::text", "bob") == "alice"


def test_parameters_of_a_database_are_asked_for(funnel: Funnel) -> None:
    assert ask(funnel, "asked", "SHOW timezone") == "Asia/Tokyo"
    dsn = make_dsn(funnel.host, funnel.port, "alice", USERS["alice"], "asked")
    with psycopg.connect(dsn) as connection:
        assert connection.info.parameter_status("client_encoding") == "LATIN1"
    with psycopg.connect(dsn, client_encoding="utf8", options="-c timezone=UTC") as connection:
        assert connection.info.parameter_status("client_encoding") == "UTF8"
        assert connection.execute("SELECT 'é'").fetchone() == ("é",)
    assert ask(funnel, "asked", "SHOW client_encoding") == "LATIN1"


def test_an_application_name_for_those_who_have_none(funnel: Funnel) -> None:
    dsn = make_dsn(funnel.host, funnel.port, "alice", USERS["alice"], "asked")
    with psycopg.connect(dsn) as one, psycopg.connect(dsn, application_name="mine") as other:
        assert one.execute("SHOW application_name").fetchone() == ("ours",)
        assert other.execute("SHOW application_name").fetchone() == ("mine",)
        assert one.info.parameter_status("application_name") == "ours"


def test_the_smallest_bound_holds(funnel: Funnel) -> None:
    ask(funnel, "asked", "SELECT 1")
    sample = 'pgfunnel_servers{database="asked",state="idle",user="alice"}'
    until(lambda: funnel.metrics().get(sample) == 2)


def test_without_databases_there_is_the_console(
    pgfunnel: StartFunnel, ini: Path, postgres: Postgres
) -> None:
    ini.write_text(
        f"[databases]\n; none yet\n[pgbouncer]\nlisten_addr = 127.0.0.1\nunix_socket_dir =\n"
        f"admin_users = dave\nauth_file = {ini.parent / 'userlist.txt'}\n"
    )
    args = ("-q", str(ini))
    funnel = pgfunnel(args=args, upstream=None, listen_addr=None, auth_file=None)
    with Operator(funnel, "dave") as operator:
        assert [row["name"] for row in operator.show("DATABASES")] == ["pgbouncer"]
    assert funnel.log() == ""


def test_what_has_no_effect_is_said_once(funnel: Funnel, ini: Path) -> None:
    log = (ini.parent / "own.log").read_text
    assert log().count("suspend_timeout is accepted") == 1
    assert log().count("pkt_buf is accepted") == 1
    assert funnel.log() == ""


def test_a_reload_follows_the_file(funnel: Funnel, ini: Path) -> None:
    log = ini.parent / "own.log"
    log.rename(ini.parent / "own.log.1")
    with ini.open("a") as file:
        file.write("late = host=127.0.0.1 port=1\n")
    funnel.signal(signal.SIGHUP)
    until(lambda: log.exists() and "reloaded" in log.read_text())
    assert "peer_id" not in log.read_text()
    with pytest.raises(psycopg.OperationalError, match=r"127\.0\.0\.1:1 failed"):
        ask(funnel, "late", "SELECT 1")


def test_check_says_what_it_understood(ini: Path, postgres: Postgres) -> None:
    with ini.open("a") as file:
        file.write(
            f"mine = host={postgres.host} port={postgres.port} dbname={postgres.database}"
            f" user=alice password={USERS['alice']}\n"
        )
    done = _check(ini)
    assert done.returncode == 0, done.stderr
    place = f"{ini.parent / 'more.ini'}:3"
    wanted = f'databases.app = host="{postgres.host}" port={postgres.port}'
    assert any(ln.startswith(wanted) and ln.endswith(f"({place})") for ln in lines(done))
    assert f"default_pool_size = 3 ({ini}:17)" in lines(done)
    assert "pool_mode = transaction (not set; PgBouncer's default is session)" in lines(done)
    assert any("databases.mine" in line and "logged in as alice" in line for line in lines(done))
    assert USERS["alice"] not in done.stdout


def test_check_refuses_by_name_and_line(ini: Path) -> None:
    with ini.open("a") as file:
        file.write(
            "x = host=h pasword=hush\ny = host=h password='hush\n"
            "[pgbouncer]\ndefault_pool_sise = 4\nauth_type = ldap\nhush\n[nothing]\na = b\n"
            "%include /no/such/file\n"
        )
    done = _check(ini)
    assert done.returncode == 1
    ours = f"pgfunnel: {ini}:"
    told = [line.removeprefix(ours) for line in done.stderr.splitlines() if ours in line]
    numbers = sorted(int(line.partition(":")[0]) for line in told)
    assert numbers == [21, 22, 24, 26, 28, 29]
    assert "hush" not in done.stderr.replace("pasword", "")
    for words in (
        "x has an unknown key pasword; did you mean password?",
        "default_pool_sise is not a setting; did you mean default_pool_size?",
        f"auth_type ({ini}:25): is ldap, which pgfunnel does not have",
        "section [nothing] means nothing",
        "/no/such/file cannot be read",
    ):
        assert words in done.stderr


def lines(done: subprocess.CompletedProcess[str]) -> list[str]:
    return done.stdout.splitlines()


def _check(ini: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "proxy", "check", str(ini)],
        env=clean_environment() | {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=20,
    )
