"""Caps go back: in full messages, promptly where the MDS asks, and never one that is open or not safe."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cephcaps import Client, connect
from cephcaps.engine.check import HOLD_MAX
from cephcaps.engine.engine import Engine
from cephcaps.engine.release import CAPS_PER_RELEASE
from cephcaps.events import CapReleased
from cephcaps.trace import Traced, read_trace
from cephwire.caprelease import CapItem, ClientCapRelease
from cephwire.caps import CapOp, ClientCaps
from cephwire.inode import InodeStat
from cephwire.reply import ClientReply, ReaddirReply
from cephwire.session import SessionOp

from .capturing import Dumpcap, missing_program, some_loopback_address
from .cluster import LiveCluster
from .holding import Sent, agree, ours
from .libcephfs import LibcephfsPeer
from .waiting import until

MIN_CAPS = 100
"""No recall goes below (``mds_min_caps_per_client``)."""
AT_ONCE = 20
"""Files made at the same time."""


@pytest.fixture
async def client(conf: Path) -> AsyncIterator[Client]:
    async with connect(conf) as connected:
        yield connected
        assert connected.metrics.late == ()


@pytest.fixture
def granted(monkeypatch: pytest.MonkeyPatch) -> dict[int, InodeStat]:
    """What the last reply told of each inode, its cap's seq included."""
    told: dict[int, InodeStat] = {}
    reply_came = Engine.reply

    def note(engine: Engine, rank: int, reply: ClientReply, since: float, now: float, **more: Any) -> Any:
        entries = reply.extra.entries if isinstance(reply.extra, ReaddirReply) else ()
        for inode in (reply.trace.target, reply.trace.dir, *(entry.inode for entry in entries)):
            if inode is not None and inode.cap.cap_id:
                told[inode.ino] = inode
        return reply_came(engine, rank, reply, since, now, **more)

    monkeypatch.setattr(Engine, "reply", note)
    return told


async def make_files(client: Client, top: str, count: int) -> None:
    """Create and close them, and wait until they are durable: their caps are granted again when they are."""
    await client.mkdir(top)

    async def some(numbers: Iterator[int]) -> None:
        for number in numbers:
            async with client.open(f"{top}/{number}", "x"):
                pass

    numbers = iter(range(count))
    await asyncio.gather(*(some(numbers) for _ in range(AT_ONCE)))
    await client.sync()


async def num_caps(cluster: LiveCluster, client: Client) -> int:
    session = await cluster.aio.session(client.global_id)
    assert session is not None
    return int(session["num_caps"])


def released(sent: Sent, client: Client) -> tuple[list[int], list[CapItem]]:
    """How many items each message had, and the items."""
    messages = sent.by(client, ClientCapRelease)
    return [len(message.caps) for message in messages], [item for message in messages for item in message.caps]


async def test_five_thousand_closed_files_are_given_back_in_full_messages(
    cluster: LiveCluster,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    granted: dict[int, InodeStat],
) -> None:
    sent = Sent(monkeypatch)
    files = 5000
    started = time.monotonic()
    await make_files(client, "/many", files)
    took = time.monotonic() - started
    held = client.sessions[0].num_caps
    assert held == files + 2  # the directory and the root
    assert await num_caps(cluster, client) == held
    assert released(sent, client) == ([], [])
    async with client.open("/many/0", "r") as opened:
        await client.setattr("/many/1", mode=0o600)
        dirty = client.cached("/many/1")
        assert dirty is not None
        assert str(client.inode_caps(dirty.ino).dirty) == "Ax"  # type: ignore[union-attr]
        with client.events((CapReleased,)) as events:
            started = time.monotonic()
            client.drop_caches()
            asked = time.monotonic() - started
            assert len(events.drain()) == held - 2
        sizes, items = released(sent, client)
        assert len(sizes) == math.ceil((held - 2) / CAPS_PER_RELEASE)
        assert sizes[:-1] == [CAPS_PER_RELEASE] * (len(sizes) - 1)
        assert (client.metrics.release_messages, client.metrics.caps_released) == (len(sizes), sum(sizes))
        pinned = {opened.ino, dirty.ino}
        assert pinned.isdisjoint(item.ino for item in items)
        for item in items:
            last = granted[item.ino].cap
            assert (item.cap_id, item.mseq, item.issue_seq) == (last.cap_id, last.mseq, last.seq)
        started = time.monotonic()
        await until(lambda: _equals(cluster, client, len(pinned)), "the MDS has them back")
        assert client.sessions[0].num_caps == len(pinned)
        print(
            f"{files} files in {took:.1f} s; {sum(sizes)} caps given back in {len(sizes)} messages, "
            f"{asked * 1e3:.0f} ms here, {(time.monotonic() - started) * 1e3:.0f} ms until the MDS had them"
        )
        for ino in pinned:
            await agree(cluster, client, ino)
        await client.sync()
        assert (await cluster.aio.dump_inode(dirty.ino))["mode"] & 0o777 == 0o600
    # What was given back is asked for again, and is as it was.
    assert (await client.stat("/many/4999")).size == 0


