"""Which client an inode's exclusive states favour. Facts: ceph: src/mds/CInode.cc (``calc_ideal_loner`` ...)."""

from __future__ import annotations

from cephcaps.testing.mds.inode import Inode
from cephcaps.testing.mds.locks import Who
from cephcaps.testing.mds.session import Session
from cephwire.capbits import Cap as Bit

__all__ = ["choose_loner", "drop_loner"]


def ideal_loner(inode: Inode) -> Session | None:
    """The only client that uses the inode; of a directory, the only one that has a cap.

    The root has none: a subtree begins there.
    """
    if inode.is_root:
        return None
    found = None
    for session, cap in inode.caps.items():
        if session.state != "stale" and (inode.is_dir or cap.wanted & (Bit.ANY_WR | Bit.FILE_RD)):
            if found is not None:
                return None
            found = session
    return found


def choose_loner(inode: Inode) -> bool:
    """Let the right client be the loner, if the old one can be dropped; whether it changed."""
    inode.want_loner = ideal_loner(inode)
    changed = False
    if inode.loner is not None and inode.loner is not inode.want_loner:
        if not drop_loner(inode):
            return False
        changed = True
    if inode.want_loner is not None and inode.loner is None:
        inode.loner = inode.want_loner
        changed = True
    return changed


def drop_loner(inode: Inode) -> bool:
    """Let nobody be the loner; not while it has what others may not have. Whether nobody is."""
    cap = None if inode.loner is None else inode.caps.get(inode.loner)
    if cap is not None and cap.issued & ~inode.allowed_by(Who.ANY):
        return False
    inode.loner = None
    return True
