"""Advisory locks on ranges of a file: what an owner holds after one more, and how to get back from there.

As POSIX has it: an owner's newer lock replaces his older ones where it covers them, which may cut them or split them
in two; neighbours of one kind are one lock. A flock is one lock on the whole file by the same rules. MDSs count alike
(ceph: src/mds/flock.cc, ``ceph_lock_state_t::adjust_locks``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from cephcaps.engine.inode import Inode
from cephwire.filelock import FileLock, FileLocks, LockRule, LockType

__all__ = ["OWNER_ALONE", "apply", "held", "overlap", "take_in", "way_back", "within"]

OWNER_ALONE: Final = 1 << 63
"""Bit of an owner that says that he alone is one, whatever the pid (ceph: src/client/Client.cc, ``_do_filelock``)."""
END: Final = 1 << 64
"""Where a lock of length 0 ends."""


def held(inode: Inode, rule: int) -> tuple[FileLock, ...]:
    """All locks of this client on ``inode`` by one of the two rules, FCNTL or FLOCK."""
    locks = inode.locks
    if locks is None:
        return ()
    return locks.fcntl if rule == LockRule.FCNTL else locks.flock


def take_in(inode: Inode, rule: int, lock: FileLock) -> None:
    """An MDS has done what ``lock`` says."""
    fcntl, flock = held(inode, LockRule.FCNTL), held(inode, LockRule.FLOCK)
    if rule == LockRule.FCNTL:
        fcntl = apply(fcntl, lock)
    else:
        flock = apply(flock, lock)
    inode.locks = FileLocks(fcntl, flock) if fcntl or flock else None


def apply(locks: Iterable[FileLock], new: FileLock) -> tuple[FileLock, ...]:
    """What is held after ``new``, in the order of where it begins; UNLOCK takes away."""
    start, end = _span(new)
    after: list[FileLock] = []
    for lock in locks:
        if lock.owner != new.owner:
            after.append(lock)
            continue
        first, last = _span(lock)
        if lock.type == new.type and first <= end and last >= start:
            start, end = min(first, start), max(last, end)
            continue
        if first < start:
            after.append(_part(lock, first, min(last, start)))
        if last > end:
            after.append(_part(lock, max(first, end), last))
    if new.type != LockType.UNLOCK:
        after.append(_part(new, start, end))
    return tuple(sorted(after, key=lambda lock: (lock.start, lock.owner)))


def overlap(one: FileLock, other: FileLock) -> bool:
    """Whether both are of one owner and cover a byte in common."""
    (start, end), (first, last) = _span(one), _span(other)
    return one.owner == other.owner and start < last and first < end


def within(locks: Iterable[FileLock], place: FileLock) -> list[tuple[int, int, int]]:
    """What the owner of ``place`` has in its range: where, and of which kind."""
    start, end = _span(place)
    spans = [(*_span(lock), lock.type) for lock in locks if overlap(lock, place)]
    return [(max(first, start), min(last, end), kind) for first, last, kind in spans]


def way_back(before: Iterable[FileLock], granted: FileLock) -> list[FileLock]:
    """What to ask for so that its owner holds in the range of ``granted`` what he held before.

    An exclusive lock that was given up for a shared one may be somebody else's by then: it is asked for like any other.
    """
    start, end = _span(granted)
    steps: list[FileLock] = []
    for lock in before:
        if overlap(lock, granted):
            first, last = _span(lock)
            first, last = max(first, start), min(last, end)
            if first > start:
                steps.append(_unlock(granted, start, first))
            if lock.type != granted.type:
                steps.append(_part(lock, first, last))
            start = last
    if start < end:
        steps.append(_unlock(granted, start, end))
    return steps


def _span(lock: FileLock) -> tuple[int, int]:
    """Where it begins, and where it ends."""
    return lock.start, lock.start + lock.length if lock.length else END


def _part(lock: FileLock, start: int, end: int) -> FileLock:
    return msgspec.structs.replace(lock, start=start, length=0 if end >= END else end - start)


def _unlock(lock: FileLock, start: int, end: int) -> FileLock:
    return msgspec.structs.replace(_part(lock, start, end), type=LockType.UNLOCK)
