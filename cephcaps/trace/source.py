"""The bytes of a capture file, piece by piece from anything that reads, a pipe too; gzip is undone on the way."""

from __future__ import annotations

import zlib
from typing import BinaryIO, NamedTuple

from cephcaps.trace.items import Problem

__all__ = ["MAX_RECORD", "NS", "Packet", "Source"]

NS = 1_000_000_000
"""Nanoseconds in a second."""
CHUNK = 64 * 1024
"""Bytes read at once, and with them the packets that go through each step of decoding together. Of four times as many,
what one step makes is no longer in the processor's cache when the next wants it."""
GZIP_CHUNK = 32 * 1024
GZIP_MAGIC = b"\x1f\x8b"
"""RFC 1952, section 2.3.1."""
GZIP_FORMAT = 16 + zlib.MAX_WBITS
"""Tells zlib to expect the header and checksum of gzip."""
MAX_RECORD = 16 * 1024 * 1024
"""Bytes of one packet or block. Loopback and segmentation offload make packets of up to 512 KiB (kernel:
include/linux/netdevice.h, ``GSO_MAX_SIZE``); Wireshark's limit is 256 KiB (wiretap/wtap.h)."""


class Packet(NamedTuple):
    """One packet as it was captured."""

    ns: int
    """When, since the epoch; 0 where the file does not say, or nothing that can be."""
    link: int
    """LINKTYPE of the interface (https://www.tcpdump.org/linktypes.html)."""
    data: bytes
    size: int
    """Bytes on the wire; ``data`` is shorter where the capture kept only the beginning."""


class Source:
    """Reads ``file`` forwards, and never more at once than was asked for and a chunk.

    Attributes:
        damage: what is wrong with the gzip format around the capture; empty while nothing is.
    """

    def __init__(self, file: BinaryIO) -> None:
        # read1() gives what a pipe has; read() would wait until a whole chunk is there.
        self._read = getattr(file, "read1", file.read)
        self._packed = b""
        self._inflate: zlib._Decompress | None = None
        self.damage: str = ""
        self._first = self._more(b"", 2)
        if self._first[:2] == GZIP_MAGIC:
            self._packed, self._first = self._first, b""
            self._inflate = zlib.decompressobj(GZIP_FORMAT)

    def more(self, rest: bytes, need: int) -> bytes:
        """``rest`` and what follows it, at least ``need`` bytes together unless the file ends first."""
        rest, self._first = rest + self._first, b""
        return self._more(rest, need)

    def cut(self, ns: int, what: str, size: int) -> Problem:
        """The file ends in the middle of something, ``size`` bytes into it."""
        why, self.damage = self.damage and f"; {self.damage}", ""
        return Problem(ns, None, None, "capture", f"the file ends inside {what}{why}", size)

    def _more(self, rest: bytes, need: int) -> bytes:
        parts, have = [rest], len(rest)
        while have < need:
            chunk = self._read(CHUNK) if self._inflate is None else self._unpacked()
            if not chunk:
                break
            parts.append(chunk)
            have += len(chunk)
        return b"".join(parts) if len(parts) > 1 else rest

    def _unpacked(self) -> bytes:
        """The next bytes out of the gzip members, a chunk at most: a small file may unpack to a huge one."""
        assert self._inflate is not None
        while not self.damage:
            if not self._packed:
                self._packed = self._read(GZIP_CHUNK) or b""
                if not self._packed:
                    if not self._inflate.eof:
                        self.damage = "its gzip data is cut short"
                    break
            if self._inflate.eof:
                self._inflate = zlib.decompressobj(GZIP_FORMAT)  # one more member (RFC 1952, section 2.2)
            try:
                data = self._inflate.decompress(self._packed, CHUNK)
            except zlib.error as error:
                self.damage = f"its gzip data is damaged ({error})"
                break
            self._packed = self._inflate.unused_data if self._inflate.eof else self._inflate.unconsumed_tail
            if data:
                return data
        return b""
