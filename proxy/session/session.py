"""What one client believes of its Postgres session.

A statement's text tells what it may do (`proxy.session.verdict`); what it did is asked of the
server at the boundary, and the answer believed (`proxy.session.inquiry`). Until then the session
keeps a doubt.
"""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from functools import lru_cache
from itertools import count
from weakref import WeakValueDictionary

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
    UNSURE,
)
from proxy.session.findings import CREATES, DISCARD_ALL, RESET_ALL, Piece, Verdict
from proxy.session.inquiry import ASKABLE, Answer, Doubt
from proxy.session.lexer import width
from proxy.session.parameters import IDENTITY, IMPATIENT, NOBODYS, NONE, hasty
from proxy.session.policy import Policy
from proxy.session.preparing import NOTHING_READ, Readings, is_stand_in, made, stand_in
from proxy.session.routines import Routines
from proxy.session.verdict import verdict

if cython.compiled:
    from cython.cimports.proxy.session.parameters import Parameters
else:
    from proxy.session.parameters import Parameters

PREFIX = b"pgfunnel_"
"""How names of prepared statements of pgfunnel's own begin."""

# In `Session.asks`: a statement runs whose outcome need not be asked for, unless it fails; one runs
# behind which the catalogs are to be looked at.
if not cython.compiled:
    SURE, DEFINES = 1 << 30, 1 << 29

FOR_EVER = LOAD | SEED | COMPUTED | SERVER_STATE
"""Conditions that nothing but a reset ends, or the end of the connection to Postgres."""

UNREADABLE = Verdict(makes=ANYTHING, clears=ANYTHING, everything=True, opaque=True)
"""The verdict on a statement that is too long to be read."""

_DOTTED = re.compile(rb"[A-Za-z_][\w$]*(?:\.[A-Za-z_][\w$]*)+", re.ASCII)
_numbers = count(1)


@cython.cclass
class Statement:
    """`tail` is a Parse message behind its name: text, NUL, parameter types.

    `verdict`: what running it may do to a session, None for most, as told when the database had
    these `routines` (see `proxy.session.routines`); `generation`: the state of the
    schema that its result is known to fit; `shape`: what a client was told of its result (see
    `wire.messages.shape`), None as long as none was told; `anew`: in place of `tail` where it is
    prepared anew.
    """

    verdict: Verdict | None
    routines: object
    shape: bytes | None
    meaning: object

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
        self.meaning = None
        self.shape = None

    @cython.ccall
    def judged(self, verdict: Verdict | None, routines: object) -> object:
        """Running it may do this, in a database that has these routines."""
        self.verdict = verdict
        self.routines = routines
        return None

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


_Key = tuple[bytes, object, int, tuple[object, ...]]
_shared: WeakValueDictionary[_Key, Statement] = WeakValueDictionary()


def share(
    tail: bytes,
    parameters: Parameters,
    verdict: Verdict | None = None,
    generation: int = 0,
    executed: tuple[object, ...] = (),
) -> Statement:
    """The one statement of this text and these types for all clients that read it alike.

    `generation`: the state of the schema in which they do; `executed`: what it executes by name.
    """
    key = (tail, parameters.meaning, generation, executed)
    known = _shared.get(key)
    if known is None:
        name = PREFIX + b"%d" % next(_numbers)
        known = _shared[key] = Statement(tail, name, verdict, generation)
        known.meaning = parameters.meaning
    return known


