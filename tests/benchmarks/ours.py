"""cephcaps at work, behind a pipe; the commands are those of `theirs`, and only the public API is used.

``python -m tests.benchmarks.ours CONF [--uvloop]``.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import cephcaps

Answer = dict[str, Any]

PATIENCE = 300.0
"""Seconds for a call. Where daemons' sockets fail, the MDS's own to the OSD do too: it may stand still for half a
minute, and libcephfs waits for ever."""
STALL_STEP = 0.005
"""Seconds between looks at whether the loop stalls."""


def processor_time() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def resident() -> int:
    """Bytes of memory held right now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


@contextmanager
def measured(answer: Answer) -> Iterator[None]:
    cpu, began = processor_time(), time.perf_counter()
    yield
    answer["seconds"] = time.perf_counter() - began
    answer["cpu"] = processor_time() - cpu


class Ours:
    """The works; clients stand in ``clients``, and most work uses the first."""

    def __init__(self, conf: str) -> None:
        self.conf = conf
        self.clients: list[cephcaps.Client] = []

    async def connect(self, path: str | None = None, clients: int = 1, options: dict[str, Any] | None = None) -> Answer:
        """Connect anew; with ``path`` the time counts until its stat is there."""
        answer: Answer = {}
        with measured(answer):
            for _ in range(clients):
                client = cephcaps.connect(self.conf, request_timeout=PATIENCE, **options or {})
                self.clients.append(await client.__aenter__())
            if path is not None:
                await self.clients[-1].stat(path)
        answer["ids"] = [client.global_id for client in self.clients]
        return answer

    async def leave(self) -> Answer:
        answer: Answer = {}
        with measured(answer):
            await asyncio.gather(*(client.__aexit__(None, None, None) for client in self.clients))
        self.clients.clear()
        return answer

    async def make(self, folders: list[str]) -> Answer:
        for folder in folders:
            await self.clients[0].makedirs(folder, exist_ok=True)
        return {}

    async def create(self, folder: str, count: int, workers: int, clients: int = 1) -> Answer:
        """Create and close ``count`` files, ``workers`` at a time, through one client or spread over some."""
        answer: Answer = {}
        chosen = self.clients[:clients]
        assert len(chosen) == clients

        async def one(number: int) -> None:
            async with chosen[number % clients].open(f"{folder}/{number}", "x"):
                pass

        with pauses(answer):
            with measured(answer):
                await spread(one, count, workers)
            await asyncio.sleep(2 * STALL_STEP)
        return answer

    async def chmod(self, folder: str, count: int, mode: int, workers: int) -> Answer:
        """Change the mode of each file, then have all of it safe; ``exclusive``: on how many Ax is held before."""
        client, answer = self.clients[0], dict[str, Any]()
        held = [client.inode_caps(f"{folder}/{number}") for number in range(count)]
        answer["exclusive"] = sum(each is not None and "Ax" in each.issued for each in held)
        with measured(answer):
            await spread(lambda number: client.chmod(f"{folder}/{number}", mode), count, workers)
            await client.sync()
        return answer

    async def alternate(self, path: str, rounds: int) -> Answer:
        """The first client changes the mode of a file, the second sees it."""
        one, other = self.clients[:2]
        async with one.open(path, "w"):
            pass
        answer: Answer = {}
        wrong = 0
        with measured(answer):
            for number in range(rounds):
                mode = 0o600 + number % 64
                await one.chmod(path, mode)
                wrong += (await other.stat(path)).mode & 0o7777 != mode
        return {**answer, "wrong": wrong}

    async def stat(self, folders: list[str], each: int, count: int, seed: int, workers: int) -> Answer:
        """The stat of ``count`` files among ``each`` in every folder, in random order."""
        client, answer = self.clients[0], dict[str, Any]()
        paths = [f"{folder}/{number}" for folder in folders for number in range(each)]
        chosen = random.Random(seed).choices(paths, k=count)
        with measured(answer):
            await spread(lambda number: client.stat(chosen[number]), count, workers)
        return answer

    async def list(self, folders: list[str]) -> Answer:
        """Every entry of the folders with its stat."""
        client, answer = self.clients[0], dict[str, Any]()
        entries = links = 0
        with measured(answer):
            for folder in folders:
                async for entry in client.scandir(folder):
                    links += entry.stat.nlink
                    entries += 1
        return {**answer, "entries": entries, "links": links, "memory": resident()}

    async def drop(self, path: str) -> Answer:
        """Let go of what is cached."""
        answer: Answer = {}
        with measured(answer):
            self.clients[0].drop_caches()
            await self.clients[0].stat(path)
        return answer

    async def memory(self) -> Answer:
        return {"memory": resident()}


async def spread(one: Callable[[int], Awaitable[object]], count: int, workers: int) -> None:
    """``one(number)`` for each number, by some tasks."""
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            await one(number)

    if workers == 1:
        await work()
    else:
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(work())


@contextmanager
def pauses(answer: Answer) -> Iterator[None]:
    """Takes down the longest time for which the loop took no turn, and the longest garbage collection, in seconds."""
    loop = asyncio.get_running_loop()
    last = began = time.perf_counter()
    stall = longest = 0.0

    def look() -> None:
        nonlocal last, stall, timer
        now = time.perf_counter()
        stall = max(stall, now - last - STALL_STEP)
        last = now
        timer = loop.call_later(STALL_STEP, look)

    def collecting(phase: str, info: dict[str, int]) -> None:
        nonlocal began, longest
        if phase == "start":
            began = time.perf_counter()
        else:
            longest = max(longest, time.perf_counter() - began)

    timer = loop.call_later(STALL_STEP, look)
    gc.callbacks.append(collecting)
    try:
        yield
    finally:
        gc.callbacks.remove(collecting)
        timer.cancel()
        answer["stall"], answer["gc pause"] = stall, longest


async def serve(conf: str) -> None:
    ours = Ours(conf)
    while line := await asyncio.to_thread(sys.stdin.readline):
        command = json.loads(line)
        try:
            answer = await getattr(ours, command.pop("op"))(**command)
        except Exception as error:
            answer = {"error": repr(error)}
        print(json.dumps(answer), flush=True)
    if ours.clients:
        await ours.leave()


if __name__ == "__main__":
    factory = None
    if "--uvloop" in sys.argv:
        from uvloop import new_event_loop as factory
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(serve(sys.argv[1]))
