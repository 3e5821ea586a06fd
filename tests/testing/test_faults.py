"""What goes wrong on a cluster when a test says so, and what a client sees of it."""

from __future__ import annotations

import asyncio

import pytest

from cephcaps import Client, RequestTimeout, SessionLost, connect
from cephcaps.events import CapStale, SessionChanged
from cephcaps.testing import TestCluster, simulate
from cephcaps.testing.plugin import CephTestCluster, ceph_test_cluster
from cephwire.caps import ClientCaps
from cephwire.mon_messages import MAuth
from cephwire.reply import ClientReply
from tests.live.waiting import until

__all__ = ["ceph_test_cluster"]


async def test_a_cut_connection_is_resumed_and_nothing_is_lost_or_doubled(cluster: TestCluster, client: Client) -> None:
    async with client.open("/f", "x") as file:
        for number in range(10):
            making = asyncio.create_task(client.mkdir(f"/{number}"))
            await asyncio.sleep(0.001 * number)
            assert cluster.faults.cut(client.global_id) <= 1
            await making
            assert file.caps
    assert len(await client.listdir("/")) == 11
    (session,) = cluster.mds[0].sessions
    assert session.state == "open"


async def test_a_client_outlives_its_monitor_s_connection(cluster: TestCluster, client: Client) -> None:
    assert cluster.faults.cut(mon=True) == 1
    await client.mkdir("/d")
    await until(lambda: len(cluster.mon.remotes) == 1, "it is back", within=10)


async def test_all_connections_may_break_at_once(cluster: TestCluster, client: Client, other: Client) -> None:
    for number in range(5):
        assert cluster.faults.cut() <= 2
        cluster.faults.cut(mon=True)
        await asyncio.gather(client.mkdir(f"/a{number}"), other.mkdir(f"/b{number}"))
    assert len(await client.listdir("/")) == 10


async def test_a_frozen_mds_answers_later(cluster: TestCluster, client: Client) -> None:
    cluster.faults.freeze()
    with pytest.raises(RequestTimeout) as late:
        await client.mkdir("/d", timeout=0.1)
    assert late.value.rank == 0
    making = asyncio.create_task(client.mkdir("/e"))
    await asyncio.sleep(0.1)
    assert not making.done()
    cluster.faults.thaw()
    await making
    # The first was not waited for any longer, and was done nevertheless.
    assert sorted(await client.listdir("/")) == ["d", "e"]


async def test_a_delayed_answer_comes_late_and_what_follows_waits_for_it(cluster: TestCluster, client: Client) -> None:
    cluster.faults.delay(ClientReply, 0.2)
    began = asyncio.get_running_loop().time()
    await asyncio.gather(client.mkdir("/d"), client.mkdir("/e"))
    assert asyncio.get_running_loop().time() - began >= 0.2
    await client.mkdir("/f")


async def test_a_delayed_revoke_holds_the_other_client_up(cluster: TestCluster, client: Client, other: Client) -> None:
    async with client.open("/f", "x"):
        await client.chmod("/f", 0o600)
        cluster.faults.delay(ClientCaps, 0.3)
        began = asyncio.get_running_loop().time()
        assert (await other.stat("/f")).mode & 0o777 == 0o600
        assert asyncio.get_running_loop().time() - began >= 0.3


async def test_a_client_cancelled_again_and_again_leaves_no_session_behind(cluster: TestCluster) -> None:
    """Not even if the MDS asks a cap back meanwhile, and so takes no notice of the first REQUEST_CLOSE."""

    async def lives() -> None:
        async with connect(cluster.conf) as leaving, leaving.open("/f", "x") as file:
            await file.setattr(mode=0o600)
            held.set()
            await asyncio.sleep(60)

    async with connect(cluster.conf) as other:
        for number in range(20):
            held = asyncio.Event()
            life = asyncio.create_task(lives())
            await held.wait()
            cluster.faults.delay(ClientCaps, 0.01)
            asking = asyncio.create_task(other.stat("/f"))
            await asyncio.sleep(0.0005 * number)
            while not life.done():
                life.cancel()
                await asyncio.sleep(0)
            assert life.cancelled()
            assert [session.client for session in cluster.mds[0].sessions] == [other.global_id]
            await asking
            await other.unlink("/f")


