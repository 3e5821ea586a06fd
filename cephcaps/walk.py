"""From a path to an inode: one LOOKUP a component, symlinks followed by us, as no MDS follows them."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from cephcaps.errors import MdsError
from cephcaps.mds.requests import Operation
from cephwire.inode import InodeStat
from cephwire.reply import ClientReply
from cephwire.request import FilePath
from cephwire.requestargs import GetattrArgs
from cephwire.requestop import RequestOp

__all__ = ["Ask", "components", "walk"]

Ask: TypeAlias = Callable[[Operation], Awaitable[ClientReply]]
"""Carries out one operation."""

MAX_SYMLINKS = 40
"""Links followed in one path before it counts as a loop (Linux: ``MAXSYMLINKS``)."""
NAME_MAX = 255
"""Bytes in one name, as every client and the MDS limit them."""


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


async def walk(ask: Ask, root_ino: int, path: str, mask: int, *, follow: bool = True) -> InodeStat:
    """The inode ``path`` leads to.

    Args:
        ask: sends a request and gives its reply.
        mask: what is to be valid in the answer, cap bits (`cephwire.capbits.StatMask`).
        follow: whether a symlink at the end is followed too.
    Raises:
        MdsError: no such path, no directory where one is needed (ENOTDIR), too many symlinks (ELOOP).
    """
    todo = components(path)[::-1]
    trail: list[InodeStat] = []  # the directories gone through, so that ".." can go back
    here: InodeStat | None = None
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
        ino = root_ino if here is None else here.ino
        lookup = Operation(RequestOp.LOOKUP, FilePath(ino, name), path, GetattrArgs(0 if todo else mask))
        found = _target(await ask(lookup), path)
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
    if here is None or (not todo and path.rstrip("/").endswith("..")):
        ino = root_ino if here is None else here.ino
        here = _target(await ask(Operation(RequestOp.GETATTR, FilePath(ino), path, GetattrArgs(mask))), path)
    if path.endswith("/") and not stat.S_ISDIR(here.mode):
        raise MdsError(errno.ENOTDIR, None, path)
    return here


def _target(reply: ClientReply, path: str) -> InodeStat:
    if reply.trace.target is None:
        raise MdsError(errno.ENOENT, None, path)
    return reply.trace.target
