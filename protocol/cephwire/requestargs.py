"""The arguments of a CLIENT_REQUEST: 56 bytes whose layout is the op's.

All sizes and offsets are those of ``union ceph_mds_request_args_ext`` (ceph: src/include/ceph_fs.h).
"""

from __future__ import annotations

from enum import IntFlag
from typing import Final, TypeAlias

import msgspec

from cephwire.inode import FILE_LAYOUT, FileLayout
from cephwire.requestop import RequestOp
from cephwire.schema import (
    FixedSize,
    Int8ul,
    Int16ul,
    Int32sl,
    Int32ul,
    Int64ul,
    Pass,
    Record,
    Rest,
    Struct,
    Switch,
    Utime,
)

__all__ = [
    "REQUEST_ARGS",
    "BlockDiffArgs",
    "FileLockArgs",
    "GetattrArgs",
    "LookupInoArgs",
    "MkdirArgs",
    "MknodArgs",
    "OpenArgs",
    "OpenFlag",
    "ReaddirArgFlag",
    "ReaddirArgs",
    "RequestArgs",
    "SetattrArgs",
    "SetattrMask",
    "SetxattrArgs",
    "SetxattrFlag",
    "SnapDiffArgs",
]


class OpenFlag(IntFlag):
    """Flags of OPEN and CREATE: Linux's numbers on every platform (ceph: src/include/ceph_fs.h, ``CEPH_O_*``)."""

    RDONLY = 0
    WRONLY = 1
    RDWR = 2
    CREAT = 0o100
    EXCL = 0o200
    TRUNC = 0o1000
    LAZY = 0o20000
    DIRECTORY = 0o200000
    NOFOLLOW = 0o400000


class SetattrMask(IntFlag):
    """What SETATTR sets (ceph: src/include/ceph_fs.h, ``CEPH_SETATTR_*``)."""

    MODE = 1
    UID = 2
    GID = 4
    MTIME = 8
    ATIME = 16
    SIZE = 32
    CTIME = 64
    MTIME_NOW = 128
    ATIME_NOW = 256
    BTIME = 512
    KILL_SGUID = 1024
    FSCRYPT_AUTH = 2048
    FSCRYPT_FILE = 4096
    KILL_SUID = 8192
    KILL_SGID = 16384


class SetxattrFlag(IntFlag):
    """ceph: src/include/ceph_fs.h, ``CEPH_XATTR_*``."""

    CREATE = 1
    REPLACE = 2
    REMOVE2 = 1 << 30
    REMOVE = 1 << 31


class ReaddirArgFlag(IntFlag):
    """ceph: src/include/ceph_fs.h, ``CEPH_READDIR_*``."""

    REPLY_BITFLAGS = 1
    """The reply's flags are bits and not two booleans."""


class GetattrArgs(msgspec.Struct, frozen=True, gc=False):
    """GETATTR, LOOKUP and the other lookups."""

    mask: int
    """What must be valid in the reply (`cephwire.capbits.StatMask`); 0 asks only that it exists."""


class SetattrArgs(msgspec.Struct, frozen=True, gc=False):
    """SETATTR. Times in nanoseconds."""

    mode: int
    uid: int
    gid: int
    mtime: int
    atime: int
    size: int
    old_size: int
    mask: int
    """`SetattrMask`."""
    btime: int


class ReaddirArgs(msgspec.Struct, frozen=True, gc=False):
    """READDIR and LSSNAP."""

    frag: int
    max_entries: int
    """0 leaves it to the MDS."""
    max_bytes: int
    flags: int
    """`ReaddirArgFlag`."""
    offset_hash: int
    """24-bit hash to start from, where no last name is given."""


class SnapDiffArgs(msgspec.Struct, frozen=True, gc=False):
    """READDIR_SNAPDIFF: as READDIR, and the snapid to compare with."""

    frag: int
    max_entries: int
    max_bytes: int
    flags: int
    offset_hash: int
    snap_other: int


class MknodArgs(msgspec.Struct, frozen=True, gc=False):
    """MKNOD."""

    mode: int
    rdev: int


class MkdirArgs(msgspec.Struct, frozen=True, gc=False):
    """MKDIR and MKSNAP."""

    mode: int
    """With the file type's bits."""


class OpenArgs(msgspec.Struct, frozen=True, gc=False):
    """OPEN and CREATE. The layout's 0 and -1 leave it to the directory."""

    flags: int
    """`OpenFlag`."""
    mode: int
    stripe_unit: int
    stripe_count: int
    object_size: int
    pool: int
    mask: int
    """What must be valid in the reply."""
    old_size: int
    """Bytes; with TRUNC, the size the client knows."""


class SetxattrArgs(msgspec.Struct, frozen=True, gc=False):
    """SETXATTR."""

    flags: int
    """`SetxattrFlag`."""
    osdmap_epoch: int
    """OSD map the client has, for a layout that names a pool."""


