"""Clients whose coming or going is cut short at every point: no task, no socket and no session is left of them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable

import pytest

from cephcaps import Client, ConnectionFailed, RequestTimeout, SessionLost, connect

from .cluster import LiveCluster
from .suspensions import Point, Suspensions
from .trials import OUT_OF_TIME, Moment, begin, ended, interrupt, sockets
from .verbs import Memory
from .waiting import until

WITHIN = 10.0
LIFE: dict[str, Callable[[Client, str], Awaitable[None]]] = {}
NUMBERS = itertools.count(1)


def life(act: Callable[[Client, str], Awaitable[None]]) -> Callable[[Client, str], Awaitable[None]]:
    LIFE[act.__name__] = act
    return act


@life
async def idle(client: Client, path: str) -> None:
    """Nothing is left to do but to close the session."""


@life
async def dirty(client: Client, path: str) -> None:
    """A request that is not durable, and a change that was not flushed."""
    async with client.open(path, "x") as file:
        await file.setattr(mode=0o600)


@life
async def buffering(client: Client, path: str) -> None:
    """Data that were not written back."""
    async with client.open(path, "x") as file, file.cap_refs("Fw", "Fb", 100) as refs:
        refs.wrote(100, buffered="Fb" in refs.got)


async def lived(client: Client, act: Callable[[Client, str], Awaitable[None]], path: str) -> None:
    async with client:
        await act(client, path)


class Lives:
    """One client after the other, each cut short at another point of its life."""

    def __init__(self, cluster: LiveCluster, name: str) -> None:
        self._cluster = cluster
        self._act = LIFE[name]
        self.points = 0
        self._known = {session["id"] for session in cluster.session_ls()}
        self._sockets = sockets()

    def _client(self, timeout: float = WITHIN) -> Client:
        return connect(self._cluster.conf, root="/lives", data=Memory(), timeout=timeout, request_timeout=timeout)

    async def cancelled(self, n: int, moment: Moment) -> bool:
        """Cancel it at its n-th suspension; False if it ends before."""
        tasks = asyncio.all_tasks()
        client = self._client()

        def suspended(count: int, point: Point) -> None:
            if count == n or (count > n and moment == "again"):
                interrupt(task, point, moment)

        run = Suspensions(lived(client, self._act, f"/{next(NUMBERS)}"), suspended=suspended)
        task = begin(run)
        was_cancelled = await ended(task)
        await self.nothing_is_left(client, tasks)
        assert was_cancelled == (run.count >= n), "a cancellation was swallowed"
        self.points += was_cancelled
        return was_cancelled

    async def cancelled_after(self, turns: int) -> bool:
        """Cancel it after so many turns of the loop; False if it ends before."""
        tasks = asyncio.all_tasks()
        client = self._client()
        task = asyncio.create_task(lived(client, self._act, f"/{next(NUMBERS)}"))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        was_cancelled = await ended(task)
        await self.nothing_is_left(client, tasks)
        self.points += was_cancelled
        return was_cancelled

    async def timed_out(self, n: int) -> bool:
        """Freeze the MDS just before it goes on to its n-th suspension; False if it ends before."""
        tasks = asyncio.all_tasks()
        client = self._client(OUT_OF_TIME)
        mds = self._cluster.wait_for_active()

        def resumes(count: int) -> None:
            if count == n:
                self._cluster.freeze_daemon(mds)

        run = Suspensions(lived(client, self._act, f"/{next(NUMBERS)}"), resumes=resumes)
        try:
            # A busy monitor may be out of time, too; closing says what may not have come to the MDS.
            with contextlib.suppress(RequestTimeout, ConnectionFailed, SessionLost):
                await ended(begin(run))
        finally:
            self._cluster.thaw_daemon(mds)
        await self.nothing_is_left(client, tasks)
        self.points += run.count >= n
        return run.count >= n

    async def nothing_is_left(self, client: Client, tasks: set[asyncio.Task[None]]) -> None:
        if client._supervisor is not None:
            assert client._supervisor._waiting == {}
        await until(lambda: asyncio.all_tasks() == tasks, "no task is left", within=WITHIN)
        await until(lambda: sockets() == self._sockets, "no socket is left", within=WITHIN)
        await until(self._no_session, "the MDS has no session of it", within=WITHIN)
        async with self._client() as another:
            assert (await another.stat("/")).is_dir

    def _no_session(self) -> bool:
        return {session["id"] for session in self._cluster.session_ls()} <= self._known


@pytest.fixture(autouse=True)
async def root(cluster: LiveCluster) -> None:
    async with connect(cluster.conf) as client:
        await client.makedirs("/lives", exist_ok=True)


@pytest.mark.parametrize("moment", ["suspended", "answered", "again"])
@pytest.mark.parametrize("name", list(LIFE))
async def test_a_client_cancelled_at_whatever_point_of_its_life_leaves_nothing_behind(
    cluster: LiveCluster, name: str, moment: Moment
) -> None:
    trials = Lives(cluster, name)
    while await trials.cancelled(trials.points + 1, moment):
        pass
    print(f"{name}, {moment}: connect and close, {trials.points} points")


@pytest.mark.parametrize("name", list(LIFE))
async def test_a_client_cancelled_after_some_turns_of_the_loop_leaves_nothing_behind(
    cluster: LiveCluster, name: str
) -> None:
    trials = Lives(cluster, name)
    while await trials.cancelled_after(trials.points * (trials.points + 1) // 2):
        pass
    print(f"{name}, after some turns: {trials.points} points")


@pytest.mark.soak
@pytest.mark.parametrize("name", list(LIFE))
async def test_a_client_out_of_time_at_whatever_point_of_its_life_leaves_nothing_behind(
    cluster: LiveCluster, name: str
) -> None:
    trials = Lives(cluster, name)
    while await trials.timed_out(trials.points + 1):
        pass
    print(f"{name}, out of time: connect and close, {trials.points} points")
