"""What all clients share: the objects in the database, what is told between them, the counts."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field

import psycopg

from tests.sessions.model import CUSTOM, NAMES, REPORTED, ROLES

KINDS = (
    "parameters",
    "told",
    "prepared",
    "listen",
    "locks",
    "temp",
    "cursors",
    "sequences",
    "connection",
)
SEQUENCES = ("sessions_lab.draws", "sessions_lab.tickets")
_SHOWN = 10

_SETUP = f"""
    DROP SCHEMA IF EXISTS sessions_lab, sessions_a, sessions_b CASCADE;
    CREATE SCHEMA sessions_lab; CREATE SCHEMA sessions_a; CREATE SCHEMA sessions_b;
    CREATE SEQUENCE {SEQUENCES[0]}; CREATE SEQUENCE {SEQUENCES[1]};
    CREATE TABLE sessions_a.home AS SELECT 'a'::text AS v;
    CREATE TABLE sessions_b.home AS SELECT 'b'::text AS v;
"""
# What sets a parameter, and takes a lock, where no statement shows it.
_ROUTINES = """
    CREATE FUNCTION sessions_lab.inner_{word}(v text) RETURNS text LANGUAGE plpgsql AS
      $$ BEGIN RETURN set_config('{name}', v, false); END $$;
    CREATE FUNCTION sessions_lab.put_{word}(v text) RETURNS text LANGUAGE sql AS
      $$ SELECT sessions_lab.inner_{word}(v) $$;
"""
_TAKES = """
    CREATE FUNCTION sessions_lab.take(a int, b int) RETURNS void LANGUAGE plpgsql AS
      $$ BEGIN PERFORM pg_advisory_lock(a, b); END $$;
    CREATE FUNCTION sessions_lab.hear(channel text) RETURNS void LANGUAGE plpgsql AS
      $$ BEGIN EXECUTE format('LISTEN %I', channel); END $$;
"""
_GRANTS = """
    GRANT USAGE ON SCHEMA sessions_lab, sessions_a, sessions_b TO {role};
    GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA sessions_lab TO {role};
    GRANT SELECT ON sessions_a.home, sessions_b.home TO {role};
"""
_ADVISORY = """
    SELECT DISTINCT classid::bigint FROM pg_locks
    WHERE locktype = 'advisory' AND objsubid = 2 AND classid::bigint > 0
"""


def word_of(name: str) -> str:
    """A parameter's name as part of a function's."""
    return name.lower().replace(".", "_")


def set_up(dsn: str) -> None:
    """Roles, schemas and sequences that the clients use; the DSN is a superuser's."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(_SETUP + _TAKES)
        for name in {*NAMES, *REPORTED, *CUSTOM}:
            connection.execute(_ROUTINES.format(name=name, word=word_of(name)))
        for role in ROLES:
            if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).rowcount:
                connection.execute(f"CREATE ROLE {role}")
            connection.execute(_GRANTS.format(role=role))


def tear_down(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("DROP SCHEMA sessions_lab, sessions_a, sessions_b CASCADE")
        for role in ROLES:
            # A server that was not cleaned may still hold a temporary relation of theirs.
            connection.execute(f"DROP OWNED BY {role} CASCADE")
            connection.execute(f"DROP ROLE {role}")


def fresh_parameters(dsn: str) -> dict[str, str | None]:
    """What a session of this user begins with."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        found = {n: _setting(connection, n) for n in (*NAMES, "role")}
        return found | {"session_authorization": connection.info.user, "application_name": ""}


def _setting(connection: psycopg.Connection[tuple[str | None]], name: str) -> str | None:
    row = connection.execute("SELECT current_setting(%s, true)", [name]).fetchone()
    return row[0] if row else None


def locks_left(dsn: str) -> set[int]:
    """Serial numbers of the sessions whose advisory locks some server holds."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        return {int(row[0]) for row in connection.execute(_ADVISORY)}


@dataclass
class Tally:
    """Counts by kind. `declined` are the clear errors that currval and lastval may give."""

    checks: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    declined: int = 0
    statements: int = 0
    sessions: int = 0
    messages: Counter[str] = field(default_factory=Counter)
    stories: list[str] = field(default_factory=list)

    def tell(self, story: str) -> None:
        if len(self.stories) < _SHOWN:
            self.stories.append(story)

    def as_dict(self) -> dict[str, object]:
        return {
            "checks": dict(self.checks),
            "wrong": dict(self.wrong),
            "errors": dict(self.errors),
            "declined": self.declined,
            "statements": self.statements,
            "sessions": self.sessions,
            "error_messages": dict(self.messages.most_common(30)),
        }

    def table(self) -> str:
        lines = [f"{'kind':<12}{'checks':>9}{'wrong':>9}{'errors':>9}"]
        for kind in KINDS:
            counts = (self.checks[kind], self.wrong[kind], self.errors[kind])
            lines.append(f"{kind:<12}" + "".join(f"{count:>9}" for count in counts))
        totals = (self.checks.total(), self.wrong.total(), self.errors.total())
        lines.append(f"{'all':<12}" + "".join(f"{count:>9}" for count in totals))
        lines.append(
            f"{self.sessions} sessions, {self.statements} statements; "
            f"currval or lastval declined {self.declined} times"
        )
        return "\n".join(lines)


@dataclass
class Ear:
    """What one session has heard: `due` was sent while it listened and has not come yet."""

    heard: list[tuple[str, str]] = field(default_factory=list)
    due: dict[str, float] = field(default_factory=dict)
    early: set[str] = field(default_factory=set)
    never: set[str] = field(default_factory=set)

    def hear(self, channel: str, payload: str) -> None:
        self.heard.append((channel, payload))
        if self.due.pop(payload, None) is None:
            self.early.add(payload)

    def expect(self, payload: str, deadline: float) -> None:
        if payload not in self.early:
            self.due[payload] = deadline


@dataclass
class World:
    """Shared by the clients of one run."""

    defaults: dict[str, str | None]
    tally: Tally = field(default_factory=Tally)
    open_channels: dict[str, Ear] = field(default_factory=dict)
    held_keys: set[str] = field(default_factory=set)
    drawn: dict[str, set[int]] = field(default_factory=lambda: {s: set() for s in SEQUENCES})
    serials: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
