"""What the public calls give back about files."""

from __future__ import annotations

import stat
from typing import Self

import msgspec

from cephcaps.caps import Caps
from cephcaps.engine.inode import Inode
from cephcaps.engine.locks import OWNER_ALONE
from cephwire.filelock import FileLock, LockType

__all__ = ["DirEntry", "LockHolder", "Snapshot", "Stat"]


class Stat(msgspec.Struct, frozen=True, gc=False):
    """One inode, as its MDS told of it and as changed here since."""

    ino: int
    mode: int
    """File type and permissions, as in ``st_mode``."""
    uid: int
    gid: int
    nlink: int
    """Hard links; of a directory, as everywhere, 2 and one for each directory in it. The MDS counts 1 there."""
    size: int
    """Bytes; of a directory all bytes below it, as libcephfs gives it."""
    rdev: int
    """Device number of a device node."""
    atime: int
    """Nanoseconds since the epoch, as all times."""
    mtime: int
    ctime: int
    """When it was last changed; never before ``mtime``, as libcephfs gives it (``Client::fill_statx``)."""
    btime: int
    """When it was made."""
    change_attr: int
    """Rises with every change."""
    xattr_version: int
    """Rises with every change of an extended attribute."""
    truncate_seq: int
    """Counts truncations."""
    caps: Caps
    """What we may do with the inode now."""

    @classmethod
    def of(cls, inode: Inode, issued: int) -> Self:
        counts = inode.counts
        return cls(
            inode.ino,
            inode.mode,
            inode.uid,
            inode.gid,
            counts.subdirs + 2 if counts is not None and inode.nlink else inode.nlink,
            inode.size if counts is None else counts.rbytes,
            inode.rdev,
            inode.atime,
            inode.mtime,
            inode.ctime if inode.ctime > inode.mtime else inode.mtime,
            inode.btime,
            inode.change_attr,
            inode.xattr_version,
            inode.truncate_seq,
            Caps.of(issued),
        )

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_symlink(self) -> bool:
        return stat.S_ISLNK(self.mode)


class LockHolder(msgspec.Struct, frozen=True):
    """A lock of somebody else that is in the way."""

    exclusive: bool
    start: int
    length: int
    """Bytes; 0 is to the end of the file."""
    client: int
    """Global id of his client."""
    owner: int
    """Who he is there."""
    pid: int
    """His process, if his client tells."""

    @classmethod
    def of(cls, lock: FileLock) -> Self:
        owner = lock.owner & ~OWNER_ALONE
        return cls(lock.type == LockType.EXCL, lock.start, lock.length, lock.client, owner, lock.pid)


class DirEntry(msgspec.Struct, frozen=True, gc=False):
    """One name in a directory."""

    name: str
    """Bytes that are no UTF-8 appear as surrogates, as in ``os.listdir``."""
    ino: int
    stat: Stat
    """As its MDS knew it; what another client holds dirty is not asked for. `Client.stat` does."""


class Snapshot(msgspec.Struct, frozen=True, gc=False):
    """One snapshot that a directory is in."""

    name: str
    """In the directory's ``.snap``; one taken of a directory above is called ``_NAME_INO`` after that one's number."""
    snapid: int
    btime: int
    """When it was taken, nanoseconds since the epoch."""
    metadata: dict[str, str]
