"""Leases on single names, for clients that may not trust a whole directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cephcaps.testing.mds.inode import Dentry, Inode
from cephcaps.testing.mds.names import leasable
from cephcaps.testing.mds.request import Mutation, Waits
from cephcaps.testing.mds.session import Session
from cephcaps.testing.mds.stats import NO_LEASE
from cephwire.capbits import Cap as Bit
from cephwire.inode import NOSNAP, LeaseStat
from cephwire.lease import ClientLease, LeaseAction

if TYPE_CHECKING:
    from cephcaps.testing.mds.server import Mds

__all__ = ["Leases"]

DURATION = 30.0
"""Seconds (ceph: ``mds_dentry_lease_duration`` of old; ``client_lease_durations`` in src/mds/MDCache.h)."""
PRIMARY_LEASE, REMOTE_LEASE = 7, 3
DENTRY_LOCK = 1


class Leases:
    """Gives leases and asks them back."""

    def __init__(self, mds: Mds) -> None:
        self._mds = mds
        self._seq = 0

    def give(self, session: Session, dentry: Dentry) -> LeaseStat:
        """The lease a reply tells of, if the client needs one."""
        if dentry.revoking or trusts_names(session, dentry.dir) or not leasable(dentry.dir, dentry.name, session):
            return NO_LEASE
        self._seq += 1
        dentry.leases[session] = self._seq, self._mds.now + DURATION
        session.leases[dentry.dir.ino, dentry.name] = dentry
        mask = PRIMARY_LEASE if dentry.primary else REMOTE_LEASE
        return LeaseStat(mask, int(DURATION * 1000), self._seq)

    def recall(self, mutation: Mutation, directory: Inode, name: str) -> None:
        """See to it that no client trusts this name, which the mutation has to itself.

        Raises:
            Waits: somebody still does.
        """
        dentry = directory.entries.get(name)
        if dentry is None:
            return
        now = self._mds.now
        for session, (seq, until) in list(dentry.leases.items()):
            if until <= now:
                self.drop(session, dentry)
            elif session not in dentry.revoking:
                dentry.revoking[session] = None
                self._mds.push(session, _message(LeaseAction.REVOKE, dentry, seq))
        if dentry.leases:
            assert mutation.again is not None
            directory.names[name].waiters.append(mutation.again)
            raise Waits

    def drop(self, session: Session, dentry: Dentry) -> None:
        """The client has none on this name any more."""
        dentry.leases.pop(session, None)
        dentry.revoking.pop(session, None)
        session.leases.pop((dentry.dir.ino, dentry.name), None)
        held = dentry.dir.names.get(dentry.name)
        if held is not None and not dentry.leases:
            waiters, held.waiters = held.waiters, []
            for again in waiters:
                self._mds.later(again)

    def received(self, session: Session, message: ClientLease) -> None:
        directory = self._mds.tree.inodes.get(message.ino)
        dentry = None if directory is None else directory.entries.get(message.dname)
        if dentry is None or session not in dentry.leases:
            return
        if message.action == LeaseAction.RENEW:
            if not dentry.revoking:
                self.give(session, dentry)
                self._mds.push(session, _message(LeaseAction.RENEW, dentry, self._seq))
        else:
            self.drop(session, dentry)

    def released(self, session: Session, directory: Inode, name: str) -> None:
        """Given up with a request."""
        dentry = directory.entries.get(name)
        if dentry is not None:
            self.drop(session, dentry)


def trusts_names(session: Session, directory: Inode) -> bool:
    """Whether a client needs no lease on a name: it may trust all of the directory, now or with its next request."""
    cap = directory.caps.get(session)
    held = cap is not None and bool(cap.pending & (Bit.FILE_SHARED | Bit.FILE_EXCL))
    return held or directory.file.can_lease(session)


def _message(action: LeaseAction, dentry: Dentry, seq: int) -> ClientLease:
    return ClientLease(action, DENTRY_LOCK, dentry.dir.ino, 2, NOSNAP, seq, int(DURATION * 1000), dentry.name)
