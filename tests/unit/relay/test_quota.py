"""Limits of clients by database and user; turns through several hosts; options of sockets."""

from __future__ import annotations

import socket

import pytest

from proxy.errors import TooManyClients
from proxy.relay.connect import Keepalive
from proxy.relay.hosts import HostTurn
from proxy.relay.quota import Quota


def test_each_has_its_limit() -> None:
    quota = Quota()
    quota.enter("a", "db", "u", (2, 1))
    with pytest.raises(TooManyClients, match=r"exceeded \(max_user_client_connections\)"):
        quota.enter("b", "db", "u", (2, 1))
    quota.enter("b", "db", "v", (2, 1))
    with pytest.raises(TooManyClients, match=r"exceeded \(max_db_client_connections\)"):
        quota.enter("c", "db", "w", (2, 1))
    quota.leave("a")
    quota.leave("a")
    quota.leave("c")
    quota.enter("c", "db", "u", (2, 1))


def test_no_limit() -> None:
    quota = Quota()
    for client in range(100):
        quota.enter(client, "db", "u", (0, 0))
    with pytest.raises(TooManyClients):
        quota.enter("late", "db", "u", (100, 0))


def test_hosts_in_turn() -> None:
    turn = HostTurn()
    hosts = ("a", "b")
    assert [turn.take(hosts, in_turn=True) for _ in range(3)] == ["a", "b", "a"]
    turn.failed(hosts, "b", in_turn=True)
    assert turn.take(hosts, in_turn=True) == "b"
    assert turn.take(("c",), in_turn=True) == "c"


def test_one_host_until_it_fails() -> None:
    turn = HostTurn()
    hosts = ("a", "b")
    assert [turn.take(hosts, in_turn=False) for _ in range(2)] == ["a", "a"]
    turn.failed(hosts, "a", in_turn=False)
    turn.failed(hosts, "a", in_turn=False)
    assert turn.take(hosts, in_turn=False) == "b"
    turn.failed(hosts, "b", in_turn=False)
    assert turn.take(hosts, in_turn=False) == "a"


def test_socket_buffers() -> None:
    with socket.socket() as sock:
        Keepalive(buffer=20000).apply(sock)
        # Linux doubles what it is asked for, socket(7).
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            assert sock.getsockopt(socket.SOL_SOCKET, option) in (20000, 40000)
