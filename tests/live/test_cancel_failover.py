"""Callers that go away while the MDS fails over: nothing is left of them there either."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest

from cephcaps import Client, connect

from .agreement import agrees_at_rest, mounted
from .cluster import LiveCluster
from .suspensions import Suspensions
from .trials import Trials, at_rest, begin, ended, nobody_waits
from .verbs import VERBS, Memory, Verb, buffered, changing
from .waiting import until
from .workload import PATIENCE

QUICK = """\
[global]
mds beacon interval = 1
mds beacon grace = 5
"""
TAKES_OVER = 60.0
ALONE = [verb for verb in VERBS.values() if verb.scene not in (buffered, changing) and verb.name != "mds_command"]
"""Those that end though no peer does anything in the meantime. A command is for one daemon and is lost with it."""


class Held:
    """A call that is held just before it goes on to its n-th suspension, until `go`."""

    def __init__(self, client: Client, verb: Verb, n: int, top: str) -> None:
        self.what = f"{verb.name} at point {n}"
        self.go = asyncio.Event()
        self._n = n
        self._is_held = asyncio.Event()
        self.suspended = asyncio.Event()
        self._run = Suspensions(verb.act(client, top), resumes=self._resumes, suspended=self._suspended)
        self.task = begin(self._run)

    def _resumes(self, n: int) -> asyncio.Future[bool] | None:
        if n != self._n:
            return None
        self._is_held.set()
        return asyncio.ensure_future(self.go.wait())

    def _suspended(self, n: int, point: object) -> None:
        if n == self._n:
            self.suspended.set()

    async def held(self) -> bool:
        """Wait until it is; False if it ends before."""
        waiting = asyncio.ensure_future(self._is_held.wait())
        await asyncio.wait([waiting, self.task], return_when=asyncio.FIRST_COMPLETED)
        if self.task.done():
            waiting.cancel()
            self.task.result()
            return False
        return True


@pytest.mark.soak
async def test_calls_cancelled_while_the_mds_fails_over_leave_nothing_behind(
    new_cluster: Callable[..., LiveCluster],
) -> None:
    cluster = new_cluster(mds=3, extra=QUICK)
    async with (
        mounted(cluster) as peer,
        joined(cluster.conf) as plain,
        joined(cluster.conf, Memory()) as embedder,
        AsyncExitStack() as scenes,
    ):
        peer.timeout = PATIENCE
        await peer.aio.mkdir("/trials")
        tasks = asyncio.all_tasks()
        sent: list[Held] = []
        unsent: list[Held] = []
        for verb in ALONE:
            client = embedder if verb.data else plain
            trials = Trials(cluster, client, peer, verb)
            for where in (sent, unsent):
                n = 1
                while True:
                    top = await trials.directory()
                    await scenes.enter_async_context(verb.scene(peer, top))
                    call = Held(client, verb, n, top)
                    if not await call.held():
                        break
                    where.append(call)
                    n += 1
        lost = cluster.wait_for_active()
        gid = plain.sessions[0].gid
        cluster.freeze_daemon(lost)
        await go(sent)
        await asyncio.sleep(1.0)  # they are in its socket
        await cluster.aio.ceph("mds", "fail", 0)
        for client in (plain, embedder):
            await until(partial(unseated, client, gid), "it knows", within=TAKES_OVER)
        await go(unsent)
        for call in sent + unsent:
            call.task.cancel()
        before, after = [sum([await ended(call.task) for call in calls]) for calls in (sent, unsent)]
        for client in (plain, embedder):
            nobody_waits(client)
        await cluster.aio.kill_daemon(lost)
        await until(lambda: cluster.holder(0, "up:active") not in (lost, None), "another is active", within=TAKES_OVER)
        for client in (plain, embedder):
            await client.sync(timeout=PATIENCE)
            await client.mkdir(f"/goes-on-{client.global_id}", timeout=PATIENCE)
            await client.sync(timeout=PATIENCE)
        await scenes.aclose()
        for client in (plain, embedder):
            await at_rest(client, tasks)
            await agrees_at_rest(cluster, client)
        print(
            f"cancelled while the MDS failed over: {len(ALONE)} coroutines, {before + after} (coroutine, point) pairs, "
            f"{before} with a request that it had got, {after} with one that could not leave"
        )
        await cluster.aio.start_daemon(lost)


def unseated(client: Client, gid: int) -> bool:
    """Whether the rank is another daemon's or nobody's, as far as the client knows."""
    return client.sessions[0].gid != gid


def joined(conf: Path, data: Memory | None = None) -> Client:
    return connect(conf, data=data, request_timeout=PATIENCE)


async def go(calls: list[Held]) -> None:
    """Let them go on, until each waits at its point or has no need to."""
    for call in calls:
        call.go.set()
    for call in calls:
        waiting = asyncio.ensure_future(call.suspended.wait())
        await asyncio.wait([waiting, call.task], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
