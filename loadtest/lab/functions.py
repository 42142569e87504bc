"""One simulated function: its connections, its transaction, and what it checks in each of them."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

import psycopg

from loadtest.lab.sqlstates import sqlstate, worth_a_retry
from loadtest.lab.tally import Tally
from loadtest.lab.workloads import (
    ORM_GREETING,
    WORKLOADS,
    Connection,
    own_note,
    write_note,
)

_CONNECT_SECONDS = 30
_ATTEMPTS = 4
_BACKOFF_SECONDS, _LONGEST_BACKOFF = 0.1, 2.0
# Nothing is prepared unless a workload asks for it (psycopg docs, "Prepared statements").
_NEVER_BY_ITSELF = 1_000_000_000
_STATE = "SELECT current_setting('lab.owner', true), current_setting('application_name')"
_OWN = "SELECT set_config('lab.owner', %s, %s)"
FAILURES = (psycopg.Error, OSError)


@dataclass(frozen=True)
class Terms:
    """What all functions of a run have in common.

    `session_state`: whether functions rely on a SET of theirs from one transaction to the next;
    without, they use SET LOCAL, as a pooler that shares sessions demands.
    """

    dsn: str
    session_state: bool
    tally: Tally


class Function:
    """What a function does once, whatever keeps its connections; see `behaviours`."""

    def __init__(self, name: str, terms: Terms) -> None:
        self.name = name
        self.terms = terms
        self._tokens: set[str | None] = {None}

    def connect(self) -> Connection:
        """A cold start: connection, TLS if the DSN says so, SCRAM, and the function's own SET."""
        began = time.perf_counter()
        connection = psycopg.connect(
            self.terms.dsn,
            application_name=self.name,
            autocommit=True,
            connect_timeout=_CONNECT_SECONDS,
            prepare_threshold=_NEVER_BY_ITSELF,
        )
        self.terms.tally.connecting.add((time.perf_counter() - began) * 1000)
        if self.terms.session_state:
            self._claim_session(connection)
        return connection

    def _claim_session(self, connection: Connection) -> None:
        try:
            self._expect_owner(connection, "")
            connection.execute(_OWN, (self.name, False))
        except BaseException:
            connection.close()
            raise

    def transact(self, connection: Connection, workload: str) -> None:
        """One transaction with the checks. Raises what the driver raises."""
        if workload == "orm":
            for statement in ORM_GREETING:
                connection.execute(statement)
        began = time.perf_counter()
        connection.execute("BEGIN")
        self.terms.tally.queueing.add((time.perf_counter() - began) * 1000)
        try:
            token = self._work(connection, workload)
        except BaseException:
            _roll_back(connection)
            raise
        self._commit(connection, workload, token)

    def _work(self, connection: Connection, workload: str) -> str | None:
        """Everything between BEGIN and COMMIT; the note's new token when one was written."""
        self._check_session(connection)
        self._check_note(connection)
        WORKLOADS[workload](connection, self.name)
        if workload != "write":
            return None
        token = secrets.token_hex(8)
        write_note(connection, self.name, token)
        return token

    def _commit(self, connection: Connection, workload: str, token: str | None) -> None:
        """An answer that never came leaves both outcomes possible."""
        tally = self.terms.tally
        if token:
            self._tokens.add(token)
        if workload == "checkout":
            tally.checkouts_begun += 1
        connection.execute("COMMIT")
        if token:
            self._tokens = {token}
        if workload == "checkout":
            tally.checkouts_done += 1

    def _check_session(self, connection: Connection) -> None:
        self._expect_owner(connection, self.name if self.terms.session_state else "")
        if not self.terms.session_state:
            connection.execute(_OWN, (self.name, True))
            self._expect_owner(connection, self.name)

    def _expect_owner(self, connection: Connection, expected: str) -> None:
        row = connection.execute(_STATE).fetchone()
        assert row is not None
        owner, application = str(row[0] or ""), str(row[1])
        tally = self.terms.tally
        tally.checks += 2
        if owner != expected:
            tally.violate(_told(self.name, "lab.owner", expected, owner))
        if application != self.name:
            tally.violate(_told(self.name, "application_name", self.name, application))

    def _check_note(self, connection: Connection) -> None:
        rows = own_note(connection, self.name)
        tally = self.terms.tally
        tally.checks += 1
        owner, token = rows[0] if rows else (self.name, None)
        if owner != self.name or token not in self._tokens:
            tally.violate(f"{self.name} read a row of {owner} that it never wrote")

    def until_done(self, behaviour: str, workload: str, attempt: Callable[[str], None]) -> float:
        """Try, and again with backoff on 53300; the latency in ms, retries and all.

        Raises GaveUp.
        """
        tally = self.terms.tally
        began = time.perf_counter()
        for number in range(_ATTEMPTS):
            try:
                attempt(workload)
            except FAILURES as error:
                code = sqlstate(error)
                tally.refused[code] += 1
                if number + 1 == _ATTEMPTS or not worth_a_retry(code):
                    tally.fail(time.time(), behaviour, code, str(error).strip()[:300])
                    raise GaveUp(code) from error
                time.sleep(backoff(number))
            else:
                milliseconds = (time.perf_counter() - began) * 1000
                tally.succeed(time.time(), behaviour, workload, milliseconds)
                return milliseconds
        raise AssertionError("the last attempt ends it")


class GaveUp(Exception):
    """An invocation failed; its text is the SQLSTATE."""


def backoff(attempt: int) -> float:
    """Seconds before the next attempt: twice as long each time, with full jitter."""
    return random.uniform(0, min(_BACKOFF_SECONDS * 2**attempt, _LONGEST_BACKOFF))


def _roll_back(connection: Connection) -> None:
    try:
        connection.execute("ROLLBACK")
    except FAILURES:
        connection.close()


def _told(function: str, what: str, expected: str, found: str) -> str:
    verdict = f"saw {found!r}" if found else "lost it"
    return f"{function}: {what} should be {expected!r}, {verdict}"
