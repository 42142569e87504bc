"""What an invocation does in its one transaction, and the tables it does it to."""

from __future__ import annotations

import random
from collections.abc import Callable

import psycopg

from loadtest.lab import SCHEMA_NAME

Connection = psycopg.Connection[tuple[object, ...]]

PRODUCTS, IN_STOCK = 100, 1_000_000
_SETUP_LOCK = 7_367_231

SETUP = f"""
SELECT pg_advisory_xact_lock({_SETUP_LOCK});
CREATE SCHEMA IF NOT EXISTS {SCHEMA_NAME};
CREATE TABLE IF NOT EXISTS {SCHEMA_NAME}.notes (
    function text PRIMARY KEY, token text NOT NULL);
CREATE TABLE IF NOT EXISTS {SCHEMA_NAME}.stock (
    product int PRIMARY KEY, price int NOT NULL, quantity int NOT NULL);
CREATE TABLE IF NOT EXISTS {SCHEMA_NAME}.orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, function text NOT NULL,
    product int NOT NULL, quantity int NOT NULL, amount int NOT NULL);
CREATE TABLE IF NOT EXISTS {SCHEMA_NAME}.payments (
    order_id bigint PRIMARY KEY REFERENCES {SCHEMA_NAME}.orders, amount int NOT NULL);
INSERT INTO {SCHEMA_NAME}.stock
    SELECT number, number, {IN_STOCK} FROM generate_series(1, {PRODUCTS}) AS number
    ON CONFLICT DO NOTHING;
"""
DROP = f"DROP SCHEMA IF EXISTS {SCHEMA_NAME} CASCADE"

_OWN_NOTE = f"SELECT function, token FROM {SCHEMA_NAME}.notes WHERE function = %s"
_WRITE_NOTE = f"""
INSERT INTO {SCHEMA_NAME}.notes VALUES (%s, %s)
ON CONFLICT (function) DO UPDATE SET token = excluded.token
"""
_TAKE = f"""
UPDATE {SCHEMA_NAME}.stock SET quantity = quantity - %s WHERE product = %s RETURNING price
"""
_ORDER = f"""
INSERT INTO {SCHEMA_NAME}.orders (function, product, quantity, amount)
VALUES (%s, %s, %s, %s) RETURNING id
"""
_PAY = f"INSERT INTO {SCHEMA_NAME}.payments VALUES (%s, %s)"
_CATALOGUE = f"SELECT product, price FROM {SCHEMA_NAME}.stock ORDER BY price DESC LIMIT 10"

# What object mappers say before their first statement; none of it differs between functions.
ORM_GREETING = (
    "SELECT version()",
    "SELECT current_schema()",
    "SHOW standard_conforming_strings",
    "SHOW transaction_isolation",
    "SET DateStyle TO 'ISO'",
    "SET TIME ZONE 'UTC'",
    "SELECT t.oid, typarray FROM pg_type t WHERE t.typname IN ('hstore', 'jsonb', 'uuid')",
    "SELECT oid, typname, typtype, typelem FROM pg_type WHERE typtype = 'b' LIMIT 50",
)


def own_note(connection: Connection, function: str) -> list[tuple[object, ...]]:
    """The rows (function, token) of `function`: none or one."""
    return connection.execute(_OWN_NOTE, (function,)).fetchall()


def read(connection: Connection, _function: str) -> None:
    """The front page."""
    connection.execute(_CATALOGUE).fetchall()


def prepared(connection: Connection, function: str) -> None:
    """Two protocol-level prepared statements, kept by the driver for the connection's life."""
    connection.execute(_CATALOGUE, prepare=True).fetchall()
    connection.execute(_OWN_NOTE, (function,), prepare=True).fetchall()


def write_note(connection: Connection, function: str, token: str) -> None:
    """One small row, the function's own."""
    connection.execute(_WRITE_NOTE, (function, token))


def order(connection: Connection, function: str) -> tuple[int, int]:
    """Take from the stock and write an order: its id and amount. Unpaid it must never commit."""
    product, quantity = random.randint(1, PRODUCTS), random.randint(1, 3)
    price = _number(connection.execute(_TAKE, (quantity, product)).fetchone())
    amount = price * quantity
    placed = connection.execute(_ORDER, (function, product, quantity, amount)).fetchone()
    return _number(placed), amount


def checkout(connection: Connection, function: str) -> None:
    """Stock, order and payment, all or nothing."""
    connection.execute(_PAY, order(connection, function))


def _number(row: tuple[object, ...] | None) -> int:
    assert row is not None
    number = row[0]
    assert isinstance(number, int)
    return number


WORKLOADS: dict[str, Callable[[Connection, str], None]] = {
    "read": read,
    "write": read,  # and its note, see functions
    "checkout": checkout,
    "orm": read,  # after its greeting
    "prepared": prepared,
}
SHARES = {"read": 35, "write": 20, "checkout": 25, "orm": 10, "prepared": 10}
