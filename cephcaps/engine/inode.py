"""What is kept of one inode and of each cap on it: flat, numbers only, nothing made before it is needed."""

from __future__ import annotations

import stat
from collections.abc import Callable
from typing import Any, NamedTuple, Self

import msgspec

from cephwire.capbits import Cap, wanted_for_mode
from cephwire.filelock import FileLocks
from cephwire.inode import FileLayout, InodeStat, Quota

__all__ = [
    "CapSnap",
    "Dentry",
    "DirCounts",
    "DirtyData",
    "Flush",
    "Hook",
    "Inode",
    "InodeCap",
    "Lease",
    "RefWait",
    "SnapContext",
    "Use",
    "limits",
    "newer",
]

U32 = 1 << 32
NO_XATTRS: dict[str, bytes] = {}
"""Of nearly every inode. What an inode's are is replaced and never changed."""


def newer(seq: int, than: int) -> int:
    """By how much ``seq`` is ahead of ``than``; negative if it is behind. Both are u32s that wrap.

    Source: kernel: include/linux/ceph/ceph_fs.h, ``ceph_seq_cmp``; MDSs compare the same way.
    """
    return (seq - than + (U32 >> 1)) % U32 - (U32 >> 1)


class InodeCap(msgspec.Struct, eq=False, gc=False):
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
        standing_in: it is known from its old rank's EXPORT only: until the IMPORT nothing is sent about it.
    """

    rank: int
    cap_id: int
    seq: int
    issue_seq: int
    mseq: int
    gen: int
    issued: int = 0
    implemented: int = 0
    mds_wanted: int = 0
    revoked_at: float = 0.0
    standing_in: bool = False

    @property
    def revoking(self) -> int:
        """Bits asked back and not given yet."""
        return self.implemented & ~self.issued


class Flush:
    """Dirty bits on their way to the MDS under one tid, until that is acknowledged.

    Attributes:
        snap: the snapshot's state that is flushed; None for that of the inode itself.
    """

    __slots__ = ("caps", "ino", "sent_at", "snap", "tid")

    def __init__(self, tid: int, ino: int, caps: int, sent_at: float, snap: CapSnap | None = None) -> None:
        self.tid: int = tid
        self.ino: int = ino
        self.caps: int = caps
        self.sent_at: float = sent_at
        self.snap: CapSnap | None = snap


class SnapContext(NamedTuple):
    """The snapshots that data written now must leave intact; every write to an OSD carries them.

    Attributes:
        seq: the newest snapid the realm had heard of.
        snaps: snapids, newest first.
    """

    seq: int
    snaps: tuple[int, ...]


class CapSnap:
    """An inode as it was when a snapshot was taken, while that is not safe at the MDS (kernel: ``ceph_cap_snap``).

    Attributes:
        context: what it was written under; its ``seq`` is what the FLUSHSNAP ``follows``.
        need_flush: the MDS waits for it; else it is kept for its dirty data only.
        writing: a write from before the snapshot is still going on, so size and times are not final.
        issued, dirty: caps then held, and those under which something was changed.
        flush_tid: of its FLUSHSNAP; 0 while that is unsent.
    """

    __slots__ = (
        "atime", "btime", "change_attr", "context", "ctime", "dirty", "flush_tid", "gid", "issued", "layout", "mode",
        "mtime", "need_flush", "since", "size", "time_warp_seq", "truncate_seq", "truncate_size", "uid", "writing",
        "xattr_version", "xattrs",
    )  # fmt: skip

    def __init__(self, inode: Inode, context: SnapContext, issued: int, dirty: int, since: float) -> None:
        self.context: SnapContext = context
        self.issued: int = issued
        self.dirty: int = dirty
        self.since: float = since
        self.need_flush: bool = False
        self.writing: bool = False
        self.flush_tid: int = 0
        self.mode: int = inode.mode
        self.uid: int = inode.uid
        self.gid: int = inode.gid
        self.btime: int = inode.btime
        self.xattrs: dict[str, bytes] | None = inode.xattrs
        self.xattr_version: int = inode.xattr_version
        self.finish(inode)

    def finish(self, inode: Inode) -> None:
        """Nothing from before the snapshot is written any more: this is how it stays."""
        self.writing = False
        self.size: int = inode.size
        self.mtime: int = inode.mtime
        self.atime: int = inode.atime
        self.ctime: int = inode.ctime
        self.change_attr: int = inode.change_attr
        self.time_warp_seq: int = inode.time_warp_seq
        self.truncate_seq: int = inode.truncate_seq
        self.truncate_size: int = inode.truncate_size
        self.layout: FileLayout = inode.layout


class DirtyData:
    """Data written into memory under one snap context, until the handler has written it to the OSDs.

    Attributes:
        writing_back: the handler is at it.
        again: more was written meanwhile.
    """

    __slots__ = ("again", "context", "since", "writing_back")

    def __init__(self, context: SnapContext, since: float) -> None:
        self.context: SnapContext = context
        self.since: float = since
        self.writing_back: bool = False
        self.again: bool = False


class RefWait:
    """Somebody who waits to use caps.

    Attributes:
        mode: `FileMode` bits of his handle.
        need: bits he cannot do without.
        want: further bits he will take along if they are there; one that is being revoked he waits for too.
        endoff: how far into the file he is going to write; 0 where he is not.
    """

    __slots__ = ("deadline", "endoff", "mode", "need", "since", "token", "want")

    def __init__(self, token: int, mode: int, need: int, want: int, endoff: int, since: float, deadline: float) -> None:
        self.token: int = token
        self.mode: int = mode
        self.need: int = need
        self.want: int = want
        self.endoff: int = endoff
        self.since: float = since
        self.deadline: float = deadline


class Hook(NamedTuple):
    """One thing a data handler is to do for an inode.

    Attributes:
        kind: "writeback", "invalidate" or "truncate".
        data: what is to be written back; None for the others.
        gen: generation of cached data that goes.
        size, truncate_seq: of the truncation.
    """

    kind: str
    since: float
    data: DirtyData | None = None
    gen: int = 0
    size: int = 0
    truncate_seq: int = 0


class Use:
    """What is kept of an inode only while it is open, changed, or its data are in use.

    Attributes:
        modes: how often it is open in each `FileMode`.
        rd, wr, cache, buffer: how many blocks use FILE_RD, FILE_WR, FILE_CACHE, FILE_BUFFER right now.
        head: the snap context that what is changed or written now belongs to; None while nothing is.
        dirty_since: when the first of what is dirty and not sent was changed.
        dirty_data: written to memory only, oldest snap context first.
        cached_gen: generation of FILE_CACHE under which the handler may have cached data; 0 if it has none.
        cap_snaps: snapshots whose state is not safe at the MDS, oldest first.
        wanted_max_size, requested_max_size: how far somebody wants to write, and how far the MDS was asked for.
        reported_size: the size the MDS was last told.
        waiting: for caps.
        hooks: what the handler is to do, the first of which it is doing.
        lost: how the session went that all its caps came from; None while there are caps, or will be by themselves.
        error: what befell data or changes, None if nothing did; ``errors`` counts them, so that each handle tells once.
    """

    __slots__ = (
        "buffer", "cache", "cached_gen", "cap_snaps", "dirty_data", "dirty_since", "error", "errors", "head", "hooks",
        "lost", "modes", "rd", "reported_size", "requested_max_size", "waiting", "wanted_max_size", "wr",
    )  # fmt: skip

    def __init__(self, size: int) -> None:
        self.modes: dict[int, int] = {}
        self.rd: int = 0
        self.wr: int = 0
        self.cache: int = 0
        self.buffer: int = 0
        self.head: SnapContext | None = None
        self.dirty_since: float = 0.0
        self.dirty_data: list[DirtyData] = []
        self.cached_gen: int = 0
        self.lost: Exception | None = None
        self.cap_snaps: list[CapSnap] = []
        self.wanted_max_size: int = 0
        self.requested_max_size: int = 0
        self.reported_size: int = size
        self.waiting: list[RefWait] = []  # a deque takes 760 bytes, and these are nearly always empty
        self.hooks: list[Hook] = []
        self.error: Exception | None = None
        self.errors: int = 0

    @property
    def over(self) -> bool:
        """Whether nothing uses the inode any more."""
        return not (
            self.modes
            or self.rd
            or self.wr
            or self.cache
            or self.buffer
            or self.dirty_data
            or self.cached_gen
            or self.cap_snaps
            or self.waiting
            or self.hooks
        )


class Lease(msgspec.Struct, eq=False, gc=False):
    """A rank's promise to say when a name changes, in generation ``gen`` of its session and until ``expires``."""

    rank: int
    gen: int
    seq: int
    expires: float


