"""What the texts of a client's prepared statements are read under.

Of statements of the protocol, that is: those of PREPARE are `proxy.session.preparing`'s.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import cython

from proxy.conditions import PREPARED, TEMP
from proxy.session.findings import Verdict
from proxy.session.parameters import NONE, TOLD, UNTOLD, Meaning, Prepared
from proxy.session.preparing import Readings, may_move
from proxy.session.reread import looks_up_anew, read_anew
from proxy.session.statement import unread

if cython.compiled:
    from cython.cimports.proxy.session.doubting import NAMES, OWN_NAMES, Doubting
    from cython.cimports.proxy.session.parameters import Parameters
    from cython.cimports.proxy.session.statement import Statement
else:
    from proxy.session.doubting import NAMES, OWN_NAMES, Doubting
    from proxy.session.parameters import Parameters
    from proxy.session.statement import Statement

_PATH = ("search_path",)
_STRINGS = "standard_conforming_strings"
_temp = TEMP


@cython.cclass
class Understanding(Doubting):
    """A session in what texts mean.

    `stirred`: something that may change that was sent, and not all of what was sent is answered;
    `made`: it may just have made temporary objects, `tempted`: it once may have; `settled`: it has
    had some and has lost them since: search_path changes with the first of them only, in a way, so
    that Postgres reads texts anew. `elsewhere`: the text that has set search_path in the open
    transaction, None for none, empty where nobody can tell: names in texts may stand for other
    tables there than `parameters` say; `strays`: what may lead back was sent behind that, and is
    not answered.
    """

    elsewhere: bytes

    def __init__(
        self, startup: Parameters = NONE, defaults: dict[bytes, bytes] | None = None
    ) -> None:
        self.stirred = False
        self.elsewhere = None
        self.strays = False
        self.made = self.settled = self.tempted = False
        Doubting.__init__(self, startup, defaults)

    @cython.ccall
    def reads_now(self, statement: Statement) -> object:
        """Its Parse goes out now."""
        statement.under = self.parameters.meaning
        statement.meaning = None if self.clouded() else statement.under
        return None

    @cython.ccall
    def run_on(self) -> object:
        """Something is executed: what was begun earlier in the transaction may go on, as a cursor,
        and set what Postgres has not told of yet."""
        self.stirred = self.stirred or not self.doubt.reported.isdisjoint(TOLD)
        return None

    @cython.ccall
    def lead(self, text: bytes) -> object:
        """This goes out, which sets search_path."""
        self.elsewhere = text
        self.strays = False
        return None

    @cython.ccall
    def may_lead_back(self) -> object:
        """A transaction or savepoint may have ended: nobody can tell where search_path leads, until
        none is open."""
        if self.elsewhere is not None:
            self.elsewhere = b""
        return None

    @cython.ccall
    def apart(self) -> cython.bint:
        """Whether names in texts may stand for other tables than for others: temporary ones, or
        some that it has just made."""
        return self.holds & _temp != 0 or self.asks & (NAMES | OWN_NAMES) != 0

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
        if doubt.everything:
            return True
        return not (doubt.names.isdisjoint(names) and doubt.resets.isdisjoint(names))

    @cython.ccall
    def reads_under(self) -> object:
        """What constants are read under now, None where that is not known."""
        return None if self.clouded() or self._asks_of(_PATH) else self.parameters.meaning

    def prepares(self, verdict: Verdict, text: bytes, under: Meaning | None, quiet: bool) -> None:
        """A text with PREPARE or DEALLOCATE is on its way, `touch` was told.

        `under`: what it is read under, None in a transaction or where nobody can tell; `quiet`:
        nothing is under way that may do something.
        """
        if self.doubt.readings is None:
            self.doubt.readings = Readings()
        readings = self.doubt.readings
        known = self.parameters.statements.keys() | self.bound.keys()
        readings.note(verdict, text, known, under, quiet, self.judge)
        self.reads = bool(readings.open)
        if any(reading is None for reading in readings.under.values()):
            self.texts = [*(self.texts or [])[-9:], (PREPARED, text)]

    def goes_on(self, said: Verdict | None, text: bytes) -> object:
        """This is sent behind a PREPARE, in one transaction. Once it has run, the server may not be
        able to tell what that was read under."""
        return self.spoil() if may_move(said, text) else None

    def spoil(self) -> object:
        """Nobody can tell what PREPAREs under way are read under."""
        if self.doubt is not None and self.doubt.readings is not None:
            self.doubt.readings.spoil()
            self.reads = False
        return None

    @cython.ccall
    def prepares_late(self, statement: Statement, named: cython.bint) -> cython.bint:
        """Whether a Bind of it, to a portal that is `named` and may be executed later, prepares
        something, of which it is not known what it is read under; so it is where strings in a text
        end elsewhere now than at its Parse."""
        if "PREPARE" not in [piece.verb for piece in statement.verdict.prepared]:
            return False
        then = statement.lexed if statement.meaning is None else statement.meaning
        now = self.reads_under()
        return named or then is None or now is None or _strings(then) != _strings(now)

    def read_anew(self, behind: list[Any]) -> dict[str, Prepared]:
        """All texts are read anew when they are used next; returns the statements of PREPARE.

        Of those it is taken that they are used under what holds now. `behind`: statements that are
        prepared only now.
        """
        here = self.names.items()
        self.names = {n: each if each in behind else unread(each) for n, each in here}
        self.bare = {n: [each and unread(each) for each in b] for n, b in self.bare.items()}
        if self.unnamed is not None:
            self.unnamed.meaning = None
        made = self.parameters.statements.items()
        now = self.parameters.meaning
        statements = {n: Prepared.under(s.text, read_anew(s.meaning, now)) for n, s in made}
        self.follow(self.parameters.with_statements(statements))
        return statements

    @cython.ccall
    def reads_otherwise(self, statement: Statement) -> cython.bint:
        """Whether its text may mean something else now than it did, or than for others."""
        if statement.under is not self.parameters.meaning or self.clouded():
            return True
        return statement.alone or self.apart()

    @cython.ccall
    def reads_alike(self, statement: Statement) -> cython.bint:
        """Whether a server that has it may use it as it is."""
        same: cython.bint = statement.under is self.parameters.meaning
        return (same and not self.clouded()) or not statement.has_constants()

    @cython.ccall
    def keeps(self, statement: Statement) -> cython.bint:
        """Whether a server that lacks it may prepare it as it was."""
        return self.keeps_reading(statement) or not statement.has_constants()

    @cython.ccall
    def keeps_reading(self, statement: Statement) -> cython.bint:
        """Whether its constants, if read now, may be others, and Postgres would not do so."""
        then = statement.meaning
        if then is None or then is self.reads_under() or not statement.has_constants():
            return False
        return self._asks_of(_PATH) or not self._looks_up_anew(then)

    def reads_anew(self, statement: Statement) -> Meaning | None:
        """What its text is read under if it is read anew now, where that is not what holds."""
        then = statement.lexed if statement.meaning is None else statement.meaning
        now = self.reads_under()
        if then is None or now is None or not statement.has_constants():
            return None
        anew = read_anew(then, now)
        return None if anew == now else anew

    @cython.cfunc
    def _looks_up_anew(self, then: Any) -> cython.bint:
        return looks_up_anew(then, self.parameters.meaning, self.path)


def _strings(meaning: Any) -> object:
    return dict(meaning).get(_STRINGS)
