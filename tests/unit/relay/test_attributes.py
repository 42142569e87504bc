"""target_session_attrs, as PgBouncer's documentation has it."""

from __future__ import annotations

import pytest

from proxy.relay.attributes import suits

PRIMARY = {b"in_hot_standby": b"off", b"default_transaction_read_only": b"off"}
CAREFUL = {b"in_hot_standby": b"off", b"default_transaction_read_only": b"on"}
STANDBY = {b"in_hot_standby": b"on", b"default_transaction_read_only": b"off"}
OLD: dict[bytes, bytes] = {}


@pytest.mark.parametrize(
    "wanted, served",
    [
        ("any", [PRIMARY, CAREFUL, STANDBY, OLD]),
        ("read-write", [PRIMARY]),
        ("read-only", [CAREFUL, STANDBY]),
        ("primary", [PRIMARY, CAREFUL]),
        ("standby", [STANDBY]),
    ],
)
def test_who_is_wanted(wanted: str, served: list[dict[bytes, bytes]]) -> None:
    assert [each for each in (PRIMARY, CAREFUL, STANDBY, OLD) if suits(wanted, each)] == served
