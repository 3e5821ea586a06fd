"""Caps given, asked back and taken in, as the locks of an inode have it.

Facts: ceph: src/mds/Locker.cc (``issue_caps``, ``eval``, ``eval_gather``), src/mds/Capability.h.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from cephcaps.testing.mds.inode import ROOT_INO, Cap, Inode
from cephcaps.testing.mds.locks import Lock, LockState
from cephcaps.testing.mds.loner import choose_loner, drop_loner, ideal_state
from cephcaps.testing.mds.request import Held, Request, Waits
from cephcaps.testing.mds.session import Session
from cephwire.caps import CapOp
from cephwire.requestop import RequestOp

__all__ = ["CapKeeper", "CapTeller"]

ORDER = "FALX"
"""In which requests take the locks of one inode (ceph: ``CEPH_LOCK_IFILE`` and so on, src/include/ceph_fs.h)."""


class CapTeller(Protocol):
    """Who carries what the keeper decides."""

    def tell_caps(self, cap: Cap, op: CapOp) -> None:
        """Send the client what it has now."""

    def wake(self, inode: Inode) -> None:
        """Let requests that wait for something at this inode try again, when this message is done with."""

    def flush_journal(self) -> None:
        """Acknowledge everything that clients flushed."""

    def unused(self, inode: Inode) -> None:
        """Nobody holds a cap of it any more."""


class CapKeeper:
    """Holds caps and lock states together.

    Attributes:
        revoking: caps that clients are asked to give back, in full or in part.
        last_cap_id: of the newest cap.
    """

    def __init__(self, teller: CapTeller) -> None:
        self.revoking: dict[Cap, None] = {}
        self._teller = teller
        self.last_cap_id = 0
        self.now = 0.0

    # Caps

    def get(self, inode: Inode, session: Session) -> Cap:
        """The client's cap, made if need be."""
        cap = inode.caps.get(session)
        if cap is None:
            self.last_cap_id += 1
            cap = inode.caps[session] = session.caps[inode.ino] = Cap(session, inode, self.last_cap_id)
            choose_loner(inode)
        return cap

    def drop(self, cap: Cap) -> None:
        """The client holds nothing of the inode any more."""
        inode, session = cap.inode, cap.session
        inode.caps.pop(session, None)
        session.caps.pop(inode.ino, None)
        session.opened.discard(inode)
        inode.max_size.pop(session.client, None)
        self.revoking.pop(cap, None)
        if inode.loner is session:
            inode.loner = None
        if inode.want_loner is session:
            inode.want_loner = None
        self.evaluate(inode)
        if not inode.caps:
            self._teller.unused(inode)

    def confirmed(self, cap: Cap, seq: int, bits: int) -> None:
        """The client says what it still holds."""
        cap.confirmed(seq, bits)
        if not cap.revoking:
            self.revoking.pop(cap, None)

    def issue(self, inode: Inode, allowed_only: Iterable[Cap] | None = None) -> None:
        """Ask back what clients may not have, give what they want and may."""
        for cap in list(inode.caps.values() if allowed_only is None else allowed_only):
            if cap.suppressed:
                continue
            allowed = inode.allowed(cap.session)
            likes = (cap.wanted | inode.likes) & allowed
            if cap.pending & ~allowed:
                cap.issue(likes & cap.pending)
                self._asked_back(cap)
                self._teller.tell_caps(cap, CapOp.REVOKE)
            elif cap.wanted & allowed & ~cap.pending and cap.session.state == "open":
                cap.issue(likes)
                self._teller.tell_caps(cap, CapOp.GRANT)

    def _asked_back(self, cap: Cap) -> None:
        if cap.revoking and not cap.revoked_at:
            cap.revoked_at = self.now
        if cap.revoking:
            self.revoking[cap] = None

    # Locks

    def evaluate(self, inode: Inode, locks: tuple[Lock, ...] | None = None) -> None:
        """Bring locks into the states they should be in, and caps after them."""
        changed = choose_loner(inode)
        awaited = {request.blocked for request in inode.waiting}  # they take what they wait for first
        again = True
        while again:
            again = False
            for lock in inode.locks if locks is None else locks:
                if lock.next is None and not lock.held and lock not in awaited:
                    changed |= self._better(inode, lock)
            if inode.loner is not inode.want_loner and drop_loner(inode):
                inode.loner, locks, again = inode.want_loner, None, True
                changed = True
        self.settle(inode, woken=changed)

    def _better(self, inode: Inode, lock: Lock) -> bool:
        if not lock.sticky:
            return self._aim(inode, lock, ideal_state(inode, lock))
        if lock.state is not LockState.EXCL or ideal_state(inode, lock) is LockState.EXCL:
            return False
        self._aim(inode, lock, LockState.LOCK)
        lock.sticky = True
        return True

    def settle(self, inode: Inode, *, woken: bool = False) -> None:
        """Finish changes of state that no client's caps stand in the way of any more; tell clients, wake requests."""
        done: list[Lock] = []
        for lock in inode.locks:
            if lock.next is not None and not self._in_the_way(inode, lock, lock.next):
                lock.state, lock.next = lock.next, None
                done.append(lock)
        if done or woken:
            self.issue(inode)
            self._teller.wake(inode)
        if done:
            self.evaluate(inode, tuple(done))

    def _aim(self, inode: Inode, lock: Lock, state: LockState) -> bool:
        """Change a stable lock's state, or begin to; False if it is in that state."""
        if lock.state is state:
            return False
        lock.sticky = False
        lock.next = state
        if not self._in_the_way(inode, lock, state):
            lock.state, lock.next = state, None
        return True

    def _in_the_way(self, inode: Inode, lock: Lock, state: LockState) -> bool:
        goal = Lock(lock.name, state)
        others, loner = goal.caps(False), goal.caps(True)
        mask = (0xFF if lock.name == "F" else 3) << lock.shift
        return any(
            cap.issued & mask & ~(loner if session is inode.loner else others) for session, cap in inode.caps.items()
        )

    # Requests

    def acquire(self, request: Request, needs: Iterable[tuple[Inode, str, str]]) -> None:
        """Take locks for a request: inode, the lock's letter, and "r", "w" or "x".

        Raises:
            Waits: not all can be had now; what was taken stays taken.
        """
        have = {(held.inode, held.lock.name): held for held in request.held}
        for inode, name, how in sorted(set(needs), key=lambda need: (need[0].ino, ORDER.index(need[1]), need[2])):
            if (inode, name) not in have:
                self._take(request, inode, inode.lock(name), how)

    def _take(self, request: Request, inode: Inode, lock: Lock, how: str) -> None:
        if not self._fits(request, inode, lock, how):
            blocked = lock.xlocked or lock.wrlocks if how == "r" else lock.rdlocks or lock.xlocked
            if lock.next is None and not blocked and not (how == "x" and lock.held):
                self._aim(inode, lock, self._goal(request, inode, lock, how))
                self.issue(inode)
            if not self._fits(request, inode, lock, how):
                if request.waits_for is None:
                    inode.waiting.append(request)
                    request.waits_for = inode
                request.blocked = lock
                raise Waits
        if inode.unsafe_flushes:
            # A flush holds its locks until it is acknowledged; a client believes no grant before that (libcephfs:
            # src/client/Client.cc, ``handle_cap_grant``).
            self._teller.flush_journal()
        if how == "r":
            lock.rdlocks += 1
        elif how == "w":
            lock.wrlocks += 1
        else:
            lock.xlocked = True
        request.held.append(Held(inode, lock, how))

    def _fits(self, request: Request, inode: Inode, lock: Lock, how: str) -> bool:
        by_loner = inode.loner is request.session
        if how == "r":
            return lock.can_read(by_loner)
        return lock.can_write(by_loner) if how == "w" else lock.can_xlock()

    def _goal(self, request: Request, inode: Inode, lock: Lock, how: str) -> LockState:
        if how == "w" and inode.ino == ROOT_INO:
            return LockState.MIX  # a subtree begins here (ceph: ``Locker::wrlock_start``)
        if how != "r":
            return LockState.LOCK
        target = inode.loner if inode.loner is inode.want_loner else None
        if lock.name == "F" and lock.state is LockState.EXCL and target is not None and not inode.is_dir:
            return LockState.XSYN
        return LockState.SYNC

    def release(self, request: Request) -> None:
        """Give back a request's locks, and let their states be what they should be."""
        touched: dict[Inode, list[Lock]] = {}
        changed: set[Inode] = set()
        for held in request.held:
            if held.how == "r":
                held.lock.rdlocks -= 1
            elif held.how == "w":
                held.lock.wrlocks -= 1
                held.lock.sticky = _stays(request, held)
            else:
                held.lock.xlocked = False
                # Whoever changed it may go on if it is alone; else everybody may read again (ceph: ``_finish_xlock``).
                alone = held.inode.loner is held.inode.want_loner is request.session
                if self._aim(held.inode, held.lock, LockState.EXCL if alone else LockState.SYNC):
                    changed.add(held.inode)
            touched.setdefault(held.inode, []).append(held.lock)
        request.held.clear()
        for inode, locks in touched.items():
            self.evaluate(inode, tuple(lock for lock in locks if not lock.held))
            if inode in changed:
                self.issue(inode)
            self._teller.wake(inode)


def _stays(request: Request, held: Held) -> bool:
    """Whether a directory's lock is kept for the next change of its kind (ceph: src/mds/Locker.cc,
    ``create_lock_cache``); the root's is scattered, and stays so."""
    if held.inode.ino == ROOT_INO:
        return held.lock.state is LockState.MIX
    cached = request.message.op in (RequestOp.CREATE, RequestOp.UNLINK)
    return cached and held.lock.state in (LockState.LOCK, LockState.EXCL)
