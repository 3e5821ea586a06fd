"""What an MDS tells a client of caps, in one form for every message that carries it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from cephwire.capbits import Cap
from cephwire.caps import CapBody, CapFlag, CapOp, ClientCaps
from cephwire.inode import NOSNAP, InodeStat
from cephwire.reply import ClientReply, ReaddirReply

__all__ = ["Told", "told_in"]


class Told(NamedTuple):
    """What an MDS's message says of a cap."""

    ino: int
    cap_id: int
    caps: int
    seq: int
    mseq: int
    anew: bool
    """Whether it is issued anew, by a reply or IMPORT."""
    asks_back: bool = False
    """Whether it is a REVOKE."""
    max_size: int | None = None
    """If it counts where the authority says it (kernel: fs/ceph/caps.c, ``handle_cap_grant``, ``ceph_fill_inode``)."""


def told_in(message: Any) -> Iterator[Told]:
    """The caps that an MDS's message grants or asks back."""
    match message:
        case ClientCaps(op=CapOp.GRANT | CapOp.REVOKE | CapOp.IMPORT):
            assert isinstance(message.body, CapBody)
            anew, asks_back = message.op == CapOp.IMPORT, message.op == CapOp.REVOKE
            yield Told(
                message.ino,
                message.cap_id,
                message.caps,
                message.seq,
                message.mseq,
                anew,
                asks_back,
                message.body.max_size if message.caps & Cap.ANY_FILE_WR else None,
            )
        case ClientReply():
            yield from _issued(message.trace.target)
            yield from _issued(message.trace.dir)
            if isinstance(message.extra, ReaddirReply):
                for entry in message.extra.entries:
                    yield from _issued(entry.inode)


def _issued(inode: InodeStat | None) -> Iterator[Told]:
    if inode is not None and inode.snapid == NOSNAP and inode.cap.cap_id and inode.cap.caps:
        cap = inode.cap
        max_size = inode.max_size if cap.flags & CapFlag.AUTH else None
        yield Told(inode.ino, cap.cap_id, cap.caps, cap.seq, cap.mseq, True, max_size=max_size)
