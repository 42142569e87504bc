"""Who may come in, and what is known of them for logging in to Postgres."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from proxy.auth.keys import ScramKeys
from proxy.auth.secret import Secret


@dataclass(slots=True)
class Revealed:
    """What clients' own logins revealed: enough to log in to Postgres as them."""

    passwords: dict[str, str] = field(default_factory=dict, repr=False)
    keys: dict[str, ScramKeys] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Credentials:
    """Password, SCRAM keys, MD5 secret: as many as are known."""

    password: str | None = field(default=None, repr=False)
    keys: ScramKeys | None = field(default=None, repr=False)
    md5: str | None = field(default=None, repr=False)


class Users:
    """Users of `auth_file` and of the upstream's address, by name."""

    __slots__ = ("_all", "_revealed", "_secrets", "_upstream")

    def __init__(
        self, secrets: Mapping[str, Secret], upstream: tuple[str, str | None] | None
    ) -> None:
        self._secrets = dict(secrets)
        self._upstream = upstream
        self._revealed = Revealed()
        self._all = dict(secrets)
        if upstream is not None:
            self._all.setdefault(upstream[0], Secret(password=upstream[1] or ""))

    def secret(self, user: str) -> Secret | None:
        """What a client that calls itself `user` must prove; None: no such user."""
        return self._all.get(user)

    def all(self) -> dict[str, Secret]:
        return self._all

    def reveal(self, user: str, password: str | None, keys: ScramKeys | None) -> None:
        """A client logged in as `user` and this came to light."""
        if password is not None:
            self._revealed.passwords[user] = password
        if keys is not None and keys.client_key is not None:
            self._revealed.keys[user] = keys

    def credentials(self, user: str) -> Credentials:
        """What is known for a login to Postgres as `user`."""
        if self._upstream is not None and self._upstream[0] == user and self._upstream[1]:
            return Credentials(self._upstream[1])
        secret = self._secrets.get(user)
        if secret is not None and secret.password is not None:
            return Credentials(secret.password)
        md5 = secret.md5 if secret is not None else None
        return Credentials(self._revealed.passwords.get(user), self._revealed.keys.get(user), md5)
