"""Decoding a capture of libcephfs: ``cephcaps decode`` beside Wireshark's tshark, and the memory that it takes.

Run by `make bench` or ``python -m tests.benchmarks.capture``; needs root, Ceph and tshark. The capture is made once and
kept in ``.benchmarks``. All figures are of one run: medians of interleaved repeats, output to /dev/null.

Wireshark 4.0 stumbles over the challenge in Ceph's handshake: it then reads one direction of a connection or none, by
luck, and now and then very slowly. So it is measured twice: on the capture as it is, and on a copy in which these bytes
are silenced (`tests.live.tshark`), which it reads whole, save what it loses behind requests that it misreads.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from cephcaps.trace import Traced, read_trace
from tests.live.capturing import missing_program
from tests.live.release import RELEASES, find_release
from tests.live.tshark import without_challenges

from .make_capture import FIRST_PORT, capture_libcephfs, repeat_capture

FOLDER = Path(__file__).parents[2] / ".benchmarks"
SIZE, LARGE = 50_000_000, 1_000_000_000
REPEATS = 3

JSON = "cephcaps decode -f json"
FIELDS = (
    *("frame.time_epoch", "ip.src", "ip.dst", "tcp.srcport", "ceph.seq", "ceph.tid", "ceph.type"),
    *(f"ceph.msg.client_caps.{name}" for name in ("op", "inode", "seq", "new", "wanted", "dirty")),
    *("ceph.msg.client_reply.op", "ceph.msg.client_reply.result", "ceph.msg.client_sess.op"),
)
"""What one would ask tshark for."""


class Run(NamedTuple):
    seconds: float
    processor: float
    """Seconds of it, user and system."""
    memory: int
    """Peak resident set, bytes."""


LAUNCHER = """
import json, os, resource, sys, time
began = time.perf_counter()
ended = os.waitstatus_to_exitcode(os.wait4(os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ), 0)[1])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
seconds = time.perf_counter() - began
print(json.dumps([ended, seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024]), file=sys.stderr)
"""
"""Between us and what is measured: a child's peak memory begins with that of the process that forked it."""


def compiled() -> dict[str, str]:
    """An environment in which Python keeps byte code, as that of an installed package is kept, whatever ours says."""
    keep = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return keep | {"PYTHONPYCACHEPREFIX": str(FOLDER / "pycache")}


