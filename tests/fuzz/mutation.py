"""How good input is spoilt."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

__all__ = ["mutated", "torn"]

TELLING = (0, 1, 2, 3, 0x7F, 0x80, 0xFE, 0xFF)
"""Bytes at the edges of what counts, lengths and versions can be."""
WORDS = (0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 2, 2**64 - 1, 1_000_000_000)


def mutated(rng: Random, raw: bytes, others: Sequence[bytes] = ()) -> bytes:
    """``raw`` with one to five changes; ``others`` is where foreign parts come from."""
    out = bytearray(raw)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 5))):
        _change(rng, out, others)
    return bytes(out)


def _change(rng: Random, out: bytearray, others: Sequence[bytes]) -> None:
    at = rng.randrange(len(out) + 1)
    match rng.randrange(9):
        case 0 if out:
            out[at % len(out)] ^= 1 << rng.randrange(8)
        case 1 if out:
            out[at % len(out)] = rng.choice(TELLING)
        case 2 if out:
            out[at % len(out)] = rng.randrange(256)
        case 3 | 4:
            size = rng.choice((2, 4, 4, 8))
            out[at : at + size] = (rng.choice(WORDS) % (1 << 8 * size)).to_bytes(size, "little")
        case 5:
            del out[at:]
        case 6:
            del out[at : at + rng.choice((1, 2, 4, 8, 30))]
        case 7:
            out[at:at] = rng.randbytes(rng.choice((1, 2, 4, 8, 30)))
        case 8 if others:
            other = rng.choice(others)
            start = rng.randrange(len(other) + 1)
            out[at : at + rng.randrange(40)] = other[start : start + rng.randrange(40)]
        case _:
            out += rng.randbytes(rng.randrange(1, 9))


def torn(rng: Random, raw: bytes) -> list[bytes]:
    """``raw`` in pieces, as a socket might give it."""
    pieces = []
    while raw:
        size = rng.choice((1, 2, 7, 32, 100, 1000, len(raw)))
        pieces.append(raw[:size])
        raw = raw[size:]
    return pieces
