"""From a path to an inode: names known from the cache cost nothing, the rest one LOOKUP each; symlinks are followed by
us, as no MDS follows them.

Every directory has a further one, ``.snap``, that no listing shows: in it are the directory's snapshots, and in those
all that was below the directory at the time. MDSs find what is in there by path only, from the live directory on, and
we keep nothing of it (ceph: src/client/Client.cc, ``_lookup``; src/include/filepath.h).
"""

from __future__ import annotations

import errno
import os
import stat
from typing import NamedTuple, Protocol

from cephcaps.engine.inode import Inode
from cephcaps.errors import MdsError
from cephcaps.mds.requests import Operation
from cephwire.request import FilePath
from cephwire.requestargs import GetattrArgs
from cephwire.requestop import RequestOp

__all__ = ["NAME_MAX", "Asker", "Found", "components", "find", "split"]

MAX_SYMLINKS = 40
"""Links followed in one path before it counts as a loop (Linux: ``MAXSYMLINKS``)."""
NAME_MAX = 255
"""Bytes in one name, as every client and the MDS limit them."""


class Asker(Protocol):
    """Knows inodes or can ask for them."""

    root_ino: int
    snapdir: str
    """What ``.snap`` is called here."""

    def snapshots_of(self, directory: Inode) -> Inode:
        """What stands for a directory's ``.snap``, which MDSs have no inode for."""

    def known(self, ino: int, mask: int) -> Inode | None:
        """The inode, if the bits of ``mask`` are ours to read."""

    def lookup(self, directory: int, name: str, mask: int) -> Inode | int | None:
        """Where ``name`` leads, if that is known: 0 is nowhere, None not known."""

    async def ask(self, operation: Operation) -> Inode:
        """The target of an operation."""


def components(path: str | bytes | os.PathLike[str]) -> list[str]:
    """The names in ``path``, an absolute one.

    Raises:
        ValueError: it is relative or holds a NUL.
    """
    text = os.fsdecode(os.fspath(path))
    if not text.startswith("/"):
        raise ValueError(f"{text!r} is relative: paths begin at the root of the mount, with /")
    if "\0" in text:
        raise ValueError(f"{text!r} holds a NUL")
    return [name for name in text.split("/") if name not in ("", ".")]


def split(path: str) -> tuple[str, str]:
    """The path of the directory that holds the last name, and that name; "" where the path ends in no name."""
    stripped = path.rstrip("/")
    head, _, name = stripped.rpartition("/")
    return (head or "/", name) if name not in (".", "..") else (path, "")


class Found(NamedTuple):
    """Where a path leads.

    Attributes:
        above: the directories gone through, the one that holds the last name last; the root's is left out.
        name: the last name, symlinks followed; "" where the path ends in none.
        inode: None where the last name leads nowhere.
        snap: where MDSs find it if it is in a snapshot, or would be; with an empty path it is a ``.snap`` itself. None
            where it is live: then its number will do.
    """

    above: list[Inode]
    name: str
    inode: Inode | None
    snap: FilePath | None


async def find(asker: Asker, path: str, mask: int, *, follow: bool = True) -> Found:
    """Where ``path`` leads.

    Args:
        mask: what is to be valid in the answer, cap bits (`cephwire.capbits.StatMask`).
        follow: whether a symlink at the end is followed too; one with a slash behind it always is.
    Raises:
        MdsError: a directory on the way is missing (ENOENT) or none (ENOTDIR), too many symlinks (ELOOP).
    """
    components(path)
    todo = _steps(path)
    trail: list[Inode] = []  # the directories gone through, so that ".." can go back
    here: Inode | None = None
    snap: FilePath | None = None
    name = ""
    links = 0
    while todo:
        name = todo.pop()
        if here is not None and not stat.S_ISDIR(here.mode):
            raise MdsError(errno.ENOTDIR, None, path)
        if name == ".":
            continue
        if name == "..":
            here = trail.pop() if trail else None
            snap = _above(snap)
            continue
        if len(os.fsencode(name)) > NAME_MAX:
            raise MdsError(errno.ENAMETOOLONG, None, path)
        ino = asker.root_ino if here is None else here.ino
        above = trail if here is None else [*trail, here]
        wanted = 0 if todo else mask
        below: FilePath | None = None
        found: Inode | None
        if snap is not None:
            below = FilePath(snap.ino, f"{snap.path}/{name}")
            found = await _lookup(asker, below, mask, path)
        elif name == asker.snapdir:
            below = FilePath(ino)
            found = asker.snapshots_of(await _by_number(asker, ino, wanted, path))
        else:
            found = await _step(asker, ino, name, wanted, path)
        if found is None:
            if todo:
                raise MdsError(errno.ENOENT, None, path)
            return Found(above, name, None, below)
        if stat.S_ISLNK(found.mode) and (todo or follow):
            links += 1
            if links > MAX_SYMLINKS:
                raise MdsError(errno.ELOOP, None, path)
            todo += _steps(found.symlink)
            if found.symlink.startswith("/"):
                here, trail, snap = None, [], None
            continue
        trail, here, snap = above, found, below
    if snap is None and (here is None or name in (".", "..")):
        here = await _by_number(asker, asker.root_ino if here is None else here.ino, mask, path)
        name = ""
    return Found(trail, "" if name in (".", "..") else name, here, snap)


def _above(snap: FilePath | None) -> FilePath | None:
    """Where ".." leads: a snapshot is in ``.snap``, and that in the live directory."""
    if snap is None or not snap.path:
        return None
    return FilePath(snap.ino, snap.path.rpartition("/")[0])


def _steps(path: str) -> list[str]:
    """What to go through, the first last. A slash at the end says the same as a ".": here is a directory."""
    names = [name for name in path.split("/") if name]
    return [*["."][: path.endswith("/")], *reversed(names)]


async def _step(asker: Asker, directory: int, name: str, mask: int, path: str) -> Inode | None:
    """Where ``name`` leads, None for nowhere: from the cache, or asked for."""
    found = asker.lookup(directory, name, mask)
    if found is None:
        return await _lookup(asker, FilePath(directory, name), mask, path)
    return found if isinstance(found, Inode) else None


async def _lookup(asker: Asker, where: FilePath, mask: int, path: str) -> Inode | None:
    """What an MDS says that is there, None for nothing."""
    op = RequestOp.LOOKUPSNAP if is_snapshot(where) else RequestOp.LOOKUP
    try:
        return await asker.ask(Operation(op, where, path, GetattrArgs(mask)))
    except FileNotFoundError:
        return None


def is_snapshot(where: FilePath) -> bool:
    """Whether it is a whole snapshot, as opposed to what is in it: the one name in a ``.snap``."""
    return where.path.rfind("/") == 0


async def _by_number(asker: Asker, ino: int, mask: int, path: str) -> Inode:
    found = asker.known(ino, mask)
    if found is None:
        found = await asker.ask(Operation(RequestOp.GETATTR, FilePath(ino), path, GetattrArgs(mask)))
    if found is None:
        raise MdsError(errno.ENOENT, None, path)
    return found