def measure(command: list[str]) -> Run:
    done = subprocess.run(
        [sys.executable, "-S", "-E", "-c", LAUNCHER, *command],
        env=compiled(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=True,
    )
    *said, figures = done.stderr.splitlines()
    ended, *used = json.loads(figures)
    if ended:
        raise RuntimeError(f"{' '.join(command)} ended with {ended}: {said}")
    return Run(*used)


def commands(path: Path, silenced: Path) -> dict[str, list[str]]:
    """What is measured: all fields as JSON lines with both, ours in words, counts only, and tshark with a few fields,
    which is the least it can do; that also on the copy of which it reads all."""
    decode = [sys.executable, "-m", "cephcaps.cli", "decode", str(path)]
    fields = [word for field in FIELDS for word in ("-e", field)]
    return {
        JSON: [*decode, "-f", "json"],
        "cephcaps decode": decode,
        "cephcaps decode --summary": [*decode, "--summary"],
        "tshark -T ek -J ceph": ["tshark", "-n", "-r", str(path), "-T", "ek", "-J", "ceph"],
        "tshark -T fields": ["tshark", "-n", "-r", str(path), "-T", "fields", *fields],
        "same, challenges silenced": ["tshark", "-n", "-r", str(silenced), "-T", "fields", *fields],
    }


def composition(path: Path, silenced: Path) -> dict[str, Any]:
    """What is in the capture, as we and as Wireshark read it."""
    counts: Counter[tuple[bool, int]] = Counter()
    names: dict[int, str] = {}
    sizes = problems = 0
    with path.open("rb") as file:
        for item in read_trace(file):
            if isinstance(item, Traced):
                counts[item.to_daemon, item.header.type] += 1
                names[item.header.type] = type(item.message).__name__
                sizes += sum(map(len, item.segments))
            else:
                problems += 1
    return {
        "bytes": path.stat().st_size,
        "packets": packet_count(path),
        "messages": sum(counts.values()),
        "message bytes": sizes,
        "problems": problems,
        "to the MDS": {names[type]: n for (up, type), n in counts.most_common() if up},
        "to clients": {names[type]: n for (up, type), n in counts.most_common() if not up},
        "tshark": wireshark_counts(path),
        "silenced": wireshark_counts(silenced),
    }


def packet_count(path: Path) -> int:
    said = subprocess.run(["capinfos", "-c", "-M", "-T", "-r", str(path)], capture_output=True, text=True, check=True)
    return int(said.stdout.split()[-1])


def wireshark_counts(path: Path) -> dict[str, int]:
    """Messages that tshark has, by who sent them."""
    command = [
        "tshark",
        "-n",
        "-r",
        str(path),
        "-Y",
        "ceph.type",
        "-T",
        "fields",
        "-e",
        "tcp.srcport",
        "-e",
        "ceph.type",
    ]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    counts = {"to clients": 0, "to the MDS": 0}
    for line in said.splitlines():
        port, types = line.split("\t")
        counts["to clients" if int(port) < FIRST_PORT else "to the MDS"] += types.count(",") + 1
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--fresh", action="store_true", help="make the capture anew")
    parser.add_argument("--release", default="pacific", choices=RELEASES)
    given = parser.parse_args()
    release = find_release(given.release)
    missing = missing_program("dumpcap") or missing_program("tshark") or release.missing()
    if missing:
        sys.exit(f"cannot compare: {missing}")
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{given.release}.pcapng"
    if given.fresh or not path.exists():
        new = FOLDER / "new.pcapng"
        capture_libcephfs(release, new, SIZE)
        new.rename(path)
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        silenced, large = Path(folder) / "silenced.pcapng", Path(folder) / "large.pcapng"
        without_challenges(path, silenced)
        repeat_capture(path, large, LARGE)
        report = {"capture": composition(path, silenced), **figures(path, silenced, large)}
    print_report(report)
    if given.json:
        given.json.write_text(json.dumps(report, indent=2) + "\n")


def figures(path: Path, silenced: Path, large: Path) -> dict[str, Any]:
    runs: dict[str, list[Run]] = {name: [] for name in commands(path, silenced)}
    for command in commands(path, silenced).values():
        if command[0] == sys.executable:
            measure(command)  # once, for the byte code
    for _ in range(REPEATS):
        for name, command in commands(path, silenced).items():
            runs[name].append(measure(command))
    of_large = measure(commands(large, silenced)[JSON])
    return {
        "runs": {name: median(each)._asdict() for name, each in runs.items()},
        "large": {"command": JSON, "bytes": large.stat().st_size, **of_large._asdict()},
    }


def median(runs: list[Run]) -> Run:
    seconds, processor, memory = (statistics.median(values) for values in zip(*runs, strict=True))
    return Run(seconds, processor, int(memory))


def print_report(report: dict[str, Any]) -> None:
    capture, runs, large = report["capture"], report["runs"], report["large"]
    print(f"{capture['bytes'] / 1e6:.1f} MB, {capture['packets']} packets, {capture['messages']} messages of libcephfs")
    for way in ("to clients", "to the MDS"):
        kinds = ", ".join(f"{n} {name}" for name, n in capture[way].items())
        print(f"  {way}: {kinds}; tshark reads {capture['tshark'][way]}, silenced {capture['silenced'][way]}")
    ours = runs[JSON]["processor"]
    print(f"{'':28}{'seconds':>9}{'cpu s':>9}{'x json':>9}{'us/packet':>11}{'peak MB':>9}")
    for name, run in runs.items():
        times = f"{run['seconds']:9.2f}{run['processor']:9.2f}{run['processor'] / ours:9.2f}"
        print(f"{name:28}{times}{run['processor'] / capture['packets'] * 1e6:11.1f}{run['memory'] / 1e6:9.0f}")
    size = f"{large['bytes'] / 1e6:.0f} MB"
    print(f"{size}, {large['command']}: {large['processor']:.1f} cpu s, peak {large['memory'] / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
