"""The blocks in which file data may be touched."""

from __future__ import annotations

import time
import types
from typing import TYPE_CHECKING, Any, Self

from cephcaps.caps import Caps
from cephcaps.engine.io import DataIo
from cephcaps.engine.refs import REFERABLE, Got

if TYPE_CHECKING:
    from cephcaps.client import Client

__all__ = ["CapRefs"]


LATEST = (1 << 32) * 1_000_000_000
"""Of times that messages can carry: 32 bits of seconds."""


class CapRefs:
    """A block that uses caps: while it runs they are not given back. Made by `OpenFile.cap_refs`.

    Attributes:
        got: what may be used in the block.
    """

    def __init__(self, client: Client, ino: int, mode: int, need: Caps, want: Caps, endoff: int, timeout: Any) -> None:
        if int(need | want) & ~REFERABLE or not need:
            raise ValueError(f"need {need} and want {want}: only {Caps.of(REFERABLE)} can be referred to, and one must")
        if not 0 <= endoff < 1 << 63:
            raise ValueError(f"endoff {endoff}: no file reaches that far")
        self._client = client
        self._ino = ino
        self._asked = mode, int(need), int(want), endoff
        self._timeout = timeout
        self._endoff = endoff
        self._inside = False
        self.got: Caps = Caps()

    async def __aenter__(self) -> Self:
        """Wait until they may be used.

        Raises:
            MdsError: the handle was not opened for that (EBADF), the quota is used up (EDQUOT), the MDS takes no
                changes (EROFS).
            RequestTimeout: not granted in time; says what stands in the way.
        """
        got: Got = await self._client.get_refs(self._ino, self._asked, self._timeout)
        self.got = Caps.of(got.bits)
        self._inside = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self._inside = False
        self._client.put_refs(self._ino, int(self.got))

    @property
    def io(self) -> DataIo:
        """How to read and write the data now."""
        return self._client.engine.io(self._ino)

    def wrote(self, endoff: int, mtime: int | None = None, *, buffered: bool = False) -> None:
        """Say that data were written, up to byte ``endoff`` of the file; its size and mtime move with them.

        Args:
            mtime: ns; now, if not said.
            buffered: into memory only: the data handler is asked to write them back.
        Raises:
            ValueError: beyond what the block asked for, or without the caps for it.
            SessionLost: the session that granted them is gone, so nothing can be noted.
        """
        if not self._inside or "Fw" not in self.got:
            raise ValueError(f"nothing may be written here: the block holds {self.got}")
        if endoff > max(self._endoff, self._client.engine.cache.inodes[self._ino].size):
            raise ValueError(f"wrote up to {endoff}, but the block asked for {self._endoff}")
        stamp = time.time_ns() if mtime is None else mtime
        if not 0 <= stamp < LATEST:
            raise ValueError(f"mtime {stamp}: nanoseconds since 1970 that fit 32 bits of seconds")
        if buffered and ("Fb" not in self.got or not self._client.engine.cache.handled):
            raise ValueError(f"buffering takes Fb and a data handler; the block holds {self.got}")
        self._client.wrote(self._ino, endoff, stamp, buffered)
