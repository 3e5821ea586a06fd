"""Dirty metadata: marked, flushed under tids, acknowledged, waited for.

A bit is dirty from the change to the flush, flushing from there to the acknowledgement. Flush tids come from one
counter for the whole client, over all ranks, and are never used twice: an MDS acknowledges a tid it has completed
without applying it again. Sources: kernel: fs/ceph/caps.c, ``__ceph_mark_dirty_caps``, ``__mark_caps_flushing``,
``handle_cap_flush_ack``, ``__kick_flushing_caps``; ceph: src/mds/Locker.cc, ``handle_client_caps``.
"""

from __future__ import annotations

from cephcaps.engine import xattrs
from cephcaps.engine.cache import Cache, Send
from cephcaps.engine.capmsg import cap_message, flushsnap_message
from cephcaps.engine.inode import CapSnap, Flush, Inode, InodeCap
from cephcaps.events import CapFlushed, CapFlushing
from cephwire.capbits import Cap
from cephwire.caps import CapOp, ClientCapsFlag

__all__ = ["Flushes"]


FLUSH_DELAY = 5.0
"""Seconds for which a change may wait to be joined by others (libcephfs: ``client_caps_release_delay``)."""


class Flushes:
    """Every change of ours that an MDS has not got safely yet."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self.last_tid: int = 0

    @property
    def oldest_tid(self) -> int:
        """The MDS may forget flushes completed before this one; 0 is none on their way."""
        return next(iter(self._cache.flushes), 0)

    # From dirty to flushing

    def mark_dirty(self, inode: Inode, bits: int, now: float) -> None:
        """Something was changed under ``bits``. It belongs to the snap context of now."""
        use = self._cache.use(inode)
        if use.head is None:
            use.head = self._cache.context(inode.realm)
        if not inode.dirty:
            use.dirty_since = now
            self._cache.dirty[inode.ino] = None
        inode.dirty |= bits

    def hurry(self, inode: Inode) -> None:
        """Flush what is dirty before all that waits for company (kernel: ``__cap_delay_requeue_front``)."""
        if inode.dirty:
            self._cache.use(inode).dirty_since = -FLUSH_DELAY
            self._cache.dirty.move_to_end(inode.ino, last=False)

    def start(self, inode: Inode, now: float) -> int:
        """Make all that is dirty flushing, and give it a tid; 0 if nothing is dirty."""
        if not inode.dirty:
            return 0
        bits, inode.dirty = inode.dirty, 0
        inode.flushing |= bits
        del self._cache.dirty[inode.ino]
        return self.record(inode, bits, now).tid

    def record(self, inode: Inode, bits: int, now: float, snap: CapSnap | None = None) -> Flush:
        """A flush of ``bits``, or of a snapshot's state, begins."""
        self.last_tid += 1
        flush = Flush(self.last_tid, inode.ino, bits, now, snap)
        inode.flushes += (flush,)
        self._cache.flushes[flush.tid] = flush
        return flush

    def flush(self, inode: Inode, now: float, *, sync: bool = False) -> bool:
        """Send what is dirty to the authority; False if nothing is. Gives no cap back.

        While nobody is in charge it gets its tid all the same, and is sent with the others to whoever takes over.

        Args:
            sync: someone waits: the MDS is to journal it now and not with its next tick.
        """
        tid = self.start(inode, now)
        cap = self.authority(inode)
        if tid and cap is not None:
            self.send(inode, cap, CapOp.FLUSH, wanted=cap.mds_wanted, tid=tid, sync=sync)
        return bool(tid)

    def authority(self, inode: Inode) -> InodeCap | None:
        """The cap under which flushes may be sent now; None while the inode moves or its rank recovers."""
        cap = inode.auth_cap
        return None if cap is None or self._cache.waits(cap) else cap

    # Sending

    def send(
        self,
        inode: Inode,
        cap: InodeCap,
        op: CapOp,
        *,
        wanted: int,
        tid: int = 0,
        max_size: int = 0,
        sync: bool = False,
    ) -> None:
        """Tell the rank how things stand with ``cap``, and what flush ``tid`` brings."""
        dirty = self._cache.flushes[tid].caps if tid else 0
        flags = ClientCapsFlag.SYNC if sync else 0
        if inode.unsent_snap or (tid and self._newest_snap_tid(inode) > tid):
            flags |= ClientCapsFlag.PENDING_CAPSNAP
        message = cap_message(
            inode,
            cap,
            op,
            wanted=wanted,
            dirty=dirty,
            max_size=max_size,
            flags=flags,
            barrier=self._cache.osd_epoch_barrier,
            oldest_flush_tid=self.oldest_tid,
        )
        self._cache.out.append(Send(cap.rank, message, tid))
        if inode.use is not None:
            inode.use.reported_size = inode.size
        if dirty:
            self._cache.emit(CapFlushing, inode, cap, dirty, flush_tid=tid)

    def send_snap(self, inode: Inode, cap: InodeCap, flush: Flush) -> None:
        """Send the FLUSHSNAP that ``flush`` records."""
        assert flush.snap is not None
        message = flushsnap_message(
            inode,
            flush.snap,
            mseq=cap.mseq,
            pending=inode.unsent_snap or self._newest_snap_tid(inode) > flush.tid,
            barrier=self._cache.osd_epoch_barrier,
            oldest_flush_tid=self.oldest_tid,
        )
        self._cache.out.append(Send(cap.rank, message, flush.tid))
        self._cache.emit(CapFlushing, inode, cap, flush.caps, flush_tid=flush.tid)

    def resend(self, inode: Inode, cap: InodeCap, after: int = 0) -> None:
        """Send every flush on its way again, oldest first and with its first tid: a known one is only acknowledged.

        Args:
            after: leave out those up to this tid.
        """
        for flush in inode.flushes:
            if flush.tid <= after:
                continue
            if flush.snap is not None:
                self.send_snap(inode, cap, flush)
            else:
                self.send(inode, cap, CapOp.FLUSH, wanted=cap.mds_wanted, tid=flush.tid)

    def _newest_snap_tid(self, inode: Inode) -> int:
        return next((flush.tid for flush in reversed(inode.flushes) if flush.snap is not None), 0)

    # Acknowledged

    def acknowledged(self, inode: Inode, rank: int, tid: int, now: float) -> bool:
        """The MDS has flush ``tid`` and all before it; gives whether that was news.

        A bit is clean only if no later flush carries it: "flush 1, change again, flush 2, ack 1" leaves it flushing.
        The bits the ack names are not looked at. Snapshots' flushes are acknowledged one by one.
        """
        done = [flush for flush in inode.flushes if flush.snap is None and flush.tid <= tid]
        if not done or done[-1].tid != tid:
            return False  # known already: it was sent twice
        self._finish(inode, done, rank, now)
        inode.flushing = 0
        for flush in inode.flushes:
            if flush.snap is None:
                inode.flushing |= flush.caps
        cleaned = 0
        for flush in done:
            cleaned |= flush.caps & ~inode.flushing
        cap = inode.cap(rank)
        if cap is not None:
            self._cache.emit(CapFlushed, inode, cap, cleaned, flush_tid=tid)
        self.drop_head(inode)
        self._cache.let_go(inode)
        return True

    def snap_acknowledged(self, inode: Inode, rank: int, follows: int, tid: int, now: float) -> bool:
        """The MDS has the state of a snapshot; gives whether that was news. Acknowledgements of old attempts do not
        count, and doubles are normal."""
        for flush in inode.flushes:
            if flush.tid == tid and flush.snap is not None and flush.snap.context.seq == follows:
                self._finish(inode, [flush], rank, now)
                assert inode.use is not None
                inode.use.cap_snaps.remove(flush.snap)
                cap = inode.cap(rank)
                if cap is not None:
                    self._cache.emit(CapFlushed, inode, cap, flush.caps, flush_tid=tid)
                self._cache.wake(inode)
                self._cache.let_go(inode)
                return True
        return False

    def _finish(self, inode: Inode, done: list[Flush], rank: int, now: float) -> None:
        inode.flushes = tuple(flush for flush in inode.flushes if flush not in done)
        for flush in done:
            del self._cache.flushes[flush.tid]
            self._cache.rank(rank).flushed.add(now - flush.sent_at)

    def drop_head(self, inode: Inode) -> None:
        """What is changed from now on may belong to a newer snap context, once nothing of the present one is left."""
        use = inode.use
        if use is not None and not (inode.dirty or inode.flushing or use.wr or use.dirty_data):
            use.head = None

    def forget(self, inode: Inode) -> int:
        """Give up what is dirty or on its way: it is lost. Gives the bits."""
        lost = inode.dirty | inode.flushing
        for flush in inode.flushes:
            self._cache.flushes.pop(flush.tid, None)
            lost |= flush.caps
        if inode.use is not None:
            for snap in inode.use.cap_snaps:
                lost |= snap.dirty if snap.need_flush else 0
            inode.use.cap_snaps.clear()
        self._cache.dirty.pop(inode.ino, None)
        inode.flushes = ()
        inode.dirty = inode.flushing = 0
        if lost & Cap.XATTR_EXCL:
            xattrs.forget(inode)
        self.drop_head(inode)
        return lost

    # What was changed and nobody asked for

    def next_deadline(self) -> float:
        ino = next(iter(self._cache.dirty), None)
        return float("inf") if ino is None else self._flush_at(self._cache.inodes[ino])

    def tick(self, now: float) -> None:
        """Flush what was changed long enough ago; the rest is not looked at."""
        while self._cache.dirty:
            inode = self._cache.inodes[next(iter(self._cache.dirty))]
            if self._flush_at(inode) > now:
                return
            self.flush(inode, now)

    def _flush_at(self, inode: Inode) -> float:
        return self._cache.use(inode).dirty_since + FLUSH_DELAY
