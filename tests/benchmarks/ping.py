"""``python -m tests.benchmarks.ping``: what ``cephcaps ping`` shows, beside a loop timed by hand on the same cluster.

By hand, holder and asker are processes of their own, one program each of the public API; `ping` has both in one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from cephcaps import connect
from tests.live.cluster import LiveCluster
from tests.live.release import RELEASES

REPEATS = 5
ROUNDS = 200

HOLDER = """
import asyncio, sys, cephcaps

async def main():
    async with cephcaps.connect(sys.argv[1]) as client, client.open("/by-hand", "a"):
        print("ready", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            await client.chmod("/by-hand", int(line))
            print("done", flush=True)

asyncio.run(main())
"""


async def by_hand(conf: Path) -> float:
    """Median of what the asker waits, milliseconds."""
    program = (sys.executable, "-c", HOLDER, str(conf))
    pipe = asyncio.subprocess.PIPE
    holder = await asyncio.create_subprocess_exec(*program, stdin=pipe, stdout=pipe)
    assert holder.stdin is not None
    assert holder.stdout is not None
    assert await holder.stdout.readline() == b"ready\n"
    times = []
    async with connect(conf) as asker:
        for number in range(ROUNDS):
            holder.stdin.write(b"%d\n" % (0o600 + number % 2 * 0o100))
            assert await holder.stdout.readline() == b"done\n"
            began = time.perf_counter()
            await asker.stat("/by-hand")
            times.append((time.perf_counter() - began) * 1000)
            asker.release("/by-hand")
            await asyncio.sleep(0)
    holder.stdin.close()
    await holder.wait()
    return statistics.median(times)


def ping(conf: Path) -> float:
    """The median that the command shows, milliseconds."""
    words = [
        sys.executable,
        "-m",
        "cephcaps.cli",
        "-c",
        str(conf),
        "ping",
        "/pinged",
        "--count",
        str(ROUNDS),
        "-f",
        "json",
    ]
    said = subprocess.run(words, capture_output=True, check=True, env=os.environ)
    return float(json.loads(said.stdout)["median_ms"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--release", default="pacific", choices=RELEASES)
    given = parser.parse_args()
    with LiveCluster(given.release, mds=1) as cluster:
        pairs = [(ping(cluster.conf), asyncio.run(by_hand(cluster.conf))) for _ in range(REPEATS)]
    shown, timed = (statistics.median(values) for values in zip(*pairs, strict=True))
    print(
        f"{given.release}, medians of {REPEATS} x {ROUNDS} rounds in turns: ping {shown:.3f} ms, by hand {timed:.3f} ms"
    )
    print(f"they differ by {abs(shown / timed - 1):.1%}")


if __name__ == "__main__":
    main()
