"""CLIENT_QUOTA."""

from __future__ import annotations

from typing import Final

import msgspec

from cephwire.inode import QUOTA, Quota
from cephwire.message import Message
from cephwire.schema import Int64ul, Record, Struct, Utime

__all__ = ["CLIENT_QUOTA", "ClientQuota"]


class ClientQuota(msgspec.Struct, frozen=True, gc=False):
    """MDS to client: limits or use of a directory with a quota, when they have moved enough to matter."""

    ino: int
    rctime: int
    """Nanoseconds; recursive, as the next three."""
    rbytes: int
    rfiles: int
    rsubdirs: int
    quota: Quota


CLIENT_QUOTA: Final = Message[ClientQuota](
    0x314,
    Record(
        ClientQuota,
        Struct(
            "ino" / Int64ul,
            "rctime" / Utime,
            "rbytes" / Int64ul,
            "rfiles" / Int64ul,
            "rsubdirs" / Int64ul,
            "quota" / QUOTA,
        ),
    ),
)
"""ceph: src/messages/MClientQuota.h."""
