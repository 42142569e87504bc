from __future__ import annotations

import pytest

from proxy.auth.keys import derive, format_secret
from proxy.auth.md5 import md5_secret
from proxy.auth.secret import Secret
from proxy.auth.userlist import parse_userlist
from proxy.errors import SettingsError

SCRAM_SECRET = format_secret(derive("pencil", b"0123456789abcdef", 1))
MD5_SECRET = md5_secret("lara", "pencil")


def problems(raw: bytes) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        parse_userlist(raw, "users.txt")
    return caught.value.problems


def test_every_kind_of_line() -> None:
    text = f'''; a comment
# another
\t"lara" "pen""cil"\r

"m"\t"{MD5_SECRET}" ; ignored
"s" "{SCRAM_SECRET}" "ignored too"
"ünï ""c""" "pässword"
"empty" ""
'''
    users = parse_userlist(b"\xef\xbb\xbf" + text.encode())
    assert {user: secret.kind for user, secret in users.items()} == {
        "lara": "plain",
        "m": "md5",
        "s": "scram-sha-256",
        'ünï "c"': "plain",
        "empty": "plain",
    }
    assert users["lara"].password == 'pen"cil'
    assert users['ünï "c"'].password == "pässword"


def test_nothing_is_no_users() -> None:
    assert parse_userlist(b"") == {}


@pytest.mark.parametrize(
    "line, words",
    [
        (b"lara pencil", "does not begin with a quote"),
        (b'"lara', "user name has no closing quote"),
        (b'"lara"', "no quoted secret"),
        (b'"lara" pencil', "no quoted secret"),
        (b'"lara""pencil"', "no quoted secret"),
        (b'"lara" "pencil', "double a quote"),
        (b'"lara" "pen"cil"', "double a quote"),
        (b'"" "pencil"', "user name is empty"),
        (b'"lara" "pen\xffcil"', "not UTF-8"),
        (b'"lara" "pen\0cil"', "NUL"),
        (b'"lara" "SCRAM-SHA-256$4096:pencil"', "damaged"),
    ],
)
def test_bad_line_is_named_without_its_secret(line: bytes, words: str) -> None:
    (problem,) = problems(b"\n" + line)
    assert problem.startswith("users.txt:2: ")
    assert words in problem
    assert "pencil" not in problem


def test_all_problems_at_once() -> None:
    found = problems(b'"a" "1"\nbad\n"b" "2"\n"a" "3"\n"a" "1"\n"c')
    assert [problem.split(":")[1] for problem in found] == ["2", "4", "6"]
    assert "line 1" in found[1]


@pytest.mark.parametrize(
    "text, kind",
    [
        (MD5_SECRET, "md5"),
        (MD5_SECRET.upper(), "plain"),
        (MD5_SECRET[:-1], "plain"),
        (SCRAM_SECRET, "scram-sha-256"),
        (SCRAM_SECRET[:-1], "plain"),
        ("", "plain"),
    ],
)
def test_kind_of_a_secret(text: str, kind: str) -> None:
    secret = Secret.parse(text)
    assert secret.kind == kind
    assert repr(secret) == f"<Secret {kind}>" == str(secret)
