"""Start-up packets by hand, each whole and cut at every byte."""

from __future__ import annotations

import struct

import pytest

from proxy.errors import OptionsRefused, ProtocolViolation
from proxy.wire import messages
from proxy.wire.startup import (
    MAX_STARTUP,
    Cancel,
    GssRequest,
    Packet,
    SslRequest,
    Startup,
    packet_length,
    read_packet,
    split_options,
)

V3 = struct.pack("!I", 196608)


def packet(body: bytes) -> bytes:
    return struct.pack("!I", len(body) + 4) + body


GOOD: list[tuple[bytes, Packet]] = [
    (messages.ssl_request(), SslRequest()),
    (packet(struct.pack("!I", 80877104)), GssRequest()),
    (messages.cancel_request(7, b"\0\0\0\x2a"), Cancel(b"\0\0\0\7\0\0\0\x2a")),
    (messages.cancel_request(2**32 - 1, b"x" * 32), Cancel(b"\xff" * 4 + b"x" * 32)),
    (packet(V3 + b"\0"), Startup(0, {}, ())),
    (packet(V3 + b"user\0joe\0\0"), Startup(0, {"user": "joe"}, ())),
    (packet(V3 + b"user\0joe\0database\0\0\0"), Startup(0, {"user": "joe", "database": ""}, ())),
    (packet(V3 + b"user\0a\0user\0b\0\0"), Startup(0, {"user": "b"}, ())),
    (
        packet(struct.pack("!I", 196610) + b"_pq_.new\0x\0user\0j\xc3\xb6\0\0"),
        Startup(2, {"user": "jö"}, (b"_pq_.new",)),
    ),
]


@pytest.mark.parametrize("raw, expected", GOOD)
def test_whole(raw: bytes, expected: Packet) -> None:
    assert packet_length(raw, 0, len(raw)) == len(raw)
    assert packet_length(b"junk" + raw + b"more", 4, len(raw) + 8) == len(raw)
    assert read_packet(raw) == expected


@pytest.mark.parametrize("raw, expected", GOOD)
def test_byte_by_byte_its_length_is_known_after_four(raw: bytes, expected: Packet) -> None:
    lengths = [packet_length(raw[:n], 0, n) for n in range(len(raw) + 1)]
    assert lengths == [0] * 4 + [len(raw)] * (len(raw) - 3)


@pytest.mark.parametrize("raw", [raw for raw, read in GOOD if isinstance(read, Startup)])
def test_a_startup_message_cut_short_is_never_taken_for_the_whole(raw: bytes) -> None:
    for end in range(8, len(raw)):
        try:
            read = read_packet(packet(raw[4:end]))
        except ProtocolViolation:
            continue
        assert raw[:end].endswith(b"\0\0"), (end, read)


@pytest.mark.parametrize("length", [0, 4, 7, MAX_STARTUP + 1, 0x16030100, 2**32 - 1])
def test_lengths_that_no_packet_has(length: int) -> None:
    with pytest.raises(ProtocolViolation, match="invalid length of startup packet"):
        packet_length(struct.pack("!I", length), 0, 4)


@pytest.mark.parametrize("length", [8, 296, MAX_STARTUP])
def test_lengths_that_a_packet_may_have(length: int) -> None:
    assert packet_length(struct.pack("!I", length), 0, 4) == length


BAD = {
    "version 2": (packet(struct.pack("!I", 131072)), "unsupported frontend protocol 2.0"),
    "version 4": (packet(struct.pack("!I", 262145) + b"\0"), "unsupported frontend protocol 4.1"),
    "no terminator at all": (packet(V3), "expected terminator"),
    "no terminator": (packet(V3 + b"user\0joe"), "expected terminator"),
    "value without its end": (packet(V3 + b"user\0joe\0"), "a name without a value"),
    "name without a value": (packet(V3 + b"user\0joe\0database\0\0"), "a name without a value"),
    "bytes behind the terminator": (packet(V3 + b"user\0joe\0\0\0x\0\0"), "invalid startup packet"),
    "not UTF-8": (packet(V3 + b"user\0j\xf6\0\0"), "not valid UTF-8"),
    "short cancel": (packet(struct.pack("!II", 80877102, 7)), "cancel request"),
}


@pytest.mark.parametrize("raw, words", BAD.values(), ids=BAD.keys())
def test_refused(raw: bytes, words: str) -> None:
    with pytest.raises(ProtocolViolation, match=words):
        read_packet(raw)


@pytest.mark.parametrize(
    "options, settings",
    [
        ("", {}),
        ("   ", {}),
        ("-c geqo=off", {"geqo": "off"}),
        ("-cgeqo=off", {"geqo": "off"}),
        ("--geqo=off", {"geqo": "off"}),
        ("--a-timeout=5s -c b=1", {"a_timeout": "5s", "b": "1"}),
        (r"-c search_path=a,\ b\\c", {"search_path": r"a, b\c"}),
        ("-c a=1 -c a=2", {"a": "2"}),
        ("-c a==", {"a": "="}),
        ("-c a=", {"a": ""}),
        ("-c a=1\\", {"a": "1"}),
        ("-c a=x\u00a0y", {"a": "x\u00a0y"}),
    ],
)  # fmt: skip
def test_options(options: str, settings: dict[str, str]) -> None:
    assert split_options(options) == settings


@pytest.mark.parametrize("options", ["-c", "-c a", "--a", "-c =1", "--", "-c --a=1 -c"])
def test_options_without_a_value(options: str) -> None:
    with pytest.raises(OptionsRefused, match="requires a value"):
        split_options(options)


@pytest.mark.parametrize("options", ["-d 5", "x", "-e", "-B 100 -c a=1"])
def test_switches_for_the_server_alone(options: str) -> None:
    with pytest.raises(OptionsRefused, match="unsupported switch") as caught:
        split_options(options)
    assert "-c name=value" in caught.value.advice
