"""What became of one inode: for each client a lane of who held what, and the messages about it.

Both are flat arrays of numbers, so that a hundred thousand of them are few megabytes, here and on the page.
"""

from __future__ import annotations

from array import array
from typing import Final, NamedTuple

__all__ = ["ASKED", "EVENT_COLUMNS", "LANE_COLUMNS", "MERGED", "Event", "Inode"]

ASKED: Final = 1 << 16
"""Beside the bits wanted back: a revoke is outstanding, even if the client was not known to have any of them."""
MERGED: Final = 1 << 17
"""Beside them: several changes in a short time are shown as one."""
LANE_COLUMNS: Final = 3
"""When it begins, in microseconds; bits held; bits wanted back and flags. A stretch lasts until the next one begins."""
EVENT_COLUMNS: Final = 8
MOST_LANES: Final = 1000
"""Clients of one inode that have a lane."""


class Event(NamedTuple):
    """A message about an inode."""

    at: int
    """Microseconds."""
    kind: int
    """Number of the type and op, as the report lists them."""
    client: int
    way: int
    """Twice the daemon's number; one more if it was sent to the daemon."""
    bits: int
    """Caps: granted, or held."""
    more: int
    """Bits that were lost by it, or that a client says are dirty."""
    seq: int
    waited: int
    """Microseconds since what it answers; -1 if it answers nothing."""


class Inode:
    """One inode."""

    __slots__ = (
        "_head",
        "client",
        "events",
        "first",
        "ino",
        "lanes",
        "left_out",
        "longest",
        "open",
        "revokes",
        "waited",
    )

    def __init__(self, ino: int, first: int, client: int) -> None:
        self.ino: int = ino
        self.first: int = first
        """When it was first spoken of."""
        self.client: int = client
        """The last that spoke of it, and knows its path."""
        self.lanes: dict[int, array[int]] = {}
        self.events: array[int] = array("q")
        self.left_out: int = 0
        """Messages in the middle that are not kept."""
        self._head = 0
        self.revokes: int = 0
        self.waited: int = 0
        """Microseconds of all revokes."""
        self.longest: int = 0
        self.open: int = 0
        """Revokes outstanding."""

    @property
    def gap(self) -> int:
        """Messages before those left out."""
        return self._head

    def holds(self, at: int, client: int, held: int, flags: int) -> int:
        """Note what a client holds from now on; how many stretches that adds."""
        lane = self.lanes.get(client)
        if lane is None:
            if (not held and not flags) or len(self.lanes) >= MOST_LANES:
                return 0
            lane = self.lanes[client] = array("q")
        elif lane[-2] == held and lane[-1] == flags:
            return 0
        elif at <= lane[-3]:  # the same moment, or a connection whose messages were opened only later
            lane[-2:] = array("q", (held, flags))
            return 0
        lane.extend((at, held, flags))
        return 1

    def add(self, event: Event) -> None:
        self.events.extend(event)

    @property
    def stretches(self) -> int:
        return sum(map(len, self.lanes.values())) // LANE_COLUMNS

    @property
    def weight(self) -> tuple[int, int, int, int, int]:
        """What makes it worth looking at: the more the greater."""
        return self.open, self.longest, self.revokes, len(self.lanes), len(self.events)

    def merge(self, width: int) -> None:
        """Show changes that begin in the same ``width`` microseconds as one, and then what was left by them."""
        for client, lane in self.lanes.items():
            self.lanes[client] = _merged(lane, width)

    def shorten(self, most: int) -> None:
        """Keep ``most`` messages, a quarter of them from the beginning."""
        have = len(self.events) // EVENT_COLUMNS
        if have <= most:
            return
        head = min(self._head, most // 4) if self.left_out else most // 4
        self.events = self.events[: head * EVENT_COLUMNS] + self.events[(have - most + head) * EVENT_COLUMNS :]
        self.left_out += have - most
        self._head = head


def _merged(lane: array[int], width: int) -> array[int]:
    out: array[int] = array("q")
    start = end = 0
    while start < len(lane):
        cell = lane[start] // width
        held = flags = 0
        while end < len(lane) and lane[end] // width == cell:
            held |= lane[end + 1]
            flags |= lane[end + 2]
            end += LANE_COLUMNS
        if end - start <= 2 * LANE_COLUMNS:
            out.extend(lane[start:end])
        else:
            out.extend((lane[start], held, flags | MERGED))
            out.extend(lane[end - LANE_COLUMNS : end])
        start = end
    return out
