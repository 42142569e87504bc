"""The keys of clients that have peers, bit by bit as PgBouncer has them."""

from __future__ import annotations

import pytest

from proxy.relay.peers import as_told, marked

RANDOM = bytes.fromhex("ffeeddccbbaa9980")


@pytest.mark.parametrize(
    "number, key",
    [(0, "7feeddccbbaa9983"), (1, "7f0100ccbbaa9983"), (16383, "7fff3fccbbaa9983")],
)
def test_a_key_names_its_process(number: int, key: str) -> None:
    assert marked(RANDOM, number).hex() == key


def test_a_key_that_was_passed_on_is_still_known() -> None:
    told = marked(RANDOM, 7)
    for times in range(4):
        assert as_told(told[:7] + bytes([told[7] - times])) == told
