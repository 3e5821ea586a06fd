"""The cap engine: what the MDSs have granted this client, and what it owes them for that.

It holds no caps yet: whatever a reply brings goes back with the next release, and every revoke is answered at once, as
one for an inode that is not in the cache. Sources: kernel: fs/ceph/caps.c (``ceph_handle_caps``), fs/ceph/mds_client.c.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from cephwire.caprelease import CapItem, ClientCapRelease
from cephwire.caps import CapOp, ClientCaps
from cephwire.inode import NOSNAP, InodeStat
from cephwire.lease import ClientLease, LeaseAction

__all__ = ["Engine", "Send"]


class Send(NamedTuple):
    """Send ``message`` to the MDS that holds ``rank``."""

    rank: int
    message: ClientCapRelease | ClientLease


Action: TypeAlias = Send

ASKS_FOR_ANSWER = frozenset((CapOp.GRANT, CapOp.REVOKE, CapOp.IMPORT))
"""Left unanswered for an inode we do not have, these would keep other clients waiting; the MDS's other ops end there
(kernel: ``ceph_handle_caps``)."""


class Engine:
    """Takes in what MDSs say of caps and leases; appends what to do about it to `out`."""

    def __init__(self) -> None:
        self.out: list[Action] = []
        self._releases: dict[int, list[CapItem]] = {}

    def receive(self, rank: int, message: ClientCaps | ClientLease) -> None:
        match message:
            case ClientCaps() if message.op in ASKS_FOR_ANSWER:
                self.release(rank, message.ino, message.cap_id, message.mseq, message.seq)
                self.flush_releases()
            case ClientLease() if message.action == LeaseAction.REVOKE:
                self.release_lease(rank, message)

    def reply_received(self, rank: int, inodes: list[InodeStat]) -> None:
        """Take in the caps that came with a reply."""
        for inode in inodes:
            cap = inode.cap
            # In a snapshot only the bits mean anything, and there is no cap behind them to give back.
            if inode.snapid == NOSNAP and cap.cap_id and cap.caps:
                self.release(rank, inode.ino, cap.cap_id, cap.mseq, cap.seq)

    def release(self, rank: int, ino: int, cap_id: int, mseq: int, issue_seq: int) -> None:
        """Give a whole cap back with the next batch. The MDS takes it only if it issued nothing since ``issue_seq``."""
        self._releases.setdefault(rank, []).append(CapItem(ino, cap_id, mseq, issue_seq))

    def flush_releases(self) -> None:
        for rank, items in self._releases.items():
            self.out.append(Send(rank, ClientCapRelease(tuple(items))))
        self._releases.clear()

    def release_lease(self, rank: int, lease: ClientLease) -> None:
        """Until this answer, or the lease's end, another client's unlink or rename of the name waits."""
        answer = ClientLease(
            LeaseAction.RELEASE, lease.mask, lease.ino, lease.first, lease.last, lease.seq, 0, lease.dname
        )
        self.out.append(Send(rank, answer))
