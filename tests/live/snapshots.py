"""What tests of snapshots share: a tree that leaves none behind, and ways to compare."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from cephcaps import Client, Stat
from cephcaps.engine.inode import SnapContext

from .libcephfs import PeerStat

__all__ = ["context_of", "same", "tree"]


@contextlib.asynccontextmanager
async def tree(client: Client, top: str) -> AsyncIterator[None]:
    """A directory for one test; its snapshots, and those of what is in it, are removed at the end."""
    await client.mkdir(top)
    yield
    todo = [top]
    while todo:
        path = todo.pop()
        for snapshot in await client.lssnap(path):
            if not snapshot.name.startswith("_"):
                await client.rmsnap(path, snapshot.name)
        todo += [f"{path}/{entry.name}" async for entry in client.scandir(path) if entry.stat.is_dir]


def same(ours: Stat, theirs: PeerStat, *, but: str = "") -> bool:
    names = {"ino", "mode", "uid", "gid", "nlink", "size", "atime", "mtime", "ctime", "btime"} - {but}
    return all(getattr(ours, name) == getattr(theirs, name) for name in names)


def context_of(client: Client, ino: int) -> SnapContext:
    """Of an inode that ``client`` holds caps on."""
    return client.engine.realms.context(client.engine.cache.inodes[ino].realm)
