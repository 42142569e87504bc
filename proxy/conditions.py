"""What a client's session may hold that its server must keep or be given: declared once.

A set of conditions is a mask of bits.
"""

from typing import NamedTuple


class Condition(NamedTuple):
    """`word`: in settings, logs and metrics; `meaning` and `advice`: a sentence each for whoever
    reads it: what it is, and how to do without it.

    `replayed`: it is carried to another server, so it need not pin.
    """

    bit: int
    word: str
    replayed: bool
    meaning: str
    advice: str


CHOICES = REPLAY, PIN, REJECT, IGNORE = ("replay", "pin", "reject", "ignore")
"""What may be done about a condition: carry it to the next server, keep the server, refuse the
statement, or let it happen and forget it."""

PARAMETERS, LISTEN, ADVISORY, TEMP, HOLD = 1, 2, 4, 8, 16
LOAD, PREPARED, SEQUENCES, SEED, UNSURE, COMPUTED = 32, 64, 128, 256, 512, 1024
SERVER_STATE = 2048

CONDITIONS = (
    Condition(
        PARAMETERS,
        "parameters",
        True,
        "It set parameters of its session (SET, set_config).",
        "Use SET LOCAL inside a transaction, startup parameters, or ALTER ROLE ... SET.",
    ),
    Condition(
        LISTEN,
        "listen",
        False,
        "It listens on a channel (LISTEN).",
        "Listen over one connection of its own, straight to Postgres; UNLISTEN when done.",
    ),
    Condition(
        ADVISORY,
        "advisory_lock",
        False,
        "It holds a session-level advisory lock.",
        "Use pg_advisory_xact_lock or pg_try_advisory_xact_lock, which end with the transaction.",
    ),
    Condition(
        TEMP,
        "temporary",
        False,
        "It has a temporary table, view, sequence or function.",
        "Create it inside a transaction with ON COMMIT DROP, use a CTE, or drop it when done.",
    ),
    Condition(
        HOLD,
        "hold_cursor",
        False,
        "It has an open cursor WITH HOLD.",
        "Declare the cursor without HOLD and read it within its transaction; CLOSE it when done.",
    ),
    Condition(
        LOAD,
        "load",
        False,
        "It loaded a library (LOAD).",
        "Load it for everybody with session_preload_libraries or shared_preload_libraries.",
    ),
    Condition(
        PREPARED,
        "prepared",
        True,
        "It uses statements prepared in SQL (PREPARE, EXECUTE).",
        "Let the driver prepare statements (the protocol's Parse); they are shared, without a pin.",
    ),
    Condition(
        SEQUENCES,
        "sequences",
        True,
        "It asks what nextval gave it last (currval, lastval).",
        "Use INSERT ... RETURNING, or ask within the transaction of the nextval.",
    ),
    Condition(
        SEED,
        "seed",
        False,
        "It seeded its random numbers (setseed, SET seed).",
        "Call setseed in the transaction that uses random().",
    ),
    Condition(
        UNSURE,
        "unsure",
        False,
        "What its statements did to its session could not be asked of Postgres.",
        "See session_unknown in the log for Postgres's words; a statement_timeout of a few"
        " milliseconds does this, and so does a right that was revoked.",
    ),
    Condition(
        COMPUTED,
        "computed_name",
        False,
        "It may have set a parameter whose name cannot be known (set_config('app.' || ..., ...)).",
        "Write the name as one constant, or pass it whole: set_config($1, $2, false).",
    ),
    Condition(
        SERVER_STATE,
        "server_state",
        False,
        "It has begun a backup, a temporary replication slot or the like, which its server holds.",
        "Do it over a connection straight to Postgres; give dblink a connection string each time.",
    ),
)

# What code that cannot be read may do and Postgres can be asked about. The others would pin for
# good on a mere suspicion: nothing tells whether a library was loaded, a seed set, a backup begun.
ANYTHING = PARAMETERS | LISTEN | ADVISORY | TEMP | HOLD | PREPARED

BY_BIT = {condition.bit: condition for condition in CONDITIONS}


def among(mask: int) -> list[Condition]:
    """The conditions in the mask."""
    return [condition for condition in CONDITIONS if mask & condition.bit]


def words(mask: int) -> list[str]:
    """The words of the conditions in the mask."""
    return [condition.word for condition in among(mask)]
