"""The cap engine: what the MDSs have granted this client, what is done under that, and what is owed to them.

State in, actions out: `receive`, `reply`, local calls and `tick` take the time as an argument and append to
`Cache.out`. Each subject has a room: `grants` (caps come and are asked back), `check` (when to tell the MDS),
`flush` (dirty metadata), `release` (whole caps given back), `dentries` (names), `fields` (which metadata to
believe), `setattr`. Sources: kernel: fs/ceph/caps.c, fs/ceph/mds_client.c; each rule names its own.
"""

from __future__ import annotations

import stat
from collections.abc import Callable

from cephcaps.caps import Caps
from cephcaps.engine.cache import Cache
from cephcaps.engine.check import Checks
from cephcaps.engine.dentries import Dentries
from cephcaps.engine.flush import Flushes
from cephcaps.engine.grants import Grants
from cephcaps.engine.inode import Inode
from cephcaps.engine.release import Releases
from cephcaps.engine.setattr import Change, Remainder, apply
from cephcaps.events import CapReleased
from cephwire.capbits import Cap
from cephwire.caprelease import CapItem
from cephwire.caps import CapOp, ClientCaps
from cephwire.inode import NOSNAP, InodeStat
from cephwire.lease import ClientLease
from cephwire.reply import ClientReply, ReaddirReply
from cephwire.request import RequestRelease

__all__ = ["Engine", "Late"]

STUCK_AFTER = 5.0
"""Seconds after which something on its way is listed with its why: MDSs report no error for what they ignore."""


class Late:
    """Something owed or expected for longer than it should take."""

    __slots__ = ("age", "ino", "kind", "rank", "why")

    def __init__(self, kind: str, ino: int, rank: int, age: float, why: str) -> None:
        self.kind = kind
        self.ino = ino
        self.rank = rank
        self.age = age
        self.why = why

    def __repr__(self) -> str:
        return f"{self.kind} of inode {self.ino:#x} at rank {self.rank} for {self.age:.1f} s: {self.why}"


