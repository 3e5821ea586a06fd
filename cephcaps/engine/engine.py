"""The cap engine: what the MDSs have granted this client, what is done under that, and what is owed to them.

State in, actions out: `receive`, `reply`, local calls and `tick` take the time as an argument and append to
`Cache.out`. Each subject has a room, and a room only uses those before it:

    inode, reserve, cache    what is kept, and room for it
    latency                  how long things took, counted
    fields, xattrs, quota    which metadata to believe, and what they forbid
    capmsg, flush            changes: dirty, flushed under tids, acknowledged
    hooks                    what the data handler is to do
    snaps, realms            an inode as snapshots have it; which snapshots there are
    dentries, listing        names; directories known whole
    check                    when to tell an MDS how things stand: the one decision
    release                  whole caps given back
    grants, move             caps come, are asked back, move from rank to rank
    refs                     using caps, and waiting for them
    locks                    which ranges of files are locked
    setattr, embed           attributes changed; what goes back along with a request
    sessions, reconnect      sessions open, go stale, end; caps recalled; a rank comes up anew
    late, calls              why things are as they are; all rooms together, and what callers ask

Sources: kernel: fs/ceph/caps.c, fs/ceph/mds_client.c; each rule names its own.
"""

from __future__ import annotations

import stat

from cephcaps.engine.calls import LocalCalls
from cephcaps.engine.inode import Inode
from cephcaps.engine.listing import Listing
from cephcaps.engine.realms import decode_trace
from cephcaps.engine.reserve import Reservation
from cephwire.capbits import Cap
from cephwire.caprelease import CapItem
from cephwire.caps import CapOp, ClientCaps
from cephwire.inode import NOSNAP, InodeStat
from cephwire.lease import ClientLease
from cephwire.reply import ClientReply, ReaddirReply
from cephwire.requestop import RequestOp
from cephwire.snap import ClientSnap

__all__ = ["Engine"]


