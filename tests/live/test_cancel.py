"""Callers that go away, cancelled or out of time, at every point: nothing is left of them, and what was granted to them
is taken in and given back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

from cephcaps import Client, RequestTimeout, connect

from .agreement import agrees_at_rest
from .cluster import LiveCluster
from .libcephfs import LibcephfsPeer
from .waiting import until

FROZEN = 0.05
"""Seconds for which the MDS answers nothing; the request has long been sent by then."""

Verb = Callable[..., Awaitable[Any]]
Moment = Literal["begun", "frozen", "answered"]
VERBS: dict[str, Verb] = {}


def verb(function: Verb) -> Verb:
    VERBS[function.__name__] = function
    return function


def simple(name: str, *where: str, **what: Any) -> None:
    """A call of the client by that name, with paths below the trial's directory."""

    async def act(client: Client, top: str, **how: Any) -> None:
        await getattr(client, name)(*(f"{top}/{path}" for path in where), **what, **how)

    act.__name__ = name
    verb(act)


simple("stat", "file")
simple("exists", "file")
simple("readlink", "link")
simple("listdir", "")
simple("mkdir", "new")
simple("makedirs", "new/below/further")
simple("rmdir", "empty")
simple("unlink", "file")
simple("rename", "file", "renamed")
simple("link", "file", "hard")
simple("setattr", "file", mode=0o604, uid=7, mtime=10**18)
simple("chmod", "file", mode=0o604)
simple("chown", "file", uid=7, gid=8)
simple("utime", "file", ns=(10**17, 10**18))
simple("truncate", "file", size=3)


@verb
async def scandir(client: Client, top: str, **how: Any) -> None:
    async for _ in client.scandir(top, **how):
        pass


@verb
async def symlink(client: Client, top: str, **how: Any) -> None:
    await client.symlink("file", f"{top}/soft", **how)


@verb
async def open_to_read(client: Client, top: str, **how: Any) -> None:
    async with client.open(f"{top}/file", **how):
        pass


@verb
async def open_to_cut(client: Client, top: str, **how: Any) -> None:
    async with client.open(f"{top}/file", "w", **how):
        pass


@verb
async def open_to_create(client: Client, top: str, **how: Any) -> None:
    async with client.open(f"{top}/new", "x", **how):
        pass


@verb
async def file_setattr(client: Client, top: str, **how: Any) -> None:
    async with client.open(f"{top}/file", "r+", **how) as file:
        await file.setattr(size=3, uid=7, **how)


@verb
async def file_fsync(client: Client, top: str, **how: Any) -> None:
    async with client.open(f"{top}/new", "x", **how) as file:
        await file.setattr(mode=0o600, mtime=10**18, **how)
        await file.fsync(**how)


@verb
async def flush(client: Client, top: str, **how: Any) -> None:
    async with client.open(f"{top}/new", "x", **how):
        pass
    await client.chmod(f"{top}/new", 0o600, **how)
    await client.flush(f"{top}/new", **how)


@verb
async def fsync(client: Client, top: str, **how: Any) -> None:
    await client.mkdir(f"{top}/new", **how)
    await client.utime(f"{top}/new", (10**17, 10**18), **how)
    await client.fsync(top, **how)


@verb
async def sync(client: Client, top: str, **how: Any) -> None:
    async with client.open(f"{top}/new", "x", **how) as file:
        await file.setattr(mode=0o600, **how)
    await client.sync(**how)


@pytest.fixture(scope="module")
def peer(cluster: LiveCluster) -> Iterator[LibcephfsPeer]:
    with LibcephfsPeer(cluster) as mounted:
        mounted.mkdir("/trials")
        yield mounted


