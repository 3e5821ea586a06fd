"""All inodes and ranks the engine knows, what may be done now, and where actions and events go."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

from cephcaps.actions import Done, Failed, RunHook
from cephcaps.caps import Caps
from cephcaps.engine.inode import Flush, Inode, InodeCap, SnapContext, Use
from cephcaps.engine.latency import Histogram
from cephcaps.engine.reserve import Pool, Reservation
from cephcaps.events import CapEvent, Event
from cephwire.capbits import Cap
from cephwire.caprelease import CapItem

__all__ = ["Action", "Cache", "NeedSession", "Rank", "Send"]


class Send(NamedTuple):
    """Send ``message`` to the MDS that holds ``rank``.

    Attributes:
        tid: a flush tid or 0.
        version: of the layout; None is our newest.
    """

    rank: int
    message: Any
    tid: int = 0
    version: int | None = None


class NeedSession(NamedTuple):
    """Open a session with ``rank``: it is about to take over caps of ours."""

    rank: int


Action: TypeAlias = Send | NeedSession | RunHook | Done | Failed


NO_CONTEXT = SnapContext(0, ())
FULL_ROUNDS = 2
"""After the first of them nothing is hot, save what was touched meanwhile."""
MOST_ALIKE = 4096
"""Values of which one is kept for all that are equal."""


class Rank:
    """What the engine keeps of one session.

    Attributes:
        gen, ttl: a cap counts only if granted in this generation, and before this time.
        num_caps: caps held from it.
        releases: caps given back and not told yet.
        release_at: when they are told at the latest.
        features: client features both sides have.
        read_only: the MDS takes no changes any more.
        recovering: it has been told of our caps and does not serve yet: what is for it waits.
        flushed: how long changes took, from leaving to being acknowledged.
        revoked: how long it waited for bits, from asking to having all of them back.
    """

    __slots__ = (
        "features", "flushed", "gen", "num_caps", "rank", "read_only", "recovering", "release_at", "releases",
        "revoked", "ttl",
    )  # fmt: skip

    def __init__(self, rank: int) -> None:
        self.rank: int = rank
        self.gen: int = 0
        self.ttl: float = 0.0
        self.num_caps: int = 0
        self.releases: list[CapItem] = []
        self.release_at: float = float("inf")
        self.features: int = 0
        self.read_only: bool = False
        self.recovering: bool = False
        self.flushed: Histogram = Histogram()
        self.revoked: Histogram = Histogram()


class Cache:
    """The engine's state, shared by its rooms.

    Attributes:
        inodes: by number.
        flushes: every flush on its way, by tid, so oldest first.
        delayed: inodes with caps to look at again later, in the order of when that is due.
        revoking: inodes an MDS waits to get bits of, since whenever.
        dirty: inodes with changes to flush, in the order of when they were made.
        in_use: inodes that are open, or whose data or snapshots are in use: those with a `Use`.
        woken: inodes whose waiters may get on, because something about their caps has changed.
        handled: whether there is a data handler; without one no data outlives the block that used it.
        out: what is to be sent, in order.
        events: what happened, in order; None while nobody listens.
        pool: room for caps.
        context: the snap context that what is written in a realm now belongs to.
        left: told of inodes whose last cap has gone.
        osd_epoch_barrier: highest seen; every cap message and release carries it.
    """

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.context: Callable[[int], SnapContext] = lambda realm: NO_CONTEXT
        self.left: Callable[[Inode], None] = lambda inode: None
        self.inodes: dict[int, Inode] = {}
        self._hand: Iterator[int] = iter(())
        self._same: dict[Any, Any] = {}
        self.ranks: dict[int, Rank] = {}
        self.flushes: OrderedDict[int, Flush] = OrderedDict()
        self.delayed: OrderedDict[int, None] = OrderedDict()
        self.dirty: OrderedDict[int, None] = OrderedDict()
        self.revoking: dict[int, None] = {}
        self.in_use: dict[int, None] = {}
        self.woken: dict[int, None] = {}
        self.handled = False
        self.out: list[Action] = []
        self.events: list[Event] | None = None
        self.osd_epoch_barrier = 0

    def add_cap(
        self,
        inode: Inode,
        rank: int,
        cap_id: int,
        seq: int,
        mseq: int,
        reserved: Reservation | None,
        issued: int = 0,
        wanted: int = 0,
    ) -> InodeCap:
        """A cap, which grants nothing yet unless ``issued`` says so, into the room ``reserved`` for it."""
        session = self.rank(rank)
        cap = InodeCap(rank, cap_id, seq, seq, mseq, session.gen, issued, issued, wanted)
        inode.add_cap(cap)
        session.num_caps += 1
        if inode.use is not None:
            inode.use.lost = None
        self.pool.take(reserved)
        return cap

    def note_issue(self, inode: Inode, before: int, after: int) -> None:
        """Names learnt under one FILE_SHARED, and data cached under one FILE_CACHE, mean nothing under the next:
        others may have changed them between (kernel: ``__check_cap_issue``)."""
        if (before ^ after) & Cap.FILE_SHARED:
            inode.shared_gen += 1
        if after & ~before & Cap.FILE_CACHE:
            inode.cache_gen += 1

    def need_session(self, rank: int) -> None:
        self.out.append(NeedSession(rank))

    def rank(self, rank: int) -> Rank:
        found = self.ranks.get(rank)
        if found is None:
            found = self.ranks[rank] = Rank(rank)
        return found

    def touch(self, inode: Inode) -> None:
        inode.hot = True

    def coldest(self) -> Iterator[Inode]:
        """Every inode, those touched since they were last looked at in another round. What becomes of one is up to the
        caller.

        A second chance instead of an order by time of use: so to use an inode costs nothing but a mark in it.
        """
        rounds = 0
        while True:
            ino = next(self._hand, None)
            if ino is None:
                if rounds == FULL_ROUNDS:
                    return
                rounds += 1
                self._hand = iter(list(self.inodes))
            elif (inode := self.inodes.get(ino)) is not None:
                if inode.hot:
                    inode.hot = False
                else:
                    yield inode

    def same(self, value: Any) -> Any:
        """One that is kept already and equal, where there is one."""
        if len(self._same) > MOST_ALIKE:
            self._same.clear()
        return self._same.setdefault(value, value)

    def use(self, inode: Inode) -> Use:
        """What is kept of ``inode`` while it is in use, begun if need be."""
        if inode.use is None:
            inode.use = Use(inode.size)
            self.in_use[inode.ino] = None
        return inode.use

    def wake(self, inode: Inode) -> None:
        """Whoever waits for caps on ``inode`` is to be looked at once more."""
        if inode.use is not None and inode.use.waiting:
            self.woken[inode.ino] = None

    def note(self, event: Event) -> None:
        """As `emit`, for what is not about a cap."""
        if self.events is not None:
            self.events.append(event)

    def emit(self, kind: type[CapEvent], inode: Inode, cap: InodeCap, bits: int, **more: int) -> None:
        """Note what happened to ``bits`` of ``cap``, if anybody listens."""
        if self.events is not None:
            self.events.append(
                kind(
                    ino=inode.ino,
                    rank=cap.rank,
                    caps=Caps.of(bits),
                    issued=Caps.of(cap.issued),
                    seq=cap.seq,
                    **more,
                )
            )

    # What may be done

    def valid(self, cap: InodeCap, now: float) -> bool:
        """Whether the cap counts: granted in the session's present generation, which has not run out."""
        rank = self.ranks[cap.rank]
        return cap.gen == rank.gen and now < rank.ttl

    def waits(self, cap: InodeCap) -> bool:
        """Whether nothing may be sent about the cap yet: its rank recovers, or has not said IMPORT."""
        return cap.standing_in or self.ranks[cap.rank].recovering

    def issued(self, inode: Inode, now: float) -> int:
        """Bits that may be used now, from whichever rank.

        What the authority is taking back does not count, though another rank may not have heard of it yet
        (kernel: ``__ceph_caps_issued``).
        """
        held = inode.held
        if type(held) is InodeCap:
            rank = self.ranks[held.rank]
            return held.issued if held.gen == rank.gen and now < rank.ttl else 0
        issued = 0
        for cap in inode.caps.values():
            if self.valid(cap, now):
                issued |= cap.issued
        auth = inode.auth_cap
        return issued & ~auth.revoking if auth is not None else issued

    def held(self, inode: Inode) -> int:
        """Bits under which something of ours may be newer than what an MDS says.

        A cap of a generation that is over does not count: others may have changed what it covered.
        """
        held = inode.dirty | inode.flushing
        for cap in inode.caps.values() if inode.held is not None else ():
            if cap.gen == self.ranks[cap.rank].gen:
                held |= cap.issued | cap.implemented
        return held

    def caps_of(self, rank: int) -> Iterator[tuple[Inode, InodeCap]]:
        """Every cap from ``rank``; may be removed while walking."""
        for inode in list(self.inodes.values()):
            cap = inode.cap(rank)
            if cap is not None:
                yield inode, cap

    def note_revoking(self, inode: Inode, cap: InodeCap, now: float) -> bool:
        """Keep account of whether an MDS waits for bits of ``cap``, and since when.

        Gives whether it still waits for the answer to a REVOKE whose bits it has given again meanwhile.
        """
        if cap.revoking:
            cap.revoked_at = cap.revoked_at or now
            self.revoking[inode.ino] = None
            return False
        owed = bool(cap.revoked_at)
        self.settled(inode, cap)
        return owed

    def given_back(self, inode: Inode, cap: InodeCap, now: float) -> None:
        """All that was asked back of ``cap`` has been given."""
        if cap.revoked_at:
            self.ranks[cap.rank].revoked.add(now - cap.revoked_at)
            self.settled(inode, cap)

    def settled(self, inode: Inode, cap: InodeCap) -> None:
        """Nothing of ``cap`` is asked back any more."""
        if cap.revoked_at:
            cap.revoked_at = 0.0
            if not any(other.revoked_at for other in inode.caps.values()):
                self.revoking.pop(inode.ino, None)

    def remove_cap(self, inode: Inode, cap: InodeCap) -> None:
        """Forget a cap; tells nobody."""
        self.settled(inode, cap)
        inode.remove_cap(cap)
        self.ranks[cap.rank].num_caps -= 1
        self.pool.give()
        if inode.auth_rank == cap.rank:
            inode.auth_rank = -1
        if inode.held is None:
            self.left(inode)
            self.delayed.pop(inode.ino, None)
            self.let_go(inode)

    def let_go(self, inode: Inode) -> None:
        """Something has ended: keep no `Use` that nothing needs any more, nor an inode nobody would tell us about."""
        use = inode.use
        if use is not None and use.over and not (inode.dirty or inode.flushing):
            inode.use = None
            del self.in_use[inode.ino]
        if inode.held is None and not inode.pinned:
            self.forget(inode)

    def forget(self, inode: Inode) -> None:
        """``inode`` leaves the cache, and with it the name it was last seen under."""
        if self.inodes.pop(inode.ino, None) is None:
            return
        directory = self.inodes.get(inode.parent)
        if directory is not None and directory.children:
            dentry = directory.children.get(inode.name)
            if dentry is not None and dentry.ino == inode.ino:
                del directory.children[inode.name]
                self.not_whole(directory)

    def not_whole(self, directory: Inode) -> None:
        """Not every name of ``directory`` is known any more, nor will a listing in progress have told them all."""
        directory.complete_gen = -1
