"""What the MDS knows: inodes, names, and who holds which caps and leases."""

from __future__ import annotations

import stat
from bisect import bisect_left, insort
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cephcaps.testing.mds.locks import Lock, LockState
from cephwire.capbits import Cap as Bit
from cephwire.filelock import FileLock
from cephwire.frag import dentry_hash
from cephwire.inode import FileLayout, Quota

if TYPE_CHECKING:
    from cephcaps.testing.mds.request import Request
    from cephcaps.testing.mds.session import Session
    from cephcaps.testing.mds.snaps import Realm

__all__ = ["NEVER_TRUNCATED", "ROOT_INO", "Attributes", "Cap", "Dentry", "Inode"]

ROOT_INO = 1
NEVER_TRUNCATED = 2**64 - 1
NO_LAYOUT = FileLayout(0, 0, 0, 0, 0, 0, 0)
NO_QUOTA = Quota(0, 0)
DIR_EVER = Bit.PIN | Bit.ANY_EXCL | Bit.ANY_SHARED
FILE_LIKES = Bit.ANY & ~Bit.FILE_LAZYIO


@dataclass(slots=True)
class Attributes:
    """What a snapshot keeps of an inode. Times in nanoseconds since 1970."""

    ino: int
    mode: int
    uid: int = 0
    gid: int = 0
    nlink: int = 1
    size: int = 0
    rdev: int = 0
    atime: int = 0
    mtime: int = 0
    ctime: int = 0
    btime: int = 0
    time_warp_seq: int = 0
    truncate_size: int = NEVER_TRUNCATED
    truncate_seq: int = 1
    change_attr: int = 0
    version: int = 1
    xattr_version: int = 1
    symlink: str = ""
    layout: FileLayout = NO_LAYOUT
    pool_ns: str = ""
    quota: Quota = NO_QUOTA
    pin: int = -1
    files: int = 0
    subdirs: int = 0
    rbytes: int = 0
    rfiles: int = 0
    rsubdirs: int = 0
    rctime: int = 0
    xattrs: dict[str, bytes] = field(default_factory=dict)

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)


@dataclass(slots=True, eq=False)
class Cap:
    """What one client holds of one inode.

    Attributes:
        pending: what it was told last that it has.
        issued: what it may still use; more than ``pending`` while bits are asked back.
        seq: of the newest grant, revoke or reply; ``issue_seq`` of the newest reply.
        revoked_at: since when bits are asked back; 0.0 if none are.
        history: what the client held before bits were asked back, and the seq it had then, oldest first.
        suppressed: a reply under way tells the client what it gets.
    """

    session: Session
    inode: Inode
    cap_id: int
    pending: int = 0
    issued: int = 0
    wanted: int = 0
    seq: int = 0
    issue_seq: int = 0
    mseq: int = 0
    revoked_at: float = 0.0
    history: list[tuple[int, int]] = field(default_factory=list)
    suppressed: bool = False

    def issue(self, bits: int) -> None:
        """Tell the client that it has these bits now, and no others."""
        if self.pending & ~bits:
            self.history.append((self.seq, self.pending))
        self.pending = bits
        self.issued |= bits
        self.seq += 1

    def add(self, bits: int) -> None:
        """Give more, with a reply."""
        self.pending |= bits
        self.issued |= bits
        self.seq += 1
        self.issue_seq = self.seq

    def confirmed(self, seq: int, bits: int) -> None:
        """The client says what it holds, having seen everything up to ``seq``."""
        if seq == self.seq:
            self.issued = bits
            self.pending &= bits
            self.history.clear()
        else:
            # Said before it has seen what was asked last: what it gave up already needs no asking (ceph:
            # src/mds/Capability.h, ``confirm_receipt``).
            self.history = [(at, bits if at == seq else before) for at, before in self.history if at >= seq]
            self.issued = self.pending if self.history else bits | self.pending
            for _, before in self.history:
                self.issued |= before
        if not self.revoking:
            self.revoked_at = 0.0

    @property
    def revoking(self) -> int:
        return self.issued & ~self.pending


