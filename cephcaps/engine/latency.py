"""How long what is waited for takes: counts in fixed buckets, so that a year of it takes no more room than a minute."""

from __future__ import annotations

from bisect import bisect_left

__all__ = ["BOUNDS", "Histogram"]

BOUNDS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    300.0,
)  # fmt: skip
"""Upper bounds of the buckets, seconds, themselves within; what is longer is in one more bucket. From an answer over
loopback, past an MDS's tick (5 s), to its session_autoclose (300 s), when who still owes it something is evicted."""


class Histogram:
    """Durations counted.

    Attributes:
        counts: in each bucket alone: one for each of `BOUNDS`, and one for what is longer than the last.
        seconds: sum of all durations.
    """

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts: list[int] = [0] * (len(BOUNDS) + 1)
        self.seconds: float = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds
