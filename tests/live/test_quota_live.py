"""Quotas: what one client sets the other keeps to, and refuses as libcephfs refuses."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cephcaps import Client, connect

from .cluster import LiveCluster
from .libcephfs import LibcephfsPeer
from .waiting import until

SOON = 10
"""Seconds in which an MDS tells of a changed limit and of what is used; it sums directories up at least every 5 s."""
MANY = 40


@pytest.fixture
def peer(cluster: LiveCluster) -> Iterator[LibcephfsPeer]:
    with LibcephfsPeer(cluster) as mounted:
        yield mounted


async def outcome(call: Awaitable[Any]) -> Any:
    """What a call gives, or the name of the errno with which it fails."""
    try:
        return await call
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def limits(client: Client, path: str) -> tuple[int, int] | None:
    """The quota of a directory as we know it, without asking."""
    inode = client.cached(path)
    quota = inode.counts.quota if inode is not None and inode.counts is not None else None
    return (quota.max_bytes, quota.max_files) if quota is not None else None


def used(client: Client, path: str) -> int:
    """The bytes below a directory, as far as we know without asking."""
    inode = client.cached(path)
    return inode.counts.rbytes if inode is not None and inode.counts is not None else 0


async def refused_by(make: Callable[[int], Awaitable[Any]], within: float = SOON) -> int:
    """Make things until that is refused with EDQUOT; gives how many were made.

    What is used gets known a little late, so a limit is overrun: at most so far as a few seconds go.
    """
    for number in range(MANY):
        result = await outcome(make(number))
        if result == "EDQUOT":
            return number
        assert result is None, result
        await asyncio.sleep(within / MANY)
    raise AssertionError(f"{MANY} were made, and nothing was refused")


async def create(client: Client, path: str) -> None:
    async with client.open(path, "x"):
        pass


async def test_a_limit_on_files_holds_for_us_as_for_libcephfs(conf: Path, peer: LibcephfsPeer) -> None:
    async with connect(conf) as client:
        await client.makedirs("/files/below")
        await create(client, "/files/there")
        assert limits(client, "/files") is None
        await peer.aio.setxattr("/files", "ceph.quota.max_files", b"10")
        await until(lambda: limits(client, "/files") == (0, 10), "we are told of the limit", within=SOON)
        made = await refused_by(lambda number: create(client, f"/files/below/{number}"))
        assert made >= 6  # /files, below and there count too
        for what in (
            client.mkdir("/files/dir"),
            create(client, "/files/file"),
            client.symlink("there", "/files/symlink"),
            client.link("/files/there", "/files/link"),
            client.makedirs("/files/below/a/b"),
        ):
            assert await outcome(what) == "EDQUOT"
        fresh = [peer.aio.mkdir("/files/dir"), peer.aio.symlink("x", "/files/s"), peer.aio.write_file("/files/f", b"")]
        assert await refused_by(lambda number: peer.aio.mkdir(f"/files/peer{number}")) <= 1
        assert [await outcome(call) for call in fresh] == ["EDQUOT"] * 3
        assert await outcome(client.rename("/files/there", "/files/renamed")) is None
        assert await outcome(client.unlink("/files/renamed")) is None
        await peer.aio.setxattr("/files", "ceph.quota.max_files", b"0")
        await until(lambda: limits(client, "/files") is None, "we are told that there is none any more", within=SOON)
        await create(client, "/files/file")


async def test_a_limit_on_bytes_refuses_growth(conf: Path, peer: LibcephfsPeer) -> None:
    async with connect(conf) as client:
        await client.makedirs("/bytes/below")
        await create(client, "/bytes/below/file")
        await peer.aio.write_file("/bytes/full", size=50_000)
        await client.setxattr("/bytes", "ceph.quota.max_bytes", b"100000")
        assert limits(client, "/bytes") == (100_000, 0)  # told with the answer
        assert await client.getxattr("/bytes", "ceph.quota.max_bytes") == b"100000"
        await peer.aio.sync_fs()
        await until(lambda: used(client, "/bytes") >= 50_000, "we are told what is used", within=SOON)
        assert await client.getxattr("/bytes", "ceph.dir.rbytes") == b"50000"  # from now on replies tell the same
        assert await outcome(client.truncate("/bytes/below/file", 50_001)) == "EDQUOT"
        assert await outcome(peer.aio.truncate("/bytes/below/file", 50_001)) == "EDQUOT"
        async with client.open("/bytes/below/file", "a") as file:
            assert await outcome(file.setattr(size=60_000)) == "EDQUOT"
            await file.setattr(size=40_000)  # covered by Fx, or asked for: it fits
            assert file.size == 40_000
            await file.setattr(size=10)
            await file.fsync()
        assert (await peer.aio.statx("/bytes/below/file")).size == 10
        await client.setxattr("/bytes", "ceph.quota.max_bytes", b"0")
        assert limits(client, "/bytes") is None
        await client.truncate("/bytes/below/file", 200_000)


async def test_nothing_is_moved_from_under_one_quota_to_under_another(conf: Path, peer: LibcephfsPeer) -> None:
    async with connect(conf) as client:
        for path in ("/realms/one/a", "/realms/two", "/realms/free"):
            await client.makedirs(path, exist_ok=True)
        for realm in ("one", "two"):
            await client.setxattr(f"/realms/{realm}", "ceph.quota.max_files", b"100")
        for where in ("one/a", "two", "free"):
            await create(client, f"/realms/{where}/file")
        for source, target in (("one/a", "two"), ("one/a", "free"), ("free", "one"), ("one/a", "one")):
            names = f"/realms/{source}/file", f"/realms/{target}/moved"
            result = await outcome(client.rename(*names))
            assert result == (None if source.startswith(target) else "EXDEV"), names
            if result is None:
                await client.rename(*reversed(names))
            assert await outcome(peer.aio.rename(*names)) == result, names


async def test_a_quota_above_the_root_of_the_mount_counts(conf: Path, peer: LibcephfsPeer) -> None:
    await peer.aio.mkdirs("/above/mounted/inner")
    await peer.aio.setxattr("/above", "ceph.quota.max_files", b"4")
    async with connect(conf, root="/above/mounted") as client:
        made = await refused_by(lambda number: client.mkdir(f"/inner/{number}"))
        assert made >= 1
