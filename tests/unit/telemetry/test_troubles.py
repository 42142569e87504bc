from proxy.telemetry.reasons import CloseReason, Side
from proxy.telemetry.troubles import Troubles, without_quoted

APP = ("appdb", "alice")


def test_trouble_that_comes_again_is_counted_and_comes_first() -> None:
    troubles = Troubles()
    troubles.note(1.0, Side.CLIENT, CloseReason.WAIT_TIMEOUT, APP, "53300", "5.0 s")
    troubles.note(2.0, Side.SERVER, CloseReason.RESET_FAILED, APP)
    troubles.note(3.0, Side.CLIENT, CloseReason.WAIT_TIMEOUT, APP, "53300", "5.1 s")
    first, second = troubles.latest()
    assert (first.reason, first.times, first.at, first.words) == ("wait_timeout", 2, 3.0, "5.1 s")
    assert (second.side, second.times) == ("server", 1)
    assert second.meaning == "It could not be brought back to a clean state."


def test_a_storm_of_one_kind_hides_no_other() -> None:
    troubles = Troubles(most=2)
    troubles.note(1.0, Side.SERVER, CloseReason.SERVER_CLOSED, APP)
    for at in range(1000):
        troubles.note(at, Side.CLIENT, CloseReason.TOO_MANY_CLIENTS, ("", ""), "53300")
    assert [trouble.times for trouble in troubles.latest()] == [1000, 1]


def test_only_the_latest_kinds_are_kept_and_names_and_words_are_short() -> None:
    troubles = Troubles(most=2)
    for user in ("a", "b", "c" * 10_000):
        troubles.note(1.0, Side.CLIENT, CloseReason.LOGIN_FAILED, ("d", user), "28P01", "w" * 999)
    first, second = troubles.latest()
    assert (first.user, second.user) == ("c" * 63, "b")
    assert len(first.words) == 200


def test_what_a_message_quotes_is_left_out() -> None:
    said = 'unsupported switch "--password="hush"\n" in startup parameter "options"'
    assert without_quoted(said) == 'unsupported switch "…"'
    assert without_quoted("query_wait_timeout") == "query_wait_timeout"
