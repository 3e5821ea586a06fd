"""Tell what changes in a directory tree, whoever changes it, without asking again and again.

python examples/watch_a_tree.py                              # on a test cluster of its own
python examples/watch_a_tree.py /etc/ceph/ceph.conf /a/tree  # until Ctrl-C

Who has listed a directory holds caps that say: this stands. They are taken back before anybody changes something, and
that is the news. Looking again costs no message where our caps still stand.
"""

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

import cephcaps
from cephcaps.testing import TestCluster


async def scan(client: cephcaps.Client, root: str) -> dict[str, cephcaps.Stat]:
    found: dict[str, cephcaps.Stat] = {}
    directories = [root]
    while directories:
        directory = directories.pop()
        with suppress(FileNotFoundError):  # gone since we heard of it
            async for entry in client.scandir(directory):
                path = f"{directory}/{entry.name}"
                found[path] = entry.stat
                directories += [path] if entry.stat.is_dir else []
    return found


async def watch(client: cephcaps.Client, root: str) -> AsyncGenerator[str, None]:
    with client.events() as events:
        was: dict[str, cephcaps.Stat] = {}
        while True:
            now = await scan(client, root)
            for path in sorted({*was, *now}):
                old, new = was.get(path), now.get(path)
                if old is None or new is None:
                    yield f"{'-' if new is None else '+'} {path}"
                elif (old.ino, old.change_attr) != (new.ino, new.change_attr):
                    yield f"~ {path}"
            was = now
            if await anext(events, None) is None:  # the client was closed
                return
            events.drain()  # whatever else has happened is seen by the same look


async def work(client: cephcaps.Client, root: str) -> None:
    await client.rmdir(f"{root}/gone")
    await client.chmod(f"{root}/old", 0o700)
    await client.mkdir(f"{root}/then")


async def main(conf: str | None = None, root: str = "/tree") -> None:
    if conf is not None:
        async with cephcaps.connect(conf) as client, aclosing(watch(client, root)) as changes:
            async for change in changes:
                print(change, flush=True)
        return
    async with TestCluster() as cluster, cephcaps.connect(cluster.conf) as one, cephcaps.connect(cluster.conf) as two:
        await two.makedirs(f"{root}/old")
        await two.makedirs(f"{root}/gone")
        async with aclosing(watch(one, root)) as changes:
            print(await anext(changes), await anext(changes), sep="\n")
            working = asyncio.create_task(work(two, root))
            async for change in changes:
                print(change)
                if change == f"+ {root}/then":
                    break
            await working


if __name__ == "__main__":
    try:
        asyncio.run(main(*sys.argv[1:3]))
    except cephcaps.CephError as error:
        sys.exit(f"watch_a_tree: {error}")
