"""psycopg 3, blocking and async: server-side prepare, pipelines, COPY, cursors, cancels."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
from psycopg import errors

Connection = psycopg.Connection[tuple[object, ...]]
AsyncConnection = psycopg.AsyncConnection[tuple[object, ...]]


@pytest.fixture
def connection(dsn: str) -> Iterator[Connection]:
    with psycopg.connect(dsn, prepare_threshold=0) as connection:
        yield connection


@pytest.fixture
async def aconnection(dsn: str) -> AsyncIterator[AsyncConnection]:
    async with await psycopg.AsyncConnection.connect(dsn, prepare_threshold=0) as connection:
        yield connection


def one(connection: Connection, sql: str, *args: object) -> object:
    row = connection.execute(sql.encode(), args or None).fetchone()
    assert row is not None
    return row[0]


async def aone(connection: AsyncConnection, sql: str, *args: object) -> object:
    row = await (await connection.execute(sql.encode(), args or None)).fetchone()
    assert row is not None
    return row[0]


@pytest.mark.parametrize("autocommit", [True, False])
def test_prepared_on_every_server(connection: Connection, autocommit: bool) -> None:
    connection.autocommit = autocommit
    for n in range(40):
        assert one(connection, "SELECT %s::int + 1", n) == n + 1
        assert one(connection, f"SELECT {n % 7} + %s::int", n) == n % 7 + n
        connection.commit()


def test_more_statements_than_the_driver_keeps(connection: Connection) -> None:
    """It deallocates the oldest ones, with DEALLOCATE or Close."""
    connection.prepared_max = 10
    connection.autocommit = True
    for n in [*range(30), *range(30)]:
        assert one(connection, f"SELECT {n} + %s::int", n) == 2 * n


def test_deallocate_all(connection: Connection) -> None:
    connection.autocommit = True
    assert one(connection, "SELECT %s::int", 1) == 1
    connection.execute("DEALLOCATE ALL")
    assert one(connection, "SELECT %s::int", 2) == 2


def test_pipeline(connection: Connection) -> None:
    with connection.pipeline() as pipeline:
        cursors = [connection.execute("SELECT %s::int", [n]) for n in range(50)]
        pipeline.sync()
        cursors += [connection.execute("SELECT %s::int", [n]) for n in range(50, 100)]
    assert [cursor.fetchone() for cursor in cursors] == [(n,) for n in range(100)]


def test_pipeline_that_fails(connection: Connection) -> None:
    """What follows the error up to the Sync is skipped, and nothing of it is left behind."""
    connection.autocommit = True
    connection.execute("SELECT 1 / %s::int", [1])
    with pytest.raises(errors.DivisionByZero):
        divide(connection, 1, 0, 2)
    assert divide(connection, 1, 2) == [(1,), (0,)]


def divide(connection: Connection, *numbers: int) -> list[object]:
    with connection.pipeline():
        cursors = [connection.execute("SELECT 1 / %s::int", [n]) for n in numbers]
    return [cursor.fetchone() for cursor in cursors]


def test_copy_both_ways(connection: Connection) -> None:
    rows = [(n, f"row {n}") for n in range(5000)]
    connection.execute("CREATE TEMP TABLE copied (n int, words text) ON COMMIT DROP")
    with connection.cursor().copy("COPY copied FROM STDIN") as into:
        for row in rows:
            into.write_row(row)
    with connection.cursor().copy("COPY copied TO STDOUT") as out:
        out.set_types(["int4", "text"])
        assert list(out.rows()) == rows


def test_copy_given_up_by_the_client(connection: Connection) -> None:
    connection.execute("CREATE TEMP TABLE copied (n int) ON COMMIT DROP")
    connection.execute("SAVEPOINT before")
    with pytest.raises(ZeroDivisionError):
        copy_and_give_up(connection)
    connection.execute("ROLLBACK TO before")
    assert one(connection, "SELECT count(*) FROM copied") == 0


def copy_and_give_up(connection: Connection) -> None:
    """The driver then ends the COPY with CopyFail."""
    with connection.cursor().copy("COPY copied FROM STDIN") as into:
        into.write("1\n")
        raise ZeroDivisionError


def test_copy_of_rows_that_postgres_refuses(connection: Connection) -> None:
    connection.execute("CREATE TEMP TABLE copied (n int) ON COMMIT DROP")
    with (
        pytest.raises(errors.InvalidTextRepresentation),
        connection.cursor().copy("COPY copied FROM STDIN") as into,
    ):
        into.write("1\nno number\n" * 1000)
    connection.rollback()
    assert one(connection, "SELECT 1") == 1


def test_server_side_cursor(connection: Connection) -> None:
    with connection.cursor("by_name") as cursor:
        cursor.itersize = 100
        cursor.execute("SELECT generate_series(1, 1000)")
        assert [row[0] for row in cursor] == list(range(1, 1001))
    with connection.cursor("scrolled", scrollable=True) as cursor:
        cursor.execute("SELECT generate_series(1, 10)")
        cursor.scroll(5)
        assert cursor.fetchone() == (6,)


def test_cancel(connection: Connection) -> None:
    for _ in range(3):
        timer = threading.Timer(0.1, connection.cancel)
        timer.start()
        with pytest.raises(errors.QueryCanceled):
            connection.execute("SELECT pg_sleep(20)")
        timer.join()
        connection.rollback()
    assert one(connection, "SELECT 1") == 1


def test_errors_are_those_of_postgres(connection: Connection) -> None:
    with pytest.raises(errors.UndefinedColumn) as missing:
        connection.execute("SELECT no_such_column")
    assert missing.value.diag.statement_position == "8"
    with pytest.raises(errors.InFailedSqlTransaction):
        connection.execute("SELECT 1")
    connection.rollback()
    with pytest.raises(errors.RaiseException, match="hear, hear") as raised:
        connection.execute(
            "DO $$ BEGIN RAISE 'hear, hear' USING HINT = 'so', DETAIL = 'there'; END $$"
        )
    assert (raised.value.diag.message_hint, raised.value.diag.message_detail) == ("so", "there")


def test_notices_arrive(connection: Connection) -> None:
    heard: list[str | None] = []
    connection.add_notice_handler(lambda diagnostic: heard.append(diagnostic.message_primary))
    connection.execute("DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two'; END $$")
    assert heard == ["one", "two"]


def test_transactions_and_savepoints(connection: Connection) -> None:
    with connection.transaction():
        connection.execute("CREATE TEMP TABLE kept (n int) ON COMMIT DROP")
        with pytest.raises(errors.DivisionByZero), connection.transaction():
            connection.execute("INSERT INTO kept VALUES (1) RETURNING 1 / 0")
        assert one(connection, "SELECT count(*) FROM kept") == 0


def test_binary_and_large_values(connection: Connection) -> None:
    blob = bytes(range(256)) * 20_000
    with connection.cursor(binary=True) as cursor:
        cursor.execute("SELECT %b::bytea, %b::float8", [blob, 0.1])
        assert cursor.fetchone() == (blob, 0.1)


async def test_async_prepared_pipeline_and_cursor(aconnection: AsyncConnection) -> None:
    for n in range(20):
        assert await aone(aconnection, "SELECT %s::int + 1", n) == n + 1
        await aconnection.commit()
    async with aconnection.pipeline():
        cursors = [await aconnection.execute("SELECT %s::int", [n]) for n in range(50)]
    assert [await cursor.fetchone() for cursor in cursors] == [(n,) for n in range(50)]
    async with aconnection.cursor("by_name") as cursor:
        await cursor.execute("SELECT generate_series(1, 300)")
        assert len([row async for row in cursor]) == 300


async def test_async_copy_and_cancel(aconnection: AsyncConnection) -> None:
    await aconnection.execute("CREATE TEMP TABLE copied (n int) ON COMMIT DROP")
    async with aconnection.cursor().copy("COPY copied FROM STDIN") as into:
        for n in range(1000):
            await into.write_row((n,))
    assert await aone(aconnection, "SELECT count(*) FROM copied") == 1000
    await aconnection.execute("SET LOCAL statement_timeout = '30s'")
    timer = threading.Timer(0.1, aconnection.cancel)
    timer.start()
    with pytest.raises(errors.QueryCanceled):
        await aconnection.execute("SELECT pg_sleep(20)")
    timer.join()
    await aconnection.rollback()
    assert await aone(aconnection, "SELECT 1") == 1
