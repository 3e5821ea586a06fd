"""Every public coroutine, called once each in a directory made for it, and what others do meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from cephcaps import Client, DataIo

from .libcephfs import LibcephfsPeer

__all__ = ["RELENTS", "VERBS", "Memory", "Verb", "buffered", "changing"]

RELENTS = 0.03
"""Seconds after which a peer gives what it keeps from us."""

FAR = 1 << 30
"""Bytes: farther than one may write without asking the MDS."""

Act = Callable[..., Coroutine[Any, Any, None]]
Scene = Callable[[LibcephfsPeer, str], AbstractAsyncContextManager[None]]


@contextlib.asynccontextmanager
async def undisturbed(peer: LibcephfsPeer, top: str) -> AsyncIterator[None]:
    yield


@dataclass(frozen=True)
class Verb:
    """One or some calls.

    Attributes:
        of: the public coroutines it is about; it may use others on its way.
        scene: what the peer does while it runs.
        data: whether the client has a data handler, which is a `Memory`.
    """

    name: str
    of: frozenset[str]
    act: Act
    scene: Scene
    data: bool


VERBS: dict[str, Verb] = {}


def verb(*of: str, scene: Scene = undisturbed, data: bool = False) -> Callable[[Act], Act]:
    def keep(act: Act) -> Act:
        VERBS[act.__name__] = Verb(act.__name__, frozenset(of), act, scene, data)
        return act

    return keep


class Memory:
    """A data handler that takes a moment for everything, and keeps nothing."""

    async def writeback(self, ino: int, io: DataIo) -> None:
        await asyncio.sleep(RELENTS / 3)

    async def invalidate(self, ino: int, gen: int) -> None:
        await asyncio.sleep(RELENTS / 3)

    async def truncate(self, ino: int, size: int, truncate_seq: int) -> None:
        await asyncio.sleep(RELENTS / 3)


# Names and attributes


@contextlib.asynccontextmanager
async def snapped(peer: LibcephfsPeer, top: str) -> AsyncIterator[None]:
    """There is a snapshot; in the end there is none."""
    await peer.aio.mkdir(f"{top}/.snap/old")
    yield
    for name in await peer.aio.listdir(f"{top}/.snap"):
        await peer.aio.rmdir(f"{top}/.snap/{name}")


@contextlib.asynccontextmanager
async def decorated(peer: LibcephfsPeer, top: str) -> AsyncIterator[None]:
    await peer.aio.setxattr(f"{top}/file", "user.old", b"value")
    yield


def simple(name: str, /, *where: str, also: tuple[str, ...] = (), scene: Scene = undisturbed, **what: Any) -> None:
    """A call of the client by that name, with paths below the trial's directory."""

    async def act(client: Client, top: str, **how: Any) -> None:
        await getattr(client, name)(*(f"{top}/{path}" for path in where), **what, **how)

    act.__name__ = name
    verb(f"Client.{name}", *also, scene=scene)(act)


simple("stat", "file")
simple("exists", "file")
simple("readlink", "link")
simple("listdir", "", also=("Client.scandir",))
simple("mkdir", "new")
simple("makedirs", "new/below/further")
simple("rmdir", "empty")
simple("unlink", "file")
simple("rename", "file", "renamed")
simple("link", "file", "hard")
simple("setattr", "file", mode=0o604, uid=7, mtime=10**18)
simple("chmod", "file", mode=0o604)
simple("chown", "file", uid=7, gid=8)
simple("utime", "file", ns=(10**17, 10**18))
simple("truncate", "file", size=3)
simple("getxattr", "file", name="ceph.file.layout")
simple("listxattr", "file")
simple("setxattr", "file", name="user.new", value=b"value")
simple("removexattr", "file", scene=decorated, name="user.old")
simple("mksnap", "", scene=snapped, name="new")
simple("rmsnap", "", scene=snapped, name="old")
simple("lssnap", "", scene=snapped)


@verb("Client.scandir")
async def scandir(client: Client, top: str, **how: Any) -> None:
    async for _ in client.scandir(top, **how):
        pass


