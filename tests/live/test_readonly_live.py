"""An MDS that has become read-only: what was changed before is safe, changes after it are refused, reading goes on."""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from cephcaps import Client, connect

from .cluster import LiveCluster
from .holding import agree
from .waiting import until

MTIME = 10**18


async def outcome(call: Awaitable[Any]) -> Any:
    """What a call gives, or the name of the errno with which it fails."""
    try:
        return await call
    except OSError as error:
        return errno.errorcode[error.errno or 0]


async def opened(client: Client, path: str, how: str) -> str:
    async with client.open(path, how) as file:
        return str(file.caps)


@pytest.fixture
def failing(new_cluster: Callable[..., LiveCluster]) -> LiveCluster:
    """A cluster of the test's own: only another MDS ends it."""
    return new_cluster(mds=2)


async def test_what_is_dirty_is_taken_then_every_change_is_refused_and_reading_goes_on(failing: LiveCluster) -> None:
    cluster = failing
    async with connect(cluster.conf) as client:
        await client.mkdir("/top")
        async with client.open("/top/clean", "x"), client.open("/top/dirty", "x") as dirty:
            await client.sync()
            await dirty.setattr(mode=0o612, mtime=MTIME, size=1000)
            await client.setxattr("/top/dirty", "user.kept", b"1")
            before = client.inode_caps(dirty.ino)
            assert before is not None
            assert str(before.dirty) == "AxXxFx"
            (session,) = client.sessions.values()

            await cluster.aio.mds_admin("force_readonly")
            await until(lambda: session.read_only, "we are told")
            await agree(cluster, client, dirty.ino)
            after = client.inode_caps(dirty.ino)
            assert after is not None
            assert str(after.issued) == "pAsLsXsFscr"
            await dirty.fsync()  # it was taken when the MDS asked for the bits to write with
            assert client.metrics.flushing == 0

            for change in (
                dirty.setattr(mode=0o600),
                dirty.setattr(mtime=MTIME + 1),
                dirty.setattr(size=2000),
                client.setxattr("/top/dirty", "user.new", b"1"),
                client.removexattr("/top/dirty", "user.kept"),
                client.setxattr("/top", "ceph.quota.max_files", b"5"),
                client.mkdir("/top/new"),
                client.symlink("x", "/top/new"),
                client.link("/top/clean", "/top/new"),
                client.rename("/top/clean", "/top/new"),
                client.unlink("/top/clean"),
                client.rmdir("/top"),
                opened(client, "/top/new", "x"),
                opened(client, "/top/clean", "r+"),
                opened(client, "/top/clean", "a"),
            ):
                assert await outcome(change) == "EROFS"
            assert await opened(client, "/top/clean", "r") == "pAsLsXsFscr"
            assert sorted(await client.listdir("/top")) == ["clean", "dirty"]
            assert await client.getxattr("/top/dirty", "user.kept") == b"1"
            seen = await client.stat("/top/dirty")
            assert (seen.mode & 0o7777, seen.mtime, seen.size) == (0o612, MTIME, 1000)
            await client.sync()
        assert client.metrics.late == ()
        async with connect(cluster.conf) as second:
            assert await second.exists("/top/clean")
            assert second.sessions[0].read_only
            assert await outcome(second.mkdir("/top/new")) == "EROFS"
    # It ends with that MDS; whoever takes over has all that was acknowledged.
    name = await cluster.aio.wait_for_active()

    async def succeeded() -> bool:
        return await cluster.aio.holder(0, "up:active") not in (None, name)

    await cluster.aio.ceph("mds", "fail", name.removeprefix("mds."))
    await until(succeeded, "another takes over", within=60)
    async with connect(cluster.conf, timeout=60) as client:
        seen = await client.stat("/top/dirty")
        assert (seen.mode & 0o7777, seen.mtime, seen.size) == (0o612, MTIME, 1000)
        assert await client.getxattr("/top/dirty", "user.kept") == b"1"
        await client.mkdir("/top/new")
        assert not client.sessions[0].read_only
