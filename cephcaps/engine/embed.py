"""Giving bits and leases up along with a request that would make the MDS ask for them.

It then need not, and the request waits for nobody but others. What is given up depends on the operation; what is in
use, changed here or not safe at the MDS is kept, and the MDS asks for that. Racy by nature and allowed to be: whatever
is left out is revoked. Sources: kernel: fs/ceph/caps.c, ``ceph_encode_inode_release``, ``ceph_encode_dentry_release``;
fs/ceph/dir.c and inode.c for what each operation drops; ceph: src/mds/Locker.cc, ``process_request_cap_release``.
"""

from __future__ import annotations

from typing import Final

from cephcaps.engine.cache import Cache
from cephcaps.engine.check import Checks, wanted
from cephcaps.engine.dentries import Dentries, is_complete
from cephcaps.engine.inode import Dentry, Inode, InodeCap
from cephcaps.events import CapReleased
from cephwire.capbits import Cap
from cephwire.request import FilePath, RequestRelease
from cephwire.requestop import RequestOp

__all__ = ["Embeds"]

LINK: Final = Cap.LINK_SHARED | Cap.LINK_EXCL
"""Of an inode that gets or loses a name: the MDS changes its link count."""
NAMES: Final = Cap.FILE_SHARED
"""Of a directory whose names change."""
MAKES: Final = NAMES | Cap.AUTH_EXCL | Cap.XATTR_EXCL
"""Of a directory in which something is made, too: its owner, mode and default ACL are looked at."""
ON_INODE: Final[dict[int, int]] = {
    RequestOp.READDIR: Cap.FILE_EXCL,
    RequestOp.SETXATTR: Cap.XATTR_SHARED,
    RequestOp.RMXATTR: Cap.XATTR_SHARED,
    RequestOp.SETLAYOUT: Cap.FILE_SHARED | Cap.FILE_EXCL,
    RequestOp.SETDIRLAYOUT: Cap.FILE_SHARED | Cap.FILE_EXCL,
}
"""Of the inode an operation names by number."""
SHARED_OF: Final = {
    Cap.AUTH_EXCL: Cap.AUTH_SHARED,
    Cap.LINK_EXCL: Cap.LINK_SHARED,
    Cap.XATTR_EXCL: Cap.XATTR_SHARED,
    Cap.FILE_EXCL: Cap.FILE_SHARED,
}


