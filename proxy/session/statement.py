"""A statement prepared by the protocol, shared between the clients that read its text alike."""

from __future__ import annotations

from itertools import count
from weakref import WeakValueDictionary

import cython

from proxy.session.commands import is_analysed
from proxy.session.findings import Verdict
from proxy.session.reread import has_constants, is_of_its_moment

if cython.compiled:
    from cython.cimports.proxy.session.parameters import Parameters
else:
    from proxy.session.parameters import Parameters

PREFIX = b"pgfunnel_"
"""How names of prepared statements of pgfunnel's own begin."""

_numbers = count(1)


@cython.cclass
class Statement:
    """`tail` is a Parse message behind its name: text, NUL, parameter types.

    `verdict`: what running it may do to a session, None for most, as told when the database had
    these `routines` (see `proxy.session.routines`); `generation`: the state of the schema that its
    result is known to fit; `shape`: what a client was told of its result (see
    `wire.messages.shape`), None as long as none was told; `anew`: in place of `tail` where it is
    prepared anew; `meaning`: what its text was read under, None where nobody can tell; `lexed`: the
    same, of one that is to be read anew, where it counts for the characters alone; `under`: what it
    is used under now. Postgres may come to read it anew under that (DDL, ANALYZE), so only those
    share it for whom both are the same; `alone`: nobody does.
    """

    verdict: Verdict | None
    routines: object
    shape: bytes | None
    meaning: object
    lexed: object
    under: object

    def __init__(
        self,
        tail: bytes,
        server_name: bytes,
        verdict: Verdict | None = None,
        generation: cython.longlong = 0,
    ) -> None:
        self.tail = tail
        self.server_name = server_name
        self.verdict = verdict
        self.routines = None
        self.generation = generation
        self.anew = tail
        self.meaning = self.lexed = self.under = None
        self.shape = None
        self.alone = False
        self.constants = self.analysed = -1

    @cython.ccall
    def judged(self, verdict: Verdict | None, routines: object) -> object:
        """Running it may do this, in a database that has these routines."""
        self.verdict = verdict
        self.routines = routines
        return None

    @cython.ccall
    def is_analysed(self) -> cython.bint:
        """Whether Postgres looks at its result, and refuses it when that is another."""
        if self.analysed < 0:
            self.analysed = is_analysed(self.tail.partition(b"\0")[0])
        return self.analysed

    @cython.ccall
    def has_constants(self) -> cython.bint:
        """Whether it has constants that are read otherwise under other parameters."""
        if self.constants < 0:
            self.constants = has_constants(self.tail.partition(b"\0")[0])
        return self.constants

    def has_text(self, text: str) -> bool:
        """Whether its text is this one."""
        return self.tail.partition(b"\0")[0].decode("utf-8", "replace") == text

    @cython.ccall
    def like(self, statement: Statement) -> object:
        """Clients were told the same of it as of the other."""
        self.shape = statement.shape
        self.anew = statement.anew
        self.routines = statement.routines
        return None

    @cython.ccall
    def agrees(self, types: bytes, shape: bytes) -> cython.bint:
        """Whether clients were told so, as far as they were told anything."""
        if self.shape is None:
            return True
        known: cython.bint = types != b"" and self.anew != self.tail
        if known and types != self.anew[self.anew.index(b"\0") + 1 :]:
            return False
        return self.shape == shape

    @cython.ccall
    def told(self, types: bytes, shape: bytes, generation: cython.longlong) -> object:
        """Postgres has described it so: a ParameterDescription's body, and a shape.

        The types of its parameters stay what its clients were told, as on a direct connection.
        """
        self.shape = shape
        self.generation = generation
        if types:
            self.anew = self.tail[: self.tail.index(b"\0") + 1] + types
        return None


_Key = tuple[bytes, object, object, int, tuple[object, ...]]
_shared: WeakValueDictionary[_Key, Statement] = WeakValueDictionary()


def share(
    tail: bytes,
    parameters: Parameters,
    verdict: Verdict | None = None,
    generation: int = 0,
    executed: tuple[object, ...] = (),
    *,
    alone: bool = False,
) -> Statement:
    """The one statement of this text and these types for all clients that read it alike.

    `generation`: the state of the schema in which they do; `executed`: what it executes by name;
    `alone`: this client reads it as nobody else does.
    """
    meaning = parameters.meaning
    return _one((tail, meaning, meaning, generation, executed), verdict, alone=alone)


def as_before(statement: Statement, meaning: object, parameters: Parameters) -> Statement:
    """The statement as it was read under that, for a client that uses it under these parameters.

    For that one alone: Postgres may read it anew under them, as it would on a connection of its
    own, but not for who prepares it then.
    """
    key = (statement.tail, meaning, parameters.meaning, statement.generation, ())
    known = _one(key, statement.verdict, alone=True)
    known.like(statement)
    return known


def told_of(anew: Statement, statement: Statement, executed: tuple[object, ...]) -> Statement:
    """The statement read anew, for clients that were told of its result when they read the other:
    it is to be asked whether it gives that."""
    key = (anew.tail, anew.meaning, anew.under, anew.generation, (*executed, statement.shape))
    made = _one(key, anew.verdict, alone=anew.alone)
    if made.shape is None:
        made.like(statement)
    return made


def unread(statement: Statement) -> Statement:
    """The statement as nobody has read it yet."""
    made = Statement(statement.tail, _name(), statement.verdict, statement.generation)
    made.like(statement)
    made.lexed = statement.lexed if statement.meaning is None else statement.meaning
    return made


def _name() -> bytes:
    return PREFIX + b"%d" % next(_numbers)


def _one(key: _Key, verdict: Verdict | None, *, alone: bool) -> Statement:
    known = None if alone else _shared.get(key)
    if known is None:
        tail, meaning, under, generation, _ = key
        known = Statement(tail, _name(), verdict, generation)
        alone = alone or is_of_its_moment(tail.partition(b"\0")[0])
        known.meaning, known.under, known.alone = meaning, under, alone
        if not alone:
            _shared[key] = known
    return known
