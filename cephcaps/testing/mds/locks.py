"""The locks of an inode: their states, and what each lets requests do and clients have.

Facts: ceph: src/mds/locks.c (``sm_simplelock``, ``sm_filelock``), src/mds/SimpleLock.h; of one rank alone, so without
what replicas need.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

if TYPE_CHECKING:
    from cephcaps.testing.mds.inode import Inode
    from cephcaps.testing.mds.lockcache import LockCache
    from cephcaps.testing.mds.session import Session

__all__ = ["BUFFER", "CACHE", "EXCL", "KINDS", "RD", "SHARED", "SNAP", "WR", "Lock", "State", "Wait", "Who"]

SHARED, EXCL, CACHE, RD, WR, BUFFER, LAZYIO = 1, 2, 4, 8, 16, 32, 128
"""Generic bits of a group of caps, before they are shifted to their place (ceph: ``CEPH_CAP_G*``)."""
SIMPLE_MASK, FILE_MASK = 3, 0xFF
EVERY_BIT: Final = 0xFFFF

KINDS: Final = {"F": 8, "A": 2, "L": 4, "X": 6}
"""The letter of each lock's caps and where their bits begin; in the order in which requests take an inode's locks and
evaluation goes through them (ceph: ``CEPH_LOCK_IFILE`` and so on, src/include/ceph_fs.h)."""


SNAP: Final = "S"
"""Of a directory: where its snapshots come from. It has no caps."""


class State(IntEnum):
    """Stable states, and ``FROM_TO`` for the ways between them."""

    SYNC = 0
    """Everybody may read."""
    LOCK = 1
    """The MDS may change it."""
    EXCL = 2
    """One client, the loner, does as it likes."""
    MIX = 3
    """Everybody may read and write files, nobody may cache."""
    XSYN = 4
    """The MDS reads what the loner goes on to cache and buffer."""
    PREXLOCK = 5
    XLOCK = 6
    """One request has it all to itself."""
    XLOCKDONE = 7
    """The same, and its client knows already what has come of it."""
    LOCK_XLOCK = 8
    SYNC_LOCK = 9
    EXCL_LOCK = 10
    MIX_LOCK = 11
    XSYN_LOCK = 12
    LOCK_SYNC = 13
    EXCL_SYNC = 14
    MIX_SYNC = 15
    XSYN_SYNC = 16
    SYNC_EXCL = 17
    LOCK_EXCL = 18
    MIX_EXCL = 19
    XSYN_EXCL = 20
    SYNC_MIX = 21
    EXCL_MIX = 22
    XSYN_MIX = 23
    EXCL_XSYN = 24


class Who(IntEnum):
    """Whose caps a lock limits."""

    ANY = 0
    LONER = 1
    XLOCKER = 2


class Wait(IntFlag):
    """What somebody waits for."""

    RD = 1
    WR = 2
    STABLE = 4


class Rule(NamedTuple):
    """What holds in one state.

    Attributes:
        next: where it goes once nothing stands in the way; None if it is stable.
        loner: its loner may have more than others.
        caps: what everybody may have, ``loner_caps`` and ``xlocker_caps`` what these may in addition.
        read: whose requests may look; ``rdlock``, ``wrlock``, ``force``, ``xlock`` who may hold it how, and ``lease``
            who may trust the names of a directory. "" is nobody, "*" everybody, "x" the client that has it xlocked
            (and, for ``wrlock`` and ``force``, the loner).
    """

    next: State | None
    loner: bool = False
    caps: int = 0
    loner_caps: int = 0
    xlocker_caps: int = 0
    read: str = ""
    rdlock: str = ""
    wrlock: str = ""
    force: str = ""
    xlock: str = ""
    lease: str = ""


S = State
SIMPLE: Final = {
    S.SYNC: Rule(None, caps=SHARED, read="*", rdlock="*", lease="*"),
    S.LOCK: Rule(None, read="*"),
    S.EXCL: Rule(None, loner=True, loner_caps=SHARED | EXCL, wrlock="x"),
    S.PREXLOCK: Rule(S.LOCK, xlock="*"),
    S.XLOCK: Rule(S.SYNC),
    S.XLOCKDONE: Rule(S.SYNC, xlocker_caps=SHARED, read="x", rdlock="x", lease="x"),
    S.LOCK_XLOCK: Rule(S.PREXLOCK, xlock="x"),
    S.SYNC_LOCK: Rule(S.LOCK, read="*"),
    S.EXCL_LOCK: Rule(S.LOCK, force="x"),
    S.LOCK_SYNC: Rule(S.SYNC, read="*", rdlock="x", lease="x"),
    S.EXCL_SYNC: Rule(S.SYNC, loner=True, loner_caps=SHARED, force="x"),
    S.SYNC_EXCL: Rule(S.EXCL, loner=True, loner_caps=SHARED, read="*"),
    S.LOCK_EXCL: Rule(S.EXCL, caps=SHARED, read="*"),
}
FILE: Final = {
    S.SYNC: Rule(None, caps=SHARED | CACHE | RD | LAZYIO, read="*", rdlock="*", lease="*"),
    S.LOCK: Rule(None, caps=CACHE | BUFFER, read="*", wrlock="*"),
    S.EXCL: Rule(None, loner=True, loner_caps=SHARED | EXCL | CACHE | RD | WR | BUFFER, rdlock="x", wrlock="x"),
    S.MIX: Rule(None, caps=RD | WR | LAZYIO, wrlock="*"),
    S.XSYN: Rule(None, loner=True, loner_caps=CACHE | BUFFER, read="*", rdlock="*", wrlock="x"),
    S.PREXLOCK: Rule(S.LOCK, caps=CACHE | BUFFER, xlock="*"),
    S.XLOCK: Rule(S.LOCK, caps=CACHE | BUFFER),
    S.XLOCKDONE: Rule(S.LOCK, caps=CACHE | BUFFER, xlocker_caps=SHARED, read="x", rdlock="x", lease="x"),
    S.LOCK_XLOCK: Rule(S.PREXLOCK, caps=CACHE | BUFFER, xlock="x"),
    S.SYNC_LOCK: Rule(S.LOCK, caps=CACHE, read="*"),
    S.EXCL_LOCK: Rule(S.LOCK, caps=CACHE | BUFFER, force="x"),
    S.MIX_LOCK: Rule(S.LOCK),
    S.XSYN_LOCK: Rule(S.LOCK, loner=True, loner_caps=CACHE | BUFFER, read="*", wrlock="x"),
    S.LOCK_SYNC: Rule(S.SYNC, caps=CACHE, read="*"),
    S.EXCL_SYNC: Rule(S.SYNC, loner=True, loner_caps=SHARED | CACHE | RD, force="x"),
    S.MIX_SYNC: Rule(S.SYNC, caps=RD | LAZYIO),
    S.XSYN_SYNC: Rule(S.SYNC, loner=True, loner_caps=CACHE, read="*", rdlock="*"),
    S.SYNC_EXCL: Rule(S.EXCL, loner=True, loner_caps=SHARED | CACHE | RD, read="*"),
    S.LOCK_EXCL: Rule(S.EXCL, loner=True, loner_caps=CACHE | BUFFER, read="*"),
    S.MIX_EXCL: Rule(S.EXCL, loner=True, loner_caps=RD | WR, wrlock="x"),
    S.XSYN_EXCL: Rule(S.EXCL, loner=True, loner_caps=CACHE | BUFFER, read="*", rdlock="x"),
    S.SYNC_MIX: Rule(S.MIX, caps=RD | LAZYIO, read="*"),
    S.EXCL_MIX: Rule(S.MIX, loner=True, loner_caps=RD | WR, wrlock="x"),
    S.XSYN_MIX: Rule(S.MIX, loner=True, wrlock="x"),
    S.EXCL_XSYN: Rule(S.XSYN, loner=True, loner_caps=CACHE | BUFFER, rdlock="x"),
}


class Lock(msgspec.Struct, gc=False, eq=False):
    """One lock of one inode.

    Attributes:
        kind: the letter of its caps.
        rdlocks, wrlocks, xlocks: how many requests hold it, and how.
        xlocker: whose request it is that has it xlocked; None also for one of the MDS's own.
        waiters: who is to try again, and when.
        caches: the lock caches that hold it.
    """

    inode: Inode
    kind: str
    state: State = State.SYNC
    rdlocks: int = 0
    wrlocks: int = 0
    xlocks: int = 0
    xlocker: Session | None = None
    waiters: list[tuple[Wait, Callable[[], None]]] | None = None
    caches: list[LockCache] | None = None

    @property
    def shift(self) -> int:
        return KINDS.get(self.kind, 0)

    @property
    def mask(self) -> int:
        if self.kind == SNAP:
            return 0
        return FILE_MASK if self.kind == "F" else SIMPLE_MASK

    @property
    def rule(self) -> Rule:
        return (FILE if self.kind == "F" else SIMPLE)[self.state]

    def rule_in(self, state: State) -> Rule:
        return (FILE if self.kind == "F" else SIMPLE)[state]

    @property
    def stable(self) -> bool:
        return self.rule.next is None

    @property
    def held(self) -> bool:
        return bool(self.rdlocks or self.wrlocks or self.xlocks)

    @property
    def in_the_way(self) -> bool:
        """It cannot go on before changes that hold it are safe."""
        return not self.stable and self.held

    def waited_for(self, what: Wait) -> bool:
        return self.waiters is not None and any(wait & what for wait, _ in self.waiters)

    # Caps

    def allowed(self, who: Who, state: State | None = None) -> int:
        """The caps of its group that may be had now, or would be in another state; unshifted."""
        rule = self.rule if state is None else self.rule_in(state)
        if who is Who.XLOCKER and self.xlocker is not None:
            return rule.caps | rule.xlocker_caps
        if who is Who.ANY and self.rule.loner:
            return rule.caps
        return rule.caps | rule.loner_caps

    def xlocker_mask(self, session: Session) -> int:
        """The bits of its group in which a client counts as the one that has it xlocked."""
        if session is not self.xlocker:
            return 0
        return EVERY_BIT if self.kind == "F" else SIMPLE_MASK

    # Requests of one client; None is one of the MDS's own

    def can_read(self, session: Session | None) -> bool:
        return self._may(self.rule.read, session)

    def can_rdlock(self, session: Session | None) -> bool:
        return self._may(self.rule.rdlock, session)

    def can_wrlock(self, session: Session | None) -> bool:
        return self._may(self.rule.wrlock, session) or self._is_loner(self.rule.wrlock, session)

    def can_force_wrlock(self, session: Session | None) -> bool:
        return self._may(self.rule.force, session) or self._is_loner(self.rule.force, session)

    def can_xlock(self, session: Session | None) -> bool:
        return self._may(self.rule.xlock, session)

    def can_lease(self, session: Session | None) -> bool:
        return self._may(self.rule.lease, session)

    def _may(self, who: str, session: Session | None) -> bool:
        return who == "*" or (who == "x" and session is not None and session is self.xlocker)

    def _is_loner(self, who: str, session: Session | None) -> bool:
        return who == "x" and session is not None and session is self.inode.loner
