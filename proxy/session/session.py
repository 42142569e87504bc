"""What one client believes of its Postgres session.

A statement's text tells what it may do (`proxy.session.verdict`); what it did is asked of the
server at the boundary, and the answer believed (`proxy.session.inquiry`). Until then the session
keeps a doubt.
"""

from __future__ import annotations

import cython

from proxy.conditions import PARAMETERS, PREPARED, TEMP, UNSURE
from proxy.session.findings import DISCARD_ALL, RESET_ALL
from proxy.session.inquiry import ASKABLE, Answer
from proxy.session.parameters import IDENTITY, NOBODYS, NONE, READ_UNDER
from proxy.session.policy import Policy
from proxy.session.preparing import NOTHING_READ, is_stand_in, made, stand_in

if cython.compiled:
    from cython.cimports.proxy.session.parameters import Parameters
    from cython.cimports.proxy.session.understanding import Understanding
else:
    from proxy.session.parameters import Parameters
    from proxy.session.understanding import Understanding


@cython.cclass
class Session(Understanding):
    """A session in what became of it."""

    # -- what they did ---------------------------------------------------------------------

    def question_now(self) -> tuple[int, tuple[str, ...], tuple[str, ...], bool]:
        """As `question`, of parameters alone: in a transaction, other things are not done yet."""
        return (PARAMETERS, *self.question()[1:])

    def restore(self, answer: Answer) -> tuple[dict[str, str], dict[str, str]]:
        """In a transaction: what must be set since RESET led to the server's default.

        For the session, and for the transaction alone.
        """
        back, locally = self._back(answer), self.doubt.locally
        self.doubt.locally = set()
        for_session = {name: value for name, value in back.items() if name not in locally}
        return for_session, {name: value for name, value in back.items() if name in locally}

    def question_of_readings(self) -> tuple[int, tuple[str, ...], tuple[str, ...], bool]:
        """What PREPARE reads texts under, asked as long as the transaction is open."""
        return PARAMETERS, ("role",), (), True

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
        names = doubt.names | doubt.resets | (doubt.reported - self.parameters.values.keys())
        if doubt.everything:
            names |= {name for name in self.parameters.values if "." in name} | {"role"}
        known = tuple(sorted(names))
        return self.asks, known, tuple(filter(_in_catalogue, known)), doubt.everything

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
            self.above = frozenset()
        own = {n: self.startup.values.get(n) for n in IDENTITY if n in done.resets}
        self.holds &= ~done.clears
        if done.clears & PREPARED:
            self.bound = {}
        self.follow(here.with_values(own))
        self._forget_doubt()
        return there

    def believe(self, answer: Answer) -> Parameters:
        """What the server said is true; returns what it itself is set to now."""
        asked: cython.int = self.asks & (ASKABLE | PREPARED)
        had: cython.int = (self.holds & TEMP) | self.made
        self.made = False
        self.holds = self.holds & ~(asked | UNSURE) | answer.held
        self.settled = self.settled or (had != 0 and not self.holds & TEMP)
        there, here = self._believe_parameters(answer)
        self.leaving += tuple(n for n, v in answer.values.items() if "." in n and v is not None)
        if answer.statements is not None:
            there, here = self._believe_statements(answer, there, here)
            self.believe_names(answer.strays)
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
        self.bound = {name: text for name, text in sources.items() if name not in statements}
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
        self.texts = [*(self.texts or [])[-9:], (UNSURE, doubt.text)]
        doubt.everything = doubt.identity = True
        doubt.names = {name for name in doubt.names if not _in_catalogue(name)}
        doubt.resets = {name for name in doubt.resets if not _in_catalogue(name)}

    def pin(self, policy: Policy) -> None:
        """Hold the server for what could be replayed but is to pin, or can only be replayed by a
        superuser."""
        self.holds &= ~PARAMETERS
        if self.above:
            self.holds |= PARAMETERS & ~policy.ignored
        if self.parameters.values != self.startup.values:
            self.holds |= policy.pinned & PARAMETERS
        if self.parameters.statements:
            self.holds |= policy.pinned & PREPARED

    def _believe_parameters(self, answer: Answer) -> tuple[Parameters, Parameters]:
        """What the server is set to, and what the session is: RESET leads back to its start."""
        base = self.parameters
        if answer.session is not None:
            kept = {n: v for n, v in base.values.items() if "." in n or n in IDENTITY}
            masked = dict.fromkeys(self._masked(answer))
            base = Parameters.of({**kept, **answer.session}, base.statements).with_values(masked)
        above = frozenset() if self.defaults.get(b"is_superuser") == b"on" else answer.above
        known = answer.values.keys() if answer.session is None else self.above
        self.above = self.above - known | above
        there = dict(answer.values)
        role = there.get("role")
        if "role" not in self.startup.values and role == self.begins.get("role", "none"):
            there["role"] = None
        if there.get("session_authorization") == self._who():
            there["session_authorization"] = None
        there.update({name: None for name in self._unset(answer) if "." not in name})
        at_server = base.with_values({**there, **dict.fromkeys(above)})
        return at_server, at_server.with_values(self._back(answer))

    def _who(self) -> str:
        """Who logged in; to act as them is the role's business from then on."""
        return self.defaults.get(b"session_authorization", b"").decode("utf-8", "replace")

    def _back(self, answer: Answer) -> dict[str, str]:
        """Parameters that stand at the server's default now, and began otherwise."""
        startup = self.startup.values
        back = self._unset(answer)
        if answer.session is not None:
            back |= {n for n in startup if _in_catalogue(n)} - answer.session.keys()
            back |= self._masked(answer)
            back |= {n for n, v in answer.values.items() if self._is_unset(n, v)} & self._were_set()
        if not self.doubt.identity:
            back = back.difference(IDENTITY) | self.doubt.resets.intersection(back)
        return {name: startup[name] for name in back if name in startup}

    def _were_set(self) -> set[str]:
        """What had a value that only the server itself can tell of."""
        known = self.parameters.values.items()
        own = {n for n, value in known if value not in _UNSET or n in self.begins}
        return {name for name in own if not _in_catalogue(name)}

    def _unset(self, answer: Answer) -> set[str]:
        """Which of the parameters that may have been put back were."""
        found = answer.values.items()
        kept = {n for n, v in found if not _in_catalogue(n) and not self._is_unset(n, v)}
        resets = self.doubt.resets | {n for n, _ in found if _in_catalogue(n)}
        return resets - (answer.settled - self._masked(answer)) - kept

    def _masked(self, answer: Answer) -> frozenset[str]:
        """What RESET has put back, though Postgres says that it is set (see `mask`)."""
        if not self.doubt.masked:
            return frozenset()
        found = READ_UNDER.intersection(answer.default)
        resets = found.intersection(self.doubt.resets)
        if answer.session is None:
            return resets
        known, now = self.parameters.values, answer.session
        return resets | {name for name in found if known.get(name) != now[name]}

    def _is_unset(self, name: str, value: str | None) -> bool:
        """Whether a parameter that is in no catalogue is as it is without anybody's doing."""
        begins = self.begins.get(name)
        return value is None or (value in _UNSET if begins is None else value == begins)


_UNSET = (None, "", "none")


def _in_catalogue(name: str) -> bool:
    """Whether pg_settings says of the parameter if somebody has set it."""
    return "." not in name and name not in IDENTITY
