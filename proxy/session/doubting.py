"""What a client's statements may do to its session: noted as they go out, in doubt until asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import cython

from proxy.conditions import (
    ANYTHING,
    COMPUTED,
    LOAD,
    PARAMETERS,
    PREPARED,
    SEED,
    SEQUENCES,
    SERVER_STATE,
    TEMP,
)
from proxy.session.dotted import MOST, dotted
from proxy.session.findings import (
    CREATES,
    DISCARD_ALL,
    NOTHING,
    RESET_ALL,
    TEMPORARIES,
    Piece,
    Verdict,
)
from proxy.session.inquiry import ASKABLE, Doubt
from proxy.session.parameters import NONE, READ_UNDER, is_placeholder
from proxy.session.policy import Policy
from proxy.session.routines import Routines
from proxy.session.verdict import verdict

if cython.compiled:
    from cython.cimports.proxy.session.named import Named
    from cython.cimports.proxy.session.parameters import Parameters
    from cython.cimports.proxy.session.statement import Statement
else:
    from proxy.session.named import Named
    from proxy.session.parameters import Parameters
    from proxy.session.statement import Statement

# In `Session.asks`: a statement runs whose outcome need not be asked for, unless it fails; one runs
# behind which the catalogs are to be looked at; in texts names may stand for other tables than they
# did, for all or for this client alone.
if not cython.compiled:
    SURE, DEFINES, NAMES, OWN_NAMES = 1 << 30, 1 << 29, 1 << 28, 1 << 27

FOR_EVER = LOAD | SEED | COMPUTED | SERVER_STATE
"""Conditions that nothing but a reset ends, or the end of the connection to Postgres."""

NO_NAMES: frozenset[str] = frozenset()

UNREADABLE = Verdict(makes=ANYTHING, clears=ANYTHING, everything=True, opaque=True)
"""The verdict on what calls its function by a number."""

UNKNOWABLE = Verdict(makes=ANYTHING | COMPUTED, clears=ANYTHING, everything=True, opaque=True)
"""The verdict on a statement that is too long to be read."""

_UNKNOWN = Verdict(makes=ANYTHING, clears=ANYTHING, everything=True, opaque=True, unseen=ANYTHING)
"""The verdict on a prepared statement of which only the name is known."""

_DEEPEST = 5
"""So many prepared statements that execute one another are looked at."""


@cython.cclass
class Doubting(Named):
    """A session in what its statements may do.

    `begins`: what ALTER ROLE and the like make of parameters; `holds`: the conditions for which it
    keeps its server, `asks`: those to be asked about at the boundary, `doubt`: what to ask;
    `texts`: the last statements that may pin it, with the conditions that they may bring about.
    `withholds`: the client waits for ReadyForQuery until its session is known again. `reads`: as
    long as its transaction is open the server is to be asked what PREPARE reads a text under;
    `leaves`: names of an application's own parameters that it has used, whatever became of their
    values, and `leaving`: those of statements under way; `failing`: what Postgres said of the
    statements that it could not prepare anew, by name; `above`: parameters that it cannot set
    elsewhere, since that takes a superuser; `routines`: those of its database, where some change
    sessions.
    """

    doubt: Doubt
    texts: list[tuple[int, bytes]]
    routines: Routines
    failing: dict[str, dict[str, str]]

    def __init__(
        self, startup: Parameters = NONE, defaults: dict[bytes, bytes] | None = None
    ) -> None:
        self.holds = 0
        self.asks = 0
        self.doubt = None
        self.texts = None
        self.routines = None
        self.begins: Mapping[str, str] = {}
        self.above: frozenset[str] = frozenset()
        self.withholds = self.withholds_next = False
        self.reads = False
        self.failing = {}
        self.leaves: frozenset[str] = NO_NAMES
        self.leaving: tuple[str, ...] = ()
        Named.__init__(self, startup, defaults)

    @cython.ccall
    def wonder(self, name: str, own: object) -> object:
        """Postgres tells of a parameter; no statement need have set it.

        The server is asked then: Postgres may have read its configuration anew.
        """
        doubt = self.doubt or Doubt()
        if name in doubt.reported or doubt.everything or self.asks & SURE:
            return None
        if own is not None:
            doubt.resets.add(name)
            if name in self.parameters.values:
                doubt.reported.add(name)  # that it was, though to the default, nobody tells then
            self.doubt = doubt
            self.asks |= PARAMETERS
            return None
        doubt.resets.discard(name)  # the end of a SET LOCAL
        if self.asks == PARAMETERS and doubt == Doubt():
            self._forget_doubt()
        return None

    @cython.ccall
    def hides(self, name: bytes, value: bytes, last: cython.bint) -> cython.bint:
        """Whether the client is not to hear what Postgres tells of a parameter that it began with.

        It knows already; or this is the server's default, and it is to be asked if RESET has led
        there, which is not where it stays. `last`: that comes next.
        """
        if self._heard(name) == value:
            return True
        if self.asks & (PARAMETERS | SURE) and self.defaults.get(name) == value:
            self.withholds_next = True
            if last:
                return True
        self.told[name] = value
        return False

    @cython.ccall
    def settle(self, ignored: cython.int) -> object:
        """At a boundary: what statements did was told by Postgres, as far as it matters.

        Not of what was set to what it is anyway: that counts when the default changes.
        `ignored`: conditions that are to be believed to be none.
        """
        if self.asks:
            return None
        if ignored & PARAMETERS or self.doubt.reported <= self.parameters.values.keys():
            self._forget_doubt()
        else:
            self.asks = PARAMETERS
        return None

    @cython.cfunc
    def _forget_doubt(self) -> object:
        self.asks = 0
        self.doubt = None
        self.reads = False
        self.bare = {}
        return None

    # -- what statements may do ------------------------------------------------------------

    @cython.ccall
    def touch(
        self,
        verdict: Verdict,
        text: bytes,
        policy: Policy,
        reported: AbstractSet[str],
        alone: cython.bint,
    ) -> object:
        """A statement of this text and verdict is on its way to the server.

        `reported`: parameters that Postgres tells by itself; `alone`: nothing else is under way
        and no transaction is open.
        """
        self._will_withhold(verdict)
        # What becomes of a role that sessions begin with depends on the version of Postgres.
        if verdict.whole_reset and alone and self.doubt is None and "role" not in self.begins:
            self.asks |= SURE
            self.doubt = Doubt(reset=verdict)
            return None
        if self.asks & SURE:
            self.unsure()  # this is sent behind a reset that is not answered
        self._note(verdict, text, policy, reported)
        for inner, own in self._inner(verdict):
            self._will_withhold(inner)
            self._note(inner, text + b"\0" + own, policy, reported)
        return None

    @cython.cfunc
    def _note(
        self, verdict: Verdict, text: bytes, policy: Policy, reported: AbstractSet[str]
    ) -> object:
        may: cython.int = verdict.makes
        if self.doubt is None:
            self.doubt = Doubt()
        self.doubt.text = text
        words: Any = dotted(text) if verdict.everything else ()
        told: cython.bint = not self._touch_parameters(verdict, words or (), reported)
        if words is None or len(self.doubt.names) > MOST:
            self._lose_names()
            may |= COMPUTED
        if not all(map(str.isascii, verdict.names)) and not self._writes_utf8():
            may |= COMPUTED  # it is asked for in UTF-8
        may &= ~policy.ignored
        asks: cython.int = may | (verdict.clears & (self.holds | PARAMETERS))
        if self.doubt.locally:
            asks |= PARAMETERS
        if told and not policy.pinned & PARAMETERS:
            asks &= ~PARAMETERS
        if verdict.does & CREATES:
            may |= TEMP  # where search_path says so
        if may & ~(PARAMETERS | PREPARED) | may & policy.pinned:
            self.texts = [*(self.texts or [])[-9:], (may, text)]
        self.holds |= asks & FOR_EVER | asks & SEQUENCES & policy.pinned
        self.asks |= asks & ~(FOR_EVER | SEQUENCES) | (DEFINES if verdict.defines else 0)
        self.asks |= NAMES if verdict.does & CREATES else 0
        self.asks |= OWN_NAMES if verdict.does & TEMPORARIES else 0
        return None

    def mask(self) -> None:
        """What texts are read under is set for a moment, by SET LOCAL.

        When the transaction is done, Postgres takes what a RESET has left in front of that for
        something that was set (source "session", in AtEOXact_GUC).
        """
        if self.doubt is not None:
            self.doubt.masked = True

    @cython.ccall
    def leads_back(self, verdict: Verdict) -> cython.bint:
        """Whether it may lead to the server's default where this session began otherwise, for a
        transaction."""
        return not self.startup.values.keys().isdisjoint(verdict.locally)

    @cython.ccall
    def leave(self, verdict: Verdict) -> object:
        """A statement of this verdict is on its way."""
        names = (*verdict.leaves, *verdict.names)
        if names and not self.leaves.issuperset(names):
            self.leaving += tuple([n for n in names if "." in n and n not in self.leaves])
        return None

    @cython.ccall
    def has_left(self) -> object:
        """The statements under way have not failed."""
        names, self.leaving = self.leaving, ()
        found = [name for name in names if is_placeholder(name)]
        if len(self.leaves) <= MOST:
            self.leaves = self.leaves.union(found)
        return None

    def _inner(self, said: Verdict, depth: int = 0) -> list[tuple[Verdict, bytes]]:
        """What the statements may do that it executes by name, and those that they execute.

        Each with its text.
        """
        found: list[tuple[Verdict, bytes]] = []
        for piece in said.prepared:
            if piece.verb != "EXECUTE":
                continue
            for statement in self.may_be(piece.octets):
                inner, text = _UNKNOWN, b""
                if depth < _DEEPEST:
                    inner, text = self._judged(piece, statement)
                found += [(inner, text), *self._inner(inner, depth + 1)]
        return [(inner, text) for inner, text in found if inner]

    def _judged(self, piece: Piece, statement: Statement | None) -> tuple[Verdict, bytes]:
        """What the statement may do that the name stands for; None: SQL has made it."""
        if statement is not None:
            own = statement.tail.partition(b"\0")[0]
            return self.judge(own), own
        text = self.text_in_sql(piece.name or "")
        if text is None or piece.octets in self.bare:
            return _UNKNOWN, b""
        return self.judge(text.encode(), kept=True), text.encode()

    def judge(self, text: bytes, *, kept: bool = False) -> Verdict:
        """What a text may do, the functions of its database in it, too.

        `kept`: the server has told it, so it is read as usual.
        """
        judge = verdict if self.routines is None else self.routines.verdict
        return judge(text) if kept else judge(text, self.backslashes, self.wide)

    def prepared_by_sql(self, name: bytes) -> tuple[Verdict | None, bytes]:
        """What a Bind of the name may do, and the text that tells; None: nothing.

        While it is open what the name stands for, it may be anything.
        """
        text = (self.text_in_sql(name.decode("utf-8", "surrogateescape")) or "").encode()
        if self.doubt is not None and self.asks & PREPARED:
            return UNREADABLE, text
        said = self.judge(text, kept=True)
        return None if said is NOTHING else said, text

    def executed(self, verdict: Verdict | None) -> tuple[object, ...]:
        """What it executes by name: what it returns is theirs."""
        pieces = () if verdict is None else verdict.prepared
        return tuple(self._named(piece) for piece in pieces if piece.verb == "EXECUTE")

    def _named(self, piece: Piece) -> object:
        """What the name stands for; where that is in doubt, what equals nobody else's."""
        if piece.octets in self.bare:
            return object()
        own = self.names.get(piece.octets)
        if own is not None:
            return own.tail
        known = self.parameters.statements.get(piece.name or "")
        doubtful = self.doubt is not None and self.doubt.readings is not None
        return object() if known is None or doubtful else known

    def makes(self, verdict: Verdict) -> int:
        """The conditions that it may bring about, itself or by what it executes.

        Without what code may do that it calls and nobody can read: a mere suspicion. DEALLOCATE
        concerns prepared statements and brings none about.
        """
        makes = verdict.makes & ~verdict.unseen
        if verdict.prepared and all(piece.verb == "DEALLOCATE" for piece in verdict.prepared):
            makes &= ~PREPARED
        for inner, _ in self._inner(verdict):
            makes |= inner.makes & ~inner.unseen
        return makes

    @cython.cfunc
    def _will_withhold(self, verdict: Verdict) -> object:
        """Note whether parameters may go back to the server's default, not to this client's.

        Then the client must not be told that its statement is done before what it believes of
        them is put right.
        """
        startup = self.startup.values
        if startup and (verdict.everything or verdict.resets or verdict.locally):
            names = (*verdict.resets, *verdict.locally)
            self.withholds_next |= verdict.everything or any(name in startup for name in names)
        return None

    @cython.ccall
    def withhold(self) -> cython.bint:
        """At a boundary: whether its ReadyForQuery waits until the session is known again."""
        self.withholds = self.withholds_next and self.asks != 0
        self.withholds_next = False
        return self.withholds

    @cython.cfunc
    def _touch_parameters(
        self, verdict: Verdict, words: Iterable[str], reported: AbstractSet[str]
    ) -> object:
        """Note which parameters to ask for; False when Postgres will tell of all of them.

        `words`: of the text, those that may be an application's own.
        """
        doubt = self.doubt
        startup = self.startup.values
        doubt.names.update(words)
        doubt.names.update(name for name in verdict.names if name not in reported)
        doubt.reported.update(name for name in verdict.names if name in reported)
        doubt.resets.update(
            name
            for name in verdict.resets
            if name not in reported or name in startup or self.is_at_default(name)
        )
        if verdict.does & (RESET_ALL | DISCARD_ALL):
            doubt.resets.update(name for name in startup if "." in name or name in READ_UNDER)
        led_back = [name for name in verdict.locally if name in startup]
        doubt.locally.difference_update(verdict.resets)
        doubt.locally.update(led_back)
        doubt.resets.update(led_back)
        doubt.everything = doubt.everything or verdict.everything
        if verdict.opaque or verdict.does & DISCARD_ALL:
            doubt.identity = True
        return bool(doubt.everything or doubt.names or doubt.resets)

    def _writes_utf8(self) -> bool:
        default = self.defaults.get(b"client_encoding", b"").decode()
        return self.parameters.values.get("client_encoding", default).upper() in ("UTF8", "UTF-8")

    def _lose_names(self) -> None:
        """Too many of an application's own parameters may have been set for all to be asked for."""
        doubt = self.doubt
        doubt.names = {name for name in doubt.names if "." not in name}
        doubt.everything = True

    @cython.ccall
    def ask(self, conditions: cython.int) -> object:
        """Ask about these at the boundary, whatever the statements say."""
        if self.doubt is None:
            self.doubt = Doubt()
        self.asks |= conditions & (ASKABLE | PREPARED)
        return None

    @cython.ccall
    def ask_all(self, routines: Routines) -> object:
        """Ask about everything: any of these may have been called, when they were not known yet."""
        if self.doubt is None:
            self.doubt = Doubt()
        if self.asks & SURE:
            self.unsure()
        self.doubt.everything = self.doubt.identity = True
        for said in () if routines is None else routines.by_name.values():
            self.doubt.names.update(said.names)
        self.asks |= ANYTHING
        return None

    @cython.ccall
    def unsure(self) -> object:
        """A statement failed whose outcome was thought to be sure, or there is more to be asked:
        ask after all."""
        if self.doubt.reset is not None:
            self._touch_parameters(self.doubt.reset, (), NO_NAMES)
        self.asks = self.asks & ~SURE | self.holds & ASKABLE | PARAMETERS | PREPARED
        self.doubt.everything = self.doubt.identity = True
        return None

    @cython.ccall
    def sure(self) -> cython.bint:
        """Whether what was done is known without asking."""
        if self.asks & SURE and self.asks != SURE:
            self.unsure()
        return self.asks == SURE
