"""Advisory locks: what the calls of an open file take and give back, and the client's part of them."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from typing import Literal, Self, TypeAlias

import msgspec

from cephcaps.core import CloseLocks, SetLock
from cephcaps.engine.locks import OWNER_ALONE
from cephcaps.errors import CephError, MdsError
from cephcaps.mds.requests import LockCall, Operation
from cephcaps.paths import DEFAULT, Paths
from cephwire.capbits import StatMask
from cephwire.filelock import FileLock, LockType
from cephwire.request import FilePath
from cephwire.requestargs import FileLockArgs, GetattrArgs
from cephwire.requestop import RequestOp

__all__ = ["LockName", "LockWish", "Locking", "byte_range", "lock_owner"]

LockName: TypeAlias = Literal["shared", "exclusive", "unlock"]

NAMES: dict[LockName, LockType] = {
    "shared": LockType.SHARED,
    "exclusive": LockType.EXCL,
    "unlock": LockType.UNLOCK,
}
NUMBERS: dict[int, LockName] = {fcntl.LOCK_SH: "shared", fcntl.LOCK_EX: "exclusive", fcntl.LOCK_UN: "unlock"}


class LockWish(msgspec.Struct, frozen=True):
    """What is to be done, and whether to wait until it can be."""

    type: LockType
    wait: bool

    @classmethod
    def of(cls, command: LockName | int, blocking: bool) -> Self:
        """From a name, or from `fcntl.LOCK_SH`, LOCK_EX or LOCK_UN, perhaps with LOCK_NB."""
        if isinstance(command, int):
            blocking = blocking and not command & fcntl.LOCK_NB
            name = NUMBERS.get(command & ~fcntl.LOCK_NB)
        else:
            name = command if command in NAMES else None
        if name is None:
            raise ValueError(f"{command!r} is no lock: {', '.join(NAMES)}, or fcntl.LOCK_SH, LOCK_EX, LOCK_UN")
        return cls(NAMES[name], blocking and name != "unlock")


def byte_range(start: int, length: int, whence: int, size: int) -> tuple[int, int]:
    """Where a range begins, and how long it is; 0 is to the end.

    Args:
        length: below 0 it lies before ``start``.
        whence: what ``start`` counts from, `os.SEEK_SET` or `os.SEEK_END`.
        size: of the file, where that matters.
    """
    if whence not in (os.SEEK_SET, os.SEEK_END):
        raise ValueError(f"whence {whence}: a range begins at SEEK_SET or SEEK_END, as a handle has no position")
    start += size if whence == os.SEEK_END else 0
    if length < 0:
        start, length = start + length, -length
    if start < 0 or start + max(length, 1) > 2**63:
        raise ValueError(f"no file has bytes {start} to {start + length}")
    return start, length


def lock_owner(owner: int) -> int:
    """As MDSs are told."""
    if not 0 <= owner < OWNER_ALONE:
        raise ValueError(f"owner {owner}: owners are numbers of 63 bits")
    return owner | OWNER_ALONE


class Locking(Paths):
    """For `OpenFile`."""

    _handles = 0

    def new_handle(self) -> int:
        """A number that no other open file of this client has."""
        self._handles += 1
        return self._handles

    async def lock(self, call: LockCall, timeout: float | None) -> None:
        await self._running.call(SetLock(call), self._left(self._until(timeout)))

    async def test_lock(self, call: LockCall, timeout: float | None) -> FileLock:
        """The lock in the way; UNLOCK if there is none."""
        lock = call.lock
        args = FileLockArgs(call.rule, lock.type, lock.owner, lock.pid, lock.start, lock.length, 0)
        test = Operation(RequestOp.GETFILELOCK, FilePath(call.ino), call.what, args)
        found = (await self._ask(test, self._until(timeout))).reply.extra
        if not isinstance(found, FileLock):
            raise MdsError(errno.EIO, "the MDS told nothing of locks", call.what)
        return found

    async def size_now(self, ino: int, what: str, timeout: float | None) -> int:
        """The size as other clients have it, too."""
        inode = self._running.core.mds.engine.known(ino, StatMask.SIZE, self._now())
        if inode is None:
            asked = Operation(RequestOp.GETATTR, FilePath(ino), what, GetattrArgs(StatMask.SIZE))
            inode = (await self._ask(asked, self._until(timeout))).inode
        return inode.size if inode is not None else 0

    async def close_locks(self, handle: int, what: str) -> None:
        """A handle is about to be closed. Should that not reach the MDS in time, it does when the session ends."""
        if self._running.closed or not self._running.core.mds.locks.uses(handle):
            return
        with contextlib.suppress(CephError):
            await self._running.call(CloseLocks(handle, what), self._left(self._until(DEFAULT)))
