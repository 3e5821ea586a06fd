"""Connections that the daemons break on purpose, every hundredth time they read or write: no caller hears of it."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cephcaps import Client, connect
from cephcaps.trace import Traced, read_trace
from cephwire.entity import EntityType

from .agreement import agrees_at_rest
from .cluster import LiveCluster
from .libcephfs import LibcephfsPeer
from .workload import at_work

MODES = ("crc", "secure")
ONE_IN = {"mds": 100, "mon": 200}
"""Of a daemon's reads and writes of sockets, how many are cut short by closing the connection."""
SOAK = 180
SETTLES = 60.0
"""Seconds in which both sides agree once nothing is broken any more: a connection is tried again after up to 15 s."""
LOOPS = 4


@asynccontextmanager
async def injecting(cluster: LiveCluster) -> AsyncIterator[None]:
    """All daemons that a client of ours talks with break connections."""
    names = [name for name in ("mon.a", *cluster.mds_names) if name.split(".")[0] in ONE_IN]

    async def every(count: dict[str, int]) -> None:
        for name in names:
            value = str(count.get(name.split(".")[0], 0))
            await cluster.aio.admin(name, {"prefix": "config set", "var": "ms_inject_socket_failures", "val": [value]})

    await every(ONE_IN)
    try:
        yield
    finally:
        await every({})


def connections(recording: Path) -> dict[int, int]:
    """How many connections to MDSs, and to monitors, a client has made that carried a message."""
    with recording.open("rb") as file:
        flows = {item.flow for item in read_trace(file) if isinstance(item, Traced)}
    kinds = [flow.daemon_type for flow in flows]
    return {kind: kinds.count(kind) for kind in (EntityType.MDS, EntityType.MON)}


async def test_a_workload_ends_as_computed_aside(cluster: LiveCluster, conf: Path) -> None:
    async with connect(conf) as client:
        async with at_work(client, "/undisturbed") as work:
            await work.during(5)
        await agrees_at_rest(cluster, client)
        await work.is_as_computed(cluster)
    await work.is_as_computed(cluster)


@pytest.mark.parametrize(
    ("ms_mode", "seconds"), [("crc", 15), *(pytest.param(mode, SOAK, marks=pytest.mark.soak) for mode in MODES)]
)
async def test_broken_connections_reach_no_caller(
    cluster: LiveCluster, conf: Path, recordings: Path, ms_mode: str, seconds: int
) -> None:
    async with connect(conf, ms_mode=ms_mode) as client:
        async with injecting(cluster), at_work(client, f"/inject-{ms_mode}-{seconds}", seed=seconds) as work:
            await work.during(seconds)
        await agrees_at_rest(cluster, client, within=SETTLES)
        await work.is_as_computed(cluster)
    made = connections(recordings / "client-1.pcapng")
    print(f"{made[EntityType.MDS]} connections to MDSs, {made[EntityType.MON]} to monitors")
    assert made[EntityType.MDS] > seconds // 10, "nothing was broken"


@pytest.mark.soak
@pytest.mark.parametrize("ms_mode", MODES)
async def test_what_is_done_between_breaks_is_no_less_than_libcephfs_does(
    cluster: LiveCluster, conf: Path, ms_mode: str
) -> None:
    options = {"ms_client_mode": ms_mode, "ms_mon_client_mode": ms_mode}
    await no_less_than_libcephfs(cluster, conf, ms_mode, options)


async def no_less_than_libcephfs(cluster: LiveCluster, conf: Path, ms_mode: str, options: dict[str, str]) -> None:
    """Files made, their modes and times set, in four tasks or threads: one client after the other, in turns."""
    peer = await asyncio.to_thread(LibcephfsPeer, cluster, options=options, timeout=120.0)
    done = {"ours": 0, "libcephfs": 0}
    try:
        async with connect(conf, ms_mode=ms_mode) as client, injecting(cluster):
            for turn in range(3):
                root = f"/churn-{ms_mode}-{turn}"
                await client.mkdir(root)
                for number in range(LOOPS):
                    await client.mkdir(f"{root}/ours-{number}")
                    await client.mkdir(f"{root}/theirs-{number}")
                done["ours"] += sum(
                    await asyncio.gather(*(churn(client, f"{root}/ours-{n}", SOAK / 6) for n in range(LOOPS)))
                )
                begun = [peer.submit("churn", folder=f"{root}/theirs-{n}", seconds=SOAK / 6) for n in range(LOOPS)]
                done["libcephfs"] += sum(await asyncio.gather(*map(asyncio.wrap_future, begun)))
    finally:
        await asyncio.to_thread(peer.close)
    rates = {who: count / (SOAK / 2) for who, count in done.items()}
    print(f"{ms_mode}: files made and changed in a second, connections breaking: {rates}")
    assert rates["ours"] >= rates["libcephfs"]


async def churn(client: Client, folder: str, seconds: float) -> int:
    """What ``churn`` of ``libcephfs_peer.Peer`` does."""
    until = time.monotonic() + seconds
    for number in itertools.count():
        if time.monotonic() > until:
            return number
        path = f"{folder}/{number}"
        async with client.open(path, "x"):
            pass
        await client.chmod(path, 0o600)
        await client.utime(path, (10**18, 10**18 + number))
    raise AssertionError
