"""CLIENT_RECONNECT: all a client holds, told to a rank that has lost its memory."""

from __future__ import annotations

from typing import Final

import msgspec

from cephwire.filelock import FILE_LOCKS, FileLocks
from cephwire.message import Message
from cephwire.schema import Counted, Int8ul, Int32ul, Int64ul, Record, Since, Struct, Text, Versioned

__all__ = [
    "CLIENT_RECONNECT",
    "CapReconnect",
    "ClientReconnect",
    "ReconnectCap",
    "SnapRealmReconnect",
]


class CapReconnect(msgspec.Struct, frozen=True, gc=False):
    """One cap held from the rank."""

    path: str
    """Where the inode was last seen, from ``pathbase``; empty where that is the inode itself, as libcephfs sends it."""
    cap_id: int
    wanted: int
    issued: int
    """Bits held."""
    snaprealm: int
    """Inode of the snap realm."""
    pathbase: int
    flocks: FileLocks | None
    """None where the client has never locked the file."""
    snap_follows: int = 0
    """Oldest cap snap not yet flushed follows this snapid; 0 none. Since struct version 2."""


class ReconnectCap(msgspec.Struct, frozen=True, gc=False):
    """An inode and the cap on it."""

    ino: int
    cap: CapReconnect


class SnapRealmReconnect(msgspec.Struct, frozen=True, gc=False):
    """A snap realm the client knows."""

    ino: int
    seq: int
    """As the client knows it."""
    parent: int


class ClientReconnect(msgspec.Struct, frozen=True, gc=False):
    """Client to MDS, once the MDS map shows its rank in state reconnect; carried by the data segment."""

    caps: tuple[ReconnectCap, ...]
    """By inode number."""
    realms: tuple[SnapRealmReconnect, ...]
    more: int = 0
    """1 where another part follows (client feature MULTI_RECONNECT). Since version 5."""


CLIENT_RECONNECT: Final = Message[ClientReconnect](
    23,
    Record(
        ClientReconnect,
        Struct(
            "caps"
            / Counted(
                Record(
                    ReconnectCap,
                    Struct(
                        "ino" / Int64ul,
                        "cap"
                        / Versioned(
                            2,
                            Record(
                                CapReconnect,
                                Struct(
                                    "path" / Text,
                                    "cap_id" / Int64ul,
                                    "wanted" / Int32ul,
                                    "issued" / Int32ul,
                                    "snaprealm" / Int64ul,
                                    "pathbase" / Int64ul,
                                    "flocks" / FILE_LOCKS,
                                    "snap_follows" / Since(2, Int64ul),
                                ),
                            ),
                        ),
                    ),
                )
            ),
            "realms"
            / Counted(
                Versioned(
                    1,
                    Record(SnapRealmReconnect, Struct("ino" / Int64ul, "seq" / Int64ul, "parent" / Int64ul)),
                )
            ),
            "more" / Since(5, Int8ul),
        ),
    ),
    newest=5,
    compat=4,
    oldest=4,
    carrier="data",
)
"""``cap_reconnect_t`` and ``snaprealm_reconnect_t`` (ceph: src/messages/MClientReconnect.h, src/mds/mdstypes.h).

Versions before 4 are of clients without the connection feature MDSENC, 2012 and older.
"""
