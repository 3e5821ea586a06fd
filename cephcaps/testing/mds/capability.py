"""What one client holds of one inode. Facts: ceph: src/mds/Capability.h."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from cephwire.capbits import Cap as Bit

if TYPE_CHECKING:
    from cephcaps.testing.mds.inode import Inode
    from cephcaps.testing.mds.lockcache import LockCache
    from cephcaps.testing.mds.session import Session

__all__ = ["Cap"]

NOTABLE = Bit.ANY_WR | Bit.FILE_RD
"""Who has never wanted any of these changes no lock by going away."""


class Cap(msgspec.Struct, gc=False, eq=False):
    """What one client holds of one inode.

    Attributes:
        pending: what it was told last that it has.
        issued: what it may still use; more than ``pending`` while bits are asked back.
        seq: of the newest grant, revoke or reply; ``issue_seq`` of the newest reply.
        revoked_at: since when bits are asked back; 0.0 if none are.
        history: what the client held before bits were asked back, the seq and issue_seq it had then, oldest first.
        new: no reply has told the client of it yet.
        valid: the client did not go stale since it was told what it has.
        suppressed: how many there are who will tell the client what it gets.
        notable: locks may have to change when the client gives it up. It stays so when the client wants less, until
            bits are asked back and come (ceph: ``Capability::set_wanted``, ``confirm_receipt``).
        lock_caches: locks of a directory kept for its next requests, by op.
    """

    session: Session
    inode: Inode
    cap_id: int
    pending: int = 0
    issued: int = 0
    wanted: int = 0
    seq: int = 0
    issue_seq: int = 0
    mseq: int = 0
    revoked_at: float = 0.0
    history: tuple[tuple[int, int, int], ...] = ()
    new: bool = False
    valid: bool = True
    suppressed: int = 0
    notable: bool = False
    lock_caches: dict[int, LockCache] = msgspec.field(default_factory=dict)

    @property
    def stale(self) -> bool:
        return self.session.state == "stale"

    @property
    def revoking(self) -> int:
        return self.issued & ~self.pending

    def want(self, wanted: int) -> None:
        self.notable |= bool(wanted & NOTABLE)
        self.inode.wanting += bool(wanted) - bool(self.wanted)
        self.wanted = wanted

    def less_notable(self) -> None:
        """It owes nothing any more, or may not write."""
        if not self.revoking and not self.wanted & NOTABLE and self.session.client not in self.inode.max_size:
            self.notable = False

    def issue(self, bits: int) -> None:
        """Let the client have these bits, and no others, and it is told so."""
        if self.pending & ~bits:
            self.history += ((self.pending, self.seq, self.issue_seq),)
            self.pending = bits
            self.issued |= bits
            self.notable = True
        else:
            self.pending |= bits
            self.issued |= bits
            while self.history and not self.history[-1][0] & ~self.pending:
                self.history = self.history[:-1]
        self.seq += 1

    def add(self, bits: int) -> None:
        """Give more, with a reply."""
        self.pending |= bits
        self.issued |= bits
        self.new, self.valid = False, True
        self.seq += 1
        self.issue_seq = self.seq

    def confirmed(self, seq: int, bits: int) -> None:
        """The client says what it holds, having seen everything up to ``seq``."""
        bits &= self.issued
        was_revoking = self.revoking
        if seq == self.seq:
            self.history = ()
            self.issued = bits
            self.pending &= bits
        else:
            # Said before it has seen what was asked last: what it gave up already needs no asking.
            self.history = tuple(entry for entry in self.history if entry[1] >= seq)
            if self.history and self.history[0][1] == seq:
                _, at, issue_seq = self.history[0]
                self.history = ((bits, at, issue_seq), *self.history[1:])
            self._count()
        self._settled(was_revoking)

    def forget_before(self, issue_seq: int) -> None:
        """The client gave up all that it had had until then (ceph: ``clean_revoke_from``)."""
        was_revoking = self.revoking
        left = tuple(entry for entry in self.history if entry[2] > issue_seq)
        if len(left) != len(self.history):
            self.history = left
            self._count()
            self._settled(was_revoking)

    def _count(self) -> None:
        self.issued = self.pending
        for before, _, _ in self.history:
            self.issued |= before

    def _settled(self, was_revoking: int) -> None:
        if not self.revoking:
            self.revoked_at = 0.0
            if was_revoking:
                self.less_notable()
