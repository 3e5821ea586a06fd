"""How far each client may write (``max_size``; the MDS's ``client_ranges``).

Facts: ceph: src/mds/Locker.cc (``calc_new_max_size``, ``calc_new_client_ranges``, ``check_inode_max_size``,
``share_inode_max_size``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from cephcaps.testing.mds.capability import Cap
from cephcaps.testing.mds.inode import Inode
from cephcaps.testing.mds.locks import State, Wait
from cephcaps.testing.mds.request import Mutation
from cephwire.capbits import Cap as Bit
from cephwire.caps import CapOp

if TYPE_CHECKING:
    from cephcaps.testing.mds.server import Mds

__all__ = ["FIRST_RANGE", "Ranges", "calc_max_size", "writes"]

OBJECT_SIZE = 1 << 22
FIRST_RANGE = OBJECT_SIZE
"""Bytes that the maker of a file may write before it asks for more."""
MAX_INCREASE = 1024 * OBJECT_SIZE
"""Bytes past the size that a client may be allowed at once (ceph: ``mds_client_writeable_range_max_inc_objs``)."""


def calc_max_size(size: int) -> int:
    """Bytes up to which a client that writes may do so."""
    wanted = min((size + 1) << 1, size + MAX_INCREASE)
    return -(-wanted // OBJECT_SIZE) * OBJECT_SIZE


def writes(cap: Cap) -> bool:
    return bool((cap.issued | cap.wanted) & Bit.ANY_FILE_WR)


class Ranges:
    """Keeps ranges as long as is needed."""

    def __init__(self, mds: Mds) -> None:
        self._mds = mds

    def change(self, inode: Inode, fits: dict[int, int]) -> Callable[[], None]:
        """Let these be the ranges; gives what is to be done once that is safe."""
        if inode.safe_ranges is None:
            inode.safe_ranges = inode.max_size
        inode.max_size = fits

        def safe() -> None:
            inode.safe_ranges = None if inode.max_size == fits else fits

        return safe

    def fit(self, inode: Inode, size: int) -> tuple[bool, Callable[[], None]]:
        """Give every client that writes, and no other, a range for a file of this size; whether any is new, and what is
        to be done once that is safe."""
        fits = {
            session.client: max(inode.max_size.get(session.client, 0), calc_max_size(size))
            for session, cap in inode.caps.items()
            if writes(cap)
        }
        before, safe = inode.max_size, self.change(inode, fits)
        for session, cap in inode.caps.items():
            if session.client in fits:
                cap.notable = True
            elif session.client in before:
                cap.less_notable()
        return before != fits, safe

    def _fits(self, inode: Inode, size: int) -> bool:
        writers = {session.client for session, cap in inode.caps.items() if writes(cap)}
        least = calc_max_size(size)
        return writers == inode.max_size.keys() and all(most >= least for most in inode.max_size.values())

    def check(self, inode: Inode, size: int = 0) -> None:
        """Fit the ranges to who writes now, under the file's lock, and tell the writers once that is safe."""
        if self._fits(inode, max(size, inode.size)):
            return
        if not self.lock_for(inode, None):
            self.check_later(inode, size)
            return
        before = dict(inode.max_size)
        _, safe = self.fit(inode, max(size, inode.size))
        mutation = Mutation(None)
        self._mds.caps.holding.force_wrlock(mutation, inode.file)
        self._mds.journaled(lambda: self._safe(inode, mutation, safe))
        if any(most > before.get(client, 0) for client, most in inode.max_size.items()):
            self._mds.flush_soon()

    def check_later(self, inode: Inode, size: int) -> None:
        """The same once the file's lock allows it."""
        inode.file.waiters = [*(inode.file.waiters or ()), (Wait.STABLE, lambda: self.check(inode, size))]

    def lock_for(self, inode: Inode, cap: Cap | None) -> bool:
        """Whether ranges may be changed, for this client or by the loner; what it takes is begun."""
        lock, locker = inode.file, self._mds.caps.locker
        session = inode.loner if cap is None else cap.session
        if lock.can_wrlock(session) or (cap is not None and lock.can_force_wrlock(session)):
            return True
        if lock.stable:
            if cap is not None:
                cap.suppressed += 1
            if cap is not None and inode.loner is None and inode.want_loner in inode.caps:
                inode.loner = inode.want_loner
            if (inode.target_loner if cap is None else inode.loner) is None:
                locker.lock(lock)
            elif lock.state is not State.EXCL:
                locker.excl(lock)
            if cap is not None:
                cap.suppressed -= 1
        return lock.can_wrlock(session) or (cap is not None and lock.can_force_wrlock(session))

    def _safe(self, inode: Inode, mutation: Mutation, safe: Callable[[], None]) -> None:
        safe()
        self._mds.caps.release(mutation)
        self.share(inode)

    def share(self, inode: Inode) -> None:
        """Tell every writer how far it may go."""
        for cap in list(inode.caps.values()):
            if not cap.suppressed and not cap.new and cap.pending & (Bit.FILE_WR | Bit.FILE_BUFFER):
                cap.seq += 1
                self._mds.tell_caps(cap, CapOp.GRANT)
