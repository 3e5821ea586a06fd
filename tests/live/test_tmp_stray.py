from __future__ import annotations

import time
from pathlib import Path
import pytest
from cephcaps import connect
from .cluster import LiveCluster
from .libcephfs import LibcephfsPeer
from .waiting import until

pytestmark = pytest.mark.live


async def gone(cluster, ino, within=40.0):
    start = time.monotonic()

    async def is_gone():
        return await cluster.aio.dump_inode(ino) is None

    try:
        while time.monotonic() - start < within:
            if await is_gone():
                print("gone after", round(time.monotonic() - start, 1))
                return True
            import asyncio

            await asyncio.sleep(0.3)
    finally:
        pass
    found = await cluster.aio.dump_inode(ino)
    print("STILL", found and found.get("client_caps"), found and found.get("nlink"))
    return False


@pytest.fixture
def peer(cluster):
    with LibcephfsPeer(cluster) as p:
        yield p


async def test_stray(cluster: LiveCluster, conf: Path, peer: LibcephfsPeer) -> None:
    async with connect(conf) as client:
        results = {}
        async with client.open("/s1", "x") as f:
            ino = f.ino
        await client.unlink("/s1")
        results["ours, closed"] = await gone(cluster, ino)
        async with client.open("/s2", "x") as f:
            ino = f.ino
            await client.unlink("/s2")
            print("open caps", client.inode_caps(ino).issued, client.cached(ino).nlink)
        results["ours, open"] = await gone(cluster, ino)
        async with client.open("/s3", "x") as f:
            ino = f.ino
        await peer.aio.unlink("/s3")
        results["theirs, closed"] = await gone(cluster, ino)
        async with client.open("/s4", "x") as f:
            ino = f.ino
            await peer.aio.unlink("/s4")
            print("open caps", client.inode_caps(ino).issued, client.cached(ino).nlink)
        results["theirs, open"] = await gone(cluster, ino)
        async with client.open("/s5", "x") as f:
            ino = f.ino
        async with client.open("/s6", "x") as f:
            pass
        await client.rename("/s6", "/s5")
        results["renamed over"] = await gone(cluster, ino)
        print(results, client.metrics.late)
        assert all(results.values())
