"""PgBouncer's file: its lines, its connection strings, and what becomes of them."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import SettingsError
from proxy.settings import Settings, Understood, load, understand
from proxy.settings.ini import IniReader, parse_pairs

SECRET = "S3cr3t"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "pgbouncer.ini"


def read(file: Path, text: str) -> Understood:
    file.write_text(text)
    return understand(environ={}, file=file)


def problems(file: Path, text: str) -> list[str]:
    with pytest.raises(SettingsError) as refusal:
        read(file, text)
    return [problem.replace(f"{file}:", "") for problem in refusal.value.problems]


def entries(file: Path, text: str) -> list[tuple[str, str, str, int]]:
    file.write_text(text)
    found = IniReader(file)
    assert not found.problems
    return [(entry.section, entry.key, entry.value, entry.line) for entry in found.entries]


def test_lines(file: Path) -> None:
    text = "\ufeff; a\n[ x ]\r\n # b\n\ta=1 ; no comment\n b  =\n[y]\nc.d-e_*=  =\n[x]\na = 2 \n"
    assert entries(file, text) == [
        ("x", "a", "1 ; no comment", 4),
        ("x", "b", "", 5),
        ("y", "c.d-e_*", "=", 7),
        ("x", "a", "2", 9),
    ]


def test_quoted_names(file: Path) -> None:
    found = entries(file, '[x]\n"a ""b"" = ;"=1\n* = 2\n')
    assert [key for _, key, _, _ in found] == ['a "b" = ;', "*"]


def test_an_included_file_goes_on_in_the_section(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "more.ini").write_text("b = 1\n[y]\n")
    found = entries(file, "[x]\na = 1\n  %include more.ini\nc = 1\n")
    assert [(section, key) for section, key, _, _ in found] == [("x", "a"), ("x", "b"), ("y", "c")]


def test_a_file_that_includes_itself(file: Path) -> None:
    file.write_text(f"%include {file}\n")
    (problem,) = IniReader(file).problems
    assert "more than 10 files deep" in problem


@pytest.mark.parametrize("line", ["nonsense", "= x", '"a = x', "[x", "[x] y", "%include", "%x y"])
def test_lines_that_mean_nothing(file: Path, line: str) -> None:
    file.write_text(f"[x]\n{line}\n")
    (problem,) = IniReader(file).problems
    assert problem.startswith(f"{file}:2: ")


@given(
    st.dictionaries(
        st.from_regex(r"[a-z_]+", fullmatch=True),
        st.text(st.characters(exclude_characters="\n\r", codec="utf-8")),
    )
)
def test_a_connection_string_holds_any_value(values: dict[str, str]) -> None:
    doubled = {name: value.replace("'", "''") for name, value in values.items()}
    text = " ".join(f"{name}='{value}'" for name, value in doubled.items())
    assert dict(parse_pairs(text)) == values


@given(st.text(st.sampled_from(" ab='=\t")))
def test_any_connection_string_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert all(name.isidentifier() for name, _ in parse_pairs(text))


WHOLE = f"""
[databases]
app = host=h1,h2 port=6 dbname='the app' user=u password='{SECRET}''' pool_size=3
 reserve_pool=1
