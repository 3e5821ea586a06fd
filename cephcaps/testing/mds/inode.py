"""What the MDS knows: inodes, names, and who holds which caps and leases."""

from __future__ import annotations

import stat
from bisect import bisect_left, insort
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from cephcaps.testing.mds.capability import Cap
from cephcaps.testing.mds.locks import KINDS, SNAP, Lock, Who
from cephwire.capbits import Cap as Bit
from cephwire.filelock import FileLock
from cephwire.frag import dentry_hash
from cephwire.inode import FileLayout, Quota

if TYPE_CHECKING:
    from cephcaps.testing.mds.names import NameLock
    from cephcaps.testing.mds.request import Request
    from cephcaps.testing.mds.session import Session
    from cephcaps.testing.mds.snaps import Realm

__all__ = ["NEVER_TRUNCATED", "ROOT_INO", "Attributes", "Dentry", "Inode", "name_hash"]

ROOT_INO = 1
NEVER_TRUNCATED = 2**64 - 1
NO_LAYOUT = FileLayout(0, 0, 0, 0, 0, 0, 0)
NO_QUOTA = Quota(0, 0)
DIR_LIKES = Bit.PIN | Bit.ANY_EXCL | Bit.ANY_SHARED
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


class Dentry(msgspec.Struct, gc=False, eq=False):
    """A name in a directory.

    Attributes:
        leases: seq of each client's lease and when it ends.
        revoking: clients whose lease is asked back.
    """

    dir: Inode
    name: str
    inode: Inode
    primary: bool = True
    leases: dict[Session, tuple[int, float]] = msgspec.field(default_factory=dict)
    revoking: dict[Session, None] = msgspec.field(default_factory=dict)


class Inode(Attributes):
    """An inode as it is now.

    It, its locks, caps and names know each other, which Python's collector would have to find out: of a hundred
    thousand of them that takes seconds, in which nothing else is done. So it is spared all but the inodes
    (``gc=False``), and `forget` must be called before the last of them is let go.

    Attributes:
        entries: of a directory; ``order`` the same by hash, once somebody listed it.
        links: names of this inode, the primary one first.
        caps: by client.
        loner: the client that exclusive states favour, and ``want_loner`` the one that they should.
        wanting: how many clients want anything.
        max_size: bytes up to which each client may write; ``safe_ranges`` the same as is safe already, if that differs.
        names: those that changes have to themselves until they are safe.
        waiting: requests that wait for a file lock here.
        realm: its own, if snapshots are made here.
        unlinked: its last name is gone, and safely so.
        own_realm: it had several names once, and so is in no directory's realm.
        file_locks: by rule.
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
        "names",
        "order",
        "own_realm",
        "realm",
        "safe_ranges",
        "snap",
        "unlinked",
        "waiting",
        "want_loner",
        "wanting",
        "xattr",
    )

    def __init__(self, ino: int, mode: int, stamp: int) -> None:
        super().__init__(ino, mode)
        self.atime: int = stamp
        self.mtime: int = stamp
        self.ctime: int = stamp
        self.btime: int = stamp
        self.rctime: int = stamp
        self.rsubdirs: int = int(self.is_dir)
        self.rfiles: int = int(not self.is_dir)
        self.entries: dict[str, Dentry] = {}
        self.order: list[tuple[int, str]] | None = None
        self.links: tuple[Dentry, ...] = ()
        self.caps: dict[Session, Cap] = {}
        self.loner: Session | None = None
        self.want_loner: Session | None = None
        self.wanting: int = 0
        self.auth: Lock = Lock(self, "A")
        self.link: Lock = Lock(self, "L")
        self.xattr: Lock = Lock(self, "X")
        self.file: Lock = Lock(self, "F")
        self.snap: Lock | None = None
        self.max_size: dict[int, int] = {}
        self.safe_ranges: dict[int, int] | None = None
        self.waiting: tuple[Request, ...] = ()
        self.names: dict[str, NameLock] = {}
        self.own_realm: bool = False
        self.unlinked: bool = False
        self.realm: Realm | None = None
        self.file_locks: dict[int, list[FileLock]] = {}

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other

    def lock(self, kind: str) -> Lock:
        """One of its locks, by the letter of its caps."""
        return {"A": self.auth, "L": self.link, "X": self.xattr, "F": self.file}[kind]

    @property
    def snaplock(self) -> Lock:
        if self.snap is None:
            self.snap = Lock(self, SNAP)
        return self.snap

    @property
    def is_root(self) -> bool:
        return self.ino == ROOT_INO

    @property
    def parent(self) -> Inode | None:
        """The directory of its primary name."""
        return self.links[0].dir if self.links else None

    @property
    def target_loner(self) -> Session | None:
        """The loner, if it should be."""
        return self.loner if self.loner is self.want_loner else None

    # What clients have and want

    @property
    def likes(self) -> int:
        """What clients get unasked, where it is allowed (ceph: ``CInode::get_caps_liked``)."""
        return DIR_LIKES if self.is_dir else FILE_LIKES

    @property
    def shared(self) -> bool:
        """More than one client that is not stale has a cap."""
        if len(self.caps) < 2:
            return False
        return sum(not cap.stale for cap in self.caps.values()) > 1

    def allowed_by(self, who: Who) -> int:
        """What the states of its locks let such clients have."""
        bits = Bit.PIN
        for kind, shift in KINDS.items():
            bits |= self.lock(kind).allowed(who) << shift
        return bits

    def xlocker_mask(self, session: Session) -> int:
        bits = 0
        for kind, shift in KINDS.items():
            bits |= self.lock(kind).xlocker_mask(session) << shift
        return bits

    def issued_in(self, lock: Lock) -> tuple[int, int, int]:
        """What the loner has, others have, and who has it xlocked has, of a lock's group; unshifted."""
        loner = other = xlocker = 0
        for session, cap in self.caps.items():
            if session is self.loner:
                loner |= cap.issued
            else:
                other |= cap.issued
            if session is lock.xlocker:
                xlocker |= cap.issued
        shift, mask = lock.shift, lock.mask
        return loner >> shift & mask, other >> shift & mask, xlocker >> shift & mask

    def wanted_in(self, lock: Lock) -> tuple[int, int, int]:
        """What anybody wants, the loner wants, and others want, of a lock's group; unshifted."""
        if not self.wanting:
            return 0, 0, 0
        loner = other = 0
        for session, cap in self.caps.items():
            if cap.wanted and session.state != "stale":
                if session is self.loner:
                    loner |= cap.wanted
                else:
                    other |= cap.wanted
        shift, mask = lock.shift, lock.mask
        loner, other = loner >> shift & mask, other >> shift & mask
        return loner | other, loner, other

    def told_max_size(self, client: int) -> int:
        """How far a client is told that it may write: no further than it may now, and than is safe."""
        now = self.max_size.get(client, 0)
        return now if self.safe_ranges is None else min(now, self.safe_ranges.get(client, 0))

    def forget(self) -> None:
        """Let go of all that holds it."""
        self.caps.clear()
        self.entries.clear()
        self.names.clear()
        self.links, self.waiting, self.snap = (), (), None
        del self.auth, self.link, self.xattr, self.file

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