async def _equals(cluster: LiveCluster, client: Client, count: int) -> bool:
    return await num_caps(cluster, client) == count


async def _no_ranges(cluster: LiveCluster, ino: int) -> bool:
    dump = await cluster.aio.dump_inode(ino)
    return dump is not None and dump["client_ranges"] == []


async def test_one_path_is_given_back_with_the_next_batch(
    cluster: LiveCluster, client: Client, monkeypatch: pytest.MonkeyPatch, granted: dict[int, InodeStat]
) -> None:
    sent = Sent(monkeypatch)
    await make_files(client, "/some", 3)
    held = client.sessions[0].num_caps
    async with client.open("/some/0"):
        assert client.release("/some/0") is False  # open
        await client.setattr("/some/1", mode=0o611)
        assert client.release("/some/1") is False  # changed
        gone = client.cached("/some/2")
        assert gone is not None
        assert client.release("/some/2") is True
        assert client.release("/some/2") is False  # unknown
        assert client.inode_caps("/some/2") is None
        assert released(sent, client) == ([], [])
        await until(lambda: _equals(cluster, client, held - 1), "it is given back", within=3)
        (item,) = released(sent, client)[1]
        assert (item.ino, item.issue_seq) == (gone.ino, granted[gone.ino].cap.seq)
        assert await cluster.aio.dump_inode(gone.ino) is not None
        assert client.sessions[0].num_caps == held - 1


async def test_a_release_counts_only_with_the_seq_of_the_last_issue(
    cluster: LiveCluster, client: Client, granted: dict[int, InodeStat]
) -> None:
    """The peer's stats make the MDS revoke and grant: ``seq`` moves, ``issue_seq`` stays, and it is what counts."""
    await make_files(client, "/issued", 1)
    inode = client.cached("/issued/0")
    assert inode is not None
    peer = await asyncio.to_thread(LibcephfsPeer, cluster)
    try:
        for _ in range(5):
            await peer.aio.statx("/issued/0")
    finally:
        await asyncio.to_thread(peer.close)
    await agree(cluster, client, inode.ino)
    cap = client.inode_caps(inode.ino).per_mds[0]  # type: ignore[union-attr]
    assert cap.seq > cap.issue_seq == granted[inode.ino].cap.seq
    held = client.sessions[0].num_caps
    assert client.release(inode.ino)
    await until(lambda: _equals(cluster, client, held - 1), "the MDS took it", within=3)


