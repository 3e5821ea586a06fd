"""Directory fragments: which part of a big directory a name lies in.

A directory is split by the 24-bit hash of its names. A fragment is the set of hashes that begin with given bits; on
the wire it is one u32: ``bits << 24 | value``, the value's bits leftmost in its 24. 0 is the whole directory. A
fragment tree lists the fragments that are split, and into how many (ceph: src/include/frag.h).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = [
    "WHOLE",
    "dentry_hash",
    "frag_bits",
    "frag_child",
    "frag_contains",
    "frag_is_last",
    "frag_next",
    "frag_of",
    "frag_string",
    "frag_value",
]

WHOLE: Final = 0
"""The fragment that is the whole directory."""

HASH_BITS: Final = 24
HASH_MASK: Final = (1 << HASH_BITS) - 1
U32: Final = 0xFFFFFFFF
GOLDEN_RATIO: Final = 0x9E3779B9
"""What lookup2 starts its first two registers with: an arbitrary value, as its author says."""


def dentry_hash(name: bytes) -> int:
    """The 24 bits ``name`` is placed by: Bob Jenkins' public lookup2 ("rjenkins"), started from 0.

    It is the hash of a directory whose layout says 2, as every directory of a default file system does
    (ceph: src/common/ceph_hash.cc; ``CEPH_STR_HASH_RJENKINS``).
    """
    a = b = GOLDEN_RATIO
    c = 0
    whole = len(name) - len(name) % 12
    for at in range(0, whole, 12):
        a = a + int.from_bytes(name[at : at + 4], "little") & U32
        b = b + int.from_bytes(name[at + 4 : at + 8], "little") & U32
        c = c + int.from_bytes(name[at + 8 : at + 12], "little") & U32
        a, b, c = _mix(a, b, c)
    # The last, incomplete block: the lowest byte of c is left for the length.
    tail = name[whole:]
    a = a + int.from_bytes(tail[:4], "little") & U32
    b = b + int.from_bytes(tail[4:8], "little") & U32
    c = c + len(name) + (int.from_bytes(tail[8:], "little") << 8) & U32
    return _mix(a, b, c)[2] & HASH_MASK


def _mix(a: int, b: int, c: int) -> tuple[int, int, int]:
    """lookup2's mix of three 32-bit registers."""
    for right, left, last in ((13, 8, 13), (12, 16, 5), (3, 10, 15)):
        a = (a - b - c & U32) ^ c >> right
        b = (b - c - a & U32) ^ (a << left & U32)
        c = (c - a - b & U32) ^ b >> last
    return a, b, c


def frag_bits(frag: int) -> int:
    """How many leading bits of the hash the fragment fixes."""
    return frag >> HASH_BITS


def frag_value(frag: int) -> int:
    """Those bits, leftmost in 24; also the lowest hash in the fragment."""
    return frag & HASH_MASK


def frag_string(frag: int) -> str:
    """As Ceph prints it: the fixed bits in binary and a star, ``10*``."""
    bits = frag_bits(frag)
    return f"{frag_value(frag) >> HASH_BITS - bits:0{bits}b}*" if bits else "*"


def frag_contains(frag: int, hash24: int) -> bool:
    shift = HASH_BITS - frag_bits(frag)
    return hash24 >> shift == frag_value(frag) >> shift


def frag_child(frag: int, by: int, index: int) -> int:
    """Child ``index`` of the 2**``by`` that ``frag`` is split into."""
    bits = frag_bits(frag) + by
    return bits << HASH_BITS | frag_value(frag) | index << HASH_BITS - bits


def frag_of(splits: Mapping[int, int], hash24: int) -> int:
    """The leaf fragment ``hash24`` lies in.

    Args:
        splits: the fragment tree: fragment -> number of bits it is split by.
    """
    frag = WHOLE
    # A tree from a peer may name a split of 0 bits or past the 24th: neither is followed.
    while (by := splits.get(frag, 0)) > 0 and frag_bits(frag) + by <= HASH_BITS:
        index = hash24 >> HASH_BITS - frag_bits(frag) - by & (1 << by) - 1
        frag = frag_child(frag, by, index)
    return frag


def frag_is_last(frag: int) -> bool:
    """Whether no fragment follows: its bits are all ones."""
    return frag_value(frag) >> HASH_BITS - frag_bits(frag) == (1 << frag_bits(frag)) - 1


def frag_next(frag: int) -> int:
    """The fragment of the same size that follows; there must be one."""
    if frag_is_last(frag):
        raise ValueError(f"no fragment follows {frag_string(frag)}")
    return frag + (1 << HASH_BITS - frag_bits(frag))
