"""A snapshot's state of an inode goes to the MDS before the right to change the inode is given back."""

from __future__ import annotations

from typing import ClassVar, Final

from cephcaps.trace.items import Traced
from cephcaps.trace.known import Recent
from cephcaps.trace.lint.finding import Rule
from cephcaps.trace.lint.rules import Report, Rules
from cephcaps.trace.lint.state import Cap, CapState, Claim, ClientKey, Session, State, Told, after
from cephcaps.trace.words import CAPS
from cephwire.capbits import Cap as Bits
from cephwire.caps import CapOp, ClientCaps, ClientCapsFlag

__all__ = ["Snaps"]

EARLY: Final = Rule(
    "update-before-flushsnap",
    "the last write bits of an inode are not given back before its FLUSHSNAPs are sent, unless by a message with the "
    "flag PENDING_CAPSNAP: the MDS would take the inode as it is for the snapshot's",
    "ceph: src/mds/Locker.cc, handle_client_caps and _do_null_snapflush; kernel: fs/ceph/caps.c, __prep_cap and "
    "ceph_flush_snaps",
)


class Snaps(Rules):
    """A FLUSHSNAP says which bits were held when the snapshot came: if they had been given back, that was too early."""

    rules: ClassVar[tuple[Rule, ...]] = (EARLY,)

    def __init__(self, state: State, report: Report) -> None:
        super().__init__(state, report)
        self._gave: Recent[tuple[int, int], Claim] = (
            Recent()
        )  # by session and inode, what gave the last write bits back
        self._tids: Recent[tuple[ClientKey, int], bool] = Recent()

    def claimed(self, session: Session, cap: Cap | None, claim: Claim) -> None:
        if cap is None or cap.state != CapState.HELD or (claim.seq is None and cap.outdates(claim)):
            return
        held = cap.most(claim.seq)
        held = cap.pending or 0 if held is None else held
        key = session.number, claim.ino
        if claim.caps & Bits.ANY_FILE_WR:
            self._gave.pop(key)
        elif (
            held & Bits.ANY_FILE_WR
            and not claim.flags & ClientCapsFlag.PENDING_CAPSNAP
            and not _has_them_again(cap, claim)
        ):
            self._gave[key] = claim

    released = claimed

    def told(self, session: Session, cap: Cap | None, told: Told) -> None:
        gave = self._gave.get((session.number, told.ino))
        if gave is None or not told.caps & Bits.ANY_FILE_WR:
            return
        if told.cap_id != gave.cap_id or gave.seq is None or after(told.seq, gave.seq):
            self._gave.pop((session.number, told.ino))  # it may change it again

    def flushed(self, session: Session, cap: Cap | None, item: Traced, message: ClientCaps) -> None:
        if message.op != CapOp.FLUSHSNAP:
            return
        key = session.client.key, item.header.tid
        if self._tids.get(key):
            return  # sent again
        self._tids[key] = True
        gave = self._gave.get((session.number, message.ino))
        if gave is not None and (early := message.caps & Bits.ANY_FILE_WR):
            what = (
                f"FLUSHSNAP of what follows snapshot {message.snap_follows}, with tid {item.header.tid}, comes after "
                f"{gave.op}, which gave back {CAPS[early]} without PENDING_CAPSNAP"
            )
            known = self.state.cap(session, message.ino)
            self.found(
                EARLY, session, what, cap=known, ns=item.ns, ino=message.ino, bits=early, seq=gave.seq, said=gave
            )


def _has_them_again(cap: Cap, claim: Claim) -> bool:
    """Whether the MDS had given write bits anew when the client, not having read that, gave the old ones back."""
    newer = claim.seq is not None and cap.seq is not None and after(cap.seq, claim.seq)
    return newer and bool((cap.pending or 0) & Bits.ANY_FILE_WR)
