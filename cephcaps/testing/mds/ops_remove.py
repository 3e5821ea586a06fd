"""Taking names away and moving them.

Facts: ceph: src/mds/Server.cc (``handle_client_unlink``, ``handle_client_rename``).
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from cephcaps.testing.mds.holding import of
from cephcaps.testing.mds.inode import Inode
from cephcaps.testing.mds.ops_attr import touch
from cephcaps.testing.mds.outcome import Outcome
from cephcaps.testing.mds.paths import name_to_change, names_to_change
from cephcaps.testing.mds.request import Need, Refused, Request
from cephcaps.testing.mds.walk import Place
from cephwire.requestop import RequestOp

if TYPE_CHECKING:
    from cephcaps.testing.mds.server import Mds

__all__ = ["rename", "unlink"]


def unlink(mds: Mds, request: Request) -> Outcome:
    removes_dir = request.message.op == RequestOp.RMDIR
    request.uses_caches = not removes_dir
    directory, name = name_to_change(mds, request)
    dentry = directory.entries.get(name)
    if dentry is None:
        raise Refused(errno.ENOENT)
    inode = dentry.inode
    if inode.is_dir and not removes_dir:
        raise Refused(errno.EISDIR)
    if removes_dir:
        if not inode.is_dir:
            raise Refused(errno.ENOTDIR)
        if not inode.file.caches:  # else there may be changes that only clients know of
            _check_empty(inode)
    mds.caps.holding.acquire(request, _locks_to_remove(inode))
    if inode.is_dir:
        _check_empty(inode)
    if not removes_dir and dentry.primary and "/" not in request.message.path.path:
        mds.caps.holding.keep(request, directory)
    outcome = Outcome(directory=Place(directory), name=name, changed=True)
    was_primary = dentry.primary
    mds.tree.unlink(dentry, request.message.stamp)
    _dropped(mds, inode, outcome, request.message.stamp, was_primary=was_primary)
    return outcome


def _locks_to_move(inode: Inode) -> list[Need]:
    """What is locked of an inode that gets or loses a name."""
    return [*of(inode, "L", "x"), *([Need(inode.snaplock, "x")] if inode.is_dir else ())]


def _locks_to_remove(inode: Inode) -> list[Need]:
    return [*_locks_to_move(inode), *(of(inode, "F", "r") if inode.is_dir else ())]


def _check_empty(inode: Inode) -> None:
    if inode.entries or (inode.realm is not None and inode.realm.snapshots):
        raise Refused(errno.ENOTEMPTY)


def _dropped(mds: Mds, inode: Inode, outcome: Outcome, stamp: int, *, was_primary: bool) -> None:
    """It has lost a name."""
    inode.nlink = 0 if inode.is_dir else inode.nlink - 1
    touch(inode, stamp)
    outcome.once_safe.append(lambda: _note(inode))
    if was_primary and inode.links:
        outcome.in_the_end.append(lambda: mds.relink(inode))
    if not inode.caps:
        mds.tree.forget(inode)


def _note(inode: Inode) -> None:
    inode.unlinked = not inode.nlink


def rename(mds: Mds, request: Request) -> Outcome:
    (to_dir, to_name), (from_dir, from_name) = names_to_change(mds, request, moves=True)
    dentry = from_dir.entries.get(from_name)
    if dentry is None:
        raise Refused(errno.ENOENT)
    inode = dentry.inode
    former = to_dir.entries.get(to_name)
    if former is dentry:
        return Outcome()
    if inode.is_dir and mds.tree.is_above(inode, to_dir):
        raise Refused(errno.EINVAL)
    needs = _locks_to_move(inode)
    if former is not None:
        _check_replaceable(inode, former.inode)
        if former.inode is inode:
            return Outcome()
        theirs = _locks_to_remove(former.inode)
        needs = theirs + needs if _goes_first(mds, former.inode, to_dir, inode, from_dir) else needs + theirs
    mds.caps.holding.acquire(request, needs)
    stamp = request.message.stamp
    outcome = Outcome(Place(inode), Place(to_dir), to_name, changed=True)
    if former is not None:
        if former.inode.is_dir:
            _check_empty(former.inode)
        was_primary = former.primary
        mds.tree.unlink(former, stamp)
        _dropped(mds, former.inode, outcome, stamp, was_primary=was_primary)
    realm = mds.realm_of(inode)
    mds.tree.unlink(dentry, stamp)
    outcome.dentry = mds.tree.link(to_dir, to_name, inode, stamp)
    touch(inode, stamp)
    if mds.realm_of(inode) != realm:
        mds.moved_realm(inode)
    return outcome


def _goes_first(mds: Mds, former: Inode, to_dir: Inode, inode: Inode, from_dir: Inode) -> bool:
    """Whether what is replaced is locked before what moves there: directories from the root down, then by number."""
    if inode.is_dir and (depths := (mds.tree.depth(to_dir), mds.tree.depth(from_dir))) and depths[0] != depths[1]:
        return depths[0] < depths[1]
    return former.ino < inode.ino


def _check_replaceable(inode: Inode, former: Inode) -> None:
    if former.is_dir:
        if not former.file.caches:
            _check_empty(former)
        if not inode.is_dir:
            raise Refused(errno.EISDIR)
    elif inode.is_dir:
        raise Refused(errno.ENOTDIR)
