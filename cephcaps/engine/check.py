"""When to tell an MDS how things stand with a cap: the one decision everything else leads to.

A message is due when the MDS waits for bits that nobody uses any more, when something is wanted that it does not know
of, when a writer nears the end of what it may write, or when bits are held that are worth keeping no longer; the last
can wait a while, because they are so often wanted again. Each decision says why in words. Sources: kernel:
fs/ceph/caps.c, ``ceph_check_caps``, ``__prep_cap``; ceph: src/client/Client.cc, ``check_caps``.
"""

from __future__ import annotations

import stat

from cephcaps.caps import Caps
from cephcaps.engine.cache import Cache
from cephcaps.engine.dentries import wanted_for_names
from cephcaps.engine.flush import Flushes
from cephcaps.engine.hooks import Hooks
from cephcaps.engine.inode import Inode, InodeCap
from cephcaps.engine.snaps import CapSnaps
from cephcaps.events import CapReleased, CapRevokeAcked
from cephwire.capbits import Cap
from cephwire.caps import CapOp

__all__ = ["HOLD_MAX", "HOLD_MIN", "Checks", "wanted"]

HOLD_MIN = 5.0
"""Seconds for which no message, whatever it is for, gives back what was just in use (``caps_wanted_delay_min``)."""
HOLD_MAX = 60.0
"""Seconds after which caps nobody wants are given back (``caps_wanted_delay_max``)."""

DATA = Cap.FILE_CACHE | Cap.FILE_BUFFER


def wanted(inode: Inode) -> int:
    """What somebody here wants of ``inode``: to have it open, to use it, or to know a directory's names."""
    if inode.use is None:
        return wanted_for_names(inode)
    want = (inode.file_wanted or wanted_for_names(inode)) | inode.used
    # Who has data to write back wants to be alone (kernel: ``__ceph_caps_wanted``; ceph: ``Inode::caps_wanted``).
    return want | Cap.FILE_EXCL if want & Cap.FILE_BUFFER else want


