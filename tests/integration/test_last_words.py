"""Who is closed for a reason gets to read it."""

from __future__ import annotations

import signal
import ssl
from pathlib import Path

import pytest

from proxy.relay.lingering import MOST
from proxy.wire import messages
from tests.certificates import Certificates
from tests.conftest import StartFunnel
from tests.funnel import Funnel
from tests.integration.observe import until
from tests.integration.peer import Peer
from tests.postgres import USERS
from tests.wireclient import SSL_REQUEST

ONE = messages.query(b"SELECT 1")


def refused(funnel: Funnel) -> Peer:
    """A peer that has not said who it is, and has not heard yet what is said to that."""
    peer = Peer(funnel.host, funnel.port)
    peer.send(messages.startup([(b"database", b"postgres")]))
    return peer


def files(funnel: Funnel) -> int:
    return len(list(Path(f"/proc/{funnel.pid}/fd").iterdir()))


def test_what_is_on_its_way_is_not_answered_with_a_reset(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(drain_timeout=60, max_client_conn=2)
    with Peer(funnel.host, funnel.port) as busy, Peer(funnel.host, funnel.port) as idle:
        for peer in (busy, idle):
            peer.log_in("alice", funnel.upstream.database, USERS["alice"])
        busy.query("BEGIN")
        with Peer(funnel.host, funnel.port) as third:
            third.start("alice", funnel.upstream.database)
            assert third.error()["C"] == "53300"
            third.send(ONE)
            third.send(ONE)
            assert third.socket.recv(1) == b""
        funnel.signal(signal.SIGTERM)
        assert idle.error()["C"] == "57P01"
        idle.send(ONE)
        idle.send(ONE)
        assert idle.socket.recv(1) == b""


def test_nobody_lingers_for_long(pgfunnel: StartFunnel) -> None:
    """However many there are, and whether or not they read."""
    funnel = pgfunnel()
    before = files(funnel)
    peers = [refused(funnel) for _ in range(MOST + 50)]
    for peer in peers:
        assert peer.error()["C"] == "28000"
    assert files(funnel) <= before + MOST + 8  # others come and go
    until(lambda: files(funnel) <= before)
    assert funnel.metrics()['pgfunnel_clients{state="login"}'] == 0
    for peer in peers:
        assert peer.socket.recv(1) == b""
        peer.socket.close()


def test_who_closes_at_once_is_closed_at_once(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel()
    before = files(funnel)
    for _ in range(20):
        with refused(funnel) as peer:
            peer.error()
    until(lambda: files(funnel) <= before, 0.4)


@pytest.mark.parametrize("pure", [False, True])
def test_tls_ends_in_good_order(
    pgfunnel: StartFunnel, certificates: Certificates, *, pure: bool
) -> None:
    funnel = pgfunnel(
        pure=pure,
        client_tls_sslmode="require",
        client_tls_key_file=certificates.server_key,
        client_tls_cert_file=certificates.server_crt,
    )
    context = ssl.create_default_context(cafile=str(certificates.ca_crt))
    context.check_hostname = False
    with Peer(funnel.host, funnel.port) as peer:
        peer.send(SSL_REQUEST)
        assert peer.octets(1) == b"S"
        peer.socket = context.wrap_socket(peer.socket, suppress_ragged_eofs=False)
        peer.log_in("alice", funnel.upstream.database, USERS["alice"])
        funnel.signal(signal.SIGTERM)
        assert peer.error()["C"] == "57P01"
        assert peer.socket.recv(1) == b""  # a close_notify: without it this raises


def test_a_tls_handshake_that_stalls(pgfunnel: StartFunnel, certificates: Certificates) -> None:
    """There is no way to say anything; it ends all the same."""
    funnel = pgfunnel(
        client_login_timeout=0.5,
        client_tls_sslmode="require",
        client_tls_key_file=certificates.server_key,
        client_tls_cert_file=certificates.server_crt,
    )
    with Peer(funnel.host, funnel.port) as peer:
        peer.send(SSL_REQUEST)
        assert peer.octets(1) == b"S"
        assert peer.socket.recv(1) == b""
    until(lambda: "login_timeout" in funnel.log())
