"""Dirty metadata: marked, flushed under tids, acknowledged, waited for; and the one message that carries caps.

A bit is dirty from the change to the flush, flushing from there to the acknowledgement. Flush tids come from one
counter for the whole client, over all ranks, and are never used twice: an MDS acknowledges a tid it has completed
without applying it again. Sources: kernel: fs/ceph/caps.c, ``__mark_caps_flushing``, ``handle_cap_flush_ack``,
``__prep_cap``; ceph: src/mds/Locker.cc, ``handle_client_caps``.
"""

from __future__ import annotations

from cephcaps.engine.cache import Cache, Send
from cephcaps.engine.inode import Flush, Inode, InodeCap
from cephcaps.events import CapFlushed, CapFlushing
from cephwire.capbits import Cap
from cephwire.caps import CapBody, CapOp, ClientCaps, ClientCapsFlag
from cephwire.inode import INLINE_NONE

__all__ = ["Flushes"]


FLUSH_DELAY = 5.0
"""Seconds for which a change may wait to be joined by others (libcephfs: ``client_caps_release_delay``)."""
NO_CALLER = 2**32 - 1
"""``caller_uid`` of what is not done for anybody: the MDS checks no permission. The change was checked when made."""


class Flushes:
    """Every change of ours that an MDS has not got safely yet."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self.last_tid = 0

    @property
    def oldest_tid(self) -> int:
        """The MDS may forget flushes completed before this one; 0 is none on their way."""
        return next(iter(self._cache.flushes), 0)

    def mark_dirty(self, inode: Inode, bits: int, now: float) -> None:
        if not inode.dirty:
            inode.dirty_since = now
            self._cache.dirty[inode.ino] = None
        inode.dirty |= bits

    def start(self, inode: Inode, now: float) -> int:
        """Make all that is dirty flushing, and give it a tid; 0 if nothing is dirty."""
        if not inode.dirty:
            return 0
        self.last_tid += 1
        flush = Flush(self.last_tid, inode.ino, inode.dirty, now)
        inode.flushing |= inode.dirty
        inode.dirty = 0
        del self._cache.dirty[inode.ino]
        inode.flushes.append(flush)
        self._cache.flushes[flush.tid] = flush
        return flush.tid

    def flush(self, inode: Inode, now: float, *, sync: bool = False) -> bool:
        """Send what is dirty to the authority; False while there is none. Gives no cap back.

        Args:
            sync: someone waits: the MDS is to journal it now and not with its next tick.
        """
        cap = inode.auth_cap
        if cap is None or not inode.dirty:
            return False
        tid = self.start(inode, now)
        self.send(inode, cap, CapOp.FLUSH, wanted=cap.mds_wanted, tid=tid, sync=sync)
        return True

    def resend(self, inode: Inode, cap: InodeCap) -> None:
        """Send every flush on its way again, with its first tid, oldest first."""
        for flush in inode.flushes:
            self.send(inode, cap, CapOp.FLUSH, wanted=cap.mds_wanted, tid=flush.tid, dirty=flush.caps)

    def send(
        self,
        inode: Inode,
        cap: InodeCap,
        op: CapOp,
        *,
        wanted: int,
        tid: int = 0,
        dirty: int | None = None,
        max_size: int = 0,
        sync: bool = False,
    ) -> None:
        """The message that says what we hold, want and have changed.

        A flush carries every field of its lock as it is here, btime with the AUTH fields: the MDS takes what it is
        sent, zeros included.
        """
        if tid and dirty is None:
            dirty = self._cache.flushes[tid].caps
        flushes_xattrs = bool(dirty and dirty & Cap.XATTR_EXCL and inode.xattrs is not None)
        message = ClientCaps(
            op=op,
            ino=inode.ino,
            realm=0,
            cap_id=cap.cap_id,
            seq=cap.seq,
            issue_seq=cap.issue_seq,
            caps=cap.implemented,
            wanted=wanted,
            dirty=dirty or 0,
            mseq=cap.mseq,
            snap_follows=0,
            uid=inode.uid,
            gid=inode.gid,
            mode=inode.mode,
            nlink=0,
            xattr_version=inode.xattr_version,
            body=CapBody(
                size=inode.size,
                max_size=max_size,
                truncate_size=inode.truncate_size,
                truncate_seq=inode.truncate_seq,
                mtime=inode.mtime,
                atime=inode.atime,
                ctime=inode.ctime,
                layout=inode.layout,
                time_warp_seq=inode.time_warp_seq,
            ),
            snap_trace=b"",
            xattrs=b"",
            inline_version=INLINE_NONE if dirty and dirty & Cap.ANY_FILE_WR else 0,
            osd_epoch_barrier=self._cache.osd_epoch_barrier,
            oldest_flush_tid=self.oldest_tid,
            caller_uid=NO_CALLER,
            caller_gid=NO_CALLER,
            pool_ns=inode.pool_ns,
            btime=inode.btime,
            change_attr=inode.change_attr,
            flags=ClientCapsFlag.SYNC if sync else 0,
        )
        assert not flushes_xattrs, "extended attributes are changed by requests only"
        self._cache.out.append(Send(cap.rank, message, tid))
        if dirty:
            self._cache.emit(CapFlushing, inode, cap, dirty, flush_tid=tid)

    def acknowledged(self, inode: Inode, rank: int, tid: int) -> bool:
        """The MDS has flush ``tid`` and all before it; gives whether that was news.

        A bit is clean only if no later flush carries it: "flush 1, change again, flush 2, ack 1" leaves it flushing.
        The bits the ack names are not looked at.
        """
        if not any(flush.tid == tid for flush in inode.flushes):
            return False  # known already: it was sent twice
        done = [flush for flush in inode.flushes if flush.tid <= tid]
        inode.flushes = [flush for flush in inode.flushes if flush.tid > tid]
        inode.flushing = 0
        for flush in inode.flushes:
            inode.flushing |= flush.caps
        cleaned = 0
        for flush in done:
            del self._cache.flushes[flush.tid]
            cleaned |= flush.caps & ~inode.flushing
        cap = inode.caps.get(rank)
        if cap is not None:
            self._cache.emit(CapFlushed, inode, cap, cleaned, flush_tid=tid)
        self._cache.let_go(inode)
        return True

    def forget(self, inode: Inode) -> int:
        """Give up what is dirty or on its way: it is lost. Gives the bits."""
        lost = inode.dirty | inode.flushing
        for flush in inode.flushes:
            self._cache.flushes.pop(flush.tid, None)
        self._cache.dirty.pop(inode.ino, None)
        inode.flushes = []
        inode.dirty = inode.flushing = 0
        return lost

    # What was changed and nobody asked for

    def next_deadline(self) -> float:
        ino = next(iter(self._cache.dirty), None)
        return float("inf") if ino is None else self._cache.inodes[ino].dirty_since + FLUSH_DELAY

    def tick(self, now: float) -> None:
        """Flush what was changed long enough ago; the rest is not looked at."""
        while self._cache.dirty:
            inode = self._cache.inodes[next(iter(self._cache.dirty))]
            if inode.dirty_since + FLUSH_DELAY > now:
                return
            if not self.flush(inode, now):
                inode.dirty_since = now  # no authority just now: its IMPORT will take it along
                self._cache.dirty.move_to_end(inode.ino)
