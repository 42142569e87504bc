"""Whatever bytes arrive, only declared errors leave the auth package."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.auth.keys import KeyCache, ScramKeys, derive, format_secret, parse_secret
from proxy.auth.login import begin
from proxy.auth.md5 import md5_secret
from proxy.auth.saslprep import prepared
from proxy.auth.secret import Secret
from proxy.auth.upstream import UpstreamLogin
from proxy.auth.userlist import parse_userlist
from proxy.errors import (
    LoginForbidden,
    ProtocolViolation,
    SettingsError,
    UpstreamUnreachable,
    WrongPassword,
)
from tests.unit.auth.logins import log_in

KEYS = derive("pencil", b"0123456789abcdef", 1)
SECRETS = [
    None,
    Secret(password="pencil"),
    Secret(md5=md5_secret("u", "pencil")),
    Secret(keys=KEYS),
]
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
NAMES = TEXTS.filter(bool)

WORDS = (
    rb"SCRAM-SHA-256 SCRAM-SHA-256-PLUS n,, y,, p=tls-server-end-point,, n= r=abc , p= c=biws "
    rb"s=AAAA i=1 v="
)
NUMBERS = [b"\0", b"\0\0\0\x0b", b"\xff\xff\xff\xff", b"A" * 43 + b"="]
PIECES = st.sampled_from([*WORDS.split(b" "), *NUMBERS])
PAYLOADS = st.binary(max_size=64) | st.lists(PIECES | st.binary(max_size=4)).map(b"".join)
FIRST = b"SCRAM-SHA-256\0\0\0\0\x0bn,,n=,r=abc"


@given(
    method=st.sampled_from(["password", "md5", "scram-sha-256"]),
    secret=st.sampled_from(SECRETS),
    binding=st.none() | st.just(b"hash"),
    payloads=st.lists(PAYLOADS | st.just(FIRST), max_size=4),
)
def test_any_payload_is_answered_or_refused(
    method: str, secret: Secret | None, binding: bytes | None, payloads: list[bytes]
) -> None:
    conversation = begin(method, "u", secret, cache=KeyCache(), channel_binding=binding)
    with suppress(WrongPassword, ProtocolViolation, LoginForbidden):
        for payload in payloads:
            conversation.respond(payload)
            if conversation.pending is not None:
                conversation.supply(KEYS)


@given(
    password=st.none() | TEXTS,
    keys=st.none() | st.just(KEYS),
    messages=st.lists(
        st.tuples(
            st.sampled_from([0, 3, 5, 10, 11, 12]) | st.integers(0, 2**31),
            PAYLOADS | st.just(b"SCRAM-SHA-256\0\0"),
        ),
        max_size=4,
    ),
)
def test_any_request_is_answered_or_refused(
    password: str | None, keys: ScramKeys | None, messages: list[tuple[int, bytes]]
) -> None:
    login = UpstreamLogin("u", password, keys, KeyCache(), random=lambda size: bytes(size))
    with suppress(UpstreamUnreachable):
        for code, body in messages:
            login.answer(code, body)
            if login.pending is not None:
                login.supply(KEYS)


LINES = st.sampled_from([b'"', b'""', b" ", b"\n", b"a", b";", b"#", b'"u" "p"', b"\xff", b"\0"])


@given(st.binary() | st.lists(LINES).map(b"".join))
def test_any_userlist_is_read_or_refused(raw: bytes) -> None:
    with suppress(SettingsError):
        assert all(parse_userlist(raw))


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


@given(st.dictionaries(NAMES, TEXTS.filter(lambda text: not text.startswith("SCRAM-"))))
def test_every_user_and_secret_can_be_written_down(users: dict[str, str]) -> None:
    one_line = {
        user: secret for user, secret in users.items() if "\n" not in user and "\n" not in secret
    }
    lines = [f"{quoted(user)} {quoted(secret)}" for user, secret in one_line.items()]
    parsed = parse_userlist("\n".join(lines).encode())
    assert parsed == {user: Secret.parse(secret) for user, secret in one_line.items()}


@given(TEXTS)
def test_any_password_can_be_prepared(password: str) -> None:
    assert bool(prepared(password).decode("utf-8")) == bool(password)


@given(
    st.integers(1, 10_000_000),
    st.binary(min_size=1, max_size=40),
    st.binary(min_size=64, max_size=64),
)
def test_secret_and_back(iterations: int, salt: bytes, both: bytes) -> None:
    keys = ScramKeys(iterations, salt, None, both[:32], both[32:])
    assert parse_secret(format_secret(keys)) == keys


@pytest.mark.parametrize("method", ["password", "md5", "scram-sha-256"])
@given(user=NAMES, password=NAMES, other=TEXTS)
def test_the_right_password_and_no_other(method: str, user: str, password: str, other: str) -> None:
    secret = Secret(password=password)
    log_in(method, secret, password, user=user)
    if prepared(other) != prepared(password):
        with pytest.raises(WrongPassword):
            log_in(method, secret, other, user=user)
