"""Connecting: who one is, what one mounts, how it ends."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from cephcaps import AuthError, Client, ConfigError, ConnectionFailed, RequestTimeout, SessionLost, connect
from cephcaps.testing import TestCluster
from cephwire.keys import CryptoType
from cephwire.mdsmap import MdsState

SETUPS = [
    {"auth": "none"},
    {"ms_mode": "crc"},
    {"ms_mode": "secure"},
    {"ms_mode": "secure", "key_type": CryptoType.AES256K},
]


@pytest.mark.parametrize("key_type", [CryptoType.AES, CryptoType.AES256K, None])
@pytest.mark.parametrize("messengers", [("v2", "v1"), ("v1",)])
async def test_a_client_of_messenger_v1_mounts(messengers: tuple[Any, ...], key_type: CryptoType | None) -> None:
    how: dict[str, Any] = {"auth": "none"} if key_type is None else {"key_type": key_type}
    async with TestCluster(messengers=messengers, **how) as cluster:
        async with connect(cluster.conf, ms_mode="legacy") as client:
            await client.mkdir("/d")
            assert client.sessions[0].connection is not None
            assert client.sessions[0].connection.mode == "legacy"
            for number in range(10):
                cluster.faults.cut(client.global_id)
                await client.mkdir(f"/d/{number}")
            cluster.faults.cut(mon=True)
            assert len(await client.listdir("/d")) == 10
            cluster.faults.evict(client.global_id)
            with pytest.raises(SessionLost):
                await client.mkdir("/e")
        if messengers == ("v1",):
            with pytest.raises(ConfigError, match="say ms_mode legacy"):
                await connect(cluster.conf).__aenter__()
        else:
            async with connect(cluster.conf) as client, connect(cluster.conf, ms_mode="legacy") as other:
                await client.mkdir("/f")
                await client.chmod("/f", 0o700)
                assert stat.S_IMODE((await other.stat("/f")).mode) == 0o700


@pytest.mark.parametrize("setup", SETUPS, ids=str)
async def test_a_client_mounts_in_every_mode(setup: dict[str, object]) -> None:
    async with TestCluster(**setup) as cluster, connect(cluster.conf) as client:  # type: ignore[arg-type]
        await client.mkdir("/d")
        assert await client.listdir("/") == ["d"]
        if "ms_mode" in setup:
            assert client.sessions[0].connection is not None
            assert client.sessions[0].connection.mode == setup["ms_mode"]


async def test_only_this_user_may_read_the_key_and_nothing_stays(cluster: TestCluster) -> None:
    async with TestCluster() as other:
        folder = other.conf.parent
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / "keyring").stat().st_mode) == 0o600
        assert sorted(path.name for path in folder.iterdir()) == ["ceph.conf", "keyring"]
        with pytest.raises(AuthError):  # another cluster's key
            async with connect(other.conf, keyring=cluster.conf.parent / "keyring"):
                pass
    assert not folder.exists()


async def test_who_has_no_key_is_not_let_in(cluster: TestCluster, tmp_path: Path) -> None:
    with pytest.raises((AuthError, ConfigError)):
        async with connect(cluster.conf, name="client.nobody"):
            pass
    forged = tmp_path / "keyring"
    forged.write_text((cluster.conf.parent / "keyring").read_text().replace("client.admin", "client.nobody"))
    with pytest.raises(AuthError):
        async with connect(cluster.conf, name="client.nobody", keyring=forged):
            pass
    assert len(cluster.mds[0].sessions) == 0


async def test_several_names_have_keys_of_their_own() -> None:
    async with TestCluster(clients=("client.a", "client.b")) as cluster:
        async with connect(cluster.conf, name="client.a") as one, connect(cluster.conf, name="client.b") as two:
            await one.mkdir("/d")
            assert await two.listdir("/") == ["d"]
            assert {each.metadata["entity_id"] for each in cluster.mds[0].sessions} == {"a", "b"}
        with pytest.raises((AuthError, ConfigError)):
            async with connect(cluster.conf):
                pass


async def test_what_is_known_of_the_cluster(cluster: TestCluster, client: Client) -> None:
    assert client.fsid == str(cluster.fsid)
    assert client.fs_name == "cephfs"
    assert [info.state for info in client.mds_map.mds_info.values()] == [MdsState.ACTIVE]
    session = client.sessions[0]
    assert (session.rank, session.state) == (0, "open")
    (theirs,) = cluster.mds[0].sessions
    assert theirs.client == client.global_id


async def test_a_directory_may_be_mounted_as_the_root(cluster: TestCluster, client: Client) -> None:
    await client.makedirs("/a/b/c")
    async with connect(cluster.conf, root="/a/b") as inner:
        assert await inner.listdir("/") == ["c"]
        await inner.mkdir("/d")
        assert (await inner.stat("/")).ino == (await client.stat("/a/b")).ino
    assert sorted(await client.listdir("/a/b")) == ["c", "d"]
    with pytest.raises(FileNotFoundError):
        async with connect(cluster.conf, root="/none"):
            pass


async def test_a_file_system_that_is_not_there(cluster: TestCluster) -> None:
    async with connect(cluster.conf, fs="cephfs") as client:
        assert client.fs_name == "cephfs"
    with pytest.raises(OSError) as missing:
        async with connect(cluster.conf, fs="other"):
            pass
    assert missing.value.errno == errno.ENOENT


async def test_whose_requests_they_are(cluster: TestCluster) -> None:
    async with connect(cluster.conf, uid=1234, gid=5678) as client:
        await client.mkdir("/d")
        seen = await client.stat("/d")
        assert (seen.uid, seen.gid) == (1234, 5678)


async def test_nobody_at_the_address_is_no_cluster(tmp_path: Path) -> None:
    async with TestCluster() as cluster:
        conf = tmp_path / "ceph.conf"
        keyring = tmp_path / "keyring"
        keyring.write_text((cluster.conf.parent / "keyring").read_text())
        conf.write_text(cluster.conf.read_text().replace(str(cluster.conf.parent), str(tmp_path)))
    with pytest.raises((ConnectionFailed, RequestTimeout)):
        async with connect(conf, timeout=1):
            pass


async def test_a_session_ends_with_its_block_however_it_ends(cluster: TestCluster) -> None:
    async def fail() -> None:
        async with connect(cluster.conf) as client:
            await client.mkdir("/d")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert len(cluster.mds[0].sessions) == 0
    entered = asyncio.Event()

    async def stay() -> None:
        async with connect(cluster.conf):
            entered.set()
            await asyncio.Event().wait()

    staying = asyncio.create_task(stay())
    await entered.wait()
    staying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await staying
    assert len(cluster.mds[0].sessions) == 0


async def test_two_clusters_at_once_are_two(cluster: TestCluster, client: Client) -> None:
    async with TestCluster() as second, connect(second.conf) as elsewhere:
        await elsewhere.mkdir("/there")
        await client.mkdir("/here")
        assert await elsewhere.listdir("/") == ["there"]
        assert await client.listdir("/") == ["here"]


async def test_a_client_is_of_no_use_in_another_process_or_loop_nor_after_its_block(cluster: TestCluster) -> None:
    """Though all that is asked for is cached."""
    async with connect(cluster.conf) as client:
        await client.mkdir("/known")
        assert (await client.stat("/known")).is_dir
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            said = "it was used"
            try:
                client.stat("/known").send(None)
            except BaseException as error:
                said = str(error)
            os.write(writing, said.encode())
            os._exit(0)
        await asyncio.to_thread(os.waitpid, child, 0)
        assert "connected before a fork" in os.read(reading, 1000).decode()
        os.close(reading), os.close(writing)
        with pytest.raises(RuntimeError, match="another event loop"):
            await asyncio.to_thread(lambda: asyncio.run(client.stat("/known")))
        assert (await client.stat("/known")).is_dir
    with pytest.raises(RuntimeError, match="is closed"):
        await client.stat("/known")
