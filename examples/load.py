"""Load an MDS as clients with large caches do: take caps on ACQUIRE files a second, give RELEASE of them back.

python examples/load.py                       # on a test cluster of its own
python examples/load.py --conf /etc/ceph/ceph.conf --acquire 500 --release 400 --seconds 60

Where "held" stays below the difference, the MDS has recalled some: see `mds_max_caps_per_client` in Ceph's manual.
"""

import argparse
import asyncio
import sys
from collections import deque
from contextlib import AsyncExitStack

import cephcaps
from cephcaps.testing import TestCluster

FOLDER = "/load"


async def load(client: cephcaps.Client, files: int, acquire: float, release: float, seconds: float) -> None:
    held: deque[str] = deque()
    taken = given = 0
    loop = asyncio.get_running_loop()
    start = loop.time()
    while (now := loop.time() - start) < seconds:
        while taken < now * acquire:
            path = f"{FOLDER}/{taken % files}"
            await client.stat(path)
            held.append(path)
            taken += 1
        while given < now * release and held:
            given += client.release(held.popleft())
        await asyncio.sleep(0.01)
        if int(now * 2) != int((loop.time() - start) * 2):  # twice a second
            held_now = sum(client.metrics.caps.values())
            print(f"{now:5.1f} s  taken {taken}  given back {given}  held {held_now}")


async def main(options: argparse.Namespace) -> None:
    async with AsyncExitStack() as stack:
        conf = options.conf or (await stack.enter_async_context(TestCluster())).conf
        async with cephcaps.connect(conf) as maker:
            await maker.makedirs(FOLDER, exist_ok=True)
            for number in range(options.files):
                async with maker.open(f"{FOLDER}/{number}", "a"):
                    pass
        async with cephcaps.connect(conf) as client:
            await load(client, options.files, options.acquire, options.release, options.seconds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--conf", help="ceph.conf of a cluster; else one of its own")
    parser.add_argument("--files", type=int, default=300)
    parser.add_argument("--acquire", type=float, default=200, help="files a second")
    parser.add_argument("--release", type=float, default=100, help="files a second")
    parser.add_argument("--seconds", type=float, default=1.2)
    try:
        asyncio.run(main(parser.parse_args()))
    except cephcaps.CephError as error:
        sys.exit(f"load: {error}")