async def test_a_recall_is_followed_promptly_down_to_what_the_mds_leaves(
    cluster: LiveCluster, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = Sent(monkeypatch)
    await make_files(client, "/recalled", 1000)
    held = client.sessions[0].num_caps
    async with client.open("/recalled/0", "r+") as opened:
        await client.stat("/recalled/999")
        started = time.monotonic()
        said = await cluster.aio.mds_admin({"prefix": "cache drop", "timeout": 30})
        took = time.monotonic() - started
        assert said["client_recall"]["return_code"] == 0
        # Each recall of several goes for what the MDS counts then; the last leaves this many.
        await until(lambda: _equals(cluster, client, client.sessions[0].num_caps), "both count the same")
        assert client.sessions[0].num_caps <= MIN_CAPS
        assert ours(client, opened.ino) is not None
        await agree(cluster, client, opened.ino)
        assert client.inode_caps("/recalled/999") is not None  # touched last: kept
        mine = [s.message for s in sent.all if s.link is client.sessions[0].carrier.link]
    barrier = next((i for i, m in enumerate(mine) if getattr(m, "op", None) == SessionOp.FLUSHMSG_ACK), 0)
    in_time = [len(message.caps) for message in mine[:barrier] if isinstance(message, ClientCapRelease)]
    print(f"{held} caps, {MIN_CAPS} left; cache drop took {took:.2f} s; released before the barrier: {in_time}")
    # What a recall takes is gone before the barrier behind it is answered.
    assert sum(in_time) == held - MIN_CAPS
    assert in_time[:-1] == [CAPS_PER_RELEASE] * (len(in_time) - 1)
    assert took < 5


def messages(captured: Path) -> list[Any]:
    with captured.open("rb") as file:
        return [item.message for item in read_trace(file) if isinstance(item, Traced)]


IN_THE_CLEAR = """
[global]
ms cluster mode = crc
ms service mode = crc
ms client mode = crc
"""


async def test_releases_carry_the_same_seq_as_those_of_libcephfs(
    new_cluster: Callable[..., LiveCluster], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Both as captured on the wire: the seq of the last reply that granted the cap, whatever was granted since."""
    if missing := missing_program("dumpcap"):
        pytest.skip(missing)
    sent, captured = Sent(monkeypatch), tmp_path / "capture.pcapng"
    cluster, files = new_cluster(mds=1, extra=IN_THE_CLEAR, address=some_loopback_address()), 30
    with Dumpcap(captured, cluster.address):
        peer = await asyncio.to_thread(LibcephfsPeer, cluster, options={"client_cache_size": "5"})
        async with connect(cluster.conf, ms_mode="crc") as client:
            await peer.aio.mkdir("/theirs")
            await make_files(client, "/ours", files)
            for number in range(files):
                # Each stat makes the MDS ask the other, and grant again: seq moves.
                await peer.aio.write_file(f"/theirs/{number}", b"x")
                await client.stat(f"/theirs/{number}")
                await peer.aio.statx(f"/ours/{number}")
            client.drop_caches()
            await until(lambda: _equals(cluster, client, 0), "ours are given back")

            def is_trimmed() -> bool:
                session = cluster.session(peer.instance_id)
                return session is not None and session["num_caps"] < files

            await until(is_trimmed, "libcephfs has given back what its small cache does not hold")
            mine = set(released(sent, client)[1])
            assert client.metrics.late == ()
        await asyncio.to_thread(peer.close)
    granted: dict[tuple[int, int], int] = {}
    pushed: dict[tuple[int, int], int] = {}
    items: list[CapItem] = []
    given: set[tuple[int, int]] = set()
    for message in messages(captured):
        match message:
            case ClientReply():
                entries = message.extra.entries if isinstance(message.extra, ReaddirReply) else ()
                for inode in (message.trace.target, message.trace.dir, *(entry.inode for entry in entries)):
                    if inode is not None and inode.cap.cap_id:
                        granted[inode.ino, inode.cap.cap_id] = inode.cap.seq
            case ClientCaps(op=CapOp.GRANT | CapOp.REVOKE):
                pushed[message.ino, message.cap_id] = message.seq
            case ClientCapRelease():
                # A cap given back once more answers a message that crossed its release, with that message's seq.
                items += [item for item in message.caps if (item.ino, item.cap_id) not in given]
                given |= {(item.ino, item.cap_id) for item in message.caps}
    for whose, found in {"ours": mine & set(items), "libcephfs's": set(items) - mine}.items():
        last = {item: granted[item.ino, item.cap_id] for item in found}
        moved = [item for item in found if pushed.get((item.ino, item.cap_id), 0) > last[item]]
        print(f"{whose}: {len(found)} releases captured, of {len(moved)} caps that were granted anew since the reply")
        assert len(moved) > files / 2
        assert {item: item.issue_seq for item in found} == last
    assert {(item.ino, item.cap_id) for item in mine} <= given


@pytest.mark.soak
async def test_what_nobody_comes_back_for_is_given_back_after_a_minute(
    cluster: LiveCluster, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = Sent(monkeypatch)
    await make_files(client, "/idle", 100)
    async with client.open("/idle/0", "r+") as opened:
        closed = [client.cached(f"/idle/{number}") for number in range(1, 100)]
        before = [client.inode_caps(inode.ino) for inode in closed if inode is not None]
        assert all("Fxwb" in held.issued for held in before if held is not None)
        count = sent.count(client)
        await asyncio.sleep(HOLD_MAX - 5)
        print({type(s.message).__name__ for s in sent.all[count:]})
        assert [client.inode_caps(inode.ino) for inode in closed if inode is not None] == before
        await asyncio.sleep(6)
        for inode in closed:
            assert inode is not None
            await until(lambda ino=inode.ino: _no_ranges(cluster, ino), "the MDS takes back the right to write")
            await agree(cluster, client, inode.ino)
            held = client.inode_caps(inode.ino)
            assert held is not None
            assert str(held.issued) == "pAsLsXsFs"
            assert not held.per_mds[0].wanted
        assert "Fxwb" in opened.caps
        await agree(cluster, client, opened.ino)
