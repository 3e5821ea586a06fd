"""The table of all figures, and the file that keeps them beside what they were measured on."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.live.release import find_release

from .row import Row

__all__ = ["print_row", "print_titles", "write"]

FOLDER = Path(__file__).parents[2] / ".benchmarks"
LINE = "{:4} {:46} {:>10} {:>13} {:>13} {:>7} {:5} {}"
PACKAGES = ("anyio", "construct", "cryptography", "google-crc32c", "msgspec", "structlog")


def print_titles() -> None:
    print(LINE.format("", "work", "target", "ours", "peer", "ratio", "met?", "peer's way"), flush=True)


def print_row(row: Row) -> None:
    peer = "" if row.peer is None else f"{row.peer:.4g} {row.unit}"
    ratio = "" if row.peer is None else f"{row.ratio:.2f}"
    met = "yes" if row.met else "NO"
    said = LINE.format(row.number, row.work, row.target, f"{row.ours:.4g} {row.unit}", peer, ratio, met, row.who)
    print(said.rstrip(), flush=True)
    if "our cpu us" in row.facts:
        facts = row.facts
        cpu = f"client cpu per op {facts['our cpu us']:.0f} us, theirs {facts['their cpu us']:.0f} us"
        share = f"MDS busy {facts['mds share, ours']:.0%}, with theirs {facts['mds share, theirs']:.0%}"
        print(f"     {cpu}; {share}", flush=True)


def write(rows: list[Row], release: str) -> Path:
    """Keep what was measured; gives where."""
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / time.strftime("%Y%m%d-%H%M%S.json", time.gmtime())
    found = [{**dataclasses.asdict(row), "met": row.met} for row in rows]
    path.write_text(json.dumps({"machine": machine(release), "rows": found}, indent=2) + "\n")
    return path


def machine(release: str) -> dict[str, Any]:
    """What the figures were measured on."""
    cpus = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    memory = next((line for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), "")
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=FOLDER.parent)
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "processors": cpus,
        "memory kB": int(memory.split()[1]) if memory else None,
        "load": os.getloadavg(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "ceph": find_release(release).version,
        "packages": {name: version(name) for name in PACKAGES},
        "commit": head.stdout.strip(),
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()
