"""Four tasks at work on files that libcephfs looks at and changes too: in the end all is as computed aside."""

from __future__ import annotations

import asyncio
import random
import stat
from pathlib import Path

import pytest

from cephcaps import Client, connect

from .agreement import agrees_at_rest
from .cluster import LiveCluster
from .libcephfs import LibcephfsPeer

TASKS = 4
NAMES = 12


class Worker:
    """One task's own names in one directory all share, and what it has made of them."""

    def __init__(self, client: Client, number: int) -> None:
        self.client = client
        self.number = number
        self.random = random.Random(number)
        self.files: dict[str, tuple[int, int]] = {}  # name -> mode, size
        self.done = 0
        self._made = 0

    async def step(self) -> None:
        name = self.random.choice(sorted(self.files)) if self.files else ""
        do = self.random.choice(["create", "chmod", "chmod", "grow", "rename", "stat", "stat", "unlink"])
        path = f"/work/{name}"
        if (do == "create" and len(self.files) < NAMES) or not name:
            self._made += 1
            name = f"{self.number}-{self._made}"
            async with self.client.open(f"/work/{name}", "x", mode=0o640) as file:
                self.files[name] = (0o640, 0)
                if self.random.random() < 0.3:
                    await file.setattr(size=100)
                    self.files[name] = (0o640, 100)
        elif do == "chmod":
            mode = 0o600 + self.random.randrange(0o100)
            await self.client.chmod(path, mode)
            self.files[name] = (mode, self.files[name][1])
        elif do == "grow":
            size = self.files[name][1] + self.random.randrange(1000)
            await self.client.truncate(path, size)
            self.files[name] = (self.files[name][0], size)
        elif do == "rename":
            target = f"{name.partition('.')[0]}.{self.done}"
            await self.client.rename(path, f"/work/{target}")
            self.files[target] = self.files.pop(name)
        elif do == "unlink" and len(self.files) > 2:
            await self.client.unlink(path)
            del self.files[name]
        else:
            seen = await self.client.stat(path)
            assert (stat.S_IMODE(seen.mode), seen.size) == self.files[name]
        self.done += 1


@pytest.mark.parametrize("seconds", [15, pytest.param(180, marks=pytest.mark.soak)])
async def test_work_under_conflict_ends_as_computed_aside(cluster: LiveCluster, conf: Path, seconds: int) -> None:
    with LibcephfsPeer(cluster) as peer:
        await peer.aio.mkdir("/work")
        async with connect(conf) as client:
            tasks = asyncio.all_tasks()
            workers = [Worker(client, number) for number in range(TASKS)]
            working = True
            looked = 0

            async def work(worker: Worker) -> None:
                while working:
                    await worker.step()

            async def interfere() -> None:
                nonlocal looked
                chance = random.Random(99)
                while working:
                    names = [name for worker in workers for name in worker.files]
                    if names:
                        path = f"/work/{chance.choice(names)}"
                        try:
                            await peer.aio.statx(path)
                            if chance.random() < 0.3:
                                await peer.aio.utimes(path, atime=10**18, mtime=10**18 + looked)
                        except FileNotFoundError:
                            pass  # renamed or gone meanwhile
                        looked += 1
                    await asyncio.sleep(0)

            running = [asyncio.create_task(work(worker)) for worker in workers]
            running.append(asyncio.create_task(interfere()))
            await asyncio.sleep(seconds)
            working = False
            await asyncio.gather(*running)
            await client.sync()
            expected = {name: facts for worker in workers for name, facts in worker.files.items()}
            assert sorted(await client.listdir("/work")) == sorted(expected)
            with LibcephfsPeer(cluster) as fresh:
                for name, facts in expected.items():
                    seen = await fresh.aio.statx(f"/work/{name}")
                    assert (stat.S_IMODE(seen.mode), seen.size) == facts
            await agrees_at_rest(cluster, client)
            assert client.metrics.requests == client.metrics.dirty == client.metrics.flushing == 0
            assert client._running._waiting == {}
            assert asyncio.all_tasks() == tasks
        for name in expected:
            await peer.aio.unlink(f"/work/{name}")
        await peer.aio.rmdir("/work")
        print(f"{sum(w.done for w in workers)} operations, {looked} looks by libcephfs in {seconds} s")
    assert "client" not in str(cluster.ceph("health", "detail")).lower().replace("client.admin", "")
