"""Which states an inode's locks should be in, by who holds and wants what.

The decisions are those of ceph: src/mds/Locker.cc (``simple_eval``, ``file_eval``) and src/mds/CInode.cc
(``calc_ideal_loner``, ``get_target_loner``).
"""

from __future__ import annotations

from cephcaps.testing.mds.inode import ROOT_INO, Inode
from cephcaps.testing.mds.locks import BUFFER, EXCL, RD, WR, Lock, LockState
from cephcaps.testing.mds.session import Session
from cephwire.capbits import Cap as Bit

__all__ = ["choose_loner", "drop_loner", "ideal_state"]


def ideal_loner(inode: Inode) -> Session | None:
    """The only client that uses the inode; of a directory, the only one that has a cap.

    The root has none: a subtree begins there.
    """
    if inode.ino == ROOT_INO:
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
    """Let nobody be the loner; not while it has what others may not have."""
    loner = inode.loner
    cap = None if loner is None else inode.caps.get(loner)
    if cap is not None and cap.issued & ~inode.allowed(None):
        return False
    inode.loner = None
    return True


def ideal_state(inode: Inode, lock: Lock) -> LockState:
    """The state a stable lock that no request holds should be in."""
    target = inode.loner if inode.loner is inode.want_loner else None
    return _file(inode, lock, target) if lock.name == "F" else _simple(inode, lock, target)


def _group(inode: Inode, shift: int) -> tuple[int, int, int]:
    """What the loner and what others want, and what the loner may have, of one group."""
    loner_wants = others_want = loner_has = 0
    for session, cap in inode.caps.items():
        if session is inode.loner:
            loner_wants, loner_has = cap.wanted >> shift, cap.issued >> shift
        elif session.state != "stale":
            others_want |= cap.wanted >> shift
    return loner_wants, others_want, loner_has


def _simple(inode: Inode, lock: Lock, target: Session | None) -> LockState:
    loner_wants, others_want, _ = _group(inode, lock.shift)
    wanted = (loner_wants | others_want) & EXCL
    if lock.state is not LockState.EXCL and target is not None and wanted:
        return LockState.EXCL
    if not wanted or (lock.state is LockState.EXCL and target is None):
        return LockState.SYNC
    return lock.state


def _file(inode: Inode, lock: Lock, target: Session | None) -> LockState:
    loner_wants, others_want, loner_has = _group(inode, lock.shift)
    loner_wants, others_want, loner_has = loner_wants & 0xFF, others_want & 0xFF, loner_has & 0xFF
    wanted = loner_wants | others_want
    if lock.state is LockState.EXCL:
        shared_dir = inode.is_dir and len(inode.caps) > 1
        if (loner_wants | loner_has) & (EXCL | WR | BUFFER) and not others_want & (EXCL | WR | RD) and not shared_dir:
            return LockState.EXCL
        return LockState.MIX if wanted & WR else LockState.SYNC
    if target is not None and (inode.is_dir or wanted & (EXCL | WR | BUFFER)):
        return LockState.EXCL
    if target is None and wanted & WR:
        return LockState.MIX
    return LockState.SYNC if not wanted & WR else lock.state
