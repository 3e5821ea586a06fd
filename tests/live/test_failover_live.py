"""Ranks that pass from one daemon to another under a client at work: it tells the new one all, and no caller of it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest

from cephcaps import Caps, Client, connect
from cephcaps.auth.crypto import CryptoKey
from cephcaps.auth.keyring import parse_keyring
from cephcaps.file import OpenFile
from cephcaps.trace import read_trace

from .agreement import agrees_at_rest, mounted
from .capturing import Dumpcap, missing_program, some_loopback_address
from .cluster import LiveCluster
from .libcephfs import LibcephfsPeer
from .takeover import RECONNECT, Takeover, flushes_sent_again, takeovers
from .waiting import until
from .workload import PATIENCE, RESTS, at_work

QUICK = """\
[global]
mds beacon interval = 1
mds beacon grace = 5
"""
"""A daemon that was killed is missed after five seconds, not fifteen."""
TAKES_OVER = 60.0
"""Seconds from the loss of a daemon until the rank is active again, at most."""
RECONNECTS = 5.0
"""Seconds from the map that asks for it."""
ORDER = ["replayed request", "retried request", "flush", RECONNECT]
"""What a new daemon is told first, if there is any of it."""


async def active(cluster: LiveCluster) -> int | None:
    """The gid of rank 0's holder; None while it does not work. A daemon that comes back has another."""
    mdsmap = (await cluster.aio.ceph("fs", "dump"))["filesystems"][0]["mdsmap"]
    gid = mdsmap["up"].get("mds_0")
    return gid if gid is not None and mdsmap["info"][f"gid_{gid}"]["state"] == "up:active" else None


async def another(cluster: LiveCluster, lost: int | None) -> None:
    async def found() -> bool:
        return await active(cluster) not in (lost, None)

    await until(found, "another is active", within=TAKES_OVER)


async def fail(cluster: LiveCluster) -> None:
    """Have the monitors take rank 0 from its daemon, which lives on and becomes a standby."""
    lost = await active(cluster)
    await cluster.aio.ceph("mds", "fail", 0)
    await another(cluster, lost)


async def kill(cluster: LiveCluster) -> None:
    """Kill the active daemon, and start it again once another has its rank."""
    lost, name = await active(cluster), cluster.wait_for_active()
    await cluster.aio.kill_daemon(name)
    await another(cluster, lost)
    await cluster.aio.start_daemon(name)


def read_takeovers(
    path: Path, client_id: int | None = None, keys: dict[str, CryptoKey] | None = None
) -> list[Takeover]:
    with path.open("rb") as file:
        return takeovers(read_trace(file, keys), client_id)


@pytest.mark.parametrize(("fails", "kills"), [(2, 1), pytest.param(10, 5, marks=pytest.mark.soak)])
async def test_work_goes_on_over_failovers(
    new_cluster: Callable[..., LiveCluster], recordings: Path, fails: int, kills: int
) -> None:
    cluster = new_cluster(mds=3, extra=QUICK)
    order = [kill if number < kills else fail for number in range(fails + kills)]
    async with connect(cluster.conf, request_timeout=PATIENCE) as client:
        known = client.global_id
        async with at_work(client, "/failover", rest=RESTS if fails < 10 else 0.0) as work:
            await work.during(2)
            for lose in order[::2] + order[1::2]:
                await lose(cluster)
                await work.moves_on(within=TAKES_OVER)
                await work.during(1)
        await agrees_at_rest(cluster, client)
        assert client.global_id == known
        assert {rank: session.state for rank, session in client.sessions.items()} == {0: "open"}
        assert [session["id"] for session in cluster.session_ls()] == [known]
        await work.is_as_computed(cluster)
    found = read_takeovers(recordings / "client-1.pcapng")
    assert len(found) == len(order)
    for one in found:
        print(f"{(one.reconnect_ns - one.map_ns) / 1e9:.3f} s from map to RECONNECT: {', '.join(one.kinds()[:12])}")
        assert one.reconnect_ns - one.map_ns < RECONNECTS * 1e9
        assert one.released() == []
        first = one.kinds()[: one.kinds().index(RECONNECT) + 1]
        assert first == [kind for kind in ORDER if kind in first]


class Actor(Protocol):
    """A client of either make, in one scene."""

    async def create(self, path: str) -> int:
        """Make a file and keep it open; gives its inode's number."""

    async def chmod(self, path: str, mode: int) -> None: ...

    async def mkdir(self, path: str) -> None: ...

    async def fsync(self, path: str) -> None: ...

    async def sync(self) -> None: ...


class Ours:
    def __init__(self, client: Client, stack: AsyncExitStack) -> None:
        self._client = client
        self._stack = stack
        self._files: dict[str, OpenFile] = {}

    async def create(self, path: str) -> int:
        self._files[path] = await self._stack.enter_async_context(self._client.open(path, "x"))
        return self._files[path].ino

    async def chmod(self, path: str, mode: int) -> None:
        await self._client.chmod(path, mode)

    async def mkdir(self, path: str) -> None:
        await self._client.mkdir(path, timeout=PATIENCE)

    async def fsync(self, path: str) -> None:
        await self._files[path].fsync(timeout=PATIENCE)

    async def sync(self) -> None:
        await self._client.sync(timeout=PATIENCE)


