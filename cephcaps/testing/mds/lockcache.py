"""Locks of a directory that stay taken for a client's next CREATE or UNLINK there.

Facts: ceph: src/mds/Locker.cc (``create_lock_cache``, ``find_and_attach_lock_cache``, ``invalidate_lock_cache``),
src/mds/Mutation.h (``MDLockCache``).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cephcaps.testing.mds.capability import Cap
from cephcaps.testing.mds.locks import Lock
from cephcaps.testing.mds.request import Mutation
from cephwire.capbits import Cap as Bit
from cephwire.requestop import RequestOp

__all__ = ["CACHED_OPS", "LockCache"]

CACHED_OPS: dict[int, int] = {RequestOp.CREATE: Bit.DIR_CREATE, RequestOp.UNLINK: Bit.DIR_UNLINK}
"""The ops whose locks are kept, and the cap that lets a client do such things before it is answered."""


@dataclass(slots=True, eq=False)
class LockCache(Mutation):
    """The locks kept; ``session`` is None, since they are the MDS's own.

    Attributes:
        cap: of the directory, whose client may use it; None once that is gone.
        users: requests that use it, and one more as long as it is kept.
        ending: no new request may use it.
    """

    cap: Cap | None = None
    op: int = 0
    users: int = 1
    ending: bool = False
    locks: list[Lock] = field(default_factory=list)

    def attach(self) -> None:
        self.locks = list(self.held)
        for lock in self.locks:
            lock.caches = [*(lock.caches or ()), self]

    def detach(self) -> None:
        for lock in self.locks:
            lock.caches = [cache for cache in lock.caches or () if cache is not self] or None
        self.locks = []
