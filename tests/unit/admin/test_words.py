"""What an operator says is read as PgBouncer reads it."""

from __future__ import annotations

import pytest

from proxy.admin.words import Said, read
from proxy.errors import CommandUnknown


@pytest.mark.parametrize(
    "sql, said",
    [
        ("SHOW POOLS", Said("SHOW", "POOLS")),
        ("  show\n\tpools ;  ", Said("SHOW", "pools")),
        ("pause", Said("PAUSE")),
        ("PAUSE app;", Said("PAUSE", "app")),
        ('PAUSE "my ""odd"" db";', Said("PAUSE", 'my "odd" db')),
        ("PAUSE my-app", Said("PAUSE", "my-app")),
        ("KILL_CLIENT 17", Said("KILL_CLIENT", "17")),
        ("SET log_connections = 1;", Said("SET", "log_connections", "1")),
        ("set LOG_CONNECTIONS=off", Said("SET", "log_connections", "off")),
        (
            "SET server_check_query TO 'select ''2'''",
            Said("SET", "server_check_query", "select '2'"),
        ),
        ("SET server_check_query = ''", Said("SET", "server_check_query", "")),
        ("SET admin_users = 'a, b'", Said("SET", "admin_users", "a, b")),
        ("SHUTDOWN WAIT_FOR_CLIENTS", Said("SHUTDOWN", "WAIT_FOR_CLIENTS")),
    ],
)
def test_commands(sql: str, said: Said) -> None:
    assert read(sql) == said


@pytest.mark.parametrize("sql", ["", " ", ";", " ;\n"])
def test_nothing_was_said(sql: str) -> None:
    assert read(sql) is None


@pytest.mark.parametrize(
    "sql",
    [
        "SHOW POOLS; SHOW STATS",
        "PAUSE a b",
        "SET default_pool_size 5",
        "SELECT 1 + 1",
        "PAUSE 'app'",
        'PAUSE "app',
    ],
)
def test_anything_else_is_refused_in_pgbouncers_words(sql: str) -> None:
    with pytest.raises(CommandUnknown) as refusal:
        read(sql)
    assert refusal.value.message == f"invalid command '{sql}', use SHOW HELP;"
