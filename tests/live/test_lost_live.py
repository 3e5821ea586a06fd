"""Clients that the cluster gives up on: each hears why, once for each handle of what it changed, and ends clean."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from cephcaps import Client, SessionLost, connect
from cephcaps.events import SessionChanged
from cephcaps.file import OpenFile

from .agreement import mounted
from .cluster import LiveCluster
from .process import OurProcess
from .sockets import break_connections
from .waiting import until
from .workload import PATIENCE

HEARS_WITHIN = 30.0
CLOSES_WITHIN = 30.0
SESSION_TIMEOUT = 30
"""Seconds; an MDS takes no less."""
ON_EVICT = ("mds_session_blocklist_on_evict", "mds_session_blacklist_on_evict")
"""The option's name, and what it was before."""
TASKS = 4

Lose = Callable[[LiveCluster, Client], Awaitable[None]]


async def evict(cluster: LiveCluster, client: Client) -> None:
    await cluster.aio.mds_admin({"prefix": "session evict", "filters": [f"id={client.global_id}"]})


async def blocklist(cluster: LiveCluster, client: Client) -> None:
    await cluster.aio.ceph("osd", "blocklist", "add", await asyncio.to_thread(address, cluster, client))


def address(cluster: LiveCluster, client: Client) -> str:
    """``127.0.0.1:0/NONCE``, as the MDS knows the client."""
    session = cluster.session(client.global_id)
    assert session is not None
    found = re.search(r"\d+\.\d+\.\d+\.\d+:\d+/\d+", session["inst"])
    assert found is not None, session["inst"]
    return found[0]


class Losing:
    """A client with work under way and files open, each by two handles, in different states.

    Attributes:
        heard: what its tasks were told; each ends with the first it hears.
    """

    def __init__(self, client: Client, root: str) -> None:
        self.client = client
        self.root = root
        self.heard: list[SessionLost] = []
        self.dirty: list[OpenFile] = []
        self.clean: list[OpenFile] = []
        self._stack = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []

    async def begin(self, *, at_work: bool) -> None:
        await self.client.mkdir(self.root)
        for name, handles in (("dirty", self.dirty), ("clean", self.clean)):
            path = f"{self.root}/{name}"
            for how in ("x", "r+"):
                handles.append(await self._open(path, how))
        await self.client.sync()
        if at_work:
            self._tasks = [asyncio.create_task(self._toil(number)) for number in range(TASKS)]
            await asyncio.sleep(1)
        await self.dirty[0].setattr(mode=0o600)

    async def _open(self, path: str, how: str) -> OpenFile:
        file = self.client.open(path, how)
        return await file.__aenter__()

    async def _toil(self, number: int) -> None:
        done = 0
        try:
            while True:
                path = f"{self.root}/{number}-{done}"
                await self.client.mkdir(path)
                await self.client.chmod(path, 0o700 + done % 0o100)
                await self.client.stat(path)
                done += 1
        except SessionLost as error:
            self.heard.append(error)

    async def hears(self, within: float = HEARS_WITHIN) -> None:
        """Return once every task was told."""
        _, late = await asyncio.wait(self._tasks, timeout=within)
        assert not late, f"after {within:g} s {len(late)} of {TASKS} tasks had not been told"
        for task in self._tasks:
            await task

    async def end(self, reason: str) -> None:
        """Every handle of the changed file tells its loss once, by fsync or else by being closed; no other does."""
        with pytest.raises(SessionLost) as told:
            await self.dirty[0].fsync(timeout=PATIENCE)
        assert told.value.reason == reason
        assert len(told.value.lost) == 1
        await self.dirty[0].fsync(timeout=PATIENCE)
        await self.dirty[0].__aexit__(None, None, None)
        with pytest.raises(SessionLost) as told:
            await self.dirty[1].__aexit__(None, None, None)
        assert told.value.reason == reason
        await self.clean[0].fsync(timeout=PATIENCE)
        for file in self.clean:
            await file.__aexit__(None, None, None)


@asynccontextmanager
async def leaves_nothing(cluster: LiveCluster, **how: Any) -> AsyncIterator[Client]:
    """A client that is to be lost, and closes in time and without a trace; another can be connected at once."""
    tasks = asyncio.all_tasks()
    client = await connect(cluster.conf, request_timeout=PATIENCE, **how).__aenter__()
    try:
        yield client
    except BaseException:
        await client._running.stop()
        raise
    async with connect(cluster.conf) as another:
        assert (await another.stat("/")).ino == 1
    started = time.monotonic()
    await client.__aexit__(None, None, None)
    assert time.monotonic() - started < CLOSES_WITHIN
    assert asyncio.all_tasks() == tasks
    running = client._running
    assert running._waiting == {}
    assert running._sockets == {}
    assert client.metrics.requests == client.metrics.dirty == client.metrics.flushing == 0


