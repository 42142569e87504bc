"""Operations on raw bytes; compiled, only other compiled modules can call them."""

from __future__ import annotations

import pytest

from proxy.wire import octets

pytestmark = pytest.mark.skipif(
    not octets.__file__.endswith(".py"), reason="compiled: C functions, tried through their users"
)


def test_u32() -> None:
    assert octets.u32(bytearray(b"x\x01\x02\x03\x04"), 1) == 0x01020304
    assert octets.u32(bytearray(b"\xff\xff\xff\xff"), 0) == 2**32 - 1


@pytest.mark.parametrize(
    "at, end, found", [(0, 5, 1), (1, 5, 1), (2, 5, 4), (2, 4, -1), (5, 5, -1)]
)
def test_zero(at: int, end: int, found: int) -> None:
    assert octets.zero(bytearray(b"a\0bc\0"), at, end) == found


def test_kept() -> None:
    buffer = bytearray(b"0123456789")
    kept = octets.kept(buffer, 2, 5)
    buffer[2:5] = b"xxx"
    assert kept == bytearray(b"234")
    assert octets.kept(buffer, 4, 4) == bytearray()


def test_append() -> None:
    target, source = bytearray(b"ab"), bytearray(b"0123456789")
    octets.append(target, source, 2, 5)
    octets.append(target, source, 4, 4)
    assert target == b"ab234"
    source.clear()
