"""File data: an embedder that stores bytes in the OSDs agrees with libcephfs on every byte."""

from __future__ import annotations

import asyncio
import errno
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cephcaps import Client, MdsError, connect
from cephcaps.file import OpenFile

from .agreement import agrees_at_rest, mounted
from .cluster import LiveCluster
from .libcephfs import LibcephfsPeer
from .rados_store import RadosStore
from .waiting import until

STEPS = ("we write", "we write", "peer writes", "we read", "peer reads", "peer reads", "peer cuts", "we cut", "fsync")
KIB = 1024
MIB = 1024 * KIB


@asynccontextmanager
async def stored(cluster: LiveCluster) -> AsyncIterator[tuple[Client, RadosStore]]:
    async with RadosStore(cluster) as store, connect(cluster.conf, data=store) as client:
        yield client, store


class Twins:
    """A file open in both clients, and what it must hold."""

    def __init__(self, client: Client, store: RadosStore, peer: LibcephfsPeer, file: OpenFile, path: str, fd: int):
        self.client, self.store, self.peer, self.file, self.path, self.fd = client, store, peer, file, path, fd
        self.truth = bytearray()

    async def step(self, rng: random.Random, largest: int) -> str:
        """One operation of one of them, checked where it reads."""
        offset, size = rng.randrange(largest), rng.randrange(1, 8 * KIB)
        data = rng.randbytes(size)
        what = rng.choice(
            (
                "we write",
                "we write",
                "peer writes",
                "we read",
                "peer reads",
                "peer reads",
                "peer cuts",
                "we cut",
                "fsync",
            )
        )
        match what:
            case "we write":
                await self.store.write(self.file, offset, data, buffer=rng.random() < 0.7)
                self._put(offset, data)
            case "peer writes":
                await self.peer.aio.write(self.fd, offset, data)
                self._put(offset, data)
            case "we read":
                found = await self.store.read(self.client, self.file, self.path, offset, size)
                assert found == self.truth[offset : offset + size], f"we read other bytes at {offset}"
            case "peer reads":
                found = await self.peer.aio.read(self.fd, offset, size)
                assert found == self.truth[offset : offset + size], f"the peer reads other bytes at {offset}"
            case "peer cuts":
                await self.peer.aio.ftruncate(self.fd, offset)
                self._cut(offset)
            case "we cut":
                await self.file.setattr(size=offset)
                self._cut(offset)
            case "fsync":
                await self.file.fsync()
        return what

    def _put(self, offset: int, data: bytes) -> None:
        self.truth.extend(bytes(max(0, offset + len(data) - len(self.truth))))
        self.truth[offset : offset + len(data)] = data

    def _cut(self, size: int) -> None:
        del self.truth[size:]
        self.truth.extend(bytes(size - len(self.truth)))


async def coherent(cluster: LiveCluster, path: str, rounds: int, seed: int) -> None:
    rng = random.Random(seed)
    async with mounted(cluster) as peer, stored(cluster) as (client, store):
        async with client.open(path, "x"):
            pass
        async with client.open(path, "r+") as file:
            fd = await peer.aio.open(path, os.O_RDWR)
            twins = Twins(client, store, peer, file, path, fd)
            for number in range(rounds):
                try:
                    await twins.step(rng, 256 * KIB if number % 2 else 6 * MIB)
                except AssertionError as error:
                    raise AssertionError(f"seed {seed}, round {number}: {error}") from None
            await peer.aio.close_fd(fd)
            await file.fsync()
        assert await peer.aio.read_file(path) == twins.truth
        assert store.called["osd write"], "nothing was stored"
        await agrees_at_rest(cluster, client)


async def test_no_byte_is_stale(cluster: LiveCluster) -> None:
    await coherent(cluster, "/data-coherent", 120, 1)


@pytest.mark.soak
@pytest.mark.parametrize("seed", [2, 3])
async def test_no_byte_is_stale_in_a_thousand_rounds(cluster: LiveCluster, seed: int) -> None:
    await coherent(cluster, f"/data-coherent-{seed}", 1000, seed)


async def test_a_peer_sees_each_size_at_once(cluster: LiveCluster) -> None:
    path = "/data-sizes"
    async with mounted(cluster) as peer, connect(cluster.conf) as client, client.open(path, "w") as file:
        for number in range(1, 40):
            async with file.cap_refs("Fw", endoff=number * 1000) as refs:
                refs.wrote(number * 1000)
            assert (await peer.aio.statx(path)).size == number * 1000
            if number % 5 == 0:
                await peer.aio.truncate(path, 10)
                assert (await client.stat(path, want="Fs")).size == 10
        await agrees_at_rest(cluster, client)


