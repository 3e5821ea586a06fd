"""One at a time, on however many machines: a lock that is a file in CephFS.

python examples/a_lock.py                     # on a test cluster of its own
python examples/a_lock.py /etc/ceph/ceph.conf

Three workers count up a number that is kept as a file's size. `repeat_a_failure.py` does so without a lock, and loses
some. The lock of a worker that dies ends when the MDS evicts it; should it live after all, its calls say SessionLost.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import cephcaps
from cephcaps.testing import TestCluster

LOCK, COUNTER = "/a_lock", "/a_counter"


@asynccontextmanager
async def locked(client: cephcaps.Client, path: str) -> AsyncIterator[None]:
    """Waits until nobody else has ``path`` locked; leaving the block, or dying in it, unlocks."""
    async with client.open(path, "a") as file:
        await file.flock("exclusive", timeout=None)
        yield


async def count_up(client: cephcaps.Client, times: int) -> None:
    for _ in range(times):
        async with locked(client, LOCK):
            size = (await client.stat(COUNTER, "Fs")).size
            await asyncio.sleep(0.001)  # time for somebody else to do the same
            await client.truncate(COUNTER, size + 1)


async def main(conf: str | None = None) -> None:
    async with AsyncExitStack() as stack:
        if conf is None:
            conf = str((await stack.enter_async_context(TestCluster())).conf)
        workers = [await stack.enter_async_context(cephcaps.connect(conf)) for _ in range(3)]
        async with workers[0].open(COUNTER, "w"):
            await asyncio.gather(*(count_up(worker, 10) for worker in workers))
        print(f"counted {(await workers[0].stat(COUNTER, 'Fs')).size} of 30")
        for path in (COUNTER, LOCK):
            await workers[0].unlink(path)


if __name__ == "__main__":
    try:
        asyncio.run(main(*sys.argv[1:2]))
    except cephcaps.CephError as error:
        sys.exit(f"a_lock: {error}")
