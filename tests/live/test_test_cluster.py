"""Ceph's own clients, unmodified, on a `TestCluster`."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from cephcaps import connect
from cephcaps.testing import TestCluster
from cephwire.entity import AddrType

from .fuse import FuseMount
from .libcephfs import LibcephfsPeer
from .release import Release
from .served import ServedCluster


@pytest.fixture
async def served(release: Release) -> AsyncIterator[ServedCluster]:
    async with TestCluster() as cluster:
        with ServedCluster(cluster, release) as found:
            yield found


@pytest.fixture
async def peers(served: ServedCluster) -> AsyncIterator[Callable[..., object]]:
    async with AsyncExitStack() as leaving:

        async def join(**options: str) -> LibcephfsPeer:
            peer = await asyncio.to_thread(LibcephfsPeer, served, options=options)
            leaving.push_async_callback(asyncio.to_thread, peer.close)
            return peer

        yield join


@pytest.mark.parametrize("mode", ["crc", "secure"])
async def test_libcephfs_mounts_it_and_works(served: ServedCluster, peers, mode: str) -> None:
    peer = await peers(ms_client_mode=mode, ms_mon_client_mode=mode)
    one = peer.aio
    await one.mkdirs("/a/b")
    fd = await one.open("/a/b/f", os.O_CREAT | os.O_RDWR, 0o640)
    await one.symlink("/a/b/f", "/a/l")
    await one.link("/a/b/f", "/a/h")
    await one.rename("/a/h", "/a/b/g")
    await one.chmod("/a/b/f", 0o600)
    await one.chown("/a/b/g", 7, 8)
    await one.utimes("/a/b/g", atime=10**18 + 1, mtime=10**18 + 2)
    await one.truncate("/a/b/f", 12345)
    await one.setxattr("/a/b/f", "user.x", b"\0y")
    await one.setxattr("/a", "ceph.quota.max_files", b"50")
    stat = await one.statx("/a/b/f")
    assert (stat.mode, stat.nlink, stat.uid, stat.gid, stat.size) == (0o100600, 2, 7, 8, 12345)
    assert (stat.atime, stat.mtime) == (10**18 + 1, stat.mtime)
    assert await one.getxattr("/a/b/f", "user.x") == b"\0y"
    assert await one.listxattr("/a/b/g") == ["user.x"]
    assert await one.getxattr("/a", "ceph.quota.max_files") == b"50"
    assert await one.readlink("/a/l") == "/a/b/f"
    assert sorted(await one.listdir("/a/b")) == ["f", "g"]
    await one.close_fd(fd)
    await one.sync_fs()
    await one.unlink("/a/b/f")
    await one.unlink("/a/b/g")
    await one.unlink("/a/l")
    await one.rmdir("/a/b")
    assert await one.listdir("/") == ["a"]
    await one.close()
    assert len(served.cluster.mds[0].sessions) == 0
    assert served.cluster.mds[0].requests() == []


@pytest.mark.parametrize("auth", ["cephx", "none"])
async def test_libcephfs_mounts_it_over_messenger_v1(release: Release, auth: Any) -> None:
    async with TestCluster(messengers=("v1",), auth=auth) as cluster:
        with ServedCluster(cluster, release) as served:
            peer = await asyncio.to_thread(LibcephfsPeer, served)
            one = peer.aio
            await one.mkdirs("/a/b")
            async with connect(cluster.conf, ms_mode="legacy") as client:
                fd = await one.open("/a/f", os.O_CREAT | os.O_RDWR, 0o640)
                await one.chmod("/a/f", 0o600)
                assert (await client.stat("/a/f")).mode == 0o100600
                cluster.faults.cut()
                await client.chmod("/a/f", 0o604)
                assert (await one.statx("/a/f")).mode == 0o100604
                await one.close_fd(fd)
            for number in range(10):
                cluster.faults.cut()
                await one.mkdir(f"/a/b/{number}")
            cluster.faults.cut(mon=True)
            assert len(await one.listdir("/a/b")) == 10
            assert all(remote.addr.type == AddrType.LEGACY for remote in cluster.mds[0].remotes.values())
            await one.close()
            assert len(cluster.mds[0].sessions) == 0


async def test_libcephfs_may_be_told_of_a_monitor_s_v1_address_alone(served: ServedCluster, peers) -> None:
    peer = await peers(mon_host=str(served.cluster.mon.addrs[1]).partition("/")[0])
    await peer.aio.mkdir("/d")
    assert await peer.aio.listdir("/") == ["d"]


async def test_data_is_refused_at_once(served: ServedCluster, peers) -> None:
    peer = await peers()
    with pytest.raises(OSError) as refused:
        await asyncio.wait_for(peer.aio.write_file("/f", b"data"), 10)
    assert refused.value.errno == errno.ENOSPC


async def test_libcephfs_makes_snapshots_and_reads_them(served: ServedCluster, peers) -> None:
    one, two = (await peers()).aio, (await peers()).aio
    await one.mkdirs("/d/e")
    fd = await one.open("/d/e/f", os.O_CREAT | os.O_RDWR, 0o644)
    await two.mkdir("/d/.snap/first")
    await one.chmod("/d/e/f", 0o600)
    await two.mkdir("/d/.snap/second")
    await one.unlink("/d/e/f")
    assert sorted(await one.listdir("/d/.snap")) == ["first", "second"]
    assert (await two.statx("/d/.snap/first/e/f")).mode == 0o100644
    assert (await one.statx("/d/.snap/second/e/f")).mode == 0o100600
    assert await one.listdir("/d/e") == []
    await one.close_fd(fd)
    await one.rmdir("/d/.snap/first")
    assert await two.listdir("/d/.snap") == ["second"]


async def test_two_libcephfs_see_each_other_and_keep_locks_apart(served: ServedCluster, peers) -> None:
    one, two = (await peers()).aio, (await peers()).aio
    fd = await one.open("/f", os.O_CREAT | os.O_RDWR, 0o644)
    await one.ftruncate(fd, 77)
    assert (await two.statx("/f")).size == 77
    await two.chmod("/f", 0o611)
    assert (await one.statx("/f")).mode == 0o100611
    other = await two.open("/f", os.O_RDWR)
    await one.flock(fd, fcntl.LOCK_EX, 1)
    with pytest.raises(BlockingIOError):
        await two.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB, 2)
    waiting = asyncio.create_task(two.flock(other, fcntl.LOCK_EX, 2))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await one.flock(fd, fcntl.LOCK_UN, 1)
    await asyncio.wait_for(waiting, 10)
    for number in range(50):
        await (one, two)[number % 2].mkdir(f"/dir-{number}")
    assert sorted(await one.listdir("/")) == sorted(await two.listdir("/"))
    assert len(await one.listdir("/")) == 51


async def test_libcephfs_and_our_client_revoke_each_other(served: ServedCluster, peers, recordings: Path) -> None:
    peer = (await peers()).aio
    async with connect(served.cluster.conf) as client:
        async with client.open("/f", "x") as file:
            await client.chmod("/f", 0o600)  # under Ax, not flushed yet
            assert (await peer.statx("/f")).mode == 0o100600
            fd = await peer.open("/f", os.O_RDWR)
            assert str(file.caps) == "pAsLsXsFrw"
            await peer.ftruncate(fd, 4096)
            assert (await client.stat("/f")).size == 4096
            await peer.close_fd(fd)
        await peer.mkdir("/d")
        await client.mkdir("/d/e")
        assert await peer.listdir("/d") == ["e"]
        await peer.rename("/d/e", "/d/g")
        assert await client.listdir("/d") == ["g"]
        await peer.setxattr("/f", "user.a", b"1")
        assert await client.getxattr("/f", "user.a") == b"1"
        await client.setxattr("/f", "user.a", b"2")
        assert await peer.getxattr("/f", "user.a") == b"2"
        assert client.metrics.late == ()


async def test_libcephfs_goes_on_over_cut_connections(served: ServedCluster, peers) -> None:
    peer = (await peers()).aio
    for number in range(20):
        await peer.mkdir(f"/{number}")
        served.cluster.faults.cut()
        assert await peer.exists(f"/{number}")
    assert len(await peer.listdir("/")) == 20
    (session,) = served.cluster.mds[0].sessions
    assert session.state == "open"


async def test_libcephfs_and_our_client_reconnect_to_another_mds(
    served: ServedCluster, peers, recordings: Path
) -> None:
    peer = (await peers()).aio
    await peer.mkdir("/d")
    fd = await peer.open("/d/f", os.O_CREAT | os.O_RDWR, 0o644)
    await peer.flock(fd, fcntl.LOCK_EX, 1)
    async with connect(served.cluster.conf) as client, client.open("/d/g", "x") as file:
        for number in range(3):
            await peer.chmod("/d/f", 0o600 + number)  # under Ax
            await file.setattr(mode=0o640 + number)
            making = [asyncio.create_task(peer.mkdir(f"/d/{number}-{each}")) for each in range(3)]
            await served.cluster.faults.fail_mds(after=0.2 * number)
            await asyncio.wait_for(asyncio.gather(*making), 20)
            assert (await client.stat("/d/f")).mode == 0o100600 + number
            assert (await peer.statx("/d/g")).mode == 0o100640 + number
            async with client.open("/d/f", "r+") as other:
                with pytest.raises(BlockingIOError):
                    await other.flock("exclusive", blocking=False)
        assert len(await client.listdir("/d")) == len(await peer.listdir("/d")) == 11
        assert client.metrics.late == ()
    await peer.close_fd(fd)
    assert served.cluster.mds[0].state == "active"
    assert served.cluster.mds[0].requests() == []


LISTING = r"""
set -e
cd "$1"
export LC_ALL=C TZ=UTC
mkdir -p tree/a/b/c/d && cd tree
for i in $(seq 20); do mkdir dir-$i; for j in $(seq 99); do : > dir-$i/file-$j; done; done
mv dir-1 a/b/moved && mv dir-2/file-1 dir-3/came && ln dir-3/file-2 a/linked && ln -s nowhere a/sym
chmod 640 dir-4/* && chmod 2775 dir-5 && chown 11:12 dir-6/file-9
find . -exec touch -h -d '2021-02-03 04:05:06.789' {} +
ls -lRn --time-style=full-iso .
cd .. && rm -r tree && test ! -e tree
"""


async def test_ceph_fuse_lists_a_tree_of_2000_as_on_a_real_mds(
    served: ServedCluster, release: Release, cluster
) -> None:
    if missing := FuseMount.missing(release):
        pytest.skip(missing)
    ours = await asyncio.to_thread(_list_tree, served)
    theirs = await asyncio.to_thread(_list_tree, cluster)
    assert ours == theirs
    assert ours.count("\n") > 2000


def _list_tree(cluster) -> str:
    with FuseMount(cluster) as mount:
        done = subprocess.run(["bash", "-c", LISTING, "-", mount.path], capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
        return done.stdout
