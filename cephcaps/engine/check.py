"""When to tell an MDS what we hold and want: the one decision every change ends in.

A revoke is answered as soon as its bits are not in use, never later for any other reason. What is merely no longer
wanted is kept for a while, because it is so often wanted again. Source: kernel: fs/ceph/caps.c, ``ceph_check_caps``.
"""

from __future__ import annotations

import stat

from cephcaps.engine.cache import Cache
from cephcaps.engine.flush import Flushes
from cephcaps.engine.inode import Inode, InodeCap
from cephcaps.events import CapReleased, CapRevokeAcked
from cephwire.capbits import Cap
from cephwire.caps import CapOp

__all__ = ["Checks"]

HOLD_MIN = 5.0
"""Seconds for which no message, whatever it is for, gives back what was just in use (``caps_wanted_delay_min``)."""
HOLD_MAX = 60.0
"""Seconds after which caps nobody wants are given back (``caps_wanted_delay_max``)."""


class Checks:
    """Decides for each cap of an inode whether a message is due."""

    def __init__(self, cache: Cache, flushes: Flushes) -> None:
        self._cache = cache
        self._flushes = flushes

    def check(self, inode: Inode, now: float, *, nodelay: bool = False) -> set[int]:
        """Send what is due on ``inode`` now; queue it for later where that will do. Gives the ranks written to."""
        sent: set[int] = set()
        postponed = False
        used = inode.used
        want = inode.file_wanted | used
        retain = self._retained(inode, want)
        for cap in list(inode.caps.values()):
            is_auth = cap.rank == inode.auth_rank
            in_use = used
            auth = inode.auth_cap
            if auth is not None and not is_auth:
                in_use &= ~auth.issued  # what the authority has granted does not need this cap
            revoking = cap.revoking
            if revoking and not revoking & in_use:
                pass  # the MDS waits for them and nothing of ours does
            elif want & ~(cap.mds_wanted | cap.issued):
                pass  # something is wanted that the MDS does not know of
            elif not cap.issued & ~retain:
                continue  # all is as it should be
            elif not nodelay and now < inode.hold_max:
                postponed = True
                continue
            self._send(inode, cap, now, want, retain, in_use, nodelay)
            sent.add(cap.rank)
        if postponed:
            self.requeue(inode, now)
        return sent

    def answer(self, inode: Inode, cap: InodeCap, now: float) -> None:
        """Tell the MDS how things stand, though nothing has changed: it waits to hear of its REVOKE."""
        want = inode.file_wanted | inode.used
        self._send(inode, cap, now, want, cap.issued | Cap.PIN, inode.used, nodelay=True)

    def _retained(self, inode: Inode, want: int) -> int:
        """What is worth keeping."""
        retain = want | Cap.PIN
        if not inode.nlink and not stat.S_ISDIR(inode.mode):
            return retain  # unlinked: nobody will ask again
        if inode.file_wanted:
            return retain | Cap.ANY
        retain |= Cap.ANY_SHARED
        # Had it been open for writing, the MDS would want FILE_RD back anyway to journal that it no longer is.
        return retain if inode.max_size else retain | Cap.ANY_RD

    def _send(self, inode: Inode, cap: InodeCap, now: float, want: int, retain: int, used: int, nodelay: bool) -> None:
        revoking = cap.revoking
        if not nodelay and now < inode.hold_min:
            want |= cap.mds_wanted
            retain |= cap.issued
        dropped = cap.issued & ~retain
        cap.issued &= retain
        cap.implemented &= cap.issued | used
        cap.mds_wanted = want
        tid = self._flushes.start(inode, now) if cap.rank == inode.auth_rank else 0
        self._flushes.send(inode, cap, CapOp.UPDATE, wanted=want, tid=tid)
        given = revoking & ~cap.implemented
        if not cap.revoking:
            self._cache.settled(inode, cap)
        if given:
            self._cache.emit(CapRevokeAcked, inode, cap, given)
        if dropped:
            self._cache.emit(CapReleased, inode, cap, dropped)

    # The delay queue

    def requeue(self, inode: Inode, now: float) -> None:
        """Look at it again when its time is up. All wait alike, so that the queue is in the order of the times."""
        inode.hold_min = now + HOLD_MIN
        inode.hold_max = now + HOLD_MAX
        self._cache.delayed[inode.ino] = None
        self._cache.delayed.move_to_end(inode.ino)

    def next_deadline(self) -> float:
        ino = next(iter(self._cache.delayed), None)
        return float("inf") if ino is None else self._cache.inodes[ino].hold_max

    def tick(self, now: float) -> None:
        """Check what is due; the rest of the queue is not looked at."""
        while self._cache.delayed:
            ino = next(iter(self._cache.delayed))
            inode = self._cache.inodes[ino]
            if inode.hold_max > now:
                return
            del self._cache.delayed[ino]
            self.check(inode, now, nodelay=True)
