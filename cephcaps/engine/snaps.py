"""An inode's state as snapshots have it, kept until the MDS has it too.

A snapshot does not wait for clients. Each that has changed an inode, or may be writing to it, keeps the inode as it was
and flushes that with a FLUSHSNAP, before any message that gives file-write bits back: when those are gone and no
FLUSHSNAP was announced, the MDS takes the inode as it is by then. Sources: kernel: fs/ceph/snap.c,
``ceph_queue_cap_snap``, ``__ceph_finish_cap_snap``; fs/ceph/caps.c, ``__ceph_flush_snaps``,
``handle_cap_flushsnap_ack``; ceph: src/mds/Locker.cc, ``_do_null_snapflush``.
"""

from __future__ import annotations

from collections.abc import Callable

from cephcaps.engine.cache import Cache
from cephcaps.engine.flush import Flushes
from cephcaps.engine.inode import CapSnap, Inode, SnapContext, Use
from cephwire.capbits import Cap

__all__ = ["CapSnaps"]

U64 = 1 << 64
CHANGES = Cap.AUTH_EXCL | Cap.LINK_EXCL | Cap.XATTR_EXCL | Cap.FILE_EXCL | Cap.FILE_WR
"""Bits under which a snapshot may differ from what the MDS has."""


class CapSnaps:
    """Keeps and flushes them.

    Args:
        write_back: has the handler write an inode's data to the OSDs.
    """

    def __init__(self, cache: Cache, flushes: Flushes, write_back: Callable[[Inode, float], None]) -> None:
        self._cache = cache
        self._flushes = flushes
        self._write_back = write_back

    def queue(self, inode: Inode, old: SnapContext, new: SnapContext, now: float) -> None:
        """From now on what is changed belongs to ``new``: keep what belongs to the context before."""
        use = inode.use
        if use is None:
            return
        # While the newest is still written to, nothing has begun that the next could hold.
        if not (use.cap_snaps and use.cap_snaps[-1].writing):
            self._keep(inode, use, use.head or old, new, now)
        if use.head is not None:
            use.head = new
        self._flushes.drop_head(inode)
        self.flush(inode, now)

    def _keep(self, inode: Inode, use: Use, old: SnapContext, new: SnapContext, now: float) -> None:
        dirty = inode.dirty | inode.flushing
        if use.wr:
            dirty |= Cap.FILE_WR  # the write that goes on will change size and times
        has_data = any(data.context == old for data in use.dirty_data)
        if has_data or dirty & CHANGES:
            snap = CapSnap(inode, old, self._cache.issued(inode, now), dirty & CHANGES, now)
            # A realm that only lost snapshots, or changed its place, makes no new ones to fill.
            snap.need_flush = bool(new.snaps and new.snaps[0] > old.seq and snap.dirty)
            snap.writing = bool(use.wr)
            if snap.need_flush or snap.writing or has_data:
                use.cap_snaps.append(snap)
                if inode.dirty & Cap.XATTR_EXCL:
                    # The snapshot's flush must not pass for the inode's own, which an MDS would then take for known.
                    inode.xattr_version = (inode.xattr_version + 1) % U64

    def written(self, inode: Inode, now: float) -> None:
        """Nobody writes any more: a snapshot that waited for that has its final state."""
        use = inode.use
        if use is not None and use.cap_snaps and use.cap_snaps[-1].writing:
            use.cap_snaps[-1].finish(inode)
            self._cache.wake(inode)
            self.flush(inode, now)

    def flush(self, inode: Inode, now: float) -> None:
        """Send the FLUSHSNAPs that can be sent, each once, in their order; none overtakes one that must wait."""
        use = inode.use
        cap = self._flushes.authority(inode)
        if use is None or not use.cap_snaps:
            return
        for snap in list(use.cap_snaps):
            if snap.writing:
                return
            if any(data.context == snap.context for data in use.dirty_data):
                self._write_back(inode, now)
                return
            if not snap.need_flush:
                use.cap_snaps.remove(snap)  # it was kept for its data, which are written
            elif not snap.flush_tid:
                flush = self._flushes.record(inode, snap.dirty, now, snap)
                snap.flush_tid = flush.tid
                if cap is not None:
                    self._flushes.send_snap(inode, cap, flush)
        self._cache.let_go(inode)
