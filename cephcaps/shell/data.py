"""What an embedder brings along to keep file data in memory."""

from __future__ import annotations

from typing import Protocol

from cephcaps.engine.io import DataIo

__all__ = ["DataHandler", "DataIo"]


class DataHandler(Protocol):
    """Keeps data of files in memory, and brings them to the OSDs and forgets them when the client says so.

    Each call runs in a task of its inode, one at a time for each inode, and must end within three quarters of the
    MDS's session time-out (45 s): then it is cancelled and counts as failed.
    """

    async def writeback(self, ino: int, io: DataIo) -> None:
        """Write to the OSDs all that was written with ``buffered=True`` under ``io``'s snap context.

        What it raises is the file's error: the data count as lost, and every handle hears of it once, at its next fsync
        or close.
        """

    async def invalidate(self, ino: int, gen: int) -> None:
        """Forget what was read: another client may change it once this returns. Tried again if it fails."""

    async def truncate(self, ino: int, size: int, truncate_seq: int) -> None:
        """Forget what was read or written beyond ``size``: the file was cut there."""