class Trials:
    """Runs one verb again and again, each time in a new directory that the peer has just made and holds caps on."""

    def __init__(self, cluster: LiveCluster, client: Client, peer: LibcephfsPeer, name: str) -> None:
        self.cluster = cluster
        self.client = client
        self.peer = peer
        self.name = name
        self.count = 0
        self.mds = cluster.wait_for_active()

    async def directory(self) -> str:
        self.count += 1
        top = f"/trials/{self.name}-{self.client.global_id}-{self.count}"
        await self.peer.aio.mkdir(top)
        await self.peer.aio.write_file(f"{top}/file", b"data")
        await self.peer.aio.symlink("file", f"{top}/link")
        await self.peer.aio.mkdir(f"{top}/empty")
        return top

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        self.cluster.freeze_daemon(self.mds)
        try:
            yield
        finally:
            self.cluster.thaw_daemon(self.mds)

    async def reached(self, task: asyncio.Task[None], call: int) -> int:
        """The token of the ``call``-th call that ``task`` makes of the supervisor; 0 if it ended before."""
        supervisor = self.client._running
        token = supervisor._last_token + call
        while supervisor._last_token < token:
            if task.done():
                return 0
            await asyncio.sleep(0)
        return token

    async def cancelled(self, call: int, moment: Moment) -> bool:
        """Cancel the verb at its ``call``-th call of the supervisor; False if it makes fewer."""
        top = await self.directory()
        tasks = asyncio.all_tasks()
        task = asyncio.ensure_future(VERBS[self.name](self.client, top))
        token = await self.reached(task, call)
        if not token:
            await task
            return False
        if moment == "frozen":
            with self.frozen():
                await asyncio.sleep(FROZEN)
                await self._cancel(task)
        else:
            if moment == "answered":
                waiting = self.client._running._waiting
                # Looked at in each turn of the loop: to wait for it is to come after ``task``, which has it then.
                while (answer := waiting.get(token)) is not None and not answer.done():  # noqa: ASYNC110
                    await asyncio.sleep(0)
            await self._cancel(task)
        await self.nothing_is_left(top, tasks)
        return True

    async def _cancel(self, task: asyncio.Task[None]) -> None:
        task.cancel()
        # It may have ended of itself before it could be cancelled, with success or with the MDS's answer to a verb
        # that the one before has carried out.
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()

    async def timed_out(self, call: int) -> bool:
        """Let the verb run out of time at its ``call``-th call of the supervisor; False if it makes fewer."""
        top = await self.directory()
        tasks = asyncio.all_tasks()
        task = asyncio.ensure_future(VERBS[self.name](self.client, top, timeout=4 * FROZEN))
        if not await self.reached(task, call):
            await task
            return False
        with self.frozen():
            await asyncio.wait([task])
        with contextlib.suppress(RequestTimeout):  # unless the MDS was quicker to answer than we to freeze it
            task.result()
        await self.nothing_is_left(top, tasks)
        return True

    async def nothing_is_left(self, top: str, tasks: set[asyncio.Task[Any]]) -> None:
        supervisor, core = self.client._running, self.client._running.core.mds
        assert supervisor._waiting == {}
        assert core.requests.by_token == {}
        assert core.waits._waiting == {}
        assert asyncio.all_tasks() == tasks
        await self.client.sync()  # first, for it has the MDS write its journal now, which others wait for
        assert (await self.client.stat(top)).is_dir  # it goes on working
        await until(lambda: not core.requests.by_tid, "every request is answered for good", within=10)
        assert [inode.ino for inode in core.engine.cache.inodes.values() if inode.used] == []
        assert self.client.metrics.late == ()


@pytest.mark.parametrize(
    "moment",
    [pytest.param("begun", marks=pytest.mark.soak), pytest.param("frozen", marks=pytest.mark.soak), "answered"],
)
@pytest.mark.parametrize("name", list(VERBS))
async def test_a_cancelled_call_leaves_nothing_behind_at_whatever_point(
    cluster: LiveCluster, conf: Path, peer: LibcephfsPeer, name: str, moment: Moment
) -> None:
    async with connect(conf) as client:
        trials = Trials(cluster, client, peer, name)
        call = 1
        while await trials.cancelled(call, moment):
            call += 1
        assert call > 1
        await agrees_at_rest(cluster, client)


@pytest.mark.soak
@pytest.mark.parametrize("name", list(VERBS))
async def test_a_call_out_of_time_leaves_nothing_behind_and_its_answer_is_taken_in(
    cluster: LiveCluster, conf: Path, peer: LibcephfsPeer, name: str
) -> None:
    async with connect(conf) as client:
        trials = Trials(cluster, client, peer, name)
        call = 1
        while await trials.timed_out(call):
            call += 1
        assert call > 1
        await agrees_at_rest(cluster, client)


@pytest.mark.soak
@pytest.mark.parametrize("name", list(VERBS))
async def test_a_call_cancelled_after_any_number_of_turns_of_the_loop_leaves_nothing_behind(
    cluster: LiveCluster, conf: Path, peer: LibcephfsPeer, name: str
) -> None:
    async with connect(conf) as client:
        trials = Trials(cluster, client, peer, name)
        for turns in (0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89):
            top = await trials.directory()
            tasks = asyncio.all_tasks()
            task = asyncio.ensure_future(VERBS[name](client, top))
            for _ in range(turns):
                await asyncio.sleep(0)
            await trials._cancel(task)
            await trials.nothing_is_left(top, tasks)
        await agrees_at_rest(cluster, client)


async def test_a_file_whose_creator_has_gone_is_there_and_closed(
    cluster: LiveCluster, conf: Path, peer: LibcephfsPeer
) -> None:
    async with connect(conf) as client:
        trials = Trials(cluster, client, peer, "created")
        top = await trials.directory()
        under_way = client._running.core.mds.requests.by_tid
        task = asyncio.ensure_future(client.open(f"{top}/new", "x").__aenter__())
        while not any(request.sent and request.operation.creates for request in under_way.values()):  # noqa: ASYNC110
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        await until(lambda: not under_way, "the create is answered for good", within=10)
        assert (await client.stat(f"{top}/new")).size == 0
        caps = client.inode_caps(f"{top}/new")
        assert caps is not None
        assert str(caps.wanted) == str(caps.used) == "-"
        async with client.open(f"{top}/new", "r+") as file:
            await file.setattr(size=10)
        assert (await peer.aio.statx(f"{top}/new")).size == 10
        await agrees_at_rest(cluster, client)
