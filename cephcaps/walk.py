"""From a path to an inode: names known from the cache cost nothing, the rest one LOOKUP each; symlinks are followed by
us, as no MDS follows them."""

from __future__ import annotations

import errno
import os
import stat
from typing import Protocol

from cephcaps.engine.inode import Inode
from cephcaps.errors import MdsError
from cephcaps.mds.requests import Operation
from cephwire.request import FilePath
from cephwire.requestargs import GetattrArgs
from cephwire.requestop import RequestOp

__all__ = ["Asker", "components", "split", "walk"]

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


async def walk(asker: Asker, path: str, mask: int, *, follow: bool = True) -> Inode:
    """The inode ``path`` leads to.

    Args:
        mask: what is to be valid in the answer, cap bits (`cephwire.capbits.StatMask`).
        follow: whether a symlink at the end is followed too.
    Raises:
        MdsError: no such path, no directory where one is needed (ENOTDIR), too many symlinks (ELOOP).
    """
    todo = components(path)[::-1]
    trail: list[Inode] = []  # the directories gone through, so that ".." can go back
    here: Inode | None = None
    links = 0
    while todo:
        name = todo.pop()
        if name == "..":
            here = trail.pop() if trail else None
            continue
        if here is not None and not stat.S_ISDIR(here.mode):
            raise MdsError(errno.ENOTDIR, None, path)
        if len(name.encode("utf-8", "surrogateescape")) > NAME_MAX:
            raise MdsError(errno.ENAMETOOLONG, None, path)
        found = await _step(asker, asker.root_ino if here is None else here.ino, name, 0 if todo else mask, path)
        if stat.S_ISLNK(found.mode) and (todo or follow):
            links += 1
            if links > MAX_SYMLINKS:
                raise MdsError(errno.ELOOP, None, path)
            target = found.symlink
            todo += [part for part in target.split("/") if part not in ("", ".")][::-1]
            if target.startswith("/"):
                here, trail = None, []
            continue
        if here is not None:
            trail.append(here)
        here = found
    if here is None or path.rstrip("/").endswith(".."):
        here = await _by_number(asker, asker.root_ino if here is None else here.ino, mask, path)
    if path.endswith("/") and not stat.S_ISDIR(here.mode):
        raise MdsError(errno.ENOTDIR, None, path)
    return here


async def _step(asker: Asker, directory: int, name: str, mask: int, path: str) -> Inode:
    """Where ``name`` leads: from the cache, or asked for."""
    found = asker.lookup(directory, name, mask)
    if found is None:
        found = await asker.ask(Operation(RequestOp.LOOKUP, FilePath(directory, name), path, GetattrArgs(mask)))
    if not isinstance(found, Inode):
        raise MdsError(errno.ENOENT, None, path)
    return found


async def _by_number(asker: Asker, ino: int, mask: int, path: str) -> Inode:
    found = asker.known(ino, mask)
    if found is None:
        found = await asker.ask(Operation(RequestOp.GETATTR, FilePath(ino), path, GetattrArgs(mask)))
    if found is None:
        raise MdsError(errno.ENOENT, None, path)
    return found
