"""What is changed under an exclusive cap stays here until someone asks, waits, or its time is up; then it is safe."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cephcaps import Client, connect
from cephcaps.engine.flush import FLUSH_DELAY
from cephcaps.events import CapFlushed, CapFlushing
from cephcaps.file import OpenFile
from cephwire.caps import ClientCaps, ClientCapsFlag
from cephwire.request import ClientRequest
from cephwire.requestop import RequestOp

from .cluster import LiveCluster
from .holding import Sent, agree
from .libcephfs import LibcephfsPeer
from .waiting import until

LONG_AGO = 987_654_321_123_456_789
"""A time in the past, ns, with something in every digit."""
MDS_TICK = 5.0
"""Seconds after which an MDS journals what nobody waits for (``mds_tick_interval``)."""
FIELDS = ("mode", "uid", "gid", "size", "atime", "mtime", "ctime", "btime")


@pytest.fixture
def peer(cluster: LiveCluster) -> Iterator[LibcephfsPeer]:
    with LibcephfsPeer(cluster) as mounted:
        yield mounted


@pytest.fixture
async def client(conf: Path) -> AsyncIterator[Client]:
    async with connect(conf) as connected:
        yield connected
        assert connected.metrics.late == ()


class Kind(NamedTuple):
    """A change, the bits it makes dirty, and by how much ``time_warp_seq`` rises."""

    change: dict[str, int]
    dirty: str
    warps: int = 0


KINDS = {
    "mode": Kind({"mode": 0o751}, "Ax"),
    "owner": Kind({"uid": 1001, "gid": 1002}, "Ax"),
    "mtime back": Kind({"mtime": LONG_AGO}, "Fx", 1),
    "mtime ahead": Kind({"mtime": 4 * 10**18 + 7}, "Fx", 1),
    "atime": Kind({"atime": LONG_AGO + 1}, "Fx", 1),
    "both times": Kind({"atime": LONG_AGO + 2, "mtime": LONG_AGO + 3}, "Fx", 1),
    "size": Kind({"size": 1_234_567}, "Fx"),
    "all": Kind({"mode": 0o640, "uid": 7, "gid": 8, "size": 99, "atime": LONG_AGO, "mtime": LONG_AGO}, "AxFx", 1),
}


def flushes(sent: Sent, client: Client) -> list[ClientCaps]:
    return [caps for caps in sent.by(client, ClientCaps) if caps.dirty]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_change_is_buffered_until_someone_waits_and_then_libcephfs_sees_the_same(
    cluster: LiveCluster, client: Client, peer: LibcephfsPeer, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    sent = Sent(monkeypatch)
    path, made = f"/flush-{kind}", KINDS[kind]
    async with client.open(path, "x") as file:
        old = await client.stat(path)
        born = (await cluster.aio.dump_inode(file.ino))["time_warp_seq"]
        before = sent.count(client)
        with client.events(ino=file.ino) as events:
            await file.setattr(**made.change)
            held = client.inode_caps(file.ino)
            assert held is not None
            assert (str(held.dirty), str(held.flushing)) == (made.dirty, "-")
            assert sent.count(client) == before
            assert client.metrics.dirty == 1

            await file.fsync()

            flushing, flushed = events.drain()
        assert isinstance(flushing, CapFlushing)
        assert isinstance(flushed, CapFlushed)
        assert str(flushing.caps) == str(flushed.caps) == made.dirty
        assert flushing.flush_tid == flushed.flush_tid > 0
        (flush,) = flushes(sent, client)
        assert flush.flags & ClientCapsFlag.SYNC
        dump = await cluster.aio.dump_inode(file.ino)  # no wait: fsync has returned
        told = {"mode": dump["mode"] & 0o7777, "uid": dump["uid"], "gid": dump["gid"], "size": dump["size"]}
        assert told == {name: made.change.get(name, getattr(old, name) & 0o7777777) for name in told} | (
            {} if "mode" in made.change else {"mode": old.mode & 0o7777}
        )
        assert dump["time_warp_seq"] == born + made.warps
        ours = await client.stat(path)
        theirs = await peer.aio.statx(path)
        assert {name: getattr(ours, name) for name in FIELDS} == {name: getattr(theirs, name) for name in FIELDS}
        assert {name: getattr(ours, name) & (0o7777 if name == "mode" else -1) for name in made.change} == made.change
        assert ours.btime == old.btime
        assert ours.ctime > old.ctime
        assert ours.change_attr > old.change_attr
        await agree(cluster, client, file.ino)
        assert client.metrics.dirty == client.metrics.flushing == 0
    fresh = await asyncio.to_thread(LibcephfsPeer, cluster)
    try:
        theirs = await fresh.aio.statx(path)
    finally:
        await asyncio.to_thread(fresh.close)
    assert {name: getattr(ours, name) for name in FIELDS} == {name: getattr(theirs, name) for name in FIELDS}


async def test_times_go_forward_under_fw_and_back_by_request(
    cluster: LiveCluster, client: Client, peer: LibcephfsPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two writers: neither has Fx."""
    sent = Sent(monkeypatch)
    async with client.open("/two-writers", "x") as file:
        fd = await peer.aio.open("/two-writers", os.O_RDWR)
        old = await client.stat("/two-writers")
        await until(lambda: "Fx" not in file.caps and "Fw" in file.caps, "two writers share Fw")
        dump = await agree(cluster, client, file.ino)
        requests = len(sent.by(client, ClientRequest))

        await file.setattr(mtime=old.mtime + 10**9 + 1)

        held = client.inode_caps(file.ino)
        assert held is not None
        assert str(held.dirty) == "Fw"
        assert len(sent.by(client, ClientRequest)) == requests
        await file.fsync()
        assert (await cluster.aio.dump_inode(file.ino))["time_warp_seq"] == dump["time_warp_seq"]
        assert (await peer.aio.statx("/two-writers")).mtime == old.mtime + 10**9 + 1

        requests = len(sent.by(client, ClientRequest))
        await file.setattr(mtime=LONG_AGO)
        assert [r.op for r in sent.by(client, ClientRequest)[requests:]] == [RequestOp.SETATTR]
        assert (await peer.aio.statx("/two-writers")).mtime == LONG_AGO
        assert (await client.stat("/two-writers")).mtime == LONG_AGO
        await peer.aio.close_fd(fd)
        await agree(cluster, client, file.ino)


