"""What a client did by itself, inferred from what it says next: what it opened and closed, used and changed."""

from __future__ import annotations

import stat

from cephcaps.engine.dentries import is_complete, wanted_for_names
from cephcaps.engine.inode import Inode, InodeCap
from cephcaps.trace.replay.driven import Driven
from cephcaps.trace.replay.said import Said
from cephwire.capbits import Cap, FileMode, wanted_for_mode
from cephwire.caps import CapBody

__all__ = ["FOR_NAMES", "USABLE", "changed", "prepare", "shares_names"]

PLAIN_MODES = (FileMode.RD, FileMode.WR, FileMode.RDWR)
MODES = (*PLAIN_MODES, FileMode.LAZY, *(mode | FileMode.LAZY for mode in PLAIN_MODES))
USABLE = Cap.FILE_RD | Cap.FILE_WR | Cap.FILE_CACHE | Cap.FILE_BUFFER
COUNTED = ((Cap.FILE_RD, "rd"), (Cap.FILE_WR, "wr"), (Cap.FILE_CACHE, "cache"), (Cap.FILE_BUFFER, "buffer"))
FOR_NAMES = Cap.ANY_SHARED | Cap.FILE_EXCL
"""What is wanted of a directory of which all names are known."""


def prepare(engine: Driven, inode: Inode, cap: InodeCap, said: Said, issued: int, kept: int, now: float) -> None:
    """Bring about what lets the client say ``said`` of ``cap``, of which ``issued`` is all it may have by then, and go
    on to tell other ranks that it still uses ``kept``."""
    if not stat.S_ISDIR(inode.mode) or not _names(engine, inode, said, cap.mds_wanted):
        _modes(engine, inode, said)
    lost = (cap.issued | cap.implemented) & ~issued
    _uses(engine, inode, said, lost, kept)
    if stat.S_ISDIR(inode.mode) and issued & Cap.ANY_SHARED & ~said.caps:
        engine.forsaken.add(inode.ino)
    surplus = engine.surplus(inode, issued)
    # What was just in use may be kept for a while, all of it: whether that is over is a matter of time.
    inode.hold_min = 0.0
    if surplus and not surplus & ~said.caps:
        inode.hold_min = float("inf")
    elif surplus & said.caps & (USABLE | Cap.FILE_LAZYIO):
        _uses(engine, inode, said, lost | surplus, kept)
    if inode.use is not None and said.message is not None:
        body = said.message.body
        if isinstance(body, CapBody) and body.max_size > inode.max_size and cap.rank == inode.auth_rank:
            inode.use.wanted_max_size = body.max_size
    engine.cache.let_go(inode)


def changed(engine: Driven, inode: Inode, said: Said, now: float) -> None:
    """The changes that ``said`` flushes were made here."""
    bits = said.dirty & ~(inode.dirty if said.op != "flushsnap" else inode.dirty | inode.flushing)
    message = said.message
    if message is not None and said.op != "flushsnap":
        _values(inode, said)
    if bits:
        engine.flushes.mark_dirty(inode, bits, now)


def _values(inode: Inode, said: Said) -> None:
    message = said.message
    body = message.body
    if said.dirty & Cap.AUTH_EXCL:
        inode.mode, inode.uid, inode.gid, inode.btime = message.mode, message.uid, message.gid, message.btime
    if said.dirty & Cap.XATTR_EXCL:
        inode.xattr_version = message.xattr_version
    if said.dirty & (Cap.FILE_EXCL | Cap.FILE_WR) and isinstance(body, CapBody):
        inode.size = max(inode.size, body.size)
        inode.mtime, inode.atime, inode.ctime = body.mtime, body.atime, body.ctime
        inode.time_warp_seq = body.time_warp_seq
    inode.change_attr = max(inode.change_attr, message.change_attr)


def shares_names(inode: Inode | None) -> bool:
    """Whether some rank lets the client count on a directory's names; else it wants nothing for that either (ceph:
    src/client/Client.cc, check_caps, I_COMPLETE)."""
    return inode is not None and any(cap.issued & Cap.FILE_SHARED for cap in inode.caps.values())


def _names(engine: Driven, inode: Inode, said: Said, before: int) -> bool:
    """Whether the client counts on knowing all names of a directory, and wants it for that.

    It does only of one that nobody has open. Along with it may be wanted what was ``before``, so what is new tells
    which of the two it is.
    """
    whole = said.wanted & FOR_NAMES == FOR_NAMES
    if whole and inode.use is not None and inode.use.modes:
        new = said.wanted & ~before
        if not new or new & ~(FOR_NAMES | Cap.PIN):
            return False
        inode.use.modes.clear()
    if whole and not is_complete(inode):
        inode.complete_gen = inode.shared_gen
    elif not whole and is_complete(inode):
        engine.cache.not_whole(inode)
    return whole


def _modes(engine: Driven, inode: Inode, said: Said) -> None:
    """What is open: no mode that would want more, and what must be for so much to be wanted."""
    use = inode.use
    if use is not None:
        for mode in list(use.modes):
            if wanted_for_mode(mode) & ~said.wanted:
                del use.modes[mode]
    beyond = said.wanted & ~(inode.file_wanted | wanted_for_names(inode) | USABLE | Cap.FILE_EXCL | Cap.PIN)
    opened = said.wanted & Cap.PIN and not (use is not None and use.modes)
    if not beyond and not opened:
        return
    fitting = [mode for mode in MODES if not wanted_for_mode(mode) & ~said.wanted]
    if fitting:
        mode = max(fitting, key=lambda mode: wanted_for_mode(mode).bit_count())
        modes = engine.cache.use(inode).modes
        modes[mode] = modes.get(mode, 0) + 1
    elif opened:
        engine.cache.use(inode).modes[FileMode.PIN] = 1


def _uses(engine: Driven, inode: Inode, said: Said, unkept: int, kept: int) -> None:
    """What is in use: what is wanted though nothing open wants it, and what is kept of ``unkept``, all else goes but
    what another rank waits for."""
    used = unkept & said.caps & (USABLE | Cap.FILE_LAZYIO)
    held = said.caps
    gone = unkept & ~kept
    if gone & Cap.FILE_LAZYIO & ~said.caps and not said.caps & Cap.FILE_CACHE:
        gone |= Cap.FILE_CACHE | Cap.FILE_BUFFER  # data that it covered
    for other in inode.caps.values():
        if other.rank != said.rank:
            held |= other.implemented
            used |= inode.used & other.revoking & ~gone
            if other.revoking & Cap.FILE_LAZYIO & ~gone:
                used |= inode.used & (Cap.FILE_CACHE | Cap.FILE_BUFFER)  # data that it covers
    if held & Cap.FILE_LAZYIO:
        held |= Cap.FILE_CACHE | Cap.FILE_BUFFER  # as above
    used |= said.wanted & ~inode.file_wanted & USABLE & held
    if said.rank == inode.auth_rank:
        used &= ~(gone & ~said.caps)
    if used & Cap.FILE_LAZYIO and not used & (Cap.FILE_CACHE | Cap.FILE_BUFFER):
        used |= Cap.FILE_CACHE  # data that it covers
    if not used and inode.use is None:
        return
    use = engine.cache.use(inode)
    for bit, count in COUNTED:
        setattr(use, count, 1 if used & bit else 0)
