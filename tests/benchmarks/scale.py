"""The engine alone: what a cap message and a tick cost it, by how many inodes it keeps. No socket and no codec.

Every message is a GRANT or REVOKE for an inode chosen at random, which the engine takes in and answers. The engines of
all sizes stand side by side and get theirs in turns.
"""

from __future__ import annotations

import statistics
import time
from array import array
from random import Random

import msgspec

from cephcaps.engine.engine import Engine
from cephwire.capbits import parse_caps
from cephwire.caps import CapOp, ClientCaps
from cephwire.inode import FileLayout, IssuedCap
from tests.session import samples

from .row import Row

__all__ = ["rows"]

SIZES = (1000, 100_000, 1_000_000)
MESSAGES = 1_000_000
BATCH = 5000
TICKS = 2000
MUCH, LITTLE = parse_caps("pAsLsXsFscr"), parse_caps("pAsLsXs")
NEVER = float("inf")


class Sized:
    """One engine that keeps ``size`` inodes with a cap each."""

    def __init__(self, size: int) -> None:
        self.engine = Engine()
        self.engine.sessions.opened(0, 1, NEVER, 0)
        self.seqs = array("I", [1]) * size
        self.now = 100.0
        self._random = Random(size)
        layout = FileLayout(1 << 22, 1, 1 << 22, 0, 0, -1, 1)
        for number in range(size):
            cap = IssuedCap(MUCH, 0, number + 1, 1, 0, 1, 1)
            told = msgspec.structs.replace(samples.inode(number + 1000, cap, mode=0o100644), layout=layout)
            self.engine.grants.add(0, told, self.now)

    def messages(self, count: int) -> list[ClientCaps]:
        made = []
        for _ in range(count):
            number = self._random.randrange(len(self.seqs))
            self.seqs[number] += 1
            seq = self.seqs[number]
            op, bits = (CapOp.GRANT, MUCH) if seq % 2 else (CapOp.REVOKE, LITTLE)
            made.append(samples.caps(op, number + 1000, number + 1, seq=seq, bits=bits))
        return made

    def take(self, count: int) -> float:
        """Seconds for so many messages."""
        messages, receive, now = self.messages(count), self.engine.receive, self.now
        began = time.process_time()
        for message in messages:
            receive(0, message, 0, now)
        took = time.process_time() - began
        answers = len(self.engine.cache.out)
        assert answers >= count * 0.4, f"{answers} answers to {count} messages"
        self.engine.cache.out.clear()
        return took

    def tick(self, count: int) -> float:
        """Seconds for so many looks at the clock with nothing due."""
        engine, now = self.engine, self.now
        began = time.process_time()
        for _ in range(count):
            engine.next_deadline()
            engine.tick(now)
        return time.process_time() - began


def rows() -> list[Row]:
    engines = {size: Sized(size) for size in SIZES}
    taken: dict[int, list[float]] = {size: [] for size in SIZES}
    ticks: dict[int, list[float]] = {size: [] for size in SIZES}
    for sized in engines.values():
        sized.take(BATCH)
    for turn in range(MESSAGES // BATCH):
        for size, sized in engines.items():
            taken[size].append(sized.take(BATCH) / BATCH * 1e6)
            if turn % 20 == 0:
                ticks[size].append(sized.tick(TICKS) / TICKS * 1e6)
    each = {size: statistics.fmean(found) for size, found in taken.items()}
    idle = {size: statistics.median(found) for size, found in ticks.items()}
    small, large = SIZES[0], SIZES[-1]
    return [
        Row(
            "B11", f"a cap message, {large} inodes, peer {small}", "<= 1.3x", each[large], each[small], "us",
            each[large] / each[small], 1.3, "ourselves", {"us by inodes": {str(size): us for size, us in each.items()}},
            less=True,
        ),
        Row(
            "B11", f"a tick with nothing due, {large}, peer {small}", "<= 1.3x", idle[large], idle[small], "us",
            idle[large] / idle[small], 1.3, "ourselves", {"us by inodes": {str(size): us for size, us in idle.items()}},
            less=True,
        ),
    ]  # fmt: skip


if __name__ == "__main__":
    from .table import print_row, print_titles

    print_titles()
    for row in rows():
        print_row(row)
