"""Every call on names and attributes does what libcephfs does, and fails as it fails."""

from __future__ import annotations

import errno
import os
import random
import stat
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cephcaps import Client, connect
from cephcaps.file import OpenFile

from .agreement import agrees_at_rest
from .cluster import LiveCluster
from .libcephfs import AT_SYMLINK_NOFOLLOW, LibcephfsPeer, PeerStat

STEPS = 1_000
LOOK_EVERY = 50
"""Steps between two looks at the whole trees."""
NAMES = ("a", "b", "c", "d")
"""So few that names collide most of the time."""
LONG = "n" * 256
HOW = {
    "r": os.O_RDONLY,
    "r+": os.O_RDWR,
    "w": os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
    "x": os.O_WRONLY | os.O_CREAT | os.O_EXCL,
    "a": os.O_WRONLY | os.O_CREAT,
}
LONG_AGO = 10**18
"""Times before this, of 2001, were set by a step; others are those of the run and differ from tree to tree."""


class Step(NamedTuple):
    """One operation; paths are relative to the tree, "" being its top."""

    op: str
    args: tuple[Any, ...]


WEIGHTS = {
    "mkdir": 12, "makedirs": 4, "rmdir": 6, "unlink": 7, "rename": 14, "symlink": 6, "link": 6, "chmod": 5,
    "chown": 4, "utime": 5, "truncate": 5, "open": 12, "ftruncate": 3, "close": 4, "stat": 7, "lstat": 4,
    "readlink": 4, "listdir": 5, "exists": 4,
}  # fmt: skip


def history(seed: int, count: int) -> Iterator[Step]:
    """``count`` operations, many of which cannot succeed."""
    rng = random.Random(seed)
    slots = 0
    for number in range(count):
        op = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        path = some_path(rng)
        match op:
            case "mkdir" | "makedirs":
                args: tuple[Any, ...] = (path, rng.choice((0o755, 0o700, 0o2775, 0o1777)))
            case "rename" | "link":
                args = (path, rng.choice((some_path(rng), some_path(rng), some_path(rng), path, f"{path}/a")))
            case "symlink":
                args = (rng.choice(("a", "b/c", "../a", "../../b", "{top}/a/b", "nowhere", "c/", ".")), path)
            case "chmod":
                args = (path, rng.choice((0o600, 0o644, 0o755, 0o4711, 0o000, 0o1777)))
            case "chown":
                args = (path, rng.choice((-1, 0, 1000, 2000)), rng.choice((-1, 0, 1001)), rng.random() < 0.7)
            case "utime":
                args = (path, 10**17 + number * 1_000_000_007, 2 * 10**17 + number * 1_000_000_009)
            case "truncate":
                args = (path, rng.choice((0, 0, 1, 4096, 5_000_000)))
            case "open":
                slots += 1
                args = (path, rng.choice(list(HOW)), rng.choice((0o644, 0o600, 0o755)), slots if rng.random() < 0.4 else 0)
            case "ftruncate":
                args = (rng.randint(max(1, slots - 4), slots or 1), rng.choice((0, 10, 100_000)))
            case "close":
                args = (rng.randint(max(1, slots - 4), slots or 1),)
            case _:
                args = (path,)
        yield Step(op, args)


def some_path(rng: random.Random) -> str:
    names = [rng.choice(NAMES) for _ in range(rng.choices((1, 2, 3), (30, 45, 25))[0])]
    odd = rng.random()
    if odd < 0.02:
        names[-1] = LONG
    elif odd < 0.03:
        names.insert(0, LONG)
    elif odd < 0.05:
        names.append("missing")
    elif odd < 0.07:
        names[1:1] = [".", "", rng.choice(NAMES), ".."]
    elif odd < 0.08:
        return ""
    elif odd < 0.12:
        names.append("")
    return "/".join(names)


