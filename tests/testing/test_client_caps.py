"""What the client shows and does of caps: events, `inode_caps`, `release`, `flush`, `metrics` and the like."""

from __future__ import annotations

import asyncio

import pytest

from cephcaps import Client, connect
from cephcaps.events import (
    CapFlushed,
    CapFlushing,
    CapGranted,
    CapReleased,
    CapRevokeAcked,
    CapRevoking,
    EventsDropped,
)
from cephcaps.testing import TestCluster
from tests.live.waiting import until

ALONE = "pAsxLsXsxFsxcrwb"


async def test_a_second_client_sees_what_the_first_had_not_yet_flushed(client: Client, other: Client) -> None:
    async with client.open("/f", "x") as file:
        assert str(file.caps) == ALONE
        with client.events(ino=file.ino) as events:
            await file.setattr(mtime=10**18)
            seen = await other.stat("/f")
            await client.sync()
        assert seen.mtime == 10**18
        kinds = [type(event) for event in events.drain()]
        assert kinds.index(CapRevoking) < kinds.index(CapFlushing) < kinds.index(CapFlushed)
        assert kinds.count(CapRevoking) == kinds.count(CapRevokeAcked)
        # Once the second has given back what its answer brought:
        await until(lambda: str(file.caps) == ALONE, "all is the first's again", within=5)


async def test_caps_at_the_mds_are_the_caps_here(cluster: TestCluster, client: Client, other: Client) -> None:
    async with client.open("/f", "x") as mine, other.open("/f", "r") as theirs:
        await other.stat("/f")
        await until(lambda: not cluster.mds[0].caps.revoking, "all is at rest")
        for each, file in ((client, mine), (other, theirs)):
            session = cluster.mds[0].sessions.find(each.global_id)
            assert session is not None
            assert session.caps[file.ino].issued == int(file.caps)
            found = each.inode_caps(file.ino)
            assert found is not None
            assert found.issued == file.caps
            assert found.per_mds[0].cap_id == session.caps[file.ino].cap_id
            assert found.auth_rank == 0


async def test_flush_fsync_and_sync_wait_for_the_acknowledgement(client: Client) -> None:
    await client.mkdir("/d")
    async with client.open("/d/f", "x") as file:
        for wait in (lambda: client.flush("/d/f"), lambda: client.flush(file.ino), file.fsync, client.sync):
            with client.events(types=(CapFlushing, CapFlushed)) as events:
                await file.setattr(mode=0o600)
                assert client.metrics.dirty == 1
                await wait()
                assert client.metrics.dirty == client.metrics.flushing == 0
            assert [type(event) for event in events.drain()] == [CapFlushing, CapFlushed]
    await client.utime("/d", (1, 2))
    await client.fsync("/d")


async def test_released_caps_go_with_the_next_batch(cluster: TestCluster, client: Client) -> None:
    async with client.open("/f", "x") as file:
        assert not client.release("/f")  # open
    (session,) = cluster.mds[0].sessions
    assert file is not None
    await client.sync()
    ino = (await client.stat("/f")).ino
    with client.events(types=(CapReleased,), ino=ino) as events:
        assert client.release("/f")
        assert not client.release("/f")
        assert client.inode_caps("/f") is None
        await until(lambda: ino not in session.caps, "the MDS has them back", within=10)
    assert len(events.drain()) == 1


async def test_dropped_caches_give_back_all_that_is_not_used(cluster: TestCluster, client: Client) -> None:
    await client.makedirs("/a/b/c")
    async with client.open("/a/f", "x") as file:
        client.drop_caches()
        (session,) = cluster.mds[0].sessions
        await until(lambda: len(session.caps) <= 4, "all but the open file, and what is above, is given back")
        assert file.ino in session.caps
        assert file.caps
    assert sorted(await client.listdir("/a")) == ["b", "f"]


async def test_a_slow_reader_of_events_is_told_how_many_it_missed(client: Client) -> None:
    with client.events(limit=3) as events:
        for number in range(5):
            await client.mkdir(f"/{number}")
        seen = events.drain()
    assert len([event for event in seen if isinstance(event, CapGranted)]) <= 3
    assert any(isinstance(event, EventsDropped) for event in seen)


async def test_events_are_waited_for(client: Client, other: Client) -> None:
    async with client.open("/f", "x") as file:
        with client.events(types=(CapRevoking,), ino=file.ino) as events:
            looking = asyncio.create_task(other.stat("/f"))
            event = await asyncio.wait_for(anext(aiter(events)), 5)
            assert isinstance(event, CapRevoking)
            await looking


async def test_two_clients_take_turns_without_either_being_late(client: Client, other: Client) -> None:
    async with client.open("/f", "x") as mine, other.open("/f", "r+") as theirs:
        for number in range(100):
            await (mine, theirs)[number % 2].setattr(mode=0o600 + number % 8)
            assert (await (other, client)[number % 2].stat("/f")).mode & 0o7 == number % 8
    assert client.metrics.late == other.metrics.late == ()
    assert client.metrics.bytes_skipped == client.metrics.unmatched_replies == 0


async def test_many_clients_work_in_one_directory(cluster: TestCluster, client: Client) -> None:
    async def work(number: int) -> None:
        async with connect(cluster.conf) as mine:
            await mine.mkdir(f"/d{number}")
            async with mine.open("/shared", "a"):
                await mine.chmod("/shared", 0o600 + number)
                assert f"d{number}" in await mine.listdir("/")

    await asyncio.gather(*map(work, range(8)))
    assert len(await client.listdir("/")) == 9
    assert len(cluster.mds[0].sessions) == 1


@pytest.mark.parametrize("who", ["/f", 0x10000000000])
async def test_why_says_what_stands_in_the_way(client: Client, other: Client, who: str | int) -> None:
    async with client.open("/f", "x") as file:
        assert client.why(who) == [] or all(isinstance(line, str) for line in client.why(who))
        async with file.cap_refs("Fw", endoff=1):
            opening = asyncio.create_task(other.stat("/f", "Fs"))
            await until(lambda: any("Fw" in line or "Fx" in line for line in client.why(who)), "it says", within=5)
        await opening
