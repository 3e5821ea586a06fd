"""Packets of a pcap file.

Source: draft-ietf-opsawg-pcap; the longer record headers are Alexey Kuznetzov's patched libpcap's.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from cephcaps.trace.items import Problem
from cephcaps.trace.source import MAX_RECORD, NS, Packet, Source

__all__ = ["MAGICS", "read_pcap"]

FILE_HEADER_SIZE = 24
LINK_AT = 20
LINK_MASK = 0xFFFF
"""The bits above say whether frames end with their check sequence, which IP's lengths cut off anyway."""


class Layout(NamedTuple):
    order: str
    record: str
    """Header of a packet: seconds, fraction, captured length, length on the wire."""
    unit: int
    """Nanoseconds of one unit of the fraction."""


KUZNETZOV_REST = "8x"
"""Interface, protocol and packet type, which link headers tell better."""

MAGICS = {
    struct.pack(f"{order}I", magic): Layout(order, f"{order}IIII{rest}", unit)
    for order in "<>"
    for magic, rest, unit in ((0xA1B2C3D4, "", 1000), (0xA1B23C4D, "", 1), (0xA1B2CD34, KUZNETZOV_REST, 1000))
}
"""The first four bytes of the file, and what they say of the rest."""


def read_pcap(source: Source, buffer: bytes) -> Iterator[list[Packet | Problem]]:
    """The packets of a file that begins with ``buffer`` and one of `MAGICS`; a Problem ends them early."""
    buffer = source.more(buffer, FILE_HEADER_SIZE)
    if len(buffer) < FILE_HEADER_SIZE:
        yield [source.cut(0, "its header", len(buffer))]
        return
    layout = MAGICS[buffer[:4]]
    (link,) = struct.unpack_from(f"{layout.order}I", buffer, LINK_AT)
    link &= LINK_MASK
    record = struct.Struct(layout.record)
    header, unpack, unit = record.size, record.unpack_from, layout.unit
    ns = 0
    gone = 0  # bytes before the buffer
    at, end = FILE_HEADER_SIZE, len(buffer)
    found: list[Packet | Problem] = []
    while True:
        start = at + header
        if start <= end:
            seconds, fraction, length, size = unpack(buffer, at)
            stop = start + length
            if stop <= end:
                ns = seconds * NS + fraction * unit
                # Packet(...) takes twice as long.
                found.append(tuple.__new__(Packet, (ns, link, buffer[start:stop], size if size > length else length)))
                at = stop
                continue
            if length > MAX_RECORD:
                what = f"at byte {gone + at}: a packet of {length} bytes, over {MAX_RECORD}; what follows is lost"
                found.append(Problem(ns, None, None, "capture", what))
                break
            need = header + length
        else:
            need = header
        if found:
            yield found
            found = []
        buffer = source.more(buffer[at:], need)
        gone += at
        at, end = 0, len(buffer)
        if end < need:
            if end or source.damage:
                found.append(source.cut(ns, f"the packet at byte {gone}", end))
            break
    if found:
        yield found
