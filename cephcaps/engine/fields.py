"""Which metadata to believe: what an MDS says, unless we may hold something newer.

Each field lives under one lock (AUTH, LINK, XATTR, FILE). While we hold a lock's EXCL bit, or have changed something
under it, ours counts. Sources: kernel: fs/ceph/inode.c, ``fill_inode``, ``ceph_fill_file_size``,
``ceph_fill_file_time``; fs/ceph/caps.c, ``handle_cap_grant``.
"""

from __future__ import annotations

from cephcaps.engine.inode import DirCounts, Inode, newer
from cephwire.capbits import Cap
from cephwire.caps import NOT_GIVEN, CapBody, CapFlag, ClientCaps
from cephwire.codec import Codec
from cephwire.inode import XATTR_BLOB, InodeStat, XattrBlob

__all__ = ["take_grant", "take_reply", "take_size"]

xattr_blobs: Codec[XattrBlob] = Codec(XATTR_BLOB)

BY_AUTHORITY = int(CapFlag.AUTH)
CHANGED_HERE = Cap.FILE_EXCL | Cap.FILE_WR | Cap.FILE_BUFFER | Cap.AUTH_EXCL | Cap.XATTR_EXCL
"""Under any of these a time of ours may be ahead of the MDS's."""


def take_reply(inode: Inode, told: InodeStat, held: int) -> None:
    """Take in what a reply says of an inode known already; ``held`` is what we held before it."""
    if not held & Cap.AUTH_EXCL:
        inode.mode, inode.uid, inode.gid, inode.btime = told.mode, told.uid, told.gid, told.btime
    if not held & Cap.LINK_EXCL:
        inode.nlink = told.nlink
    if not held & Cap.XATTR_EXCL and told.xattrs is not None and told.xattr_version > inode.xattr_version:
        inode.xattrs, inode.xattr_version = told.xattrs, told.xattr_version
    take_size(inode, told.size, told.truncate_seq, told.truncate_size)
    _take_times(inode, told.time_warp_seq, told.ctime, told.mtime, told.atime, held)
    # A listing that issues no caps tells 0 (ceph: src/client/Client.cc, ``add_update_inode``).
    if told.cap.flags & BY_AUTHORITY and told.cap.caps:
        inode.max_size = told.max_size
    _take_counts(inode, told)
    inode.layout, inode.pool_ns = told.layout, told.pool_ns
    inode.change_attr = max(inode.change_attr, told.change_attr)
    inode.symlink = told.symlink


def take_grant(inode: Inode, told: ClientCaps, held: int, from_auth: bool) -> None:
    """Take in what came with a GRANT or REVOKE: fields of locks whose shared bit is granted now."""
    body = told.body
    assert isinstance(body, CapBody)
    if told.caps & Cap.AUTH_SHARED and not held & Cap.AUTH_EXCL:
        inode.mode, inode.uid, inode.gid, inode.btime = told.mode, told.uid, told.gid, told.btime
    if told.caps & Cap.LINK_SHARED and not held & Cap.LINK_EXCL:
        inode.nlink = told.nlink
    if not held & Cap.XATTR_EXCL and told.xattrs and told.xattr_version > inode.xattr_version:
        inode.xattrs, inode.xattr_version = xattr_blobs.decode(told.xattrs).xattrs, told.xattr_version
    counts = inode.counts
    if told.caps & Cap.FILE_SHARED and counts is not None and NOT_GIVEN not in (told.nfiles, told.nsubdirs):
        counts.subdirs = told.nsubdirs
    if told.caps & Cap.ANY_RD:
        _take_times(inode, body.time_warp_seq, body.ctime, body.mtime, body.atime, held)
    if told.caps & (Cap.ANY_FILE_RD | Cap.ANY_FILE_WR):
        take_size(inode, body.size, body.truncate_seq, body.truncate_size)
        inode.layout, inode.pool_ns = body.layout, told.pool_ns
    if from_auth and told.caps & Cap.ANY_FILE_WR:  # of no use to others (kernel: ``handle_cap_grant``)
        inode.max_size = body.max_size
    inode.change_attr = max(inode.change_attr, told.change_attr)


def _take_counts(inode: Inode, told: InodeStat) -> None:
    """No cap covers them; the limits only the authority is sure to know."""
    before, inode.counts = inode.counts, DirCounts.of(told)
    if inode.counts is not None and before is not None and not told.cap.flags & BY_AUTHORITY:
        inode.counts.quota = before.quota


def take_size(inode: Inode, size: int, truncate_seq: int, truncate_size: int) -> None:
    """A newer truncation settles the size; else it only grows, since it may lag behind what we wrote."""
    ahead = newer(truncate_seq, inode.truncate_seq)
    if ahead > 0 or (ahead == 0 and size > inode.size):
        inode.size = size
        if inode.use is not None:
            inode.use.reported_size = size  # what an MDS tells it need not be told
    if ahead > 0:
        inode.truncate_seq = truncate_seq
    if ahead >= 0:
        inode.truncate_size = truncate_size


def _take_times(inode: Inode, time_warp_seq: int, ctime: int, mtime: int, atime: int, held: int) -> None:
    """Times only go forward, except where somebody set them: then the higher ``time_warp_seq`` tells."""
    ahead = newer(time_warp_seq, inode.time_warp_seq)
    if not held & CHANGED_HERE:
        if ahead >= 0:
            inode.ctime, inode.mtime, inode.atime, inode.time_warp_seq = ctime, mtime, atime, time_warp_seq
        return
    inode.ctime = max(inode.ctime, ctime)
    if ahead > 0:
        inode.mtime, inode.atime, inode.time_warp_seq = mtime, atime, time_warp_seq
    elif ahead == 0:
        inode.mtime, inode.atime = max(inode.mtime, mtime), max(inode.atime, atime)
