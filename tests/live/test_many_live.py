"""A hundred clients in one process, each with a hundred open files, when their MDS is replaced."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest

from cephcaps import Client, connect
from cephcaps.file import OpenFile

from .agreement import differences
from .cluster import LiveCluster
from .waiting import until
from .workload import PATIENCE

CLIENTS = 100
FILES = 100
SURVIVE_WITHIN = 120.0


def memory() -> float:
    """MiB of this process, at its most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def hold(client: Client, number: int, stack: AsyncExitStack) -> list[OpenFile]:
    await client.mkdir(f"/many-{number}")
    return [await stack.enter_async_context(client.open(f"/many-{number}/{n}", "x")) for n in range(FILES)]


@pytest.mark.soak
async def test_a_hundred_clients_survive_a_failover(new_cluster: Callable[..., LiveCluster]) -> None:
    cluster = new_cluster(mds=2)
    before = memory()
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(connect(cluster.conf, request_timeout=SURVIVE_WITHIN))
            for _ in range(CLIENTS)
        ]
        files = await asyncio.gather(*(hold(client, n, stack) for n, client in enumerate(clients)))
        held = memory()
        for number, of_client in enumerate(files):
            await of_client[0].setattr(mode=0o600 + number % 64)  # dirty when the MDS goes
        lost = cluster.wait_for_active()
        started, cpu = time.monotonic(), time.process_time()
        await cluster.aio.ceph("mds", "fail", 0)
        await asyncio.gather(*(client.mkdir(f"/many-{n}/after") for n, client in enumerate(clients)))
        took, cpu = time.monotonic() - started, time.process_time() - cpu
        assert cluster.holder(0, "up:active") != lost
        await asyncio.gather(*(client.sync(timeout=PATIENCE) for client in clients))
        assert len(cluster.session_ls()) == CLIENTS
        for number, (client, of_client) in enumerate(zip(clients, files, strict=True)):
            assert {rank: session.state for rank, session in client.sessions.items()} == {0: "open"}
            assert all("Fw" in file.caps for file in of_client)
            assert (await client.stat(f"/many-{number}/0")).mode & 0o777 == 0o600 + number % 64
            if number % 10 == 0:
                await until(lambda c=client: not differences(cluster, c), "they agree on all caps")
        print(
            f"{CLIENTS} clients with {FILES} open files each: {held - before:.0f} MiB; after a failover all had a new "
            f"directory in {took:.1f} s and {cpu:.1f} s of our CPU; {memory() - before:.0f} MiB at most"
        )
