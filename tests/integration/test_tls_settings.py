"""Versions and ciphers of TLS, direct TLS, channel binding, certificates that change."""

from __future__ import annotations

import itertools
import shutil
import signal
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import psycopg
import pytest

from proxy.relay.tls import ALPN
from proxy.wire import messages
from tests.certificates import Certificates
from tests.conftest import StartFunnel
from tests.funnel import Funnel
from tests.integration.observe import until
from tests.integration.peer import Peer
from tests.postgres import USERS, Postgres


def secure(certificates: Certificates, **more: object) -> dict[str, Any]:
    files = {
        "client_tls_sslmode": "require",
        "client_tls_key_file": certificates.server_key,
        "client_tls_cert_file": certificates.server_crt,
    }
    return {**files, **more}


def over_tls(funnel: Funnel, **options: object) -> psycopg.Connection:
    given = {"sslmode": "require", "autocommit": True, **options}
    return psycopg.connect(funnel.dsn("alice"), **given)  # type: ignore[arg-type]


def handshake(funnel: Funnel, context: ssl.SSLContext, *, direct: bool = False) -> ssl.SSLSocket:
    """TLS with nothing said yet. Raises ssl.SSLError, OSError."""
    sock = socket.create_connection((funnel.host, funnel.port), timeout=10)
    if not direct:
        sock.sendall(messages.ssl_request())
        assert sock.recv(1) == b"S"
    return context.wrap_socket(sock)


def careless() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


# -- versions and ciphers ------------------------------------------------------------------


@pytest.mark.parametrize(
    "protocols, version", [("tlsv1.2", "TLSv1.2"), ("tlsv1.3", "TLSv1.3"), ("secure", "TLSv1.3")]
)
def test_versions(
    pgfunnel: StartFunnel, certificates: Certificates, protocols: str, version: str
) -> None:
    funnel = pgfunnel(**secure(certificates, client_tls_protocols=protocols))
    with handshake(funnel, careless()) as peer:
        assert peer.version() == version
    other = careless()
    other.minimum_version = other.maximum_version = (
        ssl.TLSVersion.TLSv1_3 if version == "TLSv1.2" else ssl.TLSVersion.TLSv1_2
    )
    if protocols == "secure":
        handshake(funnel, other).close()
    else:
        with pytest.raises(ssl.SSLError):
            handshake(funnel, other)


def test_ciphers_and_curve(pgfunnel: StartFunnel, certificates: Certificates) -> None:
    cipher = "ECDHE-RSA-AES256-GCM-SHA384"
    funnel = pgfunnel(
        **secure(
            certificates,
            client_tls_protocols="tlsv1.2",
            client_tls_ciphers=cipher,
            client_tls_ecdhcurve="secp384r1",
        )
    )
    with handshake(funnel, careless()) as peer:
        chosen = peer.cipher()
        assert chosen is not None
        assert chosen[0] == cipher
    other = careless()
    other.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")
    with pytest.raises(ssl.SSLError):
        handshake(funnel, other)
    other = careless()
    other.set_ecdh_curve("prime256v1")
    with pytest.raises(ssl.SSLError):
        handshake(funnel, other)


def test_towards_postgres(pgfunnel: StartFunnel, tls_postgres: Postgres) -> None:
    cipher = "ECDHE-RSA-AES128-GCM-SHA256"
    funnel = pgfunnel(
        tls_postgres,
        server_tls_sslmode="require",
        server_tls_protocols="tlsv1.2",
        server_tls_ciphers=cipher,
    )
    with psycopg.connect(funnel.dsn("alice")) as connection:
        sql = "SELECT version, cipher FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        assert connection.execute(sql).fetchone() == ("TLSv1.2", cipher)


# -- direct TLS ----------------------------------------------------------------------------


@pytest.mark.parametrize("pure", [False, True])
def test_direct_tls(pgfunnel: StartFunnel, certificates: Certificates, pure: bool) -> None:
    if psycopg.pq.version() < 170000:
        pytest.skip("this libpq does not speak TLS directly")
    funnel = pgfunnel(pure=pure, **secure(certificates))
    with over_tls(funnel, sslnegotiation="direct") as connection:
        assert connection.pgconn.ssl_in_use
        blob = "x" * 300_000
        assert connection.execute("SELECT %s::text", [blob]).fetchone() == (blob,)