@pytest.mark.parametrize("lose", [evict, blocklist])
async def test_a_client_that_is_thrown_out_at_work_hears_that_it_is_blocklisted(
    cluster: LiveCluster, lose: Lose
) -> None:
    async with leaves_nothing(cluster) as client:
        losing = Losing(client, f"/thrown-out-by-{lose.__name__}")
        await losing.begin(at_work=True)
        await lose(cluster, client)
        await losing.hears()
        assert {error.reason for error in losing.heard} == {"blocklisted"}
        await losing.end("blocklisted")
        with pytest.raises(SessionLost, match="blocklisted"):
            await client.mkdir("/never")


async def test_a_client_that_is_evicted_and_not_blocklisted_loses_what_it_had_not_flushed_and_goes_on(
    cluster: LiveCluster,
) -> None:
    await on_evict(cluster, "false")
    try:
        async with leaves_nothing(cluster) as client:
            losing = Losing(client, "/evicted-only")
            await losing.begin(at_work=False)
            with client.events(types=(SessionChanged,)) as events:
                await evict(cluster, client)
                async with asyncio.timeout(HEARS_WITHIN):
                    async for event in events:
                        if isinstance(event, SessionChanged) and event.state == "open":
                            break
            assert sorted(await client.listdir("/evicted-only")) == ["clean", "dirty"]
            await client.mkdir("/evicted-only/after")
            await losing.end("evicted")
            assert client.sessions[0].state == "open"
            async with client.open("/evicted-only/dirty", "r+") as file:
                await file.setattr(mode=0o640)
                await file.fsync(timeout=PATIENCE)
            async with mounted(cluster) as peer:
                assert (await peer.aio.statx("/evicted-only/dirty")).mode & 0o777 == 0o640
    finally:
        await on_evict(cluster, "true")


async def on_evict(cluster: LiveCluster, blocklists: str) -> None:
    for name in ON_EVICT:
        try:
            await cluster.aio.mds_admin({"prefix": "config set", "var": name, "val": [blocklists]})
        except OSError:
            continue
        return
    raise AssertionError("no such option")


@pytest.mark.soak
async def test_an_idle_client_that_is_silent_for_too_long_is_evicted_and_hears_so_when_it_wakes(
    new_cluster: Callable[..., LiveCluster], tmp_path: Path
) -> None:
    cluster = new_cluster(mds=1, session_timeout=SESSION_TIMEOUT)
    cluster.ceph("fs", "set", cluster.fs_name, "session_autoclose", 2 * SESSION_TIMEOUT)
    async with OurProcess(cluster, tmp_path / "idle.pcapng") as frozen:
        await frozen.hold("/idle")
        frozen.freeze()
        await until(
            lambda: asyncio.to_thread(lambda: cluster.session(frozen.client_id) is None),
            "the MDS has thrown it out",
            within=4 * SESSION_TIMEOUT,
        )
        frozen.thaw()
        await frozen.is_told("blocklisted", within=HEARS_WITHIN)
        assert await frozen.leave(within=CLOSES_WITHIN) == "nothing left"


@pytest.mark.soak
@pytest.mark.parametrize("wanted_by_another", [False, True])
async def test_a_client_frozen_past_the_sessions_time_goes_on_unless_another_wanted_what_it_had(
    new_cluster: Callable[..., LiveCluster], tmp_path: Path, wanted_by_another: bool
) -> None:
    cluster = new_cluster(mds=1, session_timeout=SESSION_TIMEOUT)
    async with mounted(cluster) as peer, OurProcess(cluster, tmp_path / "frozen.pcapng") as frozen:
        await frozen.hold("/frozen")
        frozen.freeze()
        if wanted_by_another:
            peer.timeout = 4 * SESSION_TIMEOUT
            await peer.aio.chmod("/frozen/dirty", 0o604)  # waits until the MDS has thrown us out
        else:
            await asyncio.sleep(1.5 * SESSION_TIMEOUT)
        frozen.thaw()
        if wanted_by_another:
            await frozen.is_told("blocklisted", within=HEARS_WITHIN)
        else:
            await frozen.goes_on(within=HEARS_WITHIN)
            assert (await peer.aio.statx("/frozen/dirty")).mode & 0o777 == 0o600
        assert await frozen.leave(within=CLOSES_WITHIN) == "nothing left"


@pytest.mark.soak
async def test_without_its_key_a_client_works_until_its_connection_breaks(
    new_cluster: Callable[..., LiveCluster],
) -> None:
    lifetime = 60
    cluster = new_cluster(
        mds=1, extra=f"[global]\nauth service ticket ttl = {lifetime}\nauth mon ticket ttl = {lifetime}\n"
    )
    name = cluster.add_client_key("gone", mon="allow r", mds="allow rw", osd="allow rw")
    async with leaves_nothing(cluster, name=name, keyring=cluster.keyring) as client:
        losing = Losing(client, "/without-key")
        await losing.begin(at_work=True)
        await cluster.aio.ceph("auth", "del", name)
        await asyncio.sleep(2.5 * lifetime)
        assert losing.heard == []
        await losing.dirty[0].setattr(mode=0o640)
        break_connections(os.getpid())
        await losing.hears()
        assert {error.reason for error in losing.heard} == {"rejected"}
        await losing.end("rejected")
