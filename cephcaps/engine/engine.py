"""The cap engine: what the MDSs have granted this client, what is done under that, and what is owed to them.

State in, actions out: `receive`, `reply`, local calls and `tick` take the time as an argument and append to
`Cache.out`. Each subject has a room, and a room only uses those before it:

    inode, reserve, cache    what is kept, and room for it
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
    late                     why things are as they are

Sources: kernel: fs/ceph/caps.c, fs/ceph/mds_client.c; each rule names its own.
"""

from __future__ import annotations

import stat

from cephcaps.caps import Caps
from cephcaps.engine import xattrs
from cephcaps.engine.cache import Cache
from cephcaps.engine.check import Checks
from cephcaps.engine.dentries import Dentries
from cephcaps.engine.embed import Embeds
from cephcaps.engine.flush import Flushes
from cephcaps.engine.grants import Grants
from cephcaps.engine.hooks import Hooks
from cephcaps.engine.inode import Hook, Inode, RefWait, SnapContext
from cephcaps.engine.io import DataIo, data_io
from cephcaps.engine.late import Explanations
from cephcaps.engine.listing import Listing, Listings
from cephcaps.engine.move import Moves
from cephcaps.engine.realms import Realms, decode_trace
from cephcaps.engine.reconnect import Reconnects
from cephcaps.engine.refs import Refs
from cephcaps.engine.release import Releases
from cephcaps.engine.reserve import Pool, Reservation
from cephcaps.engine.sessions import Sessions
from cephcaps.engine.setattr import Change, Remainder, apply
from cephcaps.engine.snaps import CapSnaps
from cephcaps.engine.xattrs import XattrChange
from cephwire.capbits import Cap
from cephwire.caprelease import CapItem
from cephwire.caps import CapOp, ClientCaps
from cephwire.inode import NOSNAP, InodeStat
from cephwire.lease import ClientLease
from cephwire.reply import ClientReply, ReaddirReply
from cephwire.request import FilePath, RequestRelease
from cephwire.requestop import RequestOp
from cephwire.snap import ClientSnap

__all__ = ["Engine"]


