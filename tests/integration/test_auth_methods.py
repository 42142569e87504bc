"""auth_type any, cert, peer and hba; HBA rules and ident maps at work."""

from __future__ import annotations

import getpass
import signal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from proxy.auth import codes
from proxy.auth.md5 import md5_secret
from tests.certificates import Certificates
from tests.conftest import StartFunnel
from tests.funnel import Funnel
from tests.integration.console import Operator
from tests.integration.observe import until
from tests.integration.peer import Peer
from tests.postgres import USERS, Postgres

ME = getpass.getuser()


def whoami(dsn: str, **options: object) -> str:
    with psycopg.connect(dsn, **options) as connection:  # type: ignore[arg-type]
        row = connection.execute("SELECT session_user::text").fetchone()
    assert row is not None
    return str(row[0])


def refusal(funnel: Funnel, user: str, password: str = "") -> dict[str, str]:
    with Peer(funnel.host, funnel.port) as peer:
        return peer.refusal(user, funnel.upstream.database, password)


def asked_for(funnel: Funnel, user: str) -> int:
    """The authentication that a plain TCP client is asked for."""
    with Peer(funnel.host, funnel.port) as peer:
        peer.start(user, funnel.upstream.database)
        kind, body = peer.message()
        assert kind == b"R"
        return int.from_bytes(body[:4], "big")


def secure(certificates: Certificates, mode: str = "prefer") -> dict[str, Any]:
    return {
        "client_tls_sslmode": mode,
        "client_tls_key_file": certificates.server_key,
        "client_tls_cert_file": certificates.server_crt,
        "client_tls_ca_file": certificates.ca_crt,
    }


def shown(certificates: Certificates, name: str = "client") -> dict[str, str]:
    crt, key = certificates.folder / f"{name}.crt", certificates.folder / f"{name}.key"
    return {"sslmode": "require", "sslcert": str(crt), "sslkey": str(key)}


def test_a_secret_that_postgres_does_not_take_is_told_of_at_once(
    pgfunnel: StartFunnel, tmp_path: Path
) -> None:
    (tmp_path / "hba.conf").write_text("host all all all md5\n")
    (tmp_path / "users").write_text(f'"alice" "{md5_secret("alice", USERS["alice"])}"\n')
    funnel = pgfunnel(
        auth_type="hba", auth_hba_file=tmp_path / "hba.conf", auth_file=tmp_path / "users"
    )
    refused = refusal(funnel, "alice", USERS["alice"])
    assert refused["C"] == "28000"
    assert "server asks for a password (scram-sha-256)" in refused["M"]
    until(lambda: funnel.log().count("server login failed: FATAL") == 1)


def test_any_name_comes_in(pgfunnel: StartFunnel, postgres: Postgres) -> None:
    place = {"host": postgres.host, "port": postgres.port, "dbname": postgres.database}
    login = {"user": "alice", "password": USERS["alice"]}
    funnel = pgfunnel(
        upstream=None, auth_type="any", auth_file=None, databases={"app": {**place, **login}}
    )
    for user in ("alice", "somebody", "else"):
        assert whoami(funnel.dsn(user, "", "app")) == "alice"


def test_any_name_means_nothing(pgfunnel: StartFunnel, postgres: Postgres) -> None:
    """Limits are those of the user that everybody is, and the console is open to all."""
    place = {"host": postgres.host, "port": postgres.port, "dbname": postgres.database}
    funnel = pgfunnel(
        upstream=None,
        auth_type="any",
        auth_file=None,
        databases={"app": {**place, "user": "alice", "password": USERS["alice"]}},
        users={"alice": {"max_user_client_connections": 1}},
    )
    with psycopg.connect(funnel.dsn("somebody", "", "app")):
        with Operator(funnel, "nobody in particular") as operator:
            assert operator.row("CLIENTS", database="app")["user"] == "alice"
            assert operator.say("RELOAD") == "RELOAD"
        with pytest.raises(psycopg.OperationalError, match="max_user_client_connections"):
            whoami(funnel.dsn("else", "", "app"))


@pytest.mark.parametrize("pure", [False, True])
def test_a_certificate_names_the_user(
    pgfunnel: StartFunnel, certificates: Certificates, pure: bool
) -> None:
    funnel = pgfunnel(auth_type="cert", pure=pure, **secure(certificates, "require"))
    assert whoami(funnel.dsn("alice", ""), **shown(certificates)) == "alice"
    words = 'certificate authentication failed for user "bob"'
    with pytest.raises(psycopg.OperationalError, match=words):
        whoami(funnel.dsn("bob", ""), **shown(certificates))
    with pytest.raises(psycopg.OperationalError, match="requires a valid client certificate"):
        whoami(funnel.dsn("alice"), sslmode="require")
    assert "it is alice outside" in funnel.log()


