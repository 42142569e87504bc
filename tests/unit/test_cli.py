"""The command line: what it prints, where, and with which exit code."""

from __future__ import annotations

import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

import pytest

import proxy
from proxy import cli
from proxy.errors import UpstreamUnreachable
from proxy.settings import Settings
from proxy.settings.databases import TABLES
from proxy.settings.pgbouncer_file import SUFFIXES
from tests.conftest import StartPostgres
from tests.postgres import Postgres

ROOT = Path(__file__).parents[2]
UPSTREAM = "postgresql://user:hush@localhost:5432/app"

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command in this process; environment as keywords. (exit code, stdout, stderr)."""
    for name in os.environ:
        if name.startswith("PGFUNNEL_"):
            monkeypatch.delenv(name)

    def run(*words: str, **environ: str) -> tuple[int, str, str]:
        for name, value in environ.items():
            monkeypatch.setenv(f"PGFUNNEL_{name.upper()}", value)
        try:
            code = cli.main(words)
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        return code, *capsys.readouterr()

    return run


Served = list[tuple[Settings, Callable[[], Settings]]]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Served:
    """What `serve` hands to the app, which does not start."""
    handed: Served = []

    def run(settings: Settings, reload: Callable[[], Settings], notes: Sequence[str] = ()) -> int:
        handed.append((settings, reload))
        if settings.default_pool_size == 77:
            raise UpstreamUnreachable("nothing there.", hint="Start Postgres.")
        if settings.default_pool_size == 78:
            raise PermissionError(13, "Permission denied", "/run/x")
        if settings.default_pool_size == 79:
            raise KeyboardInterrupt
        return 5

    app = ModuleType("proxy.app")
    monkeypatch.setattr(app, "run", run, raising=False)
    monkeypatch.setitem(sys.modules, "proxy.app", app)
    monkeypatch.setattr(proxy, "app", app, raising=False)
    return handed


@pytest.mark.parametrize(
    "words", [("-q", "-v", "-u", "root"), ("serve", "-qv", "--user=root"), ("--quiet", "-vv")]
)
def test_pgbouncers_switches(
    words: tuple[str, ...], run: Run, served: Served, tmp_path: Path
) -> None:
    file = tmp_path / "pgbouncer.ini"
    file.write_text("[databases]\n[pgbouncer]\nuser = nobody\nlisten_addr = 127.0.0.1\n")
    assert run(*words, str(file)) == (5, "", "")
    ((settings, reload),) = served
    for each in (settings, reload()):
        assert (each.log_level, each.logfile, each.databases) == ("debug", os.devnull, {})
        assert each.run_as == ("root" if "root" in " ".join(words) else "nobody")


def test_quiet_leaves_a_log_file_alone(run: Run, served: Served, tmp_path: Path) -> None:
    run("-q", upstream=UPSTREAM, logfile=str(tmp_path / "log"))
    assert served[0][0].logfile == str(tmp_path / "log")


@pytest.mark.parametrize("words", [(), ("serve",)])
def test_no_command_serves(words: tuple[str, ...], run: Run, served: Served) -> None:
    code, out, err = run(*words, "--default-pool-size", "5", "--http-port=-1", upstream=UPSTREAM)
    assert (code, out, err) == (5, "", "")
    ((settings, _),) = served
    assert (settings.default_pool_size, settings.http_port) == (5, -1)


def test_a_reload_reads_afresh_and_options_stay(run: Run, served: Served, tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("min_pool_size = 1\ndefault_pool_size = 9\n")
    run("--config", str(file), "--default-pool-size", "5", upstream=UPSTREAM)
    ((settings, reload),) = served
    assert settings.min_pool_size == 1
    file.write_text("min_pool_size = 2\n")
    assert (reload().min_pool_size, reload().default_pool_size) == (2, 5)


def test_what_the_app_fails_with_is_told_in_words(run: Run, served: Served) -> None:
    found = [run(f"--default-pool-size={size}", upstream=UPSTREAM) for size in (77, 78, 79)]
    assert found == [
        (1, "", "pgfunnel: nothing there. Start Postgres.\n"),
        (1, "", "pgfunnel: /run/x: Permission denied\n"),
        (130, "", ""),
    ]
    assert len(served) == 3


def test_every_problem_of_the_settings(run: Run) -> None:
    code, out, err = run("--listen-port", "x", upstream="h", pool_mode="y")
    assert (code, out) == (2, "")
    lines = err.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("pgfunnel: ") for line in lines)


@pytest.mark.parametrize(
    "words, told",
    [
        (["--default-pool-sise=hush"], "did you mean --default-pool-size?"),
        (["--hushhush"], "see `pgfunnel serve --help`"),
        (["serv"], "did you mean `pgfunnel serve`?"),
        ([UPSTREAM], "no such command"),
        (["serve", UPSTREAM], "one argument too many"),
        (["serve", "x.ini", "y.ini"], "one argument too many"),
        (["serve", "--config", "x.ini", "y.ini"], "one argument too many"),
        (["-d", "x.ini"], "-d/--daemon has no use here"),
        (["serve", "-qR", "x.ini"], "so_reuseport"),
        (["--upstream", UPSTREAM], "set PGFUNNEL_UPSTREAM"),
        (["--listen-port"], "expected one argument"),
        (["settings", "--example", "--markdown"], "not allowed with"),
        (["healthcheck", "--http-port", "x"], "give 1 to 65535"),
        (["healthcheck", "--http-port", "70000"], "give 1 to 65535"),
        (["--config", "/no/such.toml"], "/no/such.toml: cannot be read"),
    ],
)
def test_misuse(words: list[str], told: str, run: Run) -> None:
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert told in err
    assert "hush@" not in err
    assert "=hush" not in err
    assert err.startswith("pgfunnel: ")


def test_help(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    assert all(command in out for command in cli.COMMANDS)


@pytest.mark.parametrize("command", ["serve", "check"])
def test_every_setting_is_an_option(command: str, run: Run) -> None:
    code, out, _ = run(command, "--help")
    assert code == 0
    for name in Settings.model_fields.keys() - TABLES.keys():
        assert f"--{name.replace('_', '-')} " in out


def test_settings(run: Run) -> None:
    for option in ([], ["--example"], ["--markdown"]):
        code, out, _ = run("settings", *option)
        assert code == 0
        assert "default_pool_size" in out


def command(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    plain = {name: v for name, v in os.environ.items() if not name.startswith("PGFUNNEL_")}
    return subprocess.run(
        [sys.executable, "-m", "proxy", *words],
        env=plain | environ,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_version() -> None:
    pure = command("--version", PGFUNNEL_PURE="1").stdout
    assert pure.startswith(f"pgfunnel {proxy.__version__} (pure Python: PGFUNNEL_PURE=1, Python 3.")
    words = command("--version").stdout
    assert "(compiled, " in words or "(pure Python: the compiled modules were not built, " in words


@pytest.mark.parametrize("words", [["--version"], ["healthcheck"], ["--help"]])
def test_what_starts_often_starts_light(words: list[str]) -> None:
    script = (
        "import sys; from proxy import cli; cli.main(sys.argv[1:]);"
        "sys.exit('pydantic' in sys.modules and 'pydantic was imported')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *words],
        cwd=ROOT,
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_no_traceback_from_a_real_process() -> None:
    done = command("serve", PGFUNNEL_UPSTREAM="nonsense:hush")
    assert done.returncode == 2
    assert done.stderr.startswith("pgfunnel: upstream (environment variable PGFUNNEL_UPSTREAM): ")
    assert "hush" not in done.stderr
    assert "Traceback" not in done.stderr


class Answer(http.server.BaseHTTPRequestHandler):
    """200 for /healthz; what a server without it, or an unhealthy one, says otherwise."""

    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/healthz" else 404)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The port of an HTTP server whose answer is `Answer.status`."""
    monkeypatch.setattr(Answer, "status", 200)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_healthy_by_option_environment_and_file(run: Run, web: int, tmp_path: Path) -> None:
    healthy = (0, f"healthy: 127.0.0.1:{web}\n", "")
    assert run("healthcheck", "--http-port", str(web), "--http-addr", "*") == healthy
    file = tmp_path / "a.toml"
    file.write_text(f"http_port = {web}\nhttp_addr = '0.0.0.0'\n")
    assert run("healthcheck", "--config", str(file), http_port="tcp://10.0.0.1:1") == healthy
    assert run("healthcheck", http_port=str(web)) == healthy
    ini = tmp_path / "pgbouncer.ini"
    ini.write_text(f"[pgbouncer]\n;http_port = 1\n  http_port = {web} \nhttp_addr=*\n")
    assert run("healthcheck", "--config", str(ini)) == healthy


