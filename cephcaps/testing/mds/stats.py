"""What replies and cap messages say of an inode."""

from __future__ import annotations

from cephcaps.testing.mds.capability import Cap
from cephcaps.testing.mds.inode import Inode
from cephcaps.testing.mds.snaps import Snapshot, Viewed
from cephwire.capbits import Cap as Bit
from cephwire.caps import NOT_GIVEN, CapBody, CapFlag, CapOp, ClientCaps
from cephwire.codec import Codec
from cephwire.inode import INLINE_NONE, NOSNAP, SNAPDIR, XATTR_BLOB, DirStat, InodeStat, IssuedCap, LeaseStat, XattrBlob

__all__ = ["DIR_STAT", "NO_LEASE", "cap_message", "live_stat", "snapdir_stat", "snapped_stat"]

DIR_STAT = DirStat(0, -1, ())
"""Of a directory in one fragment; a reply that is not safe yet names no rank."""
NO_LEASE = LeaseStat(0, 0, 0)
DIR_INLINE = 1
RJENKINS = 2
NO_CAP = IssuedCap(0, 0, 0, 0, 0, 0, 0)

xattr_blobs: Codec[XattrBlob] = Codec(XATTR_BLOB)


def inode_stat(inode: Viewed, cap: IssuedCap, max_size: int, snapid: int, snapshot: Snapshot | None) -> InodeStat:
    """All there is to say of an inode, live or in a snapshot."""
    return InodeStat(
        ino=inode.ino,
        snapid=snapid,
        rdev=inode.rdev,
        version=inode.version,
        xattr_version=inode.xattr_version,
        cap=cap,
        layout=inode.layout,
        ctime=inode.ctime,
        mtime=inode.mtime,
        atime=inode.atime,
        time_warp_seq=inode.time_warp_seq,
        size=0 if inode.is_dir else inode.size,
        max_size=max_size,
        truncate_size=inode.truncate_size,
        truncate_seq=inode.truncate_seq,
        mode=inode.mode,
        uid=inode.uid,
        gid=inode.gid,
        nlink=inode.nlink,
        files=inode.files,
        subdirs=inode.subdirs,
        rbytes=inode.rbytes,
        rfiles=inode.rfiles,
        rsubdirs=inode.rsubdirs,
        rctime=inode.rctime,
        fragtree=(),
        symlink=inode.symlink,
        dir_hash=RJENKINS,
        xattrs=dict(sorted(inode.xattrs.items())),
        inline_version=DIR_INLINE if inode.is_dir else INLINE_NONE,
        inline_data=b"",
        quota=inode.quota,
        pool_ns=inode.pool_ns,
        btime=inode.btime,
        change_attr=inode.change_attr,
        export_pin=inode.pin,
        snap_btime=0 if snapshot is None else snapshot.stamp,
        snap_metadata={} if snapshot is None else snapshot.metadata,
    )


def live_stat(inode: Inode, cap: Cap | None, realm: int) -> InodeStat:
    """The same of one as it is now, with the cap its client has."""
    told = NO_CAP
    max_size = 0
    if cap is not None:
        told = IssuedCap(cap.pending, cap.wanted, cap.cap_id, cap.seq, cap.mseq, realm, CapFlag.AUTH)
        max_size = inode.told_max_size(cap.session.client)
    return inode_stat(inode, told, max_size, NOSNAP, None)


def snapped_stat(inode: Viewed, snapid: int, snapshot: Snapshot | None) -> InodeStat:
    """The same of one in a snapshot: it cannot change, so the client may keep all of it."""
    return inode_stat(inode, IssuedCap(Bit.PIN | Bit.ANY_RD, 0, 0, 0, 0, 0, 0), 0, snapid, snapshot)


def snapdir_stat(directory: Inode) -> InodeStat:
    """A ``.snap`` directory."""
    return snapped_stat(directory, SNAPDIR, None)


def cap_message(cap: Cap, op: CapOp, realm: int) -> ClientCaps:
    """A GRANT, REVOKE or TRUNC: what the client has, and the inode as it is."""
    inode = cap.inode
    has_dir = inode.is_dir and cap.pending & Bit.FILE_SHARED
    shares_xattrs = cap.pending & Bit.XATTR_SHARED
    return ClientCaps(
        op=op,
        ino=inode.ino,
        realm=realm,
        cap_id=cap.cap_id,
        seq=cap.seq,
        issue_seq=cap.issue_seq,
        caps=cap.pending,
        wanted=cap.wanted,
        dirty=0,
        mseq=cap.mseq,
        snap_follows=0,
        uid=inode.uid,
        gid=inode.gid,
        mode=inode.mode,
        nlink=inode.nlink,
        xattr_version=inode.xattr_version,
        body=body(inode, inode.told_max_size(cap.session.client)),
        snap_trace=b"",
        xattrs=xattr_blobs.encode(XattrBlob(dict(sorted(inode.xattrs.items())))) if shares_xattrs else b"",
        inline_version=0 if inode.is_dir else INLINE_NONE,
        pool_ns=inode.pool_ns,
        btime=inode.btime,
        change_attr=inode.change_attr,
        nfiles=inode.files if has_dir else NOT_GIVEN,
        nsubdirs=inode.subdirs if has_dir else NOT_GIVEN,
    )


def body(inode: Inode, max_size: int) -> CapBody:
    return CapBody(
        size=0 if inode.is_dir else inode.size,
        max_size=max_size,
        truncate_size=inode.truncate_size,
        truncate_seq=inode.truncate_seq,
        mtime=inode.mtime,
        atime=inode.atime,
        ctime=inode.ctime,
        layout=inode.layout,
        time_warp_seq=inode.time_warp_seq,
    )
