"""What shows that a client dealt with something else before it read a message: what evidence is looked up in."""

from __future__ import annotations

from itertools import islice
from typing import Final

from cephcaps.engine.inode import InodeCap, newer
from cephcaps.trace.replay.driven import Driven
from cephcaps.trace.replay.expected import Expected
from cephcaps.trace.replay.said import NAMES_SEQ
from cephcaps.trace.replay.steps import Client, Step, Window

__all__ = ["CROSSED", "NEAR", "UNDER_WAY", "Evidence", "sent_before"]

NS: Final = 1_000_000_000
UNDER_WAY: Final = 5 * NS
"""For how long something may have been under way when its answer was captured."""
CROSSED: Final = NS // 10
"""Within which what two ranks sent was captured that the client read the other way around."""
OVERTAKES: Final = NS // 200
"""By which what is sent over one connection is captured before what was sent earlier over another (ceph:
src/msg/async/Stack.cc, some threads that share the connections)."""
NEAR: Final = 100
"""Statements about an inode among which those about one grant are looked for."""


class Evidence:
    """Of one client: what it holds so far, and what was captured next."""

    def __init__(self, client: Client, window: Window, engine: Driven, expected: Expected) -> None:
        self.client = client
        self.window = window
        self.engine = engine
        self.expected = expected

    def cap(self, rank: int, ino: int) -> InodeCap | None:
        inode = self.engine.cache.inodes.get(ino)
        return inode.cap(rank) if inode is not None else None

    def crossing(self, step: Step, known: Step | None) -> list[Step]:
        """What other ranks sent that the client may have read before ``step``, which it had when it sent ``known``."""
        until = step.item.ns + CROSSED
        if known is not None:
            until = min(until, known.item.ns)
        return [one for one in self.window.coming(self.client, until) if one.rank != step.rank]

    def known_from(self, step: Step) -> Step | None:
        """The first statement that names the seq of ``step``, or a later one, and so shows that it was read."""
        first: Step | None = None
        for told in step.told:
            for said, other in islice(self.window.ahead(self.client, step.rank, told.ino), NEAR):
                if said.op in NAMES_SEQ and said.cap_id == told.cap_id and newer(said.seq, told.seq) >= 0:
                    first = other if first is None or other.number < first.number else first
                    break
        return first


def sent_before(one: Step, other: Step) -> bool:
    """Whether the client may have sent ``one`` before ``other``."""
    if one.number < other.number or not one.item.to_daemon:
        return one.number < other.number
    return one.rank != other.rank and one.item.ns <= other.item.ns + OVERTAKES