class Actor:
    """One client at work in one tree."""

    def __init__(self, top: str, files: dict[int, Callable[..., Awaitable[Any]]]) -> None:
        self.top = top
        self.files = files

    def at(self, path: str) -> str:
        return f"{self.top}/{path}" if path else self.top

    async def do(self, step: Step) -> Any:
        """What comes of it: a value, or the name of an errno."""
        try:
            return await getattr(self, step.op)(*step.args)
        except OSError as error:
            assert error.errno is not None, repr(error)
            return errno.errorcode[error.errno]

    def said(self, target: str) -> str:
        return target.replace(self.top, "{top}")

    async def ftruncate(self, slot: int, size: int) -> None:
        if slot in self.files:
            await self.files[slot]("ftruncate", size)

    async def close(self, slot: int) -> None:
        if slot in self.files:
            await self.files.pop(slot)("close")


def told(found: Any) -> tuple[Any, ...]:
    """What must be alike in twin trees."""
    is_dir = stat.S_ISDIR(found.mode)  # whose size is what lies below, as far as the MDS has summed it up by now
    times = [time if time < LONG_AGO else "now" for time in (found.atime, found.mtime)]
    return (oct(found.mode), found.uid, found.gid, found.nlink, "" if is_dir else found.size, *times)


class Ours(Actor):
    def __init__(self, top: str, files: dict[int, Callable[..., Awaitable[Any]]], client: Client) -> None:
        super().__init__(top, files)
        self.client = client

    async def mkdir(self, path: str, mode: int) -> None:
        await self.client.mkdir(self.at(path), mode)

    async def makedirs(self, path: str, mode: int) -> None:
        await self.client.makedirs(self.at(path), mode)

    async def rmdir(self, path: str) -> None:
        await self.client.rmdir(self.at(path))

    async def unlink(self, path: str) -> None:
        await self.client.unlink(self.at(path))

    async def rename(self, source: str, target: str) -> None:
        await self.client.rename(self.at(source), self.at(target))

    async def symlink(self, target: str, path: str) -> None:
        await self.client.symlink(target.replace("{top}", self.top), self.at(path))

    async def link(self, existing: str, path: str) -> None:
        await self.client.link(self.at(existing), self.at(path))

    async def chmod(self, path: str, mode: int) -> None:
        await self.client.chmod(self.at(path), mode)

    async def chown(self, path: str, uid: int, gid: int, follow: bool) -> None:
        await self.client.chown(self.at(path), uid, gid, follow_symlinks=follow)

    async def utime(self, path: str, atime: int, mtime: int) -> None:
        await self.client.utime(self.at(path), (atime, mtime))

    async def truncate(self, path: str, size: int) -> None:
        await self.client.truncate(self.at(path), size)

    async def open(self, path: str, how: str, mode: int, slot: int) -> None:
        file = await self.client.open(self.at(path), how, mode=mode).__aenter__()
        if not slot:
            await file.__aexit__(None, None, None)
            return

        async def act(what: str, *args: int) -> None:
            await self._on_file(file, what, *args)

        self.files[slot] = act

    async def _on_file(self, file: OpenFile, what: str, *args: int) -> None:
        if what == "close":
            await file.__aexit__(None, None, None)
        else:
            await file.setattr(size=args[0])

    async def stat(self, path: str) -> tuple[Any, ...]:
        return told(await self.client.stat(self.at(path)))

    async def lstat(self, path: str) -> tuple[Any, ...]:
        return told(await self.client.stat(self.at(path), follow_symlinks=False))

    async def readlink(self, path: str) -> str:
        return self.said(await self.client.readlink(self.at(path)))

    async def listdir(self, path: str) -> list[str]:
        return await self.client.listdir(self.at(path))

    async def exists(self, path: str) -> bool:
        return await self.client.exists(self.at(path))


