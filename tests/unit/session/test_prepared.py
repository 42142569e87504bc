"""Prepared statements, step by step: what is sent, what is answered, what is undone."""

from __future__ import annotations

import pytest

from proxy.session.owed import Owed
from proxy.session.parameters import Parameters
from proxy.session.prepared import OTHER_RESULT, Shelf
from proxy.session.session import Session
from proxy.session.statement import Statement, share
from proxy.wire import messages
from tests.unit.session.statements import TYPES, Client, Server, parse, split

TAIL = b"select 1" + TYPES


def sure(shelf: Shelf) -> set[Statement]:
    """What the server is known to have; what is stale it may have."""
    return {statement for statement, stamp in shelf.held.items() if stamp >= 0}


def prepare(shelf: Shelf, session: Session, name: bytes, tail: bytes) -> bytes:
    """A Parse that Postgres takes, to its boundary."""
    owed = Owed()
    sent: bytes = parse(shelf, session, name, tail, owed, True)
    while owed.due() or owed.head < owed.tail:
        owed.answer(ord("3" if owed.queue[owed.head] == ord("c") else "1"))
    shelf.boundary()
    return sent


def test_statements_are_shared_by_text_types_and_meaning() -> None:
    plain = share(TAIL, Parameters.of({}))
    assert share(TAIL, Parameters.of({"application_name": "x"})) is plain
    assert share(TAIL, Parameters.of({"search_path": "x"})) is not plain
    assert share(b"select 1\0\0\1\0\0\0\x17", Parameters.of({})) is not plain


def test_a_first_parse_is_sent_under_the_shared_name() -> None:
    shelf, session = Shelf(10), Session()
    sent = prepare(shelf, session, b"mine", TAIL)
    name = session.names[b"mine"].server_name
    assert name.startswith(b"pgfunnel_")
    assert sent == messages.parse(name, TAIL)


def test_a_second_client_is_answered_without_asking() -> None:
    shelf, first, second = Shelf(10), Session(), Session()
    prepare(shelf, first, b"mine", TAIL)
    assert prepare(shelf, second, b"yours", TAIL) == b""
    assert second.names[b"yours"] is first.names[b"mine"]


def test_a_server_that_may_be_in_a_failed_transaction_is_asked() -> None:
    shelf, session, owed = Shelf(10), Session(), Owed()
    prepare(shelf, Session(), b"s", TAIL)
    sent = parse(shelf, session, b"s", TAIL, owed, False)
    assert [kind for kind, _, _ in split(sent)] == ["C", "P"]
    owed.answer(ord("3"))
    owed.answer(ord("E"))
    shelf.undo(session, owed.undone, True)
    assert sure(shelf) == set()
    assert session.names == {}


def test_need_prepares_once_on_each_server() -> None:
    here, there, session = Shelf(10), Shelf(10), Session()
    prepare(here, session, b"s", TAIL)
    statement = session.names[b"s"]
    assert here.need(session, statement, Owed()) == b""
    assert there.need(session, statement, Owed()) == messages.parse(statement.server_name, TAIL)
    assert there.need(session, statement, Owed()) == b""


def test_a_name_that_is_taken_is_left_to_postgres_to_refuse() -> None:
    shelf, session, owed = Shelf(10), Session(), Owed()
    prepare(shelf, session, b"s", TAIL)
    before = session.names[b"s"]
    sent = parse(shelf, session, b"s", b"select 2" + TYPES, owed, True)
    again = b"pgfunnel_again"
    assert sent == (
        messages.parse(again, b"select 2" + TYPES)
        + messages.close_statement(again)
        + messages.parse(before.server_name, TAIL)
    )
    for kind in "13E":
        owed.answer(ord(kind))
    shelf.undo(session, owed.undone, False)
    assert session.names == {b"s": before}
    assert before in shelf.held


def test_close_is_answered_here_and_the_statement_stays_for_others() -> None:
    shelf, session, owed = Shelf(10), Session(), Owed()
    prepare(shelf, session, b"s", TAIL)
    statement = session.names[b"s"]
    shelf.close(session, b"s", owed)
    assert owed.due() == ord("3")
    assert session.names == {}
    assert statement in shelf.held