class Engine:
    """Caps, names and changes of one client, over all ranks."""

    def __init__(self) -> None:
        self.pool = Pool(self._shrink)
        self.cache = Cache(self.pool)
        self.flushes = Flushes(self.cache)
        self.hooks = Hooks(self.cache)
        self.snaps = CapSnaps(self.cache, self.flushes, self.hooks.write_back)
        self.realms = Realms(self.cache, self.snaps.queue)
        self.releases = Releases(self.cache)
        self.dentries = Dentries(self.cache)
        self.listings = Listings(self.cache, self.dentries)
        self.checks = Checks(self.cache, self.flushes, self.snaps, self.hooks)
        self.embeds = Embeds(self.cache, self.checks, self.dentries)
        self.grants = Grants(self.cache, self.checks, self.flushes, self.hooks, self.realms)
        self.moves = Moves(self.cache, self.flushes, self.checks, self.grants, self.releases, self.realms)
        self.refs = Refs(self.cache, self.checks, self.flushes, self.snaps, self.hooks)
        self.sessions = Sessions(self.cache, self.flushes, self.grants, self.releases, self.hooks, self.refs)
        self.reconnects = Reconnects(self.cache, self.flushes, self.checks, self.releases, self.realms)
        self.explanations = Explanations(self.cache, self.checks, self.refs)
        self.cache.context = self.realms.context
        self.cache.left = self.realms.leave

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
        cap = inode.caps.get(rank) if inode is not None else None
        match message.op:
            case CapOp.FLUSH_ACK:
                if inode is not None and self.flushes.acknowledged(inode, rank, tid):
                    self._unlinked(inode, now)
            case CapOp.FLUSHSNAP_ACK:
                if inode is not None:
                    self.flushes.snap_acknowledged(inode, rank, message.snap_follows, tid)
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
        """All that came together has been taken in: send what is owed for it."""
        self.releases.tick(now)

    def _wake(self, now: float) -> None:
        """Let those get on whom something that has just happened concerns."""
        woken = self.cache.woken
        while woken:
            ino = next(iter(woken))
            del woken[ino]
            inode = self.cache.inodes.get(ino)
            if inode is not None:
                self.refs.wake(inode, now)

    def _unlinked(self, inode: Inode, now: float) -> None:
        """Let go of a file that has no name left and nobody open: the MDS frees it once nobody holds a cap."""
        if not inode.nlink and not stat.S_ISDIR(inode.mode):
            self.release(inode.ino, now)

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
        self.realms.update(decode_trace(reply.snap, self.cache.rank(rank).features), now)
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
            return Inode(told)  # in a snapshot: of the cap only the bits mean anything, there is none to hold
        known = self.cache.inodes.get(told.ino)
        gen = known.shared_gen if known is not None else -1
        inode = self.grants.add(rank, told, now, reserved)
        if inode.shared_gen != gen:
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

    # Local calls: reading

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

    # Local calls: opening and using

    def opened(self, ino: int, mode: int, now: float) -> None:
        """A handle in ``mode`` (`FileMode` bits) was opened."""
        inode = self.cache.inodes.get(ino)
        if inode is None:
            return
        modes = self.cache.use(inode).modes
        modes[mode] = modes.get(mode, 0) + 1
        self.checks.check(inode, now)

    def closed(self, ino: int, mode: int, now: float) -> None:
        """A handle was closed; what its caps allowed is kept for a while."""
        inode = self.cache.inodes.get(ino)
        if inode is None or inode.use is None or mode not in inode.use.modes:
            return  # lost with its session
        modes = inode.use.modes
        modes[mode] -= 1
        if modes[mode]:
            return
        del modes[mode]
        if not modes:
            self.hooks.write_back(inode, now)  # nobody is left who would ask for it
        self.cache.let_go(inode)
        if inode.caps:
            self.checks.requeue(inode, now)
            self.checks.check(inode, now)
            self._unlinked(inode, now)

    def get_refs(self, ino: int, wait: RefWait, now: float) -> bool:
        """Take caps into use; Done brings the bits once they can be had. False if the inode is not known any more."""
        inode = self.cache.inodes.get(ino)
        if inode is None:
            return False
        self.refs.get(wait, inode, now)
        self._wake(now)
        return True

    def put_refs(self, ino: int, bits: int, now: float) -> None:
        """Let go of what `get_refs` took."""
        inode = self.cache.inodes.get(ino)
        if inode is not None and inode.use is not None:
            self.refs.put(inode, bits, now)
            self._wake(now)

    def wrote(self, ino: int, endoff: int, mtime: int, now: float, *, buffered: bool) -> Exception | None:
        """The holder of FILE_WR has written up to ``endoff``. Gives how the session went whose cap that was, if it did:
        then nothing is noted, for there is nobody to tell."""
        inode = self.cache.inodes[ino]
        if inode.use is not None and inode.use.lost is not None:
            return inode.use.lost
        self.refs.wrote(inode, endoff, mtime, now, buffered=buffered)
        return None

    def hook_done(self, ino: int, hook: Hook, error: Exception | None, now: float) -> None:
        """The data handler has ended what it was asked to do."""
        inode = self.cache.inodes.get(ino)
        if inode is None:
            return
        self.hooks.done(inode, hook, error, now)
        if inode.use is not None and inode.use.cap_snaps:
            self.snaps.flush(inode, now)
        self.flushes.drop_head(inode)
        self.checks.check(inode, now)
        self.cache.let_go(inode)
        self._wake(now)

    # Local calls: changing

    def change(self, ino: int, change: Change, now: float) -> Remainder | None:
        """Change attributes here as far as our caps cover it; gives what must be asked for."""
        inode = self.cache.inodes.get(ino)
        if inode is None:
            return Remainder.of(change)
        dirty, remainder = apply(inode, change, self.may_change(inode, now))
        if dirty:
            self.flushes.mark_dirty(inode, dirty, now)
        return remainder

    def change_xattr(self, ino: int, change: XattrChange, limit: int, now: float) -> int | None:
        """Change an extended attribute here if our caps cover it: 0 or an errno; None where an MDS must be asked.

        Args:
            limit: bytes of names and values that one inode may have.
        """
        inode = self.cache.inodes.get(ino)
        if inode is None:
            return None
        done = xattrs.apply(inode, change, self.may_change(inode, now), limit)
        if done == 0:
            self.flushes.mark_dirty(inode, Cap.XATTR_EXCL, now)
        return done

    def may_change(self, inode: Inode, now: float) -> int:
        """Bits issued, without those to change anything under unless the authority gave them: only it takes flushes."""
        issued = self.cache.issued(inode, now)
        cap = inode.auth_cap
        if cap is None or not self.cache.valid(cap, now) or self.cache.rank(cap.rank).read_only:
            issued &= ~Cap.ANY_WR
        return issued

    def flush(self, ino: int, now: float, *, sync: bool) -> int:
        """Send what is dirty on ``ino``; gives the newest tid to wait for, 0 if there is none."""
        inode = self.cache.inodes.get(ino)
        if inode is None:
            return 0
        self.snaps.flush(inode, now)
        self.flushes.flush(inode, now, sync=sync)
        return inode.flushes[-1].tid if inode.flushes else 0

    def flush_times(self, ino: int, now: float) -> None:
        """Send what is dirty on ``ino`` if the times are among it."""
        inode = self.cache.inodes.get(ino)
        if inode is not None and inode.dirty & (Cap.FILE_EXCL | Cap.FILE_WR):
            self.flushes.flush(inode, now)

    def flush_all(self, now: float) -> int:
        """Send all that is dirty, the last of each rank with word that somebody waits; gives the newest tid."""
        for ino in list(self.cache.in_use):
            if (inode := self.cache.inodes.get(ino)) is not None:
                self.snaps.flush(inode, now)
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

    def write_back(self, ino: int, now: float) -> None:
        """Have dirty data of ``ino`` (0: of all) written to the OSDs."""
        for inode in self._used(ino):
            self.hooks.write_back(inode, now)

    def unwritten(self, ino: int, since: float) -> bool:
        """Whether data of ``ino`` (0: of any) from before ``since`` are in memory only."""
        return any(
            data.since <= since for inode in self._used(ino) if inode.use is not None for data in inode.use.dirty_data
        )

    def io(self, ino: int, context: SnapContext | None = None) -> DataIo:
        """How an inode's data are read and written, under ``context`` or the one that counts now."""
        return data_io(self.cache, self.cache.inodes[ino], context)

    def _used(self, ino: int) -> list[Inode]:
        inos = [ino] if ino else list(self.cache.in_use)
        return [self.cache.inodes[ino] for ino in inos if ino in self.cache.inodes]

    # Local calls: letting go

    def release(self, ino: int, now: float) -> bool:
        """Drop an inode from the cache if nothing pins it; its caps go out with the next batch."""
        inode = self.cache.inodes.get(ino)
        if inode is None or inode.pinned:
            return False
        self.releases.drop(inode, now)
        return True

    def drop_caches(self, now: float) -> None:
        """Drop every inode that nothing pins."""
        self.sessions.trim(lambda: True, now)
        for rank in self.cache.ranks:
            self.releases.flush(rank)

    def reserve(self, count: int) -> Reservation:
        """Room for the caps of a reply to come."""
        return self.pool.reserve(count)

    def _shrink(self, count: int) -> None:
        """Make room in the pool; what goes is told with the next batch."""
        goal = self.pool.used - count
        self.sessions.trim(lambda: self.pool.used > goal, 0.0)

    def request_releases(
        self, rank: int, op: int, path: FilePath, path2: FilePath, drop: int, now: float
    ) -> tuple[RequestRelease, ...]:
        """Bits and leases to give up with a request that would make the MDS ask for them."""
        return self.embeds.releases(rank, op, path, path2, drop, now)

    def unsaved(self) -> tuple[str, ...]:
        """What was changed here and not acknowledged, in words."""
        return tuple(
            f"inode {inode.ino:#x}: {Caps.of(inode.dirty | inode.flushing)}"
            for inode in self.cache.inodes.values()
            if inode.dirty or inode.flushing
        )

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
