"""CLIENT_CAPS: capabilities of one inode granted, revoked, flushed and moved between ranks."""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final

import msgspec

from cephwire.inode import FILE_LAYOUT, FileLayout
from cephwire.message import Message
from cephwire.schema import (
    Blob,
    BytesOf,
    FixedSize,
    Int8ul,
    Int32sl,
    Int32ul,
    Int64ul,
    LengthOf,
    Pass,
    Record,
    Segment,
    Since,
    Struct,
    Switch,
    Text,
    Utime,
)

__all__ = [
    "BODY_SIZE",
    "CAP_BODY",
    "CAP_PEER",
    "CLIENT_CAPS",
    "NOT_GIVEN",
    "CapBody",
    "CapFlag",
    "CapOp",
    "CapPeer",
    "ClientCaps",
    "ClientCapsFlag",
]

NOT_GIVEN: Final = 2**64 - 1
"""``nfiles`` and ``nsubdirs`` where the sender does not tell."""


class CapOp(IntEnum):
    """ceph: src/include/ceph_fs.h, ``CEPH_CAP_OP_*``."""

    GRANT = 0
    """MDS to client, as the next four."""
    REVOKE = 1
    TRUNC = 2
    EXPORT = 3
    IMPORT = 4
    UPDATE = 5
    """Client to MDS, as the next two."""
    DROP = 6
    FLUSH = 7
    FLUSH_ACK = 8
    """MDS to client."""
    FLUSHSNAP = 9
    """Client to MDS."""
    FLUSHSNAP_ACK = 10
    """MDS to client."""
    RELEASE = 11
    """Client to MDS, as the next."""
    RENEW = 12


class CapFlag(IntFlag):
    """What a rank says of a cap (ceph: src/include/ceph_fs.h, ``CEPH_CAP_FLAG_*``)."""

    AUTH = 1
    """The rank is the inode's authority: flushes go there."""
    RELEASE = 2


class ClientCapsFlag(IntFlag):
    """ceph: src/messages/MClientCaps.h, ``FLAG_*``."""

    SYNC = 1
    """The client waits for the flush: journal it now."""
    NO_CAPSNAP = 2
    """No FLUSHSNAP is outstanding."""
    PENDING_CAPSNAP = 4
    """More FLUSHSNAPs follow."""


class CapPeer(msgspec.Struct, frozen=True, gc=False):
    """The other end of a cap that migrates between ranks.

    In an EXPORT it is the cap that the importing rank makes, in an IMPORT the exporter's old one; all zero where
    that is unknown.
    """

    cap_id: int
    issue_seq: int
    mseq: int
    mds: int
    """Rank."""
    flags: int
    """`CapFlag`."""


CAP_PEER: Final = Record(
    CapPeer,
    Struct("cap_id" / Int64ul, "issue_seq" / Int32ul, "mseq" / Int32ul, "mds" / Int32sl, "flags" / Int8ul),
)
"""``struct ceph_mds_cap_peer``, 21 bytes (ceph: src/include/ceph_fs.h)."""


class CapBody(msgspec.Struct, frozen=True, gc=False):
    """The file's metadata, which FILE caps cover. All zero in a FLUSH_ACK. Times in nanoseconds."""

    size: int
    """Bytes."""
    max_size: int
    """Bytes. MDS: up to where the client may write. Client: up to where it would like to; 0 asks nothing."""
    truncate_size: int
    """Bytes left by truncation ``truncate_seq``; 2**64 - 1 before the first."""
    truncate_seq: int
    mtime: int
    atime: int
    ctime: int
    layout: FileLayout
    time_warp_seq: int
    """Raised when a client sets mtime or atime back."""


CAP_BODY: Final = Record(
    CapBody,
    Struct(
        "size" / Int64ul,
        "max_size" / Int64ul,
        "truncate_size" / Int64ul,
        "truncate_seq" / Int32ul,
        "mtime" / Utime,
        "atime" / Utime,
        "ctime" / Utime,
        "layout" / FILE_LAYOUT,
        "time_warp_seq" / Int32ul,
    ),
)
"""``struct ceph_mds_caps_non_export_body``, 84 bytes (ceph: src/include/ceph_fs.h)."""

BODY_SIZE: Final = 84
"""Bytes between head and tail, whatever the op."""


