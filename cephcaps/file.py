"""An open file: holds the caps its mode needs, until the block is left."""

from __future__ import annotations

import errno
import os
import types
from typing import TYPE_CHECKING, Any, Self

from cephcaps.caps import Caps
from cephcaps.data import CapRefs
from cephcaps.errors import CephError, MdsError
from cephcaps.filelock import LockName, LockWish, byte_range, lock_owner
from cephcaps.mds.requests import LockCall
from cephcaps.paths import DEFAULT
from cephcaps.stat import LockHolder
from cephwire.capbits import FileMode
from cephwire.filelock import FileLock, LockRule, LockType
from cephwire.requestargs import OpenFlag

if TYPE_CHECKING:
    from cephcaps.client import Client

__all__ = ["OpenFile"]

HOW: dict[str, tuple[int, int]] = {
    "r": (int(OpenFlag.RDONLY), FileMode.RD),
    "r+": (int(OpenFlag.RDWR), FileMode.RDWR),
    "w": (int(OpenFlag.WRONLY | OpenFlag.CREAT | OpenFlag.TRUNC), FileMode.WR),
    "x": (int(OpenFlag.WRONLY | OpenFlag.CREAT | OpenFlag.EXCL), FileMode.WR),
    "a": (int(OpenFlag.WRONLY | OpenFlag.CREAT), FileMode.WR),
}
"""Open flags and file mode by the usual letters."""
ANYWHERE = (0, 0, 0, -1)
"""A layout of nothing but defaults: stripe unit and count, object size, pool."""


