"""Advisory locks on files: fcntl ranges and flock.

Facts: ceph: src/mds/flock.cc, src/mds/Server.cc (``handle_client_file_setlock``).
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cephcaps.testing.mds.inode import Inode
from cephcaps.testing.mds.request import Refused, Request, Waits
from cephcaps.testing.mds.session import Session
from cephwire.filelock import FileLock, LockRule, LockType
from cephwire.requestargs import FileLockArgs

if TYPE_CHECKING:
    from cephcaps.testing.mds.server import Mds

__all__ = ["FileLocks"]

FOREVER = 2**64
OWNER_ALONE = 1 << 63


class FileLocks:
    """Who has locked what; `Inode.file_locks` holds it, by rule."""

    def __init__(self, mds: Mds) -> None:
        self._mds = mds
        self._waits: dict[Request, tuple[Inode, FileLock]] = {}  # for ranges

    def set(self, request: Request, inode: Inode, args: FileLockArgs) -> None:
        """Lock or unlock.

        Raises:
            Refused: EAGAIN: somebody else has it; EDEADLK: who has it waits for this owner; EINTR: the wait was called
                off.
            Waits: until it is free.
        """
        rule, wanted = args.rule, _lock(request.session, args)
        if rule in (LockRule.FCNTL_INTR, LockRule.FLOCK_INTR):
            self._interrupt(inode, rule, wanted)
            return
        held = inode.file_locks.setdefault(rule, [])
        self._waits.pop(request, None)
        if args.type == LockType.UNLOCK:
            inode.file_locks[rule] = _without(held, wanted)
            self._mds.wake(inode)
            return
        if _conflict(held, wanted) is not None:
            if not args.wait:
                raise Refused(errno.EAGAIN)
            if rule == LockRule.FCNTL:
                if self._comes_round(held, wanted, wanted, []):
                    raise Refused(errno.EDEADLK)
                self._waits[request] = inode, wanted
            if request.waits_for is None:
                inode.waiting += (request,)
                request.waits_for = inode
            raise Waits
        inode.file_locks[rule] = [*_without(held, wanted), wanted]
        self._mds.wake(inode)  # an exclusive lock may have become a shared one

    def get(self, request: Request, inode: Inode, args: FileLockArgs) -> FileLock:
        """The lock in the way of one, or one of type UNLOCK."""
        wanted = _lock(request.session, args)
        found = _conflict(inode.file_locks.get(args.rule, []), wanted)
        if found is not None:
            return found
        return FileLock(wanted.start, wanted.length, wanted.client, wanted.owner, wanted.pid, LockType.UNLOCK)

    def forget(self, session: Session, inode: Inode) -> None:
        """A client is gone, and its locks."""
        for request in [request for request in self._waits if request.session is session]:
            del self._waits[request]
        for rule, held in inode.file_locks.items():
            inode.file_locks[rule] = [lock for lock in held if lock.client != session.client]
        if inode.file_locks:
            self._mds.wake(inode)

    def _comes_round(self, held: list[FileLock], wanted: FileLock, first: FileLock, seen: list[Request]) -> bool:
        """Whether ``first``'s owner waits for itself, by way of those who hold what is wanted (``is_deadlock``)."""
        for holder in _conflicts(held, wanted):
            if _same_owner(holder, first):
                return True
            for request, (inode, awaited) in list(self._waits.items()):
                if request in seen or request.waits_for is not inode or not _same_owner(awaited, holder):
                    continue
                seen.append(request)
                if self._comes_round(inode.file_locks.get(LockRule.FCNTL, []), awaited, first, seen):
                    return True
        return False

    def _interrupt(self, inode: Inode, rule: int, wanted: FileLock) -> None:
        """Call off the wait for a lock, or give the lock back if it was had just now."""
        waited = LockRule.FCNTL if rule == LockRule.FCNTL_INTR else LockRule.FLOCK
        for request in list(inode.waiting):
            args = request.message.args
            if (
                isinstance(args, FileLockArgs)
                and args.rule == waited
                and _same_owner(_lock(request.session, args), wanted)
                and (args.start, args.length) == (wanted.start, wanted.length)
            ):
                inode.waiting = tuple(each for each in inode.waiting if each is not request)
                self._waits.pop(request, None)
                request.waits_for = None
                self._mds.refuse(request, errno.EINTR)
                return


def _lock(session: Session, args: FileLockArgs) -> FileLock:
    return FileLock(args.start, args.length, session.client, args.owner, args.pid, args.type)


def _end(lock: FileLock) -> int:
    return lock.start + lock.length if lock.length else FOREVER


def _same_owner(one: FileLock, other: FileLock) -> bool:
    if (one.client, one.owner) != (other.client, other.owner):
        return False
    return bool(one.owner & OWNER_ALONE) or one.pid == other.pid


def _conflict(held: list[FileLock], wanted: FileLock) -> FileLock | None:
    return next(_conflicts(held, wanted), None)


def _conflicts(held: list[FileLock], wanted: FileLock) -> Iterator[FileLock]:
    for lock in held:
        overlap = lock.start < _end(wanted) and wanted.start < _end(lock)
        exclusive = LockType.EXCL in (lock.type, wanted.type)
        if overlap and exclusive and not _same_owner(lock, wanted):
            yield lock


def _without(held: list[FileLock], wanted: FileLock) -> list[FileLock]:
    """What is left of an owner's locks where a range of them is replaced."""
    left = []
    for lock in held:
        if not _same_owner(lock, wanted) or lock.start >= _end(wanted) or wanted.start >= _end(lock):
            left.append(lock)
            continue
        if lock.start < wanted.start:
            left.append(_part(lock, lock.start, wanted.start))
        if _end(lock) > _end(wanted):
            left.append(_part(lock, _end(wanted), _end(lock)))
    return left


def _part(lock: FileLock, start: int, end: int) -> FileLock:
    return FileLock(start, 0 if end == FOREVER else end - start, lock.client, lock.owner, lock.pid, lock.type)
