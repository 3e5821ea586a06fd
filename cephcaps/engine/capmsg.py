"""The one message that carries caps: what we hold, what we want, what we have changed.

Sources: kernel: fs/ceph/caps.c, ``__prep_cap``, ``encode_cap_msg``, ``__send_flush_snap``; ceph: src/client/Client.cc,
``send_cap``, ``send_flush_snap``; src/mds/Locker.cc, ``handle_client_caps``, for what the MDS makes of it.
"""

from __future__ import annotations

from cephcaps.engine.inode import CapSnap, Inode, InodeCap
from cephcaps.engine.xattrs import encoded
from cephwire.capbits import Cap
from cephwire.caps import CapBody, CapOp, ClientCaps, ClientCapsFlag
from cephwire.inode import INLINE_NONE

__all__ = ["cap_message", "flushsnap_message"]

NO_CALLER = 2**32 - 1
"""``caller_uid`` of what is not done for anybody: the MDS checks no permission. The change was checked when made."""


def cap_message(
    inode: Inode,
    cap: InodeCap,
    op: CapOp,
    *,
    wanted: int,
    dirty: int,
    max_size: int,
    flags: int,
    barrier: int,
    oldest_flush_tid: int,
) -> ClientCaps:
    """An UPDATE or FLUSH.

    A flush carries every field of its lock as it is here, btime with the AUTH fields: the MDS takes what it is sent,
    zeros included.
    """
    head = inode.use.head if inode.use is not None else None
    return ClientCaps(
        op=op,
        ino=inode.ino,
        realm=0,
        cap_id=cap.cap_id,
        seq=cap.seq,
        issue_seq=cap.issue_seq,
        caps=cap.implemented,
        wanted=wanted,
        dirty=dirty,
        mseq=cap.mseq,
        snap_follows=head.seq if dirty and head is not None else 0,
        uid=inode.uid,
        gid=inode.gid,
        mode=inode.mode,
        nlink=0,
        xattr_version=inode.xattr_version,
        body=_body(inode, max_size),
        snap_trace=b"",
        xattrs=encoded(inode) if dirty & Cap.XATTR_EXCL else b"",
        inline_version=INLINE_NONE if dirty & Cap.ANY_FILE_WR else 0,
        osd_epoch_barrier=barrier,
        oldest_flush_tid=oldest_flush_tid,
        caller_uid=NO_CALLER,
        caller_gid=NO_CALLER,
        pool_ns=inode.pool_ns,
        btime=inode.btime,
        change_attr=inode.change_attr,
        flags=flags,
    )


def flushsnap_message(
    inode: Inode, snap: CapSnap, *, mseq: int, pending: bool, barrier: int, oldest_flush_tid: int
) -> ClientCaps:
    """A FLUSHSNAP: the inode as the snapshot has it. It is about no cap, so there is no cap_id and no seq.

    Args:
        pending: further FLUSHSNAPs of this inode follow.
    """
    return ClientCaps(
        op=CapOp.FLUSHSNAP,
        ino=inode.ino,
        realm=0,
        cap_id=0,
        seq=0,
        issue_seq=0,
        caps=snap.issued,
        wanted=0,
        dirty=snap.dirty,
        mseq=mseq,
        snap_follows=snap.context.seq,
        uid=snap.uid,
        gid=snap.gid,
        mode=snap.mode,
        nlink=0,
        xattr_version=snap.xattr_version,
        body=_body(snap, 0),
        snap_trace=b"",
        xattrs=encoded(snap) if snap.dirty & Cap.XATTR_EXCL else b"",
        inline_version=INLINE_NONE if snap.dirty & Cap.ANY_FILE_WR else 0,
        osd_epoch_barrier=barrier,
        oldest_flush_tid=oldest_flush_tid,
        caller_uid=NO_CALLER,
        caller_gid=NO_CALLER,
        pool_ns=inode.pool_ns,
        btime=snap.btime,
        change_attr=snap.change_attr,
        flags=ClientCapsFlag.PENDING_CAPSNAP if pending else 0,
    )


def _body(of: Inode | CapSnap, max_size: int) -> CapBody:
    """What FILE caps cover, of an inode or of what a snapshot has of it."""
    return CapBody(
        size=of.size,
        max_size=max_size,
        truncate_size=of.truncate_size,
        truncate_seq=of.truncate_seq,
        mtime=of.mtime,
        atime=of.atime,
        ctime=of.ctime,
        layout=of.layout,
        time_warp_seq=of.time_warp_seq,
    )
