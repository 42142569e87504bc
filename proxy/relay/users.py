"""Who may come in, and what is known of them for logging in to Postgres."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from proxy.auth.keys import ScramKeys
from proxy.auth.secret import Secret

Place = str | tuple[str, str]
"""A user known here, or (database, user) where Postgres was asked for the secret."""


@dataclass(slots=True)
class Revealed:
    """What clients' own logins revealed: enough to log in to Postgres as them."""

    passwords: dict[Place, str] = field(default_factory=dict, repr=False)
    keys: dict[Place, ScramKeys] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Credentials:
    """Password, SCRAM keys, MD5 secret: as many as are known."""

    password: str | None = field(default=None, repr=False)
    keys: ScramKeys | None = field(default=None, repr=False)
    md5: str | None = field(default=None, repr=False)


class Users:
    """Users of `auth_file` and of the upstream's address, by name; others were looked up.

    `scram`: whether those who are not known are best asked for a password by SCRAM.
    """

    __slots__ = ("_all", "_learned", "_revealed", "_secrets", "_upstream", "scram")

    def __init__(
        self, secrets: Mapping[str, Secret], upstream: tuple[str, str | None] | None
    ) -> None:
        self._secrets = dict(secrets)
        self._upstream = upstream
        self._revealed = Revealed()
        self._learned: dict[Place, Secret] = {}
        self._all = dict(secrets)
        self.scram = any(secret.keys for secret in secrets.values())
        if upstream is not None:
            self._all.setdefault(upstream[0], Secret(password=upstream[1] or ""))

    def secret(self, user: str) -> Secret | None:
        """What a client that calls itself `user` must prove; None: no such user."""
        return self._all.get(user)

    def all(self) -> dict[str, Secret]:
        return self._all

    def learn(self, database: str, user: str, secret: Secret) -> None:
        """Postgres was asked for the secret of a user that is not known here."""
        self._learned[database, user] = secret
        self.scram = secret.keys is not None

    def reveal(
        self, database: str, user: str, password: str | None, keys: ScramKeys | None
    ) -> None:
        """A client of `database` logged in as `user` and this came to light."""
        place = self._place(database, user)
        if password is not None:
            self._revealed.passwords[place] = password
        if keys is not None and keys.client_key is not None:
            self._revealed.keys[place] = keys

    def inherit(self, before: Users) -> None:
        """Keep what came to light of users whose secrets are still the same."""
        self._learned = before._learned
        ours, theirs = self._revealed, before._revealed
        ours.passwords = {k: v for k, v in theirs.passwords.items() if self._same(before, k)}
        ours.keys = {k: v for k, v in theirs.keys.items() if self._same(before, k)}

    def _same(self, before: Users, place: Place) -> bool:
        return not isinstance(place, str) or self._all.get(place) == before._all.get(place)

    def _place(self, database: str, user: str) -> Place:
        return user if user in self._all else (database, user)

    def credentials(self, database: str, user: str) -> Credentials:
        """What is known for a login to Postgres as `user`, for clients of `database`."""
        if self._upstream is not None and self._upstream[0] == user and self._upstream[1]:
            return Credentials(self._upstream[1])
        place = self._place(database, user)
        secret = self._secrets.get(user) or self._learned.get(place)
        if secret is not None and secret.password is not None:
            return Credentials(secret.password)
        md5 = secret.md5 if secret is not None else None
        return Credentials(self._revealed.passwords.get(place), self._revealed.keys.get(place), md5)
