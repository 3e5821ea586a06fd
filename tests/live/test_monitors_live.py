"""A client whose monitor is lost: another is found, and maps keep coming."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from cephcaps import connect
from cephcaps.messenger.connection import Connection

from .agreement import agrees_at_rest
from .cluster import LiveCluster
from .logins import change_map, monitor_in_use
from .waiting import until

FINDS_ANOTHER = 3.0
"""Seconds from the loss of the monitor in use: one that does not answer costs as much."""
PINGS = {"mon_client_ping_interval": "1", "mon_client_ping_timeout": "3"}


def name_of(cluster: LiveCluster, connection: Connection) -> str:
    """The monitor at the other end."""
    hosts = cluster.mon_host.removesuffix("]").split("],")
    return next(n for n, h in zip(cluster.mon_names, hosts, strict=True) if f":{connection.target.port}," in h + ",")


@pytest.mark.parametrize(("loss", "found_out"), [("killed", 0.0), ("frozen", 5.0)])
async def test_maps_keep_coming_when_the_monitor_in_use_is_lost(
    new_cluster: Callable[..., LiveCluster], loss: str, found_out: float
) -> None:
    cluster = new_cluster(mons=3, mds=1)
    async with connect(cluster.conf, options=PINGS) as client:
        known = client.global_id
        for _ in range(3):
            await change_map(cluster, client)
            old = monitor_in_use(client)
            assert old is not None
            lost = name_of(cluster, old)
            began = time.monotonic()
            cluster.freeze_daemon(lost) if loss == "frozen" else await cluster.aio.kill_daemon(lost)

            def another(old: Connection = old) -> bool:
                return monitor_in_use(client) not in (None, old)

            await until(another, "another monitor lets us in", within=found_out + FINDS_ANOTHER)
            print(f"{lost} {loss}: {time.monotonic() - began:.2f} s to another")
            new = monitor_in_use(client)
            assert new is not None
            assert name_of(cluster, new) != lost
            await change_map(cluster, client)
            if loss == "frozen":
                cluster.thaw_daemon(lost)
            else:
                await cluster.aio.start_daemon(lost)
        assert client.global_id == known
        assert {rank: session.state for rank, session in client.sessions.items()} == {0: "open"}
        await agrees_at_rest(cluster, client)
