"""Advisory file locks: asked for, waited for, interrupted, given back.

A lock is a request of its own that leaves no trace in the journal: SETFILELOCK, answered once the lock is had. Whoever
waits may be interrupted by a second one; that may come too late, and then the lock is given back. So two things are
kept: what MDSs hold for us (`Inode.locks`), and what callers know to be theirs. Where nothing is on its way they are
the same. Sources: kernel: fs/ceph/locks.c; ceph: src/client/Client.cc, ``_do_filelock``,
``_interrupt_filelock``; src/mds/Server.cc, ``handle_client_file_setlock``.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from cephcaps.actions import Action, Done, Failed
from cephcaps.engine.cache import Cache
from cephcaps.engine.locks import OWNER_ALONE, apply, held, overlap, take_in, way_back, within
from cephcaps.errors import MdsError
from cephcaps.mds.requests import LockCall, Operation, Request, Requests
from cephwire.filelock import FileLock, LockRule, LockType
from cephwire.request import FilePath
from cephwire.requestargs import FileLockArgs
from cephwire.requestop import RequestOp

__all__ = ["Locked", "Locks"]

NEVER: Final = float("inf")
INTERRUPT: Final[dict[int, LockRule]] = {
    LockRule.FCNTL: LockRule.FCNTL_INTR,
    LockRule.FLOCK: LockRule.FLOCK_INTR,
}
"""The rule that ends the wait for a lock by another rule."""


class Locked(NamedTuple):
    """A lock was had, or given back.

    Attributes:
        before: what callers had by the same rule.
    """

    call: LockCall
    before: tuple[FileLock, ...]


@dataclass(slots=True)
class Handle:
    """An open file through which somebody has locked.

    Attributes:
        owners: of fcntl locks asked for through it.
        lost: its locks went with their session, and nobody has been told by an unlock.
    """

    ino: int
    owners: dict[int, None]
    lost: bool = False


class Locks:
    """The locks of one client, through whichever handle."""

    def __init__(
        self, cache: Cache, requests: Requests, route: Callable[[Request, float], None], out: list[Action]
    ) -> None:
        self._cache = cache
        self._requests = requests
        self._route = route
        self._out = out
        self._handles: dict[int, Handle] = {}
        self._had: dict[tuple[int, int], tuple[FileLock, ...]] = {}  # by callers: inode and rule

    # Local calls

    def ask(self, token: int, call: LockCall, deadline: float, now: float) -> None:
        """Lock or unlock; Done brings a `Locked`."""
        handle = self._handles.setdefault(call.handle, Handle(call.ino, {}))
        if call.rule == LockRule.FCNTL:
            handle.owners[call.lock.owner] = None
        unlocks = call.lock.type == LockType.UNLOCK
        if handle.lost and unlocks:
            handle.lost = False
            self._out.append(Done(token, Locked(call, ())))
        elif handle.lost:
            lost = "the locks held through this handle went with their session; unlock, then lock anew"
            self._out.append(Failed(token, MdsError(errno.EIO, lost, call.what)))
        elif unlocks:
            self._has(call)
            self._unlock(token, call, deadline, now)
        else:
            self._send(token, call, deadline, now)

    def uses(self, handle: int) -> bool:
        """Whether anybody has locked through ``handle``."""
        return handle in self._handles

    def close(self, token: int, number: int, what: str, deadline: float, now: float) -> None:
        """A handle is closed: nobody waits through it any more, and its locks are given back; Done comes when they are.

        Those are its flock, and every fcntl lock on the file of those who have locked through it: of an owner's
        handles the first to be closed ends them all, as POSIX has it.
        """
        handle = self._handles.pop(number)
        for request in self._asked(handle.ino):
            call = request.operation.lock
            if call is None or call.handle != number:
                continue
            closed = MdsError(errno.EBADF, "the file was closed meanwhile", what)
            if (waiting := self._requests.release(request, None, closed)) is not None:
                self._out.append(Failed(waiting, closed))
                self.abandoned(request, now)
        calls = [
            LockCall(handle.ino, what, number, rule, _unlocking(lock)) for rule, lock in self._owned(number, handle)
        ]
        for call in calls:
            self._has(call)
        for call in calls[:-1]:
            self._unlock(None, call, deadline, now)
        if calls:
            self._unlock(token, calls[-1], deadline, now)
        else:
            self._out.append(Done(token, None))

    def abandoned(self, request: Request, now: float) -> None:
        """Nobody waits for ``request``, about a lock or not, any more.

        What was never sent is forgotten, unless it gives a lock back. A lock that is granted all the same is undone.
        """
        call = request.operation.lock
        if not request.sent:
            if call is None or call.lock.type != LockType.UNLOCK:
                self._requests.finish(request)
        elif call is not None and call.wait:
            interrupt = replace(call, rule=INTERRUPT[call.rule], lock=_unlocking(call.lock))
            self._send(None, interrupt, NEVER, now, request.rank)

    def needless(self, request: Request) -> bool:
        """Whether a new MDS need not hear of ``request``: it knows of no wait for a lock, and nobody waits here."""
        call = request.operation.lock
        return call is not None and request.token is None and (call.wait or call.rule not in INTERRUPT)

    def unclaimed(self, locked: Locked, now: float) -> None:
        """The caller has left before he heard of it."""
        call = locked.call
        if call.lock.type != LockType.UNLOCK:
            for step in way_back(locked.before, call.lock):
                self._has(replace(call, lock=step))
            self._undo(call, now)

    # What MDSs say

    def answered(self, request: Request, result: int, now: float) -> None:
        """The one reply to a lock request."""
        call = request.operation.lock
        assert call is not None
        token = self._requests.answered(request, -1 if request.rank is None else request.rank, result, now)
        self._requests.finish(request)
        inode = self._cache.inodes.get(call.ino)
        if inode is not None and not result and call.rule in INTERRUPT:
            take_in(inode, call.rule, call.lock)
            self._cache.let_go(inode)
        unlocks = call.lock.type == LockType.UNLOCK
        if token is None:
            self._undo(call, now)
        elif result == -errno.EINTR and call.wait:
            # Not by us: an unlock of the same range, or the grant of the same lock to the same owner, ends every wait
            # for it at the MDS. The caller still waits.
            self._send(token, call, request.deadline, now)
        elif result:
            self._out.append(Failed(token, MdsError(-result, None, call.what)))
            self._undo(call, now)
        elif unlocks:
            self._out.append(Done(token, Locked(call, ())))
        elif self._will_be_undone(call):
            self._send(token, call, request.deadline, now)
        else:
            self._out.append(Done(token, Locked(call, self._has(call))))

    def session_lost(self, rank: int) -> None:
        """A session is gone, and with it every lock on what its rank was in charge of."""
        for number, handle in self._handles.items():
            inode = self._cache.inodes.get(handle.ino)
            if inode is not None and inode.auth_rank == rank and self._owned(number, handle):
                handle.lost = True
        for inode in self._cache.inodes.values():
            if inode.auth_rank == rank and inode.locks is not None:
                inode.locks = None
                self._had.pop((inode.ino, LockRule.FCNTL), None)
                self._had.pop((inode.ino, LockRule.FLOCK), None)

    def _owned(self, number: int, handle: Handle) -> list[tuple[LockRule, FileLock]]:
        """The locks that go with a handle."""
        inode = self._cache.inodes.get(handle.ino)
        if inode is None:
            return []
        flocks = [lock for lock in held(inode, LockRule.FLOCK) if lock.owner == number | OWNER_ALONE]
        fcntls = [lock for lock in held(inode, LockRule.FCNTL) if lock.owner in handle.owners]
        return [*((LockRule.FLOCK, lock) for lock in flocks), *((LockRule.FCNTL, lock) for lock in fcntls)]

    # Requests

    def _send(self, token: int | None, call: LockCall, deadline: float, now: float, rank: int | None = None) -> None:
        lock = call.lock
        args = FileLockArgs(call.rule, lock.type, lock.owner, lock.pid, lock.start, lock.length, call.wait)
        operation = Operation(RequestOp.SETFILELOCK, FilePath(call.ino), call.what, args, lock=call)
        request = self._requests.add(token, operation, deadline, now)
        request.rank = rank
        self._route(request, now)

    def _unlock(self, token: int | None, call: LockCall, deadline: float, now: float) -> None:
        """Give a range back. An MDS takes an unlock of just what the owner waits for to mean the wait: so it is told
        once for each, and once more."""
        for request in self._asked(call.ino):
            other = request.operation.lock
            assert other is not None
            if other.wait and (other.rule, _place(other.lock)) == (call.rule, _place(call.lock)):
                self._send(None, call, deadline, now)
        self._send(token, call, deadline, now)

    def _has(self, call: LockCall) -> tuple[FileLock, ...]:
        """A caller knows that he has this, or has it no more; gives what callers had before."""
        place = call.ino, call.rule
        before = self._had.pop(place, ())
        if after := apply(before, call.lock):
            self._had[place] = after
        return before

    def _undo(self, call: LockCall, now: float) -> None:
        """Whatever has become of ``call``, let its owner hold there what he knows to be his, and nothing else.

        Nothing is left to do once ``call`` was such a step itself.
        """
        inode = self._cache.inodes.get(call.ino)
        if inode is None or call.undoes or call.rule not in INTERRUPT:
            return
        had = self._had.get((call.ino, call.rule), ())
        if within(held(inode, call.rule), call.lock) == within(had, call.lock):
            return
        for step in way_back(had, call.lock):
            undo = replace(call, lock=step, wait=False, undoes=True)
            if step.type == LockType.UNLOCK:
                self._unlock(None, undo, NEVER, now)
            else:
                self._send(None, undo, NEVER, now)

    def _will_be_undone(self, call: LockCall) -> bool:
        """Whether something is on its way that takes back what ``call`` was granted: it meant an earlier one."""
        return any(other.undoes and overlap(other.lock, call.lock) for other in self._under_way(call))

    def _under_way(self, call: LockCall) -> Iterator[LockCall]:
        """Those by the same rule that are not answered."""
        for request in self._asked(call.ino):
            other = request.operation.lock
            if other is not None and other.rule == call.rule:
                yield other

    def _asked(self, ino: int) -> list[Request]:
        """Lock requests on ``ino`` that are not answered."""
        return [request for request in self._requests if (call := request.operation.lock) and call.ino == ino]


def _unlocking(lock: FileLock) -> FileLock:
    return FileLock(lock.start, lock.length, 0, lock.owner, lock.pid, LockType.UNLOCK)


def _place(lock: FileLock) -> tuple[int, int, int]:
    """What tells waits apart."""
    return lock.start, lock.length, lock.owner
