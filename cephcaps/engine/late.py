"""What is owed or awaited, since when and why: an MDS reports no error for what it ignores, so this must be seen here.

Everything that is waited for is looked up in the engine's short lists; caps that are merely kept are explained on
request.
"""

from __future__ import annotations

from typing import NamedTuple

from cephcaps.caps import Caps
from cephcaps.engine.cache import Cache
from cephcaps.engine.check import Checks
from cephcaps.engine.inode import Flush, Inode, InodeCap
from cephcaps.engine.refs import Refs

__all__ = ["Explanations", "Late"]

STUCK_AFTER = 5.0
"""Seconds after which something is late: an MDS journals every 5 s, all else takes milliseconds."""


class Late(NamedTuple):
    """Something owed or expected for longer than it should take.

    Attributes:
        kind: "flush", "revoke", "release", "snapshot" or "wait".
        age: seconds.
    """

    kind: str
    ino: int
    rank: int
    age: float
    why: str

    def __str__(self) -> str:
        return f"{self.kind} of inode {self.ino:#x} at rank {self.rank} for {self.age:.1f} s: {self.why}"


class Explanations:
    """Says why things are as they are."""

    def __init__(self, cache: Cache, checks: Checks, refs: Refs) -> None:
        self._cache = cache
        self._checks = checks
        self._refs = refs

    def late(self, now: float) -> list[Late]:
        """Everything older than 5 s."""
        found = [
            Late("flush", flush.ino, self._cache.inodes[flush.ino].auth_rank, now - flush.sent_at, self._flush(flush))
            for flush in self._cache.flushes.values()
            if now - flush.sent_at > STUCK_AFTER
        ]
        for ino in self._cache.revoking:
            inode = self._cache.inodes[ino]
            found += [
                Late("revoke", ino, cap.rank, now - cap.revoked_at, self.revoke(inode, cap, now))
                for cap in inode.caps.values()
                if cap.revoking and now - cap.revoked_at > STUCK_AFTER
            ]
        for ino in self._cache.in_use:
            found += self._in_use(self._cache.inodes[ino], now)
        found += [
            Late("release", rank.releases[0].ino, rank.rank, now - rank.release_at, "not sent yet")
            for rank in self._cache.ranks.values()
            if rank.releases and now - rank.release_at > STUCK_AFTER
        ]
        return found

    def _in_use(self, inode: Inode, now: float) -> list[Late]:
        use = inode.use
        assert use is not None
        found = [
            Late("wait", inode.ino, inode.auth_rank, now - wait.since, f"for {self._refs.why(wait, inode, now)}")
            for wait in use.waiting
            if now - wait.since > STUCK_AFTER
        ]
        found += [
            Late("snapshot", inode.ino, inode.auth_rank, now - snap.since, self._unsent(inode))
            for snap in use.cap_snaps
            if snap.need_flush and not snap.flush_tid and now - snap.since > STUCK_AFTER
        ]
        return found

    def _flush(self, flush: Flush) -> str:
        of = f"{Caps.of(flush.caps)}" + (f" as of snapshot {flush.snap.context.seq}" if flush.snap is not None else "")
        return f"flush {flush.tid} of {of} is not acknowledged"

    def _unsent(self, inode: Inode) -> str:
        use = inode.use
        assert use is not None
        if inode.auth_cap is None:
            return "no rank is in charge of the inode just now"
        if any(snap.writing for snap in use.cap_snaps):
            return "a write from before it goes on"
        return "the data handler has not written the data from before it"

    def revoke(self, inode: Inode, cap: InodeCap, now: float) -> str:
        """Why the MDS has not got back what it asked for."""
        in_use = cap.revoking & self._checks.in_use(inode, cap)
        asked = f"{Caps.of(cap.revoking)} is asked back"
        if not in_use:
            return asked
        use = inode.use
        hook = use.hooks[0] if use is not None and use.hooks else None
        if hook is not None:
            return f"{asked}; the data handler is at its {hook.kind} for {now - hook.since:.1f} s"
        return f"{asked}; {Caps.of(in_use)} is in use"

    def why(self, inode: Inode, now: float) -> list[str]:
        """Why each cap on ``inode`` is as it is, a line each: asked back, about to go, kept, wanted."""
        lines = []
        for cap in inode.caps.values():
            head = f"rank {cap.rank}: {Caps.of(cap.issued)}"
            surplus = self._checks.surplus(inode, cap)
            if not self._cache.valid(cap, now):
                lines.append(f"{head} does not count: granted in generation {cap.gen} of the session, which is over")
            elif cap.revoking:
                lines.append(f"{head}; {self.revoke(inode, cap, now)}")
            elif surplus:
                left = max(0.0, inode.hold_max - now)
                lines.append(f"{head}; {Caps.of(surplus)} is wanted by nobody and goes back in {left:.1f} s")
            elif want := inode.file_wanted:
                lines.append(f"{head}; those who have it open want {Caps.of(want)}")
            else:
                lines.append(f"{head} is kept: shared bits cost nobody anything")
        return lines
