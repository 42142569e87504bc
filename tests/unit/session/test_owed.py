"""Every rule by which responses owed are counted, one by one.

A script is a string of steps: `>X` a message of code X is sent (see proxy.session.owed; K also
for CopyFail, d for CopyData), `<X` a backend message of type X arrives.
"""

from __future__ import annotations

import pytest

from proxy.session.owed import PASS, SWALLOW, Owed

NOTED = "Pxpcr13"
COPY_CODES = "Kd"


def play(script: str, owed: Owed | None = None) -> Owed:
    owed = Owed() if owed is None else owed
    for step in script.split():
        way, code = step[0], step[1]
        if way == "<":
            owed.answer(ord(code))
        elif code in NOTED:
            owed.push_noted(ord(code), code)
        elif code == "K":
            owed.end_copy()
        elif code != "d":
            owed.push(ord(code))
    return owed


WHOLE = {
    "simple query": ">Q <T <C <Z",
    "several statements in one query": ">Q <C <T <C <Z",
    "failing query": ">Q <C <E <Z",
    "empty query": ">Q <I <Z",
    "function call": ">F <V <Z",
    "failing function call": ">F <E <Z",
    "sync alone": ">S <Z",
    "extended query": ">P >B >D >E >S <1 <2 <T <C <Z",
    "a statement is described": ">P >D >S <1 <t <T <Z",
    "a statement without rows is described": ">P >D >S <1 <t <n <Z",
    "a portal with a row limit": ">B >E >E >S <2 <s <C <Z",
    "close": ">C >S <3 <Z",
    "pipeline": ">P >B >E >S >B >E >S <1 <2 <C <Z <2 <C <Z",
    "flush without sync, then sync": ">P >D <1 <t <n >B >E <2 <C >S <Z",
    "commit fails at sync": ">E >S <C <E <Z",
    "error skips to sync": ">P >B >E >S <1 <E <Z",
    "error before sync is sent": ">P >B <1 <E >E >S <Z",
    "error in one of a pipeline": ">P >S >P >B >S >B >S <1 <Z <E <Z <2 <Z",
    "a query in a pipeline ends like a sync": ">P >B >E >Q <1 <2 <C <C <Z",
    "a query behind an error is skipped": ">P >Q >B >S <E <Z",
    "a function call behind an error is skipped": ">P >F >S <E <Z",
    "a query sent after the error is skipped": ">P <E >Q >S <Z",
    "copy out, simple": ">Q <H <c <C <Z",
    "copy out, extended": ">B >E >S <2 <H <c <C <Z",
    "copy in, simple": ">Q <G >d >d >K <C <Z",
    "copy in, simple, sent ahead": ">Q >d >d >K <G <C <Z",
    "two copies in one query": ">Q <G >d >K <C <G >d >K <C <Z",
    "two copies in one query, sent ahead": ">Q >d >K >d >K <G <C <G <C <Z",
    "two empty copies in one query, and a sync": ">Q >K >K >S <G <C <G <C <Z <Z",
    "copy in, extended, libpq's sync first": ">P >B >D >E >S <1 <2 <n <G >d >K >S <C <Z",
    "copy in, extended, all sent ahead": ">P >B >E >S >d >K >S <1 <2 <G <C <Z",
    "copy in, extended, sync in the data": ">B >E <2 <G >d >S >d >K >S <C <Z",
    "copy in, extended, one sync": ">B >E <2 <G >d >K >S <C <Z",
    "copy in, failed by the client": ">Q <G >d >K <E <Z",
    "copy in, extended, failed by the client": ">B >E <2 <G >d >K >S <E <Z",
    "the server fails in mid-copy": ">Q <G >d <E <Z >d >K",
    "the server fails in mid-copy, late news": ">Q <G >d <E >d >K <Z",
    "the server fails in mid-copy, extended": ">B >E <2 <G >d <E >d >K >S <Z",
    "a copy that never began": ">B >E >S >d >K >S <2 <E <Z <Z",
    "a query that is no copy, and its data": ">Q >d >K <E <Z",
    "copy data behind a copy that is done": ">Q >d >K >d <G <C <Z",
    "CopyDone behind a copy that is done": ">Q >d >K >d >K <G <C <Z",
    "stray copy messages": ">d >K >K",
    "stray copy messages in a pipeline": ">P >K >B >d >E >K >S <1 <2 <C <Z",
    "a stray CopyDone in front of a copy": ">P >K >B >E <1 <2 <G >d >K >S <C <Z",
    "a pipeline behind a copy": ">Q >d >K >P >B >E >S <G <C <Z <1 <2 <C <Z",
    "our query ahead": ">q >Q <C <Z <C <Z",
    "our query fails": ">q >Q <E <Z <C <Z",
    "our parse ahead": ">p >B >E >S <1 <2 <C <Z",
    "our close and parse ahead": ">c >p >B >E >S <3 <1 <2 <C <Z",
    "our bind and execute ahead": ">c >p >b >e >c >B >E >S <3 <1 <2 <C <3 <2 <C <Z",
    "our execute whose row is looked at": ">c >p >b >r >c >P >S <3 <1 <2 <D <C <3 <1 <Z",
    "our execute fails": ">p >b >e >B >E >S <1 <2 <E <Z",
    "our execute, synced, fails": ">p >b >e >s >Q <1 <2 <E <Z <C <Z",
    "our parse fails": ">p >B >E >S <E <Z",
    "our parse, synced": ">p >s >Q <1 <Z <C <Z",
    "our parse, synced, fails": ">p >s >Q <E <Z <C <Z",
    "a name prepared twice": ">x >B >S <E <Z",
    "asynchronous messages between": ">Q <N <S <A <C <N <Z <A <S",
}


