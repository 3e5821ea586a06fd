"""Every public coroutine, cancelled at one suspension point after another: nothing leaks and the next call works.

The MDS carries out what was sent all the same. Its answer is taken in: caps that came with it are held, files that it
opened are closed again, only the caller is forgotten.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from cephcaps import Client, RequestTimeout, connect
from cephwire.capbits import Cap

from .agreement import agrees_at_rest
from .cluster import LiveCluster
from .libcephfs import LibcephfsPeer
from .waiting import until

POINTS = (0, 1, 2, 3, 5, 8)
"""Turns of the event loop that a call gets before it is cancelled."""
serial = itertools.count()


async def scanned(client: Client) -> None:
    async for _ in client.scandir("/c"):
        pass


async def opened(client: Client) -> None:
    async with client.open(f"/c/new{next(serial)}", "x"):
        pass


async def changed_through_a_handle(client: Client) -> None:
    async with client.open("/c/file", "r+") as file:
        await file.setattr(mode=0o600 + next(serial) % 8)
        await file.fsync()


async def synced(client: Client) -> None:
    await client.chmod("/c/file", 0o600 + next(serial) % 8)
    await client.sync()


CALLS: dict[str, Callable[[Client], Awaitable[object]]] = {
    "stat": lambda c: c.stat("/c/dir/deep"),
    "exists": lambda c: c.exists(f"/c/none{next(serial)}"),
    "readlink": lambda c: c.readlink("/c/link"),
    "listdir": lambda c: c.listdir("/c/dir"),
    "scandir": scanned,
    "mkdir": lambda c: c.mkdir(f"/c/d{next(serial)}"),
    "makedirs": lambda c: c.makedirs(f"/c/m{next(serial)}/a/b"),
    "symlink": lambda c: c.symlink("x", f"/c/s{next(serial)}"),
    "link": lambda c: c.link("/c/file", f"/c/l{next(serial)}"),
    "rename": lambda c: c.rename("/c/file", "/c/file"),
    "setattr": lambda c: c.setattr("/c/file", mode=0o600 + next(serial) % 8),
    "chmod": lambda c: c.chmod("/c/dir", 0o700 + next(serial) % 8),
    "chown": lambda c: c.chown("/c/file", next(serial) % 100, -1),
    "utime": lambda c: c.utime("/c/file", (10**18, 10**18 + next(serial))),
    "truncate": lambda c: c.truncate("/c/file", next(serial) % 7),
    "open": opened,
    "file.setattr and fsync": changed_through_a_handle,
    "flush": lambda c: c.flush("/c/file"),
    "fsync": lambda c: c.fsync("/c"),
    "sync": synced,
}


def make_tree(cluster: LiveCluster) -> None:
    with LibcephfsPeer(cluster) as peer:
        peer.mkdirs("/c/dir/deep")
        peer.write_file("/c/file", b"")
        peer.symlink("file", "/c/link")


@pytest.fixture(scope="module")
def made(cluster: LiveCluster) -> None:
    make_tree(cluster)


async def nothing_is_left(cluster: LiveCluster, client: Client, tasks: set[asyncio.Task[object]]) -> None:
    """Once all answers are in: no waiter, no request, no open file, no task, and the MDS agrees on every cap."""
    await until(lambda: client.metrics.requests == 0, "every request is answered for good", within=15)
    supervisor = client._running
    assert supervisor._waiting == {}
    assert supervisor.core.mds.requests.by_token == {}
    assert supervisor.core.mds.waits._waiting == {}
    still_open = [hex(inode.ino) for inode in client._engine.cache.inodes.values() if inode.used & Cap.PIN]
    assert still_open == []
    assert asyncio.all_tasks() == tasks
    assert client.metrics.late == ()


async def cancelled(call: Awaitable[object], turns: int) -> bool:
    """Whether ``call`` was still on its way after ``turns`` and ended by being cancelled."""
    task = asyncio.ensure_future(call)
    for _ in range(turns + 1):
        await asyncio.sleep(0)
    if task.done():
        await task
        return False
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return True


@pytest.mark.parametrize("name", CALLS)
async def test_a_call_cancelled_anywhere_leaves_nothing(
    cluster: LiveCluster, conf: Path, made: None, name: str
) -> None:
    async with connect(conf) as client:
        tasks = asyncio.all_tasks()
        struck = 0
        for turns in POINTS:
            client.drop_caches()
            struck += await cancelled(CALLS[name](client), turns)
            await CALLS[name](client)
        await nothing_is_left(cluster, client, tasks)
        await agrees_at_rest(cluster, client)
    assert struck >= 1
    print(f"{name}: cancelled at {struck} of {len(POINTS)} points")


async def test_what_a_frozen_mds_was_asked_is_taken_in_when_it_wakes(new_cluster: Callable[..., LiveCluster]) -> None:
    """Cancelled and timed out with the request surely under way: the file is made, its caps come, and are let go."""
    alone = new_cluster(mds=1)  # nobody takes over while it sleeps
    make_tree(alone)
    async with connect(alone.conf) as client:
        tasks = asyncio.all_tasks()
        for name, call in CALLS.items():
            client.drop_caches()
            alone.freeze_daemon("mds.a")
            try:
                task = asyncio.ensure_future(call(client))
                await asyncio.sleep(0.02)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                with pytest.raises(RequestTimeout, match="timed out awaiting"):
                    await client.stat("/c/dir/deep", timeout=0.02)
            finally:
                alone.thaw_daemon("mds.a")
            await call(client)
            await nothing_is_left(alone, client, tasks)
            print(f"{name}: cancelled in flight")
        before = set(await client.listdir("/c"))
        assert any(found.startswith("new") for found in before)
        await agrees_at_rest(alone, client)
    assert alone.session_ls() == []