def test_a_skipped_close_gives_the_name_back() -> None:
    shelf, session, owed = Shelf(10), Session(), Owed()
    prepare(shelf, session, b"s", TAIL)
    before = dict(session.names)
    owed.push(ord("B"))
    shelf.close(session, b"s", owed)
    owed.answer(ord("E"))
    shelf.undo(session, owed.undone, False)
    assert session.names == before


def test_what_was_used_longest_ago_goes_first() -> None:
    shelf, session = Shelf(2), Session()
    for name in (b"a", b"b"):
        prepare(shelf, session, name, b"select " + name + TYPES)
    shelf.need(session, session.names[b"a"], Owed())
    shelf.boundary()
    sent = prepare(shelf, session, b"c", b"select c" + TYPES)
    assert split(sent)[0][:2] == ("C", session.names[b"b"].server_name)
    assert set(shelf.held) == {session.names[b"a"], session.names[b"c"]}


def test_nothing_that_a_pipeline_uses_goes() -> None:
    shelf, session, owed = Shelf(2), Session(), Owed()
    for name in (b"a", b"b", b"c", b"d"):
        sent = parse(shelf, session, name, b"select " + name + TYPES, owed, True)
        assert [kind for kind, _, _ in split(sent)] == ["P"]
    assert len(shelf.held) == 4


def test_after_a_long_pipeline_the_limit_holds_again() -> None:
    shelf, session, owed = Shelf(2), Session(), Owed()
    for name in (b"a", b"b", b"c", b"d"):
        parse(shelf, session, name, b"select " + name + TYPES, owed, True)
    shelf.boundary()
    prepare(shelf, session, b"e", b"select e" + TYPES)
    assert len(shelf.held) == 2


def test_a_skipped_eviction_never_happened() -> None:
    shelf, session, owed = Shelf(1), Session(), Owed()
    prepare(shelf, session, b"a", TAIL)
    owed.push(ord("B"))
    parse(shelf, session, b"b", b"select 2" + TYPES, owed, True)
    assert session.names[b"a"] not in shelf.held
    owed.answer(ord("E"))
    shelf.undo(session, owed.undone, False)
    assert session.names[b"a"] in shelf.held
    assert b"b" not in session.names


def described(statement: Statement, shape: bytes, types: bytes = b"") -> None:
    """A client was told so."""
    statement.told(types, shape, statement.generation)


def test_a_new_parse_after_ddl_is_a_new_statement() -> None:
    shelf, first, second = Shelf(10), Session(), Session()
    prepare(shelf, first, b"a", TAIL)
    shelf.renew(1)
    sent = prepare(shelf, second, b"b", TAIL)
    assert split(sent)[0][1] == second.names[b"b"].server_name
    assert second.names[b"b"] is not first.names[b"a"]
    assert shelf.need(first, first.names[b"a"], Owed()) == b""


def asked(here: Shelf, statement: Statement, shape: bytes) -> bytes:
    """The server that lacks the statement is asked and says so; returns what was sent."""
    owed, session = Owed(), Session()
    assert here.doubts(statement)
    sent: bytes = here.ask(session, statement, False, owed)
    for kind, _, _ in split(sent)[:-2]:
        owed.answer(ord({"C": "3", "P": "1"}[kind]))
    assert owed.looks()
    assert not owed.settled()
    straight = statement.shape != shape and statement.generation == here.generation
    assert here.told(owed.notes[0], b"", shape) == straight
    owed.answer(ord("t"))
    owed.answer(ord("T"))
    assert owed.settled()
    return sent


def test_after_ddl_a_server_that_lacks_it_is_asked_once() -> None:
    here, there, session = Shelf(10), Shelf(10), Session()
    prepare(there, session, b"a", TAIL)
    statement = session.names[b"a"]
    described(statement, b"int")
    here.renew(1)
    there.renew(1)
    assert not there.doubts(statement)
    kinds = [kind for kind, _, _ in split(asked(here, statement, b"int"))]
    assert kinds == ["P", "D", "H"]
    assert not here.doubts(statement)
    assert here.need(session, statement, Owed()) == b""


