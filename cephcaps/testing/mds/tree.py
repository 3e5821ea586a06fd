"""The names of the file system: directories, their entries, and the sums that directories keep."""

from __future__ import annotations

import stat
from collections import deque

from cephcaps.testing.mds.inode import ROOT_INO, Dentry, Inode

__all__ = ["FIRST_INO", "Tree"]

FIRST_INO = 0x10000000000
"""Where rank 0's inode numbers begin (ceph: src/mds/InoTable.cc)."""


SET_ASIDE = 1000
"""Numbers for what one client makes (ceph: ``mds_client_prealloc_inos``; src/mds/Server.cc, ``prepare_new_inode``)."""


class Tree:
    """All inodes, by number.

    Attributes:
        root: the directory that clients mount.
        inodes: those with a name, or that somebody still holds.
    """

    def __init__(self, stamp: int) -> None:
        self.root: Inode = Inode(ROOT_INO, stat.S_IFDIR | 0o755, stamp)
        self.inodes: dict[int, Inode] = {ROOT_INO: self.root}
        self._next_ino = FIRST_INO

    def new_ino(self, own: deque[range]) -> int:
        """The number of a new inode: of those set aside for a client, which are made up for when they run short."""
        if own:
            ino, own[0] = own[0][0], own[0][1:]
            if not own[0]:
                own.popleft()
        else:
            ino = self._take(1)
        left = sum(map(len, own))
        if left < SET_ASIDE // 2:
            first = self._take(SET_ASIDE - left)
            own.append(range(first, self._next_ino))
        return ino

    def _take(self, count: int) -> int:
        self._next_ino += count
        return self._next_ino - count

    def add(self, inode: Inode) -> Inode:
        self.inodes[inode.ino] = inode
        return inode

    def link(self, directory: Inode, name: str, inode: Inode, stamp: int) -> Dentry:
        """Give ``inode`` a name."""
        dentry = Dentry(directory, name, inode, primary=not inode.links)
        inode.links += (dentry,)
        directory.add_entry(dentry)
        self._count(directory, inode, 1)
        if dentry.primary:
            self._sum(directory, inode.rfiles, inode.rsubdirs, inode.rbytes if inode.is_dir else inode.size, stamp)
        self._changed(directory, stamp)
        return dentry

    def unlink(self, dentry: Dentry, stamp: int) -> None:
        """Take a name away; the next becomes primary."""
        directory, inode = dentry.dir, dentry.inode
        directory.remove_entry(dentry)
        inode.links = tuple(link for link in inode.links if link is not dentry)
        self._count(directory, inode, -1)
        size = inode.rbytes if inode.is_dir else inode.size
        if dentry.primary:
            self._sum(directory, -inode.rfiles, -inode.rsubdirs, -size, stamp)
            dentry.primary = False
            if inode.links:
                inode.links[0].primary = True
                self._sum(inode.links[0].dir, inode.rfiles, inode.rsubdirs, size, stamp)
        self._changed(directory, stamp)

    def resized(self, inode: Inode, size: int, stamp: int) -> None:
        """A file's size is another one."""
        before, inode.size = inode.size, size
        inode.rbytes = size
        if inode.parent is not None:
            self._sum(inode.parent, 0, 0, size - before, stamp)

    def forget(self, inode: Inode) -> None:
        """An inode without name that nobody holds."""
        if not inode.links and inode is not self.root:
            self.inodes.pop(inode.ino, None)

    @staticmethod
    def _count(directory: Inode, inode: Inode, by: int) -> None:
        if inode.is_dir:
            directory.subdirs += by
        else:
            directory.files += by

    @staticmethod
    def _sum(directory: Inode | None, files: int, subdirs: int, size: int, stamp: int) -> None:
        while directory is not None:
            directory.rfiles += files
            directory.rsubdirs += subdirs
            directory.rbytes += size
            directory.rctime = max(directory.rctime, stamp)
            directory = directory.parent

    @staticmethod
    def _changed(directory: Inode, stamp: int) -> None:
        directory.mtime = max(directory.mtime, stamp)
        directory.ctime = max(directory.ctime, stamp)
        directory.change_attr += 1
        directory.version += 1

    @staticmethod
    def path(inode: Inode) -> str:
        """Where it is, from the root; "" for one without a name."""
        parts: list[str] = []
        while inode.links:
            parts.append(inode.links[0].name)
            inode = inode.links[0].dir
        return "/" + "/".join(reversed(parts)) if inode.ino == ROOT_INO else ""

    @staticmethod
    def depth(inode: Inode) -> int:
        """How many directories there are above it."""
        depth = 0
        while inode.parent is not None:
            inode, depth = inode.parent, depth + 1
        return depth

    @staticmethod
    def is_above(directory: Inode, inode: Inode | None) -> bool:
        """Whether ``inode`` is ``directory`` or lies somewhere below it."""
        while inode is not None:
            if inode is directory:
                return True
            inode = inode.parent
        return False