@pytest.mark.parametrize("script", WHOLE.values(), ids=WHOLE.keys())
def test_nothing_is_owed_at_the_end_and_something_until_then(script: str) -> None:
    owed = Owed()
    steps = script.split()
    last = max((i for i, step in enumerate(steps) if step == "<Z"), default=0)
    for step in steps[:last]:
        play(step, owed)
        assert not owed.nothing(), step
    play(" ".join(steps[last:]), owed)
    assert owed.nothing()
    assert not owed.lost
    assert owed.ready == 0
    assert not owed.notes


MIDDLES = {
    "extended without sync": ">P <1",
    "all answered, no sync": ">B >E <2 <C",
    "after an error, before sync": ">P <E",
    "query behind an error": ">P <E >Q",
    "copy in, not ended": ">Q <G >d",
    "copy in, extended, ended, no sync": ">B >E >S <2 <G >d >K <C",
    "sync passed over by the copy": ">B >E >S <2 <G",
    "one of two syncs": ">S >S <Z",
    "one of two queries": ">Q >Q <C <Z",
    "second copy of one query": ">Q >d >K <G <C <G",
    "extended behind a sync": ">S >P <Z",
    "the client's own, behind ours": ">q >S <C <Z",
    "an answer of ours, not synced": ">1",
}


@pytest.mark.parametrize("script", MIDDLES.values(), ids=MIDDLES.keys())
def test_it_is_no_boundary_yet(script: str) -> None:
    owed = play(script)
    owed.due()
    assert not owed.nothing()
    assert not owed.lost


AMBIGUOUS = {
    "sync in the data": ">Q <G >d >S <E <Z",
    "sync in the data, and CopyDone": ">Q <G >d >S >K <E <Z",
    "sync in the data, all sent ahead": ">B >E >d >S >K >S <2 <G <E <Z",
    "sync before data, simple": ">Q >S <G <E <Z",
    "sync before data, then libpq's second": ">B >E >S <2 <G <E >K >S <Z",
}


