"""Snapshots: taking, naming, listing and removing them. What is in them is looked at by paths through ``.snap``."""

from __future__ import annotations

import errno
import os
import stat as st
import time
from collections.abc import Mapping

from cephcaps.errors import MdsError
from cephcaps.mds.requests import Operation
from cephcaps.namespace import Namespace
from cephcaps.paths import DEFAULT, Path
from cephcaps.stat import Snapshot
from cephwire.codec import Codec
from cephwire.request import SNAP_PAYLOAD, SnapPayload
from cephwire.requestargs import MkdirArgs
from cephwire.requestop import RequestOp

__all__ = ["Snapshots"]

_payloads: Codec[SnapPayload] = Codec(SNAP_PAYLOAD)


class Snapshots(Namespace):
    """A snapshot keeps a directory and all below it as they are. In the directory's ``.snap`` (``client_snapdir``)
    it is a directory, which `mkdir`, `rmdir` and `rename` work on as well; nothing in it can be changed (EROFS) or
    opened, and what is seen of it is not cached."""

    async def mksnap(
        self, path: Path, name: str, *, metadata: Mapping[str, str] | None = None, timeout: float | None = DEFAULT
    ) -> int:
        """Take a snapshot of directory ``path``; gives its snapid.

        Args:
            metadata: kept with it.
        Raises:
            MdsError: FileExistsError; EINVAL for a name that begins with "_"; EMLINK where the directory has as many
                as it may (``mds_max_snaps_per_dir``).
        """
        until = self._until(timeout)
        what = self._of(path, name)
        place = await self._place(what, until, errno.EEXIST)
        operation = Operation(
            place.op(RequestOp.MKDIR, what),
            place.path,
            what,
            MkdirArgs(st.S_IFDIR | 0o755),
            data=_payloads.encode(SnapPayload(dict(metadata or {}))),
            stamp=time.time_ns(),
        )
        taken = (await self._ask(operation, until)).reply.trace.target
        if taken is None:
            raise MdsError(errno.EIO, "the MDS told nothing of the snapshot", what)
        return taken.snapid

    async def rmsnap(self, path: Path, name: str, *, timeout: float | None = DEFAULT) -> None:
        """Remove a snapshot of directory ``path``."""
        await self.rmdir(self._of(path, name), timeout=timeout)

    async def lssnap(self, path: Path, *, timeout: float | None = DEFAULT) -> list[Snapshot]:
        """The snapshots that directory ``path`` is in, the oldest first."""
        where = os.path.join(os.fsdecode(path), self._snapdir)
        _, snap = await self._look(where, 0, self._until(timeout))
        if snap is None:
            raise MdsError(errno.ENOTDIR, None, where)
        return [
            Snapshot(entry.dname, entry.inode.snapid, entry.inode.snap_btime, entry.inode.snap_metadata)
            async for piece in self._list(RequestOp.LSSNAP, snap, where, timeout)
            for entry, _ in piece
        ]

    def _of(self, path: Path, name: str) -> str:
        if not name or "/" in name or name in (".", ".."):
            raise ValueError(f"{name!r} is no name for a snapshot")
        return os.path.join(os.fsdecode(path), self._snapdir, name)
