"""The processes that are measured, as the driver sees them: ours and libcephfs', under the same commands."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple, Self

from tests.live.cluster import LiveCluster
from tests.live.release import ENVIRONMENT

__all__ = ["Run", "Worker", "ours", "theirs"]

HERE = Path(__file__).parents[2]
THEIRS = Path(__file__).with_name("theirs.py")
TICK = os.sysconf("SC_CLK_TCK")


class Run(NamedTuple):
    """One piece of work done.

    Attributes:
        seconds, cpu: wall and processor time that the client took.
        mds: seconds of processor time that rank 0 of the cluster took meanwhile.
        answer: all that the process said.
    """

    seconds: float
    cpu: float
    mds: float
    answer: dict[str, Any]


class Worker:
    """A process that does what it is told; a context manager that ends it."""

    def __init__(self, cluster: LiveCluster, command: list[str], env: dict[str, str], cwd: Path) -> None:
        self._mds = cluster.wait_for_active()
        self._cluster = cluster
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, cwd=cwd, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def begin(self, op: str, **arguments: Any) -> None:
        """Have it begin; `end` waits."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"op": op, **arguments}) + "\n")
        self._process.stdin.flush()

    def end(self) -> dict[str, Any]:
        """What it says.

        Raises:
            RuntimeError: it failed.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args} has ended")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"{self._process.args}: {answer['error']}")
        return answer

    def do(self, op: str, **arguments: Any) -> Run:
        """Have it done, and see what that takes."""
        before = processor_time(self._cluster, self._mds)
        self.begin(op, **arguments)
        answer = self.end()
        mds = processor_time(self._cluster, self._mds) - before
        return Run(answer.pop("seconds", 0.0), answer.pop("cpu", 0.0), mds, answer)


def processor_time(cluster: LiveCluster, name: str) -> float:
    """Seconds of user and system time that a daemon has taken."""
    pid = int((cluster.directory / "run" / f"{name}.pid").read_text())
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def ours(cluster: LiveCluster, *, uvloop: bool = False) -> Worker:
    """A process with our client."""
    command = [sys.executable, "-m", "tests.benchmarks.ours", str(cluster.conf), *["--uvloop"][:uvloop]]
    return Worker(cluster, command, {**os.environ, "PYTHONPATH": f"{HERE}:{HERE / 'protocol'}"}, HERE)


def theirs(cluster: LiveCluster) -> Worker:
    """A process with libcephfs, of the release that the cluster is of."""
    script = cluster.directory / THEIRS.name
    if not script.exists():
        shutil.copy(THEIRS, script)
    command = cluster.release.command("/usr/bin/python3", cluster.release.inside(script), cluster.inner_conf)
    return Worker(cluster, command, ENVIRONMENT, cluster.directory)
