"""Errors of Postgres's that tell of what pgfunnel has put in a statement's place."""

from __future__ import annotations

import re
from typing import Any

from proxy.session.policy import REFUSED, refusal
from proxy.session.prepared import OTHER_RESULT
from proxy.session.preparing import stands_for
from proxy.session.session import Session
from proxy.wire import messages

_CHANGED = {
    "C": "0A000",
    "M": "cached plan must not change result type",
    "F": "plancache.c",
    "R": "RevalidateCachedQuery",
}
"""What Postgres says of a prepared statement whose result is another now; drivers go by it."""

_REFUSED = re.compile(f'at or near "{REFUSED}([0-9]+)"')


def own_words(fields: dict[str, str], undone: list[Any], session: Session | None) -> bytes:
    """The ErrorResponse in words for the client that has this session; None: nobody reads it.

    `undone` are the notes of what the error undoes (`proxy.session.owed`).
    """
    said = fields["M"]
    severity = {k: v for k, v in fields.items() if k in "SV"}
    if OTHER_RESULT in said:
        return messages.error_fields({**severity, **_CHANGED}.items())
    unprepared = stands_for(said)
    if unprepared is not None and session is not None:
        then = session.failing.get(unprepared, fields)
        return messages.error_fields({**then, **severity}.items())
    refused = _REFUSED.search(said)
    if refused is not None:
        words = dict(zip("CMH", refusal(int(refused[1])), strict=True))
        return messages.error_fields({**severity, **words}.items())
    if '"?pgfunnel_' in said:
        said = said.replace('"?pgfunnel_', '"pgfunnel_')
        return messages.error_fields({**fields, "M": said}.items())
    return messages.error_fields({**fields, "M": _renamed(fields, undone, session)}.items())


def _renamed(fields: dict[str, str], undone: list[Any], session: Session | None) -> str:
    """Postgres calls a statement by our name for it; the client knows it by its own."""
    said = fields["M"]
    if fields.get("C") == "42P05" and undone and undone[0][1] is not None:
        again: str = undone[0][1].decode("utf-8", "replace")
        said = re.sub(r'"pgfunnel_\d+"', lambda _: f'"{again}"', said)
    names: dict[Any, Any] = {note[4]: note[1] for note in undone if note[1] is not None}
    if session is not None:
        names.update({statement: name for name, statement in session.names.items()})
    for statement, name in names.items():
        if statement is not None:
            ours = statement.server_name.decode()
            said = said.replace(f'"{ours}"', f'"{name.decode("utf-8", "replace")}"')
    return said
