"""From a path to an inode: names known from the cache cost nothing, the rest one LOOKUP each; symlinks are followed by
us, as no MDS follows them."""

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

__all__ = ["NAME_MAX", "Asker", "Found", "components", "find", "split", "walk"]

MAX_SYMLINKS = 40
"""Links followed in one path before it counts as a loop (Linux: ``MAXSYMLINKS``)."""
NAME_MAX = 255
"""Bytes in one name, as every client and the MDS limit them."""


class Asker(Protocol):
    """Knows inodes or can ask for them."""

    root_ino: int

    def known(self, ino: int, mask: int) -> Inode | None:
        """The inode, if the bits of ``mask`` are ours to read."""

    def lookup(self, directory: int, name: str, mask: int) -> Inode | int | None:
        """Where ``name`` leads, if that is known: 0 is nowhere, None not known."""

    async def ask(self, operation: Operation) -> Inode | None:
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
    """

    above: list[Inode]
    name: str
    inode: Inode | None


async def walk(asker: Asker, path: str, mask: int, *, follow: bool = True) -> Inode:
    """The inode ``path`` leads to.

    Args:
        mask: what is to be valid in the answer, cap bits (`cephwire.capbits.StatMask`).
        follow: whether a symlink at the end is followed too; one with a slash behind it always is.
    Raises:
        MdsError: no such path, no directory where one is needed (ENOTDIR), too many symlinks (ELOOP).
    """
    inode = (await find(asker, path, mask, follow=follow)).inode
    if inode is None:
        raise MdsError(errno.ENOENT, None, path)
    return inode


async def find(asker: Asker, path: str, mask: int, *, follow: bool = True) -> Found:
    """As `walk`, but the last name may be missing, and the way there is told."""
    components(path)
    todo = _steps(path)
    trail: list[Inode] = []  # the directories gone through, so that ".." can go back
    here: Inode | None = None
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
            continue
        if len(os.fsencode(name)) > NAME_MAX:
            raise MdsError(errno.ENAMETOOLONG, None, path)
        found = await _step(asker, asker.root_ino if here is None else here.ino, name, 0 if todo else mask, path)
        above = trail if here is None else [*trail, here]
        if found is None:
            if todo:
                raise MdsError(errno.ENOENT, None, path)
            return Found(above, name, None)
        if stat.S_ISLNK(found.mode) and (todo or follow):
            links += 1
            if links > MAX_SYMLINKS:
                raise MdsError(errno.ELOOP, None, path)
            todo += _steps(found.symlink)
            if found.symlink.startswith("/"):
                here, trail = None, []
            continue
        trail, here = above, found
    if here is None or name in (".", ".."):
        return Found(trail, "", await _by_number(asker, asker.root_ino if here is None else here.ino, mask, path))
    return Found(trail, name, here)


def _steps(path: str) -> list[str]:
    """What to go through, the first last. A slash at the end says the same as a ".": here is a directory."""
    names = [name for name in path.split("/") if name]
    return [*["."][: path.endswith("/")], *reversed(names)]


async def _step(asker: Asker, directory: int, name: str, mask: int, path: str) -> Inode | None:
    """Where ``name`` leads, None for nowhere: from the cache, or asked for."""
    found = asker.lookup(directory, name, mask)
    if found is None:
        try:
            found = await asker.ask(Operation(RequestOp.LOOKUP, FilePath(directory, name), path, GetattrArgs(mask)))
        except FileNotFoundError:
            return None
    return found if isinstance(found, Inode) else None


async def _by_number(asker: Asker, ino: int, mask: int, path: str) -> Inode:
    found = asker.known(ino, mask)
    if found is None:
        found = await asker.ask(Operation(RequestOp.GETATTR, FilePath(ino), path, GetattrArgs(mask)))
    if found is None:
        raise MdsError(errno.ENOENT, None, path)
    return found