class Embeds:
    """What goes out with each request. To be asked once for each, when it is first sent to a rank: one that is sent
    again names no caps, as nobody knows what has become of them meanwhile."""

    def __init__(self, cache: Cache, checks: Checks, dentries: Dentries) -> None:
        self._cache = cache
        self._checks = checks
        self._dentries = dentries

    def releases(
        self, rank: int, op: int, path: FilePath, path2: FilePath, drop: int, now: float
    ) -> tuple[RequestRelease, ...]:
        """The records for one request.

        Args:
            drop: bits of the inode of ``path`` that the caller knows to be in the way.
        """
        inodes = self._cache.inodes
        found: list[RequestRelease | None] = []
        match op:
            case RequestOp.CREATE | RequestOp.MKNOD | RequestOp.MKDIR | RequestOp.SYMLINK:
                found = [self._name(rank, path, MAKES, now)]
            case RequestOp.LINK:
                found = [self._name(rank, path, MAKES, now), self._bits(rank, inodes.get(path2.ino), LINK, now)]
            case RequestOp.UNLINK | RequestOp.RMDIR:
                found = [self._unlinked(rank, path, now), self._name(rank, path, NAMES, now)]
            case RequestOp.RENAME:
                found = [
                    self._unlinked(rank, path, now),
                    self._name(rank, path, NAMES, now),
                    self._name(rank, path2, NAMES, now),
                    self._bits(rank, self._target(path2), LINK, now),
                ]
            case _ if not path.path:
                found = [self._bits(rank, inodes.get(path.ino), drop | ON_INODE.get(op, 0), now)]
        return tuple(record for record in found if record is not None)

    def _dentry(self, path: FilePath) -> Dentry | None:
        directory = self._cache.inodes.get(path.ino)
        return directory.children.get(path.path) if directory is not None and directory.children else None

    def _target(self, path: FilePath) -> Inode | None:
        """What the name leads to, as far as we know."""
        dentry = self._dentry(path)
        return self._cache.inodes.get(dentry.ino) if dentry is not None else None

    def _unlinked(self, rank: int, path: FilePath, now: float) -> RequestRelease | None:
        """Of an inode that loses its name; with the last one, all that nobody here wants."""
        inode = self._target(path)
        drop = LINK
        if inode is not None and inode.nlink <= 1:
            drop |= ~(inode.file_wanted | Cap.PIN)
        return self._bits(rank, inode, drop, now)

    def _name(self, rank: int, path: FilePath, drop: int, now: float) -> RequestRelease | None:
        """Of a directory one of whose names changes, and the lease on that name.

        With FILE_EXCL its names are ours to change, and FILE_SHARED stays. A directory known whole is told to be
        wanted that way before it changes for the first time: if nobody else uses it the MDS grants FILE_EXCL, and what
        is known of it outlives the change.
        """
        directory = self._cache.inodes.get(path.ino)
        cap = self._cap(rank, directory, now)
        if directory is None or cap is None:
            return None
        if is_complete(directory) and not (cap.mds_wanted | cap.issued) & Cap.FILE_EXCL:
            self._checks.check(directory, now)
            drop &= ~Cap.FILE_SHARED
        dentry = self._dentry(path)
        lease = dentry.lease if dentry is not None else None
        if dentry is None or lease is None or lease.rank != rank or not self._dentries.leased(dentry, now):
            return self._bits(rank, directory, drop, now, unless=Cap.FILE_EXCL)
        lease.expires = 0.0
        self._drop(directory, cap, drop, Cap.FILE_EXCL)
        return _record(directory, cap, path.path, lease.seq)

    def _bits(self, rank: int, inode: Inode | None, drop: int, now: float, unless: int = 0) -> RequestRelease | None:
        """``drop`` of ``inode``; a shared bit stays where ``unless`` names the exclusive one and that is held."""
        cap = self._cap(rank, inode, now)
        if inode is None or cap is None or not self._drop(inode, cap, drop, unless):
            return None
        return _record(inode, cap)

    def _cap(self, rank: int, inode: Inode | None, now: float) -> InodeCap | None:
        """The cap of which something may be given back now: not one that only stands in until its IMPORT."""
        cap = inode.cap(rank) if inode is not None else None
        return cap if cap is not None and self._cache.valid(cap, now) and not self._cache.waits(cap) else None

    def _drop(self, inode: Inode, cap: InodeCap, drop: int, unless: int) -> bool:
        """Give up what can be; gives whether that is anything."""
        for exclusive, shared in SHARED_OF.items():
            if unless & cap.issued & exclusive:
                drop &= ~shared
        drop &= cap.issued & ~(inode.used | inode.dirty | inode.flushing)
        if inode.unsent_snap:
            drop &= ~Cap.ANY_FILE_WR  # the MDS would take the present state for the snapshot's
        if not drop:
            return False
        self._cache.note_issue(inode, cap.issued, cap.issued & ~drop)
        cap.issued &= ~drop
        cap.implemented &= ~drop
        # No more than that is unwanted from now on: an MDS takes back at once what is merely not wanted any more, and
        # that has its time (`Checks.requeue`).
        cap.mds_wanted &= ~drop | wanted(inode)
        if inode.use is not None and cap.rank == inode.auth_rank and not cap.mds_wanted & Cap.ANY_FILE_WR:
            inode.use.requested_max_size = 0
        self._cache.emit(CapReleased, inode, cap, drop)
        return True


def _record(inode: Inode, cap: InodeCap, dname: str = "", dname_seq: int = 0) -> RequestRelease:
    return RequestRelease(
        ino=inode.ino,
        cap_id=cap.cap_id,
        caps=cap.implemented,
        wanted=cap.mds_wanted,
        seq=cap.seq,
        issue_seq=cap.issue_seq,
        mseq=cap.mseq,
        dname_seq=dname_seq,
        dname=dname,
    )