@pytest.mark.parametrize("script", AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
def test_a_sync_that_a_failed_copy_may_have_read_or_not_leaves_a_doubt(script: str) -> None:
    """COPY to a view fails between CopyInResponse and the first byte of data, for one."""
    owed = play(script)
    assert owed.doubtful
    assert not owed.nothing()
    if owed.skipping:
        assert not owed.recounts()
        play(">S <Z", owed)
    assert owed.recounts()
    play(">q", owed)
    assert not owed.recounts()
    kinds = "ZIZ"  # the client's own, and what is ours
    assert [owed.answer(ord(kind)) for kind in kinds] == [PASS, SWALLOW, SWALLOW]
    assert owed.nothing()
    assert not owed.lost


def test_a_copy_that_had_not_come_to_its_sync_skips_nothing_behind_it() -> None:
    owed = play(">B >E >S <2 <G <E <Z")
    assert owed.doubtful
    assert owed.recounts()
    assert play(">q <I <Z", owed).nothing()
    assert play(">K >S <Z", owed).nothing()


def test_what_is_sent_behind_a_sync_that_may_be_the_second_loses_count() -> None:
    owed = play(">B >E >S <2 <G >d >K >S >Q <E <Z")
    assert owed.lost
    assert not owed.recounts()


def test_a_failed_copy_ended_by_us_loses_count_too() -> None:
    owed = play(">Q <G >d >S >K")
    play("<E <Z", owed)
    assert not owed.nothing()


def test_a_copy_ended_by_us() -> None:
    owed = play(">B >E <2 <G >d >K")
    assert play(">S <E <Z", owed).nothing()


def test_a_sync_in_a_copy_that_worked_does_no_harm_later() -> None:
    owed = play(">B >E <2 <G >d >S >K <C >B >S <E <Z")
    assert owed.nothing()


@pytest.mark.parametrize("script", ["<Z", ">P <Z", ">Q <Z <Z", ">S >B <Z <Z"])
def test_a_ready_that_nobody_asked_for_loses_count(script: str) -> None:
    owed = play(script)
    assert owed.lost
    assert not owed.nothing()
    assert not play(">S <Z", owed).nothing()


@pytest.mark.parametrize(
    "sent, said, verdicts",
    [
        (">q", "TCZ", "sss"),
        (">q", "EZ", "ss"),
        (">q >Q", "CZCZ", "sspp"),
        (">p >B", "12", "sp"),
        (">c >p >B", "312", "ssp"),
        (">p >b >e >B", "12C2", "sssp"),
        (">p >b >e >B", "12E", "ssp"),
        (">p >B", "E", "p"),
        (">x", "E", "p"),
        (">P >B >E", "12C", "ppp"),
        (">Q", "NTCZ", "pppp"),
        ("", "NSA", "ppp"),
        (">q", "N", "s"),
    ],
)
def test_the_client_sees_its_own_responses_and_errors(sent: str, said: str, verdicts: str) -> None:
    owed = play(sent)
    got = [owed.answer(ord(kind)) for kind in said]
    assert got == [PASS if v == "p" else SWALLOW for v in verdicts]


@pytest.mark.parametrize("code", "13")
def test_an_answer_of_ours_comes_in_its_place(code: str) -> None:
    owed = play(f">P >{code} >B")
    assert owed.due() == 0
    play("<1", owed)
    assert owed.due() == ord(code)
    assert owed.due() == 0
    assert play(">S <2 <Z", owed).nothing()


def test_an_answer_of_ours_is_due_at_once_when_nothing_else_is_owed() -> None:
    owed = play(">1 >3")
    assert [owed.due(), owed.due(), owed.due()] == [ord("1"), ord("3"), 0]
    assert not owed.notes


def test_an_answer_of_ours_is_skipped_like_the_message_it_stands_for() -> None:
    owed = play(">P >1 >S >3 <E")
    assert owed.due() == 0
    play("<Z", owed)
    assert owed.due() == ord("3")


def test_undone_notes_come_in_order_of_sending() -> None:
    owed = Owed()
    for i, code in enumerate("Pcp1S3P"):
        if code == "S":
            owed.push(ord("S"))
        else:
            owed.push_noted(ord(code), i)
    play("<1 <E", owed)
    assert owed.failed == ord("c")
    assert owed.undone == [1, 2, 3]
    assert list(owed.notes) == [5, 6]


def test_what_is_sent_while_the_server_skips_leaves_no_note() -> None:
    owed = play(">P <E >P >1 >p >d >K")
    assert owed.undone == ["P"]
    assert not owed.notes
    assert owed.due() == 0


@pytest.mark.parametrize("code", "BDECPxpcQFSq")
def test_failed_says_what_failed(code: str) -> None:
    assert play(f">{code} <E").failed == ord(code)


@pytest.mark.parametrize("count", [63, 64, 65, 200, 1000])
def test_many_in_flight(count: int) -> None:
    owed = Owed()
    for i in range(count):
        owed.push_noted(ord("P"), i)
        owed.push(ord("S"))
    for i in range(count):
        assert owed.ready == count - i
        assert owed.notes[0] == i
        assert not owed.nothing()
        play("<1 <Z", owed)
    assert owed.nothing()


def test_many_in_flight_all_the_time_take_no_more_room() -> None:
    owed = play(">S " * 40)
    for _ in range(10_000):
        play("<Z >S", owed)
    assert owed.ready == 40
    assert len(owed.queue) <= 256


@pytest.mark.parametrize(
    "sent, said, settled",
    [
        ("", "", True),
        ("B", "", True),
        ("BE", "2", True),
        ("Q", "", True),
        ("!B", "", False),
        ("!BE", "2", False),
        ("!BE", "2C", True),
        ("!BEB", "2C", False),
        ("!BE", "E", True),
        ("!Q", "C", False),
        ("!Q", "CZ", True),
        ("!QBS", "CZ", False),
        ("!QBS", "CZ2Z", True),
        ("!QE", "CG", True),
    ],
)
def test_names_are_certain_when_what_may_drop_all_statements_is_answered(
    sent: str, said: str, settled: bool
) -> None:
    """`!`: what follows may drop them."""
    owed = Owed()
    for code in sent:
        if code == "!":
            owed.emptying = True
        else:
            owed.push(ord(code))
    for kind in said:
        owed.answer(ord(kind))
    assert owed.settled() is settled


def test_cycles_are_those_of_the_client() -> None:
    owed = Owed()
    for code in "qQPBESs":
        owed.push(ord(code))
    assert (owed.ready, owed.cycles()) == (4, 2)
    owed.answer(ord("Z"))
    assert owed.cycles() == 2