@verb("Client.symlink")
async def symlink(client: Client, top: str, **how: Any) -> None:
    await client.symlink("file", f"{top}/soft", **how)


@verb("Client.flush", "Client.flush_inode")
async def flush(client: Client, top: str, **how: Any) -> None:
    async with client.open(f"{top}/new", "x", **how):
        pass
    await client.chmod(f"{top}/new", 0o600, **how)
    await client.flush(f"{top}/new", **how)


@verb("Client.fsync")
async def fsync(client: Client, top: str, **how: Any) -> None:
    await client.mkdir(f"{top}/new", **how)
    await client.utime(f"{top}/new", (10**17, 10**18), **how)
    await client.fsync(top, **how)


@verb("Client.sync")
async def sync(client: Client, top: str, **how: Any) -> None:
    async with client.open(f"{top}/new", "x", **how) as file:
        await file.setattr(mode=0o600, **how)
    await client.sync(**how)


# Files


@verb("OpenFile.__aenter__", "Client.open_inode")
async def open_to_read(client: Client, top: str, **how: Any) -> None:
    async with client.open(f"{top}/file", **how):
        pass


@verb("OpenFile.__aenter__")
async def open_to_cut(client: Client, top: str, **how: Any) -> None:
    async with client.open(f"{top}/file", "w", **how):
        pass


@verb("OpenFile.__aenter__")
async def open_to_create(client: Client, top: str, **how: Any) -> None:
    async with client.open(f"{top}/new", "x", **how):
        pass


@verb("OpenFile.setattr", "Client.set_attributes")
async def file_setattr(client: Client, top: str, **how: Any) -> None:
    async with client.open(f"{top}/file", "r+", **how) as file:
        await file.setattr(size=3, uid=7, **how)


@verb("OpenFile.fsync")
async def file_fsync(client: Client, top: str, **how: Any) -> None:
    async with client.open(f"{top}/new", "x", **how) as file:
        await file.setattr(mode=0o600, mtime=10**18, **how)
        await file.fsync(**how)


# Locks


