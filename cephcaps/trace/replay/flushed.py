"""What a captured client changed by itself and told the MDS in a flush, which no request shows.

A flush carries the whole inode as the client has it, and its dirty bits say what of that counts. Sizes, and times under
FILE_WR, only count where they are ahead of what the MDS has; so that is kept of each inode, by what MDSs tell of it.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass

from cephcaps.engine.inode import newer
from cephcaps.engine.setattr import Change
from cephcaps.engine.xattrs import XattrChange
from cephwire.capbits import Cap
from cephwire.caps import CapBody, ClientCaps
from cephwire.codec import Codec
from cephwire.errors import MalformedMessage
from cephwire.inode import NOSNAP, XATTR_BLOB, InodeStat, XattrBlob

__all__ = ["Flushed"]

FILE_DIRTY = Cap.FILE_WR | Cap.FILE_EXCL
MODE_BITS = 0o7777

xattr_blobs: Codec[XattrBlob] = Codec(XATTR_BLOB)


@dataclass(slots=True)
class Attributes:
    """What counts of an inode as the MDS has it.

    Attributes:
        mtime: nanoseconds.
        xattrs: None is not known.
    """

    size: int = 0
    truncate_seq: int = 0
    mtime: int = 0
    time_warp_seq: int = 0
    xattrs: dict[str, bytes] | None = None


class Flushed:
    """Finds out what flushes change."""

    def __init__(self) -> None:
        self._of: dict[int, Attributes] = {}

    # What MDSs tell

    def told(self, inode: InodeStat) -> None:
        """A reply shows an inode."""
        if inode.snapid != NOSNAP:
            return
        told = Attributes(inode.size, inode.truncate_seq, inode.mtime, inode.time_warp_seq, inode.xattrs)
        self._take(inode.ino, told)

    def granted(self, message: ClientCaps) -> None:
        """A message about caps does, on its way to a client."""
        body = message.body
        if isinstance(body, CapBody):
            xattrs = _decoded(message.xattrs)
            told = Attributes(body.size, body.truncate_seq, body.mtime, body.time_warp_seq, xattrs)
            self._take(message.ino, told)

    def _take(self, ino: int, told: Attributes) -> None:
        """Messages may overtake each other: a size falls only with a new ``truncate_seq``, and what has an older
        ``time_warp_seq`` is old (ceph: src/client/Client.cc, ``update_inode_file_size``, ``update_inode_file_time``).
        An MDS that cuts a file sets its mtime back without raising that."""
        had = self._of.get(ino)
        if had is None:
            self._of[ino] = told
            return
        ahead = newer(told.truncate_seq, had.truncate_seq)
        if ahead <= 0:
            told.size = had.size if ahead else max(told.size, had.size)
            told.truncate_seq = had.truncate_seq
        if newer(told.time_warp_seq, had.time_warp_seq) < 0:
            told.mtime, told.time_warp_seq = had.mtime, had.time_warp_seq
        if told.xattrs is None:
            told.xattrs = had.xattrs
        self._of[ino] = told

    # What clients flush

    def changes(self, message: ClientCaps) -> list[Change | XattrChange]:
        """What an UPDATE or FLUSH changes, as the MDS takes it in (ceph: src/mds/Locker.cc, ``_do_cap_update``,
        ``_update_cap_fields``): owner and mode as they are; a size only upwards; mtime upwards under FILE_WR, any
        times under FILE_EXCL; all extended attributes.

        What the MDS has already is among it: it may have it from a FLUSHSNAP, which is not made again.
        """
        body = message.body
        if not isinstance(body, CapBody):
            return []
        had = self._of.setdefault(message.ino, Attributes())
        found: list[Change | XattrChange] = []
        changed: dict[str, int] = {}
        if message.dirty & Cap.AUTH_EXCL:
            changed = {"mode": message.mode & MODE_BITS, "uid": message.uid, "gid": message.gid}
        if message.dirty & FILE_DIRTY:
            if message.dirty & Cap.FILE_EXCL or body.mtime >= had.mtime:
                changed["mtime"] = had.mtime = body.mtime
            if message.dirty & Cap.FILE_EXCL:
                changed["atime"] = body.atime
                had.time_warp_seq = body.time_warp_seq
            if body.size >= had.size and not stat.S_ISDIR(message.mode):
                # By itself and first: asked for along with an mtime, it would be the mtime that is lost
                # (ceph: src/mds/Server.cc, ``handle_client_setattr``).
                had.size = body.size
                found.append(Change(body.ctime, size=body.size))
                changed["mtime"] = had.mtime
        if changed:
            found.append(Change(body.ctime, **changed))
        return found + self._xattrs(had, message, body.ctime)

    def _xattrs(self, had: Attributes, message: ClientCaps, stamp: int) -> list[Change | XattrChange]:
        now = _decoded(message.xattrs) if message.dirty & Cap.XATTR_EXCL else None
        if now is None:
            return []
        before = had.xattrs or {}
        had.xattrs = now
        found: list[Change | XattrChange] = []
        found += (XattrChange(name, value, stamp) for name, value in now.items() if before.get(name) != value)
        found += (XattrChange(name, None, stamp) for name in before if name not in now)
        return found


def _decoded(blob: bytes) -> dict[str, bytes] | None:
    if not blob:
        return None
    try:
        return xattr_blobs.decode(blob).xattrs
    except MalformedMessage:
        return None
