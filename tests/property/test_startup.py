"""Start-up packets from anybody: whole, cut anywhere, or noise."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import OptionsRefused, ProtocolViolation
from proxy.wire import messages
from proxy.wire.startup import (
    MAX_STARTUP,
    Cancel,
    GssRequest,
    SslRequest,
    Startup,
    packet_length,
    read_packet,
    split_options,
)

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
NAME = TEXT.filter(lambda name: name != "" and not name.startswith("_pq_."))
PARAMETERS = st.dictionaries(NAME, TEXT, max_size=5)
CODES = st.sampled_from([196608, 196610, 80877102, 80877103, 80877104, 0, 131072, 0xFFFFFFFF])


def encoded(parameters: dict[str, str]) -> bytes:
    return messages.startup((k.encode(), v.encode()) for k, v in parameters.items())


def resized(packet: bytes) -> bytes:
    """The packet with a length word that tells the truth."""
    return struct.pack("!I", len(packet)) + packet[4:]


@given(PARAMETERS)
def test_what_was_packed_is_read(parameters: dict[str, str]) -> None:
    packet = encoded(parameters)
    assert packet_length(packet, 0, len(packet)) == len(packet)
    read = read_packet(packet)
    assert read == Startup(0, parameters, ())
    assert isinstance(read, Startup)
    assert list(read.parameters) == list(parameters)


@given(PARAMETERS, st.integers(0, 200))
def test_a_packet_cut_anywhere_is_refused_or_a_shorter_one(
    parameters: dict[str, str], cut: int
) -> None:
    packet = encoded(parameters)
    short = packet[: min(8 + cut, len(packet) - 1)]
    try:
        read = read_packet(resized(short))
    except ProtocolViolation:
        return
    assert isinstance(read, Startup)
    assert read.parameters.items() <= parameters.items()
    assert short.endswith(b"\0\0")


@given(CODES, st.binary(max_size=60))
def test_noise_is_read_or_refused_and_nothing_else(code: int, body: bytes) -> None:
    packet = struct.pack("!II", len(body) + 8, code) + body
    try:
        read = read_packet(packet)
    except ProtocolViolation:
        return
    assert isinstance(read, SslRequest | GssRequest | Cancel | Startup)


@given(st.binary(max_size=12), st.integers(0, 8))
def test_any_length_word(buffer: bytes, at: int) -> None:
    end = len(buffer)
    try:
        length = packet_length(buffer, min(at, end), end)
    except ProtocolViolation:
        return
    assert length == 0 or 8 <= length <= MAX_STARTUP


# -- options, against pg_split_opts and process_postgres_switches in Postgres ---------------

SPACE = " \t\n\r\v\f"
"""What isspace() knows in the C locale."""


def words(options: str) -> list[str]:
    """pg_split_opts, as it stands in Postgres's source, postinit.c."""
    found: list[str] = []
    i = 0
    while True:
        while i < len(options) and options[i] in SPACE:
            i += 1
        if i == len(options):
            return found
        word, escaped = "", False
        while i < len(options) and (escaped or options[i] not in SPACE):
            if not escaped and options[i] == "\\":
                escaped = True
            else:
                word += options[i]
                escaped = False
            i += 1
        found.append(word)


def settings_of(options: str) -> dict[str, str] | None:
    """The settings, or None where Postgres (or a pool of its connections) cannot have them."""
    found: dict[str, str] = {}
    rest = words(options)
    while rest:
        word = rest.pop(0)
        if word == "-c":
            setting = rest.pop(0) if rest else ""
        elif word.startswith(("-c", "--")):
            setting = word[2:]
        else:
            return None
        if "=" not in setting or setting.startswith("="):
            return None
        name, value = setting.split("=", 1)
        found[name.replace("-", "_")] = value
    return found


PIECES = ["-c", " ", "--", "a", "search-path", "=", "\\", "\\ ", "\t", "1", "'", "-", "\u00a0", "é"]


@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join) | TEXT)
def test_options_are_split_as_postgres_does(options: str) -> None:
    expected = settings_of(options)
    if expected is not None:
        assert split_options(options) == expected
        return
    with pytest.raises(OptionsRefused):
        split_options(options)


@given(st.dictionaries(st.from_regex(r"[a-z_.]+", fullmatch=True), TEXT, max_size=4))
def test_escaped_options_come_back(wanted: dict[str, str]) -> None:
    escaped = {k: "".join("\\" + c for c in v) for k, v in wanted.items()}
    assert split_options(" ".join(f"-c {k}={v}" for k, v in escaped.items())) == wanted
    assert split_options("  ".join(f"--{k}={v}" for k, v in escaped.items())) == wanted
