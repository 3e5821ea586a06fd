"""Caps as they come and as they are asked back.

Sources: kernel: fs/ceph/caps.c, ``ceph_add_cap``, ``handle_cap_grant``; ceph: src/client/Client.cc,
``handle_cap_grant``; src/mds/Locker.cc for what the MDS makes of the answer.
"""

from __future__ import annotations

from cephcaps.engine.cache import Cache
from cephcaps.engine.check import Checks
from cephcaps.engine.fields import take_grant, take_reply, take_size
from cephcaps.engine.inode import Inode, InodeCap, newer
from cephcaps.events import CapExported, CapGranted, CapImported, CapRevoking, CapStale
from cephwire.capbits import Cap
from cephwire.caps import CapBody, CapFlag, CapOp, ClientCaps
from cephwire.inode import InodeStat

__all__ = ["Grants"]


class Grants:
    """Adds, widens and narrows caps."""

    def __init__(self, cache: Cache, checks: Checks) -> None:
        self._cache = cache
        self._checks = checks

    def add(self, rank: int, told: InodeStat, now: float) -> Inode:
        """Take in an inode that a reply tells of, and the cap it grants."""
        inode = self._cache.inodes.get(told.ino)
        if inode is None:
            inode = self._cache.inodes[told.ino] = Inode(told)
        else:
            take_reply(inode, told, self._cache.held(inode))
            self._cache.touch(inode)
        granted = told.cap
        if granted.cap_id and granted.caps:
            self._add_cap(inode, rank, told, now)
        else:
            self._cache.let_go(inode)
        return inode

    def _add_cap(self, inode: Inode, rank: int, told: InodeStat, now: float) -> None:
        granted = told.cap
        session = self._cache.rank(rank)
        cap = inode.caps.get(rank)
        if cap is None:
            cap = inode.caps[rank] = InodeCap(rank, granted.cap_id, granted.seq, granted.mseq, session.gen)
            session.num_caps += 1
        elif cap.gen != session.gen:
            self._cut(inode, cap)
        before = cap.issued
        if cap.cap_id == granted.cap_id and newer(granted.seq, cap.seq) < 0:
            cap.issued |= granted.caps  # overtaken by a later message: nothing is taken away by it
        else:
            cap.issued = granted.caps
            cap.seq = cap.issue_seq = granted.seq
        self.note_shared(inode, before, cap.issued)
        cap.cap_id = granted.cap_id
        cap.implemented |= cap.issued
        if not cap.revoking:
            self._cache.settled(inode, cap)
        if newer(granted.mseq, cap.mseq) > 0:
            cap.mseq, cap.mds_wanted = granted.mseq, granted.wanted
        else:
            cap.mds_wanted |= granted.wanted
        cap.gen = session.gen
        auth = inode.auth_cap
        if granted.flags & CapFlag.AUTH and (auth is None or auth is cap or newer(granted.mseq, auth.mseq) > 0):
            inode.auth_rank = rank
        elif inode.auth_rank == rank and not granted.flags & CapFlag.AUTH:
            inode.auth_rank = -1
        if cap.issued & ~before:
            self._cache.emit(CapGranted, inode, cap, cap.issued & ~before)
        want = inode.file_wanted | inode.used
        if cap.mds_wanted & ~want or cap.issued & ~want & Cap.ANY_WR:
            self._checks.requeue(inode, now)  # more than anybody here wants: give it back when nobody came for it

    def granted(self, inode: Inode, cap: InodeCap, message: ClientCaps, now: float) -> None:
        """A GRANT or REVOKE. The bits say what it is: either op may give and take."""
        stale = cap.gen != self._cache.rank(cap.rank).gen
        if stale:
            self._cut(inode, cap)
        held = self._cache.held(inode)
        take_grant(inode, message, held, cap.rank == inode.auth_rank)
        before, now_issued = cap.issued, message.caps
        if newer(message.seq, cap.seq) <= 0:
            now_issued |= before  # sent before what we have from the rank that took over
        else:
            cap.seq = message.seq
        self.note_shared(inode, before, now_issued)
        cap.gen = self._cache.rank(cap.rank).gen
        cap.issued = now_issued
        cap.implemented |= now_issued
        if lost := before & ~now_issued:
            cap.revoked_at = cap.revoked_at or now
            self._cache.revoking[inode.ino] = None
            self._cache.emit(CapRevoking, inode, cap, lost)
        if gained := now_issued & ~before:
            self._cache.emit(CapGranted, inode, cap, gained)
        if not cap.revoking:
            self._cache.settled(inode, cap)
        sent = self._checks.check(inode, now) if lost or gained or cap.revoking or stale else set()
        if message.op == CapOp.REVOKE and cap.rank not in sent and not cap.revoking & inode.used:
            self._checks.answer(inode, cap, now)  # it takes nothing we had left, and is waited for all the same

    def session_stale(self, rank: int) -> None:
        """Nothing from ``rank`` counts until it is granted again, or the session renewed."""
        for inode, cap in self._cache.caps_of(rank):
            self._cache.emit(CapStale, inode, cap, cap.issued)

    def truncated(self, inode: Inode, message: ClientCaps) -> None:
        """Another client has cut the file."""
        assert isinstance(message.body, CapBody)
        take_size(inode, message.body.size, message.body.truncate_seq, message.body.truncate_size)

    def exported(self, inode: Inode, cap: InodeCap) -> None:
        """The rank has handed the inode to another, which will say so itself. Nothing is owed to this one."""
        held, cap.issued = cap.issued, 0
        self._cache.emit(CapExported, inode, cap, held)
        self._cache.remove_cap(inode, cap)

    def imported(self, inode: Inode, rank: int, message: ClientCaps) -> None:
        """The rank has taken the inode over, with what the other had granted."""
        session = self._cache.rank(rank)
        cap = inode.caps.get(rank)
        if cap is None:
            cap = inode.caps[rank] = InodeCap(rank, message.cap_id, message.seq, message.mseq, session.gen)
            session.num_caps += 1
        elif cap.gen != session.gen:
            self._cut(inode, cap)
        held = self._cache.held(inode)
        cap.cap_id = message.cap_id
        cap.seq = cap.issue_seq = message.seq
        cap.mseq = message.mseq
        cap.mds_wanted = message.wanted
        before, cap.issued = cap.issued, message.caps
        cap.implemented |= message.caps
        cap.gen = session.gen
        auth = inode.auth_cap
        if auth is None or newer(message.mseq, auth.mseq) > 0:
            inode.auth_rank = rank
        take_grant(inode, message, held, rank == inode.auth_rank)
        self.note_shared(inode, before, cap.issued)
        self._cache.emit(CapImported, inode, cap, cap.issued)

    def session_renewed(self, rank: int, now: float) -> None:
        """What was not granted again before this is known to be gone; who has it open says anew what he wants."""
        gen = self._cache.rank(rank).gen
        for inode, cap in self._cache.caps_of(rank):
            if cap.gen != gen:
                self._cut(inode, cap)
                cap.gen = gen
                self._checks.check(inode, now)

    def _cut(self, inode: Inode, cap: InodeCap) -> None:
        """The cap ran out with its session's generation: only the inode itself is still held."""
        self.note_shared(inode, cap.issued, Cap.PIN)
        cap.issued = cap.implemented = Cap.PIN
        cap.mds_wanted = 0
        self._cache.settled(inode, cap)

    def note_shared(self, inode: Inode, before: int, after: int) -> None:
        """Names learnt under one FILE_SHARED mean nothing under the next: others may have changed them between."""
        if (before ^ after) & Cap.FILE_SHARED:
            inode.shared_gen += 1