class FileLockArgs(msgspec.Struct, frozen=True, gc=False):
    """SETFILELOCK and GETFILELOCK."""

    rule: int
    """`cephwire.filelock.LockRule`."""
    type: int
    """`cephwire.filelock.LockType`."""
    owner: int
    """As in `cephwire.filelock.FileLock`, and so the next three."""
    pid: int
    start: int
    length: int
    wait: int
    """1: answer once it is had."""


class LookupInoArgs(msgspec.Struct, frozen=True, gc=False):
    """LOOKUPINO."""

    mask: int
    snapid: int
    parent: int
    hash: int


class BlockDiffArgs(msgspec.Struct, frozen=True, gc=False):
    """FILE_BLOCKDIFF."""

    scan_idx: int
    """0 first, then from the reply."""
    max_objects: int


RequestArgs: TypeAlias = (
    GetattrArgs
    | SetattrArgs
    | ReaddirArgs
    | SnapDiffArgs
    | MknodArgs
    | MkdirArgs
    | OpenArgs
    | SetxattrArgs
    | FileLayout
    | FileLockArgs
    | LookupInoArgs
    | BlockDiffArgs
    | bytes
    | None
)
"""The arguments of any op: None where it has none, all 56 bytes where it is unknown."""

ARGS_SIZE: Final = 56

_NO_ARGS: Final = (
    RequestOp.LOOKUPHASH,
    RequestOp.GETVXATTR,
    RequestOp.RMXATTR,
    RequestOp.LINK,
    RequestOp.UNLINK,
    RequestOp.RENAME,
    RequestOp.RMDIR,
    RequestOp.SYMLINK,
    RequestOp.RMSNAP,
    RequestOp.RENAMESNAP,
)

_GETATTR: Final = Record(GetattrArgs, Struct("mask" / Int32ul))
_READDIR: Final = (
    "frag" / Int32ul,
    "max_entries" / Int32ul,
    "max_bytes" / Int32ul,
    "flags" / Int16ul,
    "offset_hash" / Int32ul,
)
_MKDIR: Final = Record(MkdirArgs, Struct("mode" / Int32ul))
_OPEN: Final = Record(
    OpenArgs,
    Struct(
        "flags" / Int32ul,
        "mode" / Int32ul,
        "stripe_unit" / Int32ul,
        "stripe_count" / Int32ul,
        "object_size" / Int32ul,
        "pool" / Int32sl,
        "mask" / Int32ul,
        "old_size" / Int64ul,
    ),
)
_FILELOCK: Final = Record(
    FileLockArgs,
    Struct(
        "rule" / Int8ul,
        "type" / Int8ul,
        "owner" / Int64ul,
        "pid" / Int64ul,
        "start" / Int64ul,
        "length" / Int64ul,
        "wait" / Int8ul,
    ),
)

REQUEST_ARGS: Final = FixedSize(
    ARGS_SIZE,
    Switch(
        "op",
        {
            **dict.fromkeys(_NO_ARGS, Pass),
            RequestOp.LOOKUP: _GETATTR,
            RequestOp.GETATTR: _GETATTR,
            RequestOp.LOOKUPPARENT: _GETATTR,
            RequestOp.LOOKUPNAME: _GETATTR,
            RequestOp.LOOKUPSNAP: _GETATTR,
            RequestOp.LOOKUPINO: Record(
                LookupInoArgs,
                Struct("mask" / Int32ul, "snapid" / Int64ul, "parent" / Int64ul, "hash" / Int32ul),
            ),
            RequestOp.GETFILELOCK: _FILELOCK,
            RequestOp.SETFILELOCK: _FILELOCK,
            RequestOp.OPEN: _OPEN,
            RequestOp.CREATE: _OPEN,
            RequestOp.READDIR: Record(ReaddirArgs, Struct(*_READDIR)),
            RequestOp.LSSNAP: Record(ReaddirArgs, Struct(*_READDIR)),
            RequestOp.READDIR_SNAPDIFF: Record(SnapDiffArgs, Struct(*_READDIR, "snap_other" / Int64ul)),
            RequestOp.FILE_BLOCKDIFF: Record(BlockDiffArgs, Struct("scan_idx" / Int64ul, "max_objects" / Int64ul)),
            RequestOp.SETXATTR: Record(SetxattrArgs, Struct("flags" / Int32ul, "osdmap_epoch" / Int32ul)),
            RequestOp.SETLAYOUT: FILE_LAYOUT,
            RequestOp.SETDIRLAYOUT: FILE_LAYOUT,
            RequestOp.SETATTR: Record(
                SetattrArgs,
                Struct(
                    "mode" / Int32ul,
                    "uid" / Int32ul,
                    "gid" / Int32ul,
                    "mtime" / Utime,
                    "atime" / Utime,
                    "size" / Int64ul,
                    "old_size" / Int64ul,
                    "mask" / Int32ul,
                    "btime" / Utime,
                ),
            ),
            RequestOp.MKNOD: Record(MknodArgs, Struct("mode" / Int32ul, "rdev" / Int32ul)),
            RequestOp.MKDIR: _MKDIR,
            RequestOp.MKSNAP: _MKDIR,
        },
        Rest,
    ),
)
"""By the ``op`` of the request around it; what a layout leaves of the 56 bytes is zero."""
