"""Look for a race between two clients under faults, in simulated time; what one seed shows, it shows again.

    python examples/repeat_a_failure.py

Each seed is some minutes of the clients' time and a moment of ours.
"""

import asyncio
import random

import cephcaps
from cephcaps.testing import TestCluster, simulate


async def count_up(client: cephcaps.Client, times: int, rng: random.Random) -> None:
    """Adds to a number that is kept as a file's size, and forgets that somebody else may do so too."""
    for _ in range(times):
        size = (await client.stat("/counter", "Fs")).size
        await asyncio.sleep(rng.random() * 0.001)
        await client.truncate("/counter", size + 1)
        await asyncio.sleep(rng.random() * 60)


async def story(seed: int) -> int:
    rng = random.Random(seed)
    async with (
        TestCluster() as cluster,
        cephcaps.connect(cluster.conf) as one,
        cephcaps.connect(cluster.conf) as two,
        one.open("/counter", "x"),
    ):
        work = asyncio.gather(count_up(one, 20, rng), count_up(two, 20, rng))
        while not work.done():
            await asyncio.sleep(rng.random() * 30)
            cluster.faults.cut()
        return (await one.stat("/counter", "Fs")).size


if __name__ == "__main__":
    for seed in range(20):
        counted = simulate(lambda: story(seed), seed=seed)  # noqa: B023
        if counted != 40:
            again = simulate(lambda: story(seed), seed=seed)  # noqa: B023
            print(f"seed {seed}: counted {counted} of 40, and when repeated {again}")
            break
