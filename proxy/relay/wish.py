"""What a client asks for in its start-up packet."""

from __future__ import annotations

from collections.abc import Container

import cython

from proxy.errors import FeatureRefused, LoginForbidden
from proxy.session.parameters import NONE, Parameters
from proxy.wire import messages
from proxy.wire.startup import Startup, split_options

_WHO = frozenset({"user", "database"})
_NO = frozenset({"false", "off", "no", "0"})
_NOT_PARAMETERS = frozenset({"user", "database", "options", "replication"})
_PASSED_OVER = "session_authorization"
"""Postgres sets it when it has authenticated whoever logs in, whatever they ask for."""
_AT_ITS_BEGINNING = ("local_preload_libraries", "seed", "session_preload_libraries")
"""What does something to a server of its own at its beginning, and to no other."""


@cython.cclass
class Wish:
    """What a start-up packet asks for, read once for all that are alike.

    `name`: the application_name, which needs no server to be known. `replication`: for a
    replication connection, all its parameters but user and database, by name; `physical`: it is
    of all databases; `kind`: what it is in the log, `no`, `database` or `yes`.
    """

    user: str
    database: str
    parameters: Parameters
    name: str | None
    negotiation: bytes
    replication: tuple[tuple[str, str], ...]

    def __init__(
        self,
        user: str,
        database: str,
        parameters: Parameters,
        name: str | None,
        negotiation: bytes,
        replication: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self.user = user
        self.database = database
        self.parameters = parameters
        self.name = name
        self.negotiation = negotiation
        self.replication = replication
        self.physical = dict(replication).get("replication", "database").lower() != "database"
        self.kind = ("yes" if self.physical else "database") if replication else "no"


def read_wish(packet: Startup, ignored: Container[str]) -> Wish:
    """`ignored`: parameters that are passed over.

    Raises LoginForbidden, OptionsRefused for switches in `options` that cannot be served, and
    FeatureRefused for parameters that cannot.
    """
    given = packet.parameters
    user = given.get("user", "")
    if not user:
        raise LoginForbidden("no PostgreSQL user name specified in startup packet")
    negotiation = b""
    if packet.minor > 0 or packet.options:
        negotiation = messages.negotiate_protocol_version(3 << 16, packet.options)
    database = given.get("database") or user
    if given.get("replication", "false").lower() not in _NO:
        kept = {k: v for k, v in given.items() if k not in _WHO and k.lower() not in ignored}
        return Wish(user, database, NONE, None, negotiation, tuple(kept.items()))
    asked = _parameters(given, ignored)
    name = asked.pop("application_name", None)
    return Wish(
        user,
        database,
        Parameters.of(asked),
        None if name is None else clean_name(name),
        negotiation,
    )


def _parameters(given: dict[str, str], ignored: Container[str]) -> dict[str, str]:
    asked = split_options(given.get("options", ""))
    asked.update({k: v for k, v in given.items() if k not in _NOT_PARAMETERS})
    found = {k.lower(): v for k, v in asked.items() if k.lower() not in ignored}
    found.pop(_PASSED_OVER, None)
    for name in _AT_ITS_BEGINNING:
        if name in found:
            raise FeatureRefused(
                f'parameter "{name}" cannot be given at login: servers are connected already',
                hint="Set it for all sessions (ALTER ROLE ... SET), or in one (SET).",
            )
    return found


def clean_name(name: str) -> str:
    """As Postgres keeps an application_name: at most 63 bytes of printable ASCII."""
    return "".join(chr(c) if 32 <= c <= 126 else "?" for c in name.encode()[:63])
