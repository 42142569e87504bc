# cython: boundscheck=False, wraparound=False
"""What clients were told of the results of their statements, and whether a server gives the same.

A server that has a statement refuses it by itself when DDL has changed its result; one that lacks
it is asked (`proxy.session.prepared`) whether it gives what the clients were told, and where it
does not the statement fails as Postgres makes it fail. A statement belongs to a generation: the
state of the schema in which it was prepared, as far as is known; who prepares the text in another
has another.
"""

from __future__ import annotations

from typing import Any

import cython

if cython.compiled:
    from cython.cimports.proxy.session.owed import DESCRIBE, TELLING, Owed
    from cython.cimports.proxy.session.statement import Statement
else:
    from proxy.session.owed import DESCRIBE, TELLING, Owed
    from proxy.session.statement import Statement

if not cython.compiled:
    TOLD = 5
"""The kind of the note of a Describe: (TOLD, None, generation, None, statement)."""

UNKNOWN = Statement(b"", b"")
"""Stands for an unnamed statement of which nothing is known: equal to no client's."""


@cython.cclass
class Results:
    """The statements of one server in what they give.

    `held`: those that it has, by when they were used last, negative where that is not certain;
    `generation`: the state of the schema that it serves, as far as is known; `differs`: the one
    that it was asked about last, if it takes or gives something else than was told.
    """

    held: dict[Statement, int]
    differs: Statement
    unnamed: Statement

    def __init__(self) -> None:
        self.held = {}
        self.differs = None
        self.generation = 0
        self.unnamed = None

    @cython.ccall
    def doubts(self, statement: Statement) -> cython.bint:
        """Whether this server may give another result than was told, and must be asked first.

        What has a name is used again and again: DDL may be under way, or have been done straight at
        Postgres.
        """
        if statement.shape is None:
            return False
        known: cython.bint = statement.generation == self.generation
        if not statement.server_name:
            return not known and self.unnamed is not statement
        if self.held.get(statement, -1) >= 0:
            return False
        return not known or statement.is_analysed()

    @cython.ccall
    def describe(self, statement: Statement, owed: Owed) -> cython.void:
        """A client asks for the shape of its statement, which may be None."""
        if statement is None or statement.shape is not None:
            owed.push(DESCRIBE)
        else:
            note = (TOLD, None, statement.generation, None, statement)
            owed.push_noted(TELLING, note)

    @cython.ccall
    def told(self, note: Any, types: bytes, shape: bytes) -> cython.bint:
        """Postgres has described the statement of that note (see `Statement.told`).

        Returns whether the schema is not the one that it was taken for.
        """
        statement: Statement = note[4]
        if statement.agrees(types, shape):
            statement.told(types, shape, note[2])
            return False
        self.differs = statement
        if statement.server_name:
            self.held[statement] = -1
        else:
            self.unnamed = UNKNOWN
        return not statement.alone and statement.generation == self.generation

    @cython.ccall
    def distrust(self) -> cython.void:
        """Statements of one client alone may have been prepared anew amid tables that are gone."""
        for statement in [statement for statement in self.held if statement.alone]:
            self.held[statement] = -1

    @cython.ccall
    def renew(self, generation: cython.longlong) -> cython.void:
        """The schema has changed, or may have."""
        self.generation = generation
