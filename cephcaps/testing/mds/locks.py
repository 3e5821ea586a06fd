"""The locks of an inode: their states, and what caps each state lets clients have.

A lock that changes its state passes through both states' limits until no client holds more than the new one allows.
Facts: ceph: src/mds/locks.c (``simplelock``, ``filelock``), src/mds/Locker.cc.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

__all__ = ["LOCK_NAMES", "Lock", "LockState"]

SHARED, EXCL, CACHE, RD, WR, BUFFER, LAZYIO = 1, 2, 4, 8, 16, 32, 128
"""Generic bits of a group of caps, before they are shifted to their place (ceph: ``CEPH_CAP_G*``)."""

LOCK_NAMES: Final = {"A": 2, "L": 4, "X": 6, "F": 8}
"""The groups of caps by their letter, and where their bits begin."""


class LockState(Enum):
    """Stable states."""

    SYNC = "sync"
    """Everybody may read."""
    LOCK = "lock"
    """The MDS may change it."""
    EXCL = "excl"
    """One client, the loner, does as it likes."""
    MIX = "mix"
    """Everybody may read and write files, nobody may cache."""
    XSYN = "xsyn"
    """The MDS reads what the loner goes on to cache and buffer."""


EVERYONE: Final = {
    "F": {
        LockState.SYNC: SHARED | CACHE | RD | LAZYIO,
        LockState.LOCK: CACHE | BUFFER,
        LockState.EXCL: 0,
        LockState.MIX: RD | WR | LAZYIO,
        LockState.XSYN: 0,
    },
    "": {LockState.SYNC: SHARED, LockState.LOCK: 0, LockState.EXCL: 0},
}
LONER: Final = {
    "F": {
        **EVERYONE["F"],
        LockState.EXCL: SHARED | EXCL | CACHE | RD | WR | BUFFER | LAZYIO,
        LockState.XSYN: CACHE | BUFFER,
    },
    "": {**EVERYONE[""], LockState.EXCL: SHARED | EXCL},
}


class Lock:
    """One lock of one inode.

    Attributes:
        name: the letter of its caps.
        state: as it is, or was.
        next: where it is on its way to, None when it is stable.
        rdlocks, wrlocks, xlocked: how many requests hold it, and how.
        sticky: it stays as it is until somebody needs it otherwise.
    """

    __slots__ = ("name", "next", "rdlocks", "state", "sticky", "wrlocks", "xlocked")

    def __init__(self, name: str, state: LockState = LockState.SYNC) -> None:
        self.name = name
        self.state = state
        self.next: LockState | None = None
        self.rdlocks = 0
        self.wrlocks = 0
        self.xlocked = False
        self.sticky = False

    @property
    def held(self) -> bool:
        return bool(self.rdlocks or self.wrlocks or self.xlocked)

    @property
    def shift(self) -> int:
        return LOCK_NAMES[self.name]

    def caps(self, loner: bool) -> int:
        """The caps of its group that a client may have now."""
        table = (LONER if loner else EVERYONE)["F" if self.name == "F" else ""]
        bits = table[self.state]
        if self.next is not None:
            bits &= table[self.next]
        return bits << LOCK_NAMES[self.name]

    def can_read(self, by_loner: bool) -> bool:
        """Whether a request may hold it for reading as it is."""
        if self.next is not None or self.xlocked:
            return False
        if self.name == "F":
            return self.state in (LockState.SYNC, LockState.XSYN)
        return self.state is LockState.SYNC or (self.state is LockState.EXCL and by_loner)

    def can_write(self, by_loner: bool) -> bool:
        """Whether a request may hold it together with others that write, as for entries of a directory."""
        if self.next is not None or self.xlocked:
            return False
        return self.state in (LockState.LOCK, LockState.MIX) or (self.state is LockState.EXCL and by_loner)

    def can_xlock(self) -> bool:
        """Whether a request may hold it all to itself."""
        return self.next is None and self.state is LockState.LOCK and not self.held
