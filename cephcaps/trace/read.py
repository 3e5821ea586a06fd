"""A capture file -> the messages in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import BinaryIO

from cephcaps.auth.crypto import CryptoKey
from cephcaps.trace.capture import batches
from cephcaps.trace.decoding import decode_all
from cephcaps.trace.items import Item, Problem
from cephcaps.trace.packets import segments
from cephcaps.trace.stream import Streams
from cephcaps.trace.tcp import Assembler

__all__ = ["TraceReader", "read_trace"]

TRIM_EVERY = 8 << 20
"""Bytes of packets between looks at how much is kept of unfinished messages."""


def read_trace(file: BinaryIO, keyring: Mapping[str, CryptoKey] | None = None) -> Iterator[Item]:
    """The messages of a capture, and what in it could not be read, as they come.

    Items come in the order of the capture, except those of a connection in secure mode whose ticket is handed out only
    later in the file: these come when that has been read.

    Args:
        file: pcap or pcapng; read forwards, so a pipe will do.
        keyring: keys by entity, such as ``client.admin``; opens connections in secure mode whose authentication was
            captured.
    Raises:
        NotACapture: the file is neither pcap nor pcapng.
    """
    return iter(TraceReader(file, keyring))


class TraceReader:
    """`read_trace` that also tells what it has met so far; to be iterated over once.

    Attributes:
        packets: read from the file.
    """

    def __init__(self, file: BinaryIO, keyring: Mapping[str, CryptoKey] | None = None) -> None:
        self.packets = 0
        self._batches = batches(file)
        self._streams = Streams(keyring)

    @property
    def connections(self) -> int:
        """TCP connections of Ceph's."""
        return self._streams.messengers

    @property
    def strangers(self) -> int:
        """TCP connections of others."""
        return self._streams.strangers

    def __iter__(self) -> Iterator[Item]:
        for found in self.found():
            decode_all(found)
            yield from found

    def found(self) -> Iterator[list[Item]]:
        """The items batch by batch, messages not decoded yet; a batch is good until the next one is asked for."""
        streams = self._streams
        out = streams.out
        assembler = Assembler(streams.open, out)
        take = assembler.packet
        ns = taken = 0
        for batch in self._batches:
            for packet, found in zip(batch, segments(batch), strict=True):
                if isinstance(packet, Problem):
                    out.append(packet)
                else:
                    ns = packet.ns
                    take(packet, found)
                    self.packets += 1
                    taken += len(packet.data)
                    if taken > TRIM_EVERY:
                        taken = 0
                        streams.trim(ns)
            if out:
                yield out
                out.clear()
        assembler.finish(ns)
        streams.finish()
        yield out
