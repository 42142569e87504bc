"""What is found out about one text: `Verdict`, and `Findings` while it is being read."""

from __future__ import annotations

from collections.abc import Callable

import cython

from proxy.conditions import ANYTHING, PARAMETERS, SEED, TEMP
from proxy.session.parameters import READ_UNDER, TOLD

# What a text puts back in full, a mask: `Verdict.does`.
DISCARD_ALL, DISCARD_TEMP, DISCARD_SEQUENCES, DISCARD_PLANS, RESET_ALL = 1, 2, 4, 8, 16
CLOSE_ALL, UNLISTEN_ALL, UNLOCK_ALL, DEALLOCATE_ALL = 32, 64, 128, 256
# Beside them: it makes objects (CREATE), and temporary ones.
CREATES, TEMPORARIES = 512, 1024

# The first three end with the transaction, however they are set (PostgreSQL documentation, SET
# TRANSACTION).
_ODD = {
    "transaction_isolation",
    "transaction_read_only",
    "transaction_deferrable",
    "seed",
    "session_authorization",
}


@cython.final
@cython.cclass
class Piece:
    """One PREPARE, EXECUTE or DEALLOCATE in SQL, with the name as Postgres reads it; None: all.

    text[start:end] is the whole statement without its semicolon, EXPLAIN or CREATE TABLE in front
    included; text[name_start:name_end] is the name as it is written.
    """

    verb: str
    name: str | None

    def __init__(
        self,
        verb: str,
        name: str | None,
        start: cython.Py_ssize_t,
        end: cython.Py_ssize_t,
        name_start: cython.Py_ssize_t,
        name_end: cython.Py_ssize_t,
    ) -> None:
        self.verb = verb
        self.name = name
        self.start = start
        self.end = end
        self.name_start = name_start
        self.name_end = name_end

    @property
    def octets(self) -> bytes:
        """The name as the protocol's messages have it; empty for all."""
        return (self.name or "").encode("utf-8", "surrogateescape")

    def is_all_of(self, text: bytes) -> bool:
        """Whether nothing else is in the text, up to a NUL."""
        ahead, behind = text[: self.start], text[self.end :].partition(b"\0")[0]
        return not ahead.strip() and not behind.strip(b" \t\n\r\f;")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Piece) and self._fields() == other._fields()

    def __hash__(self) -> int:
        return hash(self._fields())

    def __repr__(self) -> str:
        return f"Piece{self._fields()}"

    def _fields(self) -> tuple[object, ...]:
        return self.verb, self.name, self.start, self.end, self.name_start, self.name_end


@cython.final
@cython.cclass
class Verdict:
    """`makes`, `clears`: masks of conditions (`proxy.conditions`) it may bring about, end.

    `names`: parameters whose value it may change, in lower case; `resets`: those of them that it
    may put back to their default; `everything`: which ones cannot be told. `does`: a mask of the
    resets in it, and CREATES; `whole_reset`: it consists of nothing else. `opaque`: it runs code
    that the text does not show (CALL, dynamic SQL); `unseen`: what of `makes` only code may do that
    is called by name and cannot be read. `defines`: it may give names of the database another
    meaning for sessions where no CommandComplete tells. `leaves`: parameters that it sets for its
    transaction alone: of an application's own, whose names stay, and those that constants are read
    under; `locally`: that it may put back to their default for its transaction alone; `elsewhere`:
    it sets search_path for it.
    """

    names: tuple[str, ...]
    resets: tuple[str, ...]
    leaves: tuple[str, ...]
    locally: tuple[str, ...]
    prepared: tuple[Piece, ...]

    def __init__(
        self,
        makes: int = 0,
        clears: int = 0,
        names: tuple[str, ...] = (),
        resets: tuple[str, ...] = (),
        everything: bool = False,
        prepared: tuple[Piece, ...] = (),
        does: int = 0,
        whole_reset: bool = False,
        opaque: bool = False,
        unseen: int = 0,
        defines: bool = False,
        leaves: tuple[str, ...] = (),
        locally: tuple[str, ...] = (),
        elsewhere: bool = False,
    ) -> None:
        self.makes = makes
        self.clears = clears
        self.names = names
        self.resets = resets
        self.everything = everything
        self.prepared = prepared
        self.does = does
        self.whole_reset = whole_reset
        self.opaque = opaque
        self.unseen = unseen
        self.defines = defines
        self.leaves = leaves
        self.locally = locally
        self.elsewhere = elsewhere

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Verdict) and self._fields() == other._fields()

    def __hash__(self) -> int:
        return hash(self._fields())

    def __repr__(self) -> str:
        return f"Verdict{self._fields()}"

    def _fields(self) -> tuple[object, ...]:
        found = self.makes, self.clears, self.names, self.resets, self.everything, self.prepared
        more = self.whole_reset, self.opaque, self.unseen, self.defines, self.leaves, self.locally
        return *found, self.does, *more, self.elsewhere

    @cython.ccall
    def only_leaves(self) -> cython.bint:
        """Whether it does nothing that lasts but leave names in the session."""
        return not (self.makes or self.clears or self.does or self.defines)

    @cython.ccall
    def stirs(self) -> cython.bint:
        """Whether it may change what constants of texts are read under, if only for its
        transaction."""
        if self.everything or "EXECUTE" in [piece.verb for piece in self.prepared]:
            return True
        names: cython.bint = not READ_UNDER.isdisjoint(self.names)
        return names or self.elsewhere or not READ_UNDER.isdisjoint(self.leaves)

    @cython.ccall
    def leads_elsewhere(self) -> cython.bint:
        """Whether it sets search_path, if only for its transaction."""
        return self.elsewhere or "search_path" in self.names

    def moves(self, changes: Callable[[str], bool]) -> bool:
        """Whether it may change a parameter of those, if only for its transaction."""
        return self.everything or any(map(changes, self.names)) or any(map(changes, self.leaves))