async def test_a_file_shrinks_by_request_and_grows_here(
    cluster: LiveCluster, client: Client, peer: LibcephfsPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = Sent(monkeypatch)
    async with client.open("/sizes", "x") as file:
        seq = (await client.stat("/sizes")).truncate_seq
        for shrunk in (100, 10, 0):
            await file.setattr(size=1000)
            assert file.size == 1000
            before = len(sent.by(client, ClientRequest))
            await file.setattr(size=shrunk)
            assert [r.op for r in sent.by(client, ClientRequest)[before:]] == [RequestOp.SETATTR]
            assert file.size == shrunk
            assert (await peer.aio.statx("/sizes")).size == shrunk
            seen = await client.stat("/sizes")
            assert (seen.size, seen.truncate_seq > seq) == (shrunk, True)
            seq = seen.truncate_seq
            await until(lambda: "Fx" in file.caps, "Fx comes back")
        dump = await agree(cluster, client, file.ino)
        assert (dump["size"], dump["truncate_seq"]) == (0, seq)


async def test_the_second_client_sees_at_once_what_the_first_has_buffered(
    cluster: LiveCluster, client: Client, peer: LibcephfsPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = Sent(monkeypatch)
    async with client.open("/seen", "x") as file:
        before = sent.count(client)
        change = {"mode": 0o611, "uid": 5, "gid": 6, "size": 77, "atime": LONG_AGO + 5, "mtime": LONG_AGO + 6}
        await file.setattr(**change)
        assert sent.count(client) == before
        with client.events((CapFlushing, CapFlushed), ino=file.ino) as events:
            seen = await peer.aio.statx("/seen")
            assert {n: getattr(seen, n) & (0o7777 if n == "mode" else -1) for n in change} == change
            ours = await client.stat("/seen")
            assert {name: getattr(ours, name) for name in FIELDS} == {name: getattr(seen, name) for name in FIELDS}
            await until(lambda: client.metrics.flushing == 0, "the flush is acknowledged")
            assert [type(event) for event in events.drain()] == [CapFlushing, CapFlushed]
        await agree(cluster, client, file.ino)


async def test_what_nobody_asks_for_is_flushed_when_due(
    cluster: LiveCluster, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = Sent(monkeypatch)
    async with client.open("/due", "x") as file:
        with client.events((CapFlushing, CapFlushed), ino=file.ino) as events:
            before = sent.count(client)
            changed = time.monotonic()
            await file.setattr(mode=0o601)
            await asyncio.sleep(FLUSH_DELAY / 2)
            await file.setattr(mtime=LONG_AGO)  # joins it, and postpones nothing
            assert sent.count(client) == before
            flushing = await anext(events)
            waited = time.monotonic() - changed
            assert FLUSH_DELAY <= waited < FLUSH_DELAY + 1
            assert str(flushing.caps) == "AxFx"
            (flush,) = flushes(sent, client)
            assert not flush.flags & ClientCapsFlag.SYNC
            flushed = await asyncio.wait_for(anext(events), 2 * MDS_TICK)
            took = time.monotonic() - changed - waited
        assert flushed.flush_tid == flushing.flush_tid
        dump = await agree(cluster, client, file.ino)
        assert dump["mode"] & 0o777 == 0o601
    print(f"flushed after {waited:.2f} s, acknowledged {took:.2f} s later")


WAYS: dict[str, Callable[[Client, OpenFile], Awaitable[None]]] = {
    "file.fsync": lambda client, file: file.fsync(),
    "flush path": lambda client, file: client.flush("/ways"),
    "flush ino": lambda client, file: client.flush(file.ino),
    "sync": lambda client, file: client.sync(),
}


async def test_whoever_waits_returns_once_it_is_acknowledged(
    cluster: LiveCluster, client: Client, peer: LibcephfsPeer
) -> None:
    slowest = dict.fromkeys(WAYS, 0.0)
    async with client.open("/ways", "x") as file:
        for number in range(100):
            for name, wait in WAYS.items():
                with client.events((CapFlushing, CapFlushed), ino=file.ino) as events:
                    mtime = LONG_AGO + number * 10**9
                    await file.setattr(mode=0o600 + number % 8, mtime=mtime)
                    started = time.perf_counter()
                    await wait(client, file)
                    slowest[name] = max(slowest[name], time.perf_counter() - started)
                    assert [type(event) for event in events.drain()] == [CapFlushing, CapFlushed], name
                held = client.inode_caps(file.ino)
                assert held is not None
                assert (str(held.dirty), str(held.flushing)) == ("-", "-")
                dump = await cluster.aio.dump_inode(file.ino)
                assert dump["mode"] & 0o777 == 0o600 + number % 8
        assert (await peer.aio.statx("/ways")).mtime == mtime
        await agree(cluster, client, file.ino)
    print({name: f"{seconds * 1e3:.1f} ms at most" for name, seconds in slowest.items()})
    assert max(slowest.values()) < 1


@pytest.mark.parametrize("wait", ["sync", "fsync of the directory"])
async def test_a_hundred_directories_are_each_durable_in_less_than_a_second(
    cluster: LiveCluster, client: Client, peer: LibcephfsPeer, wait: str
) -> None:
    """Without a word to the MDS each would take up to the 5 s of its tick."""
    top = f"/durable-{wait}"
    await client.mkdir(top)
    slowest = 0.0
    for number in range(100):
        started = time.perf_counter()
        await client.mkdir(f"{top}/{number}")
        if wait == "sync":
            await client.sync()
        else:
            await client.fsync(top)
        slowest = max(slowest, time.perf_counter() - started)
        assert client.metrics.requests == 0
    print(f"mkdir and {wait}: {slowest * 1e3:.1f} ms at most")
    assert slowest < 1
    assert len(await peer.aio.listdir(top)) == 100


async def test_closing_brings_everything_to_safety(cluster: LiveCluster, conf: Path, peer: LibcephfsPeer) -> None:
    files = 50
    async with connect(conf) as client:
        await client.mkdir("/closing")
        born = {}
        for number in range(files):
            path = f"/closing/{number}"
            async with client.open(path, "x"):
                born[path] = (await client.stat(path)).btime
                change = {"mode": 0o600 + number % 8, "uid": number, "gid": 2 * number, "size": 3 * number}
                await client.setattr(path, **change, mtime=LONG_AGO + number, atime=LONG_AGO - number)
        assert client.metrics.dirty == files
    assert await cluster.aio.session(client.global_id) is None
    seen = await peer.aio.statx_many(list(born))
    told = [(s.mode & 0o777, s.uid, s.gid, s.size, s.mtime, s.atime, s.btime) for s in seen]
    assert told == [
        (0o600 + n % 8, n, 2 * n, 3 * n, LONG_AGO + n, LONG_AGO - n, born[f"/closing/{n}"]) for n in range(files)
    ]


async def test_a_client_that_changes_again_while_it_flushes_loses_nothing(
    cluster: LiveCluster, client: Client, peer: LibcephfsPeer
) -> None:
    """Flush 1, change again, flush 2, ack 1: what 2 carries is still on its way."""
    tasks: list[Any] = []
    async with client.open("/overlap", "x") as file:
        with client.events((CapFlushing, CapFlushed), ino=file.ino) as events:
            for number in range(200):
                await file.setattr(mode=0o600 + number % 64, mtime=LONG_AGO + number)
                tasks.append(asyncio.create_task(file.fsync()))
                await asyncio.sleep(0)
            await asyncio.gather(*tasks)
            seen = events.drain()
        begun = [event.flush_tid for event in seen if isinstance(event, CapFlushing)]
        done = [event.flush_tid for event in seen if isinstance(event, CapFlushed)]
        assert begun == sorted(set(begun))
        assert done == sorted(set(done))
        assert done[-1] == begun[-1]
        held = client.inode_caps(file.ino)
        assert held is not None
        assert (str(held.dirty), str(held.flushing)) == ("-", "-")
        theirs = await peer.aio.statx("/overlap")
        assert (theirs.mode & 0o777, theirs.mtime) == (0o600 + 199 % 64, LONG_AGO + 199)
        await agree(cluster, client, file.ino)
    print(f"{len(begun)} flushes, {len(done)} acknowledgements")
