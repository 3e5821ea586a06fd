"""``cephcaps demo`` and ``cephcaps serve``, as commands."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

from cephcaps import connect

COMMAND = [sys.executable, "-m", "cephcaps.cli"]


def test_the_demo_tells_its_story_in_time() -> None:
    done = subprocess.run([*COMMAND, "demo"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "Bob looks at it. It says: mode 600" in done.stdout
    assert "caps revoke" in done.stdout
    assert "session recall_state, keep 5 caps" in done.stdout
    assert "Ada -> MDS  release of" in done.stdout
    assert "Ada -> MDS  reconnect, claiming the caps on 1 inodes" in done.stdout
    assert "flushing Ax" in done.stdout.partition("reconnect, claiming")[2]
    assert done.stdout.endswith("nothing is left.\n")


async def test_serve_prints_a_conf_that_works_until_interrupted() -> None:
    serving = await asyncio.create_subprocess_exec(*COMMAND, "serve", stdout=asyncio.subprocess.PIPE)
    assert serving.stdout is not None
    conf = Path((await asyncio.wait_for(serving.stdout.readline(), 30)).decode().strip())
    async with connect(conf) as client:
        await client.mkdir("/d")
    serving.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(serving.wait(), 30) == 130
    assert not await asyncio.to_thread(conf.exists)
