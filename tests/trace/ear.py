"""Listens to the streams of an assembler."""

from __future__ import annotations

import random
from collections.abc import Iterable
from itertools import groupby
from typing import Any

from cephcaps.trace.capture import Packet
from cephcaps.trace.items import Item
from cephcaps.trace.packets import segments
from cephcaps.trace.tcp import PATIENCE, Assembler
from tests.trace.packet_maker import ACK, START, Talk

__all__ = ["ANSWERED", "SAID", "Ear", "Heard", "heard", "noise"]

SAID = random.Random(1).randbytes(10_000)
ANSWERED = random.Random(2).randbytes(10_000)


class Heard:
    """What a stream was given."""

    def __init__(self, client: str, daemon: str) -> None:
        self.ends = (client, daemon)
        self.told: list[tuple[bool, bytes | int | None, int]] = []
        self.ended: int | None = None

    def data(self, to_daemon: bool, data: bytes, ns: int) -> None:
        assert self.ended is None
        assert data
        self.told.append((to_daemon, data, ns))

    def gap(self, to_daemon: bool, size: int | None, ns: int) -> None:
        assert self.ended is None
        assert size is None or size > 0
        self.told.append((to_daemon, size, ns))

    def end(self, ns: int) -> None:
        assert self.ended is None
        self.ended = ns

    def parts(self, to_daemon: bool) -> list[bytes | int | None]:
        """Data and gaps of a direction, what follows each other joined."""
        joined: list[bytes | int | None] = []
        for kind, run in groupby((part for way, part, _ in self.told if way == to_daemon), type):
            parts: list[Any] = list(run)
            joined += [b"".join(parts)] if kind is bytes else [sum(parts)] if kind is int else parts
        return joined


class Ear:
    """An assembler, and what became of each connection."""

    def __init__(self) -> None:
        self.streams: list[Heard] = []
        self.problems: list[Item] = []
        self.assembler = Assembler(self.open, self.problems)
        self.ns = START

    def open(self, client: str, daemon: str) -> Heard:
        self.streams.append(Heard(client, daemon))
        return self.streams[-1]

    def hear(self, *some: Iterable[Packet]) -> None:
        for packet in (packet for each in some for packet in each):
            self.ns = packet.ns
            self.assembler.packet(packet, *segments([packet]))

    def only(self) -> Heard:
        (stream,) = self.streams
        return stream


def heard(*some: Iterable[Packet]) -> list[Heard]:
    """What the streams were given of a whole capture."""
    ear = Ear()
    ear.hear(*some)
    ear.assembler.finish(ear.ns)
    assert not ear.problems
    assert all(stream.ended is not None for stream in ear.streams)
    assert ear.assembler._held == 0
    assert not ear.assembler._holders
    return ear.streams


def noise(count: int = PATIENCE + 1) -> list[Packet]:
    """Packets of other connections."""
    return [Talk(ports=(50000, 1000)).packet(True, ACK)] * count
