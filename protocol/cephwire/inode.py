"""An inode, a directory and a dentry lease as an MDS tells of them in a reply.

These are the forms of sessions with the client feature REPLY_ENCODING, which every Ceph since Nautilus has. Without it
the same fields come with no version and no length, and connection feature bits say which of them are there.
"""

from __future__ import annotations

from typing import Final

import msgspec

from cephwire.schema import (
    Blob,
    Counted,
    Filled,
    Int8ul,
    Int16ul,
    Int32sl,
    Int32ul,
    Int64sl,
    Int64ul,
    Map,
    Padding,
    Record,
    Since,
    Struct,
    Switch,
    Text,
    Utime,
    Versioned,
)

__all__ = [
    "DIR_STAT",
    "FILE_LAYOUT",
    "INLINE_NONE",
    "INODE_STAT",
    "ISSUED_CAP",
    "LEASE_STAT",
    "NOSNAP",
    "QUOTA",
    "SNAPDIR",
    "UNKNOWN_VERSIONED",
    "XATTRS",
    "XATTR_BLOB",
    "Charmap",
    "DirStat",
    "FileLayout",
    "FragSplit",
    "InodeStat",
    "IssuedCap",
    "LeaseStat",
    "OptMetadata",
    "Quota",
    "UnknownVersioned",
    "XattrBlob",
]

NOSNAP: Final = 2**64 - 2
"""snapid of what is live (ceph: ``CEPH_NOSNAP``)."""
SNAPDIR: Final = 2**64 - 1
"""snapid of a ``.snap`` directory (ceph: ``CEPH_SNAPDIR``)."""
INLINE_NONE: Final = 2**64 - 1
"""inline_version of a file whose data is not inline (ceph: ``CEPH_INLINE_NONE``)."""


class FileLayout(msgspec.Struct, frozen=True, gc=False):
    """How a file's data is cut into objects. All zero on a directory that has none of its own."""

    stripe_unit: int
    """Bytes."""
    stripe_count: int
    object_size: int
    """Bytes."""
    cas_hash: int
    """Never used, 0."""
    object_stripe_unit: int
    """Never used, 0."""
    pg_preferred: int
    """No longer used: 0, of old -1."""
    pool_id: int


FILE_LAYOUT: Final = Record(
    FileLayout,
    Struct(
        "stripe_unit" / Int32ul,
        "stripe_count" / Int32ul,
        "object_size" / Int32ul,
        "cas_hash" / Int32ul,
        "object_stripe_unit" / Int32ul,
        "pg_preferred" / Int32sl,
        "pool_id" / Int32sl,
    ),
)
"""``struct ceph_file_layout``, 28 bytes; the pool's namespace travels apart (ceph: src/include/ceph_fs.h)."""


class Quota(msgspec.Struct, frozen=True, gc=False):
    """The limits set on a directory; 0 is none."""

    max_bytes: int
    max_files: int


QUOTA: Final = Versioned(1, Record(Quota, Struct("max_bytes" / Int64sl, "max_files" / Int64sl)))
"""``quota_info_t`` (ceph: src/mds/mdstypes.h)."""

XATTRS: Final = Map(Text, Blob)
"""Extended attributes, in the order of their names (ceph: src/messages/MClientReply.h, ``InodeStat::xattrbl``)."""


class XattrBlob(msgspec.Struct, frozen=True, gc=False):
    """The extended attributes that come in the middle segment of a CLIENT_CAPS."""

    xattrs: dict[str, bytes]


XATTR_BLOB: Final = Record(XattrBlob, Struct("xattrs" / XATTRS))
"""`XATTRS` by itself; an empty segment is none given and not this."""


