"""Changing attributes: here and flushed later where an exclusive cap covers it, by request where none does.

Source: kernel: fs/ceph/inode.c, ``__ceph_setattr``.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass

from cephcaps.engine.inode import Inode
from cephwire.capbits import Cap
from cephwire.requestargs import SetattrArgs, SetattrMask

__all__ = ["TRUNCATED", "Change", "Remainder", "apply"]

TRUNCATED = Cap.FILE_SHARED | Cap.FILE_EXCL | Cap.FILE_RD | Cap.FILE_WR
"""Bits that nobody holds while an MDS cuts a file."""

MODE_BITS = 0o7777
SET_ID_BITS = stat.S_ISUID | stat.S_ISGID
ANY_EXECUTE = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH


@dataclass(frozen=True, slots=True)
class Change:
    """What is to become of an inode's attributes; None leaves one as it is.

    Attributes:
        atime, mtime: nanoseconds.
        stamp: the time of the change by the wall clock, ns; becomes ctime.
    """

    stamp: int
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    atime: int | None = None
    mtime: int | None = None


@dataclass(frozen=True, slots=True)
class Remainder:
    """What an MDS must be asked to do: a SETATTR's arguments, and the bits that it would have to revoke for that."""

    args: SetattrArgs
    drop: int

    @classmethod
    def of(cls, change: Change) -> Remainder:
        """All of ``change``: nothing is known of the inode here."""
        given = {
            SetattrMask.MODE: change.mode,
            SetattrMask.UID: change.uid,
            SetattrMask.GID: change.gid,
            SetattrMask.SIZE: change.size,
            SetattrMask.ATIME: change.atime,
            SetattrMask.MTIME: change.mtime,
        }
        mask = sum(bit for bit, value in given.items() if value is not None)
        return cls(_args(change, change.mode or 0, 0, mask), 0)


def apply(inode: Inode, change: Change, issued: int) -> tuple[int, Remainder | None]:
    """Do what ``issued`` allows to be done here; gives the bits that became dirty and what is left to ask for."""
    dirty = mask = drop = 0
    mode = inode.mode
    if change.mode is not None:
        mode = stat.S_IFMT(inode.mode) | change.mode & MODE_BITS
    elif (change.uid is not None or change.gid is not None) and _runs_as_its_owner(mode):
        # A file that changes hands no longer runs as whom it belongs to. Where it is asked for, the MDS sees to that.
        if issued & Cap.AUTH_EXCL:
            inode.mode = mode & ~SET_ID_BITS
        else:
            issued &= ~Cap.AUTH_SHARED
    for name, value, bit in (
        ("mode", mode if change.mode is not None else None, SetattrMask.MODE),
        ("uid", change.uid, SetattrMask.UID),
        ("gid", change.gid, SetattrMask.GID),
    ):
        if value is None:
            continue
        if issued & Cap.AUTH_EXCL:
            setattr(inode, name, value)
            dirty |= Cap.AUTH_EXCL
        elif not issued & Cap.AUTH_SHARED or getattr(inode, name) != value:
            mask |= bit
            drop |= Cap.AUTH_SHARED
    warped = False
    for name, value, bit in (("atime", change.atime, SetattrMask.ATIME), ("mtime", change.mtime, SetattrMask.MTIME)):
        if value is None:
            continue
        if issued & Cap.FILE_EXCL:
            setattr(inode, name, value)
            dirty |= Cap.FILE_EXCL
            warped = True
        elif issued & Cap.FILE_WR and name == "mtime" and inode.mtime < value:
            # Not atime: of what a writer flushes an MDS takes that only along with FILE_EXCL, and says nothing
            # (ceph: src/mds/Locker.cc, ``_update_cap_fields``).
            inode.mtime = value
            dirty |= Cap.FILE_WR
        elif not issued & Cap.FILE_SHARED or getattr(inode, name) != value:
            mask |= bit
            drop |= Cap.FILE_SHARED | Cap.FILE_RD | Cap.FILE_WR
    if warped:
        inode.time_warp_seq = (inode.time_warp_seq + 1) % 2**32
    if change.size is not None:
        if issued & Cap.FILE_EXCL and change.size >= inode.size:
            if change.size > inode.size:
                inode.size = change.size
                if change.mtime is None:
                    inode.mtime = max(inode.mtime, change.stamp)
                dirty |= Cap.FILE_EXCL
        elif not issued & Cap.FILE_SHARED or change.size != inode.size:
            mask |= SetattrMask.SIZE
            drop |= TRUNCATED
    if dirty:
        inode.ctime = max(inode.ctime, change.stamp)
        inode.change_attr = (inode.change_attr + 1) % 2**64
    if not mask:
        return dirty, None
    return dirty, Remainder(_args(change, mode, inode.size, mask), drop)


def _runs_as_its_owner(mode: int) -> bool:
    return stat.S_ISREG(mode) and bool(mode & SET_ID_BITS) and bool(mode & ANY_EXECUTE)


def _args(change: Change, mode: int, old_size: int, mask: int) -> SetattrArgs:
    return SetattrArgs(
        mode=mode,
        uid=change.uid or 0,
        gid=change.gid or 0,
        mtime=change.mtime or 0,
        atime=change.atime or 0,
        size=change.size or 0,
        old_size=old_size,
        mask=mask,
        btime=0,
    )
