"""Four tasks at work on one client, and beside it what must come of that: whatever happens to daemons meanwhile.

Each task has a directory of its own below one root, so that nothing but the order of its own calls decides what is
there in the end. Only the modes of a few shared files are changed by two tasks each: the last of either may win.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import stat
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from cephcaps import Client

from .agreement import mounted
from .cluster import LiveCluster
from .libcephfs import AT_SYMLINK_NOFOLLOW, LibcephfsPeer

__all__ = ["RESTS", "Thing", "Workload", "at_work"]

TASKS = 4
MOST_THINGS = 40
"""Of each task; it makes no more before it has removed some."""
DEEPEST = 4
"""Names below the root."""
RESTS = 0.02
"""Seconds a task rests after each call: what is tried here takes time, not much work."""
PATIENCE = 60.0
"""Seconds for a call: a failover takes up to half of that on a busy machine."""
FUTURE, PAST = 2_300_000_000, 600_000_000
"""Seconds: later than any clock says now, so that a write moves mtime there; and earlier, which only utime can do."""


@dataclass
class Thing:
    """What a name stands for; None is what is not known, for a clock had a say in it."""

    kind: int
    """``stat.S_IFREG``, ``S_IFDIR`` or ``S_IFLNK``."""
    mode: int = 0
    size: int = 0
    atime: int | None = None
    mtime: int | None = None
    target: str = ""


@dataclass
class Doing:
    """What a task is at, to be told where it does not end."""

    what: str = ""
    since: float = 0.0


class Workload:
    """Tasks that create, write, rename and remove until they are told to stop, and what is there then.

    Attributes:
        things: what has been made and not removed, by its path below ``root``.
        counts: calls that have succeeded, by kind.
        failures: what calls have raised, each with what was called as its note.
        slowest: seconds that the longest call took, and which it was.
    """

    def __init__(self, client: Client, root: str, *, seed: int = 0, rest: float = 0.0) -> None:
        self.client = client
        self.root = root
        self._rest = rest
        self.things: dict[str, Thing] = {}
        self.shared_modes: dict[str, dict[int, int]] = {}
        self.counts: Counter[str] = Counter()
        self.failures: list[BaseException] = []
        self.slowest = (0.0, "nothing")
        self.began = 0.0
        self._stopping = asyncio.Event()
        self._failed = asyncio.Event()
        self._workers = [_Worker(self, number, seed) for number in range(TASKS)]
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def operations(self) -> int:
        return sum(self.counts.values())

    async def begin(self) -> None:
        """Make the root and what is below it from the start, and set the tasks to work."""
        await self.client.mkdir(self.root, 0o755, timeout=PATIENCE)
        for pair in range(TASKS // 2):
            name = f"shared-{pair}"
            async with self.client.open(f"{self.root}/{name}", "x", mode=0o600):
                self.shared_modes[name] = {}
        for worker in self._workers:
            await worker.make_home()
        self.began = time.monotonic()
        self._tasks = [asyncio.create_task(self._run(worker)) for worker in self._workers]

    async def during(self, seconds: float) -> None:
        """Let them work for that long; ends at once where one has failed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._failed.wait()
        self.check()

    def check(self) -> None:
        """Raise what calls have raised so far."""
        if self.failures:
            raise BaseExceptionGroup("calls that failed", self.failures)

    async def moves_on(self, within: float = 30.0) -> None:
        """Return once every task has finished a call that it begins from now on."""
        before = [worker.done for worker in self._workers]
        limit = time.monotonic() + within
        while any(worker.done < was + 2 for worker, was in zip(self._workers, before, strict=True)):
            self.check()
            assert time.monotonic() < limit, f"no progress within {within:g} s: {self.pending()}"
            await asyncio.sleep(0.02)

    async def end(self, within: float = 60.0) -> None:
        """Have each task end its call, and everything made durable.

        Raises:
            BaseExceptionGroup: what calls have raised.
        """
        self._stopping.set()
        _, late = await asyncio.wait(self._tasks, timeout=within)
        stuck = self.pending() if late else []
        await self.abort()
        self.check()
        assert not stuck, f"not ended within {within:g} s: {stuck}"
        await self.client.sync(timeout=PATIENCE)

    async def abort(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def pending(self) -> list[str]:
        """Calls that have not returned, with their age."""
        now = time.monotonic()
        return [f"{w.doing.what} for {now - w.doing.since:.1f} s" for w in self._workers if w.doing.what]

    def told(self) -> str:
        """What was done, in a line."""
        seconds = time.monotonic() - self.began
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.counts.most_common())
        return (
            f"{self.operations} operations in {seconds:.1f} s ({kinds}); the longest took {self.slowest[0]:.2f} s: "
            f"{self.slowest[1]}"
        )

    async def is_as_computed(self, cluster: LiveCluster) -> None:
        """A libcephfs that was not there before must find what has been computed aside, and nothing else."""
        async with mounted(cluster) as peer:
            assert await asyncio.to_thread(self.differences, peer) == []

    def differences(self, peer: LibcephfsPeer) -> list[str]:
        """What ``peer`` sees otherwise, in words. Takes long: for a thread."""
        expected = dict(self.things)
        expected.update({name: Thing(stat.S_IFREG, -1) for name in self.shared_modes})
        names = _names_below(peer, self.root, "")
        wrong = [f"{name} is missing" for name in sorted(expected.keys() - names)]
        wrong += [f"{name} should not be there" for name in sorted(names - expected.keys())]
        common = sorted(names & expected.keys())
        stats = peer.statx_many([f"{self.root}/{name}" for name in common], flags=AT_SYMLINK_NOFOLLOW)
        for name, seen in zip(common, stats, strict=True):
            thing = expected[name]
            assert seen is not None, name
            if stat.S_IFMT(seen.mode) != thing.kind:
                wrong.append(f"{name}: kind {stat.S_IFMT(seen.mode):#o}, not {thing.kind:#o}")
                continue
            modes = {thing.mode} if thing.mode >= 0 else set(self.shared_modes[name].values()) or {0o600}
            if thing.kind != stat.S_IFLNK and stat.S_IMODE(seen.mode) not in modes:
                wrong.append(f"{name}: mode {stat.S_IMODE(seen.mode):#o}, not {[oct(mode) for mode in modes]}")
            if thing.kind == stat.S_IFREG and seen.size != thing.size:
                wrong.append(f"{name}: size {seen.size}, not {thing.size}")
            if thing.kind == stat.S_IFLNK and (target := peer.readlink(f"{self.root}/{name}")) != thing.target:
                wrong.append(f"{name}: leads to {target!r}, not {thing.target!r}")
            if thing.atime is not None and seen.atime != thing.atime:
                wrong.append(f"{name}: atime {seen.atime}, not {thing.atime}")
            if thing.mtime is not None and seen.mtime != thing.mtime:
                wrong.append(f"{name}: mtime {seen.mtime}, not {thing.mtime}")
        return wrong

    # For the workers

    async def _run(self, worker: _Worker) -> None:
        try:
            while not self._stopping.is_set():
                await worker.step()
                await asyncio.sleep(self._rest)  # what needs no message would not let anyone else have a turn
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            error.add_note(f"task {worker.number}, call {worker.done}: {worker.doing.what}")
            self.failures.append(error)
            self._failed.set()
            self._stopping.set()

    def succeeded(self, kind: str, doing: Doing) -> None:
        self.counts[kind] += 1
        self.slowest = max(self.slowest, (time.monotonic() - doing.since, doing.what))