class IssuedCap(msgspec.Struct, frozen=True, gc=False):
    """The capability that a reply issues with an inode.

    For an inode in a snapshot ``wanted`` and ``cap_id`` are left over memory: only ``caps`` is to be read.
    """

    caps: int
    """Bits now issued (`cephwire.capbits.Cap`)."""
    wanted: int
    cap_id: int
    """0 is no cap."""
    seq: int
    mseq: int
    realm: int
    """Inode number of the snap realm."""
    flags: int
    """`cephwire.caps.CapFlag`."""


ISSUED_CAP: Final = Record(
    IssuedCap,
    Struct(
        "caps" / Int32ul,
        "wanted" / Int32ul,
        "cap_id" / Int64ul,
        "seq" / Int32ul,
        "mseq" / Int32ul,
        "realm" / Int64ul,
        "flags" / Int8ul,
    ),
)
"""``struct ceph_mds_reply_cap``, 33 bytes (ceph: src/include/ceph_fs.h)."""


class FragSplit(msgspec.Struct, frozen=True, gc=False):
    """One split fragment of a directory's tree (see `cephwire.frag`)."""

    frag: int
    by: int
    """Number of bits: it has 2**by parts."""


class Charmap(msgspec.Struct, frozen=True, gc=False):
    """How names in a directory are compared."""

    casesensitive: int
    normalization: str
    encoding: str


class UnknownVersioned(msgspec.Struct, frozen=True, gc=False):
    """A versioned structure of a kind this code does not know."""

    struct_version: int
    compat: int
    body: bytes


class OptMetadata(msgspec.Struct, frozen=True, gc=False):
    """One optional part of an inode's metadata."""

    kind: int
    """1 is a `Charmap`."""
    value: Charmap | UnknownVersioned


CHARMAP: Final = Versioned(
    1, Record(Charmap, Struct("casesensitive" / Int8ul, "normalization" / Text, "encoding" / Text))
)
"""ceph: src/mds/mdstypes.h, ``charmap_md_t``; Tentacle."""

UNKNOWN_VERSIONED: Final = Record(UnknownVersioned, Struct("struct_version" / Int8ul, "compat" / Int8ul, "body" / Blob))

OPTMETADATA: Final = Versioned(
    1,
    Counted(Record(OptMetadata, Struct("kind" / Int64ul, "value" / Switch("kind", {1: CHARMAP}, UNKNOWN_VERSIONED)))),
)
"""ceph: src/mds/mdstypes.h, ``optmetadata_multiton``; Tentacle."""


class InodeStat(msgspec.Struct, frozen=True, gc=False):
    """All an MDS says of an inode, and the capability it issues with that. Times in nanoseconds."""

    ino: int
    snapid: int
    """`NOSNAP` where it is live."""
    rdev: int
    version: int
    xattr_version: int
    cap: IssuedCap
    layout: FileLayout
    ctime: int
    mtime: int
    atime: int
    time_warp_seq: int
    """Raised when a client sets mtime or atime back."""
    size: int
    """Bytes; 0 for a directory."""
    max_size: int
    """Bytes up to which the client may write."""
    truncate_size: int
    """Bytes left by truncation ``truncate_seq``; 2**64 - 1 before the first."""
    truncate_seq: int
    mode: int
    """st_mode, file type and all."""
    uid: int
    gid: int
    nlink: int
    files: int
    """Of a directory: entries that are no directories."""
    subdirs: int
    rbytes: int
    """Of a directory: recursive, as the next three."""
    rfiles: int
    rsubdirs: int
    rctime: int
    fragtree: tuple[FragSplit, ...]
    symlink: str
    dir_hash: int
    """Hash that places the names; 2 is `cephwire.frag.dentry_hash`."""
    xattrs: dict[str, bytes] | None
    """None where the MDS gives none, which says nothing of whether there are any."""
    inline_version: int
    inline_data: bytes
    quota: Quota
    pool_ns: str
    """RADOS namespace of the layout."""
    btime: int
    change_attr: int
    export_pin: int = -1
    """Rank the directory is pinned to, -1 none. Since version 2."""
    snap_btime: int = 0
    """When the snapshot was made. Since version 3."""
    rsnaps: int = 0
    """Snapshots below, recursive. Since version 4."""
    snap_metadata: dict[str, str] = {}
    """Since version 5."""
    fscrypt: int = 0
    """1 where the inode is encrypted. Since version 6."""
    fscrypt_auth: bytes = b""
    """Since version 7, as the next."""
    fscrypt_file: bytes = b""
    optmetadata: tuple[OptMetadata, ...] = ()
    """Since version 8."""
    subvolume_id: int = 0
    """Since version 9."""


