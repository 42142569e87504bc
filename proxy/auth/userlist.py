"""PgBouncer's userlist.txt (its `auth_file`): lines of `"user" "secret"`.

A quote inside is doubled, `;` and `#` begin comments, empty lines are skipped. What follows
the secret after a space is ignored, as PgBouncer does.
"""

from __future__ import annotations

import re

from proxy.auth.secret import Secret
from proxy.errors import SettingsError

_QUOTED = r'"((?:[^"]|"")*)"'
_ENTRY = re.compile(rf"{_QUOTED}\s+{_QUOTED}(?:\s.*)?")
_FIRST = re.compile(rf'{_QUOTED}(?:\s+("))?')


def parse_userlist(raw: bytes, source: str = "auth_file") -> dict[str, Secret]:
    """The users and secrets of a file's UTF-8 text; `source` is its name in error messages.

    Raises SettingsError that names every bad line, and never a secret.
    """
    users: dict[str, tuple[int, Secret]] = {}
    problems: list[str] = []
    for number, line in enumerate(raw.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        try:
            _read_line(users, number, line)
        except ValueError as problem:
            problems.append(f"{source}:{number}: {problem}")
    if problems:
        raise SettingsError(problems)
    return {user: secret for user, (_, secret) in users.items()}


def _read_line(users: dict[str, tuple[int, Secret]], number: int, line: bytes) -> None:
    entry = _parse_line(line)
    if entry is None:
        return
    user, secret = entry
    first, known = users.setdefault(user, (number, secret))
    if known != secret:
        raise ValueError(f'user "{user}" has another secret in line {first}: keep one')


def _parse_line(raw: bytes) -> tuple[str, Secret] | None:
    text = _decoded(raw).strip()
    if not text or text[0] in ";#":
        return None
    match = _ENTRY.fullmatch(text)
    if match is None:
        raise ValueError(_complaint(text))
    user, secret = (part.replace('""', '"') for part in match.groups())
    return _checked(user, secret)


def _decoded(raw: bytes) -> str:
    if b"\0" in raw:
        raise ValueError("holds a NUL byte: save the file as plain UTF-8 text")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8: save the file as plain UTF-8 text") from None


def _checked(user: str, text: str) -> tuple[str, Secret]:
    if not user:
        raise ValueError("the user name is empty")
    secret = Secret.parse(text)
    if secret.password is not None and text.startswith("SCRAM-SHA-256$"):
        raise ValueError(
            f'the SCRAM secret of user "{user}" is damaged: copy it whole from '
            "pg_authid.rolpassword (SCRAM-SHA-256$iterations:salt$stored key:server key)"
        )
    return user, secret


def _complaint(text: str) -> str:
    if not text.startswith('"'):
        return 'does not begin with a quote: write "user" "secret"'
    match = _FIRST.match(text)
    if match is None:
        return 'the user name has no closing quote: write "user" "secret"'
    if match.group(2) is None:
        return 'no quoted secret follows the user name: write "user" "secret"'
    return 'the secret does not end in one closing quote: double a quote inside it ("")'
