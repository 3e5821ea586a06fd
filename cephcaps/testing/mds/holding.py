"""Locks taken for requests, and given back.

Facts: ceph: src/mds/Locker.cc (``acquire_locks``, ``rdlock_start``, ``wrlock_start``, ``xlock_start`` and their finish,
``drop_locks``, ``create_lock_cache``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from cephcaps.testing.mds.capability import Cap
from cephcaps.testing.mds.inode import Inode
from cephcaps.testing.mds.lockcache import CACHED_OPS, LockCache
from cephcaps.testing.mds.locker import Locker
from cephcaps.testing.mds.locks import KINDS, SNAP, Lock, State, Wait
from cephcaps.testing.mds.request import Mutation, Need, Request, Waits

__all__ = ["Holder", "Holding", "of"]

ORDER = [SNAP, *KINDS]
DROP_ORDER = ["A", "L", "F", "X", SNAP]
"""In which an inode's locks are given back: as they lie in a ``CInode``."""


class Holder(Protocol):
    """Who is told of what comes of lock caches."""

    def later(self, cache: LockCache) -> None:
        """Let go of a cache's locks once this message is done with."""

    def reissue(self, cap: Cap) -> None:
        """Tell a client what it may have of an inode now."""


class Holding:
    """Takes and gives back."""

    def __init__(self, locker: Locker, holder: Holder) -> None:
        self._locker = locker
        self._holder = holder

    def acquire(self, mutation: Mutation, needs: Iterable[Need]) -> None:
        """Take locks in the order given, those of one inode in Ceph's.

        Raises:
            Waits: not all can be had now; what was taken stays taken.
        """
        for lock, how in _sorted(needs):
            if mutation.held.get(lock) == how or (mutation.held.get(lock) == "x" and how == "w"):
                continue
            if how == "x" and mutation.locking is not None and mutation.locking is not lock:
                self._cancel(mutation, None)
            {"r": self._rdlock, "w": self._wrlock, "x": self._xlock}[how](mutation, lock)
            mutation.held[lock] = how

    def _rdlock(self, mutation: Mutation, lock: Lock) -> None:
        while not lock.can_rdlock(mutation.session):
            if not lock.stable:
                self._wait(mutation, lock, Wait.STABLE)
            inode = lock.inode
            if lock.kind == "F" and lock.state is State.EXCL and inode.target_loner is not None and not inode.is_dir:
                self._locker.xsyn(lock)
            else:
                self._locker.sync(lock)
        lock.rdlocks += 1

    def _wrlock(self, mutation: Mutation, lock: Lock) -> None:
        scattered = lock.inode.is_root  # a subtree begins there
        while not lock.can_wrlock(mutation.session) or (scattered and lock.state is not State.MIX):
            if not lock.stable:
                self._wait(mutation, lock, Wait.STABLE)
            if scattered:
                self._locker.mix(lock)
            else:
                self._locker.lock(lock)
        lock.wrlocks += 1

    def force_wrlock(self, mutation: Mutation, lock: Lock) -> None:
        """Hold it while what a client has changed by itself is made safe."""
        lock.wrlocks += 1
        mutation.held[lock] = "w"

    def _xlock(self, mutation: Mutation, lock: Lock) -> None:
        session = mutation.session
        while True:
            if mutation.locking is lock and lock.can_xlock(session) and not self._awaits_caps(lock):
                lock.state = State.XLOCK
                lock.xlocks += 1
                lock.xlocker = session
                mutation.locking = None
                return
            if not lock.stable and (
                lock.state is not State.XLOCKDONE
                or lock.xlocker is not session
                or session is None
                or lock.waited_for(Wait.STABLE)
                or lock.kind == "F"
            ):
                self._wait(mutation, lock, Wait.WR | Wait.STABLE)
            if lock.state in (State.LOCK, State.XLOCKDONE):
                mutation.locking = lock
                self._locker.xlock(lock)
            else:
                self._locker.lock(lock)

    def _awaits_caps(self, lock: Lock) -> bool:
        return lock.state is State.LOCK_XLOCK and self._locker.needs_gather(lock)

    def _wait(self, mutation: Mutation, lock: Lock, what: Wait) -> None:
        assert mutation.again is not None
        lock.waiters = [*(lock.waiters or ()), (what, mutation.again)]
        self._locker.nudge(lock)
        raise Waits

    # Given back

    def answered(self, mutation: Mutation, *, names: bool) -> None:
        """Its client hears of the change now, before it is safe (ceph: ``set_xlocks_done``)."""
        for lock, how in mutation.held.items():
            if how == "x":
                lock.state = State.XLOCKDONE
        if names:
            for directory, name in mutation.names:
                directory.names[name].busy = None

    def drop(self, mutation: Mutation, hows: str = "rwx") -> dict[Inode, None]:
        """Give back what it holds in these manners; the inodes of which clients have to be told."""
        to: dict[Inode, None] = {}
        if hows == "rwx" and mutation.locking is not None:
            self._cancel(mutation, to)
        inodes = list(dict.fromkeys(lock.inode for lock in mutation.held))
        for lock in sorted(mutation.held, key=lambda lock: (inodes.index(lock.inode), DROP_ORDER.index(lock.kind))):
            how = mutation.held.get(lock, "")
            if how and how in hows:
                del mutation.held[lock]
                self._finish(lock, how, to)
        if "r" in hows and "w" in hows and mutation.cache is not None:
            self.leave(mutation.cache)
            mutation.cache = None
        return to

    def _finish(self, lock: Lock, how: str, to: dict[Inode, None]) -> None:
        if how == "r":
            lock.rdlocks -= 1
            if not lock.rdlocks:
                self._locker.reconsider(lock, to)
        elif how == "w":
            lock.wrlocks -= 1
            if not lock.wrlocks:
                self._locker.reconsider(lock, to)
        else:
            xlocker = lock.xlocker
            lock.xlocks -= 1
            if not lock.xlocks:
                lock.xlocker = None
                if lock.state is not State.LOCK_XLOCK:
                    self._locker.finish_xlock(lock, xlocker, to)

    def _cancel(self, mutation: Mutation, to: dict[Inode, None] | None) -> None:
        lock, mutation.locking = mutation.locking, None
        assert lock is not None
        if lock.state is State.PREXLOCK:
            self._locker.finish_xlock(lock, None, to)
        elif lock.state is State.LOCK_XLOCK:
            lock.state = State.XLOCKDONE
            self._locker.gather(lock, to, first=True)

    # Kept for the next request

    def keep(self, request: Request, directory: Inode) -> None:
        """Keep the directory's locks that a CREATE or UNLINK holds (ceph: ``create_lock_cache``)."""
        op, session = request.message.op, request.session
        cap = None if session is None else directory.caps.get(session)
        if request.cache is not None or cap is None or op in cap.lock_caches:
            return
        kept = [lock for lock in request.held if lock.inode is directory]
        above: list[Lock] = []
        at: Inode | None = directory
        while at is not None:
            above.append(at.snaplock)
            at = at.parent
        if not all(lock.stable for lock in kept) or not all(lock.can_rdlock(None) for lock in above):
            return
        cache = request.cache = cap.lock_caches[op] = LockCache(None, cap=cap, op=op, users=2)
        for lock in kept:
            cache.held[lock] = request.held.pop(lock)
        for lock in above:
            lock.rdlocks += 1
            cache.held[lock] = "r"
        cache.attach()

    def use_kept(self, request: Request, directory: Inode) -> bool:
        """Whether an earlier request has kept what this one needs of the directory."""
        if request.cache is not None:
            return True
        cap = None if request.session is None else directory.caps.get(request.session)
        cache = None if cap is None else cap.lock_caches.get(request.message.op)
        if cache is None or not request.uses_caches:
            return False
        cache.users += 1
        request.cache = cache
        return True

    def end(self, cache: LockCache) -> None:
        """Somebody needs the locks (ceph: ``invalidate_lock_cache``)."""
        cache.ending = True
        cap = cache.cap
        if cap is not None and cap.issued & CACHED_OPS[cache.op]:
            self._holder.reissue(cap)  # the client has to give up what it may do unasked
        else:
            self._unlist(cache)

    def end_all(self, cap: Cap) -> None:
        """The client has no cap any more."""
        for cache in list(cap.lock_caches.values()):
            cache.ending = True
            self._unlist(cache)

    def given_back(self, cap: Cap) -> None:
        """The client no longer does unasked what a cache was there for (ceph: ``eval_lock_caches``)."""
        for cache in list(cap.lock_caches.values()):
            if cache.ending and not cap.issued & CACHED_OPS[cache.op]:
                self._unlist(cache)

    def _unlist(self, cache: LockCache) -> None:
        cap, cache.cap = cache.cap, None
        if cap is not None:
            del cap.lock_caches[cache.op]
            self.leave(cache)

    def leave(self, cache: LockCache) -> None:
        """One user less."""
        cache.users -= 1
        if not cache.users:
            cache.detach()
            self._holder.later(cache)


def _sorted(needs: Iterable[Need]) -> list[Need]:
    """Those of one inode that stand together in Ceph's order, each once, in its stronger manner."""
    runs: list[list[Need]] = []
    for need in needs:
        if not runs or runs[-1][0].lock.inode is not need.lock.inode:
            runs.append([])
        runs[-1].append(need)
    found: dict[Lock, str] = {}
    for run in runs:
        for lock, how in sorted(run, key=lambda need: ORDER.index(need.lock.kind)):
            if found.get(lock) != "x":
                found[lock] = how
    return [Need(lock, how) for lock, how in found.items()]


def of(inode: Inode, kinds: str, how: str) -> list[Need]:
    """Some locks of one inode."""
    return [Need(inode.lock(kind), how) for kind in kinds]
