"""The names of a client's prepared statements.

The protocol's are the client's own: a server has the statements under others. Those of SQL stand in
its text, so a server has them as they are. A name that both use is laid bare: until the boundary it
goes to the server as it is, whatever comes, and then the server is asked what it stands for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cython

from proxy.conditions import PREPARED
from proxy.session.parameters import NONE

if cython.compiled:
    from cython.cimports.proxy.session.knowing import Knowing
    from cython.cimports.proxy.session.parameters import Parameters
    from cython.cimports.proxy.session.statement import Statement
else:
    from proxy.session.knowing import Knowing
    from proxy.session.parameters import Parameters
    from proxy.session.statement import Statement

_MOST = 20
"""So many statements that a name may stand for are kept; earlier ones are gone, it is taken."""


@cython.cclass
class Named(Knowing):
    """A session in what its prepared statements are called.

    `names`: those of the protocol, `unnamed` the one without a name, `forgotten` one that a query
    under way is about to destroy; `bare`: by name, what each that is laid bare may stand for (None:
    what SQL makes); `bound`: those of SQL that can be prepared on no other server, by name the
    string that they came in. Other statements of SQL are among the parameters.
    """

    names: dict[bytes, Statement]
    bare: dict[bytes, list[Statement | None]]
    unnamed: Statement
    forgotten: Statement
    bound: Mapping[str, str]

    def __init__(
        self, startup: Parameters = NONE, defaults: dict[bytes, bytes] | None = None
    ) -> None:
        self.names = {}
        self.bare = {}
        self.unnamed = None
        self.forgotten = None
        self.bound = {}
        Knowing.__init__(self, startup, defaults)

    @cython.ccall
    def ask(self, conditions: cython.int) -> object:
        """Ask about these at the boundary."""
        raise NotImplementedError

    @cython.ccall
    def is_bare(self, name: bytes) -> cython.bint:
        """Whether its server is to be told the name as it is: SQL has made it, or names it now."""
        if self.bare and name in self.bare:
            return True
        if not self.parameters.statements and not self.bound:
            return False
        own = name.decode("utf-8", "surrogateescape")
        return own in self.parameters.statements or own in self.bound

    @cython.ccall
    def lay_bare(self, name: bytes, statement: Statement | None) -> object:
        """From here to the boundary the name goes as it is. It may stand for this (None: for what
        SQL has made, or is to make)."""
        self.names.pop(name, None)
        may_be = self.bare.get(name, [])
        if statement not in may_be:
            self.bare[name] = [*may_be[-_MOST:], statement]
        return self.ask(PREPARED)

    @cython.ccall
    def is_not(self, name: bytes, statement: Statement) -> object:
        """The bare name cannot stand for this: it was refused, or skipped."""
        self.bare[name] = [one for one in self.bare.get(name, ()) if one is not statement]
        return None

    @cython.ccall
    def dress(self, name: bytes, statement: Statement) -> object:
        """What laid it bare, or closed it, was skipped: it stands for this as before."""
        self.bare.pop(name, None)
        self.names.setdefault(name, statement)
        return None

    @cython.ccall
    def may_be(self, name: bytes) -> list[Any]:
        """What the name may stand for; None: for what SQL has made."""
        found: list[Any] = self.bare.get(name)
        return [self.names.get(name)] if found is None else found

    def text_in_sql(self, name: str) -> str | None:
        """Of a statement of this name that SQL has prepared."""
        statement = self.parameters.statements.get(name)
        return self.bound.get(name) if statement is None else statement.text

    def lose_names(self) -> None:
        """Code out of sight has dropped all of them."""
        self.names = {}

    def believe_names(self, strays: Mapping[str, str]) -> None:
        """Of the names that are bare the server has these, with their texts, by the protocol."""
        for name, may_be in self.bare.items():
            text = strays.get(name.decode("utf-8", "surrogateescape"))
            made = [statement for statement in may_be if statement is not None]
            if text is None or not made:
                continue
            self.names[name] = next((s for s in reversed(made) if s.has_text(text)), made[-1])
