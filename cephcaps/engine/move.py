"""Caps that move from rank to rank with their inode.

The rank that gives an inode up sends EXPORT, the one that takes it IMPORT; each names the other's cap, and either may
arrive first. Nothing is owed to the old rank: what is dirty or on its way goes, with its tids, to the new. Sources:
kernel: fs/ceph/caps.c, ``handle_cap_export``, ``handle_cap_import``; ceph: src/mds/Migrator.cc.
"""

from __future__ import annotations

from cephcaps.engine.cache import Cache
from cephcaps.engine.check import Checks
from cephcaps.engine.flush import Flushes
from cephcaps.engine.grants import Grants
from cephcaps.engine.inode import Inode, InodeCap, newer
from cephcaps.engine.realms import Realms
from cephcaps.engine.release import Releases
from cephcaps.events import CapExported, CapImported
from cephwire.caprelease import CapItem
from cephwire.caps import CapFlag, CapPeer, ClientCaps

__all__ = ["Moves"]

U32 = 1 << 32
MAX_MDS = 256
"""Ranks there can be (ceph: src/mds/mdstypes.h)."""
NOBODY = CapPeer(0, 0, 0, 0, 0)


class Moves:
    """Follows them."""

    def __init__(
        self, cache: Cache, flushes: Flushes, checks: Checks, grants: Grants, releases: Releases, realms: Realms
    ) -> None:
        self._cache = cache
        self._flushes = flushes
        self._checks = checks
        self._grants = grants
        self._releases = releases
        self._realms = realms

    def exported(self, inode: Inode, cap: InodeCap, message: ClientCaps, now: float) -> None:
        """``cap``'s rank has handed the inode on, with what it had granted.

        Until the IMPORT comes a placeholder stands for the cap at its new rank, one seq behind, so that whatever
        comes from there counts as newer.
        """
        assert isinstance(message.body, CapPeer)
        peer = message.body
        if not 0 <= peer.mds < MAX_MDS or peer.mds == cap.rank:
            peer = NOBODY
        was_auth = inode.auth_rank == cap.rank
        self._cache.emit(CapExported, inode, cap, cap.issued)
        target = inode.cap(peer.mds) if peer.cap_id else None
        if target is not None and target.cap_id == peer.cap_id:
            if newer(peer.issue_seq, target.seq) > 0:
                target.issued |= cap.issued
                target.implemented |= cap.implemented
                self._stand_in(target, peer)
                if was_auth:
                    inode.auth_rank = peer.mds
            # Else its IMPORT was here first, and said all that.
        elif peer.cap_id:
            if target is None:
                target = self._cache.add_cap(inode, peer.mds, peer.cap_id, peer.issue_seq, peer.mseq, None)
            if newer(peer.mseq, target.mseq) >= 0:
                target.cap_id = peer.cap_id
                target.issued, target.implemented = cap.issued, cap.implemented
                target.mds_wanted = cap.mds_wanted
                self._stand_in(target, peer)
                self._cache.note_revoking(inode, target, now)
                if was_auth:
                    inode.auth_rank = peer.mds
            self._cache.need_session(peer.mds)
        cap.issued = 0
        self._cache.remove_cap(inode, cap)
        self._cache.wake(inode)

    def _stand_in(self, target: InodeCap, peer: CapPeer) -> None:
        target.seq = target.issue_seq = (peer.issue_seq - 1) % U32
        target.mseq = peer.mseq
        target.standing_in = True

    def imported(self, inode: Inode, rank: int, message: ClientCaps, now: float) -> None:
        """``rank`` has taken the inode over, with what the other had granted."""
        cap = inode.cap(rank)
        if cap is None:
            cap = self._cache.add_cap(inode, rank, message.cap_id, message.seq, message.mseq, None)
        elif cap.gen != self._cache.rank(rank).gen:
            self._grants.cut(inode, cap)
        self._grants.take_fields(inode, message, True, now)  # by what we held until now
        before = cap.issued
        stood_in = cap.cap_id == message.cap_id and newer(message.seq, cap.seq) <= 0
        cap.cap_id = message.cap_id
        cap.issued = message.caps | cap.issued if stood_in else message.caps
        cap.implemented |= cap.issued
        if not stood_in:
            cap.seq = message.seq
        cap.issue_seq = message.seq
        cap.mseq = message.mseq
        cap.mds_wanted = message.wanted
        cap.gen = self._cache.rank(rank).gen
        cap.standing_in = False
        auth = inode.auth_cap
        if auth is None or newer(message.mseq, auth.mseq) >= 0:
            inode.auth_rank = rank
        self._drop_peer(inode, message.peer, rank, now)
        self._realms.enter(inode, message.realm, now, auth=rank == inode.auth_rank)
        self._cache.note_issue(inode, before, cap.issued)
        self._cache.note_revoking(inode, cap, now)
        self._cache.emit(CapImported, inode, cap, cap.issued)
        if rank == inode.auth_rank:
            if inode.use is not None:
                inode.use.requested_max_size = 0  # what the other was asked for, this one does not know
            # What left on its way there may have been dropped in silence; a flush that is known is acknowledged again.
            self._flushes.resend(inode, cap)
        self._cache.wake(inode)
        self._checks.check(inode, now)

    def _drop_peer(self, inode: Inode, peer: CapPeer | None, rank: int, now: float) -> None:
        """The exporter's cap is no more; it asks to be told so if its EXPORT will not come."""
        old = inode.cap(peer.mds) if peer is not None and peer.cap_id and peer.mds != rank else None
        if old is None or peer is None or old.cap_id != peer.cap_id:
            return
        if peer.flags & CapFlag.RELEASE:
            self._releases.queue(old.rank, CapItem(inode.ino, old.cap_id, old.mseq, old.issue_seq), now)
        self._cache.remove_cap(inode, old)