class Engine:
    """Caps, names and changes of one client, over all ranks."""

    def __init__(self) -> None:
        self.cache = Cache()
        self.flushes = Flushes(self.cache)
        self.releases = Releases(self.cache)
        self.dentries = Dentries(self.cache)
        self.checks = Checks(self.cache, self.flushes)
        self.grants = Grants(self.cache, self.checks)

    # What MDSs send

    def receive(self, rank: int, message: ClientCaps | ClientLease, tid: int, now: float) -> None:
        """A push about caps or leases; ``tid`` is the header's."""
        if isinstance(message, ClientLease):
            self.dentries.lease_message(rank, message)
            return
        self.cache.osd_epoch_barrier = max(self.cache.osd_epoch_barrier, message.osd_epoch_barrier)
        inode = self.cache.inodes.get(message.ino)
        if message.op == CapOp.FLUSH_ACK:
            if inode is not None:
                self.flushes.acknowledged(inode, rank, tid)
                self._unlinked(inode, now)
            return
        cap = inode.caps.get(rank) if inode is not None else None
        if inode is not None and message.op == CapOp.IMPORT:
            self.grants.imported(inode, rank, message)
            self.flushes.resend(inode, inode.caps[rank])
            self.checks.check(inode, now)
        elif inode is None or cap is None or cap.cap_id != message.cap_id:
            self._not_ours(rank, message, now)
        elif message.op in (CapOp.GRANT, CapOp.REVOKE):
            self.grants.granted(inode, cap, message, now)
            self._unlinked(inode, now)
        elif message.op == CapOp.TRUNC:
            self.grants.truncated(inode, message)
        elif message.op == CapOp.EXPORT:
            self.grants.exported(inode, cap)

    def _not_ours(self, rank: int, message: ClientCaps, now: float) -> None:
        """For a cap we have given back or never knew: say so at once, for other clients may wait.

        A GRANT takes nothing away, and crosses a release for every file that is given back before its create is
        durable: the answers to all that came together leave together (`settle`).
        """
        if message.op in (CapOp.GRANT, CapOp.REVOKE, CapOp.IMPORT):
            item = CapItem(message.ino, message.cap_id, message.mseq, message.seq)
            self.releases.queue(rank, item, now, at_once=True)
            if message.op != CapOp.GRANT:
                self.releases.flush(rank)

    def settle(self, now: float) -> None:
        """All that came together has been taken in: send what is owed for it."""
        self.releases.tick(now)

    def _unlinked(self, inode: Inode, now: float) -> None:
        """Let go of a file that has no name left and nobody open: the MDS frees it once nobody holds a cap."""
        if not inode.nlink and not stat.S_ISDIR(inode.mode):
            self.release(inode.ino, now)

    def reply(self, rank: int, reply: ClientReply, since: float, now: float) -> tuple[Inode | None, list[Inode]]:
        """Take in all that a reply tells and grants; gives the target, and a listing's inodes in its order.

        Args:
            since: when the request left.
        """
        trace = reply.trace
        target = self._learn(rank, trace.target, now)
        directory = self._learn(rank, trace.dir, now)
        if directory is not None and trace.dname is not None:
            leads_to = target.ino if target is not None else 0
            before = self.dentries.learn(directory, trace.dname, leads_to, trace.dlease, rank, since)
            if before != leads_to:
                self.release(before, now)  # unlinked, as far as we can tell: it is freed once nobody holds a cap
        listed: list[Inode] = []
        if isinstance(reply.extra, ReaddirReply):
            for entry in reply.extra.entries:
                inode = self._learn(rank, entry.inode, now)
                assert inode is not None
                listed.append(inode)
        return target, listed

    def _learn(self, rank: int, told: InodeStat | None, now: float) -> Inode | None:
        if told is None:
            return None
        # In a snapshot nothing changes, and of the cap only the bits mean anything: there is none to hold.
        return self.grants.add(rank, told, now) if told.snapid == NOSNAP else Inode(told)

    # Sessions

    def session_opened(self, rank: int, gen: int, ttl: float) -> None:
        state = self.cache.rank(rank)
        state.gen, state.ttl = gen, ttl

    def session_stale(self, rank: int, gen: int) -> None:
        state = self.cache.rank(rank)
        state.gen, state.ttl = gen, 0.0
        self.grants.session_stale(rank)

    def session_renewed(self, rank: int, ttl: float, now: float) -> None:
        state = self.cache.rank(rank)
        was_stale, state.ttl = not state.ttl, ttl
        if was_stale:
            self.grants.session_renewed(rank, now)

    def session_lost(self, rank: int) -> dict[int, str]:
        """Forget everything of a session that is gone; names, by inode, what was changed here and is lost."""
        lost = {}
        state = self.cache.rank(rank)
        state.releases = []
        state.release_at = float("inf")
        state.gen, state.ttl = state.gen + 1, 0.0
        for inode, cap in self.cache.caps_of(rank):
            if inode.auth_rank == rank and (bits := self.flushes.forget(inode)):
                lost[inode.ino] = f"inode {inode.ino:#x}: {Caps.of(bits)}"
            self.cache.remove_cap(inode, cap)
        return lost

    def recalled(self, rank: int, max_caps: int, now: float) -> None:
        """The MDS wants us to hold fewer caps: let go of what was not touched for longest and nobody needs."""
        self._trim(lambda: self.cache.rank(rank).num_caps > max_caps, now)
        self.releases.flush(rank)

    def before_barrier(self, rank: int) -> None:
        """Send what must be on its way before a FLUSHMSG is answered."""
        self.releases.flush(rank)

    # Local calls

    def lookup(self, directory_ino: int, name: str, mask: int, now: float) -> Inode | int | None:
        """The inode ``name`` leads to, if that and the bits of ``mask`` are known without asking.

        0 is known not to exist; None is not known.
        """
        directory = self.cache.inodes.get(directory_ino)
        dentry = self.dentries.lookup(directory, name, now) if directory is not None else None
        if directory is None or dentry is None:
            return None
        self.cache.touch(directory)  # dropped, it would take the names of what is below along
        if not dentry.ino:
            return 0
        return self.known(dentry.ino, mask, now)

    def known(self, ino: int, mask: int, now: float) -> Inode | None:
        """The inode, if the bits of ``mask`` are ours to read."""
        inode = self.cache.inodes.get(ino)
        if inode is None or self.cache.issued(inode, now) & mask != mask:
            return None
        self.cache.touch(inode)
        return inode

    def change(self, ino: int, change: Change, now: float) -> Remainder | None:
        """Change attributes here as far as our caps cover it; gives what must be asked for."""
        inode = self.cache.inodes.get(ino)
        if inode is None:
            return Remainder.of(change)
        cap = inode.auth_cap
        # Only the authority takes flushes, so only its caps let anything be changed here.
        issued = self.cache.issued(inode, now)
        if cap is None or not self.cache.valid(cap, now):
            issued &= ~Cap.ANY_WR
        dirty, remainder = apply(inode, change, issued)
        if dirty:
            self.flushes.mark_dirty(inode, dirty, now)
        return remainder

    def opened(self, ino: int, mode: int, now: float) -> None:
        """A handle in ``mode`` (`FileMode` bits) was opened."""
        inode = self.cache.inodes.get(ino)
        if inode is None:
            return
        inode.open_modes = inode.open_modes or {}
        inode.open_modes[mode] = inode.open_modes.get(mode, 0) + 1
        self.checks.check(inode, now)

    def closed(self, ino: int, mode: int, now: float) -> None:
        """A handle was closed; what its caps allowed is kept for a while."""
        inode = self.cache.inodes.get(ino)
        if inode is None or not inode.open_modes or mode not in inode.open_modes:
            return  # lost with its session
        inode.open_modes[mode] -= 1
        if not inode.open_modes[mode]:
            del inode.open_modes[mode]
            if not inode.open_modes:
                inode.open_modes = None
            if inode.caps:
                self.checks.requeue(inode, now)
                self.checks.check(inode, now)
                self._unlinked(inode, now)
            else:
                self.cache.let_go(inode)

    def flush(self, ino: int, now: float, *, sync: bool) -> int:
        """Send what is dirty on ``ino``; gives the newest tid to wait for, 0 if there is none."""
        inode = self.cache.inodes.get(ino)
        if inode is None:
            return 0
        self.flushes.flush(inode, now, sync=sync)
        return inode.flushes[-1].tid if inode.flushes else 0

    def flush_times(self, ino: int, now: float) -> None:
        """Send what is dirty on ``ino`` if the times are among it."""
        inode = self.cache.inodes.get(ino)
        if inode is not None and inode.dirty & (Cap.FILE_EXCL | Cap.FILE_WR):
            self.flushes.flush(inode, now)

    def flush_all(self, now: float) -> int:
        """Send all that is dirty, the last of each rank with word that somebody waits; gives the newest tid."""
        dirty = [self.cache.inodes[ino] for ino in self.cache.dirty]
        last = {inode.auth_rank: inode for inode in dirty}
        for inode in dirty:
            self.flushes.flush(inode, now, sync=last[inode.auth_rank] is inode)
        return self.flushes.last_tid if self.cache.flushes else 0

    def flushing(self, ino: int, up_to: int) -> bool:
        """Whether a flush of ``ino`` (0: of any inode) up to that tid is on its way."""
        if not ino:
            return 0 < self.flushes.oldest_tid <= up_to
        inode = self.cache.inodes.get(ino)
        return inode is not None and bool(inode.flushes) and inode.flushes[0].tid <= up_to

    def release(self, ino: int, now: float) -> bool:
        """Drop an inode from the cache if nothing pins it; its caps go out with the next batch."""
        inode = self.cache.inodes.get(ino)
        if inode is None or inode.pinned:
            return False
        self.releases.drop(inode, now)
        return True

    def drop_caches(self, now: float) -> None:
        """Drop every inode that nothing pins."""
        self._trim(lambda: True, now)
        for rank in self.cache.ranks:
            self.releases.flush(rank)

    def _trim(self, more: Callable[[], bool], now: float) -> None:
        for inode in list(self.cache.inodes.values()):
            if not more():
                return
            if not inode.pinned:
                self.releases.drop(inode, now)

    def request_releases(self, rank: int, ino: int, drop: int, now: float) -> tuple[RequestRelease, ...]:
        """Bits to give up with a request that would make the MDS ask for them.

        What is in use or not safe at the MDS stays (kernel: ``ceph_encode_inode_release``).
        """
        inode = self.cache.inodes.get(ino)
        cap = inode.caps.get(rank) if inode is not None else None
        if inode is None or cap is None or not self.cache.valid(cap, now):
            return ()
        drop &= cap.issued & ~(inode.used | inode.dirty | inode.flushing)
        if not drop:
            return ()
        before = cap.issued
        cap.issued &= ~drop
        cap.implemented &= ~drop
        self.grants.note_shared(inode, before, cap.issued)
        self.cache.emit(CapReleased, inode, cap, drop)
        wanted = cap.mds_wanted
        return (RequestRelease(ino, cap.cap_id, cap.implemented, wanted, cap.seq, cap.issue_seq, cap.mseq),)

    def unsaved(self) -> tuple[str, ...]:
        """What was changed here and not acknowledged, in words."""
        return tuple(
            f"inode {inode.ino:#x}: {Caps.of(inode.dirty | inode.flushing)}"
            for inode in self.cache.inodes.values()
            if inode.dirty or inode.flushing
        )

    # What time brings

    def next_deadline(self) -> float:
        return min(self.releases.next_deadline(), self.flushes.next_deadline(), self.checks.next_deadline())

    def tick(self, now: float) -> None:
        self.flushes.tick(now)
        self.checks.tick(now)
        self.releases.tick(now)

    # What there is to see

    def late(self, now: float) -> list[Late]:
        """Every flush and revoke older than 5 s, with its why."""
        found = []
        for flush in self.cache.flushes.values():
            if now - flush.sent_at > STUCK_AFTER:
                inode = self.cache.inodes[flush.ino]
                why = f"flush {flush.tid} of {Caps.of(flush.caps)} is not acknowledged"
                found.append(Late("flush", flush.ino, inode.auth_rank, now - flush.sent_at, why))
        for ino in self.cache.revoking:
            inode = self.cache.inodes[ino]
            for cap in inode.caps.values():
                if cap.revoking and now - cap.revoked_at > STUCK_AFTER:
                    why = f"{Caps.of(cap.revoking)} is asked back; in use: {Caps.of(inode.used)}"
                    found.append(Late("revoke", ino, cap.rank, now - cap.revoked_at, why))
        found += [
            Late("release", rank.releases[0].ino, rank.rank, now - rank.release_at, "not sent yet")
            for rank in self.cache.ranks.values()
            if rank.releases and now - rank.release_at > STUCK_AFTER
        ]
        return found
