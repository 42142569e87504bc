# cython: boundscheck=False, wraparound=False
"""Exactly which responses a server still owes, and to whom.

Every frontend message that causes a response is pushed when it is sent; every backend message is
accounted for when it arrives. What is left decides whether a server is at a boundary. The rules
are those of PostgreSQL's documentation, "Message Flow", and of its main loop (PostgresMain):

- Query, FunctionCall and Sync each end with one ReadyForQuery.
- An error in an extended-query message skips everything up to the next Sync, Query and
  FunctionCall included: the server will not answer any of it.
- While COPY IN runs, Sync and Flush are swallowed by the server. Sync messages that were sent
  behind the Execute (or Query) and in front of CopyDone or CopyFail never get an answer.
- A stray CopyData, CopyDone or CopyFail is ignored by the server.

Entries are single bytes in a queue. Beside the client's own there are entries of ours, whose
responses the client does not see, and answers of ours, which have no message on the wire and
are due when they come to the head:

    Q F S     Query, FunctionCall, Sync: until ReadyForQuery
    P B D E C Parse, Bind, Describe, Execute, Close: until their own response
    x         a Parse that will fail since the client has that name already
    t         a Describe whose answer is to be remembered
    q p c d   Query, Parse, Close, Describe of ours: swallowed
    b e r     Bind and Execute of ours, within what the client sends: swallowed; the row of the last
              is looked at
    s         Sync of ours, so that our own errors in front of it are ours alone
    1 3       ParseComplete, CloseComplete of ours
    K         CopyDone or CopyFail: a mark, no response

Entries `P x t p c d r 1 3` carry a note: whatever their owner needs to undo them when they fail
or are skipped. Undone notes are collected in `undone`, in order of sending.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import cython

PASS, SWALLOW = 0, 1

_CAPACITY = 64
if not cython.compiled:
    QUERY, FUNCTION, SYNC = ord("Q"), ord("F"), ord("S")
    PARSE, BIND, DESCRIBE, EXECUTE, CLOSE = ord("P"), ord("B"), ord("D"), ord("E"), ord("C")
    PARSE_AGAIN, TELLING = ord("x"), ord("t")
    OUR_QUERY, OUR_PARSE, OUR_CLOSE, OUR_DESCRIBE = ord("q"), ord("p"), ord("c"), ord("d")
    OUR_SYNC = ord("s")
    OUR_BIND, OUR_EXECUTE, OUR_READING = ord("b"), ord("e"), ord("r")
    ANSWER_PARSE, ANSWER_CLOSE = ord("1"), ord("3")
    COPY_END = ord("K")


@cython.cclass
class Owed:
    """The responses that one server owes.

    `ready` ReadyForQuery messages are owed; `unsynced`: extended messages were sent after the
    last message that ends with one; `skipping`: the server ignores everything until a Sync;
    `copying`: it is in COPY IN and the client has not ended it; `lost`: what the peers did
    cannot be counted, so this server must never be lent to another client; `passed_over`: a
    Query or Close was skipped; `unsettled`: what is under way may make or drop prepared
    statements, `emptying`: drop all of them; `asking`: a Describe of ours is not answered.

    `doubtful`: an error has ended a COPY IN that may have swallowed a Sync, or not have come to it,
    so that one more ReadyForQuery may come than is owed. A query of ours will tell (`recounts`),
    while nothing else is under way: `recounting`, and `told` when its answer has begun.
    """

    def __init__(self) -> None:
        self.queue = bytearray(_CAPACITY)
        self.head = 0
        self.tail = 0
        self.ready = 0
        self.unsynced = False
        self.skipping = False
        self.copying = False
        self.sync_in_copy = False
        self.lost = False
        self.doubtful = self.recounting = self.told = False
        self.failed = 0
        self.passed_over = False
        self.unsettled = self.emptying = False
        self.asking = False
        self.notes: deque[Any] = deque()
        self.undone: list[Any] = []

    @cython.ccall
    def push(self, code: cython.int) -> cython.void:
        """A message was sent. While the server skips, only a Sync counts."""
        if self.skipping:
            if code != SYNC:
                return
            self.skipping = False
        if self.copying and self._in_copy(code):
            return
        if self._ends_ready(code):
            self.ready += 1
            self.unsynced = False
        elif code != COPY_END:
            self.unsynced = True
        if self.tail == len(self.queue):
            self._make_room()
        self.queue[self.tail] = code
        self.tail += 1

    @cython.ccall
    def push_noted(self, code: cython.int, note: object) -> cython.void:
        if self.skipping:
            return
        self.push(code)
        self.notes.append(note)
        self.asking = self.asking or code == OUR_DESCRIBE

    def _in_copy(self, code: cython.int) -> cython.bint:
        if code == SYNC:
            self.sync_in_copy = True
            return True
        if code == COPY_END:
            self.copying = False
            return True
        return False

    @cython.ccall
    def end_copy(self) -> cython.void:
        """CopyDone or CopyFail was sent; it matters only in front of a COPY IN."""
        if self.copying or self.skipping:
            self.copying = False
        elif self.head != self.tail:
            self.push(COPY_END)

    @cython.cfunc
    def _make_room(self) -> cython.void:
        if self.head > 0:
            del self.queue[: self.head]
            self.tail -= self.head
            self.head = 0
        self.queue.extend(bytes(max(_CAPACITY, len(self.queue))))

    @cython.ccall
    def answer(self, kind: cython.int) -> cython.int:
        """Account for a backend message of type `kind`: PASS it to the client, or SWALLOW it.

        Asynchronous messages (NoticeResponse, NotificationResponse, ParameterStatus) and the
        bulk of rows and copy data may be kept from it.
        """
        if self.recounting:
            return self._recount(kind)
        if self.head == self.tail:
            return self._unowed(kind)
        code: cython.int = self.queue[self.head]
        if kind == 69:  # E
            return self._error(code)
        if kind == 71:  # G
            self._copy_in()
            return PASS
        if kind == 90:  # Z
            return self._ready(code)
        if kind == 67:  # C
            self.sync_in_copy = False
        if code == QUERY or code == SYNC or code == FUNCTION:
            return PASS
        if code == OUR_QUERY or code == OUR_SYNC:
            return SWALLOW
        if self._ends(code, kind):
            self._pop()
        return SWALLOW if self._between(code) else PASS

    def _between(self, code: cython.int) -> cython.bint:
        """Whether it is one of ours that goes between the client's own."""
        return (
            code == OUR_PARSE
            or code == OUR_BIND
            or code == OUR_EXECUTE
            or code == OUR_READING
            or code == OUR_CLOSE
            or code == OUR_DESCRIBE
        )

    def _unowed(self, kind: cython.int) -> cython.int:
        if kind == 90:  # Z
            # That of a Sync which a failed COPY had not come to: it skips no more.
            self.skipping = self.skipping and not self.doubtful
            self.lost = self.lost or not self.doubtful
        return PASS

    def _ends(self, code: cython.int, kind: cython.int) -> cython.bint:
        if code == BIND or code == OUR_BIND:
            return kind == 50  # 2
        if code == EXECUTE or code == OUR_EXECUTE or code == OUR_READING:
            return kind == 67 or kind == 115 or kind == 73  # C s I
        if code == DESCRIBE or code == TELLING or code == OUR_DESCRIBE:
            return kind == 84 or kind == 110  # T n
        if code == CLOSE or code == OUR_CLOSE:
            return kind == 51  # 3
        return kind == 49  # 1

    @cython.cfunc
    def _ready(self, code: cython.int) -> cython.int:
        if not self._ends_ready(code):
            self.lost = True
            return PASS
        self.ready -= 1
        self.copying = False
        self.sync_in_copy = False
        self._pop()
        if self.head == self.tail:
            self.unsettled = self.emptying = False
        # Which of those behind it are answered is not known.
        self.lost = self.lost or (self.doubtful and self.head < self.tail)
        return SWALLOW if code == OUR_QUERY or code == OUR_SYNC else PASS

    @cython.cfunc
    def _recount(self, kind: cython.int) -> cython.int:
        """All up to the first answer to our query are the client's."""
        if kind != 90:  # Z
            self.told = True
            return SWALLOW
        if not self.told:
            return PASS
        self.doubtful = self.recounting = self.told = False
        return self._ready(OUR_QUERY)

    def _ends_ready(self, code: cython.int) -> cython.bint:
        """Whether it ends with ReadyForQuery."""
        return (
            code == QUERY
            or code == SYNC
            or code == FUNCTION
            or code == OUR_QUERY
            or code == OUR_SYNC
        )

    @cython.cfunc
    def _pop(self) -> cython.void:
        code: cython.int = self.queue[self.head]
        if code >= 97 or code < 65 or code == PARSE:
            self._drop_note(code)
        self.head += 1
        while self.head < self.tail and self.queue[self.head] == COPY_END:
            self.head += 1
        if self.head == self.tail:
            self.head = self.tail = 0

    def _noted(self, code: cython.int) -> cython.bint:
        return (
            code == PARSE
            or code == PARSE_AGAIN
            or code == OUR_PARSE
            or code == OUR_CLOSE
            or code == ANSWER_PARSE
            or code == ANSWER_CLOSE
            or code == TELLING
            or code == OUR_DESCRIBE
            or code == OUR_READING
        )

    @cython.cfunc
    def _drop_note(self, code: cython.int) -> cython.void:
        if self._noted(code):
            self.notes.popleft()
        if code == OUR_DESCRIBE:
            self.asking = False

    @cython.cfunc
    def _error(self, code: cython.int) -> cython.int:
        self.failed = code
        self.copying = False
        self.doubtful = self.doubtful or self.sync_in_copy
        if code == OUR_QUERY or code == OUR_SYNC:
            return SWALLOW
        if code != QUERY and code != SYNC and code != FUNCTION:
            self._skip()
            alone: cython.bint = self.head < self.tail and self.queue[self.head] == OUR_SYNC
            if alone and self._between(code):
                return SWALLOW
        return PASS

    @cython.cfunc
    def _skip(self) -> cython.void:
        """An extended-query message failed: nothing is answered up to the next Sync."""
        while self.head < self.tail:
            code: cython.int = self.queue[self.head]
            if code == SYNC or code == OUR_SYNC:
                return
            if code == QUERY or code == FUNCTION or code == OUR_QUERY:
                self.ready -= 1
            self.passed_over = self.passed_over or code == QUERY or code == CLOSE
            if self._noted(code):
                self.undone.append(self.notes.popleft())
            self.asking = self.asking and code != OUR_DESCRIBE
            self.head += 1
        self.head = self.tail = 0
        self.skipping = True
        self.unsynced = False

    @cython.cfunc
    def _copy_in(self) -> cython.void:
        """CopyInResponse: which of the messages sent already does the COPY swallow?"""
        kept: bytearray = bytearray(self.queue[self.head : self.head + 1])
        self.copying = True
        i: cython.Py_ssize_t = self.head + 1
        while i < self.tail and self.copying:
            code: cython.int = self.queue[i]
            if code == COPY_END:
                self.copying = False
            elif code == SYNC:
                self.ready -= 1
                self.sync_in_copy = True
            else:
                kept.append(code)
            i += 1
        kept += self.queue[i : self.tail]
        self.queue[: len(kept)] = kept
        self.head = 0
        self.tail = len(kept)
        self._count_unsynced()

    @cython.cfunc
    def _count_unsynced(self) -> cython.void:
        """Extended messages whose Sync went into a COPY are unsynced again."""
        at: cython.Py_ssize_t = self.tail - 1
        while self.queue[at] == COPY_END:
            at -= 1
        self.unsynced = not self._ends_ready(self.queue[at])

    @cython.ccall
    def due(self) -> cython.int:
        """The answer of ours that stands at the head, taken off; 0 when there is none."""
        if self.head == self.tail:
            return 0
        code: cython.int = self.queue[self.head]
        if code != ANSWER_PARSE and code != ANSWER_CLOSE:
            return 0
        self._pop()
        return code

    def synced(self) -> cython.bint:
        """Whether no error in front of it can skip what is sent now."""
        i: cython.Py_ssize_t = self.tail - 1
        while i >= self.head:
            code: cython.int = self.queue[i]
            if code == SYNC or code == OUR_SYNC:
                return True
            if not self._ends_ready(code) and code != COPY_END:
                return False
            i -= 1
        return not self.unsynced and not self.skipping and not self.copying

    def ends(self) -> cython.bint:
        """Whether nothing is owed behind the next ReadyForQuery."""
        return self.tail - self.head <= 1

    def ours(self) -> cython.bint:
        """Whether the next response is that to a query of ours."""
        return self.head < self.tail and self.queue[self.head] == OUR_QUERY

    def cycles(self) -> cython.Py_ssize_t:
        """How many ReadyForQuery are owed that the client itself has asked for."""
        ours: cython.Py_ssize_t = 0
        i: cython.Py_ssize_t
        for i in range(self.head, self.tail):
            ours += self.queue[i] == OUR_QUERY or self.queue[i] == OUR_SYNC
        return self.ready - ours

    def between(self) -> cython.bint:
        """Whether it is that to a message of ours that goes between the client's own."""
        return self.head < self.tail and self._between(self.queue[self.head])

    def runs(self) -> cython.bint:
        """Whether something of the client's is under way that may do something."""
        i: cython.Py_ssize_t = self.head
        while i < self.tail:
            code: cython.int = self.queue[i]
            if code == QUERY or code == EXECUTE or code == FUNCTION:
                return True
            i += 1
        return False

    def settled(self) -> cython.bint:
        """Whether it is certain what names of prepared statements stand for.

        Nothing that is noted can still be skipped by an error in front of a Sync, nor drop them
        all. Of what is sent into a COPY all is skipped.
        """
        if self.asking:
            return False
        if self.copying or self.head == self.tail:
            return True
        if self.emptying:
            return False
        return self.ready == 0 or not (self.notes or self.unsettled)

    def awaits_ready(self) -> cython.bint:
        """Whether a ReadyForQuery is to come, for which nothing more need be sent."""
        return self.ready > 0 and not self.copying

    def looks(self) -> cython.bint:
        """Whether a Describe stands at the head whose answer is looked at; its note is first."""
        if self.head == self.tail:
            return False
        code: cython.int = self.queue[self.head]
        return code == TELLING or code == OUR_DESCRIBE

    def reads(self) -> cython.bint:
        """Whether an Execute of ours stands at the head whose row is looked at; its note is
        first."""
        return self.head < self.tail and self.queue[self.head] == OUR_READING

    @cython.ccall
    def recounts(self) -> cython.bint:
        """Whether a query of ours is to tell what is owed, and can: it must be pushed next."""
        quiet: cython.bint = self.head == self.tail and not (
            self.unsynced or self.skipping or self.copying or self.lost
        )
        self.recounting = self.recounting or (self.doubtful and quiet)
        return self.doubtful and quiet

    def nothing(self) -> cython.bint:
        """Whether no response is owed and none can come without a further message."""
        return (
            self.head == self.tail
            and not self.unsynced
            and not self.skipping
            and not self.copying
            and not self.lost
            and not self.doubtful
        )
