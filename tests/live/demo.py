"""A real Ceph cluster on loopback, and what the ``cephcaps`` command shows of it: ``python -m tests.live.demo``.

``CEPHCAPS_RELEASE=tentacle`` runs it on the newer release. Everything is gone again at the end.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

from .cluster import LiveCluster
from .libcephfs import LibcephfsPeer
from .release import find_release

COMMAND = Path(sys.executable).with_name("cephcaps")
CAPS = "pAsxLsXsxFsxcrwb"
"""What a lone writer of a new file is given."""

STEPS = [
    ("What we are connected to: cluster, file system, ranks, and how each connection is protected.", ["status"]),
    ("A directory, read from the MDS.", ["ls", "/"]),
    ("One file's attributes, and the capabilities that came with them.", ["stat", "/demo/hello"]),
    ("What the capabilities of a lone writer allow; this needs no cluster.", ["explain", CAPS]),
    ("A refusal is an errno, in words and as the exit code: ENOENT is 2.", ["stat", "/demo/nothing"]),
]


def main() -> int:
    release = find_release(os.environ.get("CEPHCAPS_RELEASE", "pacific"))
    missing = release.missing()
    if missing:
        print(f"no demo without Ceph daemons: {missing}", file=sys.stderr)
        return 1
    began = time.monotonic()
    with LiveCluster(release) as cluster:
        _say(cluster.version)
        _say(f"Up in {time.monotonic() - began:.1f} s: a monitor, an OSD in memory, and MDS daemons")
        _say(f"{', '.join(cluster.mds_names)}, of which {cluster.holder()} is active.")
        with LibcephfsPeer(cluster) as other:
            other.mkdir("/demo")
            other.write_file("/demo/hello", b"written by libcephfs\n")
        _say("Ceph's own client library made /demo/hello there.")
        for why, words in STEPS:
            ended = _show(why, ["-c", str(cluster.conf), *words])
            expected = 2 if words[-1] == "/demo/nothing" else 0
            if ended != expected:
                print(f"cephcaps {words[0]} ended with {ended}, not {expected}", file=sys.stderr)
                return 1
    _say("\nThe daemons have ended and their directory is gone.")
    return 0


def _show(why: str, words: list[str]) -> int:
    _say(f"\n{why}\n$ cephcaps {shlex.join(words)}")
    return subprocess.run([COMMAND, *words], timeout=60).returncode


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
