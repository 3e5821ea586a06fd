"""Extended attributes: kept under XATTR_SHARED, changed under XATTR_EXCL."""

from __future__ import annotations

from cephcaps.engine.inode import CapSnap, Inode
from cephwire.codec import Codec
from cephwire.inode import XATTR_BLOB, XattrBlob

__all__ = ["encoded"]

xattr_blobs: Codec[XattrBlob] = Codec(XATTR_BLOB)


def encoded(inode: Inode | CapSnap) -> bytes:
    """What a flush of XATTR_EXCL carries."""
    return xattr_blobs.encode(XattrBlob(inode.xattrs or {}))
