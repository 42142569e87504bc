"""How many clients a database and a user have, and may have."""

from __future__ import annotations

from collections import Counter

from proxy.errors import TooManyClients


class Quota:
    """Counts clients from the moment that they have proven who they are until they are gone."""

    __slots__ = ("_entered", "_of_database", "_of_user")

    def __init__(self) -> None:
        self._entered: dict[object, tuple[str, str]] = {}
        self._of_database: Counter[str] = Counter()
        self._of_user: Counter[str] = Counter()

    def enter(self, client: object, database: str, user: str, most: tuple[int, int]) -> None:
        """`most`: clients that the database, and the user, may have; 0 is no limit.

        Raises TooManyClients.
        """
        of_database, of_user = most
        if 0 < of_database <= self._of_database[database]:
            raise _too_many("max_db_client_connections", of_database)
        if 0 < of_user <= self._of_user[user]:
            raise _too_many("max_user_client_connections", of_user)
        self._entered[client] = (database, user)
        self._of_database[database] += 1
        self._of_user[user] += 1

    def of_database(self, database: str) -> int:
        """Clients of the database."""
        return self._of_database[database]

    def of_user(self, user: str) -> int:
        """Clients that are this user."""
        return self._of_user[user]

    def leave(self, client: object) -> None:
        """A client is gone; one that never entered is nothing to account for."""
        entered = self._entered.pop(client, None)
        if entered is None:
            return
        for counter, name in zip((self._of_database, self._of_user), entered, strict=True):
            counter[name] -= 1
            if not counter[name]:
                del counter[name]


def _too_many(setting: str, most: int) -> TooManyClients:
    hint = f"Retry with backoff, or raise {setting}, which is {most}."
    return TooManyClients(f"client connections exceeded ({setting})", hint=hint)
