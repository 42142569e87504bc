"""What a client asks for in its start-up packet."""

from __future__ import annotations

from collections.abc import Container

import cython

from proxy.errors import FeatureRefused, LoginForbidden
from proxy.session.parameters import Parameters
from proxy.wire import messages
from proxy.wire.startup import Startup, split_options

_NOT_PARAMETERS = frozenset({"user", "database", "options", "replication"})


@cython.cclass
class Wish:
    """What a start-up packet asks for, read once for all that are alike.

    `name`: the application_name, which needs no server to be known.
    """

    user: str
    database: str
    parameters: Parameters
    name: str | None
    negotiation: bytes

    def __init__(
        self,
        user: str,
        database: str,
        parameters: Parameters,
        name: str | None,
        negotiation: bytes,
    ) -> None:
        self.user = user
        self.database = database
        self.parameters = parameters
        self.name = name
        self.negotiation = negotiation


def read_wish(packet: Startup, ignored: Container[str]) -> Wish:
    """`ignored`: parameters that are passed over. Raises LoginForbidden, FeatureRefused, and
    ProtocolViolation for switches in `options` that cannot be served."""
    given = packet.parameters
    user = given.get("user", "")
    if not user:
        raise LoginForbidden("no PostgreSQL user name specified in startup packet")
    if given.get("replication", "false").lower() not in ("false", "off", "no", "0"):
        raise FeatureRefused(
            "replication connections are not supported",
            hint="Connect straight to Postgres for replication.",
        )
    asked = _parameters(given, ignored)
    name = asked.pop("application_name", None)
    negotiation = b""
    if packet.minor > 0 or packet.options:
        negotiation = messages.negotiate_protocol_version(3 << 16, packet.options)
    return Wish(
        user,
        given.get("database") or user,
        Parameters.of(asked),
        None if name is None else clean_name(name),
        negotiation,
    )


def _parameters(given: dict[str, str], ignored: Container[str]) -> dict[str, str]:
    asked = split_options(given.get("options", ""))
    asked.update({k: v for k, v in given.items() if k not in _NOT_PARAMETERS})
    return {k.lower(): v for k, v in asked.items() if k.lower() not in ignored}


def clean_name(name: str) -> str:
    """As Postgres keeps an application_name: at most 63 bytes of printable ASCII."""
    return "".join(chr(c) if 32 <= c <= 126 else "?" for c in name.encode()[:63])
