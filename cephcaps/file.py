"""An open file: holds the caps its mode needs, until the block is left."""

from __future__ import annotations

import errno
import types
from typing import TYPE_CHECKING, Any, Self

from cephcaps.caps import Caps
from cephcaps.data import CapRefs
from cephcaps.errors import CephError, MdsError
from cephwire.capbits import FileMode
from cephwire.requestargs import OpenFlag

if TYPE_CHECKING:
    from cephcaps.client import Client

__all__ = ["OpenFile"]

HOW: dict[str, tuple[int, int]] = {
    "r": (OpenFlag.RDONLY, FileMode.RD),
    "r+": (OpenFlag.RDWR, FileMode.RDWR),
    "w": (OpenFlag.WRONLY | OpenFlag.CREAT | OpenFlag.TRUNC, FileMode.WR),
    "x": (OpenFlag.WRONLY | OpenFlag.CREAT | OpenFlag.EXCL, FileMode.WR),
    "a": (OpenFlag.WRONLY | OpenFlag.CREAT, FileMode.WR),
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
        self._errors, _ = self._client.inode_error(self._ino)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        """Close it.

        Raises:
            CephError, OSError: changes or data of this file were lost since it was opened, and fsync has not said so.
        """
        ino = self.ino
        try:
            if error is None:
                self._tell_error()
        finally:
            self._ino = 0
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
