"""Changes that clients made by themselves, and now tell.

What each dirty bit may change: ceph: src/mds/Locker.cc, ``_update_cap_fields``.
"""

from __future__ import annotations

from cephcaps.testing.mds.inode import Attributes, Inode
from cephcaps.testing.mds.tree import Tree
from cephwire.capbits import Cap as Bit
from cephwire.caps import CapBody, ClientCaps
from cephwire.codec import Codec
from cephwire.inode import XATTR_BLOB, XattrBlob

__all__ = ["take_flush"]

xattr_blobs: Codec[XattrBlob] = Codec(XATTR_BLOB)


def take_flush(tree: Tree, inode: Attributes, message: ClientCaps) -> None:
    """Take over what a client changed in an inode, or in its copy in a snapshot."""
    body, dirty = message.body, message.dirty
    assert isinstance(body, CapBody)
    inode.ctime = max(inode.ctime, body.ctime)
    inode.rctime = max(inode.rctime, body.ctime)
    inode.change_attr = max(inode.change_attr, message.change_attr)
    inode.version += 1
    if dirty & (Bit.FILE_WR | Bit.FILE_EXCL):
        if body.size > inode.size and not inode.is_dir:
            _resize(tree, inode, body.size, body.mtime)
        if dirty & Bit.FILE_EXCL:
            inode.mtime, inode.atime = body.mtime, body.atime
            inode.time_warp_seq = max(inode.time_warp_seq, body.time_warp_seq)
        else:
            inode.mtime = max(inode.mtime, body.mtime)
    if dirty & Bit.AUTH_EXCL:
        inode.uid, inode.gid, inode.mode = message.uid, message.gid, message.mode
        inode.btime = message.btime
    if dirty & Bit.XATTR_EXCL and message.xattrs and message.xattr_version > inode.xattr_version:
        inode.xattrs = dict(xattr_blobs.decode(message.xattrs).xattrs)
        inode.xattr_version = message.xattr_version


def _resize(tree: Tree, inode: Attributes, size: int, stamp: int) -> None:
    if isinstance(inode, Inode):
        tree.resized(inode, size, stamp)
    else:
        inode.size = inode.rbytes = size
