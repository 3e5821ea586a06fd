"""One call after the other, each cut short at another point of its way, and looked after: nothing may be left of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from types import CodeType
from typing import Any, Literal

from cephcaps import Client, RequestTimeout
from cephcaps.engine.inode import Inode

from .cluster import LiveCluster
from .libcephfs import LibcephfsPeer
from .suspensions import Point, Suspensions
from .verbs import Verb
from .waiting import until

__all__ = ["OUT_OF_TIME", "Moment", "Trials", "at_rest", "begin", "ended", "interrupt", "nobody_waits", "sockets"]

Moment = Literal["suspended", "answered", "again", "frozen", "cut"]
"""When a call is cancelled: as it suspends; in the very turn in which what it waits for is there; as it suspends and
as often as it does so afterwards; when an MDS that answers nothing has long got what was asked; or as it suspends and
just after the connection to its MDS broke."""
FROZEN = 0.05
"""Seconds in which a request comes to the MDS's socket."""
OUT_OF_TIME = 0.2
"""Seconds that a call gets of an MDS that answers nothing."""
PATIENCE = 10.0


def interrupt(
    task: asyncio.Task[Any],
    point: Point,
    moment: Moment,
    cut: Callable[[], None] = lambda: None,
) -> None:
    """Have ``task`` cancelled, which has just come to ``point`` and does not wait for it yet."""
    if moment == "answered" and point is not None:
        # Called before what wakes the task, and in the same turn.
        point.add_done_callback(lambda _: task.cancel())
    elif moment == "cut":
        cut()
        asyncio.get_running_loop().call_soon(task.cancel)  # once it is known that the connection is gone
    else:
        task.cancel()


def begin(run: Suspensions[None]) -> asyncio.Task[None]:
    async def through() -> None:
        await run

    return asyncio.create_task(through())


async def ended(task: asyncio.Task[None]) -> bool:
    """Whether it was cancelled; what else it met is raised."""
    await asyncio.wait([task])
    if task.cancelled():
        return True
    task.result()
    return False