@dataclass
class _Worker:
    """One task, in a directory of its own."""

    work: Workload
    number: int
    seed: int
    done: int = 0
    doing: Doing = field(default_factory=Doing)

    def __post_init__(self) -> None:
        self._random = random.Random(f"{self.seed} {self.number}")
        self._last_name = 0
        self._last_time = 0
        self._client = self.work.client
        self._steps: list[tuple[Callable[[], Awaitable[None]], int]] = [
            (self._create, 8),
            (self._write, 8),
            (self._chmod, 6),
            (self._utime, 6),
            (self._look, 5),
            (self._rename_file, 4),
            (self._unlink, 4),
            (self._truncate, 3),
            (self._chmod_shared, 3),
            (self._mkdir, 2),
            (self._symlink, 2),
            (self._rename_directory, 1),
            (self._rmdir, 1),
        ]

    @property
    def home(self) -> str:
        return f"{self.number}"

    async def make_home(self) -> None:
        for name in (self.home, f"{self.home}/a", f"{self.home}/b"):
            await self._client.mkdir(self._path(name), 0o750)
            self.work.things[name] = Thing(stat.S_IFDIR, 0o750)

    async def step(self) -> None:
        """One call, or one file opened, used and closed; what it has made of things is noted once it has returned."""
        (chosen,) = self._random.choices(*zip(*self._steps, strict=True))
        self.doing.since = time.monotonic()
        await chosen()
        if self.doing.what:
            self.work.succeeded(chosen.__name__.strip("_"), self.doing)
        self.doing.what = ""
        self.done += 1

    # What there is to choose from

    def _path(self, name: str) -> str:
        return f"{self.work.root}/{name}"

    def _mine(self, kind: int) -> list[str]:
        above = f"{self.home}/"
        return [name for name, thing in self.work.things.items() if thing.kind == kind and name.startswith(above)]

    def _file(self) -> str | None:
        files = self._mine(stat.S_IFREG)
        return self._random.choice(files) if files else None

    def _new_name(self, deepest: int = DEEPEST) -> str | None:
        """A name that nothing has, in any directory that is ours; None where there is enough already."""
        if sum(name.startswith(f"{self.home}/") for name in self.work.things) >= MOST_THINGS:
            return None
        folders = [name for name in [self.home, *self._mine(stat.S_IFDIR)] if name.count("/") < deepest - 1]
        self._last_name += 1
        return f"{self._random.choice(folders)}/{self._last_name}"

    def _mode(self) -> int:
        return self._random.randrange(0o1000) | 0o600

    def _later(self) -> int:
        """A time later than all before, ns."""
        self._last_time += 1
        return (FUTURE + self._last_time) * 10**9 + self._random.randrange(10**9)

    def _earlier(self) -> int:
        return (PAST + self._random.randrange(10**6)) * 10**9 + self._random.randrange(10**9)

    # Steps

    async def _create(self) -> None:
        name = self._new_name()
        if name is None:
            return
        mode, thing = self._mode(), Thing(stat.S_IFREG)
        self.doing.what = f"create {name}"
        async with self._client.open(self._path(name), "x", mode=mode, timeout=PATIENCE) as file:
            self.work.things[name] = thing
            thing.mode = mode
            if self._random.random() < 0.6:
                mode = self._mode()
                self.doing.what = f"chmod {mode:o} of the new {name}"  # under Ax, which comes with what is new
                await file.setattr(mode=mode, timeout=PATIENCE)
                thing.mode = mode
            if self._random.random() < 0.3:
                times = self._earlier(), self._earlier()
                self.doing.what = f"times of the new {name}"
                await file.setattr(atime=times[0], mtime=times[1], timeout=PATIENCE)
                thing.atime, thing.mtime = times
            self.doing.what = f"close the new {name}"

    async def _write(self) -> None:
        name = self._file()
        if name is None:
            return
        thing = self.work.things[name]
        end = self._random.choice([1, thing.size + self._random.randrange(1, 100_000), 4 << 20, 64 << 20])
        self.doing.what = f"open {name} to write"
        async with self._client.open(self._path(name), "r+", timeout=PATIENCE) as file:
            self.doing.what = f"caps to write {end} bytes of {name}"
            async with file.cap_refs(need="Fw", want="Fb", endoff=end, timeout=PATIENCE) as refs:
                when = self._later()
                refs.wrote(end, mtime=when)
                thing.size, thing.mtime = max(thing.size, end), when
            if self._random.random() < 0.2:
                self.doing.what = f"fsync {name}"
                await file.fsync(timeout=PATIENCE)
            self.doing.what = f"close {name}"

    async def _chmod(self) -> None:
        name = self._random.choice([*self._mine(stat.S_IFREG), *self._mine(stat.S_IFDIR)])
        mode = self._mode()
        if self.work.things[name].kind == stat.S_IFDIR:
            mode |= 0o700
        self.doing.what = f"chmod {mode:o} {name}"
        await self._client.chmod(self._path(name), mode, timeout=PATIENCE)
        self.work.things[name].mode = mode

    async def _chmod_shared(self) -> None:
        name, mode = f"shared-{self.number // 2}", self._mode()
        self.doing.what = f"chmod {mode:o} {name}"
        await self._client.chmod(self._path(name), mode, timeout=PATIENCE)
        self.work.shared_modes[name][self.number] = mode

    async def _utime(self) -> None:
        name = self._file()
        if name is None:
            return
        times = self._earlier(), self._random.choice([self._earlier, self._later])()
        self.doing.what = f"times of {name}"
        await self._client.utime(self._path(name), times, timeout=PATIENCE)
        thing = self.work.things[name]
        thing.atime, thing.mtime = times

    async def _truncate(self) -> None:
        name = self._file()
        if name is None:
            return
        thing = self.work.things[name]
        size = self._random.choice([0, thing.size // 2, thing.size + self._random.randrange(1, 10_000)])
        self.doing.what = f"truncate {name} to {size}"
        await self._client.truncate(self._path(name), size, timeout=PATIENCE)
        thing.size, thing.mtime = size, None

    async def _look(self) -> None:
        name = self._file()
        if name is None:
            return
        self.doing.what = f"stat {name}"
        seen, thing = await self._client.stat(self._path(name), timeout=PATIENCE), self.work.things[name]
        assert (stat.S_IMODE(seen.mode), seen.size) == (thing.mode, thing.size), name
        assert thing.mtime in (None, seen.mtime), f"{name}: mtime {seen.mtime}, not {thing.mtime}"
        assert thing.atime in (None, seen.atime), f"{name}: atime {seen.atime}, not {thing.atime}"

    async def _rename_file(self) -> None:
        source, target = self._file(), self._new_name()
        others = [name for name in self._mine(stat.S_IFREG) if name != source]
        if others and self._random.random() < 0.15:
            target = self._random.choice(others)  # which it replaces
        if source is not None and target is not None:
            await self._rename(source, target)

    async def _rename_directory(self) -> None:
        folders = [name for name in self._mine(stat.S_IFDIR) if name.count("/") == 1]
        if folders:
            self._last_name += 1
            await self._rename(self._random.choice(folders), f"{self.home}/{self._last_name}")

    async def _rename(self, source: str, target: str) -> None:
        self.doing.what = f"rename {source} to {target}"
        await self._client.rename(self._path(source), self._path(target), timeout=PATIENCE)
        things = self.work.things
        for name in [name for name in things if name == source or name.startswith(f"{source}/")]:
            things[target + name.removeprefix(source)] = things.pop(name)

    async def _mkdir(self) -> None:
        name = self._new_name(DEEPEST - 1)
        if name is None:
            return
        mode = self._mode() | 0o700
        self.doing.what = f"mkdir {name}"
        await self._client.mkdir(self._path(name), mode, timeout=PATIENCE)
        self.work.things[name] = Thing(stat.S_IFDIR, mode)

    async def _symlink(self) -> None:
        name = self._new_name()
        if name is None:
            return
        target = f"../{self._last_name}"
        self.doing.what = f"symlink {name}"
        await self._client.symlink(target, self._path(name), timeout=PATIENCE)
        self.work.things[name] = Thing(stat.S_IFLNK, target=target)

    async def _unlink(self) -> None:
        names = [*self._mine(stat.S_IFREG), *self._mine(stat.S_IFLNK)]
        if len(names) < MOST_THINGS // 4:
            return
        name = self._random.choice(names)
        self.doing.what = f"unlink {name}"
        await self._client.unlink(self._path(name), timeout=PATIENCE)
        del self.work.things[name]

    async def _rmdir(self) -> None:
        above = {name.rpartition("/")[0] for name in self.work.things}
        empty = [name for name in self._mine(stat.S_IFDIR) if name not in above]
        if not empty:
            return
        name = self._random.choice(empty)
        self.doing.what = f"rmdir {name}"
        await self._client.rmdir(self._path(name), timeout=PATIENCE)
        del self.work.things[name]


@asynccontextmanager
async def at_work(client: Client, root: str, *, seed: int = 0, rest: float = 0.0) -> AsyncIterator[Workload]:
    """A workload below ``root``, which is made, for as long as the block runs; no call of it may fail.

    Args:
        rest: seconds that each task rests after a call, where it counts that work goes on and not how much of it.
    """
    work = Workload(client, root, seed=seed, rest=rest)
    await work.begin()
    try:
        yield work
    except BaseException:
        await work.abort()
        raise
    await work.end()
    print(work.told())


def _names_below(peer: LibcephfsPeer, root: str, folder: str) -> set[str]:
    names = set()
    for entry in peer.readdir(f"{root}/{folder}" if folder else root):
        name = f"{folder}/{entry.name}" if folder else entry.name
        names.add(name)
        if entry.type == stat.S_IFDIR >> 12:
            names |= _names_below(peer, root, name)
    return names