class OpenFile:
    """A file held open. Made by `Client.open`, entered with ``async with``."""

    def __init__(self, client: Client, path: str, how: str, mode: int, timeout: Any) -> None:
        if how not in HOW:
            raise ValueError(f"{how!r} is no way to open a file: {', '.join(HOW)}")
        self._client = client
        self._path = path
        self._flags, self._file_mode = HOW[how]
        self._mode = mode
        self._timeout = timeout
        self._ino = 0
        self._handle = 0  # tells it from other open files of the client
        self._errors = 0  # of the inode, that this handle has told

    @property
    def ino(self) -> int:
        """The inode's number."""
        if not self._ino:
            raise RuntimeError(f"{self._path} is not open: use `async with client.open(...) as file`")
        return self._ino

    @property
    def size(self) -> int:
        """Bytes, as far as we know; as of now only under Fs or Fx (`Client.stat` with want="Fs" sees to that)."""
        inode = self._client.cached(self.ino)
        return inode.size if inode is not None else 0

    @property
    def caps(self) -> Caps:
        """What may be done now."""
        found = self._client.inode_caps(self.ino)
        return found.issued if found is not None else Caps()

    async def __aenter__(self) -> Self:
        """Open it.

        Raises:
            MdsError: FileNotFoundError, FileExistsError, IsADirectoryError ... as the MDS says.
            RequestTimeout: no reply in time; the file may have been created, and is closed when the reply comes.
        """
        self._ino = await self._client.open_inode(self._path, self._flags, self._file_mode, self._mode, self._timeout)
        self._handle = self._client.new_handle()
        self._errors, _ = self._client.inode_error(self._ino)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        """Close it; what was locked through it is unlocked before this returns.

        Raises:
            CephError, OSError: changes or data of this file were lost since it was opened, and fsync has not said so.
        """
        ino = self.ino
        try:
            if error is None:
                self._tell_error()
        finally:
            self._ino = 0
            try:
                await self._client.close_locks(self._handle, self._path)
            finally:
                self._client.close_inode(ino, self._file_mode)

    def _tell_error(self) -> None:
        """What befell data or changes of this file, once for each handle."""
        count, error = self._client.inode_error(self.ino)
        told, self._errors = self._errors, count
        if error is None or count == told:
            return
        if isinstance(error, CephError):
            raise error.with_traceback(None)
        number = error.errno if isinstance(error, OSError) and error.errno else errno.EIO
        raise MdsError(number, f"data were not written: {error}", self._path) from error

    def cap_refs(self, need: Any, want: Any = 0, endoff: int = 0, *, timeout: Any = None) -> CapRefs:
        """A block, for ``async with``, in which data may be touched.

        Args:
            need: caps it cannot do without: Fr to read from the OSDs, Fw to write to them.
            want: those it would like besides: Fc to keep what it reads, Fb to keep what it writes.
            endoff: how far into the file it may write.
        """
        ask = need if isinstance(need, Caps) else Caps.parse(need)
        like = want if isinstance(want, Caps) else Caps.parse(want)
        return CapRefs(self._client, self.ino, self._file_mode, ask, like, endoff, timeout)

    # Locks

    async def flock(self, command: LockName | int, *, blocking: bool = True, timeout: float | None = DEFAULT) -> None:
        """Lock or unlock the whole file for this handle, against every other handle of any client.

        Advisory: it keeps nobody from reading or writing. Closing the handle unlocks.

        Args:
            command: "shared", "exclusive", "unlock", or `fcntl.LOCK_SH` and the like.
            blocking: wait until the lock is had; giving that up leaves what was held before as it was.
        Raises:
            MdsError: BlockingIOError (EAGAIN) where it is not to wait.
            RequestTimeout: not had in time.
        """
        wish = LockWish.of(command, blocking)
        lock = FileLock(0, 0, 0, lock_owner(self._handle), 0, wish.type)
        await self._client.lock(self._lock_call(LockRule.FLOCK, lock, wish.wait), timeout)

    async def lockf(
        self,
        command: LockName | int,
        length: int = 0,
        start: int = 0,
        whence: int = os.SEEK_SET,
        *,
        blocking: bool = True,
        owner: int = 0,
        timeout: float | None = DEFAULT,
    ) -> None:
        """Lock or unlock a range of the file, as `fcntl.lockf` does: a POSIX record lock.

        Such a lock belongs to its owner, whichever handle he uses: a newer one of his replaces it where it covers it,
        and the first handle that he has locked through and that is closed ends all his locks on the file.

        Args:
            command: "shared" (the file must be open to read), "exclusive" (to write), "unlock", or `fcntl.LOCK_SH`
                and the like.
            length: bytes; 0 is to the end, however far that moves.
            whence: what ``start`` counts from, SEEK_SET or SEEK_END.
            blocking: wait until the lock is had; giving that up leaves what was held before as it was.
            owner: whose lock it is, for who acts for several; this client is 0, and the default.
        Raises:
            MdsError: BlockingIOError (EAGAIN) where it is not to wait; EDEADLK where the holder waits for this owner;
                EBADF where the file is not open for that.
            RequestTimeout: not had in time.
        """
        wish = LockWish.of(command, blocking)
        needed = {LockType.SHARED: FileMode.RD, LockType.EXCL: FileMode.WR}.get(wish.type, 0)
        if needed & ~self._file_mode:
            raise MdsError(errno.EBADF, None, self._path)
        lock = await self._range(wish.type, length, start, whence, owner, timeout)
        await self._client.lock(self._lock_call(LockRule.FCNTL, lock, wish.wait), timeout)

    async def getlk(
        self,
        command: LockName | int = "exclusive",
        length: int = 0,
        start: int = 0,
        whence: int = os.SEEK_SET,
        *,
        owner: int = 0,
        timeout: float | None = DEFAULT,
    ) -> LockHolder | None:
        """Who keeps ``owner`` from locking a range with `lockf`; None if nobody does."""
        wish = LockWish.of(command, blocking=False)
        lock = await self._range(wish.type, length, start, whence, owner, timeout)
        found = await self._client.test_lock(self._lock_call(LockRule.FCNTL, lock, False), timeout)
        return None if found.type == LockType.UNLOCK else LockHolder.of(found)

    async def _range(
        self, kind: LockType, length: int, start: int, whence: int, owner: int, timeout: float | None
    ) -> FileLock:
        size = await self._client.size_now(self.ino, self._path, timeout) if whence == os.SEEK_END else 0
        return FileLock(*byte_range(start, length, whence, size), 0, lock_owner(owner), os.getpid(), kind)

    def _lock_call(self, rule: LockRule, lock: FileLock, wait: bool) -> LockCall:
        return LockCall(self.ino, self._path, self._handle, rule, lock, wait)

    # Metadata

    async def setattr(self, *, timeout: Any = None, **attributes: int) -> None:
        """Change attributes, as `Client.setattr` does; a new size takes a file open for writing (EBADF)."""
        if "size" in attributes and not self._file_mode & FileMode.WR:
            raise MdsError(errno.EBADF, None, self._path)
        await self._client.set_attributes(self.ino, self._path, attributes, timeout)

    async def fsync(self, datasync: bool = False, *, timeout: Any = None) -> None:
        """Return once everything changed through any handle of this client is safe at the MDS.

        Args:
            datasync: size and what it takes to find the data again is enough; here the same is done for both.
        """
        await self._client.flush_inode(self.ino, timeout)
        self._tell_error()
