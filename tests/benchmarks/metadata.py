"""What a user of CephFS waits for, done by us and by libcephfs in turns, on one cluster: the works B3 to B10 and B12 to
B14 of `table`.

Every figure is a median of interleaved repeats; libcephfs' is that of the number of threads with which it does best.
Each work checks that it was what it says: see what is asserted there.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.live.cluster import LiveCluster
from tests.live.waiting import wait_until

from .capture import compiled
from .row import Row
from .workers import Run, Worker, ours, theirs

__all__ = ["Metadata"]

REPEATS = 3
THREADS = (1, 4, 16, 64)
"""Of libcephfs, the best of which counts."""
TASKS = 64
"""Of ours."""
BIG = {"client_cache_size": "1000000"}
"""For libcephfs, which keeps 16,384 inodes otherwise."""
ATTEMPTS = 10
EACH = 1000
"""Files in one folder of the works over many."""
DAEMONS = ("mon.a", "osd.0", "mds.a")

Runs = dict[str, list[Run]]


def best(runs: Runs) -> str:
    """Which was fastest by its median."""
    return min(runs, key=lambda name: seconds(runs[name]))


def seconds(runs: list[Run]) -> float:
    return statistics.median(run.seconds for run in runs)


def cpu(runs: list[Run]) -> float:
    return statistics.median(run.cpu for run in runs)


def share(runs: list[Run]) -> float:
    """Of one processor, what the MDS took."""
    return statistics.median(run.mds / run.seconds for run in runs)


class Metadata:
    """One cluster, and the works on it.

    Args:
        repeats: how often each is done, in turns.
    """

    def __init__(self, cluster: LiveCluster, repeats: int = REPEATS) -> None:
        self._cluster = cluster
        self._repeats = repeats
        self._folders = 0
        self._trees: dict[int, list[str]] = {}

    # What the works share

    def _folder(self) -> str:
        self._folders += 1
        return f"/bench{self._folders}"

    @contextmanager
    def _pair(
        self, our_options: dict[str, Any] | None = None, their_options: dict[str, str] | None = None, clients: int = 1
    ) -> Iterator[tuple[Worker, Worker]]:
        """A process of each kind, connected."""
        with ours(self._cluster) as we, theirs(self._cluster) as they:
            we.do("connect", options=our_options or {}, clients=clients)
            they.do("connect", options=their_options or {}, clients=clients)
            yield we, they
            we.do("leave")
            they.do("leave")

    def _tree(self, files: int) -> list[str]:
        """Folders with that many files in all, made once."""
        made = self._trees.get(files)
        if made is None:
            top = self._folder()
            made = self._trees[files] = [f"{top}/{number}" for number in range(files // EACH)]
            with theirs(self._cluster) as they:
                they.do("connect")
                they.do("make", folders=made)
                for folder in made:
                    they.do("create", folder=folder, count=EACH, workers=16)
                they.do("leave")
        return made

    def _requests(self) -> int:
        """How many client requests the MDS has handled."""
        counters: dict[str, dict[str, int]] = self._cluster.mds_admin("perf dump")
        return counters["mds_server"]["handle_client_request"]

    def _num_caps(self, client: int) -> int:
        session = self._cluster.session(client)
        assert session is not None
        return int(session["num_caps"])

    def _row(
        self, number: str, work: str, target: float, we: list[Run], they: Runs, count: int, *, by_cpu: bool = False
    ) -> list[Row]:
        """Ours beside theirs: their time to ours, and by request our processor time to theirs."""
        name = best(they)
        facts = {
            "operations": count,
            "our cpu us": cpu(we) / count * 1e6,
            "their cpu us": cpu(they[name]) / count * 1e6,
            "mds share, ours": share(we),
            "mds share, theirs": share(they[name]),
            "seconds, ours": [run.seconds for run in we],
            "seconds, theirs": {each: [run.seconds for run in runs] for each, runs in they.items()},
        }
        us, them = seconds(we), seconds(they[name])
        rows = [Row(number, work, f">= {target:g}x", us, them, "s", them / us, target, name, facts)]
        if by_cpu:
            ours_each, theirs_each = cpu(we) / count * 1e6, cpu(they[name]) / count * 1e6
            ratio = ours_each / theirs_each
            said = f"{work}: client cpu per op"
            rows.append(Row(number, said, "<= 1x", ours_each, theirs_each, "us", ratio, 1.0, name, {}, less=True))
        return rows

    # The works

    def create(self, count: int = 6000, number: str = "B3", target: float = 1.0) -> list[Row]:
        with self._pair() as (we, they):
            our_runs, their_runs = self._creates(we, they, count)
        work = f"create and close {count} files"
        return self._row(number, work, target, our_runs, their_runs, count, by_cpu=number == "B3")

    def _creates(self, we: Worker, they: Worker, count: int) -> tuple[list[Run], Runs]:
        def one(worker: Worker, workers: int) -> Run:
            folder = self._folder()
            worker.do("make", folders=[folder])
            return worker.do("create", folder=folder, count=count, workers=workers)

        one(we, TASKS), one(they, 4)  # warm
        return self._in_turns(lambda: one(we, TASKS), lambda workers: one(they, workers))

    def _in_turns(self, we: Callable[[], Run], they: Callable[[int], Run]) -> tuple[list[Run], Runs]:
        our_runs: list[Run] = []
        their_runs: Runs = {f"{workers} threads": [] for workers in THREADS}
        for _ in range(self._repeats):
            our_runs.append(we())
            for workers in THREADS:
                their_runs[f"{workers} threads"].append(they(workers))
        return our_runs, their_runs

    def chmod(self, count: int = 3000) -> list[Row]:
        """Every file's Ax is held before its chmod, as the client has it: so it is a change in memory, then a flush."""

        def one(worker: Worker, workers: int) -> Run:
            held = 0
            for _ in range(ATTEMPTS):  # libcephfs gives Ax back after 5 s, which a busy machine may take to create them
                folder = self._folder()
                worker.do("make", folders=[folder])
                worker.do("create", folder=folder, count=count, workers=16)
                run = worker.do("chmod", folder=folder, count=count, mode=0o600, workers=workers)
                held = run.answer["exclusive"]
                if held == count:
                    return run
            raise AssertionError(f"Ax is held on {held} of {count} files")

        with self._pair() as (we, they):
            our_runs, their_runs = self._in_turns(lambda: one(we, TASKS), lambda workers: one(they, workers))
        work = f"chmod {count} new files, sync"
        return self._row("B4", work, 1.0, our_runs, their_runs, count, by_cpu=True)

    def alternate(self, rounds: int = 1000) -> list[Row]:
        def one(worker: Worker) -> Run:
            folder = self._folder()
            worker.do("make", folders=[folder])
            run = worker.do("alternate", path=f"{folder}/one", rounds=rounds)
            assert run.answer["wrong"] == 0, run
            return run

        with self._pair(clients=2) as (we, they):
            our_runs, their_runs = [], []
            for _ in range(self._repeats):
                our_runs.append(one(we))
                their_runs.append(one(they))
        work = f"{rounds} rounds of chmod and another's stat"
        return self._row("B5", work, 1.0, our_runs, {"1 thread": their_runs}, rounds)

    def stat(self, files: int = 100_000) -> list[Row]:
        """The MDS hears of no request meanwhile."""
        tree = self._tree(files)

        def one(worker: Worker, workers: int) -> Run:
            before = self._requests()
            run = worker.do("stat", folders=tree, each=EACH, count=files, seed=workers, workers=workers)
            asked = self._requests() - before
            assert asked == 0, f"{asked} requests to the MDS for what is cached"
            return run

        with self._pair(their_options=BIG) as (we, they):
            assert we.do("list", folders=tree).answer["entries"] == files
            assert they.do("list", folders=tree).answer["entries"] == files
            our_runs, their_runs = self._in_turns(lambda: one(we, 1), lambda workers: one(they, workers))
        return self._row("B6", f"stat, {files} cached paths in random order", 2.0, our_runs, their_runs, files)

    def memory(self, files: int = 200_000) -> list[Row]:
        tree = self._tree(files)
        first, rest = tree[:1], tree[1:]
        sizes: dict[str, list[float]] = {"ours": [], "theirs": []}
        for _ in range(min(self._repeats, 2)):  # it hardly differs
            with self._pair(their_options=BIG) as pair:
                for name, worker in zip(sizes, pair, strict=True):
                    before = worker.do("list", folders=first).answer["memory"]  # warm
                    held = worker.do("list", folders=rest).answer
                    assert held["entries"] == files - EACH
                    sizes[name].append((held["memory"] - before) / held["entries"])
        us, them = statistics.median(sizes["ours"]), statistics.median(sizes["theirs"])
        work = f"memory per cached inode, {files} files"
        return [Row("B7", work, "<= 0.4x", us, them, "B", us / them, 0.4, "", {"runs": sizes}, less=True)]

    def drop(self, files: int = 50_000) -> list[Row]:
        """Until the MDS counts no more than a few caps of the client."""
        tree = self._tree(files)

        def one(make: Callable[[LiveCluster], Worker], options: dict[str, str]) -> Run:
            with make(self._cluster) as worker:
                [client] = worker.do("connect", options=options).answer["ids"]
                worker.do("list", folders=tree)
                assert self._num_caps(client) >= files
                began = time.perf_counter()
                worker.begin("drop", path="/")
                wait_until(lambda: self._num_caps(client) <= 10, "the caps are dropped", within=120.0)
                took = time.perf_counter() - began
                return Run(took, worker.end()["cpu"], 0.0, {})

        our_runs, their_runs = [], []
        for _ in range(self._repeats):
            our_runs.append(one(ours, {}))
            their_runs.append(one(theirs, BIG))
        return self._row("B8", f"drop {files} caps", 1.0, our_runs, {"": their_runs}, files)

    def listing(self, files: int = 20_000) -> list[Row]:
        """Fresh mounts; the folder is one."""
        with theirs(self._cluster) as they:
            they.do("connect")
            folder = self._folder()
            they.do("make", folders=[folder])
            they.do("create", folder=folder, count=files, workers=16)
            they.do("leave")

        def one(worker: Worker, options: dict[str, str]) -> Run:
            worker.do("connect", options=options)
            run = worker.do("list", folders=[folder])
            assert run.answer["entries"] == run.answer["links"] == files
            worker.do("leave")
            return run

        with ours(self._cluster) as we, theirs(self._cluster) as they:
            our_runs, their_runs = [one(we, {})][:0], [one(they, BIG)][:0]  # once, to be warm
            for _ in range(self._repeats):
                our_runs.append(one(we, {}))
                their_runs.append(one(they, BIG))
        return self._row("B9", f"list {files} entries with stat", 1.0, our_runs, {"": their_runs}, files)

    def connect(self, repeats: int = 15) -> list[Row]:
        def one(worker: Worker) -> Run:
            run = worker.do("connect", path="/")
            worker.do("leave")
            return run

        with ours(self._cluster) as we, theirs(self._cluster) as they:
            one(we), one(they)
            our_runs, their_runs = [], []
            for _ in range(repeats):
                our_runs.append(one(we))
                their_runs.append(one(they))
        rows = self._row("B10", "connect to first stat", 1.0, our_runs, {"": their_runs}, 1)
        self._cold()  # once, for the byte code
        cold = statistics.median(self._cold() for _ in range(self._repeats + 2))
        return [*rows, Row("B10", "cold `cephcaps stat`", "< 0.4 s", cold, None, "s", cold, 0.4, "", {}, less=True)]

    def _cold(self) -> float:
        command = [str(Path(sys.executable).with_name("cephcaps")), "-c", str(self._cluster.conf), "stat", "/"]
        if not Path(command[0]).exists():
            command[:1] = [sys.executable, "-m", "cephcaps.cli"]
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=compiled())
        return time.perf_counter() - began

    def secure(self) -> list[Row]:
        """Ours in crc mode beside ours in secure mode, works of B3 to B5."""
        rows = []
        with ExitStack() as stack:
            workers = {}
            for mode in ("secure", "crc"):
                workers[mode] = stack.enter_context(ours(self._cluster))
                workers[mode].do("connect", options={"ms_mode": mode}, clients=2)
            runs: dict[str, dict[str, list[Run]]] = {}
            for turn in range(self._repeats + 1):
                for mode, worker in workers.items():
                    folder = self._folder()
                    worker.do("make", folders=[folder])
                    for work, run in {
                        "create": worker.do("create", folder=folder, count=3000, workers=TASKS),
                        "chmod": worker.do("chmod", folder=folder, count=3000, mode=0o600, workers=TASKS),
                        "alternate": worker.do("alternate", path=f"{folder}/one", rounds=300),
                    }.items():
                        if turn:  # the first warms
                            runs.setdefault(work, {}).setdefault(mode, []).append(run)
        for work, found in runs.items():
            secure, crc = seconds(found["secure"]), seconds(found["crc"])
            facts = {mode: [run.seconds for run in each] for mode, each in found.items()}
            said = f"secure mode beside crc: {work}"
            rows.append(Row("B12", said, ">= 0.85x", secure, crc, "s", crc / secure, 0.85, "crc", facts))
        return rows

    def many(self, count: int = 6000, clients: int = 200) -> list[Row]:
        """No file is another's, so nobody waits for anybody; the folder is one."""
        runs: dict[int, list[Run]] = {1: [], clients: []}
        with ours(self._cluster) as we:
            we.do("connect", clients=clients)
            for _ in range(self._repeats):
                for number, found in runs.items():
                    folders = [self._folder()]
                    we.do("make", folders=folders)
                    workers = max(TASKS, number)
                    found.append(we.do("create", folder=folders[0], count=count, workers=workers, clients=number))
            we.do("leave")
        one, all_ = seconds(runs[1]), seconds(runs[clients])
        stall = max(run.answer["stall"] for run in runs[clients])
        pause = max(run.answer["gc pause"] for run in runs[clients])
        facts = {str(number): [run.seconds for run in found] for number, found in runs.items()}
        work = f"create {count} files over {clients} sessions"
        return [
            Row("B13", work, ">= 0.9x", all_, one, "s", one / all_, 0.9, "one session", facts),
            Row("B13", "longest stall", "<= 250 ms", stall * 1000, None, "ms", stall, 0.25, "", {}, less=True),
            Row("B13", "longest gc pause", "<= 250 ms", pause * 1000, None, "ms", pause, 0.25, "", {}, less=True),
        ]  # fmt: skip

    def injected(self, count: int = 3000) -> list[Row]:
        """Daemons cut every hundredth time they read or write: both suffer what they do."""
        with self._pair() as (we, they):
            self._inject(100)
            try:
                our_runs, their_runs = self._creates(we, they, count)
            finally:
                self._inject(0)
        return self._row("B14", f"create {count} files, sockets failing", 1.5, our_runs, their_runs, count)

    def _inject(self, one_in: int) -> None:
        for name in self._cluster.mds_names:
            command = {"prefix": "config set", "var": "ms_inject_socket_failures", "val": [str(one_in)]}
            self._cluster.admin(name, command)