def test_direct_tls_in_pieces(pgfunnel: StartFunnel, certificates: Certificates) -> None:
    """Each byte of the handshake in a packet of its own."""
    funnel = pgfunnel(**secure(certificates))
    context = careless()
    context.set_alpn_protocols([ALPN])
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing)
    with socket.create_connection((funnel.host, funnel.port), timeout=10) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                for octet in outgoing.read():
                    sock.send(bytes([octet]))
                incoming.write(sock.recv(65536))
        assert tls.selected_alpn_protocol() == ALPN


def test_direct_tls_without_alpn_is_refused(
    pgfunnel: StartFunnel, certificates: Certificates
) -> None:
    """Or another protocol's client could be made to speak to us (ALPACA)."""
    funnel = pgfunnel(**secure(certificates))
    with handshake(funnel, careless(), direct=True) as peer:
        peer.sendall(messages.startup([(b"user", b"alice"), (b"database", b"postgres")]))
        head = peer.recv(5)
        assert head[:1] == b"E"
        error = messages.read_error(peer.recv(int.from_bytes(head[1:], "big")))
    assert error["C"] == "08P01"
    assert "ALPN" in error["M"]


def test_direct_tls_where_there_is_none(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel()
    with pytest.raises(ssl.SSLError):
        handshake(funnel, careless(), direct=True)
    with Peer(funnel.host, funnel.port) as peer:
        peer.log_in("alice", funnel.upstream.database, USERS["alice"])


def behind(front: Funnel, certificates: Certificates) -> dict[str, Any]:
    """Settings of a pgfunnel whose Postgres is another pgfunnel."""
    dsn = front.dsn("alice").replace(front.host, "localhost")
    return {
        "upstream": dsn,
        "server_tls_sslmode": "verify-full",
        "server_tls_ca_file": certificates.ca_crt,
    }


def test_direct_tls_towards_servers(pgfunnel: StartFunnel, certificates: Certificates) -> None:
    """The server is a pgfunnel, which speaks it as Postgres 17 does."""
    server = pgfunnel(**secure(certificates))
    funnel = pgfunnel(
        auth_file=None, server_tls_sslnegotiation="direct", **behind(server, certificates)
    )
    with psycopg.connect(funnel.dsn("alice"), autocommit=True) as connection:
        assert connection.execute("SELECT 42").fetchone() == (42,)


def test_direct_tls_towards_a_postgres_without(
    pgfunnel: StartFunnel, tls_postgres: Postgres
) -> None:
    if int(tls_postgres.version.split(".")[0]) >= 17:
        pytest.skip("this Postgres speaks TLS directly")
    funnel = pgfunnel(
        tls_postgres,
        server_tls_sslmode="require",
        server_tls_sslnegotiation="direct",
        upstream_grace=0,
    )
    with Peer(funnel.host, funnel.port) as peer:
        assert peer.refusal("alice", "postgres", USERS["alice"])["C"] == "08001"


# -- channel binding -----------------------------------------------------------------------


@pytest.mark.parametrize("pure", [False, True])
@pytest.mark.parametrize("sslmode", ["disable", "require"])
def test_clients_bind_scram_to_the_certificate(
    pgfunnel: StartFunnel, certificates: Certificates, pure: bool, sslmode: str
) -> None:
    files = secure(certificates, client_tls_sslmode="prefer")
    funnel = pgfunnel(pure=pure, **files)
    if sslmode == "require":
        with over_tls(funnel, channel_binding="require") as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    else:
        with pytest.raises(psycopg.OperationalError, match="channel binding"):
            over_tls(funnel, channel_binding="require", sslmode="disable")


def test_a_user_list_of_verifiers_and_channel_binding(
    pgfunnel: StartFunnel, certificates: Certificates, postgres: Postgres
) -> None:
    """What SCRAM-SHA-256-PLUS reveals opens Postgres as well."""
    funnel = pgfunnel(auth_file=None, auth_user=postgres.user, **secure(certificates))
    with over_tls(funnel, channel_binding="require") as connection:
        assert connection.execute("SELECT session_user::text").fetchone() == ("alice",)


def test_servers_are_bound_to_their_certificate(
    pgfunnel: StartFunnel, tls_postgres: Postgres
) -> None:
    """Postgres offers it on TLS, and refuses a client that could and does not."""
    funnel = pgfunnel(tls_postgres, server_tls_sslmode="require")
    with psycopg.connect(funnel.dsn("alice")) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_somebody_in_the_middle_is_noticed(
    pgfunnel: StartFunnel, certificates: Certificates, tls_postgres: Postgres
) -> None:
    """A TLS that ends before Postgres: two certificates, one SCRAM conversation."""
    server = pgfunnel(tls_postgres, **secure(certificates))
    middle = _Middle(certificates, server.port)
    with middle, pytest.raises(psycopg.OperationalError, match="channel binding check failed"):
        psycopg.connect(
            server.dsn("alice").replace(str(server.port), str(middle.port)),
            sslmode="require",
            channel_binding="require",
        )


class _Middle:
    """Ends one client's TLS with a certificate of its own and passes on what it says."""

    def __init__(self, certificates: Certificates, port: int) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificates.client_crt, certificates.client_key)
        self._to = port
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._thread.join()

    def _run(self) -> None:
        plain, _ = self._socket.accept()
        assert plain.recv(8) == messages.ssl_request()
        plain.sendall(b"S")
        with (
            self._context.wrap_socket(plain, server_side=True) as client,
            socket.create_connection(("127.0.0.1", self._to)) as there,
        ):
            there.sendall(messages.ssl_request())
            assert there.recv(1) == b"S"
            with careless().wrap_socket(there) as server:
                self._turn_by_turn(client, server)

    @staticmethod
    def _turn_by_turn(client: ssl.SSLSocket, server: ssl.SSLSocket) -> None:
        """SCRAM is question and answer; the end of either side is the end."""
        for source, sink in itertools.cycle([(client, server), (server, client)]):
            octets = source.recv(65536)
            if not octets:
                return
            sink.sendall(octets)


