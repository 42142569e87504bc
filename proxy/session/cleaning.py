"""SQL that takes from a server what a client has left on it.

Source: PostgreSQL documentation, "DISCARD": what DISCARD ALL does, but statements of the protocol
stay, since other clients use them.
"""

from __future__ import annotations

from functools import lru_cache

from proxy.conditions import ADVISORY, HOLD, LISTEN, PARAMETERS, PREPARED, TEMP

_WAYS = (
    (PARAMETERS, b"SET SESSION AUTHORIZATION DEFAULT;RESET ROLE;RESET ALL"),
    (HOLD, b"CLOSE ALL"),
    (LISTEN, b"UNLISTEN *"),
    (ADVISORY, b"SELECT pg_catalog.pg_advisory_unlock_all()"),
    (TEMP, b"DISCARD TEMP"),
    (PREPARED, b"DEALLOCATE ALL"),
)


@lru_cache(maxsize=256)
def cleaning(conditions: int) -> bytes:
    """What undoes these conditions, as one query string; empty where nothing can."""
    return b";".join(sql for condition, sql in _WAYS if conditions & condition)
