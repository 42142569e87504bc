from __future__ import annotations

import pytest

from proxy.auth import codes
from proxy.auth.conversation import Next
from proxy.auth.keys import KeyCache, derive
from proxy.auth.login import begin
from proxy.auth.md5 import md5_response, md5_secret
from proxy.auth.secret import Secret
from proxy.auth.upstream import UpstreamLogin
from proxy.errors import UpstreamUnreachable
from tests.unit.auth.logins import PASSWORD, USER, log_in, payload_for

OFFER = b"SCRAM-SHA-256\0\0"
KEYS = derive(PASSWORD, b"0123456789abcdef", 1)


def login(password: str | None = PASSWORD) -> UpstreamLogin:
    return UpstreamLogin(USER, password, None, KeyCache())


def test_trust() -> None:
    upstream = login(None)
    assert upstream.answer(codes.OK, b"") is None
    assert upstream.done
    with pytest.raises(UpstreamUnreachable):
        upstream.answer(codes.OK, b"")


def test_cleartext_and_md5() -> None:
    assert login().answer(codes.CLEARTEXT, b"") == PASSWORD.encode() + b"\0"
    secret = md5_secret(USER, PASSWORD)
    expected = md5_response(secret, b"salt") + b"\0"
    assert login().answer(codes.MD5, b"salt") == expected
    by_hash = UpstreamLogin(USER, None, None, KeyCache(), md5=secret)
    assert by_hash.answer(codes.MD5, b"salt") == expected


@pytest.mark.parametrize(
    "code, body, method",
    [
        (codes.CLEARTEXT, b"", "password"),
        (codes.MD5, b"salt", "md5"),
        (codes.SASL, OFFER, "scram-sha-256"),
    ],
)
def test_missing_password_is_said(code: int, body: bytes, method: str) -> None:
    with pytest.raises(UpstreamUnreachable) as caught:
        login(None).answer(code, body)
    assert caught.value.message == (
        f'server asks for a password ({method}) and none is known for user "{USER}"'
    )


@pytest.mark.parametrize(
    "code, words",
    [(2, "Kerberos"), (6, "SCM"), (7, "GSSAPI"), (8, "GSSAPI"), (9, "SSPI"), (99, "code 99")],
)
def test_unsupported_authentication_is_named(code: int, words: str) -> None:
    with pytest.raises(UpstreamUnreachable, match=words):
        login().answer(code, b"")


@pytest.mark.parametrize("body", [b"", b"\0", b"OAUTHBEARER\0\0", b"SCRAM-SHA-256-PLUS\0\0"])
def test_unsupported_sasl_mechanism(body: bytes) -> None:
    with pytest.raises(UpstreamUnreachable, match="SASL without SCRAM-SHA-256"):
        login().answer(codes.SASL, body)


@pytest.mark.parametrize(
    "code, body",
    [
        (codes.MD5, b"sal"),
        (codes.MD5, b""),
        (codes.SASL_CONTINUE, b"r=abc,s=c2FsdA==,i=1"),
        (codes.SASL_FINAL, b"v="),
    ],
)
def test_broken_or_early_requests(code: int, body: bytes) -> None:
    with pytest.raises(UpstreamUnreachable, match="login to Postgres failed"):
        login().answer(code, body)


def begun() -> tuple[UpstreamLogin, bytes]:
    """A login that waits for server-final, and the right one."""
    upstream = login()
    server = begin("scram-sha-256", USER, Secret(keys=KEYS), cache=KeyCache())
    first = server.respond(payload_for(upstream, codes.SASL, OFFER))
    assert isinstance(first, Next)
    done = server.respond(payload_for(upstream, *first.request))
    assert done is not None
    assert done.request is not None
    return upstream, done.request[1]


def test_server_has_to_prove_itself() -> None:
    upstream, final = begun()
    with pytest.raises(UpstreamUnreachable, match="without proving"):
        upstream.answer(codes.OK, b"")
    with pytest.raises(UpstreamUnreachable, match="did not prove"):
        upstream.answer(codes.SASL_FINAL, b"v=" + b"A" * 43 + b"=")
    upstream.answer(codes.SASL_FINAL, final)
    upstream.answer(codes.OK, b"")
    assert upstream.done


def test_sasl_begins_once() -> None:
    upstream, _ = begun()
    with pytest.raises(UpstreamUnreachable, match="twice"):
        upstream.answer(codes.SASL, OFFER)


def test_keys_are_derived_once_for_all_logins() -> None:
    cache = KeyCache()
    secret = Secret(keys=KEYS)
    for derivations in (1, 0):
        upstream = UpstreamLogin(USER, PASSWORD, None, cache)
        server = begin("scram-sha-256", USER, secret, cache=KeyCache())
        payload = upstream.answer(codes.SASL, OFFER)
        assert payload is not None
        first = server.respond(payload)
        assert isinstance(first, Next)
        sent = upstream.answer(*first.request)
        assert (upstream.pending is not None) == (sent is None) == bool(derivations)
        if upstream.pending is not None:
            upstream.supply(upstream.pending.derive())


def test_keys_of_another_secret() -> None:
    with pytest.raises(UpstreamUnreachable, match="not the one in Postgres") as caught:
        log_in("scram-sha-256", Secret(password=PASSWORD), None, keys=KEYS)
    assert "pg_authid" in caught.value.advice
    log_in("scram-sha-256", Secret(password=PASSWORD), PASSWORD, keys=KEYS)


def test_supply_without_pending() -> None:
    with pytest.raises(RuntimeError):
        login().supply(KEYS)
