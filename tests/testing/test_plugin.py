"""The fixture for other people's suites."""

from __future__ import annotations

import asyncio

from cephcaps import connect
from cephcaps.testing.plugin import CephTestCluster, ceph_test_cluster

__all__ = ["ceph_test_cluster"]


def test_a_blocking_test_may_use_it(ceph_test_cluster: CephTestCluster) -> None:
    async def work() -> list[str]:
        async with connect(ceph_test_cluster.conf) as client:
            await client.mkdir("/d")
            assert ceph_test_cluster.call(lambda cluster: cluster.faults.cut()) == 1
            return await client.listdir("/")

    assert asyncio.run(work()) == ["d"]


async def test_so_may_a_coroutine(ceph_test_cluster: CephTestCluster) -> None:
    async with connect(ceph_test_cluster.conf) as client:
        assert await client.listdir("/") == []
