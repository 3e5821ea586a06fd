"""Our own client on a `TestCluster`, over sockets of this machine."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator

import pytest

from cephcaps import AuthError, Client, SessionLost, connect
from cephcaps.events import CapFlushed, CapRevokeAcked, CapRevoking
from cephcaps.testing import TestCluster
from cephwire.keys import CryptoType
from cephwire.reply import ClientReply
from tests.live.waiting import until

SETUPS = [
    {"auth": "none"},
    {"ms_mode": "crc"},
    {"ms_mode": "secure"},
    {"ms_mode": "secure", "key_type": CryptoType.AES256K},
]


@pytest.fixture
async def cluster() -> AsyncIterator[TestCluster]:
    async with TestCluster() as running:
        yield running
        assert running.mds[0].requests() == []


@pytest.fixture
async def client(cluster: TestCluster) -> AsyncIterator[Client]:
    async with connect(cluster.conf) as connected:
        yield connected


@pytest.mark.parametrize("setup", SETUPS, ids=str)
async def test_a_client_mounts_in_every_mode(setup: dict[str, object]) -> None:
    async with TestCluster(**setup) as cluster, connect(cluster.conf) as client:  # type: ignore[arg-type]
        await client.mkdir("/d")
        assert await client.listdir("/") == ["d"]


async def test_only_this_user_may_read_the_key_and_nothing_stays(cluster: TestCluster) -> None:
    async with TestCluster() as other:
        folder = other.conf.parent
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / "keyring").stat().st_mode) == 0o600
        with pytest.raises(AuthError):  # another cluster's key
            async with connect(other.conf, keyring=cluster.conf.parent / "keyring"):
                pass
    assert not folder.exists()


async def test_a_second_client_sees_what_the_first_had_not_yet_flushed(cluster: TestCluster, client: Client) -> None:
    async with connect(cluster.conf) as second, client.open("/f", "x") as file:
        assert str(file.caps) == "pAsxLsXsxFsxcrwb"
        with client.events(ino=file.ino) as events:
            await file.setattr(mtime=10**18)
            seen = await second.stat("/f")
            await client.sync()
        assert seen.mtime == 10**18
        kinds = {type(event) for event in events.drain()}
        assert {CapRevoking, CapRevokeAcked, CapFlushed} <= kinds
        # Once the second has given back what its answer brought:
        await until(lambda: str(file.caps) == "pAsxLsXsxFsxcrwb", "all is the first's again", within=5)
        async with second.open("/f", "r") as other:
            assert str(file.caps) == "pAsLsXsFrw"
            await until(lambda: "Fr" in str(other.caps), "the second may read", within=5)


async def test_names_are_kept_in_step(cluster: TestCluster, client: Client) -> None:
    async with connect(cluster.conf) as second:
        await client.makedirs("/a/b")
        assert await second.listdir("/a") == ["b"]
        await client.rename("/a/b", "/c")
        assert sorted(await second.listdir("/")) == ["a", "c"]
        await second.symlink("/c", "/a/l")
        assert await client.readlink("/a/l") == "/c"
        await second.rmdir("/c")
        with pytest.raises(FileNotFoundError):
            await client.stat("/c")


async def test_big_directories_come_in_parts(cluster: TestCluster, client: Client) -> None:
    await client.mkdir("/big")
    await asyncio.gather(*(client.mkdir(f"/big/{number}") for number in range(1500)))
    async with connect(cluster.conf) as second:
        assert sorted(await second.listdir("/big")) == sorted(map(str, range(1500)))


async def test_snapshots_keep_what_was_flushed_after_them(cluster: TestCluster, client: Client) -> None:
    await client.mkdir("/d")
    async with client.open("/d/f", "x") as file, connect(cluster.conf) as second:
        await file.setattr(mtime=10**18)  # under Fx, not flushed
        await second.mksnap("/d", "s")
        await file.setattr(mtime=2 * 10**18)
        await client.sync()
        assert (await second.stat("/d/.snap/s/f")).mtime == 10**18
        assert (await second.stat("/d/f")).mtime == 2 * 10**18
        assert [snapshot.name for snapshot in await client.lssnap("/d")] == ["s"]
        await client.rmsnap("/d", "s")
        assert await second.lssnap("/d") == []


async def test_a_cut_connection_is_resumed(cluster: TestCluster, client: Client) -> None:
    for number in range(10):
        making = asyncio.create_task(client.mkdir(f"/{number}"))
        await asyncio.sleep(0.001 * number)
        cluster.faults.cut(client.global_id)
        await making
    assert len(await client.listdir("/")) == 10
    (session,) = cluster.mds[0].sessions
    assert session.state == "open"


async def test_a_frozen_mds_answers_later(cluster: TestCluster, client: Client) -> None:
    cluster.faults.freeze()
    making = asyncio.create_task(client.mkdir("/d"))
    await asyncio.sleep(0.1)
    assert not making.done()
    cluster.faults.thaw()
    await making


async def test_a_delayed_answer_comes_late(cluster: TestCluster, client: Client) -> None:
    cluster.faults.delay(ClientReply, 0.2)
    began = asyncio.get_running_loop().time()
    await client.mkdir("/d")
    assert asyncio.get_running_loop().time() - began >= 0.2


async def test_an_evicted_client_hears_of_it(cluster: TestCluster, client: Client) -> None:
    await client.mkdir("/d")
    cluster.faults.evict(client.global_id)
    with pytest.raises(SessionLost):
        await client.mkdir("/e")
    async with connect(cluster.conf) as fresh:
        assert await fresh.listdir("/") == ["d"]


async def test_a_recalled_client_gives_back(cluster: TestCluster, client: Client) -> None:
    await client.mkdir("/d")
    for number in range(50):
        async with client.open(f"/d/{number}", "x"):
            pass
    (session,) = cluster.mds[0].sessions
    assert len(session.caps) > 50
    cluster.faults.recall(client.global_id, 10)
    await until(lambda: len(session.caps) <= 12, "it has given back", within=10)


async def test_file_locks_keep_clients_apart(cluster: TestCluster, client: Client) -> None:
    async with connect(cluster.conf) as second, client.open("/f", "x") as file, second.open("/f", "r+") as other:
        await file.flock("exclusive")
        waiting = asyncio.create_task(other.flock("exclusive"))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await file.flock("unlock")
        await waiting
