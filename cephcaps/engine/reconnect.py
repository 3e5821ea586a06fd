"""What a rank that has come up anew is told of our caps, and what is sent it again.

The new MDS knows of no cap until it is told. Order is everything: flushes of bits another client may be granted go
before the RECONNECT, so that the MDS has our changes when it grants; the rest follow once it serves. Nothing may change
a cap between composing the message and sending it, which in one callback nothing does. Sources: kernel:
fs/ceph/mds_client.c, ``send_mds_reconnect``, ``reconnect_caps_cb``; fs/ceph/caps.c, ``ceph_early_kick_flushing_caps``,
``ceph_kick_flushing_caps``; ceph: src/client/Client.cc, ``send_reconnect``.
"""

from __future__ import annotations

from cephcaps.engine.cache import Cache, Send
from cephcaps.engine.check import Checks, wanted
from cephcaps.engine.flush import Flushes
from cephcaps.engine.inode import Inode, InodeCap
from cephcaps.engine.realms import Realms
from cephcaps.engine.release import Releases
from cephwire.capbits import Cap
from cephwire.reconnect import CapReconnect, ClientReconnect, ReconnectCap, SnapRealmReconnect
from cephwire.session import ClientFeature

__all__ = ["CAPS_PER_RECONNECT", "Reconnects"]

CAPS_PER_RECONNECT = 100_000
"""Of one message: some 10 MB. libcephfs splits at about 1 GiB (``MAX_RECONNECT_SIZE``)."""
WHOLE = 4
"""The version of RECONNECT that comes in one piece."""


class Reconnects:
    """The engine's part of a rank's recovery."""

    def __init__(self, cache: Cache, flushes: Flushes, checks: Checks, releases: Releases, realms: Realms) -> None:
        self._cache = cache
        self._flushes = flushes
        self._checks = checks
        self._releases = releases
        self._realms = realms
        self._early: dict[int, dict[int, int]] = {}
        """By rank and inode, the newest flush that went before the RECONNECT."""

    def compose(self, rank: int, gen: int, ttl: float) -> None:
        """Send what goes before the RECONNECT, and the RECONNECT.

        Unsent releases are dropped: what was released is simply not named. Both sides begin to count anew.
        """
        state = self._cache.rank(rank)
        before, state.gen, state.ttl = state.gen, gen, ttl
        state.releases, state.release_at = [], float("inf")
        state.read_only, state.recovering = False, True
        early = self._early[rank] = {}
        told: list[ReconnectCap] = []
        realms: dict[int, None] = {}
        for inode, cap in self._cache.caps_of(rank):
            was = cap.issued  # what was being asked back may be granted to others before our flush of it is applied
            self._renew(inode, cap, gen, stale=cap.gen != before)
            if inode.auth_rank == rank and inode.flushes and inode.flushing & ~was:
                self._flushes.resend(inode, cap)
                early[inode.ino] = inode.flushes[-1].tid
            told.append(ReconnectCap(inode.ino, self._entry(inode, cap)))
            if inode.realm:
                realms[inode.realm] = None
        known = [self._realms.realms[ino] for ino in sorted(realms) if ino in self._realms.realms]
        told.sort(key=lambda entry: entry.ino)
        self._tell(rank, told, [SnapRealmReconnect(realm.ino, realm.seq, realm.parent) for realm in known])

    def _tell(self, rank: int, told: list[ReconnectCap], realms: list[SnapRealmReconnect]) -> None:
        """The RECONNECT; in parts if it is large and the MDS takes parts, the last of which says that it is."""
        out = self._cache.out
        if not self._cache.rank(rank).features >> ClientFeature.MULTI_RECONNECT & 1:
            out.append(Send(rank, ClientReconnect(tuple(told), tuple(realms)), version=WHOLE))
            return
        rest = told
        while len(rest) > CAPS_PER_RECONNECT:
            part, rest = rest[:CAPS_PER_RECONNECT], rest[CAPS_PER_RECONNECT:]
            out.append(Send(rank, ClientReconnect(tuple(part), (), more=1)))
        out.append(Send(rank, ClientReconnect(tuple(rest), tuple(realms))))

    def _renew(self, inode: Inode, cap: InodeCap, gen: int, *, stale: bool) -> None:
        """The cap as it will be told. What was being asked back is ours again until the new MDS asks anew."""
        issued = Cap.PIN if stale else cap.implemented
        self._cache.note_issue(inode, cap.issued, issued)
        cap.issued = cap.implemented = issued
        cap.seq = cap.issue_seq = cap.mseq = 0
        cap.mds_wanted = wanted(inode)
        cap.gen = gen
        cap.standing_in = False
        self._cache.settled(inode, cap)

    def _entry(self, inode: Inode, cap: InodeCap) -> CapReconnect:
        use = inode.use
        follows = 0
        if use is not None:
            unsent = [snap.context.seq for snap in use.cap_snaps if snap.need_flush]
            follows = unsent[0] if unsent else use.head.seq if use.head is not None else 0
        return CapReconnect(
            path=inode.name,
            cap_id=cap.cap_id,
            wanted=cap.mds_wanted,
            issued=cap.issued,
            snaprealm=inode.realm,
            pathbase=inode.parent,
            flocks=inode.locks,
            snap_follows=follows,
        )

    def serving(self, rank: int, now: float) -> None:
        """The rank serves again: send it the flushes it may have lost, let go on who waited."""
        self._cache.rank(rank).recovering = False
        early = self._early.pop(rank, {})
        flushing = dict.fromkeys(flush.ino for flush in self._cache.flushes.values())
        for ino in flushing:
            inode = self._cache.inodes[ino]
            cap = inode.cap(rank)
            if cap is not None and inode.auth_rank == rank:
                self._flushes.resend(inode, cap, after=early.get(ino, 0))
        self._releases.flush(rank)
        for ino in dict.fromkeys([*self._cache.in_use, *self._cache.revoking]):
            inode = self._cache.inodes[ino]
            if rank not in inode.caps:
                continue
            if inode.use is not None:
                inode.use.wanted_max_size = inode.use.requested_max_size = 0
                self._cache.wake(inode)
            self._checks.check(inode, now)
