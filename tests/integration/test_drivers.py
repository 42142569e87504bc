"""psycopg2, pg8000 and SQLAlchemy, each doing the same on every way to Postgres."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import unquote, urlsplit

import pg8000.dbapi
import psycopg2
import psycopg2.errors
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool, Pool, QueuePool

DIALECTS = ["psycopg", "psycopg2", "pg8000"]


def parts(dsn: str) -> dict[str, Any]:
    url = urlsplit(dsn)
    return {
        "host": url.hostname,
        "port": url.port,
        "user": unquote(url.username or ""),
        "password": unquote(url.password or ""),
        "database": url.path.lstrip("/"),
    }


def dialect_url(dsn: str, dialect: str) -> sa.URL:
    return sa.make_url(dsn).set(drivername=f"postgresql+{dialect}")


@pytest.fixture(params=["psycopg2", "pg8000"])
def connection(request: pytest.FixtureRequest, dsn: str) -> Iterator[Any]:
    module: Any = psycopg2 if request.param == "psycopg2" else pg8000.dbapi
    connection = module.connect(**parts(dsn))
    yield connection
    connection.close()


def fetch(connection: Any, sql: str, *args: object) -> list[list[object]]:
    cursor = connection.cursor()
    cursor.execute(sql, args) if args else cursor.execute(sql)
    return [list(row) for row in cursor.fetchall()]


def test_transactions(connection: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("CREATE TEMP TABLE kept (n int, words text) ON COMMIT DROP")
    cursor.executemany("INSERT INTO kept VALUES (%s, %s)", [(n, f"row {n}") for n in range(100)])
    assert fetch(connection, "SELECT count(*), max(words) FROM kept WHERE n >= %s", 90) == [
        [10, "row 99"]
    ]
    connection.commit()
    for n in range(20):
        assert fetch(connection, "SELECT %s + 1", n) == [[n + 1]]
        connection.rollback()


def test_errors(connection: Any) -> None:
    refused = (psycopg2.Error, pg8000.dbapi.Error)
    with pytest.raises(refused, match="no_such_table"):
        fetch(connection, "SELECT * FROM no_such_table")
    with pytest.raises(refused, match="current transaction is aborted"):
        fetch(connection, "SELECT 1")
    connection.rollback()
    assert fetch(connection, "SELECT 1") == [[1]]


def test_copy(connection: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("CREATE TEMP TABLE copied (n int) ON COMMIT DROP")
    source, out = io.BytesIO(b"".join(b"%d\n" % n for n in range(5000))), io.BytesIO()
    if isinstance(cursor, pg8000.dbapi.Cursor):
        cursor.execute("COPY copied FROM STDIN", stream=source)
        cursor.execute("COPY copied TO STDOUT", stream=out)
    else:
        cursor.copy_expert("COPY copied FROM STDIN", source)
        cursor.copy_expert("COPY copied TO STDOUT", out)
    assert out.getvalue() == source.getvalue()


def test_named_cursor_of_psycopg2(dsn: str) -> None:
    connection = psycopg2.connect(**parts(dsn))
    with connection, connection.cursor("by_name") as cursor:
        cursor.itersize = 50
        cursor.execute("SELECT generate_series(1, 500)")
        assert [row[0] for row in cursor] == list(range(1, 501))
    connection.close()


def test_cancel_of_psycopg2(dsn: str) -> None:
    connection = psycopg2.connect(**parts(dsn))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(fetch, connection, "SELECT pg_sleep(20)")
        while not running.done():
            connection.cancel()
        assert isinstance(running.exception(), psycopg2.errors.QueryCanceled)
    connection.rollback()
    assert fetch(connection, "SELECT 1") == [[1]]
    connection.close()


@pytest.mark.parametrize("pool", [QueuePool, NullPool])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_sqlalchemy(dsn: str, dialect: str, pool: type[Pool]) -> None:
    engine = sa.create_engine(dialect_url(dsn, dialect), poolclass=pool)
    table = sa.Table(
        "kept",
        sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("words", sa.Text),
        prefixes=["TEMPORARY"],
        postgresql_on_commit="DROP",
    )
    with engine.begin() as connection:
        table.create(connection)
        connection.execute(sa.insert(table), [{"words": f"row {n}"} for n in range(50)])
        assert connection.scalar(sa.select(sa.func.count()).select_from(table)) == 50
    for n in range(10):
        with engine.connect() as connection:
            assert connection.scalar(sa.select(sa.literal(n) + 1)) == n + 1
    with engine.connect() as connection, pytest.raises(sa.exc.ProgrammingError):
        connection.execute(sa.text("SELECT * FROM no_such_table"))
    engine.dispose()


@pytest.mark.parametrize("pool", [None, NullPool])
@pytest.mark.parametrize("dialect", ["asyncpg", "psycopg"])
async def test_sqlalchemy_async(dsn: str, dialect: str, pool: type[Pool] | None) -> None:
    engine = create_async_engine(dialect_url(dsn, dialect), poolclass=pool)

    async def work(n: int) -> None:
        async with engine.begin() as connection:
            assert await connection.scalar(sa.select(sa.literal(n) + 1)) == n + 1

    await asyncio.gather(*map(work, range(15)))
    await engine.dispose()
