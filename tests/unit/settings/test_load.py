"""Where values come from, which comes first, and how every problem is named."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import SettingsError
from proxy.settings import Settings, load
from proxy.settings.sections import SECTIONS

UPSTREAM = {"PGFUNNEL_UPSTREAM": "postgresql://user:hush@localhost:5432/app"}


def problems(
    options: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> list[str]:
    with pytest.raises(SettingsError) as refusal:
        load(options or {}, environ=UPSTREAM | dict(environ or {}), file=file)
    return refusal.value.problems


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    return tmp_path / "pgfunnel.toml"


def test_an_upstream_alone_is_enough() -> None:
    settings = load(environ=UPSTREAM)
    assert settings.upstream is not None
    assert settings.upstream.password == "hush"
    assert settings.default_pool_size == 20


def test_option_before_environment_before_file_before_default(toml: Path) -> None:
    toml.write_text("default_pool_size = 1\nmin_pool_size = 1\nmax_waiters = 1\n")
    environ = UPSTREAM | {"PGFUNNEL_DEFAULT_POOL_SIZE": "2", "PGFUNNEL_MIN_POOL_SIZE": "2"}
    settings = load({"default_pool_size": "3"}, environ=environ, file=toml)
    found = (settings.default_pool_size, settings.min_pool_size, settings.max_waiters)
    assert found == (3, 2, 1)
    assert settings.max_db_connections == 0


def test_the_environment_may_name_the_file(toml: Path) -> None:
    toml.write_text("default_pool_size = 7\n")
    settings = load(environ=UPSTREAM | {"PGFUNNEL_CONFIG": str(toml)})
    assert settings.default_pool_size == 7


@pytest.mark.parametrize(
    "name, text, value",
    [
        ("log_connections", "off", False),
        ("log_connections", "1", True),
        ("unix_socket_mode", "0770", 0o770),
        ("unix_socket_mode", "0o700", 0o700),
        ("http_port", "off", -1),
        ("http_port", "-1", -1),
        ("query_wait_timeout", "0.5", 0.5),
        ("auth_type", "plain", "password"),
        (
            "ignore_startup_parameters",
            "extra_float_digits, options",
            ("extra_float_digits", "options"),
        ),
        ("ignore_startup_parameters", "", ()),
        ("server_check_query", "", ""),
        ("auth_file", "", None),
    ],
)
def test_text_becomes_a_value(name: str, text: str, value: object) -> None:
    environ = UPSTREAM | {f"PGFUNNEL_{name.upper()}": text}
    assert getattr(load(environ=environ), name) == value
    assert getattr(load({name: text}, environ=UPSTREAM), name) == value


def test_tables_of_a_file(toml: Path) -> None:
    toml.write_text(
        """
        unix_socket_mode = 0o700
        ignore_startup_parameters = ["a", "b"]
        [databases]
        short = "postgresql://u:hush@h:5433/there?sslmode=require"
        [databases.long]
        host = "h"
        pool_mode = "session"
        [databases."*"]
        dbname = "any"
        [users.alice]
        pool_size = 2
        """
    )
    settings = load(environ=UPSTREAM, file=toml)
    assert settings.unix_socket_mode == 0o700
    assert settings.ignore_startup_parameters == ("a", "b")
    short = settings.databases["short"]
    assert (short.host, short.port, short.dbname, short.user) == ("h", 5433, "there", "u")
    assert short.sslmode == "require"
    assert settings.databases["long"].pool_mode == "session"
    assert settings.databases["*"].dbname == "any"
    assert settings.users["alice"].pool_size == 2


@pytest.mark.parametrize(
    "name, text, words",
    [
        ("default_pool_size", "abc", '"abc" will not do; give a whole number, 1 or more'),
        ("default_pool_size", "0", '"0" will not do; give a whole number, 1 or more'),
        ("default_pool_size", "", '"" will not do'),
        ("listen_port", "65536", "give a port from 1 to 65535"),
        ("http_port", "-2", "or off"),
        ("query_wait_timeout", "-1", "give a number of seconds, 0 or more"),
        ("query_wait_timeout", "inf", "give a number of seconds"),
        ("query_wait_timeout", "nan", "give a number of seconds"),
        ("pool_mode", "trans", "give one of session, transaction, statement"),
        ("auth_type", "scram", "give one of trust, password"),
        ("client_tls_protocols", "ssl3", "give secure, all or tlsv1.0"),
        ("client_tls_protocols", "tlsv1.1,tlsv1.3", "leaves out a version"),
        ("server_tls_ciphers", "ROT13", "no cipher that OpenSSL knows"),
        ("client_tls_ecdhcurve", "circle", "not a curve"),
        ("client_tls_ecdhcurve", "none", "give auto or a curve"),
        ("server_tls_sslnegotiation", "fast", "give one of postgres, direct"),
        ("log_connections", "maybe", "give true or false"),
        ("unix_socket_mode", "0999", "not an octal number"),
        ("unix_socket_mode", "7777", "octal"),
        ("unix_socket_dir", "/no/such/folder", "is not a folder"),
        ("auth_file", "/no/such/file", "/no/such/file cannot be read (no such file or directory)"),
        ("auth_file", "/", "cannot be read (is a directory)"),
        ("read_buffer", "10", "from 1024 to 16777216"),
        ("databases", "x", "is not JSON"),
        ("databases", "[1]", "is not a table"),
        ("event_loop", "gevent", "give one of auto, uvloop, asyncio"),
    ],
)
def test_a_wrong_value(name: str, text: str, words: str) -> None:
    variable = f"PGFUNNEL_{name.upper()}"
    (problem,) = problems(environ={variable: text})
    assert problem.startswith(f"{name} (environment variable {variable}): ")
    assert words in problem
    (problem,) = problems({name: text})
    assert problem.startswith(f"{name} (option --{name.replace('_', '-')}): ")
    assert words in problem


@pytest.mark.parametrize(
    "line, words",
    [
        ("default_pool_size = true", "is true or false; give a number"),
        ("default_pool_size = 1.5", "1.5 will not do"),
        ("listen_addr = 5", "5 will not do; give text"),
        ("tcp_keepalive = 3", "3 will not do; give true or false"),
        ("databases = 5", "is not a table"),
        ("databases.app = 5", "is not a table of settings"),
        ("databases.app.port = 0", "0 will not do; give a port from 1 to 65535"),
        ("databases.app.password = 5", "this value will not do; give text"),
        ("databases.app.password = 'hush'", "has a password but no user"),
        ("databases.app = 'h'", "does not start with postgresql://"),
        ("users.u.pool_size = 'x'", '"x" will not do'),
    ],
)
def test_a_wrong_line_of_a_file(toml: Path, line: str, words: str) -> None:
    toml.write_text(line)
    (problem,) = problems(file=toml)
    key = line.partition(" = ")[0]
    assert f"(file {toml}, key {key.removesuffix('.password')}" in problem
    assert words in problem
    assert "hush" not in problem


def test_a_wrong_upstream_of_a_file(toml: Path) -> None:
    toml.write_text("upstream = 5")
    with pytest.raises(SettingsError, match="is not text"):
        load(environ={}, file=toml)


@pytest.mark.parametrize(
    "line, words",
    [
        ("default_pool_siz = 1", "did you mean default_pool_size?"),
        ("zzz = 1", "remove it, or see `pgfunnel settings`"),
        ("databases.app.hots = 'h'", "databases.app.hots"),
        ("databases.app.hots = 'h'", "did you mean host?"),
        ("users.u.pool_sise = 1", "did you mean pool_size?"),
    ],
)
def test_an_unknown_key(toml: Path, line: str, words: str) -> None:
    toml.write_text(line)
    (problem,) = problems(file=toml)
    assert "is not a setting" in problem
    assert words in problem


def test_an_unknown_variable() -> None:
    (problem,) = problems(environ={"PGFUNNEL_UPSTREEM": "postgresql://u:hush@h"})
    assert problem == (
        "upstreem (environment variable PGFUNNEL_UPSTREEM): is not a setting;"
        " did you mean upstream?"
    )


def test_an_unknown_option() -> None:
    (problem,) = problems({"pool_sise": "1"})
    assert "option --pool-sise" in problem


@pytest.mark.parametrize(
    "name, value",
    [
        ("PGFUNNEL_PORT", "tcp://10.0.0.1:6432"),
        ("PGFUNNEL_SERVICE_HOST", "10.0.0.1"),
        ("PGFUNNEL_SERVICE_PORT", "6432"),
        ("PGFUNNEL_SERVICE_PORT_HTTP", "9127"),
        ("PGFUNNEL_PORT_6432_TCP", "tcp://10.0.0.1:6432"),
        ("PGFUNNEL_PORT_6432_TCP_ADDR", "10.0.0.1"),
        ("PGFUNNEL_PORT_6432_TCP_PROTO", "tcp"),
        ("PGFUNNEL_METRICS_SERVICE_HOST", "10.0.0.1"),
        ("PGFUNNEL_HTTP_PORT", "tcp://10.0.0.1:9127"),
        ("PGFUNNEL_PURE", "1"),
    ],
)
def test_what_kubernetes_sets_for_a_service_of_our_name_is_no_setting(
    name: str, value: str
) -> None:
    assert load(environ=UPSTREAM | {name: value}) == load(environ=UPSTREAM)


def test_a_port_is_a_setting_and_no_service_link() -> None:
    assert load(environ=UPSTREAM | {"PGFUNNEL_HTTP_PORT": "0"}).http_port == 0


@pytest.mark.parametrize(
    "content, words",
    [(b"a = ", "is not TOML"), (b"\xff", "is not UTF-8"), (None, "no such file or directory")],
)
def test_a_file_that_cannot_be_read(toml: Path, content: bytes | None, words: str) -> None:
    if content is not None:
        toml.write_bytes(content)
    found = problems({"listen_port": "x"}, file=toml)
    assert len(found) == 2
    assert str(toml) in found[0]
    assert words in found[0]


def test_every_problem_at_once(toml: Path) -> None:
    toml.write_text("min_pool_size = -1\npool_mode = 'x'\n[databases.app]\nport = 0\nprt = 1\n")
    environ = {"PGFUNNEL_LISTEN_PORT": "x", "PGFUNNEL_CLIENT_TLS_SSLMODE": "require"}
    found = problems({"log_level": "loud"}, environ, toml)
    named = [problem.partition(" (")[0] for problem in found]
    assert sorted(named) == [
        "client_tls_sslmode",
        "databases.app.port",
        "databases.app.prt",
        "listen_port",
        "log_level",
        "min_pool_size",
        "pool_mode",
    ]
    assert not any("\n" in problem for problem in found)


def test_no_words_of_pydantic(toml: Path) -> None:
    toml.write_text("min_pool_size = []\nusers = {u = {pool_size = {}}}\nbackend = 1\n")
    for problem in problems({"log_level": "x", "listen_port": "x"}, file=toml):
        assert not {"Input", "pydantic", "validation", "Value error"} & set(problem.split())


@pytest.mark.parametrize(
    "dsn", ["postgresql://u:hush@h", "postgresql://h?user=u&password=hush", "postgresql://u:hush@"]
)
def test_no_password_on_the_command_line(dsn: str) -> None:
    (problem,) = problems({"upstream": dsn})
    assert "PGFUNNEL_UPSTREAM" in problem
    assert "hush" not in problem


def test_an_upstream_without_a_password_on_the_command_line() -> None:
    settings = load({"upstream": "postgresql://u@h", "auth_type": "trust"}, environ={})
    assert settings.upstream_user() == ("u", None)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0\n"), min_size=1))
def test_no_secret_is_ever_printed(secret: str) -> None:
    marked = f"SeCrEt{secret}"
    try:
        settings = load(environ={"PGFUNNEL_UPSTREAM": f"postgresql://u:{marked}@h/db"})
    except SettingsError as error:
        printed = f"{error!r}{error}{error.problems}"
    else:
        printed = f"{settings!r}{settings}{settings.target('db')!r}{settings.upstream}"
        printed += settings.model_dump_json()
    assert "SeCrEt" not in printed


def test_secrets_of_databases_are_not_printed(toml: Path) -> None:
    toml.write_text("databases.app = 'postgresql://u:hush@h'\n")
    settings = load(environ=UPSTREAM, file=toml)
    assert "hush" not in f"{settings!r}{settings}{settings.target('app')!r}{settings.databases}"


def test_every_setting_belongs_to_a_section() -> None:
    declared = [name for section in SECTIONS for name in section.model_fields]
    assert declared == list(Settings.model_fields)
