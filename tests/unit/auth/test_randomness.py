from __future__ import annotations

from itertools import count

from proxy.auth.randomness import Randomness


def test_every_byte_is_given_out_at_most_once() -> None:
    numbers = count()

    def source(size: int) -> bytes:
        return b"".join(next(numbers).to_bytes(4, "big") for _ in range(size // 4))

    random = Randomness(source)
    pieces = [random.take(4) for _ in range(1000)]
    assert pieces == sorted(set(pieces))


def test_as_many_as_were_asked_for() -> None:
    random = Randomness()
    assert [len(random.take(size)) for size in (18, 4, 0, 1000, 1024, 18)] == [
        *(18, 4, 0, 1000, 1024, 18)
    ]


def test_two_differ() -> None:
    assert Randomness().take(18) != Randomness().take(18)
