"""Directories that move between two ranks under a client at work, and a rank that is given up."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cephcaps import Client, connect

from .agreement import differences, mounted
from .cluster import LiveCluster
from .waiting import until
from .workload import PATIENCE, at_work

TICKS = "[mds]\nmds tick interval = 1\n"
"""An MDS looks once a tick for what is pinned to another."""
MOVES_WITHIN = 30.0
GIVEN_UP_WITHIN = 60.0


async def has_moved(cluster: LiveCluster, path: str, rank: int) -> bool:
    trees = await cluster.aio.mds_admin("get subtrees", rank=rank)
    return any(tree["dir"]["path"] == path and tree["auth_first"] == rank for tree in trees)


async def agree(cluster: LiveCluster, client: Client) -> None:
    """All ranks and we agree on every cap, and each inode's auth cap is of the rank that is in charge of it."""
    ranks = sorted(client.mds_map.in_)
    last: list[str] = []

    async def settled() -> bool:
        last[:] = [said for rank in ranks for said in differences(cluster, client, rank)]
        sessions = [await cluster.aio.session(client.global_id, rank=rank) for rank in ranks]
        theirs = sum(session["num_caps"] for session in sessions if session is not None)
        if theirs != sum(client.metrics.caps.values()):
            last.append(f"{theirs} caps by all ranks, {client.metrics.caps} by us")
        for ino in list(client.engine.cache.inodes):
            seen = [await cluster.aio.dump_inode(ino, rank=rank) for rank in ranks]
            auth = [rank for rank, inode in zip(ranks, seen, strict=True) if inode is not None and inode["is_auth"]]
            caps = client.inode_caps(ino)
            if caps is not None and caps.per_mds and [caps.auth_rank] != auth:
                last.append(f"inode {ino:#x}: auth rank {caps.auth_rank} by us, {auth} by the MDSs")
        return not last

    try:
        await until(settled, "all agree", within=30.0)
    except TimeoutError as error:
        raise AssertionError("\n".join(last[:20])) from error
    assert client.metrics.late == ()


@pytest.mark.parametrize("moves", [4, pytest.param(20, marks=pytest.mark.soak)])
async def test_work_goes_on_in_directories_that_move(new_cluster: Callable[..., LiveCluster], moves: int) -> None:
    cluster = new_cluster(mds=3, extra=TICKS)
    cluster.ceph("fs", "set", cluster.fs_name, "max_mds", 2)
    cluster.wait_for_active(1)
    async with mounted(cluster) as peer, connect(cluster.conf, request_timeout=PATIENCE) as client:
        async with at_work(client, "/moving") as work:
            await work.during(1)
            for move in range(1, moves + 1):
                rank = move % 2
                await peer.aio.setxattr("/moving", "ceph.dir.pin", str(rank).encode())
                await until(lambda r=rank: has_moved(cluster, "/moving", r), "it has moved", within=MOVES_WITHIN)
                await work.moves_on()
                await work.during(0.5)
            assert {rank: session.state for rank, session in client.sessions.items()} == {0: "open", 1: "open"}
        await agree(cluster, client)
        async with at_work(client, "/left", seed=1) as more:
            await peer.aio.setxattr("/left", "ceph.dir.pin", b"1")
            await until(lambda: has_moved(cluster, "/left", 1), "rank 1 is in charge", within=MOVES_WITHIN)
            await more.moves_on()
            await cluster.aio.ceph("fs", "set", cluster.fs_name, "max_mds", 1)
            await until(lambda: tuple(client.mds_map.in_) == (0,), "rank 1 is given up", within=GIVEN_UP_WITHIN)
            await more.moves_on()
        await agree(cluster, client)
        await work.is_as_computed(cluster)
        await more.is_as_computed(cluster)