@cython.cclass
class Session:
    """`names` are its prepared statements of the protocol, `unnamed` the one without a name, `gone`
    those that its last DEALLOCATE ALL dropped: what is pipelined behind it may name them still.

    `startup` are the parameters it came with, `parameters` those that hold now (`follow`), with
    its prepared statements of SQL: of those it came with also what is as by default; `defaults`:
    what the server says they are without anybody's doing. `holds`: the conditions for which it
    keeps its server, `asks`: those to be asked about at the boundary, `doubt`: what to ask;
    `texts`: the last statements that may pin it, with the conditions that they may bring about.
    `withholds`: the client waits for ReadyForQuery until its session is known again. `forgotten`:
    the unnamed statement that a query under way is about to destroy. `reads`: as long as its
    transaction is open the server is to be asked what PREPARE reads a text under; `bound`: names of
    statements that can be prepared on no other server; `failing`: what Postgres said of those that
    it could not prepare anew, by name; `routines`: those of its database, where some change
    sessions.
    """

    names: dict[bytes, Statement]
    gone: dict[bytes, Statement]
    unnamed: Statement
    forgotten: Statement
    startup: Parameters
    parameters: Parameters
    defaults: dict[bytes, bytes]
    doubt: Doubt
    texts: list[tuple[int, bytes]]
    routines: Routines
    failing: dict[str, dict[str, str]]
    bound: frozenset[str]

    def __init__(
        self, startup: Parameters = NONE, defaults: dict[bytes, bytes] | None = None
    ) -> None:
        self.names = {}
        self.gone = {}
        self.unnamed = None
        self.forgotten = None
        self.startup = startup
        self.defaults = {} if defaults is None else defaults
        self.holds = 0
        self.asks = 0
        self.doubt = None
        self.texts = None
        self.routines = None
        self.withholds = self.withholds_next = False
        self.reads = False
        self.failing = {}
        self.bound = frozenset()
        self.back: dict[str, str] = {}
        self.follow(startup)

    @cython.ccall
    def follow(self, parameters: Parameters) -> object:
        """These parameters hold from now on."""
        self.parameters = parameters
        strings = self.defaults.get(b"standard_conforming_strings", b"")
        encoding = self.defaults.get(b"client_encoding", b"")
        self.backslashes, self.wide, self.watches = _reading(parameters, strings, encoding)
        return None

    @cython.ccall
    def began_with(self, name: str) -> cython.bint:
        """Whether RESET leads to a value of its own, not to the server's default."""
        return name in self.startup.values

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
        if verdict.whole_reset and alone:
            self.asks |= SURE
            self.doubt = Doubt(reset=verdict)
            return None
        self._note(verdict, text, policy, reported)
        for inner in self._inner(verdict):
            self._note(inner, text, policy, reported)
        return None

    @cython.cfunc
    def _note(
        self, verdict: Verdict, text: bytes, policy: Policy, reported: AbstractSet[str]
    ) -> object:
        may: cython.int = verdict.makes & ~policy.ignored
        asks: cython.int = may | (verdict.clears & (self.holds | PARAMETERS))
        if self.doubt is None:
            self.doubt = Doubt()
        told: cython.bint = not self._touch_parameters(verdict, text, reported)
        if told and not policy.pinned & PARAMETERS:
            asks &= ~PARAMETERS
        if verdict.prepared:
            self.doubt.dropped.update(self.deallocated(verdict))
        if verdict.does & CREATES:
            may |= TEMP  # where search_path says so
        if may & ~(PARAMETERS | PREPARED) | may & policy.pinned:
            self.texts = [*(self.texts or [])[-9:], (may, text)]
        self.holds |= asks & FOR_EVER | asks & SEQUENCES & policy.pinned
        self.asks |= asks & ~(FOR_EVER | SEQUENCES) | (DEFINES if verdict.defines else 0)
        return None

    def _inner(self, said: Verdict) -> list[Verdict]:
        """What the statements may do that it executes by name."""
        found: list[Verdict | None] = []
        for piece in said.prepared:
            if piece.verb != "EXECUTE":
                continue
            known = self.names.get(piece.octets)
            statement = self.parameters.statements.get(piece.name or "")
            if known is not None:
                found.append(known.verdict)
            elif statement is not None:
                judge = verdict if self.routines is None else self.routines.verdict
                found.append(judge(statement.text.encode()))
        return [inner for inner in found if inner]

    def executed(self, verdict: Verdict | None) -> tuple[object, ...]:
        """What it executes by name: what it returns is theirs."""
        pieces = () if verdict is None else verdict.prepared
        return tuple(self._named(piece) for piece in pieces if piece.verb == "EXECUTE")

    def _named(self, piece: Piece) -> object:
        """What the name stands for; where that is in doubt, what equals nobody else's."""
        own = self.names.get(piece.octets)
        if own is not None:
            return own.tail
        known = self.parameters.statements.get(piece.name or "")
        doubtful = self.doubt is not None and self.doubt.readings is not None
        return next(_numbers) if known is None or doubtful else known

    @cython.ccall
    def reads_otherwise(self, statement: Statement) -> cython.bint:
        """Whether its parameters have given the statement's text another meaning since."""
        return statement.meaning is not self.parameters.meaning

    def makes(self, verdict: Verdict) -> int:
        """The conditions that it may bring about, itself or by what it executes.

        Without what code may do that it calls and nobody can read: a mere suspicion.
        """
        makes = verdict.makes & ~verdict.unseen
        for inner in self._inner(verdict):
            makes |= inner.makes & ~inner.unseen
        return makes

    @cython.cfunc
    def _will_withhold(self, verdict: Verdict) -> object:
        """Note whether parameters may go back to the server's default, not to this client's.

        Then the client must not be told that its statement is done before what it believes of
        them is put right.
        """
        if not self.startup.values or not (verdict.everything or verdict.resets):
            return None
        if verdict.everything or any(name in self.startup.values for name in verdict.resets):
            self.withholds_next = True
        return None

    @cython.ccall
    def withhold(self) -> cython.bint:
        """At a boundary: whether its ReadyForQuery waits until the session is known again."""
        self.withholds = self.withholds_next and self.asks != 0
        self.withholds_next = False
        return self.withholds

    @cython.cfunc
    def _touch_parameters(
        self, verdict: Verdict, text: bytes, reported: AbstractSet[str]
    ) -> object:
        """Note which parameters to ask for; False when Postgres will tell of all of them."""
        doubt = self.doubt
        startup = self.startup.values
        if verdict.everything:
            # An application's own parameters are in no catalogue: what looks like one is asked for.
            doubt.names.update(name.decode().lower() for name in _DOTTED.findall(text))
        doubt.names.update(name for name in verdict.names if name not in reported)
        doubt.resets.update(
            name for name in verdict.resets if name not in reported or name in startup
        )
        if verdict.does & (RESET_ALL | DISCARD_ALL):
            doubt.resets.update(name for name in startup if "." in name)
        doubt.everything = doubt.everything or verdict.everything
        return bool(doubt.everything or doubt.names or doubt.resets)

    def prepares(self, verdict: Verdict, text: bytes, quiet: bool, idle: bool) -> None:
        """A text with PREPARE or DEALLOCATE is on its way, `touch` was told.

        `quiet`: nothing is under way that may do something; `idle`: no transaction is open.
        """
        if self.doubt.readings is None:
            self.doubt.readings = Readings()
        readings = self.doubt.readings
        meaning = self.parameters.meaning if idle else None
        known = self.parameters.statements.keys() | self.bound
        readings.note(verdict, text, known, meaning, quiet)
        self.reads = bool(readings.open)
        if any(reading is None for reading in readings.under.values()):
            self.texts = [*(self.texts or [])[-9:], (PREPARED, text)]

    def deallocated(self, verdict: Verdict) -> dict[bytes, Statement]:
        """What DEALLOCATE takes of the statements that the protocol's Parse has made."""
        gone = [p.octets for p in verdict.prepared if p.verb == "DEALLOCATE"]
        return {name: self.names.pop(name) for name in gone if name in self.names}

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
        self.doubt.everything = True
        for said in () if routines is None else routines.by_name.values():
            self.doubt.names.update(said.names)
        self.asks |= ANYTHING
        return None

    @cython.ccall
    def unsure(self) -> object:
        """A statement failed whose outcome was thought to be sure: ask after all."""
        self.asks = self.asks & ~SURE | self.holds & ASKABLE | PARAMETERS | PREPARED
        self.doubt.everything = True
        return None

    @cython.ccall
    def sure(self) -> cython.bint:
        """Whether what was done is known without asking."""
        if self.asks & SURE and self.asks != SURE:
            self.unsure()
        return self.asks == SURE

    @cython.ccall
    def in_sql(self, name: bytes) -> cython.bint:
        """Whether it prepared a statement of this name in SQL."""
        statements = self.parameters.statements
        if not statements and not self.bound and self.doubt is None:
            return False
        own = name.decode("utf-8", "surrogateescape")
        readings = NOTHING_READ if self.doubt is None else self.doubt.readings or NOTHING_READ
        return own in statements or own in self.bound or readings.made(own)

    # -- what they did ---------------------------------------------------------------------

    def question_now(self) -> tuple[int, tuple[str, ...], tuple[str, ...], bool]:
        """As `question`, of parameters alone: in a transaction, other things are not done yet."""
        return (PARAMETERS, *self.question()[1:])

    def restore(self, answer: Answer | None) -> None:
        """In a transaction: `back` is what must be set since RESET led to the server's default."""
        self.back = {} if answer is None else self._back(answer)

    def question_of_readings(self) -> tuple[int, tuple[str, ...], tuple[str, ...], bool]:
        """What PREPARE reads texts under, asked as long as the transaction is open."""
        return PARAMETERS, ("role",), (), True

    def impatient(self) -> bool:
        """Whether a question in its transaction could be what runs into a limit of its own."""
        return any(hasty(self.parameters.values.get(name, "0")) for name in IMPATIENT)

    def read_under(self, answer: Answer | None) -> None:
        """The server has told, or cannot."""
        self.reads = False
        if self.doubt is None or self.doubt.readings is None:
            return
        now = None
        if answer is not None and answer.session is not None:
            known = self.parameters.values
            told = {
                n: v for n, v in answer.session.items() if n in known or n not in answer.default
            }
            kept = {n: known[n] for n in ("session_authorization",) if n in known}
            role = {n: v for n, v in answer.values.items() if v and v != "none"}
            now = Parameters.of({**told, **kept, **role}).meaning
        self.doubt.readings.told(now, self.parameters.meaning)

    def question(self) -> tuple[int, tuple[str, ...], tuple[str, ...], bool]:
        """What is to be asked now: arguments for `inquiry.question`."""
        doubt = self.doubt
        names = doubt.names | doubt.resets
        if doubt.everything:
            names |= {name for name in self.parameters.values if "." in name} | {"role"}
        return self.asks, tuple(sorted(names)), tuple(sorted(doubt.resets)), doubt.everything

    def reset(self) -> Parameters:
        """The sure statements have run; returns what their server is set to now."""
        done = self.doubt.reset
        before = self.parameters
        if done.does & DISCARD_ALL:
            before = before.with_values(dict.fromkeys(IDENTITY))
        before = before.with_values({n: None for n in IDENTITY if n in done.resets})
        there, here = before, before
        if done.does & (DISCARD_ALL | RESET_ALL):
            there, here = before.but_for(NONE), before.but_for(self.startup)
        own = {n: self.startup.values.get(n) for n in IDENTITY if n in done.resets}
        self.holds &= ~done.clears
        if done.clears & PREPARED:
            self.bound = frozenset()
        self.follow(here.with_values(own))
        self._forget_doubt()
        return there

    def believe(self, answer: Answer) -> Parameters:
        """What the server said is true; returns what it itself is set to now."""
        asked: cython.int = self.asks & (ASKABLE | PREPARED)
        self.holds = self.holds & ~(asked | UNSURE) | answer.held
        there, here = self._believe_parameters(answer)
        if answer.statements is not None:
            there, here = self._believe_statements(answer, there, here)
            self._believe_names(answer)
        self.follow(here)
        self._forget_doubt()
        return there

    def _believe_statements(
        self, answer: Answer, there: Parameters, here: Parameters
    ) -> tuple[Parameters, Parameters]:
        """Those that cannot be prepared elsewhere hold the server."""
        sources = answer.statements or {}
        readings = self.doubt.readings or NOTHING_READ
        statements = made(sources, self.parameters.statements, readings, self.backslashes)
        self.bound = frozenset(sources.keys() - statements.keys())
        if self.bound:
            self.holds |= PREPARED
        strays = dict.fromkeys(answer.strays, NOBODYS)
        stand_ins = {n: stand_in(n) for n, source in sources.items() if is_stand_in(source)}
        there = there.with_statements({**statements, **stand_ins, **strays})
        return there, here.with_statements(statements)

    def cannot_tell(self) -> None:
        """The server did not answer: it is kept, and asked again at the next boundary.

        Then of what everybody may read: current_setting() fails for a parameter that this role
        may not see (PostgreSQL documentation, "pg_settings"), such as one it failed to set.
        """
        self.holds |= UNSURE
        doubt = self.doubt
        doubt.everything = True
        doubt.names = {name for name in doubt.names if not _in_catalogue(name)}
        doubt.resets = {name for name in doubt.resets if not _in_catalogue(name)}

    def pin(self, policy: Policy) -> None:
        """Hold the server for what could be replayed but is to pin."""
        self.holds &= ~(policy.pinned & PARAMETERS)
        if self.parameters.values != self.startup.values:
            self.holds |= policy.pinned & PARAMETERS
        if self.parameters.statements:
            self.holds |= policy.pinned & PREPARED

    def _believe_parameters(self, answer: Answer) -> tuple[Parameters, Parameters]:
        """What the server is set to, and what the session is: RESET leads back to its start."""
        base = self.parameters
        if answer.session is not None:
            kept = {n: v for n, v in base.values.items() if "." in n or n in IDENTITY}
            base = Parameters.of({**kept, **answer.session}, base.statements)
        there = dict(answer.values)
        if there.get("role") == "none" and "role" not in self.startup.values:
            there["role"] = None
        there.update({name: None for name in self._unset(answer) if "." not in name})
        at_server = base.with_values(there)
        return at_server, at_server.with_values(self._back(answer))

    def _back(self, answer: Answer) -> dict[str, str]:
        """Parameters that stand at the server's default now, and began otherwise."""
        startup = self.startup.values
        back = self._unset(answer)
        if answer.session is not None:
            back |= {n for n in startup if _in_catalogue(n)} - answer.session.keys()
            back |= {n for n, v in answer.values.items() if v in _UNSET and self._was_set(n)}
        return {name: startup[name] for name in back if name in startup}

    def _was_set(self, name: str) -> bool:
        """Whether it had a value that only the server itself can tell of."""
        return not _in_catalogue(name) and self.parameters.values.get(name) not in _UNSET

    def _unset(self, answer: Answer) -> set[str]:
        """Which of the parameters that may have been put back were."""
        kept = {n for n, v in answer.values.items() if not _in_catalogue(n) and v not in _UNSET}
        return self.doubt.resets - answer.settled - kept

    def _believe_names(self, answer: Answer) -> None:
        for name, statement in self.doubt.dropped.items():
            if name.decode("utf-8", "surrogateescape") in answer.strays:
                self.names.setdefault(name, statement)

    def _forget_doubt(self) -> None:
        self.asks = 0
        self.doubt = None
        self.reads = False


@lru_cache(maxsize=4096)
def _reading(parameters: Parameters, strings: bytes, encoding: bytes) -> tuple[bool, int, int]:
    """How a client's text is read (backslashes, wide), and what is asked at each boundary.

    `strings`, `encoding`: the server's own standard_conforming_strings and client_encoding.
    """
    values = parameters.values
    backslashes = values.get("standard_conforming_strings", strings.decode()) == "off"
    wide = width(values.get("client_encoding", encoding.decode()))
    # There, plain CREATE TABLE makes temporary tables.
    watches = TEMP if "pg_temp" in values.get("search_path", "") else 0
    return backslashes, wide, watches


_UNSET = (None, "", "none")


def _in_catalogue(name: str) -> bool:
    """Whether pg_settings says of the parameter if somebody has set it."""
    return "." not in name and name not in IDENTITY
