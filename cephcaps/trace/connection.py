"""What is kept of a TCP connection: each direction takes stretches of bytes in any order and puts them in order."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from typing import Protocol

__all__ = ["PIECE_COST", "SEQ_MASK", "ByteStream", "Connection", "Half"]

SEQ_MASK = 0xFFFFFFFF
PIECE_COST = 160
"""Bytes that a held piece takes besides its data."""


class ByteStream(Protocol):
    """Takes what one connection's ends say to each other."""

    def data(self, to_daemon: bool, data: bytes, ns: int) -> None:
        """The next bytes of a direction."""

    def gap(self, to_daemon: bool, size: int | None, ns: int) -> None:
        """Bytes are missing here, ``size`` of them; None: nobody knows how many, as when the capture began later."""

    def end(self, ns: int) -> None:
        """Nothing more will come."""


class Connection:
    """What both directions share. The stream is opened by the first byte: most connections of a port scan have none.

    Attributes:
        reset: one end has given up; what is on its way still comes.
        ended: the stream was told that nothing more comes.
    """

    __slots__ = ("ended", "reset", "stream")

    def __init__(self) -> None:
        self.stream: ByteStream | None = None
        self.reset: bool = False
        self.ended: bool = False


class Half:
    """What one end sends.

    Positions are sequence numbers that go on past 2**32.

    Attributes:
        first: sequence number of the first byte; None until it is known.
        next: position of the next byte to hand on.
        held: position and data of what came too early; sorted, apart from each other and from `next`.
        cost: bytes of memory that takes.
        acked: position up to which the other end has everything, where that is past `next`.
        waiting: the missing bytes before `acked` have some packets' time yet.
        fin: position after the last byte; None until it is known.
        finished: all was handed on.
        deliver: the stream's `data`, while there is nothing more to do than to call it with the next bytes.
        seen: number of the last packet.
    """

    __slots__ = (
        "acked",
        "connection",
        "cost",
        "deliver",
        "fin",
        "finished",
        "first",
        "held",
        "key",
        "next",
        "other",
        "seen",
        "to_daemon",
        "waiting",
    )

    other: Half

    def __init__(self, key: bytes, connection: Connection, to_daemon: bool) -> None:
        self.key: bytes = key
        self.connection: Connection = connection
        self.to_daemon: bool = to_daemon
        self.first: int | None = None
        self.next: int = 0
        self.held: list[tuple[int, bytes]] = []
        self.cost: int = 0
        self.acked: int = 0
        self.waiting: bool = False
        self.fin: int | None = None
        self.finished: bool = False
        self.deliver: Callable[[bool, bytes, int], None] | None = None
        self.seen: int = 0

    def begin(self, seq: int) -> None:
        """``seq`` is the first byte's."""
        self.first = self.next = seq

    def position(self, seq: int) -> int:
        """The position nearest to `next` with this sequence number."""
        ahead = (seq - self.next) & SEQ_MASK
        return self.next + (ahead if ahead <= SEQ_MASK >> 1 else ahead - SEQ_MASK - 1)

    def hold(self, start: int, data: bytes) -> None:
        """Keep what is new of ``data``: of bytes seen twice, the first win."""
        at = max(self.next - start, 0)  # in data
        held = self.held
        index = bisect_left(held, (start + at,))
        if index:
            before, piece = held[index - 1]
            at = max(at, before + len(piece) - start)
        while at < len(data):
            stop = held[index][0] - start if index < len(held) else len(data)
            new = data[at:stop]
            if new:
                held.insert(index, (start + at, new))
                self.cost += len(new) + PIECE_COST
                index += 1
            if index == len(held):
                break
            following, piece = held[index]
            at = following + len(piece) - start
            index += 1

    def ready(self) -> list[bytes]:
        """What is held of the bytes from `next` on; `next` is after them then."""
        held = self.held
        count = 0
        while count < len(held) and held[count][0] == self.next:
            data = held[count][1]
            self.next += len(data)
            self.cost -= len(data) + PIECE_COST
            count += 1
        taken = [data for _, data in held[:count]]
        del held[:count]
        return taken

    def hole(self) -> int:
        """Position after the missing bytes, as far as can be told from what is held; `next` if none are."""
        return self.held[0][0] if self.held else self.next

    def end(self) -> int:
        """Position after every byte that came."""
        return self.held[-1][0] + len(self.held[-1][1]) if self.held else self.next
