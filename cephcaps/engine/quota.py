"""Quotas: limits on the bytes and files below a directory, which clients keep and no MDS enforces.

What is used comes from the MDS, a little late, with CLIENT_QUOTA and with replies, which may lag behind that for as
long as the MDS has not journaled; so a limit is overrun by what is done in the meantime. An ancestor that is not in the
cache limits nothing, as with libcephfs; paths are gone through name by name, so those above one in use are there.
Sources: ceph: src/client/Client.cc, ``check_quota_condition``, ``is_quota_files_exceeded``,
``is_quota_bytes_exceeded``, ``_rename``, ``handle_quota``.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

from cephcaps.engine.cache import Cache
from cephcaps.engine.inode import Inode, limits
from cephwire.quota import ClientQuota
from cephwire.requestop import RequestOp

__all__ = ["growth_refused", "realm", "refusal", "room", "told"]

COUNTED = (RequestOp.CREATE, RequestOp.MKNOD, RequestOp.MKDIR, RequestOp.SYMLINK, RequestOp.LINK)
"""Ops that add a name; a further link counts for the clients, though not for the MDS."""


def told(cache: Cache, message: ClientQuota) -> None:
    """The MDS says how a directory's limits, or what is used of them, have changed."""
    inode = cache.inodes.get(message.ino)
    if inode is not None and inode.counts is not None:
        inode.counts.quota = limits(message.quota)
        inode.counts.rbytes, inode.counts.rfiles = message.rbytes, message.rfiles
        inode.counts.rsubdirs = message.rsubdirs


def room(cache: Cache, inode: Inode, *, bytes: int = 0, files: int = 0) -> Inode | None:
    """The nearest directory whose quota has no room for so much more in or below ``inode``; None if all have."""
    if bytes <= 0 and files <= 0:
        return None
    for above in _ancestors(cache, inode):
        counts = above.counts
        if counts is None or counts.quota is None:
            continue
        # A directory counts itself among its rsubdirs, and so against its limit.
        if files > 0 and 0 < counts.quota.max_files < counts.rfiles + counts.rsubdirs + files:
            return above
        if bytes > 0 and 0 < counts.quota.max_bytes < counts.rbytes + bytes:
            return above
    return None


def realm(cache: Cache, directory: Inode) -> int:
    """Inode of the nearest directory with a quota that ``directory`` lies in, or is; 0 for none."""
    for above in _ancestors(cache, directory):
        if above.counts is not None and above.counts.quota is not None:
            return above.ino
    return 0


def refusal(cache: Cache, op: int, directory: int, other: int = 0) -> int:
    """The errno with which ``op`` on a name in ``directory`` is refused before any MDS is asked; 0 if it is not.

    Args:
        other: where a rename comes from. What is moved takes its use along, which may be much: no client moves
            anything from under one quota to under another.
    """
    inode = cache.inodes.get(directory)
    if inode is None:
        return 0
    if op in COUNTED and room(cache, inode, files=1) is not None:
        return errno.EDQUOT
    if op == RequestOp.RENAME and other != directory:
        source = cache.inodes.get(other)
        if source is not None and realm(cache, source) != realm(cache, inode):
            return errno.EXDEV
    return 0


def growth_refused(cache: Cache, ino: int, size: int | None) -> bool:
    """Whether a file may not become ``size`` bytes long."""
    inode = cache.inodes.get(ino)
    return inode is not None and size is not None and room(cache, inode, bytes=size - inode.size) is not None


def _ancestors(cache: Cache, inode: Inode) -> Iterator[Inode]:
    """``inode`` and the directories it lies in, as far as the cache knows."""
    gone_through: dict[int, None] = {}
    above: Inode | None = inode
    while above is not None and above.ino not in gone_through:  # names may be out of date, and lead round in a circle
        gone_through[above.ino] = None
        yield above
        above = cache.inodes.get(above.parent)
