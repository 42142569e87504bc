"""What is found out about one text: `Verdict`, and `Findings` while it is being read."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.conditions import ANYTHING, PARAMETERS, SEED

# What a text puts back in full, a mask: `Verdict.does`.
DISCARD_ALL, DISCARD_TEMP, DISCARD_SEQUENCES, DISCARD_PLANS, RESET_ALL = 1, 2, 4, 8, 16
CLOSE_ALL, UNLISTEN_ALL, UNLOCK_ALL, DEALLOCATE_ALL = 32, 64, 128, 256

# They end with the transaction, however they are set (PostgreSQL documentation, SET TRANSACTION).
_TRANSIENT = {"transaction_isolation", "transaction_read_only", "transaction_deferrable"}


@dataclass(frozen=True, slots=True)
class Piece:
    """One PREPARE, EXECUTE or DEALLOCATE in SQL, with the name as Postgres reads it; None: all.

    text[start:end] is the whole statement without its semicolon, EXPLAIN or CREATE TABLE in front
    included; text[name_start:name_end] is the name as it is written.
    """

    verb: str
    name: str | None
    start: int
    end: int
    name_start: int
    name_end: int

    @property
    def octets(self) -> bytes:
        """The name as the protocol's messages have it; empty for all."""
        return (self.name or "").encode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class Verdict:
    """`makes`, `clears`: masks of conditions (`proxy.conditions`) it may bring about, end.

    `names`: parameters whose value it may change, in lower case; `resets`: those of them that it
    may put back to their default; `everything`: which ones cannot be told. `does`: a mask of the
    resets in it; `whole_reset`: it consists of nothing else. `opaque`: it runs code that the text
    does not show (CALL, dynamic SQL); `unseen`: what of `makes` only code may do that is called
    by name and cannot be read.
    """

    makes: int = 0
    clears: int = 0
    names: tuple[str, ...] = ()
    resets: tuple[str, ...] = ()
    everything: bool = False
    prepared: tuple[Piece, ...] = ()
    does: int = 0
    whole_reset: bool = False
    opaque: bool = False
    unseen: int = 0


NOTHING = Verdict()


class Findings:
    """What has been found so far in one text."""

    def __init__(self) -> None:
        self.makes = 0
        self.clears = 0
        self.names: dict[str, None] = {}
        self.resets: dict[str, None] = {}
        self.everything = False
        self.prepared: list[Piece] = []
        self.does = 0
        self.opaque = False

    def change(self, name: str, reset: bool = False) -> None:
        """The parameter may be set, or put back to its default."""
        if name in _TRANSIENT:
            return
        if name == "seed":
            self.makes |= SEED
            return
        self.names[name] = None
        if reset:
            self.resets[name] = None
            self.clears |= PARAMETERS
        else:
            self.makes |= PARAMETERS
        if name == "session_authorization":
            self.change("role", reset)

    def unknown(self) -> None:
        """Some parameter may be set or put back, nobody knows which."""
        self.everything = True
        self.makes |= PARAMETERS
        self.clears |= PARAMETERS

    def anything(self) -> None:
        """Code runs that cannot be read."""
        self.opaque = True
        self.unknown()
        self.makes |= ANYTHING
        self.clears |= ANYTHING

    def verdict(self, whole_reset: bool) -> Verdict:
        found = Verdict(
            self.makes,
            self.clears,
            tuple(self.names),
            tuple(self.resets),
            self.everything,
            tuple(self.prepared),
            self.does,
            whole_reset,
            self.opaque,
        )
        return NOTHING if found == NOTHING else found