class ClientCaps(msgspec.Struct, frozen=True, gc=False):
    """Both ways: the caps of inode ``ino`` between one client and one rank.

    The header's tid is the client's flush tid: set by a flush with dirty bits and by FLUSHSNAP, and given back by the
    acknowledgements; else 0.
    """

    op: int
    """`CapOp`."""
    ino: int
    realm: int
    """Inode of the snap realm; 0 in a client's UPDATE."""
    cap_id: int
    """The MDS's number for this cap; 0 in FLUSHSNAP and its acknowledgement."""
    seq: int
    """Raised by the MDS with every grant and revoke; the client returns the last it has seen."""
    issue_seq: int
    """From a client: seq of the last reply or IMPORT that carried the cap. From an MDS before Tentacle always 0."""
    caps: int
    """From an MDS: bits now issued. From a client: bits it still holds."""
    wanted: int
    dirty: int
    """Bits flushed, or whose flush is acknowledged."""
    mseq: int
    """How often the cap has migrated (``migrate_seq``)."""
    snap_follows: int
    """Newest snapid the client's data follows; names the cap snap in FLUSHSNAP and its acknowledgement."""
    uid: int
    gid: int
    mode: int
    """st_mode, file type and all."""
    nlink: int
    xattr_version: int
    body: CapBody | CapPeer
    """`CapPeer` for EXPORT, `CapBody` for every other op."""
    snap_trace: bytes
    """With IMPORT: `cephwire.snap.SNAP_TRACE` or its plain form, by the session's features."""
    xattrs: bytes
    """The middle segment: empty where none are given, else a `cephwire.inode.XATTR_BLOB`."""
    flock: bytes = b""
    """Never used. Since version 2."""
    peer: CapPeer | None = None
    """With IMPORT. Since version 3."""
    inline_version: int = 0
    """0 says nothing, INLINE_NONE that there is no inline data. Since version 4, as the next."""
    inline_data: bytes = b""
    osd_epoch_barrier: int = 0
    """OSD map epoch needed before the caps are used for data. Since version 5."""
    oldest_flush_tid: int = 0
    """Client: the oldest flush not yet acknowledged, 0 none; the acknowledgement returns it. Since version 6."""
    caller_uid: int = 0
    """Since version 7, as the next; 2**32 - 1 is nobody in particular."""
    caller_gid: int = 0
    pool_ns: str = ""
    """RADOS namespace of the layout. Since version 8."""
    btime: int = 0
    """Since version 9, as the next."""
    change_attr: int = 0
    flags: int = 0
    """`ClientCapsFlag`. Since version 10."""
    nfiles: int = 0
    """Of a directory, from an MDS: entries that are no directories, or `NOT_GIVEN`. Since version 11, as the next."""
    nsubdirs: int = 0
    fscrypt_auth: bytes = b""
    """Since version 12, as the next."""
    fscrypt_file: bytes = b""


CLIENT_CAPS: Final = Message[ClientCaps](
    0x310,
    Record(
        ClientCaps,
        Struct(
            "op" / Int32ul,
            "ino" / Int64ul,
            "realm" / Int64ul,
            "cap_id" / Int64ul,
            "seq" / Int32ul,
            "issue_seq" / Int32ul,
            "caps" / Int32ul,
            "wanted" / Int32ul,
            "dirty" / Int32ul,
            "mseq" / Int32ul,
            "snap_follows" / Int64ul,
            "snap_trace_len" / LengthOf("snap_trace"),
            "uid" / Int32ul,
            "gid" / Int32ul,
            "mode" / Int32ul,
            "nlink" / Int32ul,
            "xattr_len" / LengthOf("xattrs"),
            "xattr_version" / Int64ul,
            "body" / Switch("op", {CapOp.EXPORT: FixedSize(BODY_SIZE, CAP_PEER)}, CAP_BODY),
            "snap_trace" / BytesOf("snap_trace_len"),
            "xattrs" / Segment("middle", length="xattr_len"),
            "flock" / Since(2, Blob),
            "peer" / Since(3, Switch("op", {CapOp.IMPORT: CAP_PEER}, Pass)),
            "inline_version" / Since(4, Int64ul),
            "inline_data" / Since(4, Blob),
            "osd_epoch_barrier" / Since(5, Int32ul),
            "oldest_flush_tid" / Since(6, Int64ul),
            "caller_uid" / Since(7, Int32ul),
            "caller_gid" / Since(7, Int32ul),
            "pool_ns" / Since(8, Text),
            "btime" / Since(9, Utime),
            "change_attr" / Since(9, Int64ul),
            "flags" / Since(10, Int32ul),
            "nfiles" / Since(11, Int64ul),
            "nsubdirs" / Since(11, Int64ul),
            "fscrypt_auth" / Since(12, Blob),
            "fscrypt_file" / Since(12, Blob),
        ),
    ),
    newest=12,
)
"""``struct ceph_mds_caps_head``, 92 bytes, the body of 84, and a tail that has grown with versions.

Pacific writes version 11, Reef and Tentacle 12 (ceph: src/messages/MClientCaps.h, src/include/ceph_fs.h).
"""
