"""``holders``, ``doctor`` and ``top`` on a real cluster: a client of libcephfs keeps what another one waits for."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import subprocess
import sys
import termios
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cephcaps import Caps

from .cluster import LiveCluster
from .libcephfs import LibcephfsPeer
from .waiting import until

LATE = 6.0
"""Seconds a revoke must be outstanding to be told."""
WARNED_WITHIN = 180.0


@asynccontextmanager
async def stuck(cluster: LiveCluster, path: str) -> AsyncIterator[tuple[LibcephfsPeer, LibcephfsPeer]]:
    """A client that froze with ``path`` open for writing, and another that waits for its size."""
    holder = await asyncio.to_thread(LibcephfsPeer, cluster)
    asker = await asyncio.to_thread(LibcephfsPeer, cluster, timeout=120.0)
    try:
        fd = await holder.aio.open(path, os.O_CREAT | os.O_RDWR)
        await holder.aio.write(fd, 0, b"dirty")
        holder.freeze()
        waiting = asyncio.create_task(asker.aio.statx(path))
        await asyncio.sleep(LATE)
        assert not waiting.done()
        yield holder, asker
        holder.thaw()
        await waiting
    finally:
        holder.thaw()
        await asyncio.to_thread(holder.close)
        await asyncio.to_thread(asker.close)


async def said(conf: Path, *words: str) -> tuple[int, str]:
    """Exit code and output of a command."""
    command = [sys.executable, "-m", "cephcaps.cli", "-c", str(conf), *words]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = await process.communicate()
    assert not err, err
    assert process.returncode is not None
    return process.returncode, out.decode()


async def test_who_keeps_what_from_whom(cluster: LiveCluster, conf: Path) -> None:
    assert (await said(conf, "doctor"))[0] in (0, 1)
    async with stuck(cluster, "/kept") as (holder, asker):
        code, out = await said(conf, "doctor", "-f", "json")
        assert code == 1
        (late,) = json.loads(out)["revokes"]
        assert late["client"] == holder.instance_id
        assert int(Caps(late["asked_back"]) & "Fw")
        assert late["age_s"] > LATE - 1
        (op,) = late["waiting"] or json.loads(out)["waiting"]
        assert op["client"] == asker.instance_id

        code, out = await said(conf, "doctor")
        (line,) = (line for line in out.splitlines() if "has not given back" in line)
        assert f"client.{holder.instance_id} " in line
        assert late["ino"] in line

        code, out = await said(conf, "holders", late["ino"], "-f", "json")
        shown = {one["client"]: one for one in json.loads(out)["holders"]}
        assert shown[holder.instance_id]["asked_back"] == late["asked_back"]
        if cluster.release.name != "pacific":  # whose MDS is not asked for paths
            assert late["path"] == "/kept"
            assert late["waiting"]
            assert json.loads(out)["path"] == "/kept"
    code, out = await said(conf, "holders", "/kept")
    assert code == 0
    assert f"client.{holder.instance_id} " not in out


@pytest.mark.soak
async def test_behind_a_late_release(new_cluster: Callable[..., LiveCluster]) -> None:
    """A client that lives on and keeps what it was asked for: Ceph's warning has its number, and no more."""
    cluster = new_cluster(mds=1)
    options = {"client_inject_release_failure": "true"}
    holder = await asyncio.to_thread(LibcephfsPeer, cluster, options=options)
    asker = await asyncio.to_thread(LibcephfsPeer, cluster, timeout=300.0)
    fd = await holder.aio.open("/late", os.O_CREAT | os.O_RDWR)
    await holder.aio.write(fd, 0, bytes(4096))
    asked = asyncio.create_task(asker.aio.statx("/late"))

    async def warned() -> bool:
        return "MDS_CLIENT_LATE_RELEASE" in (await cluster.aio.ceph("health", "detail"))["checks"]

    await until(warned, "Ceph warns", within=WARNED_WITHIN)
    (detail,) = (await cluster.aio.ceph("health", "detail"))["checks"]["MDS_CLIENT_LATE_RELEASE"]["detail"]
    assert "/late" not in detail["message"]
    code, out = await said(cluster.conf, "doctor")
    print(detail["message"], out, sep="\n")
    assert code == 1
    assert "MDS_CLIENT_LATE_RELEASE" in out
    (line,) = (line for line in out.splitlines() if "has not given back" in line)
    assert f"client.{holder.instance_id} " in line
    if cluster.release.name != "pacific":  # whose MDS is not asked for paths, and with them for what it hides elsewhere
        assert " not given back Fsxrw of " in line
        assert " /late for " in line
    await asyncio.to_thread(holder.kill)
    await cluster.aio.mds_admin({"prefix": "session evict", "filters": [f"id={holder.instance_id}"]})
    await asked
    await asyncio.to_thread(asker.close)


async def test_top_draws_and_obeys_keys(cluster: LiveCluster, conf: Path) -> None:
    """In a terminal of 80 columns and 24 lines."""
    peers = [await asyncio.to_thread(LibcephfsPeer, cluster) for _ in range(2)]
    await peers[0].aio.mkdir("/top")
    terminal, theirs = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    command = [sys.executable, "-m", "cephcaps.cli", "-c", str(conf), "top", "--every", "0.5"]
    shown = await asyncio.create_subprocess_exec(*command, stdin=theirs, stdout=theirs, stderr=theirs)
    screens: list[str] = []

    async def screen(having: str) -> list[str]:
        """The newest whole screen, once it has that."""
        async with asyncio.timeout(30):
            while True:
                screens.append((await asyncio.to_thread(os.read, terminal, 65536)).decode())
                for drawn in reversed("".join(screens).split("\x1b[H\x1b[2J")):
                    if having in drawn:
                        return drawn.splitlines()

    lines = await screen("by caps")
    os.write(terminal, b"r")
    lines = await screen("by recall")
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    os.write(terminal, b"q")
    assert await asyncio.wait_for(shown.wait(), 30) == 0
    os.close(terminal)
    os.close(theirs)
    for peer in peers:
        await asyncio.to_thread(peer.close)
