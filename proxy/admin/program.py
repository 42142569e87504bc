"""What the console asks of the whole program."""

from __future__ import annotations

from enum import Enum
from typing import Protocol


class Shutdown(Enum):
    """How to end: at once, when the servers are given back, or when the clients have left."""

    AT_ONCE = "SHUTDOWN"
    WAIT_FOR_SERVERS = "SHUTDOWN WAIT_FOR_SERVERS"
    WAIT_FOR_CLIENTS = "SHUTDOWN WAIT_FOR_CLIENTS"


class Program(Protocol):
    """Whoever runs the proxy implements this."""

    def reload(self) -> list[str]:
        """Follow the settings as they are written now; what is wrong with them, if anything."""
        ...

    def set(self, key: str, value: str) -> None:
        """Change one setting. Raises SettingsError."""
        ...

    def shut_down(self, how: Shutdown) -> None:
        """Begin to end."""
        ...
