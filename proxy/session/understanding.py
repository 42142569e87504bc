"""What the texts of a client's prepared statements are read under.

Of statements of the protocol, that is: those of PREPARE are `proxy.session.preparing`'s.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import cython

from proxy.session.parameters import NONE, UNTOLD, Prepared
from proxy.session.reread import looks_up_anew
from proxy.session.statement import unread

if cython.compiled:
    from cython.cimports.proxy.session.doubting import Doubting
    from cython.cimports.proxy.session.parameters import Parameters
    from cython.cimports.proxy.session.statement import Statement
else:
    from proxy.session.doubting import Doubting
    from proxy.session.parameters import Parameters
    from proxy.session.statement import Statement

_PATH = ("search_path",)


@cython.cclass
class Understanding(Doubting):
    """A session in what texts mean.

    `stirred`: something that may change that was sent, and not all of what was sent is answered;
    `fresh`: statements that were prepared behind the last of it.
    """

    fresh: list[Statement]

    def __init__(
        self, startup: Parameters = NONE, defaults: dict[bytes, bytes] | None = None
    ) -> None:
        self.stirred = False
        self.fresh = []
        Doubting.__init__(self, startup, defaults)

    @cython.ccall
    def reads_now(self, statement: Statement) -> object:
        """Its Parse goes out now."""
        statement.under = self.parameters.meaning
        statement.meaning = statement.under
        if self.stirred:
            statement.meaning = None
            self.fresh.append(statement)
        return None

    @cython.ccall
    def clouded(self) -> cython.bint:
        """Whether something may have changed what constants are read under, and Postgres has not
        told."""
        return self.stirred or self._asks_of(UNTOLD)

    @cython.cfunc
    def _asks_of(self, names: Iterable[str]) -> cython.bint:
        """Whether the server is still to be asked of one of these parameters."""
        doubt = self.doubt
        if doubt is None:
            return False
        return not (doubt.names.isdisjoint(names) and doubt.resets.isdisjoint(names))

    @cython.ccall
    def reads_under(self) -> object:
        """What constants are read under now, None where that is not known."""
        return None if self.clouded() or self._asks_of(_PATH) else self.parameters.meaning

    @cython.ccall
    def stir(self) -> object:
        """Something goes out that may change what texts mean."""
        self.stirred = True
        self.fresh.clear()
        return None

    @cython.ccall
    def calm(self) -> object:
        """All that went out is answered."""
        self.stirred = False
        return self.learn_readings() if self.fresh else None

    @cython.ccall
    def learn_readings(self) -> object:
        """What was prepared behind the last change was read under what holds now that it is known.

        As far as it is: what the server is still to be asked of counts when it has told. Not where
        a transaction has ended in between, or failed: then `fresh` is empty.
        """
        now = self.parameters.meaning
        for statement in self.fresh:
            statement.meaning = statement.under = now
        if self.doubt is None:
            self.fresh.clear()
        return None

    def read_anew(self, behind: list[Any]) -> dict[str, Prepared]:
        """All texts are read anew when they are used next; returns the statements of PREPARE.

        Of those it is taken that they are used under what holds now. `behind`: statements that are
        prepared only now.
        """
        here = self.names.items()
        self.names = {n: each if each in behind else unread(each) for n, each in here}
        if self.unnamed is not None:
            self.unnamed.meaning = None
        made = self.parameters.statements.items()
        statements = {n: Prepared.under(each.text, self.parameters.meaning) for n, each in made}
        self.follow(self.parameters.with_statements(statements))
        return statements

    @cython.ccall
    def reads_otherwise(self, statement: Statement) -> cython.bint:
        """Whether its text may mean something else now than it did."""
        return self.stirred or statement.under is not self.parameters.meaning

    @cython.ccall
    def keeps_reading(self, statement: Statement) -> cython.bint:
        """Whether its constants, if read now, may be others, and Postgres would not do so."""
        then = statement.meaning
        if then is None or then is self.reads_under() or not statement.has_constants():
            return False
        return self._asks_of(_PATH) or not looks_up_anew(then, self.parameters.meaning)

    @cython.cfunc
    def _has_told(self) -> object:
        return self.learn_readings() if self.fresh and not self.stirred else None
