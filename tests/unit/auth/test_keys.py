from __future__ import annotations

import pytest

from proxy.auth.keys import KeyCache, KeyRequest, ScramKeys, derive, format_secret, parse_secret
from proxy.auth.saslprep import prepared, to_bytes, to_text

# As `CREATE ROLE ... PASSWORD 'pencil'` with this salt stores it.
KEYS = derive("pencil", b"0123456789abcdef")
SECRET = format_secret(KEYS)


def test_secret_and_back() -> None:
    assert SECRET.startswith("SCRAM-SHA-256$4096:MDEyMzQ1Njc4OWFiY2RlZg==$")
    assert parse_secret(SECRET) == ScramKeys(
        4096, KEYS.salt, None, KEYS.stored_key, KEYS.server_key
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pencil",
        SECRET[:-1],
        SECRET + "=",
        SECRET + "\n",
        SECRET.replace("SHA-256", "SHA-1"),
        SECRET.replace("4096", "0"),
        SECRET.replace("4096", "-1"),
        SECRET.replace("4096", "99999999"),
        SECRET.replace("MDEy", "MD!y"),
        SECRET.replace("MDEy", "MDE"),
    ],
)
def test_not_a_secret(text: str) -> None:
    assert parse_secret(text) is None


@pytest.mark.parametrize(
    "password, raw",
    [
        ("pencil", b"pencil"),
        ("a\x01b", b"a\x01b"),
        ("I\u00adX", b"IX"),
        ("\u00aa", b"a"),
        ("\u2168", b"IX"),
        ("a\u00a0b", b"a b"),
        ("a\u200bb", b"a b"),
        ("\u00ad", "\u00ad".encode()),
        ("\u0627\u0031", "\u0627\u0031".encode()),
        ("\u0627a\u0628", "\u0627a\u0628".encode()),
        ("\u0627\u00aa\u0628", "\u0627\u00aa\u0628".encode()),
        ("\u0221\u2168", "\u0221\u2168".encode()),
        (to_text(b"p\xffss\xe2"), b"p\xffss\xe2"),
    ],
)
def test_saslprep_or_else_the_raw_bytes(password: str, raw: bytes) -> None:
    assert prepared(password) == raw


def test_right_to_left_password_is_normalised() -> None:
    assert prepared("\u0627\u2168\u0628") == "\u0627\u2168\u0628".encode()
    assert prepared("\u0627\ufe8d") == "\u0627\u0627".encode()


def test_bytes_that_are_no_utf8_survive() -> None:
    raw = bytes(range(1, 256))
    assert to_bytes(to_text(raw)) == raw


def test_cache_finds_exactly_what_was_put() -> None:
    cache = KeyCache()
    request = KeyRequest("pencil", KEYS.salt, 4096)
    cache.put(request, KEYS)
    assert cache.get(request) is KEYS
    assert cache.get(KeyRequest("pencils", KEYS.salt, 4096)) is None
    assert cache.get(KeyRequest("pencil", b"x", 4096)) is None
    assert cache.get(KeyRequest("pencil", KEYS.salt, 4097)) is None


def test_cache_forgets_the_least_recently_used() -> None:
    cache = KeyCache(2)
    first, second, third = (KeyRequest(name, b"salt", 1) for name in "abc")
    cache.put(first, KEYS)
    cache.put(second, KEYS)
    assert cache.get(first) is KEYS
    cache.put(third, KEYS)
    assert len(cache) == 2
    assert cache.get(second) is None
    assert cache.get(first) is KEYS


def test_cache_holds_no_password() -> None:
    cache = KeyCache()
    cache.put(KeyRequest("pencil", b"salt", 1), KEYS)
    assert "pencil" not in repr(cache._found)


def test_salts_differ_by_user_and_process_but_not_by_call() -> None:
    cache = KeyCache()
    assert cache.salt_for("a") == cache.salt_for("a") != cache.salt_for("b")
    assert cache.salt_for("a") != KeyCache().salt_for("a")
    assert len(cache.salt_for("a")) == 16


def test_repr_shows_no_secret() -> None:
    assert "pencil" not in repr(KeyRequest("pencil", b"salt", 1))
    assert str(KEYS.server_key) not in repr(KEYS)
    assert str(KEYS.client_key) not in repr(KEYS)