# -- a reload ------------------------------------------------------------------------------


def reload(funnel: Funnel) -> None:
    before = funnel.log().count(" reloaded")
    funnel.signal(signal.SIGHUP)
    until(lambda: funnel.log().count(" reloaded") > before)


def serial(funnel: Funnel) -> bytes:
    with handshake(funnel, careless()) as peer:
        return peer.getpeercert(binary_form=True) or b""


def test_a_new_certificate_drops_nobody(
    pgfunnel: StartFunnel, certificates: Certificates, tmp_path: Path
) -> None:
    key, crt = tmp_path / "server.key", tmp_path / "server.crt"
    shutil.copy(certificates.server_key, key)
    shutil.copy(certificates.server_crt, crt)
    files = {"client_tls_key_file": key, "client_tls_cert_file": crt}
    funnel = pgfunnel(**secure(certificates, **files))
    old = serial(funnel)
    with over_tls(funnel) as before:
        certificates.make_leaf("newer", "/CN=localhost")
        shutil.copy(certificates.newer_key, key)
        shutil.copy(certificates.newer_crt, crt)
        reload(funnel)
        assert serial(funnel) != old
        assert before.execute("SELECT 1").fetchone() == (1,)
        with over_tls(funnel, channel_binding="require") as after:
            assert after.execute("SELECT 2").fetchone() == (2,)


def test_a_broken_certificate_changes_nothing(
    pgfunnel: StartFunnel, certificates: Certificates, tmp_path: Path
) -> None:
    crt = tmp_path / "server.crt"
    shutil.copy(certificates.server_crt, crt)
    funnel = pgfunnel(**secure(certificates, client_tls_cert_file=crt))
    old = serial(funnel)
    crt.write_text("nothing")
    funnel.signal(signal.SIGHUP)
    until(lambda: "config file loading failed" in funnel.log())
    assert "client_tls_cert_file" in funnel.log()
    assert serial(funnel) == old


def test_servers_stay_when_nothing_has_changed(
    pgfunnel: StartFunnel, tls_postgres: Postgres, tmp_path: Path
) -> None:
    """And go at their next boundary when the authority has."""
    assert tls_postgres.certificate is not None
    ca = tmp_path / "ca.crt"
    shutil.copy(tls_postgres.certificate, ca)
    funnel = pgfunnel(tls_postgres, server_tls_sslmode="verify-ca", server_tls_ca_file=ca)
    with psycopg.connect(funnel.dsn("alice"), autocommit=True) as connection:

        def backend() -> tuple[int]:
            found = connection.execute("SELECT pg_backend_pid()").fetchone()
            assert found is not None
            return (int(found[0]),)

        first = backend()
        reload(funnel)
        assert backend() == first
        ca.write_text(ca.read_text() * 2)
        connection.execute("BEGIN")
        reload(funnel)
        assert backend() == first
        connection.execute("COMMIT")
        until(lambda: backend() != first)
