"""What must fit together between settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.errors import SettingsError
from proxy.settings import load

UPSTREAM = "postgresql://u:p@h/app"


def problems(file: Path | None = None, /, **values: str) -> list[str]:
    environ = {f"PGFUNNEL_{name.upper()}": value for name, value in values.items()}
    try:
        load(environ=environ, file=file)
    except SettingsError as error:
        return error.problems
    return []


@pytest.fixture
def pem(tmp_path: Path) -> str:
    path = tmp_path / "some.pem"
    path.write_text("")
    return str(path)


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    return tmp_path / "pgfunnel.toml"


def test_nowhere_to_go() -> None:
    assert problems() == [
        "upstream: is not set; give postgresql://user:password@host, or add databases"
    ]


def test_no_database_at_all_if_that_is_what_is_said(toml: Path) -> None:
    toml.write_text("databases = {}")
    assert problems(toml) == []


def test_a_database_without_a_host_needs_an_upstream(toml: Path) -> None:
    toml.write_text("auth_type = 'trust'\n[databases.app]\nport = 1")
    (problem,) = problems(toml)
    assert problem.startswith(f"databases.app (file {toml}, key databases.app): names no host")
    assert problems(toml, upstream=UPSTREAM) == []


def test_a_database_cannot_have_the_consoles_name() -> None:
    (problem,) = problems(databases='{"pgbouncer": "postgresql://u@h/app"}', auth_type="trust")
    assert problem.startswith("databases.pgbouncer (environment variable PGFUNNEL_DATABASES)")
    assert "is the name of the console; give the database another name" in problem


@pytest.mark.parametrize("upstream", ["postgresql://h", "postgresql://u@h"])
def test_nobody_could_log_in(upstream: str, pem: str) -> None:
    (problem,) = problems(upstream=upstream)
    assert problem.startswith("auth_type: is scram-sha-256 but no user has a secret")
    assert problems(upstream=upstream, auth_type="trust") == []
    assert problems(upstream=upstream, auth_file=pem) == []
    assert problems(upstream=upstream, auth_user="looker") == []


def test_rules_need_a_file(pem: str) -> None:
    (problem,) = problems(upstream=UPSTREAM, auth_type="hba")
    assert "is hba; set auth_hba_file" in problem
    assert problems(upstream=UPSTREAM, auth_type="hba", auth_hba_file=pem) == []


def test_any_needs_a_user_for_each_database(toml: Path) -> None:
    toml.write_text("auth_type = 'any'\n[databases.a]\nhost = 'h'\nuser = 'u'\n")
    assert problems(toml) == []
    (problem,) = problems(toml, upstream=UPSTREAM)
    assert "cannot go with auth_type any" in problem
    toml.write_text("auth_type = 'any'\n[databases.a]\nhost = 'h'\n")
    (problem,) = problems(toml)
    assert "names no user, which auth_type any needs" in problem


def test_certificates_need_tls_and_authorities(pem: str) -> None:
    (problem,) = problems(upstream=UPSTREAM, auth_type="cert")
    assert "client_tls_sslmode is disable" in problem
    tls = {"client_tls_key_file": pem, "client_tls_cert_file": pem, "auth_type": "cert"}
    (problem,) = problems(upstream=UPSTREAM, client_tls_sslmode="require", **tls)
    assert "set client_tls_ca_file" in problem
    whole = {**tls, "client_tls_sslmode": "require", "client_tls_ca_file": pem}
    assert problems(upstream=UPSTREAM, **whole) == []


def test_peers_need_a_unix_socket(tmp_path: Path) -> None:
    (problem,) = problems(upstream=UPSTREAM, auth_type="peer")
    assert "set unix_socket_dir" in problem
    assert problems(upstream=UPSTREAM, auth_type="peer", unix_socket_dir=str(tmp_path)) == []


def test_direct_tls_is_never_a_maybe() -> None:
    (problem,) = problems(upstream=UPSTREAM, server_tls_sslnegotiation="direct")
    assert "is direct and sslmode is prefer for upstream; set it to require or more" in problem
    direct = {"server_tls_sslnegotiation": "direct"}
    assert problems(upstream=UPSTREAM, server_tls_sslmode="require", **direct) == []
    assert problems(upstream=f"{UPSTREAM}?sslmode=require", **direct) == []


def test_direct_tls_of_single_databases(toml: Path) -> None:
    here = '[databases.here]\nhost = "/tmp"\n[databases.there]\nhost = "h"\nsslmode = "allow"\n'
    toml.write_text(f'server_tls_sslnegotiation = "direct"\n{here}')
    (problem,) = problems(toml, auth_type="trust")
    assert "allow for databases.there" in problem


def test_nowhere_to_listen(tmp_path: Path) -> None:
    (problem,) = problems(upstream=UPSTREAM, listen_addr=" ")
    assert "unix_socket_dir" in problem
    assert problems(upstream=UPSTREAM, listen_addr="", unix_socket_dir=str(tmp_path)) == []


@pytest.mark.parametrize(
    "listen_addr, http_addr, clash",
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("*", "10.0.0.1", True),
        ("10.0.0.1", "0.0.0.0", True),
        ("10.0.0.1", "127.0.0.1", False),
    ],
)
def test_one_port_for_two_things(*, listen_addr: str, http_addr: str, clash: bool) -> None:
    found = problems(
        upstream=UPSTREAM, listen_addr=listen_addr, http_addr=http_addr, http_port="6432"
    )
    assert [problem.partition(" (")[0] for problem in found] == ["http_port"] * clash


def test_free_ports_do_not_clash() -> None:
    assert problems(upstream=UPSTREAM, listen_port="0", http_port="0") == []


def test_sizes_need_not_fit(toml: Path) -> None:
    """As in PgBouncer, the smaller number holds."""
    toml.write_text("[databases.app]\npool_size = 40\nmin_pool_size = 50\nmax_db_connections = 3\n")
    assert problems(toml, upstream=UPSTREAM, min_pool_size="21", max_db_connections="19") == []


def test_client_tls_needs_key_and_certificate(pem: str) -> None:
    (problem,) = problems(upstream=UPSTREAM, client_tls_sslmode="require")
    assert "client_tls_key_file and client_tls_cert_file" in problem
    whole = {"upstream": UPSTREAM, "client_tls_key_file": pem, "client_tls_cert_file": pem}
    assert problems(None, **whole, client_tls_sslmode="require") == []
    (problem,) = problems(None, **whole, client_tls_sslmode="verify-ca")
    assert "client_tls_ca_file" in problem


@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("given, missing", [("key", "cert"), ("cert", "key")])
def test_a_key_needs_its_certificate(side: str, given: str, missing: str, pem: str) -> None:
    (problem,) = problems(None, upstream=UPSTREAM, **{f"{side}_tls_{given}_file": pem})
    assert problem.startswith(f"{side}_tls_{given}_file (environment")
    assert f"set {side}_tls_{missing}_file too" in problem


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
def test_verifying_servers_needs_authorities(mode: str, pem: str, toml: Path) -> None:
    (problem,) = problems(upstream=UPSTREAM, server_tls_sslmode=mode)
    assert problem.startswith("server_tls_sslmode")
    assert "server_tls_ca_file" in problem
    (problem,) = problems(upstream=f"{UPSTREAM}?sslmode={mode}")
    assert problem.startswith("upstream (environment variable PGFUNNEL_UPSTREAM)")
    toml.write_text(f"databases.app.sslmode = '{mode}'")
    (problem,) = problems(toml, upstream=UPSTREAM)
    assert problem.startswith("databases.app ")
    assert problems(toml, upstream=UPSTREAM, server_tls_ca_file=pem) == []


def test_checks_leave_out_what_is_wrong_itself() -> None:
    (problem,) = problems(upstream="h", databases='{"a": {}}')
    assert problem.startswith("upstream ")
