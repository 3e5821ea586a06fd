"""Sets of capability bits, for people and programs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Self

from cephwire.capbits import cap_string, parse_caps

__all__ = ["Caps"]


class Caps:
    """An immutable set of cap bits, written as Ceph writes it: ``Caps("pAsLsXsFscr")``.

    Accepts such text, a number, a number as text (``"0x155"``), or another Caps; "" is none. Raises ValueError for
    anything else.
    """

    __slots__ = ("_bits",)
    _bits: int

    def __init__(self, caps: str | int | Caps = 0) -> None:
        object.__setattr__(self, "_bits", caps._bits if isinstance(caps, Caps) else parse_caps(caps or 0))

    @classmethod
    def parse(cls, caps: str | int | Caps) -> Self:
        return cls(caps)

    @staticmethod
    @lru_cache(maxsize=1024)  # every Stat has one, nearly all the same; an MDS grants some dozens of sets
    def of(bits: int) -> Caps:
        """The set an MDS sent, bits without a name included."""
        caps = object.__new__(Caps)
        object.__setattr__(caps, "_bits", bits)
        return caps

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("Caps cannot be changed")

    def __int__(self) -> int:
        return self._bits

    __index__ = __int__

    def __str__(self) -> str:
        return cap_string(self._bits)

    def __repr__(self) -> str:
        return f"Caps({str(self)!r})"

    def __bool__(self) -> bool:
        return self._bits != 0

    def __hash__(self) -> int:
        return hash(self._bits)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Caps) and self._bits == other._bits

    def __or__(self, other: str | int | Caps) -> Caps:
        return Caps.of(self._bits | Caps(other)._bits)

    def __and__(self, other: str | int | Caps) -> Caps:
        return Caps.of(self._bits & Caps(other)._bits)

    def __sub__(self, other: str | int | Caps) -> Caps:
        return Caps.of(self._bits & ~Caps(other)._bits)

    def __contains__(self, other: str | int | Caps) -> bool:
        """Whether every bit of ``other`` is here."""
        wanted = Caps(other)._bits
        return self._bits & wanted == wanted

    def __iter__(self) -> Iterator[Caps]:
        """Each bit as a set of its own."""
        return (Caps.of(1 << bit) for bit in range(self._bits.bit_length()) if self._bits >> bit & 1)
