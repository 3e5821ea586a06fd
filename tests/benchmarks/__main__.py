"""``python -m tests.benchmarks [B3 B6 ...]``: the figures beside those of peers, in one table (`make bench`).

Everything is measured in this run, on one cluster, in turns. The table goes to stdout, the figures with a description
of the machine to ``.benchmarks``. docs/performance.md explains them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack

from tests.live.cluster import LiveCluster
from tests.live.release import RELEASES, find_release

from . import capture, codec, scale
from .metadata import REPEATS, Metadata
from .row import Row
from .table import print_row, print_titles, write

METADATA: dict[str, Callable[[Metadata], list[Row]]] = {
    "B3": Metadata.create,
    "B4": Metadata.chmod,
    "B5": Metadata.alternate,
    "B6": Metadata.stat,
    "B7": Metadata.memory,
    "B8": Metadata.drop,
    "B9": Metadata.listing,
    "B10": Metadata.connect,
    "B12": Metadata.secure,
    "B13": Metadata.many,
    "B14": Metadata.injected,
}
ALONE: dict[str, Callable[[str], list[Row]]] = {
    "B1": lambda release: codec.rows(),
    "B2": capture.rows,
    "B11": lambda release: scale.rows(),
}
NUMBERS = sorted([*METADATA, *ALONE], key=lambda number: int(number[1:]))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("numbers", nargs="*", metavar="B", help=f"of {' '.join(NUMBERS)}; all if none is named")
    parser.add_argument("--release", default="pacific", choices=RELEASES)
    parser.add_argument("--repeats", type=int, default=REPEATS, help="how often each work is done by each, in turns")
    given = parser.parse_args()
    wanted = given.numbers or NUMBERS
    if unknown := set(wanted) - set(NUMBERS):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    if missing := find_release(given.release).missing():
        sys.exit(f"cannot compare: {missing}")
    found = []
    print_titles()
    for row in measure([number for number in NUMBERS if number in wanted], given.release, given.repeats):
        print_row(row)
        found.append(row)
    print(f"figures: {write(found, given.release)}")


def measure(wanted: list[str], release: str, repeats: int) -> Iterator[Row]:
    """One work after the other; those on a cluster share it."""
    with ExitStack() as clusters:
        metadata: Metadata | None = None
        for number in wanted:
            if number in ALONE:
                yield from ALONE[number](release)
                continue
            if metadata is None:
                metadata = Metadata(clusters.enter_context(LiveCluster(release, mds=1)), repeats)
            yield from METADATA[number](metadata)


if __name__ == "__main__":
    main()
