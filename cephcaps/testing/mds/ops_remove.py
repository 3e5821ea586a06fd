"""Taking names away and moving them.

Facts: ceph: src/mds/Server.cc (``handle_client_unlink``, ``handle_client_rename``).
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from cephcaps.testing.mds.inode import Inode
from cephcaps.testing.mds.ops_attr import touch
from cephcaps.testing.mds.outcome import Outcome
from cephcaps.testing.mds.request import Refused, Request
from cephcaps.testing.mds.walk import Place
from cephwire.capbits import Cap as Bit
from cephwire.requestop import RequestOp

if TYPE_CHECKING:
    from cephcaps.testing.mds.server import Mds

__all__ = ["rename", "unlink"]


def unlink(mds: Mds, request: Request) -> Outcome:
    place, name = mds.walker.walk_to_name(request.message.path)
    directory = place.live_dir
    mds.caps.acquire(request, [(directory, "F", "w")])  # also for what is refused below, as the real one does
    dentry = directory.entries.get(name)
    if dentry is None:
        raise Refused(errno.ENOENT)
    inode = dentry.inode
    if request.message.op == RequestOp.RMDIR:
        if not inode.is_dir:
            raise Refused(errno.ENOTDIR)
        _check_empty(inode)
    elif inode.is_dir:
        raise Refused(errno.EISDIR)
    mds.caps.acquire(request, _locks_to_remove(directory, inode))
    mds.leases.recall(request, dentry)
    if inode.is_dir:
        _check_empty(inode)
    mds.tree.unlink(dentry, request.message.stamp)
    _dropped(mds, inode, request.message.stamp)
    return Outcome(directory=place, name=name, changed=True)


def _locks_to_remove(directory: Inode, inode: Inode) -> list[tuple[Inode, str, str]]:
    needs = [(directory, "F", "w"), (inode, "L", "x")]
    return [*needs, (inode, "F", "r")] if inode.is_dir else needs


def _check_empty(inode: Inode) -> None:
    if inode.entries or (inode.realm is not None and inode.realm.snapshots):
        raise Refused(errno.ENOTEMPTY)


def _dropped(mds: Mds, inode: Inode, stamp: int) -> None:
    """It has lost a name."""
    inode.nlink = 0 if inode.is_dir else inode.nlink - 1
    touch(inode, stamp)
    if not inode.nlink:
        for cap in inode.caps.values():
            cap.wanted |= Bit.LINK_SHARED  # so that whoever holds it is told (seen from Ceph 16.2 and 20.2)
    if not inode.caps:
        mds.tree.forget(inode)


def rename(mds: Mds, request: Request) -> Outcome:
    to_place, to_name = mds.walker.walk_to_name(request.message.path)
    from_place, from_name = mds.walker.walk_to_name(request.message.path2)
    to_dir, from_dir = to_place.live_dir, from_place.live_dir
    mds.caps.acquire(request, [(from_dir, "F", "w"), (to_dir, "F", "w")])
    dentry = from_dir.entries.get(from_name)
    if dentry is None:
        raise Refused(errno.ENOENT)
    inode = dentry.inode
    former = to_dir.entries.get(to_name)
    if inode.is_dir and mds.tree.is_above(inode, to_dir):
        raise Refused(errno.EINVAL)
    if former is not None and former.inode is not inode:
        _check_replaceable(inode, former.inode)
    needs = [(from_dir, "F", "w"), (to_dir, "F", "w"), (inode, "L", "x")]
    if former is not None and former.inode is not inode:
        needs += _locks_to_remove(to_dir, former.inode)
    mds.caps.acquire(request, needs)
    if former is not None and former.inode is inode:
        return Outcome(Place(inode), to_place, to_name, former, changed=True)
    mds.leases.recall(request, dentry)
    stamp = request.message.stamp
    if former is not None:
        mds.leases.recall(request, former)
        mds.tree.unlink(former, stamp)
        _dropped(mds, former.inode, stamp)
    realm = mds.realm_of(inode)
    mds.tree.unlink(dentry, stamp)
    moved = mds.tree.link(to_dir, to_name, inode, stamp)
    touch(inode, stamp)
    if mds.realm_of(inode) != realm:
        mds.moved_realm(inode)
    return Outcome(Place(inode), to_place, to_name, moved, changed=True)


def _check_replaceable(inode: Inode, former: Inode) -> None:
    if inode.is_dir and not former.is_dir:
        raise Refused(errno.ENOTDIR)
    if former.is_dir:
        if not inode.is_dir:
            raise Refused(errno.EISDIR)
        _check_empty(former)
