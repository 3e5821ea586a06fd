"""What lines of the table share: inodes with their paths, lists cut short, times."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import islice
from typing import Final, TypeVar

from cephcaps.trace.items import Flow
from cephcaps.trace.known import Known
from cephwire.scalars import NSEC

__all__ = ["LISTED", "Said", "View", "clock", "duration", "result"]

T = TypeVar("T")

LISTED: Final = 4
"""Inodes of a list that are shown; of those looked for, all up to this many more."""


class View:
    """Inodes as the client of a connection knows them.

    Args:
        sought: inode numbers that lists are shortened to, if any.
    """

    __slots__ = ("_known", "_sought", "flow")

    def __init__(self, known: Known, flow: Flow, sought: frozenset[int]) -> None:
        self.flow: Flow = flow
        self._known = known
        self._sought = sought

    def ino(self, ino: int) -> str:
        """Number and path: ``0x10000000000 /a/b``, the number alone where there is no telling."""
        path = self._known.path(self.flow, ino)
        return path[1:] if path[0] == "#" and "/" not in path else f"{ino:#x} {path}"

    def path(self, ino: int, below: str) -> str:
        return self._known.path(self.flow, ino, below)

    def listed(self, what: str, items: Sequence[T], ino: Callable[[T], int], say: Callable[[T], str]) -> str:
        """How many there are and what to ``say`` of the first few, or of those that are sought."""
        sought = self._sought
        chosen = islice((one for one in items if ino(one) in sought), LISTED) if sought else items[:LISTED]
        shown = list(map(say, chosen))
        text = f"{len(items)} {what}{': ' if shown else ''}{', '.join(shown)}"
        return f"{text} and {len(items) - len(shown)} more" if 0 < len(shown) < len(items) else text


Said = Iterable[str]


def duration(ns: int) -> str:
    return f"{ns / 1e6:.3f} ms" if abs(ns) < NSEC else f"{ns / 1e9:.3f} s"


def clock(ns: int) -> str:
    """Local time as Ceph's logs write it, in microseconds."""
    seconds, fraction = divmod(ns, NSEC)
    return f"{_second(seconds)}.{fraction // 1000:06}"


@lru_cache(64)
def _second(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds).isoformat()
    except (ValueError, OverflowError, OSError):
        return f"@{seconds}"


def result(number: int) -> str:
    """A result with the name of its errno: ``-2 ENOENT``."""
    return str(number) if number >= 0 else f"{number} {errno.errorcode.get(-number, 'unknown errno')}"