NOTHING = Verdict()


@cython.final
@cython.freelist(4)
@cython.cclass
class Findings:
    """What has been found so far in one text.

    `alike`: each of `names` may also be put back, they are all of the `resets`.
    """

    names: list[str] | None
    resets: list[str] | None
    leaves: list[str] | None
    locally: list[str] | None
    prepared: list[Piece] | None

    def begin(self) -> None:
        self.makes = self.clears = self.does = 0
        self.everything = self.opaque = self.defines = self.elsewhere = False
        self.alike = True
        self.names = self.resets = self.leaves = self.locally = self.prepared = None

    def make(self, conditions: cython.int) -> None:
        """It may bring them about."""
        self.makes |= conditions

    def clear(self, conditions: cython.int) -> None:
        """It may end them."""
        self.clears |= conditions

    def put_back(self, what: cython.int) -> None:
        """It puts this back in full."""
        self.does |= what

    def create(self) -> None:
        """It makes objects."""
        self.does |= CREATES

    def create_temporary(self, stays: cython.bint) -> None:
        """It makes temporary objects, which may stay behind its transaction."""
        self.does |= TEMPORARIES
        if stays:
            self.make(TEMP)

    def define(self) -> None:
        """It may run DDL out of sight."""
        self.defines = True

    def change(self, name: str, sets: cython.bint, resets: cython.bint) -> None:
        """The parameter may be set, or put back to its default."""
        size: cython.Py_ssize_t = len(name)
        # Their lengths tell most other names from them, without a hash.
        if (size == 4 or size > 20) and name in _ODD:
            self.change_odd(name, sets, resets)
        else:
            self.change_parameter(name, sets, resets)

    def change_odd(self, name: str, sets: cython.bint, resets: cython.bint) -> None:
        if name == "seed":
            self.make(SEED)
        elif name == "session_authorization":
            self.change_parameter(name, sets, resets)
            self.change_parameter("role", sets, resets)

    def change_parameter(self, name: str, sets: cython.bint, resets: cython.bint) -> None:
        if self.alike and not resets:
            self.alike = False
            self.resets = None if self.names is None else self.names.copy()
        self.names = _with(self.names, name)
        if sets:
            self.make(PARAMETERS)
        if resets:
            self.clear(PARAMETERS)
            if not self.alike:
                self.resets = _with(self.resets, name)

    def leave(self, name: str) -> None:
        """The parameter is set for a transaction."""
        if "." in name or name in TOLD:
            self.leaves = _with(self.leaves, name)
        self.elsewhere = self.elsewhere or name == "search_path"

    def lead_back(self, name: str) -> None:
        """The parameter may be put back to its default for a transaction."""
        self.locally = _with(self.locally, name)

    def prepare(self, piece: Piece) -> None:
        """It uses a prepared statement of SQL."""
        if self.prepared is None:
            self.prepared = []
        self.prepared.append(piece)

    def unknown(self) -> None:
        """Some parameter may be set or put back, nobody knows which."""
        self.everything = True
        self.make(PARAMETERS)
        self.clear(PARAMETERS)

    def anything(self) -> None:
        """Code runs that cannot be read."""
        self.opaque = True
        self.unknown()
        self.make(ANYTHING)
        self.clear(ANYTHING)

    def verdict(self, whole_reset: cython.bint) -> Verdict:
        noted: cython.bint = self.leaves is not None or self.locally is not None
        noted = noted or self.elsewhere
        if not (self.makes or self.clears or self.does or self.defines or noted):
            return NOTHING
        said: Verdict = Verdict.__new__(Verdict)
        said.makes, said.clears, said.does, said.unseen = self.makes, self.clears, self.does, 0
        said.names = _once(self.names)
        said.resets = said.names if self.alike else _once(self.resets)
        said.leaves = _once(self.leaves)
        said.locally = _once(self.locally)
        said.prepared = () if self.prepared is None else tuple(self.prepared)
        said.everything, said.opaque = self.everything, self.opaque
        said.whole_reset, said.elsewhere = whole_reset, self.elsewhere
        # A table is made whose defaults, say, change sessions.
        said.defines = self.defines or bool(self.does & CREATES and self.makes & ~TEMP)
        return said


@cython.cfunc
def _with(names: list[str] | None, name: str) -> list[str]:
    if names is None:
        return [name]
    names.append(name)
    return names


@cython.cfunc
def _once(names: list[str] | None) -> tuple[str, ...]:
    """The names, each once."""
    if names is None:
        return ()
    return tuple(names) if _distinct(names) else tuple(dict.fromkeys(names))


@cython.cfunc
def _distinct(names: list[str]) -> cython.bint:
    """Whether they are few, and none of them twice."""
    size: cython.Py_ssize_t = len(names)
    if size > 4:
        return False
    for at in range(1, size):
        name: str = names[at]
        for before in range(at):
            other: str = names[before]
            if len(name) == len(other) and name == other:
                return False
    return True
