"""Snapshots: what each keeps, the realms they belong to, and who is told.

A snapshot is a copy, made at once, of all attributes and names below its directory: simple, and slow for big trees.
What clients had not flushed when it was made comes as FLUSHSNAP later. Facts: ceph: src/mds/SnapRealm.cc,
src/mds/Server.cc (``handle_client_mksnap``), src/mds/Locker.cc (``_do_snap_update``).
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TypeAlias

from cephcaps.testing.mds.inode import Attributes, Inode
from cephwire.codec import Codec
from cephwire.snap import SNAP_TRACE, SNAP_TRACE_PLAIN, SnapRealm, SnapTrace

__all__ = ["Realm", "Snapped", "Snapshot", "Snapshots", "Viewed"]

FIRST_SNAPID = 2
"""1 is the root realm's birth (ceph: src/mds/SnapServer.cc)."""

traces: Codec[SnapTrace] = Codec(SNAP_TRACE)
plain_traces: Codec[SnapTrace] = Codec(SNAP_TRACE_PLAIN)


@dataclass(slots=True)
class Snapped(Attributes):
    """An inode as it was."""

    snapid: int = 0
    names: dict[str, Snapped] = field(default_factory=dict)


Viewed: TypeAlias = Inode | Snapped


@dataclass(slots=True)
class Snapshot:
    """One snapshot of one directory. Times in nanoseconds since 1970."""

    snapid: int
    name: str
    stamp: int
    top: Snapped
    inodes: dict[int, Snapped]
    metadata: dict[str, str]


@dataclass(slots=True, eq=False)
class Realm:
    """A directory with snapshots of its own; the root always is one."""

    inode: Inode
    created: int
    seq: int
    parent_since: int
    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    changed: int = 0


class Snapshots:
    """All snapshots of the file system."""

    def __init__(self, root: Inode) -> None:
        self.by_id: dict[int, Snapshot] = {}
        self._last = FIRST_SNAPID - 1
        root.realm = Realm(root, 1, 1, 1)

    @staticmethod
    def realm_of(inode: Inode | None) -> Realm:
        """The nearest realm at or above an inode; the root's for one without a name."""
        above = inode
        while inode is not None:
            if inode.realm is not None:
                return inode.realm
            above, inode = inode, inode.parent
        return Realm(above, 1, 1, 1) if above is not None and above.ino == 1 else _NOWHERE

    def trace(self, realm: Realm, *, modern: bool) -> bytes:
        """The realm and those above it, as clients are told."""
        told = []
        at: Realm | None = realm
        while at is not None:
            parent = at.inode.parent
            up = None if parent is None else self.realm_of(parent)
            told.append(
                SnapRealm(
                    ino=at.inode.ino,
                    created=at.created,
                    parent=0 if up is None else up.inode.ino,
                    parent_since=at.parent_since,
                    seq=at.seq,
                    snaps=tuple(sorted((snapshot.snapid for snapshot in at.snapshots.values()), reverse=True)),
                    prior_parent_snaps=(),
                    last_modified=at.changed if modern else None,
                    change_attr=0 if modern else None,
                )
            )
            at = up
        return (traces if modern else plain_traces).encode(SnapTrace(tuple(told)))

    def make(self, directory: Inode, name: str, stamp: int, metadata: dict[str, str]) -> tuple[Snapshot, bool]:
        """A snapshot of ``directory``, and whether it is a new realm."""
        self._last += 1
        fresh = directory.realm is None
        if directory.realm is None:
            directory.realm = Realm(directory, self._last, self._last, self._last)
        inodes: dict[int, Snapped] = {}
        top = self._copy(directory, self._last, inodes)
        snapshot = Snapshot(self._last, name, stamp, top, inodes, metadata)
        realm = directory.realm
        realm.snapshots[name], realm.seq, realm.changed = snapshot, self._last, stamp
        self.by_id[self._last] = snapshot
        return snapshot, fresh

    def remove(self, realm: Realm, name: str, stamp: int) -> Snapshot:
        snapshot = realm.snapshots.pop(name)
        del self.by_id[snapshot.snapid]
        self._last += 1  # a removal takes an id of its own (ceph: src/mds/SnapServer.cc, ``_prepare``)
        realm.seq, realm.changed = self._last, stamp
        return snapshot

    def flushed(self, ino: int, follows: int) -> list[Snapped]:
        """The copies that a FLUSHSNAP with this ``snap_follows`` is about."""
        return [
            snapshot.inodes[ino]
            for snapid, snapshot in self.by_id.items()
            if snapid > follows and ino in snapshot.inodes
        ]

    def newest_over(self, inode: Inode) -> int:
        """The newest snapid that an inode lies under; 0 for none."""
        newest = 0
        at: Inode | None = inode
        while at is not None:
            if at.realm is not None and at.realm.snapshots:
                newest = max(newest, *(snapshot.snapid for snapshot in at.realm.snapshots.values()))
            at = at.parent
        return newest

    @staticmethod
    def _copy(directory: Inode, snapid: int, inodes: dict[int, Snapped]) -> Snapped:
        top = _snapped(directory, snapid)
        inodes[top.ino] = top
        todo = [(directory, top)]
        while todo:
            live, copy = todo.pop()
            for name, dentry in live.entries.items():
                found = inodes.get(dentry.inode.ino)
                if found is None:
                    found = inodes[dentry.inode.ino] = _snapped(dentry.inode, snapid)
                    if found.is_dir:
                        todo.append((dentry.inode, found))
                copy.names[name] = found
        return top


COPIED = [each.name for each in fields(Attributes)]


def _snapped(inode: Inode, snapid: int) -> Snapped:
    values = {name: getattr(inode, name) for name in COPIED}
    values["xattrs"] = dict(inode.xattrs)
    return Snapped(**values, snapid=snapid)


_NOWHERE = Realm(Inode(1, 0o40755, 0), 1, 1, 1)
