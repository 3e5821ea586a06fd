"""A session as the MDS sees it: what it shows, what it must answer, how it ends."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path
from typing import Any

import pytest

import cephcaps
from cephcaps import Client, connect
from cephcaps.mds.session import OUR_FEATURES

from .agreement import agrees_at_rest
from .cluster import LiveCluster
from .libcephfs import LibcephfsPeer
from .waiting import InThread, until

MODES = pytest.mark.parametrize("ms_mode", ["crc", "secure"])


def bits(number: int) -> list[int]:
    return [bit for bit in range(64) if number >> bit & 1]


@MODES
async def test_the_mds_shows_who_we_are_until_we_close(cluster: LiveCluster, conf: Path, ms_mode: str) -> None:
    async with connect(conf, ms_mode=ms_mode) as client:
        seen = cluster.session(client.global_id)
        assert seen is not None
        assert (seen["state"], seen["num_caps"], seen["requests_in_flight"]) == ("open", 1, 0)  # the root's
        told = seen["client_metadata"]
        assert int(told["client_features"]["feature_bits"], 16) == OUR_FEATURES
        assert told["entity_id"] == "admin"
        assert told["hostname"] == socket.gethostname()
        assert told["root"] == "/"
        assert told["cephcaps_version"] == "0.1.0"
        (ours,) = client.sessions.values()
        assert (ours.rank, ours.state, ours.num_caps) == (0, "open", 1)
        assert bits(ours.features) == sorted(set(bits(ours.features)))
    assert cluster.session(client.global_id) is None
    assert ours.state == "closed"


async def test_a_client_may_be_opened_and_closed_in_different_tasks(cluster: LiveCluster, conf: Path) -> None:
    client = connect(conf)
    await asyncio.create_task(client.__aenter__())
    assert (await client.stat("/")).ino == 1
    await asyncio.create_task(client.__aexit__(None, None, None))
    assert cluster.session(client.global_id) is None
    with pytest.raises(RuntimeError, match="closed"):
        await client.stat("/")


async def test_an_error_of_the_block_comes_out_as_it_was_raised(conf: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        async with connect(conf):
            raise ZeroDivisionError


async def test_a_cancelled_block_closes_its_session(cluster: LiveCluster, conf: Path) -> None:
    opened: asyncio.Future[Client] = asyncio.get_running_loop().create_future()

    async def hold() -> None:
        async with connect(conf) as client:
            opened.set_result(client)
            await asyncio.sleep(60)

    task = asyncio.create_task(hold())
    client = await opened
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cluster.session(client.global_id) is None


async def test_nothing_asked_back_is_left_waiting(cluster: LiveCluster, conf: Path) -> None:
    """Two clients look at what a third changes all the time: caps and leases come, go, and cross on their way."""
    with LibcephfsPeer(cluster) as peer:
        theirs: Any = InThread(peer)
        await theirs.mkdir("/busy")
        for number in range(8):
            await theirs.write_file(f"/busy/{number}", b"x")
        async with connect(conf) as one, connect(conf) as two:
            changing = True
            slowest = 0.0

            async def look(client: Client) -> int:
                rounds = 0
                while changing:
                    for number in range(8):
                        await client.exists(f"/busy/{number}")
                    await client.listdir("/busy")
                    rounds += 1
                return rounds

            lookers = [asyncio.create_task(look(client)) for client in (one, two)]
            for round_ in range(100):
                started = time.monotonic()
                await theirs.chmod(f"/busy/{round_ % 8}", 0o600 + round_ % 8)
                await theirs.rename(f"/busy/{round_ % 8}", "/busy/renamed")
                await theirs.rename("/busy/renamed", f"/busy/{round_ % 8}")
                slowest = max(slowest, time.monotonic() - started)
            changing = False
            assert min(await asyncio.gather(*lookers)) > 3
            # An unanswered lease would have kept a rename waiting for its 30 s, an unanswered revoke for 60.
            assert slowest < 5
            for client in (one, two):
                await agrees_at_rest(cluster, client)
                client.drop_caches()
                await until(lambda c=client: cluster.session(c.global_id)["num_caps"] == 0, "all caps are given back")
        assert cluster.mds_admin("dump_ops_in_flight")["num_ops"] == 0
    assert "client" not in str(cluster.ceph("health", "detail")).lower().replace("client.admin", "")


async def test_a_request_goes_to_the_rank_that_is_in_charge(new_cluster: Any) -> None:
    cluster = new_cluster()
    cluster.ceph("fs", "set", cluster.fs_name, "max_mds", 2)
    cluster.wait_for_active(1)
    with LibcephfsPeer(cluster) as peer:
        peer.mkdir("/one")
        peer.write_file("/one/file", b"12345")
        peer.setxattr("/one", "ceph.dir.pin", b"1")
        peer.sync_fs()

    def is_pinned() -> bool:
        trees = cluster.mds_admin("get subtrees", rank=1)
        return any(tree["dir"]["path"] == "/one" and tree["auth_first"] == 1 for tree in trees)

    await until(is_pinned, "rank 1 is in charge of /one")
    async with connect(cluster.conf) as client:
        assert (await client.stat("/one/file")).size == 5
        assert await client.listdir("/one") == ["file"]
        assert {rank: session.state for rank, session in client.sessions.items()} == {0: "open", 1: "open"}
        assert cluster.session(client.global_id, rank=1) is not None
    assert cluster.session(client.global_id, rank=0) is None
    assert cluster.session(client.global_id, rank=1) is None


async def test_a_request_that_is_not_answered_ends_in_time_and_says_what_was_awaited(new_cluster: Any) -> None:
    cluster = new_cluster(mds=1)
    async with connect(cluster.conf) as client:
        cluster.freeze_daemon("mds.a")
        try:
            started = time.monotonic()
            with pytest.raises(
                cephcaps.RequestTimeout, match=r"mkdir of /frozen .* the answer of mds\.0 \(a\)"
            ) as caught:
                await client.mkdir("/frozen", timeout=0.5)
            assert time.monotonic() - started < 2
            assert caught.value.rank == 0
            assert caught.value.tid
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await client.mkdir("/frozen-too")
        finally:
            cluster.thaw_daemon("mds.a")
        assert (await client.stat("/")).ino == 1
    assert cluster.session_ls() == []


async def test_a_client_belongs_to_its_loop(conf: Path) -> None:
    async with connect(conf) as client:

        def elsewhere() -> None:
            with pytest.raises(RuntimeError, match="another event loop"):
                asyncio.run(client.stat("/"))

        await asyncio.to_thread(elsewhere)
        assert (await client.stat("/")).ino == 1
