"""Whether a server that was given back is as it is believed to be.

What an audit finds is a fault: of ours, or of a function that changed the session where no
statement showed it. Parameters of an application's own (with a dot) are in no catalogue of
Postgres's: of those only the known ones are compared.
"""

from __future__ import annotations

from collections.abc import Mapping

from proxy.conditions import PARAMETERS, PREPARED, UNSURE
from proxy.session.inquiry import ASKABLE, Answer, question, read_answer
from proxy.session.parameters import Parameters

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
    if _differs(believed, answer):
        found |= PARAMETERS
    there = (answer.statements or {}).keys() | answer.strays.keys()
    if there != believed.statements.keys():
        found |= PREPARED
    return found


def _differs(believed: Parameters, answer: Answer) -> bool:
    """Whether a value is another, or something is set that should not be.

    Setting a parameter to what it was before need not be known.
    """
    if any(_value(name, answer.values) != _value(name, believed.values) for name in answer.values):
        return True
    session = answer.session or {}
    return not session.keys() - answer.default <= believed.values.keys()


def _value(name: str, values: Mapping[str, str | None]) -> str:
    """Empty where it is as good as not set."""
    value = values.get(name) or ""
    return "" if name == "role" and value == "none" else value


def _names(believed: Parameters) -> tuple[str, ...]:
    return tuple(sorted({*believed.values, "role"}))
