"""All inodes and ranks the engine knows, what may be done now, and where actions and events go."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

from cephcaps.caps import Caps
from cephcaps.engine.inode import Flush, Inode, InodeCap
from cephcaps.events import CapEvent, Event
from cephwire.caprelease import CapItem

__all__ = ["Action", "Cache", "Rank", "Send"]


class Send(NamedTuple):
    """Send ``message`` to the MDS that holds ``rank``; ``tid`` is a flush tid or 0."""

    rank: int
    message: Any
    tid: int = 0


Action: TypeAlias = Send


class Rank:
    """What the engine keeps of one session.

    Attributes:
        gen, ttl: a cap counts only if granted in this generation, and before this time.
        num_caps: caps held from it.
        releases: caps given back and not told yet.
        release_at: when they are told at the latest.
    """

    __slots__ = ("gen", "num_caps", "rank", "release_at", "releases", "ttl")

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.gen = 0
        self.ttl = 0.0
        self.num_caps = 0
        self.releases: list[CapItem] = []
        self.release_at = float("inf")


class Cache:
    """The engine's state, shared by its rooms.

    Attributes:
        inodes: by number, the one touched longest ago first.
        flushes: every flush on its way, by tid, so oldest first.
        delayed: inodes with caps to look at again later, in the order of when that is due.
        revoking: inodes an MDS waits to get bits of, since whenever.
        dirty: inodes with changes to flush, in the order of when they were made.
        out: what is to be sent, in order.
        events: what happened, in order; None while nobody listens.
        osd_epoch_barrier: highest seen; every cap message and release carries it.
    """

    def __init__(self) -> None:
        self.inodes: OrderedDict[int, Inode] = OrderedDict()
        self.ranks: dict[int, Rank] = {}
        self.flushes: OrderedDict[int, Flush] = OrderedDict()
        self.delayed: OrderedDict[int, None] = OrderedDict()
        self.dirty: OrderedDict[int, None] = OrderedDict()
        self.revoking: dict[int, None] = {}
        self.out: list[Action] = []
        self.events: list[Event] | None = None
        self.osd_epoch_barrier = 0

    def rank(self, rank: int) -> Rank:
        found = self.ranks.get(rank)
        if found is None:
            found = self.ranks[rank] = Rank(rank)
        return found

    def touch(self, inode: Inode) -> None:
        self.inodes.move_to_end(inode.ino)

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

    def issued(self, inode: Inode, now: float) -> int:
        """Bits that may be used now, from whichever rank.

        What the authority is taking back does not count, though another rank may not have heard of it yet
        (kernel: ``__ceph_caps_issued``).
        """
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
        for cap in inode.caps.values():
            if cap.gen == self.ranks[cap.rank].gen:
                held |= cap.issued | cap.implemented
        return held

    def caps_of(self, rank: int) -> Iterator[tuple[Inode, InodeCap]]:
        """Every cap from ``rank``; may be removed while walking."""
        for inode in list(self.inodes.values()):
            cap = inode.caps.get(rank)
            if cap is not None:
                yield inode, cap

    def settled(self, inode: Inode, cap: InodeCap) -> None:
        """Nothing of ``cap`` is asked back any more."""
        if cap.revoked_at:
            cap.revoked_at = 0.0
            if not any(other.revoked_at for other in inode.caps.values()):
                self.revoking.pop(inode.ino, None)

    def remove_cap(self, inode: Inode, cap: InodeCap) -> None:
        """Forget a cap; tells nobody."""
        self.settled(inode, cap)
        del inode.caps[cap.rank]
        self.ranks[cap.rank].num_caps -= 1
        if inode.auth_rank == cap.rank:
            inode.auth_rank = -1
        if not inode.caps:
            self.delayed.pop(inode.ino, None)
            self.let_go(inode)

    def let_go(self, inode: Inode) -> None:
        """Forget an inode without caps, handles or changes of ours: nothing would tell us when it changes."""
        if not inode.caps and not inode.pinned:
            self.inodes.pop(inode.ino, None)
