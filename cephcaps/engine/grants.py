"""Caps as they come and as they are asked back.

Sources: kernel: fs/ceph/caps.c, ``ceph_add_cap``, ``__check_cap_issue``, ``handle_cap_grant``; ceph:
src/client/Client.cc, ``handle_cap_grant``; src/mds/Locker.cc for what the MDS makes of the answer.
"""

from __future__ import annotations

from cephcaps.engine.cache import Cache
from cephcaps.engine.check import Checks, wanted
from cephcaps.engine.fields import take_grant, take_reply, take_size
from cephcaps.engine.flush import Flushes
from cephcaps.engine.hooks import Hooks
from cephcaps.engine.inode import Inode, InodeCap, newer
from cephcaps.engine.realms import Realms
from cephcaps.engine.reserve import Reservation
from cephcaps.events import CapGranted, CapRevoking, CapStale
from cephwire.capbits import Cap
from cephwire.caps import CapBody, CapFlag, CapOp, ClientCaps
from cephwire.inode import InodeStat

__all__ = ["Grants"]

BY_AUTHORITY = int(CapFlag.AUTH)  # a plain int: with a Flag the test takes ten times as long


class Grants:
    """Adds, widens and narrows caps."""

    def __init__(self, cache: Cache, checks: Checks, flushes: Flushes, hooks: Hooks, realms: Realms) -> None:
        self._cache = cache
        self._flushes = flushes
        self._realms = realms
        self._checks = checks
        self._hooks = hooks

    def add(self, rank: int, told: InodeStat, now: float, reserved: Reservation | None = None) -> Inode:
        """Take in an inode that a reply tells of, and the cap it grants."""
        inode = self._cache.inodes.get(told.ino)
        if inode is None:
            inode = self._cache.inodes[told.ino] = Inode.of(told, self._cache.same)
            if told.cap.cap_id and told.cap.caps:
                self._first_cap(inode, rank, told, now, reserved)
                return inode
        else:
            before = inode.truncate_seq
            take_reply(inode, told, self._cache.held(inode))
            self._truncated(inode, before, now)
            self._cache.touch(inode)
        granted = told.cap
        if granted.cap_id and granted.caps:
            self._add_cap(inode, rank, told, now, reserved)
        else:
            self._cache.let_go(inode)
        return inode

    def _first_cap(self, inode: Inode, rank: int, told: InodeStat, now: float, reserved: Reservation | None) -> None:
        """As `_add_cap`, of an inode that is new: nothing is in use or wanted, and nobody waits."""
        granted = told.cap
        issued = self._cache.same(granted.caps)
        cap = self._cache.add_cap(
            inode, rank, granted.cap_id, granted.seq, granted.mseq, reserved, issued, granted.wanted
        )
        self._cache.note_issue(inode, 0, issued)
        if granted.flags & BY_AUTHORITY:
            inode.auth_rank = rank
        self._realms.enter(inode, granted.realm, now, auth=inode.auth_rank == rank)
        self._cache.emit(CapGranted, inode, cap, issued)
        if granted.wanted or issued & Cap.ANY_WR:
            self._checks.requeue(inode, now)  # more than anybody here wants: give it back when nobody came for it

    def _add_cap(self, inode: Inode, rank: int, told: InodeStat, now: float, reserved: Reservation | None) -> None:
        granted = told.cap
        session = self._cache.rank(rank)
        cap = inode.cap(rank)
        if cap is None:
            cap = self._cache.add_cap(inode, rank, granted.cap_id, granted.seq, granted.mseq, reserved)
        elif cap.gen != session.gen:
            self.cut(inode, cap)
        before = cap.issued
        if cap.cap_id == granted.cap_id and newer(granted.seq, cap.seq) < 0:
            cap.issued |= granted.caps  # overtaken by a later message: nothing is taken away by it
        else:
            cap.issued = granted.caps
            cap.seq = cap.issue_seq = granted.seq
        self._cache.note_issue(inode, before, cap.issued)
        cap.cap_id = granted.cap_id
        cap.implemented |= cap.issued
        owed = self._cache.note_revoking(inode, cap, now)
        if newer(granted.mseq, cap.mseq) > 0:
            cap.mseq, cap.mds_wanted = granted.mseq, granted.wanted
        else:
            cap.mds_wanted |= granted.wanted
        cap.gen = session.gen
        auth, had_auth = inode.auth_cap, inode.auth_rank
        if granted.flags & BY_AUTHORITY and (auth is None or auth is cap or newer(granted.mseq, auth.mseq) > 0):
            inode.auth_rank = rank
        elif inode.auth_rank == rank and not granted.flags & BY_AUTHORITY:
            inode.auth_rank = -1
        self._realms.enter(inode, granted.realm, now, auth=inode.auth_rank == rank)
        if cap.issued & ~before:
            self._cache.emit(CapGranted, inode, cap, cap.issued & ~before)
        if inode.auth_rank == rank != had_auth and inode.flushes:
            self._flushes.resend(inode, cap)  # begun while nobody was in charge
        self._cache.wake(inode)
        if cap.revoking:  # what was in use may have come back, and the rest can be given
            self._checks.check(inode, now)
        elif owed:
            self._checks.answer(inode, cap)
        want = wanted(inode)
        if cap.mds_wanted & ~want or cap.issued & ~want & Cap.ANY_WR:
            self._checks.requeue(inode, now)  # more than anybody here wants: give it back when nobody came for it

    def granted(self, inode: Inode, cap: InodeCap, message: ClientCaps, now: float) -> None:
        """A GRANT or REVOKE. The bits say what it is: either op may give and take."""
        stale = cap.gen != self._cache.rank(cap.rank).gen
        if stale:
            self.cut(inode, cap)
        self.take_fields(inode, message, cap.rank == inode.auth_rank, now)
        before, now_issued = cap.issued, message.caps
        if newer(message.seq, cap.seq) <= 0:
            now_issued |= before  # sent before what we have from the rank that took over
        else:
            cap.seq = message.seq
        self._cache.note_issue(inode, before, now_issued)
        cap.gen = self._cache.rank(cap.rank).gen
        cap.issued = now_issued
        cap.implemented |= now_issued
        owed = self._cache.note_revoking(inode, cap, now)
        if lost := before & ~now_issued:
            self._cache.emit(CapRevoking, inode, cap, lost)
        if gained := now_issued & ~before:
            self._cache.emit(CapGranted, inode, cap, gained)
        self._cache.wake(inode)
        sent = self._checks.check(inode, now) if lost or gained or cap.revoking or stale else set()
        nothing_left = message.op == CapOp.REVOKE and not cap.revoking & self._checks.in_use(inode, cap)
        if (nothing_left or owed) and cap.rank not in sent and not self._cache.waits(cap):
            self._checks.answer(inode, cap)  # it is waited for all the same

    def take_fields(self, inode: Inode, message: ClientCaps, from_auth: bool, now: float) -> None:
        """Believe what a GRANT, REVOKE or IMPORT says of the inode, as far as ours is not newer."""
        before = inode.truncate_seq
        take_grant(inode, message, self._cache.held(inode), from_auth)
        self._truncated(inode, before, now)
        use = inode.use
        if from_auth and use is not None and inode.max_size >= use.wanted_max_size:
            use.wanted_max_size = use.requested_max_size = 0

    def truncated(self, inode: Inode, message: ClientCaps, now: float) -> None:
        """Another client has cut the file."""
        assert isinstance(message.body, CapBody)
        before = inode.truncate_seq
        take_size(inode, message.body.size, message.body.truncate_seq, message.body.truncate_size)
        self._truncated(inode, before, now)

    def _truncated(self, inode: Inode, before: int, now: float) -> None:
        if newer(inode.truncate_seq, before) > 0:
            self._hooks.truncate(inode, now)

    # Sessions

    def session_stale(self, rank: int) -> None:
        """Nothing from ``rank`` counts until it is granted again, or the session renewed."""
        for inode, cap in self._cache.caps_of(rank):
            self._cache.emit(CapStale, inode, cap, cap.issued)

    def session_renewed(self, rank: int, now: float) -> None:
        """What was not granted again before this is known to be gone; who has it open says anew what he wants."""
        gen = self._cache.rank(rank).gen
        for inode, cap in self._cache.caps_of(rank):
            if cap.gen != gen:
                self.cut(inode, cap)
                cap.gen = gen
                self._checks.check(inode, now)

    def cut(self, inode: Inode, cap: InodeCap) -> None:
        """The cap ran out with its session's generation: only the inode itself is still held."""
        self._cache.note_issue(inode, cap.issued, Cap.PIN)
        cap.issued = cap.implemented = Cap.PIN
        cap.mds_wanted = 0
        self._cache.settled(inode, cap)
