"""Messenger v2.1: the banner, the parts every frame is made of, and the header of messages.

Checksums, encryption and the order of things are the messenger's; here are only the layouts. A frame is a preamble, one
to four segments and, if it has more than one segment, an epilogue. Control frames have one segment, which
`cephwire.control` describes. Sources: ceph: src/msg/async/frames_v2.h, doc/dev/msgr2.rst; kernel:
net/ceph/messenger_v2.c. Seen on the wire with Ceph 16.2, 18.2 and 20.2.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final

import msgspec

from cephwire.schema import (
    Const,
    Int8ul,
    Int16ul,
    Int32ul,
    Int64ul,
    Padding,
    Record,
    Struct,
)

__all__ = [
    "BANNER",
    "BANNER_HEADER",
    "BANNER_PREFIX",
    "EPILOGUE_CRC",
    "EPILOGUE_SECURE",
    "FRAME_COMPRESSED",
    "LATE_STATUS_MASK",
    "MAX_SEGMENTS",
    "MESSAGE_HEADER",
    "PREAMBLE",
    "Banner",
    "BannerFeature",
    "BannerHeader",
    "EpilogueCrc",
    "EpilogueSecure",
    "LateStatus",
    "MessageFlag",
    "MessageHeader",
    "Preamble",
    "Priority",
    "Tag",
]


class Tag(IntEnum):
    """What a frame is (ceph: src/msg/async/frames_v2.h, ``enum class Tag``)."""

    HELLO = 1
    AUTH_REQUEST = 2
    AUTH_BAD_METHOD = 3
    AUTH_REPLY_MORE = 4
    AUTH_REQUEST_MORE = 5
    AUTH_DONE = 6
    AUTH_SIGNATURE = 7
    CLIENT_IDENT = 8
    SERVER_IDENT = 9
    IDENT_MISSING_FEATURES = 10
    SESSION_RECONNECT = 11
    SESSION_RESET = 12
    SESSION_RETRY = 13
    SESSION_RETRY_GLOBAL = 14
    SESSION_RECONNECT_OK = 15
    WAIT = 16
    MESSAGE = 17
    KEEPALIVE2 = 18
    KEEPALIVE2_ACK = 19
    ACK = 20
    COMPRESSION_REQUEST = 21
    COMPRESSION_DONE = 22


class BannerFeature(IntFlag):
    """``CEPH_MSGR2_FEATURE_*`` (ceph: src/include/msgr.h)."""

    REVISION_1 = 1
    """Messenger 2.1: everything here; without it the peer frames differently."""
    COMPRESSION = 2
    """If both announce it the client must send COMPRESSION_REQUEST before its ident (18.2 and later)."""


class LateStatus(IntEnum):
    """Low four bits of an epilogue's ``late_status``: what became of the frame while it was being sent."""

    ABORTED = 0x1
    """The sender gave it up: read it to its end, then forget it."""
    COMPLETE = 0xE


class MessageFlag(IntFlag):
    """``CEPH_MSG_FOOTER_*`` (ceph: src/include/msgr.h)."""

    COMPLETE = 1
    NOCRC = 2
    """The data segment has no checksum of its own."""
    SIGNED = 4
    """Messenger v1 only."""


class Priority(IntEnum):
    """``CEPH_MSG_PRIO_*`` (ceph: src/include/msgr.h)."""

    LOW = 64
    DEFAULT = 127
    HIGH = 196
    HIGHEST = 255


LATE_STATUS_MASK: Final = 0xF
FRAME_COMPRESSED: Final = 1
"""In a preamble's ``flags``."""
MAX_SEGMENTS: Final = 4

BANNER_PREFIX: Final = b"ceph v2\n"


class BannerHeader(msgspec.Struct, frozen=True, gc=False):
    """The first ten bytes each side sends."""

    payload_len: int
    """Bytes of `Banner` that follow: 16, or more from a newer peer."""


BANNER_HEADER: Final = Record(BannerHeader, Struct("prefix" / Const(BANNER_PREFIX), "payload_len" / Int16ul))
"""10 bytes. A messenger v1 port answers ``ceph v027`` instead."""


