"""What the scan of a statement costs: `python -m loadtest.bench.scan` prints ns per text.

`glance` runs on every text; `seen` and `new` are the verdict's, on those the glance does not pass.
CPU time, the least of several runs, the call from Python included.
"""

import timeit
from collections.abc import Callable
from functools import partial
from time import process_time

from proxy.session import lexer
from proxy.session.glance import glance
from proxy.session.verdict import Verdicts, read

TEXTS = [
    b"SELECT abalance FROM pgbench_accounts WHERE aid = 12345;",
    b"SELECT u.id, u.name, p.title FROM users u JOIN posts p ON p.user_id = u.id WHERE u.id = $1;",
    b'SELECT "users"."id", "users"."email" FROM "users" WHERE "users"."email" = \'bob@x\' LIMIT 1',
    b"INSERT INTO events (id, kind, payload) VALUES "
    + b", ".join([b"(123456, 'click', '{\"x\": 1, \"y\": 2}')"] * 250),
]
PLAIN = (
    b"SELECT u.id, u.name, u.mail FROM users AS u WHERE u.mail = $1 AND NOT u.gone "
    b"ORDER BY u.id LIMIT 100"
)
SETTING = (
    b"SELECT set_config('app.user_id', $1, false), set_config('app.tenant_id', $2, false) "
    b"WHERE $3 IS NULL"
)
"""Of 100 bytes each: one that the glance passes, one that may change a session."""

CONCERNING = [
    SETTING,
    (
        b"SET statement_timeout = '5s'; SET lock_timeout = '1s'; "
        b"SET search_path TO tenant_17, public, shared"
    ),
    b"SET search_path = tenant_17, public",
    b"SET LOCAL statement_timeout = '5s'",
    b"SELECT set_config('app.user_id', $1, false)",
    b"SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL;",
    b"DISCARD ALL",
    (
        b"PREPARE user_by_mail (text) AS SELECT u.id, u.name FROM users AS u "
        b"WHERE u.mail = $1 AND NOT u.gone"
    ),
    b"EXECUTE user_by_mail ('bob@example.org')",
    (
        b"DECLARE page CURSOR WITH HOLD FOR SELECT u.id, u.name FROM users AS u "
        b"WHERE u.mail = $1 ORDER BY id"
    ),
    (
        b"CREATE TEMP TABLE basket (item int NOT NULL, amount int DEFAULT 1, "
        b"added timestamptz DEFAULT now())"
    ),
    b"SELECT pg_advisory_lock(42)",
    b"LISTEN orders_changed",
]
"""What programs and drivers say to change a session, in 100 bytes or less."""

RUNS = 7
_SLICE = 0.02
"""How often, and for about how long each time (seconds), a call is repeated."""


def nanoseconds(call: Callable[[], object]) -> float:
    """Of one call, at best."""
    timer = timeit.Timer(call, timer=process_time)
    number = max(1, int(_SLICE / (timer.timeit(100) / 100)))
    return min(timer.repeat(RUNS, number)) / number * 1e9


def passed() -> float:
    """ns for a text that cannot change a session, new or not: the glance."""
    buffer = bytearray(PLAIN)
    return nanoseconds(lambda: glance(buffer, 0, len(PLAIN), False))


def seen() -> float:
    """ns for a text that may, but is known: the glance, and the verdict that was kept."""
    verdicts, buffer = Verdicts(), bytearray(SETTING)
    return nanoseconds(
        lambda: glance(buffer, 0, len(SETTING), False) and verdicts.of(SETTING, False)
    )


def new() -> float:
    """ns for the verdict on a text that may change a session and was not seen before.

    Of the dearest of `CONCERNING`.
    """
    return max(nanoseconds(partial(read, text, False)) for text in CONCERNING)


def main() -> None:
    compiled = not str(lexer.__file__).endswith(".py")
    print("compiled" if compiled else "not compiled")
    print(f"{'bytes':>6} {'glance':>8} {'seen':>8} {'new':>8}  text")
    for text in [*TEXTS, *CONCERNING]:
        print(_row(text))


def _row(text: bytes) -> str:
    buffer, size = bytearray(text), len(text)
    verdicts = Verdicts()
    costs = f"{size:>6} {nanoseconds(lambda: glance(buffer, 0, size, False)):>8.0f}"
    if glance(buffer, 0, size, False):
        costs += f" {nanoseconds(lambda: verdicts.of(text, False)):>8.0f}"
        costs += f" {nanoseconds(lambda: read(text, False)):>8.0f}"
    else:
        costs += f" {'-':>8} {'-':>8}"
    return f"{costs}  {text[:60].decode()}"


if __name__ == "__main__":
    main()
