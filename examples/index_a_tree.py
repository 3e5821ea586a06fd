"""Keep an index of a directory tree that is never out of date: here, of its largest files.

python examples/index_a_tree.py                              # on a test cluster of its own
python examples/index_a_tree.py /etc/ceph/ceph.conf /a/tree

What caps cover stands until they are gone. So a directory is listed again only if caps on it or on what is in it are
gone, or were never had because somebody writes there; where nothing happened, nobody is asked.
"""

import asyncio
import sys
from contextlib import AsyncExitStack
from heapq import nlargest

import cephcaps
from cephcaps.events import CapEvent, CapReleased, CapRevoking, CapStale
from cephcaps.testing import TestCluster


class Index:
    """Sizes of the files below ``root``, by directory and name. ``listed`` counts directories listed."""

    def __init__(self, client: cephcaps.Client, root: str) -> None:
        self.client, self.listed = client, 0
        self.sizes: dict[str, dict[str, int]] = {}
        self.homes: dict[int, str] = {}  # of an inode: the directory to be listed when it changes
        self.stale = {root}
        self.events = client.events(types=(CapRevoking, CapReleased, CapStale))

    async def largest(self, count: int) -> list[tuple[int, str]]:
        for event in self.events.drain():  # of too many events some are dropped: then anything may be otherwise
            self.stale |= {self.homes.get(event.ino, "")} - {""} if isinstance(event, CapEvent) else {*self.sizes}
        todo, self.stale = self.stale, set()
        while todo:
            todo |= await self.list(todo.pop())
        everything = ((size, f"{at}/{name}") for at, sizes in self.sizes.items() for name, size in sizes.items())
        return nlargest(count, everything)

    async def list(self, directory: str) -> set[str]:
        """Take in what ``directory`` holds; gives the directories in it that are new."""
        self.listed += 1
        new: set[str] = set()
        sizes: dict[str, int] = {}
        try:
            stats = {"": await self.client.stat(directory)}
            async for entry in self.client.scandir(directory):
                path = f"{directory}/{entry.name}"
                stat = stats[entry.name] = await self.client.stat(path, follow_symlinks=False)
                if not stat.is_dir:
                    sizes[entry.name] = stat.size
                elif path not in self.sizes:
                    new.add(path)
        except FileNotFoundError:  # gone, or something in it is: the event is on its way
            for gone in [one for one in self.sizes if f"{one}/".startswith(f"{directory}/")]:
                del self.sizes[gone]
            return new
        self.sizes[directory] = sizes
        self.homes |= {stat.ino: directory for name, stat in stats.items() if not (name and stat.is_dir)}
        self.stale |= {directory for stat in stats.values() if "Fs" not in stat.caps}
        return new


async def main(conf: str | None = None, root: str = "/tree") -> None:
    async with AsyncExitStack() as stack:
        own = None if conf else await stack.enter_async_context(TestCluster())
        if own is not None:
            await grow(own, root)
        client, other = [await stack.enter_async_context(cephcaps.connect(own.conf if own else conf)) for _ in range(2)]
        index = Index(client, root)
        with index.events:
            while True:
                before = index.listed
                print(*await index.largest(3), f"listed {index.listed - before} directories", sep="\n")
                if own is None:
                    await asyncio.sleep(5)
                elif before:
                    return
                else:
                    await other.truncate(f"{root}/7/file", 700)


async def grow(cluster: TestCluster, root: str) -> None:
    async with cephcaps.connect(cluster.conf) as client:
        for number in range(20):
            await client.makedirs(f"{root}/{number}")
            async with client.open(f"{root}/{number}/file", "x") as file:
                await file.setattr(size=number)


if __name__ == "__main__":
    try:
        asyncio.run(main(*sys.argv[1:3]))
    except cephcaps.CephError as error:
        sys.exit(f"index_a_tree: {error}")
