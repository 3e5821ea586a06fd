"""Fuzzes what reads bytes from outside.

    python -m tests.fuzz --seconds N [--seed S] [--only TARGET]

Each case is made from seed, target and number alone, so that a failure is had again with the line it prints.
"""

from __future__ import annotations

import argparse
import random
import resource
import signal
import sys
import time
import traceback
from collections import Counter
from types import FrameType

from tests.fuzz.targets import TARGETS, prepare, turns

HANGS = ((signal.ITIMER_PROF, signal.SIGPROF, 5.0), (signal.ITIMER_REAL, signal.SIGALRM, 120.0))
"""After which seconds of processor time, or of any, a case counts as hanging; the slowest takes a tenth of one."""
MEMORY = 4 << 30
"""Bytes of address space: what would allocate by a peer's word runs into it."""
TURN = 0.05
"""Seconds a target gets before the next has its turn."""


class Hang(BaseException):
    """A case took too long. Not an Exception, so that nothing that is fuzzed can catch it."""


def hang(signum: int, frame: FrameType | None) -> None:
    raise Hang(f"took too long: {signal.Signals(signum).name}")


def run(name: str, seed: int, case: int) -> str:
    """What became of one case."""
    for timer, _, limit in HANGS:
        signal.setitimer(timer, limit)
    try:
        return TARGETS[name](random.Random(f"{seed} {name} {case}"))
    finally:
        for timer, _, _ in HANGS:
            signal.setitimer(timer, 0)


def fuzz(names: list[str], seed: int, seconds: float) -> tuple[dict[str, Counter[str]], list[str]]:
    """The outcomes of each target until time is up, and how to have each failure again; a target fails once."""
    outcomes: dict[str, Counter[str]] = {name: Counter() for name in names}
    failures: dict[str, str] = {}
    end = time.monotonic() + seconds
    while time.monotonic() < end and len(failures) < len(names):
        for name in [name for name in names if name not in failures]:
            turn = min(time.monotonic() + TURN * turns(name), end)
            while time.monotonic() < turn:
                case = outcomes[name].total()
                try:
                    outcomes[name][run(name, seed, case)] += 1
                except (Exception, Hang):
                    traceback.print_exc()
                    outcomes[name]["FAILED"] += 1
                    failures[name] = f"python -m tests.fuzz --seed {seed} --only {name!r} --case {case}"
                    break
    return outcomes, list(failures.values())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz what reads bytes from outside.")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long (60)")
    parser.add_argument("--seed", type=int, default=0, help="where the cases come from (0)")
    parser.add_argument("--only", choices=sorted(TARGETS), metavar="TARGET", help="one target: " + ", ".join(TARGETS))
    parser.add_argument("--case", type=int, help="with --only, this case alone")
    given = parser.parse_args()
    for _, number, _ in HANGS:
        signal.signal(number, hang)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    names = [given.only] if given.only else list(TARGETS)
    for name in names:
        prepare(name)
    if given.case is not None:
        print(run(given.only, given.seed, given.case))
        return 0
    outcomes, failures = fuzz(names, given.seed, given.seconds)
    for name, counts in outcomes.items():
        print(f"{name:32} {counts.total():>8}  " + "  ".join(f"{what} {n}" for what, n in counts.most_common()))
    for failure in failures:
        print(f"failed; again with: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
