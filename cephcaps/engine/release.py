"""Giving whole caps back: queued, sent in batches, and at once where an MDS waits.

Sources: kernel: fs/ceph/caps.c, ``__ceph_queue_cap_release``; fs/ceph/mds_client.c, ``ceph_send_cap_releases``.
"""

from __future__ import annotations

from cephcaps.engine.cache import Cache, Send
from cephcaps.engine.inode import Inode
from cephcaps.events import CapReleased
from cephwire.caprelease import CapItem, ClientCapRelease

__all__ = ["CAPS_PER_RELEASE", "Releases"]

CAPS_PER_RELEASE = 170
"""Items of one message: as many as a page holds, as the kernel fills it (``CEPH_CAPS_PER_RELEASE``)."""
RELEASE_DELAY = 1.0
"""Seconds a release waits for company (libcephfs' tick; the kernel's is 5)."""


class Releases:
    """The queue of every rank.

    Attributes:
        sent: messages and items sent so far.
    """

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self.sent: list[int] = [0, 0]

    def drop(self, inode: Inode, now: float) -> None:
        """Forget ``inode``; its caps go out with the next batch."""
        for cap in list(inode.caps.values()):
            if not cap.standing_in:  # its IMPORT will find nothing here, and be answered for that
                self.queue(cap.rank, CapItem(inode.ino, cap.cap_id, cap.mseq, cap.issue_seq), now)
            held, cap.issued = cap.issued | cap.implemented, 0
            self._cache.emit(CapReleased, inode, cap, held)
            self._cache.remove_cap(inode, cap)
        self._cache.forget(inode)

    def queue(self, rank: int, item: CapItem, now: float, *, at_once: bool = False) -> None:
        """The MDS takes the cap only if it has issued nothing since the item's ``issue_seq``."""
        state = self._cache.rank(rank)
        if not state.releases:
            state.release_at = now + RELEASE_DELAY
        if at_once:
            state.release_at = now
        state.releases.append(item)
        if len(state.releases) >= CAPS_PER_RELEASE:
            self.flush(rank)

    def flush(self, rank: int) -> None:
        """Send what is queued for ``rank``."""
        state = self._cache.rank(rank)
        if not state.releases or state.recovering:
            return
        message = ClientCapRelease(tuple(state.releases), self._cache.osd_epoch_barrier)
        self.sent[0] += 1
        self.sent[1] += len(state.releases)
        state.releases = []
        state.release_at = float("inf")
        self._cache.out.append(Send(rank, message))

    def next_deadline(self) -> float:
        ranks = self._cache.ranks.values()
        return min((rank.release_at for rank in ranks if not rank.recovering), default=float("inf"))

    def tick(self, now: float) -> None:
        for rank in self._cache.ranks.values():
            if rank.release_at <= now:
                self.flush(rank.rank)