class Theirs:
    def __init__(self, peer: LibcephfsPeer) -> None:
        self._peer = peer
        self._fds: dict[str, int] = {}

    async def create(self, path: str) -> int:
        self._fds[path] = await self._do("open", path=path, flags=os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode=0o644)
        return (await asyncio.to_thread(self._peer.fstatx, self._fds[path])).ino

    async def chmod(self, path: str, mode: int) -> None:
        await self._do("chmod", path=path, mode=mode)

    async def mkdir(self, path: str) -> None:
        await self._do("mkdir", path=path, mode=0o755)

    async def fsync(self, path: str) -> None:
        await self._do("fsync", fd=self._fds[path], datasync=False)

    async def sync(self) -> None:
        await self._do("sync_fs")

    async def _do(self, op: str, **args: Any) -> Any:
        begun: Future[Any] = self._peer.submit(op, **args)
        return await asyncio.wait_for(asyncio.wrap_future(begun), PATIENCE)


async def lose_a_daemon_in_mid_talk(cluster: LiveCluster, actor: Actor, other: LibcephfsPeer, folder: str) -> None:
    """Let a daemon die that has answered one request unsafely, another not at all, and two flushes not at all.

    What one of the flushes brings has been asked back from the client meanwhile, as ``other`` looks at that file.
    """
    await actor.mkdir(folder)
    asked_back, kept = f"{folder}/asked-back", f"{folder}/kept"
    ino = await actor.create(asked_back)
    await actor.create(kept)
    await actor.sync()
    dying = cluster.wait_for_active()
    journal = {"prefix": "config set", "var": "mds_log_pause", "val": ["true"]}
    await cluster.aio.admin(dying, journal)
    await actor.mkdir(f"{folder}/answered-unsafely")
    await actor.chmod(asked_back, 0o600)
    await actor.chmod(kept, 0o640)
    begun = [asyncio.create_task(actor.fsync(asked_back)), asyncio.create_task(actor.fsync(kept))]
    await asyncio.sleep(0.5)  # both have reached the MDS, else what is said in the end is not what is asserted
    begun.append(asyncio.create_task(other.aio.statx(asked_back)))

    async def has_given_it_back() -> bool:
        caps = (await cluster.aio.dump_inode(ino))["client_caps"]
        return all("Ax" not in Caps(cap["issued"]) for cap in caps)

    await until(has_given_it_back, "Ax is given back")
    cluster.freeze_daemon(dying)
    begun.append(asyncio.create_task(actor.mkdir(f"{folder}/not-answered")))
    await asyncio.sleep(0.5)
    assert [task for task in begun if task.done()] == []
    await cluster.aio.ceph("mds", "fail", 0)
    await asyncio.gather(*begun)
    await cluster.aio.kill_daemon(dying)
    await cluster.aio.start_daemon(dying)


@asynccontextmanager
async def second_client(cluster: LiveCluster) -> AsyncIterator[LibcephfsPeer]:
    """One whose timeouts last over a failover."""
    async with mounted(cluster) as peer:
        peer.timeout = PATIENCE
        yield peer


async def test_a_new_daemon_is_told_the_same_in_the_same_order_as_by_libcephfs(
    new_cluster: Callable[..., LiveCluster], recordings: Path, tmp_path: Path
) -> None:
    missing = missing_program("dumpcap")
    if missing:
        pytest.skip(missing)
    cluster = new_cluster(mds=3, extra=QUICK, address=some_loopback_address())
    captured = tmp_path / "theirs.pcapng"
    with Dumpcap(captured, cluster.address):
        async with second_client(cluster) as peer, second_client(cluster) as other:
            await lose_a_daemon_in_mid_talk(cluster, Theirs(peer), other, "/theirs")
    keyring = parse_keyring(cluster.keyring.read_text(), str(cluster.keyring))
    keys = {entity: CryptoKey.from_base64(key.reveal()) for entity, key in keyring.items()}
    (theirs,) = read_takeovers(captured, peer.instance_id, keys)
    print(f"libcephfs: {', '.join(theirs.kinds())}")
    expected = [*ORDER, "flush"]
    assert [kind for kind in theirs.kinds() if kind in expected] == expected
    async with (
        second_client(cluster) as other,
        connect(cluster.conf, request_timeout=PATIENCE) as client,
        AsyncExitStack() as files,
    ):
        await lose_a_daemon_in_mid_talk(cluster, Ours(client, files), other, "/ours")
    recording = recordings / "client-1.pcapng"
    (ours,) = read_takeovers(recording)
    print(f"ours: {', '.join(ours.kinds())}")
    assert [kind for kind in ours.kinds() if kind in expected] == expected
    assert ours.kinds()[:4] == theirs.kinds()[:4]
    assert ours.released() == []
    with recording.open("rb") as file:
        again = flushes_sent_again(read_trace(file))
    assert len(again) == 2, "flushes under the tids they had at the daemon that died"
