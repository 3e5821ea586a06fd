"""What a CLIENT_REQUEST can ask for."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

__all__ = ["WRITE_OPS", "RequestOp"]

WRITE_OPS: Final = 0x1000
"""The bit of every op that changes something (ceph: ``CEPH_MDS_OP_WRITE``)."""


class RequestOp(IntEnum):
    """What is asked for; "path 1" and "path 2" are `ClientRequest.path` and ``path2``.

    Where only a directory is named, path 1 is (its inode, ""). Ceph: src/include/ceph_fs.h, ``CEPH_MDS_OP_*``.
    """

    LOOKUP = 0x100
    GETATTR = 0x101
    LOOKUPHASH = 0x102
    LOOKUPPARENT = 0x103
    LOOKUPINO = 0x104
    LOOKUPNAME = 0x105
    """Path 1 the inode, path 2 its directory."""
    GETVXATTR = 0x106
    """Path 2 (0, name)."""
    GETFILELOCK = 0x110
    OPEN = 0x302
    READDIR = 0x305
    """Path 2 (0, last name had), or empty."""
    LOOKUPSNAP = 0x400
    """Path 1 (directory, "/snapshot"), as of every op on one snapshot."""
    LSSNAP = 0x402
    SETXATTR = 0x1105
    """Path 2 (0, name), the value in ``data``."""
    RMXATTR = 0x1106
    """Path 2 (0, name)."""
    SETLAYOUT = 0x1107
    SETATTR = 0x1108
    SETFILELOCK = 0x1109
    SETDIRLAYOUT = 0x110A
    MKNOD = 0x1201
    LINK = 0x1202
    """Path 1 the new name, path 2 the inode or another name of it."""
    UNLINK = 0x1203
    RENAME = 0x1204
    """Path 1 the new name, path 2 the old one."""
    MKDIR = 0x1220
    RMDIR = 0x1221
    SYMLINK = 0x1222
    """Path 2 (0, target)."""
    CREATE = 0x1301
    """Make and open a file."""
    MKSNAP = 0x1400
    """A `SNAP_PAYLOAD` in ``data``."""
    RMSNAP = 0x1401
    RENAMESNAP = 0x1403
    """Path 1 the new name, path 2 the old one."""
    READDIR_SNAPDIFF = 0x1404
    """Since Reef."""
    FILE_BLOCKDIFF = 0x1405
    """Paths of one file in two snapshots. Since Tentacle, client feature BLOCKDIFF."""
