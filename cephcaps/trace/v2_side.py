"""One direction of a messenger v2 connection: where its frames are, and what is lost between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from cephcaps.messenger.framing import CompressedFrame, FrameReader
from cephcaps.messenger.secure import TamperedFrame
from cephcaps.trace.items import ProblemKind
from cephwire.codec import Codec
from cephwire.errors import MalformedMessage
from cephwire.frames import BANNER, BANNER_HEADER, BANNER_PREFIX, Banner, BannerFeature, BannerHeader

__all__ = ["Side"]

MAX_FRAME = 64 * 1024 * 1024
"""Bytes of a frame; what says it is longer is none."""
BANNER_HEADER_SIZE = len(BANNER_PREFIX) + 2
BANNER_SIZE = 16
MAX_BANNER = 4096

banners: Codec[Banner] = Codec(BANNER)
banner_headers: Codec[BannerHeader] = Codec(BANNER_HEADER)


class Side:
    """What one end sends.

    Attributes:
        to_daemon: as far as known.
        reader: what came and is not read yet.
        entity_type: of the sender, from HELLO.
        begun: its banner is behind it, or missed.
        missed: there was a gap.
        lost: where its next frame begins is not known.
        waits: nothing can be read until the other side, or another connection, tells how.
        sealed: it is in secure mode, and open.
        closed: nothing more of it can be read.
        unread: bytes that came since it was closed.
        silent: that was told for the whole connection.
    """

    __slots__ = (
        "_banner_size",
        "_compressed",
        "_compressed_size",
        "_tell",
        "_told",
        "begun",
        "closed",
        "entity_type",
        "lost",
        "missed",
        "reader",
        "sealed",
        "silent",
        "to_daemon",
        "unread",
        "waits",
    )

    def __init__(self, to_daemon: bool, tell: Tell) -> None:
        self.to_daemon: bool = to_daemon
        self.reader: FrameReader = FrameReader()
        self.reader.transcript = None
        self.reader.limit = MAX_FRAME
        self.entity_type: int | None = None
        self.begun: bool = False
        self.missed: bool = False
        self.lost: bool = False
        self.waits: bool = False
        self.sealed: bool = False
        self.closed: bool = False
        self.silent: bool = False
        self.unread: int = 0
        self._tell = tell
        self._banner_size = -1
        self._told = 0  # of what its reader skipped
        self._compressed = self._compressed_size = 0

    def find(self, ns: int) -> bool:
        """Come to where a frame begins, or will; False while that is not known."""
        if not self.begun and not self._read_banner(ns):
            return False
        if not self.lost or self.closed:
            return not self.closed
        if not self.reader.resume():
            return False
        self.lost = False
        if skipped := self._skipped():
            self._tell(self, ns, "skipped", f"{skipped} bytes were passed over up to the next frame", skipped)
        return True

    @property
    def searched(self) -> int:
        """Bytes passed over since it was lost."""
        return self.reader.skipped - self._told

    def failed(self, error: MalformedMessage, ns: int) -> bool:
        """Tell what is wrong with a frame; True if another can be read."""
        if isinstance(error, TamperedFrame):
            self._tell(self, ns, "tampered", f"{error}; nothing after it can be read until the next connection", 0)
            self.closed = True
            return False
        size = self._skipped()
        if isinstance(error, CompressedFrame):
            self._compressed += 1
            self._compressed_size += size
            return True
        self._tell(self, ns, "malformed", str(error), size)
        if self.sealed:
            self.closed = True
            return False
        self.lost = True
        return self.find(ns)

    def miss(self, size: int | None, ns: int) -> None:
        """Bytes are missing here; with them is lost what of a frame came before them."""
        self.missed = True
        if self.closed:
            self.unread += size or 0
            return
        what = f"{size} bytes are missing" if size else "bytes are missing"
        if size is None and not self.begun:
            what = "its beginning was not captured"
        if self.sealed:
            self.closed = True
            what += "; in secure mode nothing after them can be read until the next connection"
        else:
            if unread := self.reader.waiting:
                what += f", and the {unread} before them are of no use without"
            self.reader.missed(size)
            self.begun = self.lost = True
        self._tell(self, ns, "gap", what, size or 0)

    def end(self, ns: int) -> None:
        """Tell of what is left."""
        waiting = self.reader.waiting
        if self._compressed:
            what = f"{self._compressed} compressed frames were passed over"
            self._tell(self, ns, "skipped", what, self._compressed_size)
        if self.unread and not self.silent:
            self._tell(self, ns, "sealed", f"the last {self.unread} bytes cannot be read", self.unread)
        if self.closed:
            return
        self.closed = True
        if self.lost and (passed := self.searched + waiting):
            self._tell(self, ns, "skipped", f"{passed} bytes were passed over, and no frame follows", passed)
        elif waiting and not self.lost:
            self._tell(self, ns, "gap", f"the stream ends within a frame, after {waiting} bytes of it", waiting)

    def _read_banner(self, ns: int) -> bool:
        reader = self.reader
        if self._banner_size < 0:
            head = reader.take(BANNER_HEADER_SIZE)
            if head is None:
                return False
            if head.startswith(BANNER_PREFIX):
                self._banner_size = banner_headers.decode(head).payload_len
            if not BANNER_SIZE <= self._banner_size <= MAX_BANNER:
                self._tell(self, ns, "malformed", f"no banner of messenger v2: it begins with {head!r}", len(head))
                self.begun = self.lost = True
                return True
        payload = reader.take(self._banner_size)
        if payload is None:
            return False
        self.begun = True
        if not banners.decode(payload, None).supported & BannerFeature.REVISION_1:
            what = "messenger 2.0, of Ceph before 14.2.11, whose frames are different ones and not read"
            self._tell(self, ns, "malformed", what, 0)
            self.closed = True
        return True

    def _skipped(self) -> int:
        """Bytes passed over that were not told yet."""
        skipped = self.searched
        self._told += skipped
        return skipped


Tell: TypeAlias = Callable[[Side, int, ProblemKind, str, int], None]
"""Takes whose problem it is, when, what kind, what and its size."""