class Banner(msgspec.Struct, frozen=True, gc=False):
    """What messenger revisions a side supports, and what it wants of the other; `BannerFeature` bits."""

    supported: int
    required: int


BANNER: Final = Record(Banner, Struct("supported" / Int64ul, "required" / Int64ul))
"""16 bytes; what a longer payload adds is not read."""


class Preamble(msgspec.Struct, frozen=True, gc=False):
    """What a frame is and how long its segments are. Lengths are without padding, even where segments are padded."""

    tag: int
    num_segments: int
    """1 to 4; empty segments at the end are not counted."""
    length0: int
    alignment0: int
    """A hint: 8, and 4096 for data."""
    length1: int
    alignment1: int
    length2: int
    alignment2: int
    length3: int
    alignment3: int
    flags: int
    """`FRAME_COMPRESSED` or 0."""
    crc: int
    """Of the 28 bytes before it; raw CRC-32C that starts from 0."""

    @property
    def lengths(self) -> tuple[int, ...]:
        """The segments' lengths."""
        return (self.length0, self.length1, self.length2, self.length3)[: self.num_segments]


PREAMBLE: Final = Record(
    Preamble,
    Struct(
        "tag" / Int8ul,
        "num_segments" / Int8ul,
        "length0" / Int32ul,
        "alignment0" / Int16ul,
        "length1" / Int32ul,
        "alignment1" / Int16ul,
        "length2" / Int32ul,
        "alignment2" / Int16ul,
        "length3" / Int32ul,
        "alignment3" / Int16ul,
        "flags" / Int8ul,
        Padding(1),
        "crc" / Int32ul,
    ),
)
"""``preamble_block_t``, 32 bytes."""


class EpilogueCrc(msgspec.Struct, frozen=True, gc=False):
    """The end of a frame of several segments in crc mode; the first segment's crc follows that segment itself."""

    late_status: int
    crc1: int
    """Raw CRC-32C of segment 1 that starts from 0xffffffff, which is also what an empty segment gives; 0 beyond the
    frame's last segment."""
    crc2: int
    crc3: int


EPILOGUE_CRC: Final = Record(
    EpilogueCrc, Struct("late_status" / Int8ul, "crc1" / Int32ul, "crc2" / Int32ul, "crc3" / Int32ul)
)
"""``epilogue_crc_rev1_block_t``, 13 bytes."""


class EpilogueSecure(msgspec.Struct, frozen=True, gc=False):
    """The end of a frame of several segments in secure mode, encrypted with them."""

    late_status: int


EPILOGUE_SECURE: Final = Record(EpilogueSecure, Struct("late_status" / Int8ul, Padding(15)))
"""``epilogue_secure_rev1_block_t``, padded to one cipher block: 16 bytes."""


class MessageHeader(msgspec.Struct, frozen=True, gc=False):
    """Segment 0 of a MESSAGE frame; front, middle and data are the segments after it."""

    seq: int
    """Counts the messages of this direction of the session, from 1; an old one is a duplicate."""
    tid: int
    """Pairs replies with requests; 0 if unused."""
    type: int
    """Number of the message type."""
    priority: int
    """A `Priority`."""
    version: int
    """Of the layout."""
    data_pre_padding_len: int
    data_off: int
    """Where the data would like to be in a page; a hint."""
    ack_seq: int
    """Newest message received from the peer: an `Ack` on the way."""
    flags: int
    """`MessageFlag` bits; clients send COMPLETE."""
    compat_version: int
    """Oldest layout version a receiver must know to understand it."""


MESSAGE_HEADER: Final = Record(
    MessageHeader,
    Struct(
        "seq" / Int64ul,
        "tid" / Int64ul,
        "type" / Int16ul,
        "priority" / Int16ul,
        "version" / Int16ul,
        "data_pre_padding_len" / Int32ul,
        "data_off" / Int16ul,
        "ack_seq" / Int64ul,
        "flags" / Int8ul,
        "compat_version" / Int16ul,
        Padding(2),
    ),
)
"""``struct ceph_msg_header2``, 41 bytes (ceph: src/include/msgr.h)."""