async def test_a_client_cancelled_again_and_again_waits_a_second_for_an_mds_that_is_silent(
    cluster: TestCluster,
) -> None:
    held = asyncio.Event()

    async def lives() -> None:
        async with connect(cluster.conf):
            held.set()
            await asyncio.sleep(60)

    life = asyncio.create_task(lives())
    await held.wait()
    cluster.faults.freeze()
    async with asyncio.timeout(10):
        while not life.done():
            life.cancel()
            await asyncio.sleep(0)
    assert life.cancelled()


@pytest.mark.misbehaves("the MDS leaves a request without its answer")
async def test_a_lost_answer_is_a_time_out_that_says_what_was_awaited(
    cluster: TestCluster, client: Client, other: Client
) -> None:
    await other.mkdir("/d")
    cluster.faults.drop(ClientReply)
    with pytest.raises(RequestTimeout, match=r"of /d timed out awaiting the answer of mds\.0") as late:
        await client.stat("/d", timeout=0.2)
    assert (late.value.rank, late.value.tid) == (0, late.value.tid or -1)
    assert (await client.stat("/d")).is_dir


async def test_an_evicted_client_hears_of_it_and_what_it_lost(cluster: TestCluster, client: Client) -> None:
    async with connect(cluster.conf) as lost:
        file = await lost.open("/f", "x").__aenter__()
        await file.setattr(mode=0o600)  # under Ax, not flushed
        with lost.events(types=(SessionChanged,)) as events:
            cluster.faults.evict(lost.global_id)
            with pytest.raises(SessionLost) as told:
                await lost.mkdir("/e")
        assert told.value.reason in ("evicted", "blocklisted")
        assert any("/f" in each or f"{file.ino:x}" in each for each in told.value.lost), told.value.lost
        assert events.drain()
    assert (await client.stat("/f")).mode & 0o777 == 0o644
    assert len(cluster.mds[0].sessions) == 1
    assert len(cluster.mon.maps.blocklist) == 1


async def test_a_recalled_client_gives_back_what_it_does_not_use(cluster: TestCluster, client: Client) -> None:
    await client.mkdir("/d")
    async with client.open("/d/used", "x") as file:
        for number in range(50):
            async with client.open(f"/d/{number}", "x"):
                pass
        (session,) = cluster.mds[0].sessions
        assert len(session.caps) > 50
        cluster.faults.recall(client.global_id, 10)
        await until(lambda: len(session.caps) <= 12, "it has given back", within=10)
        assert "Fw" in file.caps


async def test_a_stale_client_s_caps_do_not_count_until_it_renews(
    cluster: TestCluster, client: Client, other: Client
) -> None:
    async with client.open("/f", "x") as file:
        with client.events(types=(CapStale, SessionChanged)) as events:
            cluster.faults.stale(client.global_id)
            assert (await other.stat("/f")).ino == file.ino
            await until(lambda: str(file.caps) == "pAsxLsXsxFsxcrwb", "all is granted anew", within=10)
        assert any(isinstance(event, SessionChanged) and event.state == "stale" for event in events.drain())
        await file.setattr(mode=0o600)
        assert (await other.stat("/f")).mode & 0o777 == 0o600


async def test_a_snapshot_comes_between_two_changes(cluster: TestCluster, client: Client) -> None:
    await client.mkdir("/d")
    async with client.open("/d/f", "x") as file:
        await file.setattr(mtime=10**18)  # under Fx, not flushed
        await client.stat("/d")
        cluster.faults.snapshot("/d", "s")
        await asyncio.sleep(0.05)
        await file.setattr(mtime=2 * 10**18)
        await client.sync()
        assert (await client.stat("/d/.snap/s/f")).mtime == 10**18
        assert (await client.stat("/d/f")).mtime == 2 * 10**18


async def test_expired_tickets_are_replaced_when_the_next_connection_is_made(
    cluster: TestCluster, client: Client
) -> None:
    asked: list[object] = []
    cluster.mon.observer = lambda sent, remote, message: asked.append(message) if type(message) is MAuth else None
    before = len(cluster.keys.granted)
    cluster.faults.expire_tickets()
    await client.mkdir("/open")  # what is connected stays so
    assert len(cluster.keys.granted) == before
    cluster.faults.cut()
    await client.mkdir("/d")
    assert len(cluster.keys.granted) > before
    assert sorted(await client.listdir("/")) == ["d", "open"]


