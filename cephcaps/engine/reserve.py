"""Room for caps: whatever a reply brings can be taken in, and still the cache stays bounded.

A request reserves room for the caps its reply may bring before it is sent; where that is short, the coldest inodes make
way first. Always: total = used + reserved + available. Source: kernel: fs/ceph/caps.c, ``ceph_reserve_caps``.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["DEFAULT_LIMIT", "Pool", "Reservation"]

DEFAULT_LIMIT = 1 << 20
"""Caps one client holds at most: more than that an MDS recalls anyway (``mds_max_caps_per_client``)."""
SLACK = 64
"""One part in so many of the limit more must have come before what could not be let go of is looked at once more."""


class Reservation:
    """Room set aside for one reply."""

    __slots__ = ("_pool", "count")

    def __init__(self, pool: Pool, count: int) -> None:
        self._pool = pool
        self.count: int = count

    def end(self) -> None:
        """What is left of it is free again."""
        self._pool.reserved -= self.count
        self.count = 0


class Pool:
    """All room there is.

    Args:
        shrink: lets go of that many caps if it can, the coldest first.

    Attributes:
        limit: of ``total``; passed only by what cannot be let go of, being open, changed or in use.
        used, reserved: caps held, and room set aside.
    """

    def __init__(self, shrink: Callable[[int], None], limit: int = DEFAULT_LIMIT) -> None:
        self._shrink = shrink
        self.limit = limit
        self.used: int = 0
        self.reserved: int = 0
        self._kept = 0  # over the limit when last all was let go of that could be

    @property
    def available(self) -> int:
        return max(0, self.limit - self.used - self.reserved)

    @property
    def total(self) -> int:
        return self.used + self.reserved + self.available

    def reserve(self, count: int) -> Reservation:
        """Room for ``count`` caps."""
        if count > self.available:
            self._shrink(count - self.available)
        self.reserved += count
        return Reservation(self, count)

    def take(self, reservation: Reservation | None) -> None:
        """One cap comes, into the room set aside for it if there is any."""
        if reservation is not None and reservation.count:
            reservation.count -= 1
            self.reserved -= 1
        self.used += 1

    def settle(self) -> None:
        """Let go of what came without any room set aside for it: MDSs may tell more than they were asked."""
        over = self.used + self.reserved - self.limit
        if over > self._kept + self.limit // SLACK:
            self._shrink(over)
            over = self.used + self.reserved - self.limit
            self._kept = max(over, 0)
        elif over < self._kept:
            self._kept = max(over, 0)

    def give(self) -> None:
        """One cap goes."""
        assert self.used > 0
        self.used -= 1
