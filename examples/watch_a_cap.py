"""Hold a file, let another client look at it, and print what becomes of our caps.

python examples/watch_a_cap.py                # on a test cluster of its own
python examples/watch_a_cap.py /etc/ceph/ceph.conf
"""

import asyncio
import sys
from contextlib import AsyncExitStack

import cephcaps
from cephcaps.events import CapEvent
from cephcaps.testing import TestCluster

PATH = "/watched"


async def main(conf: str | None = None) -> None:
    async with AsyncExitStack() as stack:
        if conf is None:
            conf = str((await stack.enter_async_context(TestCluster())).conf)
        one = await stack.enter_async_context(cephcaps.connect(conf))
        two = await stack.enter_async_context(cephcaps.connect(conf))
        file = await stack.enter_async_context(one.open(PATH, "w"))
        print(f"alone: {file.caps}")
        with one.events(types=(CapEvent,), ino=file.ino) as events:
            await file.setattr(mode=0o600)  # under Ax: here alone, until somebody asks
            mode = (await two.stat(PATH)).mode
            for event in events.drain():
                assert isinstance(event, CapEvent)
                print(f"  {type(event).__name__:15} {event.caps} -> {event.issued}")
        print(f"the other sees mode {mode & 0o777:o}")
        await one.unlink(PATH)


if __name__ == "__main__":
    try:
        asyncio.run(main(*sys.argv[1:2]))
    except cephcaps.CephError as error:
        sys.exit(f"watch_a_cap: {error}")
