"""A client of ours in a process of its own, so that it may be frozen."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, Self

from cephcaps import Client, SessionLost, connect

from .cluster import LiveCluster

__all__ = ["OurProcess"]

HERE = Path(__file__).parents[2]
STARTS_WITHIN = 30.0


class OurProcess:
    """An async context manager: a process that has connected, and does what it is told.

    Attributes:
        client_id: its global id.
    """

    def __init__(self, cluster: LiveCluster, recording: Path) -> None:
        self._cluster = cluster
        self._recording = recording
        self.client_id = 0

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.live.process",
            str(self._cluster.conf),
            str(self._recording),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=HERE,
            env={**os.environ, "PYTHONPATH": f"{HERE}:{HERE / 'protocol'}"},
        )
        self.client_id = await self._answer(STARTS_WITHIN)
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    async def hold(self, root: str) -> None:
        """Make a directory with a file ``dirty``, keep that open and change its mode to 0600, unflushed."""
        await self._ask("hold", root, within=STARTS_WITHIN)

    async def goes_on(self, within: float) -> None:
        """A call that needs the MDS, and an fsync of the file, succeed."""
        assert await self._ask("work", within=within) == "done"

    async def is_told(self, reason: str, within: float) -> None:
        """A call that needs the MDS ends with that SessionLost, and so does one fsync of the file."""
        started = time.monotonic()
        assert await self._ask("work", within=within) == reason
        left = within - (time.monotonic() - started)
        assert await self._ask("fsync", within=left) == reason
        assert await self._ask("fsync", within=left) == "done"

    async def leave(self, within: float) -> str:
        """Close the file and the client; gives what is left of them."""
        said: str = await self._ask("leave", within=within)
        assert await asyncio.wait_for(self._process.wait(), within) == 0
        return said

    async def _ask(self, *words: str, within: float) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(words).encode() + b"\n")
        return await self._answer(within)

    async def _answer(self, within: float) -> Any:
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), within)
        assert line, "the process has ended"
        return json.loads(line)


class Inside:
    """What goes on in the process."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._stack = contextlib.AsyncExitStack()
        self._works = 0

    async def hold(self, root: str) -> str:
        self._root = root
        await self._client.mkdir(root)
        self._file = self._client.open(f"{root}/dirty", "x")
        await self._file.__aenter__()
        await self._client.sync()
        await self._file.setattr(mode=0o600)
        return "held"

    async def work(self) -> str:
        self._works += 1
        return await self._told(self._client.mkdir(f"{self._root}/{self._works}"))

    async def fsync(self) -> str:
        return await self._told(self._file.fsync())

    async def leave(self) -> str:
        return await self._told(self._file.__aexit__(None, None, None))

    async def _told(self, call: Any) -> str:
        try:
            await call
        except SessionLost as error:
            return error.reason
        return "done"


async def main(conf: str, recording: str) -> None:
    client = await connect(conf, record=recording).__aenter__()
    inside = Inside(client)
    print(json.dumps(client.global_id), flush=True)
    said: Any = ""
    while said != "leave":
        line = await asyncio.to_thread(sys.stdin.readline)
        said, *arguments = json.loads(line)
        answer = await getattr(inside, said)(*arguments)
        if said == "leave":
            assert answer == "done", answer
            await client.__aexit__(None, None, None)
            left = [task.get_name() for task in asyncio.all_tasks() - {asyncio.current_task()}]
            answer = f"tasks {left}" if left else "nothing left"
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
