"""flock and record locks against libcephfs: who gets them, who waits, and that none outlives its holder."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cephcaps import connect
from cephcaps.errors import ConnectionFailed, RequestTimeout
from cephwire.filelock import LockType

from .cluster import LiveCluster
from .libcephfs import LibcephfsPeer
from .waiting import until

PATH = "/lockfile"
KINDS = {"shared": fcntl.F_RDLCK, "exclusive": fcntl.F_WRLCK, "unlock": fcntl.F_UNLCK}
FLOCKS = {"shared": fcntl.LOCK_SH, "exclusive": fcntl.LOCK_EX, "unlock": fcntl.LOCK_UN}
SOON = 0.2
"""Seconds after which somebody who still waits is taken to wait."""
ROUNDS = 150


@pytest.fixture
def peer(cluster: LiveCluster) -> Iterator[LibcephfsPeer]:
    with LibcephfsPeer(cluster) as mounted:
        mounted.write_file(PATH, b"")
        yield mounted
        mounted.unlink(PATH)


class Rival:
    """The peer's locks, in the words of ours."""

    def __init__(self, peer: LibcephfsPeer, owner: int = 1) -> None:
        self.peer = peer
        self.owner = owner

    async def lockf(self, command: str, length: int = 0, start: int = 0, *, blocking: bool = False) -> None:
        await self.peer.aio.lockf(PATH, KINDS[command], start=start, length=length, owner=self.owner, wait=blocking)

    async def may(self, command: str, length: int = 0, start: int = 0) -> bool:
        """Whether it could lock that."""
        return await self.peer.aio.getlk(PATH, KINDS[command], start=start, length=length, owner=self.owner) is None


@pytest.fixture
def rival(peer: LibcephfsPeer) -> Rival:
    return Rival(peer)


async def refused(lock: Awaitable[None]) -> bool:
    try:
        await lock
    except BlockingIOError:
        return True
    return False


async def still_waits(lock: Awaitable[None]) -> asyncio.Future[None]:
    waiting = asyncio.ensure_future(lock)
    await asyncio.sleep(SOON)
    assert not waiting.done()
    return waiting


# flock