async def test_who_must_log_in_anew_is_somebody_new_to_the_cluster(cluster: TestCluster, client: Client) -> None:
    old = client.global_id
    cluster.faults.expire_tickets(auth=True)
    cluster.faults.cut()
    cluster.faults.cut(mon=True)
    with pytest.raises(SessionLost, match="connect anew"):
        await client.mkdir("/d")
    cluster.faults.evict(old)  # or its caps are waited for until the session has been silent for long
    async with connect(cluster.conf) as fresh:
        await fresh.mkdir("/d")


async def test_clients_reconnect_when_another_mds_takes_the_rank(
    cluster: TestCluster, client: Client, other: Client
) -> None:
    async with client.open("/f", "x") as file, other.open("/g", "x") as theirs:
        await client.mkdir("/d")
        await file.setattr(mode=0o600)  # under Ax, not flushed
        await theirs.flock("exclusive")
        before = file.caps
        with client.events(types=(SessionChanged,)) as events:
            await cluster.faults.fail_mds()
            making = asyncio.create_task(client.mkdir("/d/e"))
            assert (await other.stat("/f")).mode & 0o777 == 0o600
            await making
        states = [event.state for event in events.drain() if isinstance(event, SessionChanged)]
        assert (states[0], states[-1]) == ("reconnecting", "open")
        await until(lambda: file.caps == before, "it has what it had", within=5)
        async with client.open("/g", "r+") as mine:
            with pytest.raises(BlockingIOError):
                await mine.flock("exclusive", blocking=False)
    assert sorted(await client.listdir("/")) == ["d", "f", "g"]
    assert cluster.mds[0].state == "active"
    assert len(cluster.mds[0].sessions) == 2
    assert client.metrics.late == other.metrics.late == ()


async def test_what_is_under_way_when_the_mds_dies_is_done_once(cluster: TestCluster, client: Client) -> None:
    for number in range(5):
        making = [asyncio.create_task(client.mkdir(f"/{number}-{each}")) for each in range(10)]
        await asyncio.sleep(0.002 * number)
        await cluster.faults.fail_mds(after=0.05 * (number % 2))
        await asyncio.gather(*making)
        async with client.open(f"/file-{number}", "x") as file:
            await file.setattr(mtime=10**18 + number)
            syncing = asyncio.create_task(client.sync())
            await asyncio.sleep(0.01 * number)
            await cluster.faults.fail_mds()
            await syncing
    async with connect(cluster.conf) as fresh:
        assert len(await fresh.listdir("/")) == 55
        assert [(await fresh.stat(f"/file-{n}")).mtime for n in range(5)] == [10**18 + n for n in range(5)]


def kill(client: Client) -> None:
    """It says nothing any more, and does not know."""
    running = client._running
    assert running._timer is not None
    running._timer.cancel()
    for socket in running._sockets.values():
        socket.abort()


def test_who_does_not_come_back_in_time_is_evicted() -> None:
    async def story() -> tuple[float, int]:
        async with TestCluster() as cluster, connect(cluster.conf) as client:
            lost = await connect(cluster.conf).__aenter__()
            await lost.mkdir("/d")
            kill(lost)
            began = asyncio.get_running_loop().time()
            await cluster.faults.fail_mds()
            await client.mkdir("/e", timeout=60)
            return asyncio.get_running_loop().time() - began, len(cluster.mon.maps.blocklist)

    waited, blocked = simulate(story)
    assert 44 < waited < 47
    assert blocked == 1


async def test_faults_of_who_is_not_there(cluster: TestCluster) -> None:
    with pytest.raises(LookupError, match=r"client\.1 has no session"):
        cluster.faults.evict(1)


def test_the_fixture_reaches_them_from_a_blocking_test(ceph_test_cluster: CephTestCluster) -> None:
    async def work() -> list[str]:
        async with connect(ceph_test_cluster.conf) as client:
            await client.mkdir("/d")
            assert await asyncio.to_thread(ceph_test_cluster.call, lambda cluster: cluster.faults.cut()) == 1
            return await client.listdir("/")

    assert asyncio.run(work()) == ["d"]