def sockets() -> int:
    """How many this process has."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
    return found


class Trials:
    """Runs one verb again and again, each time in a new directory that the peer has just made and holds caps on.

    Attributes:
        points: how many points of its way it was cut short at.
        ended_in: functions in which it was.
    """

    def __init__(self, cluster: LiveCluster, client: Client, peer: LibcephfsPeer, verb: Verb) -> None:
        self.client = client
        self.verb = verb
        self.points = 0
        self.ended_in: set[CodeType] = set()
        self._cluster = cluster
        self._peer = peer
        self._made = 0
        self._mds = cluster.wait_for_active()

    async def directory(self) -> str:
        self._made += 1
        top = f"/trials/{self.verb.name}-{self.client.global_id}-{self._made}"
        await self._peer.aio.mkdir(top)
        await self._peer.aio.write_file(f"{top}/file", b"data")
        await self._peer.aio.symlink("file", f"{top}/link")
        await self._peer.aio.mkdir(f"{top}/empty")
        return top

    async def every_point(self, trial: Callable[[int], Awaitable[bool]]) -> None:
        """One trial for each point on the verb's way, until two in a row come to no further one: it is not always
        equally long."""
        n = 1
        while await trial(n) or await trial(n):
            n += 1

    async def cancelled(self, n: int, moment: Moment) -> bool:
        """Cancel the verb at its n-th suspension; False if it ends before."""
        top = await self.directory()
        tasks = asyncio.all_tasks()

        def resumes(count: int) -> None:
            if count == n and moment == "frozen":
                self._cluster.freeze_daemon(self._mds)

        def suspended(count: int, point: Point) -> None:
            if count == n and moment == "frozen":
                timers.append(asyncio.get_running_loop().call_later(FROZEN, gone))
            elif count == n or (count > n and moment == "again"):
                interrupt(task, point, moment, self._cut)

        def gone() -> None:
            task.cancel()
            self._cluster.thaw_daemon(self._mds)  # it has yet to answer who gives back what he had before

        timers: list[asyncio.TimerHandle] = []
        run = Suspensions(self.verb.act(self.client, top), resumes=resumes, suspended=suspended)
        async with self.verb.scene(self._peer, top):
            task = begin(run)
            try:
                was_cancelled = await ended(task)
            finally:
                for timer in timers:
                    timer.cancel()
                self._cluster.thaw_daemon(self._mds)
            nobody_waits(self.client)
        await self.nothing_is_left(top, tasks)
        # What needs no answer of the MDS may end while that is frozen.
        assert was_cancelled == (run.count >= n) or moment == "frozen", "a cancellation was swallowed"
        return self._note(run, n)

    async def cancelled_after(self, turns: int) -> None:
        """Cancel the verb after so many turns of the loop."""
        top = await self.directory()
        tasks = asyncio.all_tasks()
        async with self.verb.scene(self._peer, top):
            task = asyncio.create_task(self.verb.act(self.client, top))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            self.points += await ended(task)
            nobody_waits(self.client)
        await self.nothing_is_left(top, tasks)

    async def timed_out(self, n: int) -> bool:
        """Freeze the MDS just before the verb goes on to its n-th suspension; False if it ends before."""
        top = await self.directory()
        tasks = asyncio.all_tasks()

        def resumes(count: int) -> None:
            if count == n:
                self._cluster.freeze_daemon(self._mds)

        run = Suspensions(self.verb.act(self.client, top, timeout=OUT_OF_TIME), resumes=resumes)
        async with self.verb.scene(self._peer, top):
            try:
                with contextlib.suppress(RequestTimeout):  # what needs no MDS ends well
                    await ended(begin(run))
            finally:
                self._cluster.thaw_daemon(self._mds)
            nobody_waits(self.client)
        await self.nothing_is_left(top, tasks)
        return self._note(run, n)

    def _note(self, run: Suspensions[None], n: int) -> bool:
        self.ended_in.update(run.ended_in)
        self.points += run.count >= n
        return run.count >= n

    def _cut(self) -> None:
        """Break the connection to the MDS, as a network does."""
        supervisor = self.client._running
        for session in self.client.sessions.values():
            socket = supervisor._sockets.get(session.connection) if session.connection is not None else None
            if socket is not None and socket._transport is not None:
                socket._transport.abort()

    async def nothing_is_left(self, top: str, tasks: set[asyncio.Task[Any]]) -> None:
        await self.client.sync(timeout=PATIENCE)  # has the MDS write its journal now, which the others would wait for
        assert (await self.client.stat(top, timeout=PATIENCE)).is_dir  # it goes on working
        await at_rest(self.client, tasks)


def nobody_waits(client: Client) -> None:
    supervisor = client._running
    core = supervisor.core.mds
    assert supervisor._waiting == {}
    assert core.requests.by_token == {}
    assert core.waits._waiting == {}
    assert core.engine.refs._inos == {}
    assert supervisor._listeners == []


async def at_rest(client: Client, tasks: set[asyncio.Task[Any]]) -> None:
    """Wait until all is answered, and be sure that nothing is held for anybody."""
    core = client._running.core.mds
    await until(lambda: not core.requests.by_tid, "every request is answered for good", within=PATIENCE)
    await until(lambda: asyncio.all_tasks() <= tasks, "no task is left", within=PATIENCE)
    assert [inode.ino for inode in core.engine.cache.inodes.values() if in_use(inode)] == []
    assert core.locks._handles == {}
    assert core.locks._had == {}
    assert core.engine.cache.pool.reserved == 0
    assert client.metrics.late == ()


def in_use(inode: Inode) -> bool:
    """Whether somebody has it open, uses or awaits its caps, or holds locks; cached data may stay."""
    use = inode.use
    if use is None:
        return inode.locks is not None
    counts = use.rd + use.wr + use.cache + use.buffer
    return bool(inode.locks or use.modes or counts or use.dirty_data or use.waiting or use.hooks or use.cap_snaps)
