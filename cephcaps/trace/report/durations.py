"""How long things took: counts by size, from which percentiles come, in bounded memory."""

from __future__ import annotations

from typing import Final

import msgspec

__all__ = ["Durations", "Percentiles"]

MOST: Final = 2**52
"""Microseconds; a longer time, which only a damaged capture has, counts as this."""
PARTS: Final = 5
"""Powers of two are cut into 2**5 parts, so that a percentile is right within 3 %."""


class Percentiles(msgspec.Struct, frozen=True, gc=False):
    """All in microseconds; percentiles within 3 %, the rest exact."""

    count: int
    least: int
    median: int
    p90: int
    p99: int
    most: int


class Durations:
    """Times of one kind."""

    __slots__ = ("_counts", "count", "least", "most")

    def __init__(self) -> None:
        self.count: int = 0
        self.least: int = MOST
        self.most: int = 0
        self._counts: dict[int, int] = {}

    def add(self, micros: int) -> None:
        micros = min(max(micros, 0), MOST)
        self.count += 1
        self.least = min(self.least, micros)
        self.most = max(self.most, micros)
        shift = max(micros.bit_length() - PARTS - 1, 0)
        low = micros >> shift << shift
        self._counts[low] = self._counts.get(low, 0) + 1

    def percentile(self, share: float) -> int:
        """The time that ``share`` of all stay below or at."""
        left = share * self.count
        for low in sorted(self._counts):
            left -= self._counts[low]
            if left <= 0:
                return min(max(low, self.least), self.most)
        return self.most

    def percentiles(self) -> Percentiles:
        least = self.least if self.count else 0
        return Percentiles(
            self.count, least, self.percentile(0.5), self.percentile(0.9), self.percentile(0.99), self.most
        )

    def counts(self) -> list[list[int]]:
        """Pairs: a time, and how many were that long or a little longer."""
        return [[low, self._counts[low]] for low in sorted(self._counts)]
