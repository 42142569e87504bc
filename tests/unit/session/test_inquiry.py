"""What is asked of a server, and how its row is read: both from the same arguments."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.conditions import ADVISORY, HOLD, LISTEN, PARAMETERS, PREPARED, TEMP
from proxy.session.inquiry import ASKABLE, Answer, question, read_answer

HELD = (LISTEN, ADVISORY, TEMP, HOLD)
WORDS = {LISTEN: "channels", ADVISORY: "pg_locks", TEMP: "pg_depend", HOLD: "pg_cursors"}

masks = st.sets(st.sampled_from([*HELD, PREPARED, PARAMETERS])).map(sum)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
names = st.lists(texts.filter(bool), max_size=12, unique=True).map(tuple)

plans = st.dictionaries(texts, st.sampled_from(["PREPARE a AS SELECT 1", "PREPARE b AS SELECT 2"]))


def shown(text: str | None) -> bytes | None:
    """A text as the question asks for it: hexadecimal UTF-8."""
    return None if text is None else text.encode().hex().encode()


def columns(sql: bytes) -> list[str]:
    """The expressions of a SELECT, parted at commas outside strings and parentheses."""
    plain = re.sub(r"\s?E?'(?:[^'\\]|''|\\.)*'", "''", sql.decode().removeprefix("SELECT "))
    found, depth = [""], 0
    for character in plain:
        depth += (character == "(") - (character == ")")
        if character == "," and not depth:
            found.append("")
        else:
            found[-1] += character
    return found


@given(masks, names, st.data(), st.booleans())
def test_question_and_answer_agree_on_the_columns(
    asks: int, wanted: tuple[str, ...], data: st.DataObject, everything: bool
) -> None:
    own = tuple(data.draw(st.lists(st.sampled_from(wanted), unique=True))) if wanted else ()
    set_here = [name for name in own if data.draw(st.booleans())]
    expected = Answer(
        held=sum(data.draw(st.sets(st.sampled_from(HELD)))) & asks,
        values={name: data.draw(st.none() | texts) for name in wanted},
        settled=frozenset(set_here),
        session={"work_mem": "5MB", "seed": "x", **dict.fromkeys(set_here, "y")}
        if everything
        else None,
        statements=data.draw(plans) if asks & PREPARED else None,
        strays={"mine": "SELECT 1"} if asks & PREPARED else {},
        ours=7 if asks & PREPARED else None,
    )
    row = row_of(expected, asks, own)
    if row:
        assert len(columns(question(asks, wanted, own, everything))) == len(row)
    answer = read_answer(asks, wanted, own, everything, row)
    there = {"work_mem": "5MB", **dict.fromkeys(set_here, "y")}
    assert answer.session == (there if everything else None)
    assert answer.held == expected.held
    assert answer.values == expected.values
    assert answer.settled == expected.settled
    assert (answer.statements, answer.strays) == (expected.statements, expected.strays)
    assert answer.ours == expected.ours


def row_of(answer: Answer, asks: int, own: tuple[str, ...]) -> list[bytes | None]:
    """What Postgres would send."""
    row = [b"t" if answer.held & c else b"f" for c in HELD if asks & c]
    values = [shown(value) for value in answer.values.values()]
    if len(values) > 10:
        values = [shown(json.dumps([*answer.values.values()]))]
    whole: list[bytes | None] = []
    if answer.session is not None or own:
        there = answer.session or dict.fromkeys(answer.settled, "y")
        whole = [shown(json.dumps({n: [v, False, True] for n, v in there.items()}))]
    if asks & PREPARED:
        groups: dict[str, list[str]] = {}
        for name, statement in (answer.statements or {}).items():
            groups.setdefault(statement, []).append(name)
        told = shown(json.dumps([*groups.items()])) if groups else None
        whole += [told, shown(json.dumps(answer.strays)), b"%d" % (answer.ours or 0)]
    return [*row, *values, *whole]


@pytest.mark.parametrize("condition", HELD)
def test_only_what_is_in_doubt_is_asked(condition: int) -> None:
    asked = question(condition, (), (), False).decode()
    assert [c for c, word in WORDS.items() if word in asked] == [condition]


def test_everything_that_is_named_is_named_with_its_schema() -> None:
    """Lest something of the client's, earlier in its search_path, answers instead."""
    asked = question(ASKABLE | PREPARED, ("a",), ("a",), True).decode()
    outside = re.sub(r"'[^']*'", "", asked)
    assert not re.findall(r"(?<![\w.])(?!EXISTS|WHERE|OPERATOR|FROM|SELECT)\w+\(", outside)
    assert not re.findall(r"FROM (?!pg_catalog\.|\(SELECT )", outside)
    assert not re.findall(r"(?<!pg_catalog\.)=", outside)
    assert not re.findall(r"::(?!pg_catalog\.)", outside)


def test_what_was_set_to_what_it_was_before_is_told_apart() -> None:
    settings = {"work_mem": ["5MB", False, True], "jit": ["on", True, True]}
    settings |= {"seed": ["x", None, True], "log_min_messages": ["debug1", False, False]}
    told = json.dumps(settings)
    answer = read_answer(PARAMETERS, (), (), True, [shown(told)])
    assert answer.session == {"work_mem": "5MB", "jit": "on", "log_min_messages": "debug1"}
    assert answer.default == {"jit"}
    assert answer.above == {"log_min_messages"}
