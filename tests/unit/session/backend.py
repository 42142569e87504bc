"""A model of the loop in which Postgres reads messages: what it answers, and what it skips.

It follows PostgreSQL's documentation, "Message Flow", and PostgresMain, SocketBackend and
CopyGetData in its source: an error in an extended-query message skips everything up to a Sync;
COPY IN reads until CopyDone or CopyFail and passes over Flush and Sync; stray copy messages are
ignored. What becomes of each message is written on it beforehand (`Sent.script`).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

ENDING = "QqFSs"
"""Codes that end with ReadyForQuery."""

NOTED = "Pxptcr13"
VIRTUAL = "13"

_SAYS = {
    "P": {"ok": "1"},
    "p": {"ok": "1", "synced": ""},
    "x": {},
    "B": {"ok": "2"},
    "C": {"ok": "3"},
    "c": {"ok": "3"},
    "D": {"rows": "T", "none": "n", "statement": "tT", "command": "tn"},
    "t": {"statement": "tT", "command": "tn"},
    "b": {"ok": "2"},
    "e": {"ok": "C", "synced": ""},
    "r": {"ok": "DC"},
    "E": {"command": "C", "suspended": "s", "empty": "I", "out": "HcC"},
    "Q": {"command": "C", "rows": "TC", "empty": "I", "out": "HcC"},
    "q": {"command": "C", "rows": "TC", "empty": "I"},
    "F": {"ok": "V"},
    "S": {"ok": ""},
    "s": {"ok": ""},
}
"""What each step of a script makes the backend say; DataRow and CopyData left out."""


def outcomes(code: str) -> list[str]:
    """What can become of a message; COPY IN can also fail before it reads, or at its end."""
    copies = ["copy", "copy early", "copy late"] if code in "QE" else []
    errors = [] if code in "Cc" else ["error"]
    return [*_SAYS[code], *copies, *errors]


@dataclass(frozen=True)
class Sent:
    """A frontend message by its code in `proxy.session.owed`, K and f: CopyDone and CopyFail."""

    code: str
    serial: int
    script: tuple[str, ...] = ("ok",)


@dataclass(frozen=True)
class Said:
    """A backend message, and what it answers. `virtual`: an answer of the proxy's own."""

    kind: str
    cause: Sent
    virtual: bool = False


@dataclass(frozen=True)
class _Copy:
    cause: Sent
    late: bool
    rest: tuple[str, ...]


class Backend:
    """`inbox` is on its way to the backend, `outbox` on its way from it."""

    def __init__(self) -> None:
        self.inbox: deque[Sent] = deque()
        self.outbox: deque[Said] = deque()
        self.ignoring = False
        self.unsynced = False
        self.copying: _Copy | None = None

    def foresee(self) -> Backend:
        """The same backend once it has read all that was sent."""
        other = Backend()
        other.inbox, other.outbox = self.inbox.copy(), self.outbox.copy()
        other.ignoring, other.unsynced = self.ignoring, self.unsynced
        other.copying = self.copying
        while other.inbox:
            other.read_one()
        return other

    def at_rest(self) -> bool:
        """Nothing will be said for what was sent, and no message is half of something."""
        then = self.foresee()
        return not (then.outbox or then.ignoring or then.unsynced or then.copying)

    def settle(self) -> None:
        """Read what takes no time: messages without an answer, and the proxy's own answers."""
        while self.inbox and self.copying is None and self.inbox[0].code in "dKfH13":
            self.read_one()

    def read_one(self) -> None:
        message = self.inbox.popleft()
        if self.copying is not None:
            self._copy_message(self.copying, message)
        elif message.code in "Ss":
            self.ignoring = False
            self._run(message, message.script)
        elif message.code in "dKfH" or self.ignoring:
            return
        elif message.code in VIRTUAL:
            self.outbox.append(Said(message.code, message, virtual=True))
            self.unsynced = True
        else:
            self._run(message, message.script)

    def _run(self, message: Sent, script: tuple[str, ...]) -> None:
        for i, step in enumerate(script):
            if step == "error":
                return self._fail(message)
            if step.startswith("copy"):
                return self._begin_copy(message, step, script[i + 1 :])
            self._say(_SAYS[message.code][step], message)
        self._done(message)
        return None

    def _begin_copy(self, message: Sent, step: str, rest: tuple[str, ...]) -> None:
        self._say("G", message)
        if step == "copy early":
            self._fail(message)
        else:
            self.copying = _Copy(message, step == "copy late", rest)

    def _copy_message(self, copy: _Copy, message: Sent) -> None:
        if message.code in "SH":
            return
        assert message.code in "dKf", "any other message ends the connection"
        failed = message.code == "f" or "bad" in message.script
        if failed or (message.code == "K" and copy.late):
            self.copying = None
            self._fail(copy.cause)
        elif message.code == "K":
            self.copying = None
            self._say("C", copy.cause)
            self._run(copy.cause, copy.rest)

    def _done(self, message: Sent) -> None:
        if message.code in ENDING:
            self._say("Z", message)
        self.unsynced = message.code not in ENDING

    def _fail(self, message: Sent) -> None:
        self._say("E", message)
        if message.code in ENDING:
            self._done(message)
        else:
            self.ignoring = True
            self.unsynced = False

    def _say(self, kinds: str, cause: Sent) -> None:
        self.outbox.extend(Said(kind, cause) for kind in kinds)


def swallowed(said: Said) -> bool:
    """Whether the client must not see it: an error that skips its messages it does see."""
    code = said.cause.code
    ours_alone = said.kind != "E" or "synced" in said.cause.script
    return code in "qs" or (code in "pberc" and ours_alone)