@pytest.mark.parametrize("words", [["serve"], [], ["serve", "--default-pool-size=4"]])
def test_a_file_as_the_first_word(
    words: list[str], run: Run, served: Served, tmp_path: Path
) -> None:
    file = tmp_path / "pgbouncer.ini"
    file.write_text("[databases]\na = host=h\n[pgbouncer]\nauth_type = trust\nmin_pool_size = 1\n")
    code, _, err = run(*words[:1], str(file), *words[1:])
    assert (code, err) == (5, "")
    ((settings, _),) = served
    assert settings.min_pool_size == 1
    assert settings.default_pool_size == (4 if len(words) > 1 else 20)


def test_unhealthy(run: Run, web: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Answer, "status", 503)
    code, out, err = run("healthcheck", http_port=str(web))
    assert (code, out, err) == (1, "", f"pgfunnel: unhealthy: 127.0.0.1:{web} answered 503\n")


@pytest.mark.parametrize("port, why", [("off", "http_port is off"), ("0", "http_port is 0")])
def test_no_port_to_ask(port: str, why: str, run: Run) -> None:
    code, _, err = run("healthcheck", http_port=port)
    assert code == 1
    assert why in err


def test_nobody_answers(run: Run, web: int, postgres: Postgres) -> None:
    code, _, err = run("healthcheck", "--http-port", str(postgres.port))
    assert code == 1
    assert f"127.0.0.1:{postgres.port}: " in err
    assert len(err.splitlines()) == 1


