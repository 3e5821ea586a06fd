"""What a write to the OSDs, or a read from them, must be told of the inode."""

from __future__ import annotations

from typing import NamedTuple

from cephcaps.engine.cache import Cache
from cephcaps.engine.inode import Inode, SnapContext
from cephwire.inode import FileLayout

__all__ = ["DataIo", "data_io"]


class DataIo(NamedTuple):
    """How an inode's data lie in RADOS, and under which snapshots and truncation they are written now.

    Attributes:
        layout: stripe unit and count, object size, pool id.
        pool_ns: RADOS namespace.
        snap_seq, snaps: the snap context of a write.
        size: bytes of the file.
        truncate_seq, truncate_size: the newest truncation; OSD operations carry both.
        osd_epoch_barrier: OSDMap epoch one must have before touching data.
    """

    layout: FileLayout
    pool_ns: str
    snap_seq: int
    snaps: tuple[int, ...]
    size: int
    truncate_seq: int
    truncate_size: int
    osd_epoch_barrier: int


def data_io(cache: Cache, inode: Inode, context: SnapContext | None = None) -> DataIo:
    """For data written under ``context``; under the one that counts now if None."""
    use = inode.use
    if context is None:
        context = use.head if use is not None and use.head is not None else cache.context(inode.realm)
    size, truncate_seq, truncate_size = inode.size, inode.truncate_seq, inode.truncate_size
    for snap in use.cap_snaps if use is not None else ():
        if snap.context == context:
            size, truncate_seq, truncate_size = snap.size, snap.truncate_seq, snap.truncate_size
    return DataIo(
        inode.layout,
        inode.pool_ns,
        context.seq,
        context.snaps,
        size,
        truncate_seq,
        truncate_size,
        cache.osd_epoch_barrier,
    )
