"""TLS towards clients and towards Postgres, in each mode."""

from __future__ import annotations

import select
import socket

import psycopg
import pytest

from proxy.wire import messages
from tests.certificates import Certificates
from tests.conftest import StartFunnel
from tests.funnel import Funnel
from tests.integration.observe import pool_metric, until
from tests.integration.peer import Peer
from tests.postgres import USERS, Postgres
from tests.wireclient import Wire, bind, parse, query


def tls_funnel(
    pgfunnel: StartFunnel, certificates: Certificates, mode: str, *, pure: bool = False
) -> Funnel:
    return pgfunnel(
        pure=pure,
        default_pool_size=2,
        client_tls_sslmode=mode,
        client_tls_key_file=certificates.server_key,
        client_tls_cert_file=certificates.server_crt,
        client_tls_ca_file=certificates.ca_crt if mode.startswith("verify") else None,
    )


def encrypted(funnel: Funnel, **options: object) -> bool:
    """Log in, move some data, and tell whether it went over TLS."""
    parameters = {"host": "localhost", "hostaddr": funnel.host, **options}
    with psycopg.connect(funnel.dsn("alice"), **parameters) as connection:  # type: ignore[arg-type]
        blob = "x" * 300_000
        row = connection.execute("SELECT %s::text || 'y'", [blob]).fetchone()
        assert row == (blob + "y",)
        return bool(connection.pgconn.ssl_in_use)


@pytest.mark.parametrize("pure", [False, True])
def test_clients_may_use_tls(pgfunnel: StartFunnel, certificates: Certificates, pure: bool) -> None:
    funnel = tls_funnel(pgfunnel, certificates, "prefer", pure=pure)
    assert encrypted(funnel, sslmode="verify-full", sslrootcert=str(certificates.ca_crt))
    assert encrypted(funnel, sslmode="require")
    assert not encrypted(funnel, sslmode="disable")


def test_clients_must_use_tls(pgfunnel: StartFunnel, certificates: Certificates) -> None:
    funnel = tls_funnel(pgfunnel, certificates, "require")
    assert encrypted(funnel, sslmode="require")
    with Peer(funnel.host, funnel.port) as peer:
        peer.start("alice", funnel.upstream.database)
        refused = peer.error()
    assert refused["C"] == "28000"
    assert "SSL required" in refused["M"]
    assert "sslmode=require" in refused["H"]