def test_another_result_fails_and_is_asked_for_anew() -> None:
    here, there, session = Shelf(10), Shelf(10), Session()
    prepare(there, session, b"a", TAIL)
    statement = session.names[b"a"]
    described(statement, b"int")
    here.renew(1)
    asked(here, statement, b"real")
    for _ in range(2):
        assert OTHER_RESULT.encode() in here.need(session, statement, Owed())
        kinds = [kind for kind, _, _ in split(asked(here, statement, b"real"))]
        assert kinds == ["C", "P", "D", "H"]
    asked(here, statement, b"int")
    assert here.need(session, statement, Owed()) == b""


def test_a_newcomer_is_given_what_others_were_told_or_a_statement_of_its_own() -> None:
    here, told, session = Shelf(10), Session(), Session()
    prepare(Shelf(10), told, b"a", TAIL)
    statement = told.names[b"a"]
    described(statement, b"int")
    assert here.read_now(session, TAIL, None) is statement
    asked(here, statement, b"int")
    assert here.read_now(session, TAIL, None, True) is statement
    assert prepare(here, session, b"b", TAIL) == b""
    other = Shelf(10)
    asked(other, statement, b"real")
    own = other.read_now(session, TAIL, None, True)
    assert (own is statement, own.shape, own.alone) == (False, None, True)
    assert other.read_now(session, TAIL, None) is statement
    assert other.doubts(statement)


def reads_otherwise(session: Session, here: Shelf, **values: str) -> Statement:
    """What the client's statement is when its parameters have become others."""
    session.follow(Parameters.of(values))
    anew: Statement = here.reading(session, b"a", session.names[b"a"], True)
    return anew


def test_what_was_told_is_known_of_the_statement_that_is_read_anew() -> None:
    here, session = Shelf(10), Session()
    prepare(Shelf(10), session, b"a", TAIL)
    first = session.names[b"a"]
    described(first, b"int")
    jit = reads_otherwise(session, here, jit="off")
    assert jit is not first
    assert (jit.shape, here.doubts(jit)) == (b"int", True)
    elsewhere = reads_otherwise(session, here, search_path="elsewhere")
    assert (elsewhere.shape, here.doubts(elsewhere)) == (b"int", True)
    here.renew(1)
    ddl = reads_otherwise(session, here, search_path="elsewhere", jit="off")
    assert (ddl.shape, here.doubts(ddl)) == (b"int", True)
    session.read_anew([])
    unread = reads_otherwise(session, here)
    assert (unread.shape, here.doubts(unread)) == (b"int", True)


def test_who_was_told_something_else_has_another_statement() -> None:
    here, told, new = Shelf(10), Session(), Session()
    prepare(Shelf(10), told, b"a", TAIL)
    described(told.names[b"a"], b"int")
    here.renew(1)
    new.follow(Parameters.of({"jit": "off"}))
    prepare(here, new, b"b", TAIL)
    own = reads_otherwise(told, here, jit="off")
    assert own is not new.names[b"b"]
    asked(here, own, b"real")
    assert OTHER_RESULT.encode() in here.need(told, own, Owed())
    assert here.need(new, new.names[b"b"], Owed()) == b""
    assert new.names[b"b"].shape is None


def test_types_that_a_client_was_told_are_sent_to_other_servers() -> None:
    here, there, session = Shelf(10), Shelf(10), Session()
    prepare(there, session, b"a", TAIL)
    statement = session.names[b"a"]
    described(statement, b"int", b"\0\1\0\0\0\x17")
    sent = here.need(session, statement, Owed())
    assert sent == messages.parse(statement.server_name, b"select 1\0\0\1\0\0\0\x17")


def test_undo_for_a_client_that_has_left() -> None:
    shelf, session, owed = Shelf(10), Session(), Owed()
    parse(shelf, session, b"a", TAIL, owed, True)
    owed.answer(ord("E"))
    shelf.undo(None, owed.undone, True)
    assert sure(shelf) == set()


# -- the unnamed statement -----------------------------------------------------------------


def test_the_unnamed_statement_follows_its_client() -> None:
    here, there, session, owed = Shelf(1), Shelf(1), Session(), Owed()
    here.parse_unnamed(session, TAIL, None, owed)
    assert here.need_unnamed(session, owed) == b""
    assert there.need_unnamed(session, owed) == messages.parse(b"", TAIL)
    assert there.need_unnamed(session, owed) == b""


