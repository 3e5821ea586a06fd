"""Snapshots taken while we have changed, change, or write a file: each shows what it was by then."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cephcaps import Caps, Client, DataIo, connect
from cephcaps.file import OpenFile
from cephwire.caps import CapOp, ClientCaps

from .agreement import agrees_at_rest, mounted
from .cluster import LiveCluster
from .holding import Sent
from .libcephfs import PeerStat
from .snapshots import context_of, same, tree
from .waiting import until

LATER = 2 * 10**18
"""A time ahead of the clocks, ns."""


@pytest.fixture
async def client(conf: Path) -> AsyncIterator[Client]:
    async with connect(conf) as connected:
        yield connected
        assert connected.metrics.late == ()


@pytest.fixture
async def peer(cluster: LiveCluster) -> AsyncIterator[Any]:
    """libcephfs, its calls as coroutines: our client answers meanwhile."""
    async with mounted(cluster) as libcephfs:
        yield libcephfs.aio


class Watcher:
    """One open file of ours, whose directory is snapshotted; and what is said of its caps."""

    def __init__(self, client: Client, peer: Any, file: OpenFile, top: str, sent: Sent) -> None:
        self.client = client
        self.peer = peer
        self.file = file
        self.top = top
        self.name = os.path.basename(file._path)
        self._sent = sent

    async def snapshot(self, name: str) -> int:
        """Have libcephfs take one, and wait until our client has heard of it."""
        await self.peer.mkdir(f"{self.top}/.snap/{name}")
        snapid: int = (await self.peer.statx(f"{self.top}/.snap/{name}")).dev
        await until(lambda: snapid in context_of(self.client, self.file.ino).snaps, "CLIENT_SNAP", within=5.0)
        return snapid

    async def seen(self, name: str) -> PeerStat:
        """The file in a snapshot, as libcephfs sees it."""
        found: PeerStat = await self.peer.statx(f"{self.top}/.snap/{name}/{self.name}")
        return found

    def said(self) -> list[tuple[str, int, str]]:
        """Messages about its caps: op, the snapid it follows, and what is dirty."""
        return [
            (CapOp(caps.op).name, caps.snap_follows, str(Caps.of(caps.dirty)))
            for caps in self._sent.by(self.client, ClientCaps)
            if caps.ino == self.file.ino
        ]


@contextlib.asynccontextmanager
async def watched(client: Client, peer: Any, top: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Watcher]:
    """A new file in a new tree, durable and with nothing dirty."""
    async with tree(client, top), client.open(f"{top}/file", "x") as file:
        await client.sync()
        yield Watcher(client, peer, file, top, Sent(monkeypatch))


async def test_each_of_several_snapshots_shows_the_size_and_mode_of_its_time(
    cluster: LiveCluster, client: Client, peer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watched(client, peer, "/snap-many", monkeypatch) as it:
        await it.file.setattr(size=10)
        first = await it.snapshot("1")
        await it.file.setattr(mode=0o777)
        await it.snapshot("2")
        await it.file.setattr(size=20)
        third = await it.snapshot("3")
        await it.file.setattr(mode=0o666)
        await it.snapshot("4")
        await it.file.setattr(size=30)
        last = await it.snapshot("5")
        flushed = [follows for op, follows, _ in it.said() if op == "FLUSHSNAP"]
        assert len(flushed) == 5
        assert flushed == sorted(flushed)
        assert flushed[0] < first <= flushed[1]
        assert third <= flushed[3] < flushed[4] < last

        assert [((s := await it.seen(name)).size, oct(s.mode & 0o777)) for name in "12345"] == [
            (10, "0o644"),
            (10, "0o777"),
            (20, "0o777"),
            (20, "0o666"),
            (30, "0o666"),
        ]
        await client.sync()
        now = await peer.statx("/snap-many/file")
        assert (now.size, now.mode & 0o777) == (30, 0o666)
        await agrees_at_rest(cluster, client)


async def test_each_of_several_snapshots_shows_what_was_written_by_then(
    cluster: LiveCluster, client: Client, peer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watched(client, peer, "/snap-wrote", monkeypatch) as it:
        for number in range(1, 4):
            async with it.file.cap_refs("Fw", endoff=number * 1000) as refs:
                refs.wrote(number * 1000, mtime=LATER + number)
            await it.snapshot(str(number))
        for number in range(1, 4):
            seen = await it.seen(str(number))
            assert (seen.size, seen.mtime) == (number * 1000, LATER + number)
        await agrees_at_rest(cluster, client)


async def test_a_snapshot_of_our_own_holds_what_is_dirty_here(
    cluster: LiveCluster, client: Client, peer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watched(client, peer, "/snap-own", monkeypatch) as it:
        await it.file.setattr(size=10, mode=0o600, mtime=LATER)
        await client.mksnap("/snap-own", "1")
        await it.file.setattr(size=20, mode=0o640, mtime=LATER + 1)
        await client.mksnap("/snap-own", "2")
        for name, size, mode, mtime in (("1", 10, 0o600, LATER), ("2", 20, 0o640, LATER + 1)):
            seen = await it.seen(name)
            assert (seen.size, seen.mode & 0o777, seen.mtime) == (size, mode, mtime)
            assert same(await client.stat(f"/snap-own/.snap/{name}/file"), seen)
        await agrees_at_rest(cluster, client)


async def test_a_flushsnap_goes_before_what_gives_write_bits_back(
    cluster: LiveCluster, client: Client, peer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watched(client, peer, "/snap-order", monkeypatch) as it:
        await it.file.setattr(size=10)
        before = context_of(client, it.file.ino).seq
        # Both at once: the revoke for the stat may come before or after the word of the snapshot.
        await asyncio.gather(it.peer.mkdir("/snap-order/.snap/1"), it.peer.statx("/snap-order/file"))
        await it.file.setattr(size=20)
        await it.snapshot("2")
        await client.sync()
        said = it.said()
        snaps = [follows for op, follows, _ in said if op == "FLUSHSNAP"]
        assert snaps
        assert snaps == sorted(snaps)
        assert snaps[0] >= before
        # Nothing that follows a snapshot goes ahead of the FLUSHSNAP for it.
        for number, (op, follows, _) in enumerate(said):
            if op == "FLUSHSNAP":
                assert all(other <= follows for _, other, _ in said[:number]), (number, said)
        assert (await it.seen("2")).size == 20
        await agrees_at_rest(cluster, client)


async def test_a_write_that_is_going_on_when_a_snapshot_is_taken_is_in_it_whole(
    cluster: LiveCluster, client: Client, peer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watched(client, peer, "/snap-writing", monkeypatch) as it:
        async with it.file.cap_refs("Fw", endoff=3000) as refs:
            refs.wrote(1000)
            await it.snapshot("1")
            await it.snapshot("2")
            assert [op for op, *_ in it.said() if op == "FLUSHSNAP"] == []
            begun = asyncio.create_task(writing(it.file, 2000, 4000))  # belongs behind both: it waits
            await asyncio.sleep(0.1)
            assert not begun.done()
            refs.wrote(3000)
        await begun
        await it.snapshot("3")
        assert [(await it.seen(name)).size for name in "123"] == [3000, 3000, 4000]
        await agrees_at_rest(cluster, client)


async def writing(file: OpenFile, start: int, end: int) -> None:
    async with file.cap_refs("Fw", endoff=end) as refs:
        refs.wrote(end)


async def test_data_in_memory_are_written_under_the_context_of_their_time_before_the_flushsnap(
    cluster: LiveCluster, conf: Path, peer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Handler:
        def __init__(self) -> None:
            self.may_write = asyncio.Event()
            self.written: list[tuple[int, int]] = []

        async def writeback(self, ino: int, io: DataIo) -> None:
            await self.may_write.wait()
            self.written.append((io.snap_seq, io.size))

        async def invalidate(self, ino: int, gen: int) -> None: ...

        async def truncate(self, ino: int, size: int, truncate_seq: int) -> None: ...

    handler = Handler()
    async with connect(conf, data=handler) as client, watched(client, peer, "/snap-data", monkeypatch) as it:
        seqs = []
        for number in (1, 2):
            async with it.file.cap_refs("Fw", "Fb", endoff=number * 1000) as refs:
                assert "Fb" in refs.got
                refs.wrote(number * 1000, buffered=True)
                seqs.append(context_of(client, it.file.ino).seq)
            await it.snapshot(str(number))
        assert [op for op, *_ in it.said() if op == "FLUSHSNAP"] == []
        looking = asyncio.create_task(it.seen("1"))
        await asyncio.sleep(0.3)
        assert not looking.done()  # the MDS waits for the size
        handler.may_write.set()
        assert (await looking).size == 1000
        assert (await it.seen("2")).size == 2000
        assert handler.written == [(seqs[0], 1000), (seqs[1], 2000)]
        await agrees_at_rest(cluster, client)


MOST_KEPT = 50
"""Snapshots at a time; a directory may have a hundred (``mds_max_snaps_per_dir``)."""


class State(NamedTuple):
    """What a history changes of its file."""

    size: int
    mode: int
    mtime: int
    xattr: bytes


class History:
    """Random changes of one file, and snapshots of it by both clients.

    Attributes:
        states: by snapshot, those the file had while it was taken.
    """

    def __init__(self, it: Watcher, seed: int) -> None:
        self.it = it
        self.rng = random.Random(seed)
        self.now = State(0, 0o644, LATER, b"")
        self.states: dict[str, list[State]] = {}

    async def begin(self) -> None:
        await self.it.file.setattr(mtime=self.now.mtime)
        await self.it.client.setxattr(self.it.file._path, "user.a", self.now.xattr)

    async def change(self, *kinds: str) -> None:
        match self.rng.choice(kinds):
            case "grow":
                size = self.now.size + self.rng.randint(1, 1000)
                self.now = self.now._replace(size=size, mtime=self.now.mtime + 1)
                async with self.it.file.cap_refs("Fw", endoff=self.now.size) as refs:
                    refs.wrote(self.now.size, mtime=self.now.mtime)
            case "mode":
                self.now = self.now._replace(mode=self.rng.choice((0o600, 0o640, 0o644, 0o666)))
                await self.it.file.setattr(mode=self.now.mode)
            case "time":
                self.now = self.now._replace(mtime=self.now.mtime + 7)
                await self.it.file.setattr(mtime=self.now.mtime)
            case "xattr":
                self.now = self.now._replace(xattr=self.rng.randbytes(self.rng.randint(0, 100)))
                await self.it.client.setxattr(self.it.file._path, "user.a", self.now.xattr)
            case "cut":
                self.now = self.now._replace(size=self.now.size // 2, mtime=self.now.mtime + 7)
                await self.it.file.setattr(size=self.now.size)
                await self.it.file.setattr(mtime=self.now.mtime)

    async def step(self, name: str) -> None:
        top, client, peer = self.it.top, self.it.client, self.it.peer
        kinds = ("change", "change", "change", "look", "flush", "ours", "theirs", "both", "remove")
        match self.rng.choice(kinds) if len(self.states) < MOST_KEPT else "remove":
            case "change":
                await self.change("grow", "grow", "mode", "time", "xattr", "cut")
            case "look":
                assert await self.seen(self.it.file._path) == self.now
            case "flush":
                await client.sync()
            case "ours":
                await client.mksnap(top, name)
                self.states[name] = [self.now]
            case "theirs":
                await self.it.snapshot(name)
                self.states[name] = [self.now]
            case "both":  # while the snapshot is taken the file is changed
                taken = asyncio.create_task(self.it.snapshot(name))
                seen = [self.now]
                while not taken.done():
                    await self.change("grow", "mode", "time", "xattr")
                    seen.append(self.now)
                    await asyncio.sleep(self.rng.random() * 0.01)
                await taken
                self.states[name] = seen
            case "remove" if self.states:
                gone = self.rng.choice(list(self.states))
                await self.check(gone)
                del self.states[gone]
                await peer.rmdir(f"{top}/.snap/{gone}")

    async def check(self, name: str) -> None:
        assert await self.seen(f"{self.it.top}/.snap/{name}/{self.it.name}") in self.states[name], name

    async def seen(self, path: str) -> State:
        """What libcephfs sees there."""
        stat: PeerStat = await self.it.peer.statx(path)
        return State(stat.size, stat.mode & 0o777, stat.mtime, await self.it.peer.getxattr(path, "user.a"))


@pytest.mark.parametrize(
    ("seed", "steps"), [(1, 60), *(pytest.param(seed, 500, marks=pytest.mark.soak) for seed in range(2, 8))]
)
async def test_every_snapshot_of_a_history_shows_the_state_of_its_time(
    cluster: LiveCluster, client: Client, peer: Any, monkeypatch: pytest.MonkeyPatch, seed: int, steps: int
) -> None:
    async with watched(client, peer, f"/snap-history-{seed}", monkeypatch) as it:
        history = History(it, seed)
        await history.begin()
        for number in range(steps):
            await history.step(str(number))
        for name in history.states:
            await history.check(name)
        await agrees_at_rest(cluster, client)
