"""Packets of a pcapng file.

Source: draft-ietf-opsawg-pcapng, whose sections are named below.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from math import gcd
from typing import Any, NamedTuple

from cephcaps.trace.items import Problem
from cephcaps.trace.source import MAX_RECORD, NS, Packet, Source
from cephcaps.trace.tally import Tally

__all__ = ["MAGIC", "read_pcapng"]

SECTION_HEADER = 0x0A0D0D0A
"""Section 4.1; the same in both byte orders."""
MAGIC = SECTION_HEADER.to_bytes(4, "big")
ORDERS = {0x1A2B3C4D.to_bytes(4, "little"): "<", 0x1A2B3C4D.to_bytes(4, "big"): ">"}
MAJOR = 1
INTERFACE_DESCRIPTION = 1
"""Section 4.2."""
OBSOLETE_PACKET = 2
"""Appendix A: the Packet Block, which the enhanced one replaced."""
SIMPLE_PACKET = 3
"""Section 4.4: no time, and of the first interface."""
ENHANCED_PACKET = 6
"""Section 4.3."""

FRAME_SIZE = 12
"""Of every block: type and length in front, the length again behind."""
SECTION_BODY = 16
"""Byte order, version and the section's length, which need not be right and is not used."""
PACKET_AT = 28
"""Where an enhanced packet's bytes begin in its block."""
ENHANCED_SIZE = PACKET_AT + 4
"""Bytes of the block without them."""
NO_INTERFACE = "a packet of interface {}, of {} that are described"
UNKNOWN_LINK = -1
MAX_NS = 2**63 - 1
"""Later times, of the year 2262 and on, are not believed; nor are those before the epoch."""
MAX_INTERFACES = 65536
"""Interfaces of a section that are remembered; the obsolete packet block could name no more."""

OPTION_END = 0
OPTION_TSRESOL = 9
OPTION_TSOFFSET = 14
MICROSECONDS = 6
"""if_tsresol where there is none: the power of ten."""
POWER_OF_TWO = 0x80
"""Bit of if_tsresol: not a power of ten."""


class Interface(NamedTuple):
    """How packets of one interface are read."""

    link: int
    snaplen: int
    multiply: int
    divide: int
    """What makes nanoseconds of a timestamp."""
    offset: int
    """Nanoseconds added to it."""


class BadBlock(Exception):
    """A block that cannot be read, though its length can: the next one may be whole."""