async def test_flocks_are_shared_or_exclusive_between_any_handles(conf: Path, peer: LibcephfsPeer) -> None:
    fd = await peer.aio.open(PATH)
    async with connect(conf) as client, client.open(PATH) as one, client.open(PATH) as two:

        async def theirs(command: str) -> bool:
            """Whether the peer gets a flock at once."""
            try:
                await peer.aio.flock(fd, FLOCKS[command] | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            await peer.aio.flock(fd, fcntl.LOCK_UN)
            return True

        await one.flock("shared")
        await two.flock(fcntl.LOCK_SH)
        assert (await theirs("shared"), await theirs("exclusive")) == (True, False)
        assert await refused(one.flock("exclusive", blocking=False))
        await two.flock("unlock")
        await one.flock(fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert (await theirs("shared"), await theirs("exclusive")) == (False, False)
        assert await refused(two.flock(fcntl.LOCK_SH | fcntl.LOCK_NB))
        await one.flock(fcntl.LOCK_UN)
        assert await theirs("exclusive")

        await peer.aio.flock(fd, fcntl.LOCK_SH)
        await two.flock("shared", blocking=False)
        waiting = await still_waits(two.flock("exclusive"))
        await peer.aio.flock(fd, fcntl.LOCK_UN)
        await waiting
        blocked = await still_waits(peer.aio.flock(fd, fcntl.LOCK_SH))
        await two.flock("unlock")
        await blocked
    await peer.aio.close_fd(fd)


# Record locks


async def test_ranges_are_cut_split_and_joined_as_posix_has_it(conf: Path, rival: Rival) -> None:
    async with connect(conf) as client, client.open(PATH, "r+") as file:
        await file.lockf("exclusive", 100)
        await file.lockf("unlock", 20, 40)
        await file.lockf("shared", 10, 80)
        held = client.engine.cache.inodes[file.ino].locks
        assert held is not None
        assert [(lock.start, lock.length, lock.type) for lock in held.fcntl] == [
            (0, 40, LockType.EXCL),
            (60, 20, LockType.EXCL),
            (80, 10, LockType.SHARED),
            (90, 10, LockType.EXCL),
        ]
        edges = [0, 39, 40, 59, 60, 79, 80, 89, 90, 99, 100]
        assert [await rival.may("exclusive", 1, at) for at in edges] == [at in (40, 59, 100) for at in edges]
        assert [at for at in edges if await rival.may("shared", 1, at)] == [40, 59, 80, 89, 100]
        assert await rival.may("exclusive", 0, 100)
        found = await rival.peer.aio.getlk(PATH, start=70, length=1)
        assert found is not None
        assert found[:3] == (fcntl.F_WRLCK, 60, 20)

        await rival.lockf("shared", 5, 82)
        await rival.lockf("exclusive", 0, 100)
        assert await refused(file.lockf("exclusive", 1, 85, blocking=False))
        assert await refused(file.lockf("shared", blocking=False))
        seen = await file.getlk("shared", start=50)
        assert seen is not None
        assert (seen.exclusive, seen.start, seen.length) == (True, 100, 0)
        assert seen.client == rival.peer.instance_id
        seen = await file.getlk("exclusive", 10, 80)
        assert seen is not None
        assert (seen.exclusive, seen.start, seen.length) == (False, 82, 5)
        assert await file.getlk("shared", 10, 80) is None
        await rival.lockf("unlock")
        await file.lockf("exclusive", blocking=False)
        await file.lockf("unlock")
        assert client.engine.cache.inodes[file.ino].locks is None
        assert await rival.may("exclusive")


async def test_a_range_may_be_given_from_the_end(conf: Path, rival: Rival) -> None:
    async with connect(conf) as client, client.open(PATH, "r+") as file:
        await rival.peer.aio.truncate(PATH, 1000)
        await file.lockf("exclusive", -10, 0, 2)
        assert [await rival.may("exclusive", 1, at) for at in (989, 990, 999, 1000)] == [True, False, False, True]
        with pytest.raises(ValueError, match="no file has bytes"):
            await file.lockf("exclusive", -10)


async def test_owners_are_told_apart_and_each_handle_ends_those_who_used_it(conf: Path, rival: Rival) -> None:
    async with connect(conf) as client, client.open(PATH, "r+") as other:
        async with client.open(PATH, "r+") as file, client.open(PATH, "r+") as third:
            await file.lockf("exclusive", 10, owner=7)
            assert await refused(other.lockf("exclusive", 10, owner=8, blocking=False))
            await other.lockf("exclusive", 10, owner=7)
            await third.lockf("exclusive", 10, 10, owner=8)
            await third.lockf("exclusive", 10, 20)
            await other.lockf("exclusive", 10, 30, owner=9)
            assert [await rival.may("exclusive", 1, at) for at in (0, 10, 20, 30)] == [False] * 4
        # Both handles are closed: "other" still has those of owner 9.
        assert [await rival.may("exclusive", 1, at) for at in (0, 10, 20, 30)] == [True, True, True, False]


async def test_a_record_lock_takes_a_file_open_for_it(conf: Path, rival: Rival) -> None:
    async with connect(conf) as client:
        async with client.open(PATH) as file:
            await file.lockf("shared")
            with pytest.raises(OSError) as refusal:
                await file.lockf("exclusive")
            assert refusal.value.errno == errno.EBADF
        async with client.open(PATH, "a") as file:
            await file.lockf("exclusive")
            with pytest.raises(OSError) as refusal:
                await file.lockf("shared")
            assert refusal.value.errno == errno.EBADF


async def test_both_wait_for_each_other_until_one_would_for_ever(conf: Path, rival: Rival) -> None:
    async with connect(conf) as client, client.open(PATH, "r+") as file:
        await file.lockf("exclusive", 10)
        theirs = await still_waits(rival.lockf("exclusive", 10, blocking=True))
        await file.lockf("unlock", 10)
        await theirs
        ours = await still_waits(file.lockf("exclusive", 10))

        await file.lockf("exclusive", 10, 50)
        with pytest.raises(OSError) as deadlock:
            await rival.lockf("exclusive", 10, 50, blocking=True)
        assert deadlock.value.errno == errno.EDEADLK
        await rival.lockf("unlock", 10)
        await ours

        await rival.lockf("exclusive", 10, 90)
        theirs = await still_waits(rival.lockf("exclusive", 10, 50, blocking=True))
        with pytest.raises(OSError) as deadlock:
            await file.lockf("exclusive", 1, 95)
        assert deadlock.value.errno == errno.EDEADLK
        await file.lockf("unlock")
        await theirs
        await rival.lockf("unlock")


# Giving up


@pytest.mark.parametrize("how", ["timeout", "cancel"])
async def test_a_wait_that_is_given_up_leaves_what_was_held(conf: Path, rival: Rival, how: str) -> None:
    async with connect(conf) as client, client.open(PATH, "r+") as file:
        await file.lockf("shared", 10)
        await rival.lockf("exclusive", 10, 20)
        if how == "timeout":
            with pytest.raises(RequestTimeout, match="the lock, which somebody else holds"):
                await file.lockf("exclusive", 100, timeout=SOON)
        else:
            waiting = await still_waits(file.lockf("exclusive", 100))
            waiting.cancel()
        await until(lambda: not client._running.core.mds.requests.by_tid, "the interrupt is answered")

        await rival.lockf("unlock", 10, 20)
        assert not await rival.may("exclusive", 1, 5)
        assert await rival.may("shared", 10)
        assert await rival.may("exclusive", 0, 10)


@pytest.mark.parametrize("how", ["timeout", "cancel"])
async def test_a_flock_given_up_leaves_the_shared_one(conf: Path, peer: LibcephfsPeer, how: str) -> None:
    fd = await peer.aio.open(PATH)
    async with connect(conf) as client, client.open(PATH) as file:
        await file.flock("shared")
        await peer.aio.flock(fd, fcntl.LOCK_SH)
        if how == "timeout":
            with pytest.raises(RequestTimeout):
                await file.flock("exclusive", timeout=SOON)
        else:
            (await still_waits(file.flock("exclusive"))).cancel()
        await until(lambda: not client._running.core.mds.requests.by_tid, "the interrupt is answered")
        with pytest.raises(BlockingIOError):
            await peer.aio.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        await file.flock("unlock")
        await peer.aio.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    await peer.aio.close_fd(fd)


async def test_an_unlock_of_what_its_owner_waits_to_have_exclusively_unlocks(conf: Path, peer: LibcephfsPeer) -> None:
    """An MDS takes it to end the wait, and nothing else."""
    fd = await peer.aio.open(PATH)
    async with connect(conf) as client, client.open(PATH) as file:
        await file.flock("shared")
        await peer.aio.flock(fd, fcntl.LOCK_SH)
        waiting = await still_waits(file.flock("exclusive"))
        await file.flock("unlock")
        await peer.aio.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert not waiting.done()
        await peer.aio.flock(fd, fcntl.LOCK_UN)
        await waiting
    await peer.aio.close_fd(fd)


async def test_whoever_gives_up_at_whatever_moment_holds_nothing(conf: Path, rival: Rival) -> None:
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    had = 0
    started = time.monotonic()
    async with connect(conf) as client, client.open(PATH, "r+") as file, client.open(PATH, "r+") as second:
        await file.lockf("shared", 10)
        for number in range(ROUNDS):
            await rival.lockf("exclusive", 10, 50)
            locks: list[Callable[[], Awaitable[None]]] = [
                lambda: file.lockf("exclusive", 60),
                lambda: file.lockf("exclusive", 10, 50),
                lambda: second.lockf("exclusive", 10, 50, owner=5),
                lambda: second.lockf("exclusive", 10, 50),
            ]
            waiting = [asyncio.ensure_future(lock()) for lock in chance.sample(locks, chance.choice([1, 1, 2, 4]))]
            await asyncio.sleep(chance.random() * 0.004)
            freed = asyncio.ensure_future(rival.lockf("unlock", 10, 50))
            await asyncio.sleep(chance.random() * 0.004)
            for one in waiting:
                one.cancel()
            done = await asyncio.gather(*waiting, return_exceptions=True)
            assert {type(one) for one in done} <= {asyncio.CancelledError, type(None)}, (seed, number, done)
            had += done.count(None)
            await freed
            if None in done:  # had, and heard of: ours to give back
                await file.lockf("unlock", 0, 10)
                await file.lockf("shared", 10)
                await second.lockf("unlock", owner=5)
            said = f"seed {seed}, round {number}: {done}"
            await until(lambda: not client._running.core.mds.requests.by_tid, said)
            assert await rival.may("exclusive", 0, 10), said
            assert not await rival.may("exclusive", 10), said
            assert await rival.may("shared", 10), said
    print(f"{ROUNDS} rounds in {time.monotonic() - started:.1f} s, {had} locks had")


# Going


async def test_a_closed_handle_waits_for_nothing_and_holds_nothing(conf: Path, rival: Rival) -> None:
    async with connect(conf) as client, client.open(PATH, "r+") as other:
        async with client.open(PATH, "r+") as file:
            await file.lockf("exclusive", 10)
            await file.flock("exclusive")
            await rival.lockf("exclusive", 10, 50)
            waiting = await still_waits(file.lockf("exclusive", 100))
        with pytest.raises(OSError) as closed:
            await waiting
        assert closed.value.errno == errno.EBADF
        assert await rival.may("exclusive", 50)
        await other.flock("exclusive", blocking=False)
        await rival.lockf("unlock")
        assert await rival.may("exclusive")


async def test_a_waiting_lock_does_not_hold_up_fsync_or_close(conf: Path, rival: Rival) -> None:
    await rival.lockf("exclusive")
    started = time.monotonic()
    async with connect(conf) as client:
        file = await client.open(PATH, "r+").__aenter__()
        waiting = asyncio.ensure_future(file.lockf("exclusive"))
        await asyncio.sleep(0.05)
        await file.setattr(mode=0o600)
        await file.fsync()
        await client.sync()
        assert not waiting.done()
    with pytest.raises(ConnectionFailed, match="closed before the answer"):
        await waiting
    assert time.monotonic() - started < 3
    await rival.lockf("unlock")
    assert await rival.may("exclusive")


@pytest.mark.parametrize("how", ["unmounted", "evicted"])
async def test_a_lock_ends_with_its_holder(cluster: LiveCluster, conf: Path, peer: LibcephfsPeer, how: str) -> None:
    async with connect(conf) as client, client.open(PATH, "r+") as file:
        with LibcephfsPeer(cluster) as holder:
            rival = Rival(holder)
            await rival.lockf("exclusive", 10)
            waiting = await still_waits(file.lockf("exclusive"))
            if how == "evicted":
                holder.kill()
                who: Any = {"prefix": "session evict", "filters": [f"id={holder.instance_id}"]}
                await cluster.aio.mds_admin(who)
            else:
                await holder.aio.close()
            await asyncio.wait_for(waiting, 10)
    second = Rival(peer)
    assert await second.may("exclusive")
    async with connect(conf) as client:
        file = client.open(PATH, "r+")
        await file.__aenter__()
        await file.lockf("exclusive")
        assert not await second.may("shared")
    assert await second.may("exclusive")


async def test_a_lost_lock_is_not_believed_to_be_held(cluster: LiveCluster, conf: Path, rival: Rival) -> None:
    async with connect(conf) as client:
        file = await client.open(PATH, "r+").__aenter__()
        await file.lockf("exclusive")
        await cluster.aio.mds_admin({"prefix": "session evict", "filters": [f"id={client.global_id}"]})
        await until(lambda: client.sessions[0].state != "open", "the session has ended")
        assert await rival.may("exclusive")
        inode = client.engine.cache.inodes.get(file.ino)
        assert inode is None or inode.locks is None
        with pytest.raises(OSError) as lost:
            await file.lockf("shared")
        assert lost.value.errno == errno.EIO
