"""What is kept of one inode and of each cap on it: flat, numbers only, nothing made before it is needed."""

from __future__ import annotations

from cephwire.capbits import Cap, wanted_for_mode
from cephwire.inode import InodeStat

__all__ = ["Dentry", "Flush", "Inode", "InodeCap", "newer"]

U32 = 1 << 32


def newer(seq: int, than: int) -> int:
    """By how much ``seq`` is ahead of ``than``; negative if it is behind. Both are u32s that wrap.

    Source: kernel: include/linux/ceph/ceph_fs.h, ``ceph_seq_cmp``; MDSs compare the same way.
    """
    return (seq - than + (U32 >> 1)) % U32 - (U32 >> 1)


class InodeCap:
    """What one rank has granted on one inode.

    Attributes:
        issued: what the MDS says we may use now.
        implemented: that, and what it has asked back and not got yet.
        mds_wanted: what it was last told we want.
        seq: its last grant or revoke; every message about the cap echoes it.
        issue_seq: the last seq that came with a reply or IMPORT; releases and smaller wishes count only with this one.
        mseq: how often the inode's authority had moved.
        gen: the session's ``cap_gen`` when the cap was last granted; an older one does not count.
        revoked_at: since when the MDS waits for bits; 0.0 if it does not.
    """

    __slots__ = (
        "cap_id", "gen", "implemented", "issue_seq", "issued", "mds_wanted", "mseq", "rank", "revoked_at", "seq",
    )  # fmt: skip

    def __init__(self, rank: int, cap_id: int, seq: int, mseq: int, gen: int) -> None:
        self.rank = rank
        self.cap_id = cap_id
        self.issued = 0
        self.implemented = 0
        self.mds_wanted = 0
        self.seq = seq
        self.issue_seq = seq
        self.mseq = mseq
        self.gen = gen
        self.revoked_at = 0.0

    @property
    def revoking(self) -> int:
        """Bits asked back and not given yet."""
        return self.implemented & ~self.issued


class Flush:
    """Dirty bits on their way to the MDS under one tid, until that is acknowledged."""

    __slots__ = ("caps", "ino", "sent_at", "tid")

    def __init__(self, tid: int, ino: int, caps: int, sent_at: float) -> None:
        self.tid = tid
        self.ino = ino
        self.caps = caps
        self.sent_at = sent_at


class Dentry:
    """One name of a directory; ``ino`` 0 is known not to exist.

    It holds while its lease does, or while the directory's FILE_SHARED is the one it was learnt under.
    """

    __slots__ = ("expires", "gen", "ino", "rank", "seq", "shared_gen")

    def __init__(self, ino: int, shared_gen: int) -> None:
        self.ino = ino
        self.shared_gen = shared_gen
        self.rank = -1
        self.gen = 0
        self.seq = 0
        self.expires = 0.0


class Inode:
    """One inode: its metadata as far as we know it, and our caps on it.

    Attributes:
        caps: by rank.
        auth_rank: the rank flushes go to; -1 while there is none.
        dirty: bits of what was changed here and not sent.
        flushing: bits of what was sent and not acknowledged.
        flushes: those on their way, oldest first.
        open_modes: how often it is open in each `FileMode`; None if it never was.
        hold_min, hold_max: until when caps no longer wanted are kept whatever comes, and at the longest.
        shared_gen: rises when FILE_SHARED comes or goes; what was learnt of a directory under an older one is void.
        children: names known of a directory, None before the first.
    """

    __slots__ = (
        "atime", "auth_rank", "btime", "caps", "change_attr", "children", "ctime", "dirty", "dirty_since",
        "files", "flushes", "flushing", "gid", "hold_max", "hold_min", "ino", "layout", "max_size", "mode", "mtime",
        "nlink", "open_modes", "pool_ns", "rbytes", "rdev", "rfiles", "rsubdirs", "shared_gen", "size", "subdirs",
        "symlink", "time_warp_seq", "truncate_seq", "truncate_size", "uid", "xattr_version", "xattrs",
    )  # fmt: skip

    def __init__(self, told: InodeStat) -> None:
        self.ino = told.ino
        self.caps: dict[int, InodeCap] = {}
        self.auth_rank = -1
        self.dirty = 0
        self.dirty_since = 0.0
        self.flushing = 0
        self.flushes: list[Flush] = []
        self.open_modes: dict[int, int] | None = None
        self.hold_min = 0.0
        self.hold_max = 0.0
        self.shared_gen = 0
        self.children: dict[str, Dentry] | None = None
        self.mode = told.mode
        self.uid = told.uid
        self.gid = told.gid
        self.nlink = told.nlink
        self.rdev = told.rdev
        self.size = told.size
        self.max_size = told.max_size
        self.truncate_size = told.truncate_size
        self.truncate_seq = told.truncate_seq
        self.time_warp_seq = told.time_warp_seq
        self.atime = told.atime
        self.mtime = told.mtime
        self.ctime = told.ctime
        self.btime = told.btime
        self.change_attr = told.change_attr
        self.xattr_version = told.xattr_version
        self.xattrs = told.xattrs
        self.layout = told.layout
        self.pool_ns = told.pool_ns
        self.symlink = told.symlink
        self.files = told.files
        self.subdirs = told.subdirs
        self.rbytes = told.rbytes
        self.rfiles = told.rfiles
        self.rsubdirs = told.rsubdirs

    @property
    def auth_cap(self) -> InodeCap | None:
        return self.caps.get(self.auth_rank)

    @property
    def used(self) -> int:
        """Bits in use this moment; a revoke of them waits."""
        return Cap.PIN if self.open_modes else 0

    @property
    def file_wanted(self) -> int:
        """Bits that those who have it open want."""
        wanted = 0
        for mode in self.open_modes or ():
            wanted |= wanted_for_mode(mode)
        return wanted

    @property
    def pinned(self) -> bool:
        """Whether it must stay: open, or changed here and not yet safe at the MDS."""
        return bool(self.open_modes or self.dirty or self.flushing)
