"""Monitors that go away: open sessions need none, and what does need one has it from another, or later."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

import pytest

from cephcaps import connect

from .agreement import agrees_at_rest
from .cluster import LiveCluster
from .waiting import until
from .workload import PATIENCE, RESTS, at_work

DOWN = 5.0
"""Seconds without a monitor: an MDS that none answers for 15 s puts off all it is asked."""
ELECTS_WITHIN = 30.0


@pytest.mark.parametrize("times", [1, pytest.param(5, marks=pytest.mark.soak)])
async def test_work_goes_on_without_a_monitor(new_cluster: Callable[..., LiveCluster], times: int) -> None:
    cluster = new_cluster()
    async with connect(cluster.conf, request_timeout=PATIENCE) as client:
        async with at_work(client, "/alone", rest=RESTS) as work:
            for _ in range(times):
                await cluster.aio.kill_daemon("mon.a")
                before = work.operations
                await work.moves_on(within=DOWN)
                await work.during(DOWN / 2)
                assert work.operations > before
                await cluster.aio.start_daemon("mon.a")
                epoch = client.mds_map.epoch
                # What the map says from now on is heard again: the subscription goes on at the monitor that came back.
                await cluster.aio.ceph("fs", "set", cluster.fs_name, "session_autoclose", 300 + epoch)
                await until(lambda e=epoch: client.mds_map.epoch > e, "a newer MDSMap", within=ELECTS_WITHIN)
                await work.moves_on()
        await agrees_at_rest(cluster, client)
        assert {rank: session.state for rank, session in client.sessions.items()} == {0: "open"}
        await work.is_as_computed(cluster)


async def test_without_their_leader_two_monitors_do(new_cluster: Callable[..., LiveCluster]) -> None:
    cluster = new_cluster(mons=3, mds=3)
    leader = next(n for n in cluster.mon_names if cluster.admin(n, "mon_status")["state"] == "leader")
    async with connect(cluster.conf, request_timeout=PATIENCE) as client:
        async with at_work(client, "/leaderless", rest=RESTS) as work:
            await work.during(1)
            await cluster.aio.kill_daemon(leader)
            await work.moves_on(within=DOWN)
            others = [name for name in cluster.mon_names if name != leader]

            def one_leads() -> bool:
                return any(cluster.admin(name, "mon_status")["state"] == "leader" for name in others)

            await until(lambda: asyncio.to_thread(one_leads), "another leads", within=ELECTS_WITHIN)
            async with connect(cluster.conf, timeout=PATIENCE) as another:
                assert sorted(await another.listdir("/")) == ["leaderless"]
            await cluster.aio.ceph("fs", "set", cluster.fs_name, "max_mds", 2)
            await until(lambda: tuple(client.mds_map.in_) == (0, 1), "the MDSMap has two ranks", within=PATIENCE)
            await cluster.aio.wait_for_active(1)
            await client.mkdir("/elsewhere")
            async with connect(cluster.conf, timeout=PATIENCE) as another:
                await another.setxattr("/elsewhere", "ceph.dir.pin", b"1")

            numbers = itertools.count()

            async def has_second_session() -> bool:
                await client.mkdir(f"/elsewhere/{next(numbers)}")
                return 1 in client.sessions and client.sessions[1].state == "open"

            await until(has_second_session, "a session with rank 1", within=PATIENCE)
            await work.moves_on()
            await cluster.aio.start_daemon(leader)
        await work.is_as_computed(cluster)
