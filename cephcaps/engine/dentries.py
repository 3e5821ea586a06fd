"""Names: which inode a name of a directory leads to, for as long as the MDS promised to say when that changes.

The promise is either FILE_SHARED on the directory or a lease on the one name. Sources: kernel: fs/ceph/dir.c,
``ceph_d_revalidate``; fs/ceph/inode.c, ``update_dentry_lease``; fs/ceph/mds_client.c, ``handle_lease``.
"""

from __future__ import annotations

from cephcaps.engine.cache import Cache, Send
from cephcaps.engine.inode import Dentry, Inode, newer
from cephwire.capbits import Cap
from cephwire.inode import LeaseStat
from cephwire.lease import ClientLease, LeaseAction

__all__ = ["Dentries"]

LEASE_VALID = 3
"""Either bit of a lease's mask that says there is one (old and new)."""


class Dentries:
    """The names the cache knows."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def learn(self, directory: Inode, name: str, ino: int, lease: LeaseStat | None, rank: int, since: float) -> int:
        """A reply says where ``name`` leads; ``ino`` 0 is nowhere. Gives where it led before.

        Args:
            since: when the request left: the lease may count from then.
        """
        if directory.children is None:
            directory.children = {}
        before = directory.children.get(name)
        dentry = directory.children[name] = Dentry(ino, directory.shared_gen)
        if lease is not None and lease.mask & LEASE_VALID:
            dentry.rank = rank
            dentry.gen = self._cache.rank(rank).gen
            dentry.seq = lease.seq
            dentry.expires = since + lease.duration_ms / 1000
        return before.ino if before is not None else 0

    def lookup(self, directory: Inode, name: str, now: float) -> Dentry | None:
        """What is known of ``name`` and still holds; None where the MDS must be asked."""
        dentry = directory.children.get(name) if directory.children else None
        if dentry is None:
            return None
        lessor = self._cache.ranks.get(dentry.rank)
        if lessor is not None and lessor.gen == dentry.gen and now < min(dentry.expires, lessor.ttl):
            return dentry
        shared = self._cache.issued(directory, now) & Cap.FILE_SHARED
        return dentry if shared and dentry.shared_gen == directory.shared_gen else None

    def forget(self, directory: Inode | None, name: str) -> None:
        if directory is not None and directory.children:
            directory.children.pop(name, None)

    def lease_message(self, rank: int, lease: ClientLease) -> None:
        """A REVOKE is answered at once, known or not: until then another client's unlink or rename waits."""
        if lease.action != LeaseAction.REVOKE:
            return
        seq = lease.seq
        directory = self._cache.inodes.get(lease.ino)
        dentry = directory.children.get(lease.dname) if directory is not None and directory.children else None
        if dentry is not None:
            if dentry.rank == rank and newer(dentry.seq, seq) > 0:
                seq = dentry.seq
            dentry.expires = 0.0
        answer = ClientLease(LeaseAction.RELEASE, lease.mask, lease.ino, lease.first, lease.last, seq, 0, lease.dname)
        self._cache.out.append(Send(rank, answer))