def test_a_certificate_of_somebody_unknown(
    pgfunnel: StartFunnel, certificates: Certificates
) -> None:
    """As with trust, the name must be known here."""
    certificates.make_leaf("stranger", "/CN=stranger")
    certificates.make_leaf("two", "/CN=bob/CN=alice")
    funnel = pgfunnel(auth_type="cert", **secure(certificates, "verify-full"))
    with pytest.raises(psycopg.OperationalError, match="failed for user"):
        whoami(funnel.dsn("stranger", ""), **shown(certificates, "stranger"))
    for user in ("alice", "bob"):
        with pytest.raises(psycopg.OperationalError, match="certificate authentication failed"):
            whoami(funnel.dsn(user, ""), **shown(certificates, "two"))


def test_peers_of_the_unix_socket(
    pgfunnel: StartFunnel, own_postgres: Postgres, tmp_path: Path
) -> None:
    own_postgres.psql(f"CREATE ROLE \"{ME}\" LOGIN PASSWORD 'mine'")
    users = tmp_path / "users.txt"
    users.write_text(f'"{ME}" "mine"\n"alice" "{USERS["alice"]}"\n')
    funnel = pgfunnel(own_postgres, auth_type="peer", auth_file=users, unix_socket_dir=tmp_path)
    here = {"host": str(tmp_path), "hostaddr": None}
    assert whoami(funnel.dsn(ME, ""), **here) == ME
    with pytest.raises(psycopg.OperationalError, match="unix socket login rejected"):
        whoami(funnel.dsn("alice"), **here)
    error = refusal(funnel, ME)
    assert (error["C"], error["M"]) == ("28000", "unix socket login rejected")


RULES = """
local     all   all                  peer map=people
hostssl   all   dave  127.0.0.1/32   scram-sha-256 clientcert=verify-ca
hostssl   all   bob   127.0.0.1/32   cert map=people
hostssl   all   all   127.0.0.1/32   password
host      all   carol 127.0.0.1/32   md5
host      all   bob   127.0.0.1/32   reject
host      all   "alice" all          scram-sha-256
"""
MAPS = f"""
people {ME}  carol
people alice bob
"""


@pytest.fixture
def ruled(pgfunnel: StartFunnel, certificates: Certificates, tmp_path: Path) -> Funnel:
    rules, maps = tmp_path / "hba.conf", tmp_path / "ident.conf"
    rules.write_text(RULES)
    maps.write_text(MAPS)
    return pgfunnel(
        auth_type="hba",
        auth_hba_file=rules,
        auth_ident_file=maps,
        unix_socket_dir=tmp_path,
        **secure(certificates),
    )


def test_rules_say_how(ruled: Funnel, certificates: Certificates, tmp_path: Path) -> None:
    assert asked_for(ruled, "alice") == codes.SASL
    assert asked_for(ruled, "carol") == codes.MD5
    assert whoami(ruled.dsn("carol", ""), host=str(tmp_path)) == "carol"
    assert whoami(ruled.dsn("alice", ""), **shown(certificates), password=USERS["alice"]) == "alice"
    assert whoami(ruled.dsn("bob", ""), **shown(certificates)) == "bob"
    assert whoami(ruled.dsn("dave"), **shown(certificates)) == "dave"
    with pytest.raises(psycopg.OperationalError, match="requires a valid client certificate"):
        whoami(ruled.dsn("dave"), sslmode="require")
    with pytest.raises(psycopg.OperationalError, match="unix socket login rejected"):
        whoami(ruled.dsn("alice"), host=str(tmp_path))


def test_whom_the_rules_do_not_let_in(ruled: Funnel) -> None:
    for user, words, why in (
        ("bob", "login rejected", "line 7 of auth_hba_file rejects"),
        ("dave", "no authentication method is found", "without TLS"),
    ):
        error = refusal(ruled, user, USERS[user])
        assert (error["C"], error["M"]) == ("28000", words)
        assert why not in str(error)
        until(lambda why=why: why in ruled.log())  # type: ignore[misc]


def test_rules_are_read_anew(ruled: Funnel, tmp_path: Path) -> None:
    """A broken file changes nothing; a good one holds from the next client on."""
    with Peer(ruled.host, ruled.port) as peer:
        peer.log_in("alice", ruled.upstream.database, USERS["alice"])
        (tmp_path / "hba.conf").write_text("host all all all md5\nhost all all samenet md5\n")
        ruled.signal(signal.SIGHUP)
        until(lambda: "hba.conf:2: samenet is not supported" in ruled.log())
        assert asked_for(ruled, "alice") == codes.SASL
        (tmp_path / "hba.conf").write_text("host all all all password\n")
        ruled.signal(signal.SIGHUP)
        until(lambda: " reloaded" in ruled.log())
        assert asked_for(ruled, "alice") == codes.CLEARTEXT
        assert peer.rows("SELECT 1") == [[b"1"]]
