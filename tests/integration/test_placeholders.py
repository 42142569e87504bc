"""An application's own parameters: Postgres keeps their names as long as a session lives.

`current_setting('app.tenant')` fails as long as nobody has set it, and is '' once somebody has, if
only for a transaction.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import StartFunnel
from tests.integration.test_readings import Both
from tests.postgres import Postgres
from tests.wireclient import SYNC, bind, execute, parse, rows, sqlstates


@pytest.fixture
def two(pgfunnel: StartFunnel, postgres: Postgres) -> Iterator[list[Both]]:
    """On two servers: the second client can hold the one that the first had last."""
    funnel = pgfunnel(default_pool_size=2)
    clients = [Both(funnel, postgres), Both(funnel, postgres)]
    yield clients
    for client in clients:
        client.close()


def is_there(one: Both, other: Both, name: str) -> bool:
    """Whether the name is known, on the server that it had last and on the other one."""
    sql = f"SELECT current_setting('{name}')"
    found = []
    for block in (True, False):
        if block:
            other.ask("BEGIN")
            other.ask("SELECT 1")
        found.append(not sqlstates(one.ask(sql)))
        found.append(not sqlstates(one.send(parse("", sql), bind(), execute(), SYNC)))
        if block:
            other.ask("COMMIT")
    assert len(set(found)) == 1
    return found[0]


@pytest.mark.parametrize(
    "number, sets",
    [
        *enumerate(
            [
                ["BEGIN", "SET LOCAL app.n{} = 'x'", "COMMIT"],
                ["BEGIN", "SET LOCAL app.n{} = 'x'", "ROLLBACK"],
                ["BEGIN", "SELECT set_config('app.n{}', 'x', true)", "COMMIT"],
                ["SELECT set_config('app.n{}', 'x', true)"],
                ["SET app.n{} = 'x'", "RESET app.n{}"],
                ["SET app.n{} = 'x'", "DISCARD ALL"],
                ["BEGIN", "SET app.n{} = 'x'", "ROLLBACK"],
                ["DO $$ BEGIN PERFORM set_config('app.n{}', 'x', true); END $$"],
            ]
        )
    ],
)
def test_the_name_stays_known(two: list[Both], number: int, sets: list[str]) -> None:
    one, other = two
    name = f"app.n{number}"
    assert not is_there(one, other, name)
    for sql in sets:
        one.ask(sql.format(number))
    assert is_there(one, other, name)
    assert rows(one.ask(f"SELECT current_setting('{name}', true)")) == [[""]]


@pytest.mark.parametrize(
    "sets",
    [
        "SET LOCAL app.broken = ",
        "SELECT set_config('app.none', 'x', true), 1/0 FROM pg_nosuch",
        "SET LOCAL plpgsql.check_asserts = off",
        "SET LOCAL plpgsql.nosuch = off",
        'SET LOCAL "app.an odd".name = 1',
    ],
)
def test_what_was_never_set_is_no_name(two: list[Both], sets: str) -> None:
    one, other = two
    one.ask("BEGIN")
    one.funnel.ask(sets)
    one.straight.ask(sets)
    one.ask("ROLLBACK")
    for _ in range(2):
        other.ask("BEGIN")
        other.ask("SELECT 1")
        one.ask("SELECT 1")
        other.ask("COMMIT")
    for name in ("app.broken", "app.none"):
        assert not is_there(one, other, name)
