"""Paths of requests, with what must be held of the directories on the way.

Facts: ceph: src/mds/MDCache.cc (``path_traverse``), src/mds/Server.cc (``rdlock_path_pin_ref``,
``rdlock_path_xlock_dentry``, ``rdlock_two_paths_xlock_destdn``).
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from cephcaps.testing.mds.holding import of
from cephcaps.testing.mds.inode import Inode
from cephcaps.testing.mds.names import read_name, take_name
from cephcaps.testing.mds.request import Refused, Request
from cephcaps.testing.mds.walk import Place
from cephwire.request import FilePath

if TYPE_CHECKING:
    from cephcaps.testing.mds.server import Mds

__all__ = ["follow", "follow_to_name", "name_to_change", "names_to_change"]


def _looks(mds: Mds, request: Request, directory: Inode, name: str) -> None:
    if directory.file.caches:  # whoever has locks kept there may have changed names by itself
        mds.caps.holding.acquire(request, of(directory, "F", "w"))
    read_name(request, directory, name, mds.flush_soon)


def follow(mds: Mds, request: Request, path: FilePath) -> Place:
    """What a path leads to."""
    return mds.walker.walk(path, lambda directory, name: _looks(mds, request, directory, name))


def follow_to_name(mds: Mds, request: Request, path: FilePath) -> tuple[Place, str]:
    """The directory a path's last name is in, and that name, which need not be there."""
    return mds.walker.walk_to_name(path, lambda directory, name: _looks(mds, request, directory, name))


def name_to_change(mds: Mds, request: Request, *, makes: bool = False, or_opens: bool = False) -> tuple[Inode, str]:
    """A name that is to be made or taken away: it and its directory are locked for that.

    Args:
        or_opens: a name that is there is only read.
    """
    path = request.message.path
    place, name = follow_to_name(mds, request, path)
    if name in (".", ".."):
        raise Refused(errno.EEXIST if makes else errno.ENOTEMPTY)
    directory = place.live_dir
    kept = "/" not in path.path and mds.caps.holding.use_kept(request, directory)
    if or_opens and name in directory.entries:
        _looks(mds, request, directory, name)
        return directory, name
    if not kept:
        needs = of(directory, "F", "w")
        mds.caps.holding.acquire(request, [*needs, *of(directory, "A", "r")] if makes else needs)
    take_name(request, directory, name, mds.flush_soon)
    mds.leases.recall(request, directory, name)
    if not directory.links and not directory.is_root:
        raise Refused(errno.ENOENT)
    return directory, name


def names_to_change(mds: Mds, request: Request, *, moves: bool) -> tuple[tuple[Inode, str], tuple[Inode, str]]:
    """The name that is to be made, and the one it is made of, both locked; the second only to be read if it stays."""
    message = request.message
    to_place, to_name = mds.walker.walk_to_name(message.path)
    from_place, from_name = mds.walker.walk_to_name(message.path2)
    to_dir, from_dir = to_place.live_dir, from_place.live_dir
    if not to_dir.links and not to_dir.is_root:
        raise Refused(errno.ENOENT)
    both = [(to_dir, to_name), (from_dir, from_name)]
    if to_dir is from_dir:
        both.sort(key=lambda pair: pair[1])
    elif not _goes_first(mds, to_dir, from_dir):
        both.reverse()
    taken: set[tuple[int, str]] = set()
    for directory, name in both:
        if (directory.ino, name) in taken:
            continue
        taken.add((directory.ino, name))
        if moves or (directory, name) == (to_dir, to_name):
            mds.caps.holding.acquire(request, of(directory, "F", "w"))
            take_name(request, directory, name, mds.flush_soon)
            mds.leases.recall(request, directory, name)
        else:
            read_name(request, directory, name, mds.flush_soon)
    return (to_dir, to_name), (from_dir, from_name)


def _goes_first(mds: Mds, one: Inode, other: Inode) -> bool:
    """Directories are locked from the root down, those at one depth by number."""
    depths = [mds.tree.depth(directory) for directory in (one, other)]
    return depths[0] < depths[1] or (depths[0] == depths[1] and one.ino < other.ino)
