"""CLIENT_SNAP, and the snap realms told there, in replies and with imported caps."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import msgspec

from cephwire.message import Message
from cephwire.schema import (
    BytesOf,
    Int32ul,
    Int64ul,
    LengthOf,
    Pass,
    Record,
    Repeat,
    Struct,
    UntilEnd,
    Utime,
    Versioned,
)

__all__ = ["CLIENT_SNAP", "SNAP_TRACE", "SNAP_TRACE_PLAIN", "ClientSnap", "SnapOp", "SnapRealm", "SnapTrace"]


class SnapOp(IntEnum):
    """ceph: src/include/ceph_fs.h, ``CEPH_SNAP_OP_*``."""

    UPDATE = 0
    """Snapshots came or went."""
    CREATE = 1
    DESTROY = 2
    """Realm ``split`` is no more."""
    SPLIT = 3
    """Realm ``split`` is new; the named inodes and realms move under it."""


class SnapRealm(msgspec.Struct, frozen=True, gc=False):
    """A directory tree, or one hard-linked file, with snapshots of its own or inherited from its parents."""

    ino: int
    created: int
    """snapid at which the realm was made."""
    parent: int
    """Inode of the realm it lies in; 0 at the top."""
    parent_since: int
    """snapid since which ``parent`` is the parent."""
    seq: int
    """Newest snapid the realm knows of: the seq of its snap context."""
    snaps: tuple[int, ...]
    """snapids of its own snapshots, newest first."""
    prior_parent_snaps: tuple[int, ...]
    """snapids inherited from parents it had before."""
    last_modified: int | None
    """Nanoseconds; None, as the next, in the plain form."""
    change_attr: int | None


class SnapTrace(msgspec.Struct, frozen=True, gc=False):
    """A realm and those around it."""

    realms: tuple[SnapRealm, ...]
    """The nearest first, the top last."""


_REALM: Final = (
    "ino" / Int64ul,
    "created" / Int64ul,
    "parent" / Int64ul,
    "parent_since" / Int64ul,
    "seq" / Int64ul,
    "num_snaps" / LengthOf("snaps"),
    "num_prior_parent_snaps" / LengthOf("prior_parent_snaps"),
    "snaps" / Repeat("num_snaps", Int64ul),
    "prior_parent_snaps" / Repeat("num_prior_parent_snaps", Int64ul),
)
"""``struct ceph_mds_snap_realm``, 48 bytes, and two lists (ceph: src/include/ceph_fs.h)."""

SNAP_TRACE: Final = Record(
    SnapTrace,
    Struct(
        "realms"
        / UntilEnd(Versioned(1, Record(SnapRealm, Struct(*_REALM, "last_modified" / Utime, "change_attr" / Int64ul))))
    ),
)
"""Where both sides have the client feature NEW_SNAPREALM_INFO (ceph: src/common/snap_types.h, ``SnapRealmInfoNew``)."""

SNAP_TRACE_PLAIN: Final = Record(
    SnapTrace,
    Struct("realms" / UntilEnd(Record(SnapRealm, Struct(*_REALM, "last_modified" / Pass, "change_attr" / Pass)))),
)
"""Everywhere else (ceph: src/common/snap_types.h, ``SnapRealmInfo``)."""


class ClientSnap(msgspec.Struct, frozen=True, gc=False):
    """MDS to client: the snapshots an inode's data must be written under have changed."""

    op: int
    """`SnapOp`."""
    split: int
    """Inode of the realm that is new or gone; 0 for UPDATE."""
    split_inos: tuple[int, ...]
    """Inodes that move to ``split``."""
    split_realms: tuple[int, ...]
    """Realms that move below ``split``."""
    trace: bytes
    """A snap trace: `SNAP_TRACE` or `SNAP_TRACE_PLAIN`, by the session's features."""


CLIENT_SNAP: Final = Message[ClientSnap](
    0x312,
    Record(
        ClientSnap,
        Struct(
            "op" / Int32ul,
            "split" / Int64ul,
            "num_split_inos" / LengthOf("split_inos"),
            "num_split_realms" / LengthOf("split_realms"),
            "trace_len" / LengthOf("trace"),
            "split_inos" / Repeat("num_split_inos", Int64ul),
            "split_realms" / Repeat("num_split_realms", Int64ul),
            "trace" / BytesOf("trace_len"),
        ),
    ),
)
"""``struct ceph_mds_snap_head``, 24 bytes, and what it counts (ceph: src/messages/MClientSnap.h)."""
