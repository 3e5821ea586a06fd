"""Commands to real monitors and MDSs, over the client's own connections."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cephcaps import connect
from cephcaps.errors import MdsError

from .cluster import LiveCluster


@pytest.mark.parametrize("ms_mode", ["secure", "crc", "legacy"])
async def test_daemons_answer_as_they_answer_ceph(cluster: LiveCluster, conf: Path, ms_mode: str) -> None:
    async with connect(conf, ms_mode=ms_mode) as client:
        said = json.loads(await client.mon_command({"prefix": "fs dump", "format": "json"}))
        assert [fs["mdsmap"]["fs_name"] for fs in said["filesystems"]] == [client.fs_name]
        sessions = json.loads(await client.mds_command(0, {"prefix": "session ls", "format": "json"}))
        assert client.global_id in [session["id"] for session in sessions]
        await client.mkdir(f"/commanded-{ms_mode}")
        ino = (await client.stat(f"/commanded-{ms_mode}")).ino
        dumped = json.loads(await client.mds_command(0, {"prefix": "dump inode", "number": ino}))
        assert dumped["ino"] == ino


async def test_what_daemons_refuse_is_an_error(cluster: LiveCluster, conf: Path) -> None:
    async with connect(conf) as client:
        with pytest.raises(MdsError, match=r"command not known|not found"):
            await client.mon_command({"prefix": "no such thing"})
        with pytest.raises(OSError, match="no such thing"):
            await client.mds_command(0, {"prefix": "no such thing"})


async def test_a_key_that_may_not_ask_is_told_so(cluster: LiveCluster, conf: Path) -> None:
    name = cluster.add_client_key("user", mon="allow r", mds="allow rw", osd="allow rw")
    async with connect(conf, name=name, keyring=cluster.keyring) as client:
        with pytest.raises(PermissionError):
            await client.mds_command(0, {"prefix": "session ls"})
        with pytest.raises(PermissionError):
            await client.mon_command({"prefix": "fs fail", "fs_name": client.fs_name})


async def test_no_key_gets_into_a_recording(cluster: LiveCluster, conf: Path, tmp_path: Path) -> None:
    async with connect(conf, ms_mode="crc", record=tmp_path / "out.pcapng") as client:
        told = await client.mon_command({"prefix": "auth get-key", "entity": "client.admin", "format": "json"})
    key = json.loads(told)["key"].encode()
    assert len(key) >= 40
    assert key not in (tmp_path / "out.pcapng").read_bytes()
