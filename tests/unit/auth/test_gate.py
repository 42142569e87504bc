"""Which way a client has to take: one for everybody, or what the rules say."""

from __future__ import annotations

import ipaddress

import pytest

from proxy.auth.gate import Gate, Way, gate_for
from proxy.auth.hba import Attempt, parse_hba
from proxy.errors import SettingsError

RULES = """
local   all all                peer map=people
hostssl app all 10.0.0.0/8     cert map=people
hostssl all all 10.0.0.0/8     scram-sha-256 clientcert=verify-full
hostssl all all 11.0.0.0/8     md5 clientcert=verify-ca
host    all bob 0.0.0.0/0      reject
host    all all 10.0.0.0/8     password
"""


def rules(text: str) -> Gate:
    return Gate(None, parse_hba(text, "hba", str))


def attempt(
    address: str | None, *, database: str = "x", user: str = "alice", tls: bool = False
) -> Attempt:
    parsed = ipaddress.ip_address(address) if address else None
    return Attempt(database, user, parsed, tls=tls)


@pytest.mark.parametrize(
    "client, way",
    [
        (attempt(None), Way("peer", "people")),
        (attempt("10.1.1.1", database="app", tls=True), Way("cert", "people", "verify-full")),
        (attempt("10.1.1.1", tls=True), Way("scram-sha-256", None, "verify-full")),
        (attempt("11.1.1.1", tls=True), Way("md5", None, "verify-ca")),
        (attempt("10.1.1.1"), Way("password")),
        (attempt("10.1.1.1", user="bob"), None),
        (attempt("12.1.1.1"), None),
    ],
)
def test_the_rules_decide(client: Attempt, way: Way | None) -> None:
    assert rules(RULES).way(client) == way


def test_the_log_says_why_nobody_comes_in() -> None:
    gate = rules(RULES)
    told, why = gate.refusal(attempt("10.1.1.1", user="bob"))
    assert (told, why) == ("login rejected", "line 6 of auth_hba_file rejects it")
    told, why = gate.refusal(attempt("12.1.1.1"))
    assert told == "no authentication method is found"
    assert "12.1.1.1, without TLS" in why
    assert "with TLS" in gate.refusal(attempt("12.1.1.1", tls=True))[1]
    assert "local" in rules("").refusal(attempt(None))[1]


@pytest.mark.parametrize(
    "auth_type, proof, plain",
    [
        ("trust", "trust", True),
        ("any", "trust", True),
        ("md5", "md5", True),
        ("cert", "trust", False),
        ("peer", "trust", False),
    ],
)
def test_one_way_for_everybody(auth_type: str, proof: str, plain: bool) -> None:
    way = gate_for(auth_type).way(attempt("1.2.3.4"))
    assert way is not None
    assert (way.method, way.proof, way.plain) == (auth_type, proof, plain)
    assert way.certificate == ("verify-full" if auth_type == "cert" else "")


@pytest.mark.parametrize(
    "line, words",
    [
        ("host all all all md5 clientcert=verify-full", "a rule of type hostssl"),
        ("hostssl all all all md5 clientcert=1", '"1" is no clientcert'),
        ("hostssl all all all cert clientcert=verify-ca", "can only be verify-full"),
        ("hostssl all all all md5 clientname=DN", "option clientname is not supported"),
    ],
)
def test_options_of_certificates(line: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        rules(line)
