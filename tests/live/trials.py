"""One call after the other, each cut short at another point of its way, and looked after: nothing may be left of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from types import CodeType
from typing import Any, Literal

from cephcaps import Client, RequestTimeout
from cephcaps.engine.inode import Inode

from .cluster import LiveCluster
from .libcephfs import LibcephfsPeer
from .suspensions import Point, Suspensions
from .verbs import Verb
from .waiting import until

__all__ = ["OUT_OF_TIME", "Moment", "Trials", "begin", "ended", "interrupt", "sockets"]

Moment = Literal["suspended", "answered", "again", "cut"]
"""When a call is cancelled: as it suspends; in the very turn in which what it waits for is there; as it suspends and
as often as it does so afterwards; or as it suspends and just after the connection to its MDS broke."""
OUT_OF_TIME = 0.2
"""Seconds that a call gets of an MDS that answers nothing."""
PATIENCE = 10.0


def interrupt(task: asyncio.Task[Any], point: Point, moment: Moment, cut: Callable[[], None]) -> None:
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

    async def cancelled(self, n: int, moment: Moment) -> bool:
        """Cancel the verb at its n-th suspension; False if it ends before."""
        top = await self.directory()
        tasks = asyncio.all_tasks()

        def suspended(count: int, point: Point) -> None:
            if count == n or (count > n and moment == "again"):
                interrupt(task, point, moment, self._cut)

        run = Suspensions(self.verb.act(self.client, top), suspended=suspended)
        async with self.verb.scene(self._peer, top):
            task = begin(run)
            was_cancelled = await ended(task)
            self.nobody_waits()
        await self.nothing_is_left(top, tasks)
        assert was_cancelled == (run.count >= n), "a cancellation was swallowed"
        return self._note(run, n)

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
            self.nobody_waits()
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

    def nobody_waits(self) -> None:
        supervisor = self.client._running
        core = supervisor.core.mds
        assert supervisor._waiting == {}
        assert core.requests.by_token == {}
        assert core.waits._waiting == {}
        assert core.engine.refs._inos == {}
        assert supervisor._listeners == []

    async def nothing_is_left(self, top: str, tasks: set[asyncio.Task[Any]]) -> None:
        core = self.client._running.core.mds
        await self.client.sync(timeout=PATIENCE)  # has the MDS write its journal now, which the others would wait for
        assert (await self.client.stat(top, timeout=PATIENCE)).is_dir  # it goes on working
        await until(lambda: not core.requests.by_tid, "every request is answered for good", within=PATIENCE)
        await until(lambda: asyncio.all_tasks() <= tasks, "no task is left", within=PATIENCE)
        assert [inode.ino for inode in core.engine.cache.inodes.values() if in_use(inode)] == []
        assert core.locks._handles == core.locks._had == {}
        assert core.engine.cache.pool.reserved == 0
        assert self.client.metrics.late == ()


def in_use(inode: Inode) -> bool:
    """Whether somebody has it open, uses or awaits its caps, or holds locks; cached data may stay."""
    use = inode.use
    if use is None:
        return inode.locks is not None
    counts = use.rd + use.wr + use.cache + use.buffer
    return bool(inode.locks or use.modes or counts or use.dirty_data or use.waiting or use.hooks or use.cap_snaps)
