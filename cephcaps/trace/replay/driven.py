"""The engine with its own choices taken out: whether and when to give something back says the trace."""

from __future__ import annotations

from collections.abc import Callable

from cephcaps.engine.cache import Send
from cephcaps.engine.check import Checks, wanted
from cephcaps.engine.engine import Engine
from cephcaps.engine.inode import Inode, InodeCap, SnapContext
from cephcaps.trace.replay.said import Said, of_cap, said_in
from cephwire.capbits import Cap
from cephwire.caprelease import CapItem
from cephwire.caps import CapBody, ClientCaps

__all__ = ["Driven"]


class Driven(Engine):
    """Never acts by its clock, and lets go of nothing by itself; what it says is its own.

    Args:
        snapped: what the client is going to flush for a snapshot of an inode as it was under a context, which was the
            realm's until that had the seq; None if nothing. Is called before the snapshot counts.
        unanswered: what the cap of such a FLUSHSNAP was before a REVOKE that the client has not answered: it may read
            that after the snapshot, if that comes from another rank.
    """

    def __init__(
        self, snapped: Callable[[Inode, SnapContext, int], Said | None], unanswered: Callable[[Said], int]
    ) -> None:
        super().__init__()
        self._snapped = snapped
        self._unanswered = unanswered
        self._telling: InodeCap | None = None
        self._rank = -1
        self.lazily: set[tuple[int, int]] = set()
        """Inodes and ranks of caps whose FILE_LAZYIO was asked back and still counts as in use."""
        self.forsaken: set[int] = set()
        """Directories of which the client is about to give shared bits back."""
        self.realms._queue = self._snapshot
        # What `Checks` decides is asked for here first.
        self.checks.due = self._due  # type: ignore[method-assign]
        self.checks.surplus = self._surplus  # type: ignore[method-assign]
        self.checks.in_use = self._in_use  # type: ignore[method-assign]
        self.checks._retained = self._retained  # type: ignore[method-assign]

    def _unlinked(self, inode: Inode, now: float) -> None:
        pass

    def _lost_name(self, ino: int, now: float) -> None:
        pass

    def take_out(self) -> list[Said]:
        """What it wants to tell MDSs about caps, in its order. Nothing waits for company."""
        for rank in list(self.cache.ranks):
            self.releases.flush(rank)
        out, self.cache.out = self.cache.out, []
        return [
            said
            for action in out
            if isinstance(action, Send)
            for said in said_in(action.rank, action.message, action.tid)
        ]

    def surplus(self, inode: Inode, bits: int) -> int:
        """Those of ``bits`` that are not worth keeping, once they are held."""
        return bits & ~self.checks._retained(inode)

    def meet(self, message: ClientCaps) -> None:
        """The client knows an inode that it has no cap on, from a listing perhaps; ours learns of it by an IMPORT."""
        body = message.body
        assert isinstance(body, CapBody)
        self.cache.inodes[message.ino] = Inode(
            message.ino, message.mode, message.uid, message.gid, message.nlink, 0, body.size, body.max_size,
            body.truncate_size, body.truncate_seq, body.time_warp_seq, body.atime, body.mtime, body.ctime,
            message.btime, message.change_attr, message.xattr_version, None, body.layout, message.pool_ns, "", None,
            hold_max=float("inf"),
        )  # fmt: skip

    def open(self, inode: Inode, mode: int) -> None:
        """A handle was opened; that it is may be told later."""
        if self.cache.inodes.get(inode.ino) is inode:
            modes = self.cache.use(inode).modes
            modes[mode] = modes.get(mode, 0) + 1

    def _snapshot(self, inode: Inode, old: SnapContext, new: SnapContext, now: float) -> None:
        """Keep a snapshot's state until the client flushes it: until then somebody writes, or data are written back."""
        use = self.cache.use(inode)
        base = use.head or old
        coming = self._snapped(inode, base, old.seq) if new.snaps and new.snaps[0] > base.seq else None
        if coming is not None:
            self.written(inode, now)  # the one before, if there was: this snapshot is told apart from it
        writing, use.wr = use.wr, int(coming is not None)
        flushing = inode.flushing
        if coming is not None:
            # Changed before, and flushed since or on its way: the acknowledgement may have been captured already.
            inode.flushing |= coming.dirty
        self.snaps.queue(inode, old, new, now)
        if coming is not None and use.cap_snaps and use.cap_snaps[-1].writing:
            use.cap_snaps[-1].dirty &= inode.dirty | inode.flushing
            use.cap_snaps[-1].issued |= coming.caps & self._unanswered(coming)
        use.wr, inode.flushing = writing, flushing
        self.flushes.drop_head(inode)

    def written(self, inode: Inode, now: float) -> None:
        """What the newest snapshot waited for is over: it is flushed."""
        if inode.use is not None:
            self.snaps.written(inode, now)

    def _due(self, inode: Inode, cap: InodeCap) -> str:
        """Why a message is due; a rank may hear later of what is wanted."""
        known = cap.mds_wanted
        if cap is not self._telling:
            cap.mds_wanted |= wanted(inode)
        why = Checks.due(self.checks, inode, cap)
        cap.mds_wanted = known
        return why

    def _surplus(self, inode: Inode, cap: InodeCap) -> int:
        """What may be given back: later, to a rank that the client is not speaking to."""
        return Checks.surplus(self.checks, inode, cap) if self._telling in (None, cap) else 0

    def _in_use(self, inode: Inode, cap: InodeCap) -> int:
        used = Checks.in_use(self.checks, inode, cap)
        # Until when FILE_LAZYIO is in use along with what covers the same data (ceph: src/client/Client.cc,
        # adjust_caps_used_for_lazyio: while FILE_BUFFER is not held; handle_cap_grant: it is not looked at again as a
        # GRANT brings that) says the trace, by what that rank hears.
        elsewhere = cap.rank != self._rank and not cap.implemented & Cap.FILE_BUFFER
        lazily = used & Cap.FILE_CACHE and (elsewhere or (inode.ino, cap.rank) in self.lazily)
        return used | Cap.FILE_LAZYIO if lazily else used

    def _retained(self, inode: Inode) -> int:
        """Of a directory without a name ours keeps what is shared; libcephfs and the kernel keep what is wanted, as of
        any inode (ceph: src/client/Client.cc, check_caps, nlink; kernel: fs/ceph/caps.c, ceph_check_caps, i_nlink)."""
        retained = Checks._retained(self.checks, inode)
        return retained & (wanted(inode) | Cap.PIN) if not inode.nlink and inode.ino in self.forsaken else retained

    def begin(self, rank: int) -> None:
        """Another message is dealt with, to or from ``rank``: what was foreseen of the one before is over."""
        self._rank = rank
        self.lazily.clear()
        self.forsaken.clear()

    def tell(self, inode: Inode, cap: InodeCap, now: float, *, nodelay: bool) -> bool:
        """Tell one cap's rank what is due, what is wanted, and what is not worth keeping; tells whether it was told."""
        self._telling = cap
        told = cap.rank in self.checks.check(inode, now, nodelay=nodelay)
        self._telling = None
        return told

    def update(self, inode: Inode, cap: InodeCap, now: float, *, nodelay: bool) -> None:
        """Tell the MDS how things stand though nothing makes that due, dirty bits along with it."""
        if not self.cache.waits(cap):
            self.checks._send(inode, cap, now, nodelay)

    def give_back(self, inode: Inode, cap: InodeCap, now: float) -> None:
        """One rank's whole cap."""
        if inode.caps.keys() == {cap.rank} and not inode.pinned:
            self.releases.drop(inode, now)
        else:
            self.releases.queue(cap.rank, CapItem(inode.ino, cap.cap_id, cap.mseq, cap.issue_seq), now)
            self.cache.remove_cap(inode, cap)

    def embed(self, inode: Inode, cap: InodeCap, drop: int) -> Said:
        """The record of a request that gives ``drop`` back."""
        self.embeds._drop(inode, cap, drop, 0)
        return of_cap("request", cap.rank, inode.ino, cap)

    def yield_to(self, inode: Inode, cap: InodeCap, said: Said) -> None:
        """Have the cap as the client has said it has it."""
        self.cache.note_issue(inode, cap.issued, cap.issued & said.caps)
        cap.issued &= said.caps
        cap.implemented = said.caps | Cap.PIN if said.caps else cap.issued
        cap.issued &= cap.implemented
        cap.mds_wanted = said.wanted
        if not cap.revoking:
            self.cache.settled(inode, cap)