bare =
* = host=/run pool_mode=session load_balance_hosts=disable query_wait_timeout=-1
[users]
u = pool_size=4 max_user_client_connections=9 client_idle_timeout=0
[pgbouncer]
auth_type = plain
auth_file = /dev/null
default_pool_size = 7
default_pool_size = 8
unix_socket_dir = /tmp
server_check_query = <empty>
user =
ignore_startup_parameters = a, b
transaction_timeout = 0.0
disable_pqexec = off
[pgfunnel]
http_port = off
"""


def test_the_whole(file: Path) -> None:
    settings = read(file, WHOLE.replace("\n reserve_pool", " reserve_pool")).settings
    app = settings.target("app")
    assert app is not None
    assert (app.hosts, app.port, app.dbname, app.user) == (("h1", "h2"), 6, "the app", "u")
    assert (app.password, app.pool_size, app.reserve_pool_size) == (f"{SECRET}'", 3, 1)
    bare, other = settings.target("bare"), settings.target("x")
    assert bare is not None
    assert other is not None
    assert (bare.host, bare.dbname, bare.load_balance) == ("/tmp", "bare", True)
    assert (other.host, other.dbname, other.pool_mode) == ("/run", "x", "session")
    assert (other.load_balance, other.query_wait_timeout) == (False, None)
    assert settings.limits(app, "u").pool_size == 4
    assert settings.max_clients(app, "u") == (0, 9)
    assert (settings.default_pool_size, settings.http_port) == (8, -1)
    assert (settings.server_check_query, settings.auth_type) == (";", "password")
    assert settings.ignore_startup_parameters == ("a", "b")


def test_where_it_is_silent_pgbouncers_defaults_hold(file: Path) -> None:
    settings = read(file, "[databases]\na = user=u password=p\n[pgbouncer]\nauth_file=/dev/null\n")
    assert settings.settings.auth_type == "md5"
    assert settings.settings.listen_addr == ""
    assert settings.settings.pool_mode == "transaction"
    assert 'auth_type = "md5" (PgBouncer\'s default)' in settings.given
    other = load(environ={"PGFUNNEL_AUTH_TYPE": "trust"}, file=file)
    assert other.auth_type == "trust"


def test_no_secret_is_explained(file: Path) -> None:
    found = read(file, WHOLE.replace("\n reserve_pool", " reserve_pool"))
    assert SECRET not in "".join(found.given)
    assert any("password=***" in line for line in found.given)


@pytest.mark.parametrize(
    "line, words",
    [
        (
            "default_pool_sise = 3",
            "not a setting; did you mean default_pool_size?",
        ),
        ("databases = 3", "databases is not a setting"),
        ("[databases]\npgbouncer = host=h", "is the name of the admin console"),
        (f"[databases]\na = host=h {SECRET}", "a is not a list of key=value"),
        (
            f"[databases]\na = hots=h password={SECRET}",
            "an unknown key hots; did you mean host?",
        ),
        ("[users]\na = host=h", "a has an unknown key host"),
        ("[peers]\nx = host=h", "x is not a peer's number; give 1 to 16383"),
        ("[peers]\n1 = host=h user=u", "1 has an unknown key user"),
        ("[peer]\n1 = host=h", "section [peer] means nothing"),
    ],
)
def test_refused_by_name_and_line(file: Path, line: str, words: str) -> None:
    text = f"[databases]\nx = host=h user=u\n[pgbouncer]\nauth_type = trust\n{line}\n"
    (problem,) = problems(file, text)
    assert problem.startswith(f"{text.count(chr(10))}: ")
    assert words in problem
    assert SECRET not in problem


def test_a_line_before_any_section(file: Path) -> None:
    found = problems(file, "a = 1\n[databases]\nx = host=h\n[pgbouncer]\nauth_type=trust\n")
    assert found[0].startswith("1: a line before any section means nothing")


@pytest.mark.parametrize(
    "line, name",
    [
        ("[pgbouncer]\ndefault_pool_size = none", "default_pool_size"),
        ("[databases]\na = pool_size=none", "databases.a.pool_size"),
        ("[databases]\na = host=,", "databases.a.host"),
        ("[databases]\na = host=h,/run", "databases.a.host"),
        (f"[databases]\na = password={SECRET}", "databases.a"),
        ("[pgbouncer]\nauth_type = pam", "auth_type"),
        (
            "[databases]\na = target_session_attrs=prefer-standby",
            "databases.a.target_session_attrs",
        ),
        ("[pgbouncer]\nuser = nobody-of-this-name", "run_as"),
        ("[pgbouncer]\nunix_socket_group = no-group-of-this-name", "unix_socket_group"),
        ("[pgbouncer]\nlogfile = /no/such/folder/log", "logfile"),
        ("[pgbouncer]\nstats_period = 0", "stats_period"),
    ],
)
def test_a_wrong_value_is_named_with_its_line(file: Path, line: str, name: str) -> None:
    text = f"[databases]\nx = host=h user=u\n[pgbouncer]\nauth_type = trust\n{line}\n"
    (problem,) = problems(file, text)
    assert problem.startswith(f"{name} (6): ")
    assert SECRET not in problem


def test_what_has_no_effect_is_noted_once(file: Path) -> None:
    notes = read(
        file,
        "[pgbouncer]\nauth_type=trust\nsuspend_timeout = 1\nsuspend_timeout = 2\npkt_buf = 4096\n"
        "pkt_buf = 8192\nsbuf_loopcnt = 5\n[databases]\nx = host=h\n"
        "[peers]\n1 = host=h\n2 = host=i\n[pgbouncer]\npeer_id = 3\n",
    ).notes
    assert [note.replace(f"{file}:", "").partition(" is accepted")[0] for note in notes] == [
        "4: suspend_timeout",
        "6: pkt_buf",
    ]


@pytest.mark.parametrize("name", ["a.conf", "a.cfg", "a.ini"])
def test_which_files_are_pgbouncers(tmp_path: Path, name: str) -> None:
    found = read(tmp_path / name, "[pgbouncer]\nauth_type=trust\n[databases]\nx = host=h\n")
    assert found.settings.target("x") is not None


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as refusal:
        load(environ={}, file=tmp_path / "nowhere.ini")
    (problem,) = refusal.value.problems
    assert "nowhere.ini cannot be read (no such file" in problem
    (tmp_path / "odd.ini").write_bytes(b"\xff")
    with pytest.raises(SettingsError, match="is not UTF-8"):
        load(environ={}, file=tmp_path / "odd.ini")


def test_the_environment_and_toml_say_the_same(file: Path, tmp_path: Path) -> None:
    ini = read(
        file,
        "[databases]\nx = host=a,b port=1 timezone=UTC server_lifetime=9\n"
        "[users]\nu = reserve_pool_size=2\n[pgbouncer]\nlisten_addr=127.0.0.1\n"
        "auth_type=trust\nunix_socket_dir=\n",
    ).settings
    toml = tmp_path / "a.toml"
    toml.write_text(
        "auth_type = 'trust'\n[databases.x]\nhost = 'a,b'\nport = 1\ntimezone = 'UTC'\n"
        "server_lifetime = 9\n[users.u]\nreserve_pool_size = 2\n"
    )
    environ = {
        "PGFUNNEL_AUTH_TYPE": "trust",
        "PGFUNNEL_DATABASES": '{"x": {"host": "a,b", "port": 1, "timezone": "UTC",'
        ' "server_lifetime": 9}}',
        "PGFUNNEL_USERS": '{"u": {"reserve_pool_size": "2"}}',
    }
    assert load(environ={}, file=toml).model_dump() == ini.model_dump()
    assert load(environ=environ).model_dump() == ini.model_dump()
    assert isinstance(ini, Settings)


@pytest.mark.parametrize(
    "line, value",
    [
        ("pool_mode = Transaction", "transaction"),
        ("auth_type = TRUST", "trust"),
        ("auth_type = Any", "any"),
        ("server_tls_sslmode = PREFER", "prefer"),
        ("client_tls_sslmode = Disable", "disable"),
        ("client_tls_protocols = TLSv1.2", "tlsv1.2"),
        ("client_tls_protocols = Secure", "secure"),
        ("client_tls_ciphers = Default", "Default"),
        ("client_tls_ecdhcurve = Auto", "auto"),
        ("syslog_facility = DAEMON", "daemon"),
        ("log_pooler_errors = Off", False),
        ("tcp_defer_accept = 45", True),
        ("tcp_defer_accept = 0", False),
        ("tcp_defer_accept = on", True),
        ("max_client_conn = 0", 0),
    ],
)
def test_what_pgbouncer_takes(file: Path, line: str, value: object) -> None:
    here = f"[databases]\nx = host=h user=u\n[pgbouncer]\nauth_type = trust\n{line}\n"
    assert getattr(read(file, here).settings, line.partition(" ")[0]) == value


def test_words_of_databases_and_users_in_upper_case(file: Path) -> None:
    settings = read(
        file,
        "[databases]\nx = host=a,b, pool_mode=Session target_session_attrs=READ-ONLY"
        " load_balance_hosts=Disable\n[users]\nu = pool_mode=STATEMENT\n"
        "[pgbouncer]\nauth_type = trust\n",
    ).settings
    target = settings.target("x")
    assert target is not None
    assert target.hosts == ("a", "b")
    assert (target.pool_mode, target.session_attrs) == ("session", "read-only")
    assert not target.load_balance
    assert settings.users["u"].pool_mode == "statement"
