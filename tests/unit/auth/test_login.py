from __future__ import annotations

import pytest

from proxy.auth import codes
from proxy.auth.conversation import Conversation, Done, Next
from proxy.auth.keys import KeyCache, derive
from proxy.auth.login import begin, unprepared
from proxy.auth.md5 import md5_response, md5_secret
from proxy.auth.secret import Secret
from proxy.auth.upstream import UpstreamLogin
from proxy.errors import LoginForbidden, ProtocolViolation, WrongPassword
from tests.unit.auth.logins import PASSWORD, USER, after_pending, log_in, run

KEYS = derive(PASSWORD, b"0123456789abcdef")
PLAIN = Secret(password=PASSWORD)
MD5 = Secret(md5=md5_secret(USER, PASSWORD))
SCRAM = Secret(keys=type(KEYS)(4096, KEYS.salt, None, KEYS.stored_key, KEYS.server_key))
WORKING = [
    ("password", PLAIN),
    ("password", MD5),
    ("password", SCRAM),
    ("md5", PLAIN),
    ("md5", MD5),
    ("md5", SCRAM),
    ("scram-sha-256", PLAIN),
    ("scram-sha-256", SCRAM),
]
REFUSED = [
    *((method, secret, PASSWORD + "x") for method, secret in WORKING),
    *((method, None, PASSWORD) for method in ("password", "md5", "scram-sha-256")),
    *((method, Secret(password=""), "") for method in ("password", "md5", "scram-sha-256")),
    ("scram-sha-256", MD5, PASSWORD),
]


@pytest.mark.parametrize("method, secret", WORKING)
def test_right_password(method: str, secret: Secret) -> None:
    done = log_in(method, secret)
    assert done.password == (PASSWORD if method == "password" else None)
    if secret is SCRAM:
        assert done.keys == KEYS


@pytest.mark.parametrize("method, secret, password", REFUSED)
def test_every_refusal_has_the_same_words(
    method: str, secret: Secret | None, password: str
) -> None:
    with pytest.raises(WrongPassword) as caught:
        log_in(method, secret, password)
    assert caught.value.message == f'password authentication failed for user "{USER}"'
    assert caught.value.advice == ""


@pytest.mark.parametrize(
    "method, secret, reason",
    [
        ("password", None, "no such user"),
        ("md5", None, "no such user"),
        ("scram-sha-256", None, "no such user"),
        ("scram-sha-256", MD5, "an md5 secret cannot serve scram-sha-256"),
        ("scram-sha-256", Secret(password=""), "the user's password is empty"),
        ("scram-sha-256", PLAIN, "password does not match"),
        ("md5", PLAIN, "password does not match"),
        ("password", SCRAM, "password does not match"),
    ],
)
def test_the_log_learns_the_reason(method: str, secret: Secret | None, reason: str) -> None:
    conversation = begin(method, USER, secret, cache=KeyCache())
    with pytest.raises(WrongPassword):
        run(conversation, UpstreamLogin(USER, "other", None, KeyCache()))
    assert conversation.reason == reason


@pytest.mark.parametrize("secret", [None, PLAIN, MD5, SCRAM])
def test_a_refused_cleartext_password_costs_one_derivation(secret: Secret | None) -> None:
    cache = KeyCache()
    conversation = begin("password", USER, secret, cache=cache)
    assert conversation.respond(b"wrong\0") is None
    assert conversation.pending is not None
    assert conversation.pending.iterations == 4096
    with pytest.raises(WrongPassword):
        conversation.supply(conversation.pending.derive())
    assert len(cache) == 0


def test_cleartext_against_scram_derives_once() -> None:
    cache = KeyCache()
    log_in("password", SCRAM, cache=cache)
    conversation = begin("password", USER, SCRAM, cache=cache)
    done = conversation.respond(PASSWORD.encode() + b"\0")
    assert isinstance(done, Done)
    assert (done.request, done.password, done.keys) == (None, PASSWORD, KEYS)


def test_plain_secret_derives_once_for_scram() -> None:
    cache = KeyCache()
    log_in("scram-sha-256", PLAIN, cache=cache)
    assert len(cache) == 1
    login = UpstreamLogin(USER, PASSWORD, None, cache)
    assert run_without_pending(begin("scram-sha-256", USER, PLAIN, cache=cache), login)


def run_without_pending(conversation: Conversation, login: UpstreamLogin) -> bool:
    """True if neither side asked for a derivation."""
    request = conversation.request
    while request is not None:
        payload = login.answer(*request)
        if payload is None:
            return False
        step = conversation.respond(payload)
        if step is None:
            return False
        request = None if isinstance(step, Done) else step.request
    return True


def test_unprepared_names_the_derivations_of_plain_secrets() -> None:
    cache = KeyCache()
    users = {USER: PLAIN, "m": MD5, "s": SCRAM, "e": Secret(password="")}
    (request,) = unprepared(users, cache)
    cache.put(request, request.derive())
    assert list(unprepared(users, cache)) == []
    login = UpstreamLogin(USER, PASSWORD, None, cache)
    assert run_without_pending(begin("scram-sha-256", USER, PLAIN, cache=cache), login)


