"""Names: which inode a name of a directory leads to, for as long as the MDS promised to say when that changes.

The promise is either FILE_SHARED on the directory or a lease on the one name. Under FILE_SHARED a directory may be
known whole (kernel: ``I_COMPLETE``): then a name that is not known is known to be missing, and a listing costs no
message. Sources: kernel: fs/ceph/dir.c, ``ceph_d_revalidate``, ``ceph_d_prune``; fs/ceph/inode.c,
``update_dentry_lease``; fs/ceph/mds_client.c, ``handle_lease``.
"""

from __future__ import annotations

from typing import Final

from cephcaps.engine.cache import Cache, Send
from cephcaps.engine.inode import Dentry, Inode, Lease, newer
from cephwire.capbits import Cap
from cephwire.inode import InodeStat, LeaseStat
from cephwire.lease import ClientLease, LeaseAction

__all__ = ["Dentries", "is_complete", "wanted_for_names"]

LEASE_VALID = 3
"""Either bit of a lease's mask that says there is one (old and new)."""
MISSING_KEPT = 1024
"""Names kept of a directory, about, after which those known to be missing are forgotten: they cost memory, and where
temporary files come and go there is no end to them."""
NO_GEN = -1
"""``shared_gen`` of a name that was told without FILE_SHARED: only its lease says how long it holds."""
MISSING: Final = Dentry(0, NO_GEN)
"""What a directory that is known whole tells of any name it does not have."""


def is_complete(directory: Inode) -> bool:
    """Whether every name of ``directory`` is known, as long as FILE_SHARED is held; once that is lost and comes again,
    ``shared_gen`` has moved on."""
    return directory.complete_gen == directory.shared_gen


def wanted_for_names(inode: Inode) -> int:
    """Bits that are wanted of a directory nobody has open because it is known whole, 0 for any other inode.

    With FILE_EXCL its names can be changed by us without our FILE_SHARED being revoked each time (kernel:
    ``ceph_check_caps``).
    """
    if inode.complete_gen == inode.shared_gen:
        for cap in inode.caps.values():
            if cap.issued & Cap.FILE_SHARED:
                return Cap.ANY_SHARED | Cap.FILE_EXCL
    return 0


class Dentries:
    """The names the cache knows."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    # What replies tell

    def learn(
        self,
        directory: Inode,
        name: str,
        target: Inode | None,
        lease: LeaseStat | None,
        rank: int,
        since: float,
        shared: bool = True,
    ) -> int:
        """A reply says where ``name`` leads; None is nowhere. Gives where it led before.

        Args:
            since: when the request left: the lease may count from then.
            shared: whether the same reply grants FILE_SHARED on the directory. One of a rank that does not may have
                been overtaken by another's promise, which says nothing of what it tells.
        """
        if directory.children is None:
            directory.children = {}
        before = directory.children.get(name)
        if target is None and shared and is_complete(directory):
            directory.children.pop(name, None)  # as missing as any other
        else:
            dentry = Dentry(target.ino if target is not None else 0, directory.shared_gen if shared else NO_GEN)
            directory.children[name] = dentry
            if lease is not None and lease.mask & LEASE_VALID:
                gen, expires = self._cache.rank(rank).gen, since + lease.duration_ms / 1000
                dentry.lease = Lease(rank, gen, lease.seq, expires)
            if target is None and len(directory.children) % MISSING_KEPT == 0:
                directory.children = {known: dentry for known, dentry in directory.children.items() if dentry.ino}
        if not shared:
            self._cache.not_whole(directory)
        if target is not None:
            target.parent, target.name = directory.ino, name
        if before is None or not before.ino:
            return 0
        if target is None or before.ino != target.ino:
            self._nameless(before.ino, directory, name)
        return before.ino

    def gone(self, directory_ino: int, name: str) -> None:
        """An operation of ours has taken ``name`` away, and its reply tells nothing of the directory."""
        directory = self._cache.inodes.get(directory_ino)
        if directory is None or not directory.children:
            return
        dentry = directory.children.pop(name, None)
        if dentry is None:
            return
        self._nameless(dentry.ino, directory, name)
        if dentry.shared_gen == directory.shared_gen and not is_complete(directory):
            directory.children[name] = Dentry(0, dentry.shared_gen)  # nobody else could change it since

    def forget(self, directory_ino: int, name: str) -> None:
        """Where ``name`` leads must be asked for."""
        directory = self._cache.inodes.get(directory_ino)
        if directory is not None:
            self._cache.not_whole(directory)
            if directory.children and (dentry := directory.children.pop(name, None)) is not None:
                self._nameless(dentry.ino, directory, name)

    def _nameless(self, ino: int, directory: Inode, name: str) -> None:
        """``name`` leads to ``ino`` no more."""
        inode = self._cache.inodes.get(ino)
        if inode is not None and inode.parent == directory.ino and inode.name == name:
            inode.parent, inode.name = 0, ""

    # Whole directories

    def found_empty(self, directory: Inode, told: InodeStat) -> None:
        """A reply has just granted FILE_SHARED on ``directory``: one that counts no entries is known whole."""
        if told.cap.caps & Cap.FILE_SHARED and not told.files and not told.subdirs:
            self.complete(directory, {})

    def complete(self, directory: Inode, names: dict[str, None]) -> None:
        """Every name of ``directory`` has been told under its present FILE_SHARED.

        Args:
            names: those listed, in that order. One that was listed may have been taken away by us since, and one that
                was made since may not be among them.
        """
        known, gen = directory.children or {}, directory.shared_gen
        for name, dentry in known.items():
            if dentry.shared_gen == gen:
                names.setdefault(name)
        directory.children = {name: known[name] for name in names if name in known and known[name].ino}
        directory.complete_gen = gen

    def entries(self, directory: Inode, now: float) -> dict[str, Dentry] | None:
        """All names of ``directory``, if they are known and that still holds."""
        if not is_complete(directory) or not self._cache.issued(directory, now) & Cap.FILE_SHARED:
            return None
        return directory.children or {}

    # What is known

    def lookup(self, directory: Inode, name: str, now: float) -> Dentry | None:
        """What is known of ``name`` and still holds; None where the MDS must be asked."""
        dentry = directory.children.get(name) if directory.children else None
        if dentry is None:
            return None if self.entries(directory, now) is None else MISSING
        if self.leased(dentry, now):
            return dentry
        shared = self._cache.issued(directory, now) & Cap.FILE_SHARED
        return dentry if shared and dentry.shared_gen == directory.shared_gen else None

    def leased(self, dentry: Dentry, now: float) -> bool:
        """Whether a lease on the name holds."""
        lease = dentry.lease
        if lease is None:
            return False
        lessor = self._cache.ranks.get(lease.rank)
        return lessor is not None and lessor.gen == lease.gen and now < min(lease.expires, lessor.ttl)

    # What MDSs push

    def lease_message(self, rank: int, lease: ClientLease) -> None:
        """A REVOKE is answered at once, known or not: until then another client's unlink or rename waits."""
        if lease.action != LeaseAction.REVOKE:
            return
        seq = lease.seq
        directory = self._cache.inodes.get(lease.ino)
        dentry = directory.children.get(lease.dname) if directory is not None and directory.children else None
        ours = dentry.lease if dentry is not None else None
        if ours is not None:
            if ours.rank == rank and newer(ours.seq, seq) > 0:
                seq = ours.seq
            ours.expires = 0.0
        answer = ClientLease(LeaseAction.RELEASE, lease.mask, lease.ino, lease.first, lease.last, seq, 0, lease.dname)
        self._cache.out.append(Send(rank, answer))
