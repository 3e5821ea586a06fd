"""Caps given, asked back and taken in, as the locks of an inode have it.

Facts: ceph: src/mds/Locker.cc (``get_allowed_caps``, ``issue_caps``, ``revoke_stale_cap``, ``remove_client_cap``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from cephcaps.testing.mds.capability import Cap
from cephcaps.testing.mds.holding import Holding
from cephcaps.testing.mds.inode import Inode
from cephcaps.testing.mds.lockcache import CACHED_OPS, LockCache
from cephcaps.testing.mds.locker import Locker
from cephcaps.testing.mds.locks import Who
from cephcaps.testing.mds.loner import choose_loner
from cephcaps.testing.mds.request import Mutation
from cephcaps.testing.mds.session import Session
from cephwire.capbits import Cap as Bit
from cephwire.caps import CapOp

__all__ = ["CapKeeper", "CapTeller"]


class CapTeller(Protocol):
    """Who carries what the keeper decides."""

    def tell_caps(self, cap: Cap, op: CapOp) -> None:
        """Send the client what it has now."""

    def flush_soon(self) -> None:
        """Make safe what has been changed, once this message is done with."""

    def later(self, step: Callable[[], object]) -> None:
        """Do this once what is being done is done with."""

    def too_late(self, session: Session) -> None:
        """A stale client may still change what others need now: throw it out, unless it only seems to be silent."""

    def fit_ranges(self, inode: Inode) -> None:
        """A client that wrote does so no more."""

    def unused(self, inode: Inode) -> None:
        """Nobody holds a cap of it any more."""


class CapKeeper:
    """Holds caps and lock states together.

    Attributes:
        revoking: caps that clients are asked to give back, in full or in part.
        locker, holding: what changes and what takes locks.
        last_cap_id: of the newest cap.
    """

    def __init__(self, teller: CapTeller) -> None:
        self.revoking: dict[Cap, None] = {}
        self.locker: Locker = Locker(self)
        self.holding: Holding = Holding(self.locker, self)
        self.last_cap_id: int = 0
        self.now: float = 0.0
        self._teller = teller

    # Caps

    def get(self, inode: Inode, session: Session) -> Cap:
        """The client's cap, made if need be."""
        cap = inode.caps.get(session)
        if cap is None:
            cap = self.add(inode, session)
            choose_loner(inode)
        return cap

    def add(self, inode: Inode, session: Session) -> Cap:
        """A client's first cap of an inode."""
        self.last_cap_id += 1
        cap = inode.caps[session] = session.caps[inode.ino] = Cap(session, inode, self.last_cap_id)
        return cap

    def want(self, inode: Inode, session: Session, wanted: int) -> Cap:
        """The client has it open (ceph: ``issue_new_caps``); a reply is to tell it what it gets."""
        cap = inode.caps.get(session)
        if cap is None:
            cap = self.add(inode, session)
            cap.new = True
        cap.want(cap.wanted | wanted)
        cap.suppressed += 1
        self.locker.evaluate(inode)
        cap.suppressed -= 1
        if self.awaits_journal(inode, wanted & ~self.allowed(cap)):
            self._teller.flush_soon()
        return cap

    def drop(self, cap: Cap) -> None:
        """The client holds nothing of the inode any more."""
        inode, session = cap.inode, cap.session
        notable = cap.notable
        self.holding.end_all(cap)
        cap.want(0)
        inode.caps.pop(session, None)
        session.caps.pop(inode.ino, None)
        session.opened.discard(inode)
        self.revoking.pop(cap, None)
        if inode.loner is session:
            inode.loner = None
        if session.client in inode.max_size and (inode.nlink or inode.caps):
            self._teller.fit_ranges(inode)
        if notable:
            self.locker.evaluate(inode)
        if not inode.caps:
            self._teller.unused(inode)

    def confirmed(self, cap: Cap, seq: int, bits: int) -> None:
        """The client says what it still holds."""
        cap.confirmed(seq, bits)
        if not cap.revoking:
            self.revoking.pop(cap, None)
        self.holding.given_back(cap)

    def allowed(self, cap: Cap) -> int:
        """What a client may have now."""
        inode, session = cap.inode, cap.session
        bits = inode.allowed_by(Who.LONER if session is inode.loner else Who.ANY)
        bits |= inode.allowed_by(Who.XLOCKER) & inode.xlocker_mask(session)
        return _in_dir(cap, bits) if inode.is_dir else bits

    def tellable(self, cap: Cap) -> int:
        """What a reply may tell it has (ceph: ``CInode::get_caps_allowed_for_client``)."""
        inode, session = cap.inode, cap.session
        if session is not inode.loner:
            bits = inode.allowed_by(Who.ANY)
        else:
            bits = inode.allowed_by(Who.LONER) | inode.allowed_by(Who.XLOCKER) & inode.xlocker_mask(session)
        return _in_dir(cap, bits) if inode.is_dir else bits

    def issue(self, inode: Inode) -> None:
        """Ask back what clients may not have, give what they want and may."""
        for cap in list(inode.caps.values()):
            self.reissue(cap)

    def reissue(self, cap: Cap) -> None:
        """The same for one client."""
        allowed = self.allowed(cap)
        if cap.pending & ~allowed:
            if cap.stale:
                self._take_from_stale(cap, allowed)
                return
        elif cap.new or cap.suppressed or cap.stale:
            return
        wanted = cap.wanted
        if cap.inode.unlinked:
            wanted |= Bit.LINK_SHARED  # so that whoever holds it is told, and gives it up
        likes = (wanted | cap.inode.likes) & allowed
        if cap.pending & ~allowed:
            before = cap.pending
            cap.issue(likes & cap.pending)
            self._tell(cap, before)
        elif wanted & allowed & ~cap.pending or not cap.valid:
            before = cap.pending if cap.valid else cap.issued
            cap.issue(likes)
            self._tell(cap, before)

    def _tell(self, cap: Cap, before: int) -> None:
        cap.valid = True
        op = CapOp.REVOKE if before & ~cap.pending else CapOp.GRANT
        if cap.revoking:
            cap.revoked_at = cap.revoked_at or self.now
            self.revoking[cap] = None
        self._teller.tell_caps(cap, op)

    def _take_from_stale(self, cap: Cap, allowed: int) -> None:
        """It has not been heard of for long: what it only reads is taken, what it may change costs its session."""
        cap.issue(allowed & cap.pending)
        if cap.revoking & Bit.ANY_WR:
            self.revoking[cap] = None
            cap.revoked_at = cap.revoked_at or self.now
            self._teller.too_late(cap.session)
        else:
            self.revoke_stale(cap)
            self._teller.later(lambda: self.locker.gather_all(cap.inode))

    def revoke_stale(self, cap: Cap) -> None:
        """Take all but the pin, as if the client had given it back (ceph: ``Capability::revoke``)."""
        if cap.pending & ~Bit.PIN:
            cap.issue(Bit.PIN)
        self.confirmed(cap, cap.seq, Bit.PIN)

    # Locks

    def awaits_journal(self, inode: Inode, wanted: int) -> bool:
        """Whether caps are wanted whose lock waits for a change to be safe (ceph: ``_need_flush_mdlog``)."""
        return any(
            lock.in_the_way and wanted >> lock.shift & 3 for lock in (inode.file, inode.auth, inode.link, inode.xattr)
        ) or bool(inode.file.in_the_way and wanted & (Bit.FILE_RD | Bit.FILE_WR))

    def release(self, mutation: Mutation, hows: str = "rwx") -> dict[Inode, None]:
        """Give back a mutation's locks, and tell clients what comes of it; of which inodes."""
        to = self.holding.drop(mutation, hows)
        self.locker.tell(to)
        return to

    # Issuer and Holder

    def flush_soon(self) -> None:
        self._teller.flush_soon()

    def end_cache(self, cache: LockCache) -> None:
        self.holding.end(cache)

    def later(self, cache: LockCache) -> None:
        self._teller.later(lambda: self.release(cache))


def _in_dir(cap: Cap, bits: int) -> int:
    bits &= ~Bit.ANY_DIR_OPS
    if bits & Bit.FILE_EXCL:
        for op, cache in cap.lock_caches.items():
            bits |= 0 if cache.ending else CACHED_OPS[op]
    return bits
