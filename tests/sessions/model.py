"""What one client believes about its Postgres session, as Postgres's documentation promises it.

Transactions undo parameters (SET), temporary relations, LISTEN and the creation of cursors; they
do not undo PREPARE, session advisory locks, sequence values or the closing of a cursor.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

CUSTOM = ("my.tag", "my.tenant", "app.user_id")
IDENTITY = ("role", "session_authorization")  # RESET ALL leaves these alone

REPORTED: dict[str, tuple[str, ...]] = {
    "TimeZone": ("Asia/Tokyo", "Europe/Paris", "America/Lima", "UTC"),
    "DateStyle": ("German, DMY", "SQL, MDY", "Postgres, DMY", "ISO, YMD"),
    "IntervalStyle": ("iso_8601", "sql_standard", "postgres_verbose"),
    "standard_conforming_strings": ("off", "on"),
    "default_transaction_read_only": ("on", "off"),
}
UNREPORTED: dict[str, tuple[str, ...]] = {
    "work_mem": ("5MB", "64MB", "7777kB"),
    "statement_timeout": ("9min", "11min", "1h"),
    "lock_timeout": ("8min", "12min"),
    "idle_in_transaction_session_timeout": ("13min", "14min"),
    "extra_float_digits": ("0", "2", "3"),
    "search_path": ("sessions_a", "sessions_b", "sessions_b, public", '"$user", sessions_a'),
    "enable_seqscan": ("off", "on"),
    "bytea_output": ("escape", "hex"),
    "default_transaction_isolation": ("repeatable read", "read committed"),
    "from_collapse_limit": ("3", "5"),
}
ROLES = ("sessions_a", "sessions_b")
TAGGED = ("application_name", *CUSTOM)
VALUES = REPORTED | UNREPORTED
NAMES = (*VALUES, *TAGGED)
TOLD = (*REPORTED, "application_name")


@dataclass(frozen=True)
class Temp:
    """A temporary relation: `kind` is table, view or sequence, `content` what reading it gives."""

    kind: str
    content: str
    on_commit: str = ""


@dataclass(eq=False)
class Cursor:
    """An open cursor and the rows it has not given yet."""

    rows: list[tuple[int, str]]
    hold: bool


@dataclass(frozen=True)
class Plan:
    """A prepared statement: its arguments as SQL, what executing it answers, who made it."""

    arguments: str
    answer: tuple[object, ...]
    protocol: bool = False


@dataclass
class Scope:
    """What a ROLLBACK gives back."""

    session: dict[str, str | None] = field(default_factory=dict)
    local: dict[str, str | None] = field(default_factory=dict)
    temps: dict[str, Temp] = field(default_factory=dict)
    cursors: dict[str, Cursor] = field(default_factory=dict)
    listens: list[tuple[str, str]] = field(default_factory=list)

    def copy(self) -> Scope:
        return Scope(
            dict(self.session),
            dict(self.local),
            dict(self.temps),
            dict(self.cursors),
            list(self.listens),
        )


class Model:
    """One session. `defaults` are a fresh session's parameters, `startup` what the client sent."""

    def __init__(self, defaults: Mapping[str, str | None], startup: Mapping[str, str]) -> None:
        self._base: dict[str, str | None] = {**defaults, **startup}
        self.now = Scope(session=dict(self._base))
        self.saved: list[tuple[str, Scope]] = []  # BEGIN's first, then the savepoints
        self.failed = False
        self._read_only = False  # the transaction that is open
        self.channels: set[str] = set()
        self.plans: dict[str, Plan] = {}
        self.locks: dict[str, int] = {}
        self.drawn: dict[str, int] = {}  # sequence: the last value this session was given
        self.last: int | None = None

    # -- parameters ----------------------------------------------------------------------

    def get(self, name: str) -> str | None:
        return self.now.local.get(name, self.now.session.get(name))

    def base(self, name: str) -> str | None:
        return self._base.get(name)

    def put(self, name: str, value: str | None, *, local: bool = False) -> None:
        if local:
            self.now.local[name] = value
            return
        self.now.session[name] = value
        self.now.local.pop(name, None)

    def reset(self, name: str) -> None:
        self.put(name, self.base(name))

    def reset_all(self) -> None:
        for name in {*self.now.session, *self.now.local} - {*IDENTITY}:
            self.reset(name)

    @property
    def read_only(self) -> bool:
        """The statement that comes next may not write."""
        default = self.get("default_transaction_read_only") == "on"
        return self._read_only if self.in_transaction else default

    @property
    def is_itself(self) -> bool:
        """Neither SET ROLE nor SET SESSION AUTHORIZATION is in force."""
        return all(self.get(name) == self.base(name) for name in IDENTITY)

    @property
    def user(self) -> str:
        """current_user."""
        role = self.get("role")
        return str(self.get("session_authorization") if role == "none" else role)

    @property
    def home(self) -> str | None:
        """What the first table `home` of search_path holds."""
        path = (self.get("search_path") or "").replace('"$user"', self.user)
        schemas = [s.strip() for s in path.split(",") if s.strip() in ROLES]
        return schemas[0][-1] if schemas else None

    # -- transactions --------------------------------------------------------------------

    @property
    def in_transaction(self) -> bool:
        return bool(self.saved)

    def begin(self) -> None:
        self._read_only = self.read_only
        self.saved = [("", self.now.copy())]

    def savepoint(self, name: str) -> None:
        self.saved.append((name, self.now.copy()))

    def savepoints(self) -> list[str]:
        return [name for name, _ in self.saved[1:]]

    def release(self, name: str) -> None:
        self.saved = self.saved[: self._find(name)]

    def rollback_to(self, name: str) -> None:
        place = self._find(name)
        self._back_to(self.saved[place][1])
        self.saved = self.saved[: place + 1]
        self.failed = False

    def rollback(self) -> None:
        if self.saved:
            self._back_to(self.saved[0][1])
        self._end()

    def commit(self) -> None:
        """The end of a transaction, or of a statement outside of one."""
        if self.failed:
            self.rollback()
            return
        for verb, channel in self.now.listens:
            self._listen(verb, channel)
        self.now.listens.clear()
        self.now.local.clear()
        self.now.temps = dict(_after_commit(self.now.temps.items()))
        self.now.cursors = {name: c for name, c in self.now.cursors.items() if c.hold}
        self._end()

    def _end(self) -> None:
        self.saved = []
        self.failed = self._read_only = False

    def _find(self, name: str) -> int:
        return max(i for i, (saved, _) in enumerate(self.saved) if saved == name)

    def _back_to(self, scope: Scope) -> None:
        """What was closed stays closed: "closing a cursor is not undone" (FETCH, CLOSE)."""
        open_now = self.now.cursors
        self.now = scope.copy()
        self.now.cursors = {n: c for n, c in scope.cursors.items() if open_now.get(n) is c}

    def _listen(self, verb: str, channel: str) -> None:
        if verb == "LISTEN":
            self.channels.add(channel)
        elif channel == "*":
            self.channels.clear()
        else:
            self.channels.discard(channel)

    # -- everything at once --------------------------------------------------------------

    def drop_temps(self) -> None:
        self.now.temps.clear()

    def forget_sequences(self) -> None:
        self.drawn.clear()
        self.last = None

    def discard_all(self) -> None:
        """DISCARD ALL, which is allowed outside of transactions only."""
        for name in IDENTITY:
            self.reset(name)
        self.reset_all()
        self.plans.clear()
        self.channels.clear()
        self.locks.clear()
        self.now.cursors.clear()
        self.drop_temps()
        self.forget_sequences()

    @property
    def holds(self) -> set[str]:
        """Kinds of things that bind this session to its server."""
        held = {"listen": self.channels, "locks": self.locks, "temp": self.now.temps}
        held["cursors"] = {n for n, c in self.now.cursors.items() if c.hold}
        return {kind for kind, things in held.items() if things}


def _after_commit(temps: Iterable[tuple[str, Temp]]) -> Iterable[tuple[str, Temp]]:
    for name, temp in temps:
        if temp.on_commit == "DELETE ROWS":
            yield name, Temp(temp.kind, "", temp.on_commit)
        elif temp.on_commit != "DROP":
            yield name, temp
