from __future__ import annotations

import re
from base64 import b64decode, b64encode

import pytest

from proxy.auth.keys import derive
from proxy.auth.scram import ScramClient, ScramServer
from proxy.errors import LoginForbidden, ProtocolViolation

# RFC 7677, section 3.
CLIENT_NONCE = b"rOprNGfwEbeRWgbNEkqO"
SERVER_NONCE = b"%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
SALT = b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
CLIENT_FIRST = b"n,,n=user,r=" + CLIENT_NONCE
SERVER_FIRST = b"r=%b%b,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096" % (CLIENT_NONCE, SERVER_NONCE)
UNPROVEN = b"c=biws,r=" + CLIENT_NONCE + SERVER_NONCE
CLIENT_FINAL = UNPROVEN + b",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
KEYS = derive("pencil", SALT)


def server(binding: bytes | None = None, *, plus: bool = False) -> ScramServer:
    return ScramServer(SALT, 4096, SERVER_NONCE, channel_binding=binding, plus=plus)


def challenged() -> ScramClient:
    client = ScramClient(CLIENT_NONCE, name=b"user")
    assert client.first() == CLIENT_FIRST
    assert client.challenge(SERVER_FIRST) == (SALT, 4096)
    return client


def test_server_follows_the_rfc() -> None:
    scram = server()
    assert scram.first(CLIENT_FIRST) == SERVER_FIRST
    assert scram.final(CLIENT_FINAL, KEYS) == SERVER_FINAL
    assert scram.client_key == KEYS.client_key


def test_client_follows_the_rfc() -> None:
    client = challenged()
    assert client.final(KEYS) == CLIENT_FINAL
    assert client.verify(SERVER_FINAL)
    assert not client.verify(b"v=" + b64encode(bytes(32)))


def test_wrong_proof_reveals_nothing() -> None:
    scram = server()
    scram.first(CLIENT_FIRST)
    assert scram.final(CLIENT_FINAL, derive("pencils", SALT)) is None
    assert scram.client_key is None


def test_server_takes_extensions() -> None:
    assert server().first(CLIENT_FIRST + b",x=1,y=2").startswith(b"r=")


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"n,,",
        b"n,,n=user",
        b"n,,r=abc",
        b"n,,n=user,r=",
        b"n,,n=us\0er,r=abc",
        b"n,,n=user,r=a\0c",
        b"n,,n=user,r=a c",
        b"n,a=other,n=user,r=abc",
        b"n,,m=must,n=user,r=abc",
        b"x,,n=user,r=abc",
        b"n,,n=user,r=abc\n",
        b"n,,n=user,r=" + b"a" * 2000,
        b"p=tls-server-end-point,,n=user,r=abc",
    ],
)
def test_malformed_client_first(message: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        server().first(message)


@pytest.mark.parametrize(
    "message, words",
    [
        (CLIENT_FINAL[:-1], "malformed"),
        (CLIENT_FINAL + b"x", "malformed"),
        (UNPROVEN, "malformed"),
        (UNPROVEN + b",p=!!!!", "malformed"),
        (UNPROVEN + b",p=" + b64encode(bytes(31)), "malformed"),
        (CLIENT_FINAL.replace(b"c=biws", b"c=b\0ws"), "malformed"),
        (CLIENT_FINAL.replace(b"c=biws", b"c=biw"), "base64"),
        (CLIENT_FINAL.replace(SERVER_NONCE, b"other"), "nonce"),
        (UNPROVEN + b",x=" + b"y" * 1024 + CLIENT_FINAL[-47:], "longer"),
    ],
)
def test_malformed_client_final(message: bytes, words: str) -> None:
    scram = server()
    scram.first(CLIENT_FIRST)
    with pytest.raises(ProtocolViolation, match=words):
        scram.final(message, KEYS)


def test_binding_that_differs_from_the_header() -> None:
    scram = server()
    scram.first(CLIENT_FIRST)
    with pytest.raises(LoginForbidden, match="channel binding"):
        scram.final(CLIENT_FINAL.replace(b"c=biws", b"c=eSws"), KEYS)


def test_client_without_channel_binding_is_told_of_a_changed_offer() -> None:
    with pytest.raises(LoginForbidden, match="believes"):
        server(b"hash").first(CLIENT_FIRST.replace(b"n,,", b"y,,", 1))
    assert server(None).first(CLIENT_FIRST.replace(b"n,,", b"y,,", 1))


@pytest.mark.parametrize("header", [b"n,,", b"p=tls-unique,,", b"y,,"])
def test_plus_needs_the_binding_type_of_postgres(header: bytes) -> None:
    with pytest.raises((ProtocolViolation, LoginForbidden)):
        server(b"hash", plus=True).first(header + b"n=,r=abc")


@pytest.mark.parametrize(
    "message, words",
    [
        (b"", "malformed"),
        (SERVER_FIRST[:-5], "malformed"),
        (b"m=x," + SERVER_FIRST, "malformed"),
        (SERVER_FIRST.replace(b"gQ==", b"gQ="), "base64"),
        (SERVER_FIRST.replace(CLIENT_NONCE, b"x"), "nonce"),
        (SERVER_FIRST.replace(SERVER_NONCE, b""), "nonce"),
        (SERVER_FIRST.replace(b"4096", b"0"), "iteration"),
        (SERVER_FIRST.replace(b"4096", b"4294967295"), "iteration"),
    ],
)
def test_malformed_server_first(message: bytes, words: str) -> None:
    with pytest.raises(ProtocolViolation, match=words):
        ScramClient(CLIENT_NONCE).challenge(message)


def test_server_first_comes_once() -> None:
    with pytest.raises(ProtocolViolation, match="twice"):
        challenged().challenge(re.sub(rb",s=", b"z,s=", SERVER_FIRST))


@pytest.mark.parametrize("message", [b"", b"e=other-error", b"v=", SERVER_FINAL[:-2]])
def test_malformed_server_final(message: bytes) -> None:
    client = challenged()
    client.final(KEYS)
    with pytest.raises(ProtocolViolation, match="malformed"):
        client.verify(message)


def test_keys_without_client_key_cannot_log_in() -> None:
    with pytest.raises(ValueError, match="client key"):
        challenged().final(type(KEYS)(4096, SALT, None, KEYS.stored_key, KEYS.server_key))