class Engine(LocalCalls):
    """Caps, names and changes of one client, over all ranks."""

    # What MDSs send

    def receive(self, rank: int, message: ClientCaps | ClientLease | ClientSnap, tid: int, now: float) -> None:
        """A push about caps, leases or snapshots; ``tid`` is the header's."""
        match message:
            case ClientLease():
                self.dentries.lease_message(rank, message)
            case ClientSnap():
                trace = decode_trace(message.trace, self.cache.rank(rank).features)
                self.realms.snap_message(message, trace, now)
            case ClientCaps():
                self._caps(rank, message, tid, now)
        self._wake(now)

    def _caps(self, rank: int, message: ClientCaps, tid: int, now: float) -> None:
        self.raise_osd_epoch_barrier(message.osd_epoch_barrier)
        inode = self.cache.inodes.get(message.ino)
        cap = inode.cap(rank) if inode is not None else None
        match message.op:
            case CapOp.FLUSH_ACK:
                if inode is not None and self.flushes.acknowledged(inode, rank, tid, now):
                    self._unlinked(inode, now)
            case CapOp.FLUSHSNAP_ACK:
                if inode is not None:
                    self.flushes.snap_acknowledged(inode, rank, message.snap_follows, tid, now)
            case CapOp.IMPORT:
                self.realms.update(decode_trace(message.snap_trace, self.cache.rank(rank).features), now)
                if inode is not None:
                    self.moves.imported(inode, rank, message, now)
                else:
                    self._not_ours(rank, message, now)
            case _ if inode is None or cap is None or cap.cap_id != message.cap_id:
                self._not_ours(rank, message, now)
            case CapOp.GRANT | CapOp.REVOKE:
                self.grants.granted(inode, cap, message, now)
                self._unlinked(inode, now)
            case CapOp.TRUNC:
                self.grants.truncated(inode, message, now)
            case CapOp.EXPORT:
                self.moves.exported(inode, cap, message, now)

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
        """All that came together has been taken in: send what is owed for it; keep no more than there is room for."""
        self.pool.settle()
        self.releases.tick(now)

    def reply(
        self,
        rank: int,
        reply: ClientReply,
        since: float,
        now: float,
        reserved: Reservation | None = None,
        listing: Listing | None = None,
    ) -> tuple[Inode | None, list[Inode]]:
        """Take in all that a reply tells and grants; gives the target, and a listing's inodes in its order.

        Args:
            since: when the request left.
            reserved: room for the caps it brings.
            listing: which it is a piece of.
        """
        self.realms.told(reply.snap, self.cache.rank(rank).features, now)
        trace = reply.trace
        target = self._learn(rank, trace.target, now, reserved)
        directory = self._learn(rank, trace.dir, now, reserved)
        if directory is not None and trace.dir is not None and trace.dname is not None and trace.dir.snapid == NOSNAP:
            shared = bool(trace.dir.cap.caps & Cap.FILE_SHARED)
            before = self.dentries.learn(directory, trace.dname, target, trace.dlease, rank, since, shared)
            if before != (target.ino if target is not None else 0):
                self._lost_name(before, now)
        listed: list[Inode] = []
        if isinstance(reply.extra, ReaddirReply):
            for entry in reply.extra.entries:
                inode = self._learn(rank, entry.inode, now, reserved)
                assert inode is not None
                listed.append(inode)
            if reply.op == RequestOp.READDIR:
                self.listings.piece(target, trace.target, reply.extra, listed, listing, rank, since)
        self._wake(now)
        return target, listed

    def _learn(self, rank: int, told: InodeStat | None, now: float, reserved: Reservation | None) -> Inode | None:
        if told is None:
            return None
        if told.snapid != NOSNAP:
            return Inode.of(told)  # in a snapshot: of the cap only the bits mean anything, there is none to hold
        if not stat.S_ISDIR(told.mode):
            return self.grants.add(rank, told, now, reserved)
        known = self.cache.inodes.get(told.ino)
        gen = known.shared_gen if known is not None else -1
        inode = self.grants.add(rank, told, now, reserved)
        if inode.shared_gen != gen and not self.unsafe(told.ino):
            self.dentries.found_empty(inode, told)
        return inode

    def _lost_name(self, ino: int, now: float) -> None:
        """A name of ``ino`` is gone. If it was the last, the MDS frees the inode once nobody holds a cap."""
        inode = self.cache.inodes.get(ino)
        if inode is not None and (inode.nlink <= 1 or stat.S_ISDIR(inode.mode)):
            self.release(ino, now)

    def raise_osd_epoch_barrier(self, epoch: int) -> None:
        """Data may be touched only with an OSDMap that new: every message about caps says so from now on."""
        self.cache.osd_epoch_barrier = max(self.cache.osd_epoch_barrier, epoch)

    def session_lost(self, rank: int, error: Exception, now: float) -> dict[int, str]:
        """Forget everything of a session that is gone; names, by inode, what was changed here and is lost."""
        lost = self.sessions.lost(rank, error, now)
        self._wake(now)
        return lost

    def session_renewed(self, rank: int, ttl: float, now: float) -> None:
        self.sessions.renewed(rank, ttl, now)
        self._wake(now)

    def rank_unseated(self, rank: int, now: float) -> None:
        """A rank's MDS is gone: what nobody needs is dropped without a word, so that its next one is told of less."""
        self.sessions.unseated(rank, now)
        self._wake(now)

    def rank_serves(self, rank: int, now: float) -> None:
        """A rank that came up anew serves: send it what it may have lost, let go on who waited."""
        self.reconnects.serving(rank, now)
        self._wake(now)

    def session_read_only(self, rank: int, now: float) -> None:
        """The MDS takes no changes any more."""
        self.sessions.read_only(rank)
        self._wake(now)

    # What time brings

    def next_deadline(self) -> float:
        return min(
            self.releases.next_deadline(),
            self.flushes.next_deadline(),
            self.checks.next_deadline(),
            self.refs.next_deadline(),
        )

    def tick(self, now: float) -> None:
        self.flushes.tick(now)
        self.checks.tick(now)
        self.releases.tick(now)
        self.refs.tick(now)
        self._wake(now)