INODE_STAT: Final = Versioned(
    9,
    Record(
        InodeStat,
        Struct(
            "ino" / Int64ul,
            "snapid" / Int64ul,
            "rdev" / Int32ul,
            "version" / Int64ul,
            "xattr_version" / Int64ul,
            "cap" / ISSUED_CAP,
            "layout" / FILE_LAYOUT,
            "ctime" / Utime,
            "mtime" / Utime,
            "atime" / Utime,
            "time_warp_seq" / Int32ul,
            "size" / Int64ul,
            "max_size" / Int64ul,
            "truncate_size" / Int64ul,
            "truncate_seq" / Int32ul,
            "mode" / Int32ul,
            "uid" / Int32ul,
            "gid" / Int32ul,
            "nlink" / Int32ul,
            "files" / Int64ul,
            "subdirs" / Int64ul,
            "rbytes" / Int64ul,
            "rfiles" / Int64ul,
            "rsubdirs" / Int64ul,
            "rctime" / Utime,
            "fragtree" / Counted(Record(FragSplit, Struct("frag" / Int32ul, "by" / Int32sl))),
            "symlink" / Text,
            "dir_hash" / Int8ul,
            Padding(7),
            "xattrs" / Filled(XATTRS),
            "inline_version" / Int64ul,
            "inline_data" / Blob,
            "quota" / QUOTA,
            "pool_ns" / Text,
            "btime" / Utime,
            "change_attr" / Int64ul,
            "export_pin" / Since(2, Int32sl),
            "snap_btime" / Since(3, Utime),
            "rsnaps" / Since(4, Int64ul),
            "snap_metadata" / Since(5, Map(Text, Text)),
            "fscrypt" / Since(6, Int8ul),
            "fscrypt_auth" / Since(7, Blob),
            "fscrypt_file" / Since(7, Blob),
            "optmetadata" / Since(8, OPTMETADATA),
            "subvolume_id" / Since(9, Int64ul),
        ),
    ),
    writes=8,
)
"""``InodeStat``: Pacific writes version 6, Reef 7, Tentacle 8 (ceph: src/messages/MClientReply.h)."""


class DirStat(msgspec.Struct, frozen=True, gc=False):
    """Who looks after a directory fragment."""

    frag: int
    auth: int
    """Rank; -1 is not told."""
    replicas: tuple[int, ...]
    """Ranks."""


DIR_STAT: Final = Versioned(
    1, Record(DirStat, Struct("frag" / Int32ul, "auth" / Int32sl, "replicas" / Counted(Int32sl)))
)
"""``DirStat`` (ceph: src/messages/MClientReply.h)."""


class LeaseStat(msgspec.Struct, frozen=True, gc=False):
    """The lease on a directory entry. All zero is none: none is needed under FILE_SHARED on the directory."""

    mask: int
    """3 has a lease; 4 is set for an inode's primary link."""
    duration_ms: int
    """2**32 - 1 for names of snapshots."""
    seq: int
    alternate_name: bytes = b""
    """Since version 2."""


LEASE_STAT: Final = Versioned(
    2,
    Record(
        LeaseStat,
        Struct(
            "mask" / Int16ul,
            "duration_ms" / Int32ul,
            "seq" / Int32ul,
            "alternate_name" / Since(2, Blob),
        ),
    ),
)
"""``LeaseStat`` (ceph: src/messages/MClientReply.h)."""