@dataclass(slots=True, eq=False)
class Dentry:
    """A name in a directory.

    Attributes:
        leases: seq of each client's lease and when it ends.
        revoking: clients whose lease is asked back.
    """

    dir: Inode
    name: str
    inode: Inode
    primary: bool = True
    leases: dict[Session, tuple[int, float]] = field(default_factory=dict)
    revoking: set[Session] = field(default_factory=set)


class Inode(Attributes):
    """An inode as it is now.

    Attributes:
        entries: of a directory; ``order`` the same by hash, once somebody listed it.
        links: names of this inode, the primary one first.
        caps: by client.
        loner: the client that exclusive states favour, and ``want_loner`` the one that they should.
        max_size: bytes up to which each client may write.
        waiting: requests that wait for something here.
        realm: its own, if snapshots are made here.
        file_locks: by rule.
        unsafe_flushes: what clients flushed and has not been acknowledged.
    """

    __slots__ = (
        "auth",
        "caps",
        "entries",
        "file",
        "file_locks",
        "link",
        "links",
        "loner",
        "max_size",
        "order",
        "realm",
        "unsafe_flushes",
        "waiting",
        "want_loner",
        "xattr",
    )

    def __init__(self, ino: int, mode: int, stamp: int) -> None:
        super().__init__(ino, mode)
        self.atime = self.mtime = self.ctime = self.btime = self.rctime = stamp
        self.rsubdirs = int(self.is_dir)
        self.rfiles = int(not self.is_dir)
        self.entries: dict[str, Dentry] = {}
        self.order: list[tuple[int, str]] | None = None
        self.links: list[Dentry] = []
        self.caps: dict[Session, Cap] = {}
        self.loner: Session | None = None
        self.want_loner: Session | None = None
        self.auth, self.link, self.xattr, self.file = Lock("A"), Lock("L"), Lock("X"), Lock("F")
        self.max_size: dict[int, int] = {}
        self.waiting: list[Request] = []
        self.unsafe_flushes = 0
        self.realm: Realm | None = None
        self.file_locks: dict[int, list[FileLock]] = {}

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other

    @property
    def locks(self) -> tuple[Lock, Lock, Lock, Lock]:
        return self.file, self.auth, self.link, self.xattr

    def lock(self, name: str) -> Lock:
        return {"A": self.auth, "L": self.link, "X": self.xattr, "F": self.file}[name]

    @property
    def parent(self) -> Inode | None:
        """The directory of its primary name."""
        return self.links[0].dir if self.links else None

    @property
    def likes(self) -> int:
        """What clients get unasked, where it is allowed (ceph: ``CInode::get_caps_liked``)."""
        return DIR_EVER if self.is_dir else FILE_LIKES

    def allowed(self, session: Session | None) -> int:
        """What a client may have; None asks for any that is not the loner."""
        loner = session is not None and session is self.loner
        bits = Bit.PIN
        for lock in self.locks:
            bits |= lock.caps(loner)
        return bits & DIR_EVER if self.is_dir else bits

    def begin_exclusive(self, session: Session) -> None:
        """A new inode is its maker's alone (ceph: src/mds/Server.cc, ``handle_client_openc``)."""
        self.loner = self.want_loner = session
        for lock in (self.auth, self.xattr, self.file):
            lock.state = LockState.EXCL

    # A directory

    def listing(self) -> list[tuple[int, str]]:
        """The names by hash, as listings go."""
        if self.order is None:
            self.order = sorted((name_hash(name), name) for name in self.entries)
        return self.order

    def add_entry(self, dentry: Dentry) -> None:
        self.entries[dentry.name] = dentry
        if self.order is not None:
            insort(self.order, (name_hash(dentry.name), dentry.name))

    def remove_entry(self, dentry: Dentry) -> None:
        del self.entries[dentry.name]
        if self.order is not None:
            del self.order[bisect_left(self.order, (name_hash(dentry.name), dentry.name))]


def name_hash(name: str) -> int:
    return dentry_hash(name.encode("utf-8", "surrogateescape"))