def test_clients_cannot_use_tls(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel()
    assert not encrypted(funnel, sslmode="prefer")
    with pytest.raises(psycopg.OperationalError, match="does not support SSL"):
        encrypted(funnel, sslmode="require")


def test_clients_must_show_a_certificate(pgfunnel: StartFunnel, certificates: Certificates) -> None:
    funnel = tls_funnel(pgfunnel, certificates, "verify-ca")
    shown = {"sslcert": str(certificates.client_crt), "sslkey": str(certificates.client_key)}
    assert encrypted(funnel, sslmode="require", **shown)
    with pytest.raises(psycopg.OperationalError, match="certificate required"):
        encrypted(funnel, sslmode="require")


def test_plaintext_behind_an_ssl_request_is_refused(
    pgfunnel: StartFunnel, certificates: Certificates
) -> None:
    """What a man in the middle would slip in (CVE-2021-23214)."""
    funnel = tls_funnel(pgfunnel, certificates, "prefer")
    with Peer(funnel.host, funnel.port) as peer:
        peer.send(messages.ssl_request() + messages.startup([(b"user", b"alice")]))
        assert peer.octets(1) == b"E"
        assert peer.ended()
    with Peer(funnel.host, funnel.port) as peer:
        peer.send(messages.ssl_request())
        assert peer.octets(1) == b"S"
        peer.start("alice", funnel.upstream.database)
        assert peer.ended()
    assert encrypted(funnel, sslmode="require")


def test_a_hundred_clients_over_tls(pgfunnel: StartFunnel, certificates: Certificates) -> None:
    funnel = tls_funnel(pgfunnel, certificates, "require")
    connections = [psycopg.connect(funnel.dsn("alice"), autocommit=True) for _ in range(100)]
    for n, connection in enumerate(connections):
        assert connection.execute("SELECT %s::int", [n]).fetchone() == (n,)
    for connection in connections:
        connection.close()


def through(funnel: Funnel) -> bool:
    """Whether the server that answers is spoken to over TLS."""
    sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    with psycopg.connect(funnel.dsn("alice")) as connection:
        row = connection.execute(sql).fetchone()
    assert row is not None
    return bool(row[0])


@pytest.mark.parametrize(
    "mode, expected",
    [
        ("disable", False),
        ("allow", False),
        ("prefer", True),
        ("require", True),
        ("verify-ca", True),
        ("verify-full", True),
    ],
)
def test_to_a_postgres_with_tls(
    pgfunnel: StartFunnel, shared_tls_postgres: Postgres, mode: str, expected: bool
) -> None:
    ca = shared_tls_postgres.certificate if mode.startswith("verify") else None
    funnel = pgfunnel(shared_tls_postgres, server_tls_sslmode=mode, server_tls_ca_file=ca)
    assert through(funnel) is expected


@pytest.fixture
def shared_tls_postgres(tls_postgres: Postgres) -> Postgres:
    assert tls_postgres.certificate is not None
    tls_postgres.certificate.parent.chmod(0o755)
    tls_postgres.certificate.chmod(0o644)
    return tls_postgres


def refused(funnel: Funnel) -> dict[str, str]:
    with Peer(funnel.host, funnel.port) as peer:
        return peer.refusal("alice", funnel.upstream.database, USERS["alice"])


def test_the_wrong_authority(
    pgfunnel: StartFunnel, shared_tls_postgres: Postgres, certificates: Certificates
) -> None:
    funnel = pgfunnel(
        shared_tls_postgres,
        server_tls_sslmode="verify-ca",
        server_tls_ca_file=certificates.ca_crt,
        upstream_grace=0,
    )
    error = refused(funnel)
    assert error["C"] == "08001"
    assert "certificate verify failed" in error["M"]


def test_the_wrong_name(pgfunnel: StartFunnel, shared_tls_postgres: Postgres) -> None:
    """The certificate is for localhost and 127.0.0.1; 127.1 is the same address."""
    place = {"upstream": shared_tls_postgres.dsn.replace("127.0.0.1", "127.1")}
    place["upstream_grace"] = "0"
    place["server_tls_ca_file"] = str(shared_tls_postgres.certificate)
    careless = pgfunnel(shared_tls_postgres, server_tls_sslmode="verify-ca", **place)  # type: ignore[arg-type]
    assert through(careless) is True
    careful = pgfunnel(shared_tls_postgres, server_tls_sslmode="verify-full", **place)  # type: ignore[arg-type]
    error = refused(careful)
    assert error["C"] == "08001"
    assert "127.1" in error["M"]


@pytest.mark.parametrize("mode", ["prefer", "require"])
def test_to_a_postgres_without_tls(pgfunnel: StartFunnel, postgres: Postgres, mode: str) -> None:
    funnel = pgfunnel(server_tls_sslmode=mode, upstream_grace=0)
    if mode == "prefer":
        assert through(funnel) is False
        return
    error = refused(funnel)
    assert error["C"] == "08001"
    assert "server_tls_sslmode" in error["M"]


@pytest.mark.parametrize("mode", ["disable", "require"])
@pytest.mark.parametrize("pure", [False, True])
def test_a_client_that_dies_in_mid_message_costs_no_place(
    pgfunnel: StartFunnel, shared_tls_postgres: Postgres, mode: str, pure: bool
) -> None:
    """Postgres waits for the rest of the message, and must hear that none will come."""
    funnel = pgfunnel(shared_tls_postgres, server_tls_sslmode=mode, default_pool_size=1, pure=pure)
    with Wire(funnel.host, funnel.port, "alice", "postgres", USERS["alice"]) as dying:
        dying.send(parse("", "SELECT $1::text"), bind("", "", ["x" * 200_000])[:100_000])
        until(lambda: pool_metric(funnel, "pgfunnel_servers", state="active") == 1)
    with psycopg.connect(funnel.dsn("alice"), connect_timeout=5) as connection:
        connection.execute("SELECT 1")


@pytest.mark.parametrize("mode", ["disable", "require"])
@pytest.mark.parametrize("pure", [False, True])
def test_a_client_that_dies_with_its_pipeline_blocked_costs_no_place(
    pgfunnel: StartFunnel, shared_tls_postgres: Postgres, mode: str, pure: bool
) -> None:
    """What is left of it is dropped, and Postgres hears the end."""
    funnel = pgfunnel(
        shared_tls_postgres,
        server_tls_sslmode=mode,
        default_pool_size=1,
        tcp_socket_buffer=65536,
        pure=pure,
    )
    with Wire(funnel.host, funnel.port, "alice", "postgres", USERS["alice"]) as dying:
        dying.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        dying.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        many = query("SELECT 1") * 1000
        sent = 0
        while select.select([], [dying.socket], [], 1.0)[1]:
            sent += dying.socket.send(many[sent % len(many) :])
    with psycopg.connect(funnel.dsn("alice"), connect_timeout=30) as connection:
        connection.execute("SELECT 1")
