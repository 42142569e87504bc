"""Which servers are wanted: `target_session_attrs`, by what Postgres reports of itself."""

from __future__ import annotations

from collections.abc import Mapping

_ON, _OFF = b"on", b"off"


def suits(wanted: str, reported: Mapping[bytes, bytes]) -> bool:
    """Whether a server that reports these parameters is as wanted.

    PostgreSQL reports both from version 14 on; one that does not suits nobody who asks.
    """
    standby = reported.get(b"in_hot_standby")
    read_only = reported.get(b"default_transaction_read_only")
    if wanted == "primary":
        return standby == _OFF
    if wanted == "standby":
        return standby == _ON
    if wanted == "read-write":
        return standby == read_only == _OFF
    return wanted == "any" or _ON in (standby, read_only)
