"""Tests of a program that speaks to CephFS, on a cluster that pytest starts for each of them.

    python -m pytest examples/test_with_a_cluster.py

The fixture comes with the package; no Ceph is installed and none is needed. Any client may use ``conf``.
"""

import asyncio
from pathlib import Path

import pytest

import cephcaps
from cephcaps.testing.plugin import CephTestCluster
from cephwire.reply import ClientReply


async def publish(conf: Path, name: str) -> None:
    """The program under test: makes a directory, and gives it its name when all is there."""
    async with cephcaps.connect(conf, timeout=1.0) as client:
        await client.mkdir(f"/.{name}")
        await client.setxattr(f"/.{name}", "user.done", b"yes")
        await client.rename(f"/.{name}", f"/{name}")


def test_it_is_there_when_it_has_its_name(ceph_test_cluster: CephTestCluster) -> None:
    asyncio.run(publish(ceph_test_cluster.conf, "release"))

    async def look() -> bytes:
        async with cephcaps.connect(ceph_test_cluster.conf) as client:
            return await client.getxattr("/release", "user.done")

    assert asyncio.run(look()) == b"yes"


def test_a_slow_cluster_is_told_from_a_broken_one(ceph_test_cluster: CephTestCluster) -> None:
    ceph_test_cluster.call(lambda cluster: cluster.faults.delay(ClientReply, 2.0))
    with pytest.raises(cephcaps.RequestTimeout):
        asyncio.run(publish(ceph_test_cluster.conf, "late"))
