"""Whether a server that was given back is as it is believed to be.

What an audit finds is a fault: of ours, or of a function that changed the session where no
statement showed it. Parameters of an application's own (with a dot) are in no catalogue of
Postgres's: of those only the known ones are compared.
"""

from __future__ import annotations

from collections.abc import Mapping

from proxy.conditions import PARAMETERS, PREPARED, UNSURE
from proxy.session.inquiry import ASKABLE, Answer, question, read_answer
from proxy.session.parameters import IDENTITY, Parameters

_ASKS = ASKABLE | PARAMETERS | PREPARED


def query(believed: Parameters) -> bytes:
    """The SELECT that tells."""
    return question(_ASKS, _names(believed), (), True)


def leaks(believed: Parameters, rows: list[list[bytes | None]]) -> int:
    """The conditions that should not hold, by the rows that `query` brought; 0 when all is well."""
    if len(rows) != 1:
        return UNSURE
    answer = read_answer(_ASKS, _names(believed), (), True, rows[0])
    found = answer.held
    if _plain(believed) != _found(answer, believed) or _own(believed) != _set(answer.values):
        found |= PARAMETERS
    if answer.statements is not None and answer.statements.keys() != believed.statements.keys():
        found |= PREPARED
    return found


def _plain(believed: Parameters) -> dict[str, str]:
    """Parameters that pg_settings tells of."""
    return {n: v for n, v in believed.values.items() if "." not in n and n not in IDENTITY}


def _found(answer: Answer, believed: Parameters) -> dict[str, str]:
    """What is set; setting a parameter to what it was before need not be known."""
    session = answer.session or {}
    return {n: v for n, v in session.items() if n in believed.values or n not in answer.default}


def _own(believed: Parameters) -> dict[str, str]:
    names = _names(believed)
    return _set({n: v for n, v in believed.values.items() if n in names})


def _set(values: Mapping[str, str | None]) -> dict[str, str]:
    return {n: v for n, v in values.items() if v and not (n == "role" and v == "none")}


def _names(believed: Parameters) -> tuple[str, ...]:
    return tuple(sorted({n for n in believed.values if "." in n} | {"role"}))
