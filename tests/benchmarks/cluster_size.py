"""How big a `TestCluster` may be: many inodes and many clients in one process, and for how long nothing else is done.

Run: ``python -m tests.benchmarks.cluster_size [INODES [CLIENTS]]``
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path

from cephcaps import Client, connect
from cephcaps.testing import TestCluster

AT_ONCE = 64
MOUNTS = 20
LOOK = 0.01
"""Seconds between two looks at the clock."""


class Watch:
    """The longest that the loop, or the collector of Python alone, kept the processor between two looks.

    Processor time, since a busy machine would be counted as a stall.
    """

    def __init__(self) -> None:
        self.stall = self.collecting = 0.0
        self._began = 0.0
        gc.callbacks.append(self._collects)

    def _collects(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.process_time()
        else:
            self.collecting = max(self.collecting, time.process_time() - self._began)

    async def run(self) -> None:
        last = time.process_time()
        while True:
            await asyncio.sleep(LOOK)
            now = time.process_time()
            self.stall, last = max(self.stall, now - last), now

    def report(self, what: str, began: float) -> None:
        pages = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
        print(
            f"{what}: {time.process_time() - began:.1f} s, longest stall {self.stall:.2f} s, of which the collector "
            f"{self.collecting:.2f} s; {int(pages.split()[1]) >> 10} MB"
        )
        self.stall = self.collecting = 0.0


async def make(client: Client, inodes: int) -> None:
    await client.mkdir("/d")

    async def some(first: int) -> None:
        for number in range(first, inodes, AT_ONCE):
            await client.mkdir(f"/d/{number}")

    await asyncio.gather(*(some(first) for first in range(AT_ONCE)))


async def fight(client: Client, number: int) -> None:
    await client.stat("/fight")
    await client.mkdir(f"/fight/{number}")


async def measure(inodes: int, clients: int) -> None:
    watch = Watch()
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(TestCluster())
        first = await stack.enter_async_context(connect(cluster.conf))
        task = asyncio.create_task(watch.run())
        stack.callback(task.cancel)
        began = time.process_time()
        await make(first, inodes)
        watch.report(f"{inodes} directories made", began)
        began, mounted = time.process_time(), []
        while len(mounted) < clients:
            mounted += await asyncio.gather(
                *(stack.enter_async_context(connect(cluster.conf)) for _ in range(min(MOUNTS, clients - len(mounted))))
            )
        watch.report(f"{clients} clients mounted", began)
        await first.mkdir("/fight")
        began = time.process_time()
        await asyncio.gather(*(fight(client, number) for number, client in enumerate(mounted)))
        watch.report(f"{clients} clients at one directory", began)


if __name__ == "__main__":
    given = [int(argument) for argument in sys.argv[1:]]
    asyncio.run(measure(*(given + [100_000, 500][len(given) :])))