async def test_max_size_grows_as_a_file_does(cluster: LiveCluster) -> None:
    path = "/data-grows"
    async with connect(cluster.conf) as client, client.open(path, "w") as file:
        for end in range(MIB, 64 * MIB + 1, MIB):
            async with file.cap_refs("Fw", endoff=end, timeout=5.0) as refs:
                refs.wrote(end)
        async with file.cap_refs("Fw", endoff=10 * 1024 * MIB, timeout=5.0) as refs:
            with pytest.raises(ValueError, match="asked for"):
                refs.wrote(11 * 1024 * MIB)
            refs.wrote(10 * 1024 * MIB)
        await file.fsync()
        assert cluster.dump_inode(file.ino)["size"] == 10 * 1024 * MIB
        assert client.metrics.late == ()


async def test_a_peer_cuts_the_file_while_we_may_write(cluster: LiveCluster) -> None:
    path = "/data-cut"
    async with mounted(cluster) as peer, stored(cluster) as (client, store):
        async with client.open(path, "w") as file:
            await store.write(file, 0, b"x" * 10_000)
            await peer.aio.truncate(path, 100)
            await store.write(file, 50, b"y" * 10)
            assert (await client.stat(path, want="Fs")).size == 100
            await file.fsync()
        assert await peer.aio.read_file(path) == b"x" * 50 + b"y" * 10 + b"x" * 40
        await agrees_at_rest(cluster, client)


async def test_a_revoke_waits_for_the_writeback_however_long(cluster: LiveCluster) -> None:
    path = "/data-slow"
    async with mounted(cluster) as peer, stored(cluster) as (client, store):
        async with client.open(path, "w") as file:
            await store.write(file, 0, b"late but true")
            store.delay = 6.5
            reading = asyncio.create_task(peer.aio.read_file(path))
            await until(lambda: client.metrics.late, "a late revoke", within=8.0)
            assert any("data handler is at its writeback" in late.why for late in client.metrics.late)
            assert not reading.done()
            assert await reading == b"late but true"
        await agrees_at_rest(cluster, client)


async def test_a_failing_writeback_is_told_once_by_every_handle(cluster: LiveCluster) -> None:
    path = "/data-fails"
    async with stored(cluster) as (client, store), client.open(path, "w") as first:
        async with client.open(path, "r+") as second:
            await store.write(first, 0, b"lost")
            store.failure = OSError(errno.ENOSPC, "no room")
            with pytest.raises(MdsError, match="no room") as raised:
                await first.fsync()
            assert raised.value.errno == errno.ENOSPC
            await first.fsync()
            with pytest.raises(MdsError, match="no room"):
                await second.fsync()
        await store.write(first, 0, b"kept")
        await first.fsync()


async def test_bits_nobody_uses_are_given_without_a_handler(cluster: LiveCluster) -> None:
    path = "/data-bare"
    async with mounted(cluster) as peer, connect(cluster.conf) as client, client.open(path, "w") as file:
        async with file.cap_refs("Fw", "Fb", endoff=100) as refs:
            with pytest.raises(ValueError, match="data handler"):
                refs.wrote(100, buffered=True)
            refs.wrote(100)
        assert (await peer.aio.statx(path)).size == 100
        with pytest.raises(MdsError) as raised:
            async with file.cap_refs("Fr"):
                pass
        assert raised.value.errno == errno.EBADF
        await agrees_at_rest(cluster, client)


async def test_a_cancelled_wait_for_caps_leaves_nothing(cluster: LiveCluster) -> None:
    path = "/data-cancel"
    async with mounted(cluster) as peer, connect(cluster.conf) as client, client.open(path, "w") as file:
        peer.freeze()
        try:
            async with file.cap_refs("Fw", endoff=10) as refs:
                refs.wrote(10)
        finally:
            peer.thaw()
        fd = await peer.aio.open(path, os.O_RDWR)
        await peer.aio.write(fd, 0, b"held by the peer")
        await until(lambda: "Fb" not in file.caps, "the peer to share the file")
        for turns in range(12):
            task = asyncio.create_task(enter(file, 10 + turns))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        inode = client.cached(file.ino)
        assert inode is not None
        assert inode.use is not None
        assert (inode.use.wr, len(inode.use.waiting)) == (0, 0)
        await peer.aio.close_fd(fd)
        await agrees_at_rest(cluster, client)


async def enter(file: OpenFile, endoff: int) -> None:
    async with file.cap_refs("Fw", "Fb", endoff=endoff):
        await asyncio.sleep(1)


def test_what_an_embedder_needs_is_public(conf: Path) -> None:
    import cephcaps

    assert {"CapRefs", "DataHandler", "DataIo"} <= set(cephcaps.__all__)
