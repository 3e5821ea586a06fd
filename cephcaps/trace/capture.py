"""A capture file's packets, whichever its format."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import BinaryIO

from cephcaps.errors import CephError
from cephcaps.trace.items import Problem
from cephcaps.trace.pcap import MAGICS, read_pcap
from cephcaps.trace.pcapng import MAGIC, read_pcapng
from cephcaps.trace.source import Packet, Source

__all__ = ["NotACapture", "Packet", "batches", "packets"]


class NotACapture(CephError, ValueError):
    """The file is neither pcap nor pcapng."""


def packets(file: BinaryIO) -> Iterator[Packet | Problem]:
    """The packets of `batches`, one by one."""
    return chain.from_iterable(batches(file))


def batches(file: BinaryIO) -> Iterator[list[Packet | Problem]]:
    """The packets of ``file``, pcap or pcapng, as it is or in gzip format, in the file's order.

    It is read forwards and as it is asked for, so a pipe that someone still writes to will do: a batch is what is there
    before it is read further.

    Raises:
        NotACapture: at once, and only then; damage further in is a Problem among the packets.
    """
    source = Source(file)
    start = source.more(b"", 4)
    if start[:4] == MAGIC:
        found = read_pcapng(source, start)
    elif start[:4] in MAGICS:
        found = read_pcap(source, start)
    elif not start:
        raise NotACapture(f"neither pcap nor pcapng: {source.damage or 'there is nothing in it'}")
    else:
        raise NotACapture(f"neither pcap nor pcapng: it begins with {start[:4].hex()}")
    return found
