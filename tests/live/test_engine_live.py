"""Caps under the things that happen to a client: links and renames by others, a small cache, moves between ranks."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from cephcaps import connect

from .agreement import agrees_at_rest, mounted
from .cluster import LiveCluster
from .waiting import until


def warnings(cluster: LiveCluster) -> list[str]:
    """Health checks about clients."""
    return [name for name in cluster.ceph("health", "detail")["checks"] if "CLIENT" in name]


async def test_links_and_renames_by_others_are_seen_at_once(cluster: LiveCluster) -> None:
    async with mounted(cluster) as peer, connect(cluster.conf) as client:
        await client.makedirs("/links/a")
        await client.makedirs("/links/b")
        async with client.open("/links/a/f", "x") as file:
            for number in range(30):
                here, there = ("a", "b") if number % 2 == 0 else ("b", "a")
                await peer.aio.link(f"/links/{here}/f", f"/links/{here}/g")
                assert (await client.stat(f"/links/{here}/f")).nlink == 2
                assert (await client.stat(f"/links/{here}/g")).ino == file.ino
                await peer.aio.unlink(f"/links/{here}/g")
                assert (await client.stat(f"/links/{here}/f")).nlink == 1
                assert not await client.exists(f"/links/{here}/g")
                await peer.aio.rename(f"/links/{here}/f", f"/links/{there}/f")
                assert not await client.exists(f"/links/{here}/f")
                assert (await client.stat(f"/links/{there}/f")).ino == file.ino
                await file.setattr(mode=0o600 + number)
                assert (await peer.aio.statx(f"/links/{there}/f")).mode & 0o777 == 0o600 + number
        await agrees_at_rest(cluster, client)
        assert warnings(cluster) == []


async def test_a_small_cache_is_respected_and_what_is_in_use_is_kept(cluster: LiveCluster) -> None:
    async with connect(cluster.conf) as client:
        await client.mkdir("/small")
        async with client.open("/small/open", "w") as file:
            for begin in range(0, 1500, 100):
                await asyncio.gather(*(client.mkdir(f"/small/d{number}") for number in range(begin, begin + 100)))
            await file.setattr(mode=0o640)
            held = client.sessions[0].num_caps
            assert held >= 1500
            await cluster.aio.mds_admin({"prefix": "config set", "var": "mds_cache_memory_limit", "val": ["1048576"]})
            try:
                await until(lambda: client.sessions[0].num_caps <= 200, "the recall to be followed", within=20.0)
            finally:
                limit = {"prefix": "config set", "var": "mds_cache_memory_limit", "val": ["4294967296"]}
                await cluster.aio.mds_admin(limit)
            assert client.inode_caps(file.ino) is not None
            assert warnings(cluster) == []
        await client.sync()
        assert (await client.stat("/small/open")).mode & 0o777 == 0o640
        assert client.metrics.late == ()


async def test_caps_follow_their_inodes_from_rank_to_rank(new_cluster: Callable[..., LiveCluster]) -> None:
    """A tree is handed to and fro while its files are open and changed: no change is lost, nothing is left waiting."""
    cluster = await asyncio.to_thread(new_cluster, mds=2, extra="[mds]\nmds bal interval = 1\nmds tick interval = 1")
    await cluster.aio.ceph("fs", "set", cluster.fs_name, "max_mds", 2)
    await asyncio.to_thread(cluster.wait_for_active, 1)
    rng = random.Random(1)
    async with mounted(cluster) as peer, connect(cluster.conf) as client:
        await client.makedirs("/moving/deep")
        files: list[Any] = [client.open(f"/moving/deep/f{number}", "x") for number in range(12)]
        modes: dict[int, int] = {}
        sizes: dict[int, int] = {}
        for file in files:
            await file.__aenter__()
        done = asyncio.Event()

        async def change() -> None:
            step = 0
            while not done.is_set():
                step += 1
                number = rng.randrange(len(files))
                modes[number] = 0o600 + step % 64
                await files[number].setattr(mode=modes[number])
                if step % 3 == 0:
                    sizes[number] = max(sizes.get(number, 0), step)
                    async with files[number].cap_refs("Fw", endoff=step) as refs:
                        refs.wrote(step)
                if step % 7 == 0:
                    await files[number].fsync()
                await asyncio.sleep(0.002)

        changing = asyncio.create_task(change())
        for move in range(4):
            rank = 1 - move % 2
            await peer.aio.setxattr("/moving", "ceph.dir.pin", str(rank).encode())
            await until(lambda rank=rank: moved(client, files[0].ino, rank), f"the tree at rank {rank}", within=20.0)
        done.set()
        await changing
        await client.sync()
        for number, file in enumerate(files):
            told = await peer.aio.statx(f"/moving/deep/f{number}")
            assert told.mode & 0o777 == modes.get(number, 0o644), number
            assert told.size == sizes.get(number, 0), number
            await file.__aexit__(None, None, None)
        assert client.metrics.late == ()
        for rank in (0, 1):
            await agrees_at_rest(cluster, client, rank=rank)
        assert warnings(cluster) == []


def moved(client: Any, ino: int, rank: int) -> bool:
    caps = client.inode_caps(ino)
    return caps is not None and caps.auth_rank == rank and list(caps.per_mds) == [rank]