class Checks:
    """Decides for each cap of an inode whether a message is due."""

    def __init__(self, cache: Cache, flushes: Flushes, snaps: CapSnaps, hooks: Hooks) -> None:
        self._cache = cache
        self._flushes = flushes
        self._snaps = snaps
        self._hooks = hooks

    def check(self, inode: Inode, now: float, *, nodelay: bool = False, auth_only: bool = False) -> set[int]:
        """Send what is due on ``inode`` now; queue it for later where that will do. Gives the ranks written to.

        Args:
            nodelay: what could wait is not to.
            auth_only: only the authority's cap is concerned.
        """
        if inode.use is not None and inode.use.cap_snaps:
            self._snaps.flush(inode, now)
        if nodelay:
            self._forget_unwanted_data(inode, now)
        sent: set[int] = set()
        postponed = False
        for cap in self._in_rank_order(inode):
            if (auth_only and cap.rank != inode.auth_rank) or self._cache.waits(cap):
                continue
            if cap.revoking:
                self._free(inode, cap, now)
            if self.due(inode, cap):
                self._send(inode, cap, now, nodelay)
                sent.add(cap.rank)
            elif self.surplus(inode, cap):
                if nodelay or now >= inode.hold_max:
                    self._send(inode, cap, now, nodelay)
                    sent.add(cap.rank)
                else:
                    postponed = True
        if postponed:
            self.requeue(inode, now)
        return sent

    def _free(self, inode: Inode, cap: InodeCap, now: float) -> None:
        """Set going what frees bits that are asked back: dirty data are written, cached ones forgotten.

        The answer leaves when that is over: it promises that nothing of ours will be written or read under them any
        more.
        """
        in_use = cap.revoking & self.in_use(inode, cap)
        if in_use & (Cap.FILE_BUFFER | Cap.FILE_LAZYIO):
            self._hooks.write_back(inode, now)
        if in_use & (Cap.FILE_CACHE | Cap.FILE_LAZYIO):
            self._hooks.invalidate(inode, now)

    def answer(self, inode: Inode, cap: InodeCap) -> None:
        """Tell the MDS how things stand, though nothing has changed: it waits to hear of its REVOKE."""
        cap.mds_wanted = wanted(inode)
        self._flushes.send(inode, cap, CapOp.UPDATE, wanted=cap.mds_wanted)

    # The decision

    def due(self, inode: Inode, cap: InodeCap) -> str:
        """Why a message about ``cap`` is due now, in words; empty if none is."""
        use = inode.use
        if use is not None and cap.rank == inode.auth_rank and cap.issued & Cap.FILE_WR:
            if use.wanted_max_size > max(inode.max_size, use.requested_max_size):
                return f"somebody wants to write up to {use.wanted_max_size}, beyond max_size {inode.max_size}"
            if not inode.flushing & Cap.FILE_WR and self.size_is_news(inode):
                return f"the size nears max_size {inode.max_size}"
        revoking = cap.revoking
        if revoking and not revoking & self.in_use(inode, cap):
            return f"{Caps.of(revoking)} is asked back and not in use"
        want = wanted(inode)
        if missing := want & ~(cap.mds_wanted | cap.issued):
            return f"{Caps.of(missing)} is wanted and the MDS does not know"
        return ""

    def surplus(self, inode: Inode, cap: InodeCap) -> int:
        """Bits that are held and not worth it."""
        return cap.issued & ~self._retained(inode)

    def in_use(self, inode: Inode, cap: InodeCap) -> int:
        """Bits of ``cap`` that are in use: not what the authority has granted too; of data covered by LAZYIO, that,
        until it is given back (ceph: src/client/Client.cc, ``adjust_caps_used_for_lazyio``)."""
        used = inode.used
        auth = inode.auth_cap
        if auth is not None and auth is not cap:
            used &= ~auth.issued
        if used & DATA and cap.implemented & Cap.FILE_LAZYIO:
            lazy = used & DATA & ~(0 if cap.issued & Cap.FILE_LAZYIO else cap.implemented)
            if lazy:
                used = used & ~lazy | Cap.FILE_LAZYIO
        return used

    def size_is_news(self, inode: Inode) -> bool:
        """Half of what was granted since the last report is used up: the MDS should hear of it before it is gone
        (kernel: ``__ceph_should_report_size``)."""
        assert inode.use is not None
        reported = inode.use.reported_size
        if inode.size <= reported:
            return False
        return inode.size >= inode.max_size or 2 * inode.size >= inode.max_size + reported

    def _retained(self, inode: Inode) -> int:
        """What is worth keeping."""
        open_wants = inode.file_wanted if inode.use is not None else 0
        retain = wanted(inode) | Cap.PIN
        if not inode.nlink and not stat.S_ISDIR(inode.mode):
            return retain  # unlinked: nobody will ask again
        if open_wants:
            return retain | Cap.ANY
        retain |= Cap.ANY_SHARED
        # Had it been open for writing, the MDS would want FILE_RD back anyway to journal that it no longer is.
        return retain if inode.max_size else retain | Cap.ANY_RD

    def _in_rank_order(self, inode: Inode) -> list[InodeCap]:
        if isinstance(inode.held, InodeCap):
            return [inode.held]
        caps = inode.caps
        return [caps[rank] for rank in sorted(caps)]

    def _forget_unwanted_data(self, inode: Inode, now: float) -> None:
        """Data kept in case it is read again has had its time: FILE_CACHE can go once the handler has forgotten it."""
        use = inode.use
        if use is not None and use.cached_gen and not use.modes and not use.cache and not use.dirty_data:
            self._hooks.invalidate(inode, now)

    def _send(self, inode: Inode, cap: InodeCap, now: float, nodelay: bool) -> None:
        revoking = cap.revoking
        used = self.in_use(inode, cap)
        want = wanted(inode)
        retain = self._retained(inode)
        if not nodelay and now < inode.hold_min:
            want |= cap.mds_wanted
            retain |= cap.issued
        if inode.unsent_snap:
            retain |= cap.issued & Cap.ANY_FILE_WR  # the FLUSHSNAP goes first
        dropped = cap.issued & ~retain
        self._cache.note_issue(inode, cap.issued, cap.issued & retain)
        cap.issued &= retain
        cap.implemented &= cap.issued | used
        cap.mds_wanted = want
        tid = max_size = 0
        if cap.rank == inode.auth_rank:
            tid = self._flushes.start(inode, now)
            max_size = self._max_size_to_ask(inode, want)
        self._flushes.send(inode, cap, CapOp.UPDATE, wanted=want, tid=tid, max_size=max_size)
        given = revoking & ~cap.implemented
        if not cap.revoking:
            self._cache.given_back(inode, cap, now)
        else:
            self._cache.wake(inode)
        if given:
            self._cache.emit(CapRevokeAcked, inode, cap, given)
        if dropped:
            self._cache.emit(CapReleased, inode, cap, dropped)

    def _max_size_to_ask(self, inode: Inode, want: int) -> int:
        """How far somebody wants to write: said once, remembered until granted or no longer wanted."""
        use = inode.use
        if use is None:
            return 0
        if not want & Cap.ANY_FILE_WR:
            use.requested_max_size = 0
            return 0
        use.requested_max_size = max(use.requested_max_size, use.wanted_max_size)
        return use.requested_max_size

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