class Theirs(Actor):
    def __init__(self, top: str, files: dict[int, Callable[..., Awaitable[Any]]], peer: LibcephfsPeer) -> None:
        super().__init__(top, files)
        self.peer = peer.aio

    async def mkdir(self, path: str, mode: int) -> None:
        await self.peer.mkdir(self.at(path), mode)

    async def makedirs(self, path: str, mode: int) -> None:
        await self.peer.mkdirs(self.at(path), mode)

    async def rmdir(self, path: str) -> None:
        await self.peer.rmdir(self.at(path))

    async def unlink(self, path: str) -> None:
        await self.peer.unlink(self.at(path))

    async def rename(self, source: str, target: str) -> None:
        await self.peer.rename(self.at(source), self.at(target))

    async def symlink(self, target: str, path: str) -> None:
        await self.peer.symlink(target.replace("{top}", self.top), self.at(path))

    async def link(self, existing: str, path: str) -> None:
        await self.peer.link(self.at(existing), self.at(path))

    async def chmod(self, path: str, mode: int) -> None:
        await self.peer.chmod(self.at(path), mode)

    async def chown(self, path: str, uid: int, gid: int, follow: bool) -> None:
        await self.peer.chown(self.at(path), uid, gid, follow=follow)

    async def utime(self, path: str, atime: int, mtime: int) -> None:
        await self.peer.utimes(self.at(path), atime=atime, mtime=mtime)

    async def truncate(self, path: str, size: int) -> None:
        await self.peer.truncate(self.at(path), size)

    async def open(self, path: str, how: str, mode: int, slot: int) -> None:
        fd = await self.peer.open(self.at(path), HOW[how], mode)
        if not slot:
            await self.peer.close_fd(fd)
            return

        async def act(what: str, *args: int) -> None:
            await (self.peer.close_fd(fd) if what == "close" else self.peer.ftruncate(fd, *args))

        self.files[slot] = act

    async def stat(self, path: str) -> tuple[Any, ...]:
        return told(await self.peer.statx(self.at(path)))

    async def lstat(self, path: str) -> tuple[Any, ...]:
        return told(await self.peer.statx(self.at(path), flags=AT_SYMLINK_NOFOLLOW))

    async def readlink(self, path: str) -> str:
        return self.said(await self.peer.readlink(self.at(path)))

    async def listdir(self, path: str) -> list[str]:
        return await self.peer.listdir(self.at(path))

    async def exists(self, path: str) -> bool:
        try:
            await self.peer.statx(self.at(path), 0)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True


class Quirk(NamedTuple):
    """Where libcephfs answers otherwise and ours is meant to; neither answer has changed anything."""

    ours: str
    theirs: str
    ops: frozenset[str]
    why: str


QUIRKS: tuple[Quirk, ...] = ()


def excused(step: Step, ours: Any, theirs: Any) -> bool:
    return any((ours, theirs) == (q.ours, q.theirs) and step.op in q.ops for q in QUIRKS)


Tree = dict[str, tuple[Any, ...]]
SEEN = ("ino", "mode", "uid", "gid", "nlink", "atime", "mtime", "ctime", "btime")


def seen(found: Any, change_attr: int, target: str) -> tuple[Any, ...]:
    size = 0 if stat.S_ISDIR(found.mode) else found.size
    return (told(found), target, {name: getattr(found, name) for name in SEEN}, size, change_attr)


async def tree_by_us(client: Client, top: str, below: str = "") -> Tree:
    tree = {}
    for name in await client.listdir(top + below):
        path = f"{below}/{name}"
        found = await client.stat(top + path, follow_symlinks=False)
        target = await client.readlink(top + path) if found.is_symlink else ""
        tree[path] = seen(found, found.change_attr, target.replace(top, "{top}"))
        if found.is_dir:
            tree |= await tree_by_us(client, top, path)
    return tree


async def tree_by_them(peer: LibcephfsPeer, top: str, below: str = "") -> Tree:
    tree = {}
    for name in await peer.aio.listdir(top + below):
        path = f"{below}/{name}"
        found: PeerStat = await peer.aio.statx(top + path, flags=AT_SYMLINK_NOFOLLOW)
        target = await peer.aio.readlink(top + path) if stat.S_ISLNK(found.mode) else ""
        tree[path] = seen(found, found.version, target.replace(top, "{top}"))
        if stat.S_ISDIR(found.mode):
            tree |= await tree_by_them(peer, top, path)
    return tree


def alike(tree: Tree) -> Tree:
    """What of it must be the same in both trees."""
    return {path: found[:2] for path, found in tree.items()}