def test_unknown_user_has_the_same_salt_every_time() -> None:
    cache = KeyCache()
    challenges = [scram_challenge(begin("scram-sha-256", "x", None, cache=cache)) for _ in "ab"]
    salts = [challenge.split(b",")[1:] for challenge in challenges]
    assert salts[0] == salts[1]
    assert challenges[0] != challenges[1]


def initial(message: bytes, mechanism: bytes = b"SCRAM-SHA-256") -> bytes:
    return b"%b\0%b%b" % (mechanism, len(message).to_bytes(4, "big"), message)


def scram_challenge(conversation: Conversation) -> bytes:
    step = conversation.respond(initial(b"n,,n=,r=abc"))
    assert isinstance(step, Next)
    code, body = step.request
    assert code == codes.SASL_CONTINUE
    return body


def test_trust_needs_no_message_but_a_known_user() -> None:
    conversation = begin("trust", USER, PLAIN, cache=KeyCache())
    assert conversation.request is None
    with pytest.raises(ProtocolViolation):
        conversation.respond(b"x\0")
    with pytest.raises(WrongPassword, match=USER):
        begin("trust", USER, None, cache=KeyCache())


def test_unknown_method() -> None:
    with pytest.raises(ValueError, match="use one of trust, password"):
        begin("peer", USER, PLAIN, cache=KeyCache())


@pytest.mark.parametrize("method", ["password", "md5"])
@pytest.mark.parametrize("payload", [b"", b"pencil", b"pen\0cil\0", b"\0\0", b"x" * 9000 + b"\0"])
def test_malformed_password_message(method: str, payload: bytes) -> None:
    conversation = begin(method, USER, PLAIN, cache=KeyCache())
    with pytest.raises(ProtocolViolation):
        conversation.respond(payload)
    with pytest.raises(ProtocolViolation):
        conversation.respond(PASSWORD.encode() + b"\0")


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"SCRAM-SHA-256",
        b"SCRAM-SHA-256\0",
        b"SCRAM-SHA-256\0\0\0\0",
        b"SCRAM-SHA-256\0\0\0\0\xffn,,n=,r=abc",
        b"SCRAM-SHA-256\0\xff\xff\xff\xffn,,n=,r=abc",
        initial(b"n,,n=,r=abc", b"SCRAM-SHA-1"),
        initial(b"p=tls-server-end-point,,n=,r=abc", b"SCRAM-SHA-256-PLUS"),
        initial(b"n,,n=,r=abc") + b"x",
        initial(b"n,,n=,r=" + b"a" * 2000),
    ],
)
def test_malformed_initial_response(payload: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        begin("scram-sha-256", USER, PLAIN, cache=KeyCache()).respond(payload)


def test_initial_response_without_data_is_asked_for() -> None:
    conversation = begin("scram-sha-256", USER, PLAIN, cache=KeyCache())
    step = conversation.respond(b"SCRAM-SHA-256\0\xff\xff\xff\xff")
    assert isinstance(step, Next)
    assert step.request == (codes.SASL_CONTINUE, b"")
    step = conversation.respond(b"n,,n=,r=abc")
    assert isinstance(step, Next)
    assert step.request[1].startswith(b"r=abc")


def test_nothing_may_come_while_keys_are_pending_or_afterwards() -> None:
    conversation = begin("password", USER, SCRAM, cache=KeyCache())
    step = conversation.respond(PASSWORD.encode() + b"\0")
    with pytest.raises(ProtocolViolation):
        conversation.respond(PASSWORD.encode() + b"\0")
    assert isinstance(after_pending(conversation, step), Done)
    with pytest.raises(ProtocolViolation):
        conversation.respond(PASSWORD.encode() + b"\0")
    with pytest.raises(RuntimeError):
        conversation.supply(KEYS)


def test_md5_salt_comes_from_the_given_randomness() -> None:
    conversation = begin("md5", USER, MD5, cache=KeyCache(), random=lambda size: b"7" * size)
    assert conversation.request == (codes.MD5, b"7777")
    assert MD5.md5 is not None
    assert isinstance(conversation.respond(md5_response(MD5.md5, b"7777") + b"\0"), Done)


def test_md5_is_the_one_of_postgres() -> None:
    """As in pg_authid after CREATE ROLE lara PASSWORD 'pencil' with password_encryption md5."""
    assert md5_secret("lara", "pencil") == "md5c0bb144d72c860d10538a07b3503f684"


def test_passwords_that_are_no_utf8() -> None:
    password = b"p\xffss".decode("utf-8", "surrogateescape")
    for method in ("password", "md5", "scram-sha-256"):
        log_in(method, Secret(password=password), password)


@pytest.mark.parametrize("secret", [PLAIN, SCRAM])
def test_channel_binding(secret: Secret) -> None:
    log_in("scram-sha-256", secret, server_binding=b"hash", client_binding=b"hash")
    log_in("scram-sha-256", secret, server_binding=b"hash")
    log_in("scram-sha-256", secret, client_binding=b"hash")
    with pytest.raises(LoginForbidden):
        log_in("scram-sha-256", secret, server_binding=b"hash", client_binding=b"other")


def test_keys_a_client_revealed_log_in_to_a_server_with_the_same_secret() -> None:
    done = log_in("scram-sha-256", SCRAM)
    assert log_in("scram-sha-256", SCRAM, None, keys=done.keys).keys == KEYS


def test_repr_shows_no_secret() -> None:
    assert PASSWORD not in repr(log_in("password", PLAIN))
