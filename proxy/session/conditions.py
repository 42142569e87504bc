"""What a client's session may hold that its server must keep or be given: declared once.

A set of conditions is a mask of bits.
"""

from typing import NamedTuple


class Condition(NamedTuple):
    """`word`: in logs and metrics; `meaning`: one sentence for whoever reads it."""

    bit: int
    word: str
    meaning: str


PARAMETERS, LISTEN, ADVISORY, TEMP, HOLD = 1, 2, 4, 8, 16
LOAD, PREPARED, SEQUENCES, SEED = 32, 64, 128, 256

CONDITIONS = (
    Condition(PARAMETERS, "parameters", "It set parameters of its session (SET, set_config)."),
    Condition(LISTEN, "listen", "It listens on a channel (LISTEN)."),
    Condition(ADVISORY, "advisory_lock", "It holds a session-level advisory lock."),
    Condition(TEMP, "temporary", "It has a temporary table, view, sequence or function."),
    Condition(HOLD, "hold_cursor", "It has an open cursor WITH HOLD."),
    Condition(LOAD, "load", "It loaded a library (LOAD)."),
    Condition(PREPARED, "prepared", "It uses statements prepared in SQL (PREPARE, EXECUTE)."),
    Condition(SEQUENCES, "sequences", "It asks what nextval gave it last (currval, lastval)."),
    Condition(SEED, "seed", "It seeded its random numbers (setseed, SET seed)."),
)

# What code that cannot be read may do and Postgres can be asked about. The others would pin for
# good on a mere suspicion: nothing tells whether a library was loaded or a seed set.
ANYTHING = PARAMETERS | LISTEN | ADVISORY | TEMP | HOLD | PREPARED


def words(mask: int) -> list[str]:
    """The words of the conditions in the mask."""
    return [condition.word for condition in CONDITIONS if mask & condition.bit]