@contextlib.asynccontextmanager
async def relenting(relent: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """What is kept from us is given up after a while, whatever has become of the block by then."""

    async def later() -> None:
        await asyncio.sleep(RELENTS)
        await relent()

    task = asyncio.create_task(later())
    try:
        yield
    finally:
        await task


@contextlib.asynccontextmanager
async def locked(peer: LibcephfsPeer, top: str) -> AsyncIterator[None]:
    """The peer writes to the file, and holds both locks that there are on it."""
    fd = await peer.aio.open(f"{top}/file", os.O_RDWR)
    await peer.aio.write(fd, 0, b"more data")
    await peer.aio.flock(fd, fcntl.LOCK_EX)
    await peer.aio.lockf(f"{top}/file")

    async def unlock() -> None:
        await peer.aio.lockf(f"{top}/file", fcntl.F_UNLCK)
        await peer.aio.flock(fd, fcntl.LOCK_UN)

    async with relenting(unlock):
        yield
    await peer.aio.close_fd(fd)


async def flock(client: Client, top: str, **how: Any) -> None:
    async with client.open(f"{top}/file", "r+", **how) as file:
        await file.flock("exclusive", **how)
        await file.flock("unlock", **how)
        await file.flock("shared", **how)


async def lockf(client: Client, top: str, **how: Any) -> None:
    async with client.open(f"{top}/file", "r+", **how) as file:
        await file.lockf("exclusive", 2, 1, **how)
        await file.lockf("unlock", **how)
        await file.lockf("shared", 10, owner=7, **how)


for one in (flock, lockf):
    verb(f"OpenFile.{one.__name__}", "OpenFile.__aexit__", "Client.lock", "Client.close_locks")(one)


@verb("OpenFile.flock", "OpenFile.__aexit__", scene=locked)
async def flock_of_another(client: Client, top: str, **how: Any) -> None:
    await flock(client, top, **how)


@verb("OpenFile.lockf", "OpenFile.__aexit__", scene=locked)
async def lockf_of_another(client: Client, top: str, **how: Any) -> None:
    await lockf(client, top, **how)


@verb("OpenFile.getlk", "Client.test_lock", "Client.size_now", scene=locked)
async def getlk(client: Client, top: str, **how: Any) -> None:
    async with client.open(f"{top}/file", **how) as file:
        await file.getlk("exclusive", 2, -3, os.SEEK_END, **how)


# Data


@contextlib.asynccontextmanager
async def buffered(peer: LibcephfsPeer, top: str) -> AsyncIterator[None]:
    """The peer has written to the file, and gives no cap back for a while: it is frozen."""
    fd = await peer.aio.open(f"{top}/file", os.O_RDWR)
    await peer.aio.write(fd, 0, b"held by the peer")

    async def thaw() -> None:
        peer.thaw()

    peer.freeze()
    async with relenting(thaw):
        yield
    await peer.aio.close_fd(fd)


async def write_new(client: Client, path: str, *, at_end: bool, **how: Any) -> None:
    async with client.open(path, "x", **how):
        pass
    await write(client, path, at_end=at_end, **how)


async def write(client: Client, path: str, *, at_end: bool, **how: Any) -> None:
    async with client.open(path, "r+", **how) as file:
        async with file.cap_refs("Fw", "Fb", FAR, **how) as refs:
            refs.wrote(100, buffered="Fb" in refs.got and client.engine.cache.handled)
        async with file.cap_refs("Fr", "Fc", **how):
            await asyncio.sleep(0)
        if at_end:
            await file.fsync(**how)


@verb("CapRefs.__aenter__", "Client.get_refs")
async def cap_refs(client: Client, top: str, **how: Any) -> None:
    await write_new(client, f"{top}/new", at_end=False, **how)


@verb("CapRefs.__aenter__", scene=buffered)
async def cap_refs_of_another(client: Client, top: str, **how: Any) -> None:
    await write(client, f"{top}/file", at_end=True, **how)


@verb("CapRefs.__aenter__", data=True)
async def cap_refs_with_data(client: Client, top: str, **how: Any) -> None:
    await write_new(client, f"{top}/new", at_end=False, **how)


@verb("CapRefs.__aenter__", scene=buffered, data=True)
async def cap_refs_of_another_with_data(client: Client, top: str, **how: Any) -> None:
    await write(client, f"{top}/file", at_end=True, **how)


@verb("OpenFile.fsync", data=True)
async def file_fsync_with_data(client: Client, top: str, **how: Any) -> None:
    await write_new(client, f"{top}/new", at_end=True, **how)


@verb("Client.truncate", data=True)
async def truncate_with_data(client: Client, top: str, **how: Any) -> None:
    await write_new(client, f"{top}/new", at_end=False, **how)
    await client.truncate(f"{top}/new", 50, **how)


@verb("Client.sync", data=True)
async def sync_with_data(client: Client, top: str, **how: Any) -> None:
    await write_new(client, f"{top}/new", at_end=False, **how)
    await client.sync(**how)


# Asking daemons


@verb("Client.mon_command")
async def mon_command(client: Client, top: str, **how: Any) -> None:
    await client.mon_command({"prefix": "fs dump", "format": "json"}, **how)


@verb("Client.mds_command")
async def mds_command(client: Client, top: str, **how: Any) -> None:
    await client.mds_command(0, {"prefix": "session ls"}, **how)


# Looking on


@contextlib.asynccontextmanager
async def changing(peer: LibcephfsPeer, top: str) -> AsyncIterator[None]:
    """After a while the peer changes the file."""
    async with relenting(lambda: peer.aio.chmod(f"{top}/file", 0o640)):
        yield


@verb("Events.__anext__", scene=changing)
async def events(client: Client, top: str, **how: Any) -> None:
    ino = (await client.stat(f"{top}/file", **how)).ino
    with client.events(ino=ino) as happening:
        async for _ in happening:
            break
