"""From a request's path to what it means, live or in a snapshot."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from cephcaps.testing.mds.inode import Inode
from cephcaps.testing.mds.request import Refused
from cephcaps.testing.mds.snaps import Snapshot, Snapshots, Viewed
from cephcaps.testing.mds.tree import Tree
from cephwire.inode import NOSNAP, SNAPDIR
from cephwire.request import FilePath

__all__ = ["Place", "Walker"]

NAME_MAX = 255
Look: TypeAlias = Callable[[Inode, str], None]


@dataclass(slots=True)
class Place:
    """An inode, how it is seen.

    Attributes:
        inode: live, or a copy in ``snapshot``; of a ``.snap`` directory the one it belongs to.
        snapdir: it is a ``.snap`` directory.
    """

    inode: Viewed
    snapshot: Snapshot | None = None
    snapdir: bool = False

    @property
    def snapid(self) -> int:
        if self.snapdir:
            return SNAPDIR
        return NOSNAP if self.snapshot is None else self.snapshot.snapid

    @property
    def live(self) -> Inode:
        """The inode, where only a live one will do."""
        if self.snapdir or not isinstance(self.inode, Inode):
            raise Refused(errno.EROFS)
        return self.inode

    @property
    def live_dir(self) -> Inode:
        if not self.inode.is_dir:
            raise Refused(errno.ENOTDIR)
        return self.live


class Walker:
    """Follows paths."""

    def __init__(self, tree: Tree, snapshots: Snapshots) -> None:
        self._tree = tree
        self._snapshots = snapshots

    def walk(self, path: FilePath, look: Look | None = None) -> Place:
        """What a path leads to.

        Args:
            look: is called before each name is looked up in a directory.
        Raises:
            Refused: ESTALE: no such base; ENOENT, ENOTDIR, ENAMETOOLONG of a name on the way.
        """
        place = self._base(path)
        for name in path.path.split("/") if path.path else ():
            place = self.step(place, name, look)
        return place

    def walk_to_name(self, path: FilePath, look: Look | None = None) -> tuple[Place, str]:
        """The directory a path's last name is in, and that name."""
        above, _, name = path.path.rpartition("/")
        if not path.path or not name:
            raise Refused(errno.EINVAL)
        place = self._base(path)
        # "/name" is a snapshot of the base: its one slash stands for an empty component.
        names = above.split("/") if "/" in path.path else []
        for each in names:
            place = self.step(place, each, look)
        if not place.inode.is_dir:
            raise Refused(errno.ENOTDIR)
        if len(name.encode("utf-8", "surrogateescape")) > NAME_MAX:
            raise Refused(errno.ENAMETOOLONG)
        return place, name

    def _base(self, path: FilePath) -> Place:
        inode = self._tree.inodes.get(path.ino)
        if inode is None:
            raise Refused(errno.ESTALE)
        return Place(inode)

    def step(self, place: Place, name: str, look: Look | None = None) -> Place:
        """One name further."""
        inode = place.inode
        if not inode.is_dir:
            raise Refused(errno.ENOTDIR)
        if len(name.encode("utf-8", "surrogateescape")) > NAME_MAX:
            raise Refused(errno.ENAMETOOLONG)
        if place.snapdir:
            assert isinstance(inode, Inode)
            for shown, snapshot in self.listed(inode):
                if shown == name:
                    return Place(snapshot.inodes[inode.ino], snapshot)
            raise Refused(errno.ENOENT)
        if isinstance(inode, Inode):
            if not name:
                return Place(inode, snapdir=True)
            if look is not None:
                look(inode, name)
            dentry = inode.entries.get(name)
            if dentry is None:
                raise Refused(errno.ENOENT)
            return Place(dentry.inode)
        copy = inode.names.get(name)
        if copy is None:
            raise Refused(errno.ENOENT)
        return Place(copy, place.snapshot)

    def listed(self, directory: Inode) -> list[tuple[str, Snapshot]]:
        """The snapshots a directory is in, by the names they have there: those made further up say where."""
        found = []
        at: Inode | None = directory
        while at is not None:
            for name, snapshot in at.realm.snapshots.items() if at.realm is not None else ():
                if directory.ino in snapshot.inodes:
                    found.append((name if at is directory else f"_{name}_{at.ino}", snapshot))
            at = at.parent
        return found