def test_the_health_checks_defaults_are_the_declared_ones() -> None:
    assert Settings().http_addr == cli.HTTP_ADDR
    assert Settings().http_port == cli.HTTP_PORT
    assert cli.INI == SUFFIXES


def test_check_logs_in(run: Run, postgres: Postgres) -> None:
    code, out, err = run("check", upstream=postgres.dsn)
    assert (code, err) == (0, "")
    assert f"logged in as {postgres.user} " in out
    assert "PostgreSQL " in out
    assert postgres.password not in out


def test_check_names_every_upstream_that_fails(
    run: Run, postgres: Postgres, tmp_path: Path
) -> None:
    place = f"host = '{postgres.host}'\nport = {postgres.port}\n"
    wrong = f"user = '{postgres.user}'\npassword = 'hush'\n"
    right = f"user = '{postgres.user}'\npassword = '{postgres.password}'\n"
    file = tmp_path / "a.toml"
    file.write_text(
        f"auth_type = 'trust'\nserver_connect_timeout = 5\n"
        f"[databases.wrong]\n{place}{wrong}"
        f"[databases.missing]\n{place}{right}dbname = 'no_such_database'\n"
        f"[databases.large]\n{place}{right}dbname = 'postgres'\npool_size = 100000\n"
        f"[databases.nowhere]\nhost = 'no.such.host.invalid'\nuser = 'u'\n"
        f"[databases.closed]\nhost = '127.0.0.1'\nport = 1\nuser = 'u'\n"
        f"[databases.socket]\nhost = '{tmp_path}'\nuser = 'u'\n"
        f"[databases.plain]\n{place}{right}sslmode = 'disable'\ndbname = 'postgres'\n"
        f"[databases.'*']\n{place}"
    )
    code, out, err = run("check", "--config", str(file))
    assert code == 1
    for name, words in {
        "wrong": "(28P01); correct user and password",
        "missing": "(3D000); correct the name of the database",
        "large": "a pool of 100000 does not fit",
        "nowhere": "this host name is unknown",
        "closed": "connection refused; check host and port",
        "socket": "no such file or directory; check host and port",
    }.items():
        (line,) = (line for line in err.splitlines() if f"databases.{name}:" in line)
        assert words in line
        assert line.startswith("pgfunnel: away now: ") == (name in {"nowhere", "closed", "socket"})
    assert f"databases.plain: {postgres.host}:{postgres.port}/postgres: logged in as" in out
    assert "databases.*: " in out
    assert "no login was tried" in out
    assert "hush" not in out + err


@pytest.mark.parametrize("option", ["", "--no-connect"])
def test_an_upstream_that_is_away_keeps_nobody_from_starting(option: str, run: Run) -> None:
    code, out, err = run("check", *filter(None, [option]), upstream="postgresql://u:p@127.0.0.1:1")
    assert code == 0
    assert "listens on" in out
    assert ("away now: upstream: 127.0.0.1:1/postgres: connection refused" in err) == (not option)


def test_check_of_wrong_settings(run: Run) -> None:
    code, out, err = run("check", listen_port="x", upstream="")
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 2


def test_check_reads_the_files_that_serve_reads(
    run: Run, postgres: Postgres, tmp_path: Path
) -> None:
    users, key = tmp_path / "users.txt", tmp_path / "key.pem"
    users.write_text('"alice" "a"\nbob b\n')
    key.write_text("not a key")
    code, _, err = run(
        "check",
        upstream=postgres.dsn,
        auth_file=str(users),
        client_tls_sslmode="require",
        client_tls_key_file=str(key),
        client_tls_cert_file=str(key),
    )
    assert code == 1
    assert "users.txt:2: " in err
    assert "client_tls_cert_file and client_tls_key_file" in err
    assert len(err.splitlines()) == 2


def test_check_with_tls(run: Run, tls_postgres: Postgres) -> None:
    require = f"{tls_postgres.dsn}?sslmode=require"
    code, out, _ = run("check", upstream=require)
    assert code == 0
    assert " with TLS" in out
    ca = str(tls_postgres.certificate)
    code, out, _ = run(
        "check", upstream=tls_postgres.dsn, server_tls_sslmode="verify-ca", server_tls_ca_file=ca
    )
    assert code == 0
    code, _, err = run("check", server_tls_ca_file="/etc/ssl/certs/ca-certificates.crt")
    assert code == 1
    assert "its certificate is refused" in err


def test_check_when_tls_is_not_there(run: Run, start_postgres: StartPostgres) -> None:
    plain = start_postgres()
    code, _, err = run("check", upstream=f"{plain.dsn}?sslmode=require")
    assert code == 1
    assert "it offers no TLS; turn ssl on in Postgres, or set sslmode to prefer" in err
