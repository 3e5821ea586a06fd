"""Open files: caps, references, data handlers, locks."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
from dataclasses import dataclass, field

import pytest

from cephcaps import Client, DataIo, MdsError, RequestTimeout, connect
from cephcaps.testing import TestCluster
from tests.live.waiting import until

ALONE = "pAsxLsXsxFsxcrwb"


async def test_each_way_to_open(client: Client, other: Client) -> None:
    with pytest.raises(FileNotFoundError):
        async with client.open("/f"):
            pass
    async with client.open("/f", "x", mode=0o640) as file:
        await file.setattr(size=100)
        assert file.size == 100
    with pytest.raises(FileExistsError):
        async with client.open("/f", "x"):
            pass
    async with other.open("/f", "a") as file:
        assert (await other.stat("/f", "Fs")).size == 100
    async with other.open("/f", "w"):
        pass
    assert (await client.stat("/f")).size == 0
    async with client.open("/f", "r") as file:
        with pytest.raises(OSError) as refused:
            await file.setattr(size=1)
        assert refused.value.errno == errno.EBADF
    await client.mkdir("/d")
    with pytest.raises(IsADirectoryError):
        async with client.open("/d", "w"):
            pass
    with pytest.raises(ValueError, match="no way to open"):
        client.open("/f", "q")


async def test_readers_cache_together(cluster: TestCluster, client: Client, other: Client) -> None:
    async with connect(cluster.conf) as author, author.open("/f", "x"):
        pass
    async with client.open("/f", "r") as one, other.open("/f", "r") as two:
        for file in (one, two):
            await until(lambda file=file: str(file.caps) == "pAsLsXsFscr", "it may cache", within=5)  # type: ignore[misc]


async def test_caps_are_a_lone_clients_and_are_shared_on_conflict(client: Client, other: Client) -> None:
    async with client.open("/f", "x") as file:
        assert str(file.caps) == ALONE
        async with other.open("/f", "r") as reader:
            assert str(file.caps) == "pAsLsXsFrw"
            await until(lambda: "Fr" in reader.caps, "the second may read", within=5)
            assert "Fc" not in reader.caps


async def test_an_unlinked_file_lives_while_it_is_open(client: Client, other: Client) -> None:
    async with client.open("/f", "x") as file:
        await other.unlink("/f")
        await file.setattr(mode=0o600)
        await file.fsync()
        assert not await client.exists("/f")


async def test_references_hold_caps_until_the_block_is_left(client: Client, other: Client) -> None:
    async with client.open("/f", "x") as file:
        async with file.cap_refs("Fw", "Fb", endoff=4096) as refs:
            assert "Fw" in refs.got
            opening = asyncio.create_task(_open_and_close(other, "/f"))
            await asyncio.sleep(0.1)
            assert "Fw" in file.caps
            refs.wrote(4096, 2 * 10**18)
        await opening
        seen = await other.stat("/f")
        assert (seen.size, seen.mtime) == (4096, 2 * 10**18)
        with pytest.raises(ValueError, match="but the block asked for"):
            async with file.cap_refs("Fw", endoff=1) as refs:
                refs.wrote(1 << 20)


async def _open_and_close(client: Client, path: str) -> None:
    async with client.open(path, "r"):
        pass


@dataclass
class Memory:
    """A data handler that notes what it is asked."""

    fails: bool = False
    asked: list[str] = field(default_factory=list)

    async def writeback(self, ino: int, io: DataIo) -> None:
        self.asked.append(f"writeback {io.size}")
        if self.fails:
            raise OSError(errno.EIO, "disk on fire")

    async def invalidate(self, ino: int, gen: int) -> None:
        self.asked.append("invalidate")

    async def truncate(self, ino: int, size: int, truncate_seq: int) -> None:
        self.asked.append(f"truncate {size}")


async def test_buffered_data_are_written_back_before_another_reads(cluster: TestCluster, other: Client) -> None:
    memory = Memory()
    async with connect(cluster.conf, data=memory) as client, client.open("/f", "x") as file:
        async with file.cap_refs("Fw", "Fb", endoff=100) as refs:
            refs.wrote(100, buffered=True)
        async with other.open("/f", "r") as reader:
            assert (await other.stat("/f", "Fs")).size == 100
            assert memory.asked[0] == "writeback 100"
            async with reader.cap_refs("Fr"):
                pass
        await other.truncate("/f", 10)
        assert (await client.stat("/f", "Fs")).size == 10


async def test_cached_data_are_forgotten_before_another_writes(cluster: TestCluster, other: Client) -> None:
    memory = Memory()
    async with connect(cluster.conf) as author, author.open("/f", "x"):
        pass
    async with connect(cluster.conf, data=memory) as client, client.open("/f", "r") as file:
        await until(lambda: "Fc" in file.caps, "it may cache", within=5)
        async with file.cap_refs("Fr", "Fc") as refs:
            assert "Fc" in refs.got
        assert memory.asked == []
        async with other.open("/f", "r+") as theirs, theirs.cap_refs("Fw", endoff=1):
            assert memory.asked == ["invalidate"]


async def test_a_failing_writeback_is_told_at_fsync(cluster: TestCluster) -> None:
    memory = Memory(fails=True)
    async with connect(cluster.conf, data=memory) as client, client.open("/f", "x") as file:
        async with file.cap_refs("Fw", "Fb", endoff=100) as refs:
            refs.wrote(100, buffered=True)
        with pytest.raises(OSError, match="disk on fire"):
            await file.fsync()
        await file.fsync()


async def test_flocks_keep_handles_apart(client: Client, other: Client) -> None:
    async with client.open("/f", "x") as mine, other.open("/f", "r+") as theirs:
        await mine.flock("shared")
        await theirs.flock(fcntl.LOCK_SH | fcntl.LOCK_NB)
        with pytest.raises(BlockingIOError):
            await theirs.flock("exclusive", blocking=False)
        waiting = asyncio.create_task(theirs.flock("exclusive"))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await mine.flock("unlock")
        await asyncio.wait_for(waiting, 5)
        with pytest.raises(RequestTimeout):
            await mine.flock("exclusive", timeout=0.1)
    async with client.open("/f", "r+") as mine:  # closing unlocked it
        await mine.flock("exclusive", blocking=False)


async def test_ranges_are_locked_apart_and_tested(client: Client, other: Client) -> None:
    async with client.open("/f", "x") as mine, other.open("/f", "r+") as theirs:
        await mine.setattr(size=100)
        await mine.lockf("exclusive", 10)
        await theirs.lockf("exclusive", 10, 10)
        holder = await theirs.getlk("exclusive", 10)
        assert holder is not None
        assert (holder.client, holder.start, holder.length) == (client.global_id, 0, 10)
        holder = await mine.getlk("shared", -90, 0, os.SEEK_END)
        assert holder is not None
        assert holder.client == other.global_id
        with pytest.raises(BlockingIOError):
            await theirs.lockf("shared", 0, 5, blocking=False)
        waiting = asyncio.create_task(theirs.lockf("exclusive", 5, 5))
        await asyncio.sleep(0.05)
        with pytest.raises(OSError) as deadlock:
            await mine.lockf("exclusive", 10, 10)
        assert deadlock.value.errno == errno.EDEADLK
        await mine.lockf("unlock")
        await asyncio.wait_for(waiting, 5)


async def test_a_cancelled_wait_for_a_lock_holds_nothing(client: Client, other: Client) -> None:
    async with client.open("/f", "x") as mine, other.open("/f", "r+") as theirs:
        await mine.flock("exclusive")
        waiting = asyncio.create_task(theirs.flock("exclusive"))
        await asyncio.sleep(0.05)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await mine.flock("unlock")
        await mine.flock("exclusive", blocking=False)


async def test_what_a_handle_may_not_do_is_refused_here(client: Client) -> None:
    async with client.open("/f", "x"):
        pass
    async with client.open("/f", "r") as file:
        with pytest.raises(MdsError) as refused:
            await file.lockf("exclusive")
        assert refused.value.errno == errno.EBADF
        with pytest.raises(ValueError, match="no lock"):
            await file.flock("tight")  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="not open"):
        assert file.ino
