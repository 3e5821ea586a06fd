"""Every inode of a report, within bounds: what is too much is merged or left out, and said to be."""

from __future__ import annotations

from typing import Final

from cephcaps.trace.report.lanes import EVENT_COLUMNS, Event, Inode

__all__ = ["Inodes"]

MOST_INODES: Final = 20_000
MOST_STRETCHES: Final = 300_000
"""Of all lanes."""
MOST_EVENTS: Final = 150_000
"""Messages."""
FEWEST: Final = 50
"""Messages of an inode that are worth having; below, others have none."""
FIRST_MERGED: Final = 100
"""Microseconds: what is shorter is merged first."""


class Inodes:
    """Gathers what becomes of inodes.

    Attributes:
        merged: changes within so many microseconds are shown as one; 0 none are.
        dropped: inodes left out, those that were least worth looking at.
        most_events: messages kept of an inode, or none where it was least worth looking at; None for all of all.
    """

    def __init__(self) -> None:
        self.merged: int = 0
        self.dropped: int = 0
        self.most_events: int | None = None
        self._inodes: dict[int, Inode] = {}
        self._stretches = 0
        self._events = 0

    def __len__(self) -> int:
        return len(self._inodes)

    def get(self, at: int, client: int, ino: int) -> Inode:
        inode = self._inodes.get(ino)
        if inode is None:
            if len(self._inodes) >= MOST_INODES:
                self._drop(MOST_INODES // 2)
            inode = self._inodes[ino] = Inode(ino, at, client)
        else:
            inode.client = client
        return inode

    def holds(self, at: int, client: int, ino: int, held: int, flags: int) -> None:
        """Note what a client holds from now on."""
        self._stretches += self.get(at, client, ino).holds(at, client, held, flags)
        if self._stretches > MOST_STRETCHES:
            self._merge()

    def add(self, ino: int, event: Event) -> None:
        """Note a message about an inode."""
        self.get(event.at, event.client, ino).add(event)
        self._events += 1
        if self._events > MOST_EVENTS:
            self._shorten()

    def ranked(self) -> list[Inode]:
        """Those worth looking at first."""
        return sorted(self._inodes.values(), key=lambda inode: (inode.weight, -inode.first), reverse=True)

    def _merge(self) -> None:
        width = self.merged or FIRST_MERGED
        while self._stretches > MOST_STRETCHES // 2:
            width *= 4
            for inode in self._inodes.values():
                inode.merge(width)
            self._recount()
            if width > 2**52:  # one stretch or two in each lane: there are too many lanes
                self._drop(len(self._inodes) // 2)
        self.merged = width

    def _shorten(self) -> None:
        most = self.most_events or MOST_EVENTS
        while True:
            for inode in self._inodes.values():
                inode.shorten(most)
            self._recount()
            if self._events <= MOST_EVENTS // 2:
                break
            if most > FEWEST:
                most //= 2
            else:  # of many inodes a few messages each: better the whole story of some
                told = [inode for inode in self.ranked() if inode.events]
                for inode in told[len(told) // 2 :]:
                    inode.shorten(0)
        self.most_events = most

    def _drop(self, keep: int) -> None:
        """Keep those most worth looking at."""
        ranked = self.ranked()
        for inode in ranked[keep:]:
            del self._inodes[inode.ino]
        self.dropped += len(ranked) - keep
        self._recount()

    def _recount(self) -> None:
        self._stretches = sum(inode.stretches for inode in self._inodes.values())
        self._events = sum(len(inode.events) for inode in self._inodes.values()) // EVENT_COLUMNS
