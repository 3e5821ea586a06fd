"""What becomes of caps when a session opens, goes stale, is renewed, is asked to hold less, breaks or ends.

Sources: kernel: fs/ceph/mds_client.c, ``handle_session``, ``ceph_trim_caps``, ``send_mds_reconnect``,
``cleanup_session_requests``; fs/ceph/caps.c, ``ceph_early_kick_flushing_caps``; ceph: src/client/Client.cc.
"""

from __future__ import annotations

from collections.abc import Callable

from cephcaps.actions import Failed
from cephcaps.caps import Caps
from cephcaps.engine.cache import Cache
from cephcaps.engine.flush import Flushes
from cephcaps.engine.grants import Grants
from cephcaps.engine.hooks import Hooks
from cephcaps.engine.inode import Inode, InodeCap
from cephcaps.engine.refs import Refs
from cephcaps.engine.release import Releases
from cephcaps.errors import SessionLost
from cephwire.capbits import Cap
from cephwire.caprelease import CapItem

__all__ = ["Sessions"]

NEVER = float("inf")


class Sessions:
    """The engine's side of every session."""

    def __init__(
        self,
        cache: Cache,
        flushes: Flushes,
        grants: Grants,
        releases: Releases,
        hooks: Hooks,
        refs: Refs,
    ) -> None:
        self._cache = cache
        self._flushes = flushes
        self._grants = grants
        self._releases = releases
        self._hooks = hooks
        self._refs = refs

    # Its time

    def opened(self, rank: int, gen: int, ttl: float, features: int) -> None:
        state = self._cache.rank(rank)
        state.gen, state.ttl, state.features, state.read_only = gen, ttl, features, False

    def stale(self, rank: int, gen: int) -> None:
        """Caps do not count until they are granted again."""
        state = self._cache.rank(rank)
        state.gen, state.ttl = gen, 0.0
        self._grants.session_stale(rank)

    def renewed(self, rank: int, ttl: float, now: float) -> None:
        state = self._cache.rank(rank)
        was_stale, had_run_out, state.ttl = not state.ttl, state.ttl <= now, ttl
        if was_stale:
            self._grants.session_renewed(rank, now)
        if had_run_out:
            self._refs.wake_all()

    def read_only(self, rank: int) -> None:
        """The MDS takes no changes any more: those who wait to make some are told."""
        self._cache.rank(rank).read_only = True
        for ino in self._cache.in_use:
            self._cache.wake(self._cache.inodes[ino])

    def suspended(self, rank: int) -> None:
        """It is not known what has become of the session: nothing counts, and nothing can be sent."""
        state = self._cache.rank(rank)
        state.recovering, state.ttl = True, 0.0

    def unseated(self, rank: int, now: float) -> None:
        """The MDS is gone. Caps that nothing pins are dropped; as they will not be told, nobody is owed a release."""
        state = self._cache.rank(rank)
        state.recovering = True
        for inode, _ in self._cache.caps_of(rank):
            if not inode.pinned:
                self._releases.drop(inode, now)
        state.releases = []
        state.release_at = NEVER

    # Its end

    def lost(self, rank: int, error: Exception, now: float) -> dict[int, str]:
        """Forget everything of a session that is gone; names, by inode, what was changed here and is lost.

        Whoever has such an inode open hears of it once, at his next fsync or close.
        """
        lost: dict[int, str] = {}
        state = self._cache.rank(rank)
        state.releases = []
        state.release_at = NEVER
        state.gen, state.ttl = state.gen + 1, 0.0
        state.recovering = False
        for inode, cap in self._cache.caps_of(rank):
            if inode.auth_rank == rank:
                bits = self._flushes.forget(inode)
                if self._hooks.drop(inode, now):
                    bits |= Cap.FILE_BUFFER
                if bits:
                    lost[inode.ino] = f"inode {inode.ino:#x}: {Caps.of(bits)}"
                    if inode.use is not None:
                        self._hooks.failed(inode, _naming(error, lost[inode.ino]))
            self._cache.remove_cap(inode, cap)
            if not inode.caps:
                self._nothing_left(inode, error)
        self._refs.wake_all()
        return lost

    def _nothing_left(self, inode: Inode, error: Exception) -> None:
        if inode.use is not None:
            inode.use.lost = error
        for wait in list(inode.use.waiting) if inode.use is not None else ():
            self._refs.cancel(wait.token)
            self._cache.out.append(Failed(wait.token, error))
        self._cache.let_go(inode)

    # Holding less

    def recalled(self, rank: int, max_caps: int, now: float) -> None:
        """The MDS wants us to hold fewer caps: let go of what was not touched for longest and nobody needs."""
        state = self._cache.rank(rank)
        self.trim(lambda: state.num_caps > max_caps, now, rank)
        self._releases.flush(rank)

    def trim(self, more: Callable[[], bool], now: float, rank: int | None = None) -> None:
        """Drop inodes that nothing pins, the coldest first, while there should be ``more``.

        Args:
            rank: whose caps matter; of an inode that must stay a cap of his goes alone, if another's covers its use.
        """
        if not more():
            return
        for inode in self._cache.coldest():
            if not inode.pinned:
                self._releases.drop(inode, now)
            else:
                self._cache.touch(inode)  # it has had its turn
                if rank is not None:
                    self._make_way(inode, rank, now)
            if not more():
                return

    def _make_way(self, inode: Inode, rank: int, now: float) -> None:
        """Of an inode that is pinned: what would let it, or at least this rank's cap, go."""
        cap = inode.cap(rank)
        if cap is not None and rank != inode.auth_rank and self._spare(inode, cap):
            self._releases.queue(rank, CapItem(inode.ino, cap.cap_id, cap.mseq, cap.issue_seq), now)
            self._cache.remove_cap(inode, cap)
            return
        use = inode.use
        if use is not None and not use.modes and use.cached_gen and not use.dirty_data:
            self._hooks.invalidate(inode, now)
        elif use is None or not use.modes:
            self._flushes.hurry(inode)

    def _spare(self, inode: Inode, cap: InodeCap) -> bool:
        """Whether all that is used and wanted is covered by other ranks' caps (kernel: ``trim_caps_cb``)."""
        others = 0
        for other in inode.caps.values():
            if other is not cap:
                others |= other.issued
        return not ((inode.used | inode.file_wanted) & ~others & cap.issued) and not cap.revoking


def _naming(error: Exception, lost: str) -> Exception:
    """``error``, with what of one inode it has cost."""
    if not isinstance(error, SessionLost):
        return error
    return SessionLost(f"{error}; changes the MDS has not got are lost: {lost}", reason=error.reason, lost=(lost,))
