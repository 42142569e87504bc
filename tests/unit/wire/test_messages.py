"""Messages as bytes, after the documentation's "Message Formats"."""

from __future__ import annotations

import pytest

from proxy.errors import PostgresError, ProtocolViolation, TooManyClients
from proxy.wire import messages as m

BUILT = [
    (m.SYNC, b"S\0\0\0\x04"),
    (m.READY_IDLE, b"Z\0\0\0\x05I"),
    (m.CLOSE_UNNAMED, m.close_statement(b"")),
    (m.message(b"x", b"abc"), b"x\0\0\0\x07abc"),
    (m.authentication(0), b"R\0\0\0\x08\0\0\0\0"),
    (m.authentication(5, b"salt"), b"R\0\0\0\x0c\0\0\0\x05salt"),
    (m.parameter_status(b"a", b"b"), b"S\0\0\0\x08a\0b\0"),
    (m.backend_key_data(b"\0\0\0\1" + b"\xff" * 4), b"K\0\0\0\x0c\0\0\0\x01\xff\xff\xff\xff"),
    (m.negotiate_protocol_version(2, []), b"v\0\0\0\x0c\0\0\0\x02\0\0\0\0"),
    (m.negotiate_protocol_version(0, [b"_pq_.x"]), b"v\0\0\0\x13\0\0\0\0\0\0\0\x01_pq_.x\0"),
    (m.query(b"select 1"), b"Q\0\0\0\x0dselect 1\0"),
    (m.parse(b"s", b"q\0\0\0"), b"P\0\0\0\x0as\0q\0\0\0"),
    (m.close_statement(b"s"), b"C\0\0\0\x07Ss\0"),
    (m.copy_fail(b"no"), b"f\0\0\0\x07no\0"),
    (m.ssl_request(), b"\0\0\0\x08\x04\xd2\x16\x2f"),
    (m.cancel_request(1, b"abcd"), b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x01abcd"),
    (m.startup([(b"user", b"joe")]), b"\0\0\0\x12\0\x03\0\0user\0joe\0\0"),
]


@pytest.mark.parametrize("built, expected", BUILT)
def test_built(built: bytes, expected: bytes) -> None:
    assert built == expected


def test_an_error_of_ours_with_its_hint() -> None:
    raw = m.error_response(TooManyClients("no more"))
    assert m.read_error(raw[5:]) == {
        "S": "FATAL",
        "V": "FATAL",
        "C": "53300",
        "M": "no more",
        "H": TooManyClients.hint,
    }
    assert raw[0] == ord("E")
    assert int.from_bytes(raw[1:5], "big") == len(raw) - 1


def test_a_lesser_severity() -> None:
    fields = m.read_error(m.error_response(TooManyClients("x"), "ERROR")[5:])
    assert (fields["S"], fields["V"]) == ("ERROR", "ERROR")


def test_an_error_of_postgres_keeps_its_words() -> None:
    said = {"S": "ERREUR", "V": "ERROR", "C": "42501", "M": "non", "D": "détail", "R": "fn"}
    sent = m.read_error(m.error_response(PostgresError(said))[5:])
    assert sent == {**said, "S": "FATAL", "V": "FATAL"}


def test_a_zero_byte_in_words_does_not_end_the_field() -> None:
    assert m.read_error(m.error_fields([("M", "a\0b")])[5:]) == {"M": "a?b"}


def test_an_error_in_another_encoding_is_read_as_far_as_it_goes() -> None:
    assert m.read_error(b"SERROR\0Mn\xf6\0\0") == {"S": "ERROR", "M": "n\ufffd"}


def test_a_pair() -> None:
    assert m.read_pair(b"TimeZone\0UTC\0") == (b"TimeZone", b"UTC")
    assert m.read_pair(b"x\0\0") == (b"x", b"")


@pytest.mark.parametrize("body", [b"", b"a", b"a\0", b"a\0b", b"a\0b\0c", b"a\0b\0c\0"])
def test_no_pair(body: bytes) -> None:
    with pytest.raises(ProtocolViolation, match="ParameterStatus"):
        m.read_pair(body)


ROW = b"\0\x03\0\0\0\x01a\xff\xff\xff\xff\0\0\0\0"


def test_a_row() -> None:
    assert m.read_row(ROW) == [b"a", None, b""]
    assert m.read_row(b"\0\0") == []


@pytest.mark.parametrize("end", range(len(ROW)))
def test_a_row_cut_at_any_byte(end: int) -> None:
    with pytest.raises(ProtocolViolation, match="DataRow"):
        m.read_row(ROW[:end])


def test_a_row_cut_in_its_last_value() -> None:
    with pytest.raises(ProtocolViolation, match="DataRow"):
        m.read_row(b"\0\x01\0\0\0\x05ab")
