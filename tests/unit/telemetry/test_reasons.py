import pytest

from proxy.telemetry.reasons import CloseReason, Side


@pytest.mark.parametrize("reason", CloseReason)
def test_every_reason_is_one_word_with_a_meaning(reason: CloseReason) -> None:
    meanings = [meaning for side in Side if (meaning := reason.meaning(side))]
    assert meanings
    assert all(meaning.endswith(".") and "|" not in meaning for meaning in meanings)
    assert reason.value.replace("_", "").isalpha()
    assert reason.value == reason.name.lower() == str(reason)


def test_a_word_finds_its_reason() -> None:
    assert CloseReason("wait_timeout") is CloseReason.WAIT_TIMEOUT


def test_some_words_are_never_said_of_one_side() -> None:
    assert CloseReason.LIFETIME.meaning(Side.CLIENT) is None
    assert CloseReason.CLIENT_LEFT.meaning(Side.SERVER) is None
