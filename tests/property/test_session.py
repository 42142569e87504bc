"""A session against a model of Postgres's parameters: SET, RESET, transactions that fail."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from proxy.conditions import PREPARED
from proxy.session.inquiry import Answer
from proxy.session.parameters import Parameters
from proxy.session.policy import DEFAULT
from proxy.session.session import Session
from proxy.session.verdict import verdict

PLAIN = {"work_mem": "4MB", "jit": "on", "lock_timeout": "0"}
"""Parameters of the catalogue with the server's defaults."""

NAMES = [*PLAIN, "my.tag", "app.user", "role"]
VALUES = ["a", "b"]


@dataclass
class Postgres:
    """What one session of Postgres has set; RESET leads back to `start`."""

    start: dict[str, str] = field(default_factory=dict)
    now: dict[str, str] = field(default_factory=dict)

    def show(self, name: str) -> str | None:
        """As current_setting(name, true)."""
        return self.now.get(name, "none" if name == "role" else PLAIN.get(name))

    def set(self, name: str, value: str) -> None:
        self.now[name] = value

    def reset(self, name: str) -> None:
        if name in self.start:
            self.now[name] = self.start[name]
        elif "." in name and name in self.now:
            self.now[name] = ""
        else:
            self.now.pop(name, None)

    def reset_all(self) -> None:
        for name in self.now.keys() - {"role"}:
            self.reset(name)


class Step(NamedTuple):
    """A statement: its text, and what it does (a value, None to reset) to which parameter."""

    text: str
    name: str
    value: str | None

    def run(self, postgres: Postgres) -> None:
        if not self.name:
            postgres.reset_all()
        elif self.value is None:
            postgres.reset(self.name)
        else:
            postgres.set(self.name, self.value)


names, values = st.sampled_from(NAMES), st.sampled_from(VALUES)
steps = st.one_of(
    st.builds(lambda n, v: Step(f"SET {n} = '{v}'", n, v), names, values),
    st.builds(lambda n: Step(f"SET {n} = '{PLAIN[n]}'", n, PLAIN[n]), st.sampled_from([*PLAIN])),
    st.builds(lambda n, v: Step(f"SELECT set_config('{n}', $1, false)", n, v), names, values),
    st.builds(lambda n, v: Step("SELECT set_config($1, $2, false)", n, v), st.just("jit"), values),
    st.builds(lambda n: Step(f"RESET {n}", n, None), names),
    st.builds(lambda n: Step(f"SET {n} TO DEFAULT", n, None), names),
    st.just(Step("RESET ALL", "", None)),
)
startups = st.dictionaries(st.sampled_from(NAMES), values, max_size=3)
transactions = st.lists(st.tuples(st.lists(steps, min_size=1, max_size=4), st.booleans()))


def answer(server: Postgres, session: Session) -> Answer:
    """What the server says to what the session asks."""
    asks, wanted, resets, everything = session.question()
    there = {name: value for name, value in server.now.items() if name in PLAIN}
    return Answer(
        values={name: server.show(name) for name in wanted},
        settled=frozenset(name for name in resets if name in there),
        session=there if everything else None,
        statements={} if asks & PREPARED else None,
    )


def shown(parameters: Parameters, start: dict[str, str]) -> dict[str, str]:
    """An application's own parameter that is empty is as good as none."""
    there = Postgres(now={**start, **parameters.values})
    return {name: there.show(name) or "" for name in NAMES}


@given(startups, transactions)
def test_the_session_is_what_a_connection_of_its_own_would_be(
    startup: dict[str, str], story: list[tuple[list[Step], bool]]
) -> None:
    session = Session(Parameters.of(startup))
    own, server = Postgres(startup, dict(startup)), Postgres(now=dict(startup))
    for transaction, commits in story:
        alone = len(transaction) == 1
        for step in transaction:
            text = step.text.encode()
            session.touch(verdict(text), text, DEFAULT, frozenset(), alone)
            if commits:
                step.run(own)
                step.run(server)
        if not commits and session.sure():
            session.unsure()
        there = session.reset() if session.sure() else session.believe(answer(server, session))
        assert shown(there, {}) == {name: server.show(name) or "" for name in NAMES}
        assert shown(session.parameters, {}) == {name: own.show(name) or "" for name in NAMES}
        # Ahead of the client's next transaction the server is brought to what is believed.
        known = dict.fromkeys((n for n in server.now if "." in n), "")
        server.now = {**known, **session.parameters.values}