def test_a_client_without_one_finds_none() -> None:
    shelf, owed = Shelf(1), Owed()
    shelf.parse_unnamed(Session(), TAIL, None, owed)
    assert shelf.need_unnamed(Session(), owed) == messages.CLOSE_UNNAMED
    assert shelf.need_unnamed(Session(), owed) == b""


@pytest.mark.parametrize("refused", [True, False])
def test_a_refused_parse_destroys_it_and_a_skipped_one_does_not(refused: bool) -> None:
    """exec_parse_message drops the unnamed statement before it reads the new one."""
    shelf, session, owed = Shelf(1), Session(), Owed()
    shelf.parse_unnamed(session, TAIL, None, owed)
    owed.answer(ord("1"))
    before = session.unnamed
    if not refused:
        owed.push(ord("B"))
    shelf.parse_unnamed(session, b"bad" + TYPES, None, owed)
    owed.answer(ord("E"))
    shelf.undo(session, owed.undone, owed.failed == ord("P"))
    assert session.unnamed is (None if refused else before)
    assert shelf.need_unnamed(session, Owed()) != b""


# -- pipelines whose first part fails ------------------------------------------------------


def known(server: Server, name: bytes, text: bytes) -> None:
    """Some client has prepared this on the server."""
    client = Client()
    server.lend(client)
    client.send("P", name, text)
    client.send("S")
    server.deliver_all()


def fails(client: Client, server: Server, *messages: tuple[str, bytes, bytes]) -> None:
    """A failing part of a pipeline, whose other messages are skipped."""
    if client.server is None:
        server.lend(client)
    client.send("P", b"", b"bad")
    for message in messages:
        client.send(*message)
    client.send("S")


def test_an_eviction_that_may_be_skipped_is_not_relied_on() -> None:
    client, server = Client(), Server(1)
    known(server, b"a", b"one")
    fails(client, server, ("P", b"b", b"two"))
    client.send("P", b"c", b"one")
    client.send("S")
    server.deliver_all()
    client.check(whole=True)
    server.check()


def test_a_preparation_that_may_be_skipped_is_not_relied_on() -> None:
    client, server, other = Client(), Server(2), Server(2)
    other.lend(client)
    client.send("P", b"a", b"one")
    client.send("S")
    other.deliver_all()
    fails(client, server, ("B", b"a", b""))
    client.send("B", b"a")
    client.send("S")
    server.deliver_all()
    client.check(whole=True)


def test_a_failed_parse_does_not_undo_a_later_one() -> None:
    client, server = Client(), Server(2)
    fails(client, server, ("P", b"a", b"one"))
    client.send("P", b"b", b"one")
    client.send("S")
    server.deliver_all()
    server.check()
    server.lend(client)
    client.send("B", b"b")
    client.send("S")
    server.deliver_all()
    client.check(whole=True)


def test_another_clients_unnamed_statement_is_never_bound() -> None:
    client, server, other = Client(), Server(2), Server(2)
    known(server, b"", b"not yours")
    other.lend(client)
    client.send("P", b"", b"mine")
    client.send("S")
    other.deliver_all()
    server.lend(client)
    client.send("B", b"missing")
    client.send("B")
    client.send("S")
    client.send("B")
    client.send("S")
    server.deliver_all()
    client.check(whole=True)


def test_deallocate_all_does_not_touch_the_unnamed_statement() -> None:
    """DropAllPreparedStatements knows the named ones alone."""
    client, server = Client(), Server(2)
    server.lend(client)
    client.send("P", b"", b"DEALLOCATE ALL")
    for kind in "BES":
        client.send(kind)
    server.deliver_all()
    other = Client()
    server.lend(other)
    other.send("B")
    other.send("S")
    server.deliver_all()
    other.check(whole=True)


def test_what_is_prepared_behind_a_deallocate_all_stays() -> None:
    client, server = Client(), Server(2)
    server.lend(client)
    client.send("Q", b"", b"DEALLOCATE ALL")
    client.send("P", b"a", b"one")
    client.send("S")
    server.deliver_all()
    server.check()
    server.lend(client)
    client.send("B", b"a")
    client.send("S")
    server.deliver_all()
    client.check(whole=True)