class Dentry(msgspec.Struct, eq=False, gc=False):
    """One name of a directory; ``ino`` 0 is known not to exist.

    It holds while its lease does, or while the directory's FILE_SHARED is the one it was learnt under: most have no
    lease, as MDSs grant the other wherever they can.
    """

    ino: int
    shared_gen: int
    lease: Lease | None = None


def limits(quota: Quota) -> Quota | None:
    """``quota``, or None where it limits nothing."""
    return quota if quota.max_bytes or quota.max_files else None


class DirCounts(msgspec.Struct, eq=False, gc=False):
    """What is counted of a directory.

    Attributes:
        subdirs: directories in it.
        rbytes, rfiles, rsubdirs: recursive; it counts itself among the last.
        quota: what they are limited to; None where nothing is.
    """

    subdirs: int = 0
    rbytes: int = 0
    rfiles: int = 0
    rsubdirs: int = 0
    quota: Quota | None = None

    @classmethod
    def of(cls, told: InodeStat) -> Self | None:
        """As an MDS tells of it; None if it is no directory."""
        if not stat.S_ISDIR(told.mode):
            return None
        return cls(told.subdirs, told.rbytes, told.rfiles, told.rsubdirs, limits(told.quota))


class Inode(msgspec.Struct, eq=False, gc=False):
    """One inode: its metadata as far as we know it, and our caps on it.

    Attributes:
        counts: None where it is no directory.
        held: its cap, where there is one; where several ranks have granted some, those by rank. See `caps`.
        auth_rank: the rank flushes go to; -1 while there is none.
        dirty: bits of what was changed here and not sent.
        flushing: bits of what was sent and not acknowledged.
        flushes: those on their way, oldest first.
        use: what is kept while it is open, changed or in use; None while it is not.
        realm: inode of the snap realm it lies in; 0 if unknown.
        parent, name: a directory that leads to it and under which name; 0 if unknown.
        cache_gen: generation of FILE_CACHE; rises whenever that is newly granted.
        hold_min, hold_max: until when caps no longer wanted are kept whatever comes, and at the longest.
        shared_gen: rises when FILE_SHARED comes or goes; what was learnt of a directory under an older one is void.
        children: names known of a directory, None before the first.
        hot: touched since the cache was last looked through for what is cold.
    """

    ino: int
    mode: int
    uid: int
    gid: int
    nlink: int
    rdev: int
    size: int
    max_size: int
    truncate_size: int
    truncate_seq: int
    time_warp_seq: int
    atime: int
    mtime: int
    ctime: int
    btime: int
    change_attr: int
    xattr_version: int
    xattrs: dict[str, bytes] | None
    layout: FileLayout
    pool_ns: str
    symlink: str
    counts: DirCounts | None
    held: InodeCap | dict[int, InodeCap] | None = None
    auth_rank: int = -1
    dirty: int = 0
    flushing: int = 0
    flushes: tuple[Flush, ...] = ()
    use: Use | None = None
    realm: int = 0
    parent: int = 0
    name: str = ""
    cache_gen: int = 0
    complete_gen: int = -1
    locks: FileLocks | None = None
    hold_min: float = 0.0
    hold_max: float = 0.0
    shared_gen: int = 0
    children: dict[str, Dentry] | None = None
    hot: bool = False

    @classmethod
    def of(cls, told: InodeStat, same: Callable[[Any], Any] = lambda value: value) -> Self:
        """As an MDS tells of it.

        Args:
            same: gives for a value one that is kept already and equal, where there is one: most inodes are alike.
        """
        ctime, mtime, atime, btime = told.ctime, told.mtime, told.atime, told.btime
        mtime = ctime if mtime == ctime else mtime
        atime = mtime if atime == mtime else atime
        btime = atime if btime == atime else btime
        xattrs = NO_XATTRS if told.xattrs == NO_XATTRS else told.xattrs
        mode, uid, gid, max_size, layout = same((told.mode, told.uid, told.gid, told.max_size, told.layout))
        return cls(
            told.ino, mode, uid, gid, told.nlink, told.rdev, told.size, max_size, same(told.truncate_size),
            told.truncate_seq, told.time_warp_seq, atime, mtime, ctime, btime, told.change_attr, told.xattr_version,
            xattrs, layout, told.pool_ns, told.symlink, DirCounts.of(told),
        )  # fmt: skip

    def cap(self, rank: int) -> InodeCap | None:
        """What ``rank`` has granted."""
        held = self.held
        if type(held) is InodeCap:
            return held if held.rank == rank else None
        return held.get(rank) if held else None  # type: ignore[union-attr]  # a dict, which mypy does not conclude

    @property
    def caps(self) -> dict[int, InodeCap]:
        """All caps by rank; not to be changed."""
        held = self.held
        if held is None:
            return {}
        return {held.rank: held} if isinstance(held, InodeCap) else held

    def add_cap(self, cap: InodeCap) -> None:
        """A rank has granted something for the first time."""
        if self.held is None:
            self.held = cap
        else:
            self.held = {**self.caps, cap.rank: cap}

    def remove_cap(self, cap: InodeCap) -> None:
        """Of ``cap.rank`` nothing is held any more."""
        left = {rank: other for rank, other in self.caps.items() if rank != cap.rank}
        self.held = left if len(left) > 1 else next(iter(left.values()), None)

    @property
    def auth_cap(self) -> InodeCap | None:
        return self.cap(self.auth_rank)

    @property
    def used(self) -> int:
        """Bits in use this moment; a revoke of them waits."""
        use = self.use
        if use is None:
            return 0
        used = Cap.PIN if use.modes else 0
        if use.rd:
            used |= Cap.FILE_RD
        if use.wr:
            used |= Cap.FILE_WR
        if use.cache or use.cached_gen:
            used |= Cap.FILE_CACHE
        if use.buffer or use.dirty_data:
            used |= Cap.FILE_BUFFER
        return used

    @property
    def file_wanted(self) -> int:
        """Bits that those who have it open, or wait to use it, want."""
        use = self.use
        if use is None:
            return 0
        wanted = 0
        for mode in use.modes:
            wanted |= wanted_for_mode(mode)
        for waiting in use.waiting:
            wanted |= waiting.need | waiting.want
        return wanted

    @property
    def pinned(self) -> bool:
        """Whether it must stay: in use, locked, or changed here and not yet safe at the MDS."""
        return self.use is not None or self.locks is not None or bool(self.dirty or self.flushing)

    @property
    def unsent_snap(self) -> bool:
        """Whether the MDS is to get a FLUSHSNAP that has not left yet.

        Until it has, no file-write bit may be given up without saying so: the MDS would take the present state for
        that of the snapshot (ceph: src/mds/Locker.cc, ``_do_null_snapflush``).
        """
        use = self.use
        if use is None or not use.cap_snaps:
            return False
        return any(snap.need_flush and not snap.flush_tid for snap in use.cap_snaps)