class Section:
    """What is known of one section: its byte order and the interfaces described so far."""

    def __init__(self, order: str) -> None:
        self.interfaces: list[Interface] = []
        self.head: Callable[..., tuple[Any, ...]] = struct.Struct(f"{order}II").unpack_from
        self.length: Callable[..., tuple[Any, ...]] = struct.Struct(f"{order}I").unpack_from
        self.enhanced: Callable[..., tuple[Any, ...]] = struct.Struct(f"{order}IIIIIII").unpack_from  # with the frame
        self._version = struct.Struct(f"{order}H").unpack_from
        self._interface = struct.Struct(f"{order}HxxI").unpack_from
        self._option = struct.Struct(f"{order}HH").unpack_from
        self._seconds = struct.Struct(f"{order}q").unpack_from
        self._enhanced = struct.Struct(f"{order}IIIII")
        self._obsolete = struct.Struct(f"{order}HxxIIII")

    def block(self, kind: int, body: bytes) -> Packet | None:
        """Take in a block; the packet that is in it, if any."""
        if kind == INTERFACE_DESCRIPTION:
            if len(self.interfaces) < MAX_INTERFACES:
                self.interfaces.append(self._described(body))
        elif kind == SIMPLE_PACKET:
            return self._simple(body)
        elif kind in (ENHANCED_PACKET, OBSOLETE_PACKET):
            return self._packet(body, self._enhanced if kind == ENHANCED_PACKET else self._obsolete)
        return None

    def major(self, body: bytes) -> int | None:
        """The version that the section header says, None where it is too short."""
        return self._version(body, 4)[0] if len(body) >= SECTION_BODY else None

    def _described(self, body: bytes) -> Interface:
        if len(body) < 8:
            # It takes its number all the same, or a later one would be taken for it.
            return Interface(UNKNOWN_LINK, 0, 1, 1, 0)
        link, snaplen = self._interface(body, 0)
        resolution, offset = MICROSECONDS, 0
        at = 8
        while at + 4 <= len(body):  # section 3.5
            code, size = self._option(body, at)
            value = body[at + 4 : at + 4 + size]
            if code == OPTION_END or len(value) < size:
                break
            if code == OPTION_TSRESOL and size == 1:
                resolution = value[0]
            elif code == OPTION_TSOFFSET and size == 8:
                (offset,) = self._seconds(value, 0)
            at += 4 + size + (-size & 3)
        power = resolution & ~POWER_OF_TWO
        units = 2**power if resolution & POWER_OF_TWO else 10**power  # in a second
        common = gcd(NS, units)
        return Interface(link, snaplen, NS // common, units // common, offset * NS)

    def _simple(self, body: bytes) -> Packet:
        if len(body) < 4:
            raise BadBlock(f"a simple packet block of {len(body) + FRAME_SIZE} bytes")
        (size,) = self.length(body, 0)
        interface = self._of(0)
        captured = min(size, interface.snaplen or size)
        return Packet(0, interface.link, _captured(body, 4, captured), size)

    def _packet(self, body: bytes, head: struct.Struct) -> Packet:
        if len(body) < head.size:
            raise BadBlock(f"a packet block of {len(body) + FRAME_SIZE} bytes")
        number, high, low, captured, size = head.unpack_from(body)
        interface = self._of(number)
        ns = (high << 32 | low) * interface.multiply // interface.divide + interface.offset
        return Packet(
            ns if 0 <= ns <= MAX_NS else 0, interface.link, _captured(body, head.size, captured), max(size, captured)
        )

    def _of(self, number: int) -> Interface:
        if number >= len(self.interfaces):
            raise BadBlock(NO_INTERFACE.format(number, len(self.interfaces)))
        return self.interfaces[number]


def read_pcapng(source: Source, buffer: bytes) -> Iterator[list[Packet | Problem]]:
    """The packets of a file that begins with ``buffer`` and `MAGIC`; a Problem for what cannot be read."""
    tally = Tally("capture")
    lost = ""  # why what follows is
    ns = 0
    gone = 0  # bytes before the buffer
    at, end = 0, len(buffer)
    section = Section("<")  # until a header says
    enhanced, interfaces = section.enhanced, section.interfaces
    found: list[Packet | Problem] = []
    while True:
        need = FRAME_SIZE
        # The commonest block first, whole and right; whatever else it may be is seen below.
        if at + ENHANCED_SIZE <= end:
            kind, length, number, high, low, captured, size = enhanced(buffer, at)
            stop = at + length
            if (
                kind == ENHANCED_PACKET
                and captured + ENHANCED_SIZE <= length <= MAX_RECORD
                and stop <= end
                and buffer[stop - 4 : stop] == buffer[at + 4 : at + 8]
                and not length & 3
                and number < len(interfaces)
            ):
                link, _, multiply, divide, offset = interfaces[number]
                ns = (high << 32 | low) * multiply
                if divide != 1:
                    ns //= divide
                ns += offset
                if not 0 <= ns <= MAX_NS:
                    ns = 0
                data = buffer[at + PACKET_AT : at + PACKET_AT + captured]
                # Packet(...) takes twice as long.
                found.append(tuple.__new__(Packet, (ns, link, data, size if size > captured else captured)))
                at = stop
                continue
        if at + FRAME_SIZE <= end:
            kind, length = section.head(buffer, at)
            if kind == SECTION_HEADER:
                order = ORDERS.get(buffer[at + 8 : at + 12])
                if order is None:
                    lost = "a section header without a byte order"
                    break
                section = Section(order)
                enhanced, interfaces = section.enhanced, section.interfaces
                _, length = section.head(buffer, at)
            if length < FRAME_SIZE or length & 3 or length > MAX_RECORD:
                lost = f"a block of {length} bytes, which is no multiple of 4 between {FRAME_SIZE} and {MAX_RECORD}"
                break
            stop = at + length
            if stop <= end:
                if section.length(buffer, stop - 4)[0] != length:
                    lost = f"a block of {length} bytes that ends with the length {section.length(buffer, stop - 4)[0]}"
                    break
                body = buffer[at + 8 : stop - 4]
                if kind == SECTION_HEADER and section.major(body) != MAJOR:
                    lost = f"a section of version {section.major(body)}, not {MAJOR}"
                    break
                try:
                    packet = section.block(kind, body)
                    if packet is not None:
                        ns = packet.ns or ns
                        found.append(packet)
                except BadBlock as bad:
                    told = tally.add(ns, str(bad), length)
                    if told is not None:
                        found.append(told)
                at = stop
                continue
            need = length
        if found:
            yield found
            found = []
        buffer = source.more(buffer[at:], need)
        gone += at
        at, end = 0, len(buffer)
        if end < need:
            break
    found += tally.rest(ns)
    if lost:
        what = f"at byte {gone + at}: {lost}; what follows cannot be read"
        found.append(Problem(ns, None, None, "capture", what))
    elif end or source.damage:
        found.append(source.cut(ns, f"the block at byte {gone}", end))
    if found:
        yield found


def _captured(body: bytes, at: int, size: int) -> bytes:
    if size > len(body) - at:
        raise BadBlock(f"a packet of {size} bytes in a block of {len(body) + FRAME_SIZE}")
    return body[at : at + size]
