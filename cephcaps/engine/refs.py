"""Using caps: a block takes references to the bits it needs, and while it holds them they are not given back.

Sources: kernel: fs/ceph/caps.c, ``try_get_cap_refs``, ``__ceph_get_caps``, ``check_max_size``,
``__ceph_put_cap_refs``; ceph: src/client/Client.cc, ``get_caps``.
"""

from __future__ import annotations

import errno
import heapq
from typing import NamedTuple

from cephcaps.actions import Done, Failed
from cephcaps.caps import Caps
from cephcaps.engine import quota
from cephcaps.engine.cache import Cache
from cephcaps.engine.check import Checks
from cephcaps.engine.flush import Flushes
from cephcaps.engine.hooks import Hooks
from cephcaps.engine.inode import DirtyData, Inode, RefWait
from cephcaps.engine.snaps import CapSnaps
from cephcaps.errors import MdsError, RequestTimeout
from cephwire.capbits import Cap, FileMode

__all__ = ["REFERABLE", "Got", "Refs"]

NEVER = float("inf")
U64 = 1 << 64

READING = Cap.FILE_RD | Cap.FILE_CACHE
WRITING = Cap.FILE_WR | Cap.FILE_BUFFER
REFERABLE = READING | WRITING
"""Bits a block may take references to."""
COUNTED = ((Cap.FILE_RD, "rd"), (Cap.FILE_WR, "wr"), (Cap.FILE_CACHE, "cache"), (Cap.FILE_BUFFER, "buffer"))


class Got(NamedTuple):
    """References that were taken, and are to be put."""

    ino: int
    bits: int


class Refs:
    """References to caps, and those who wait for them."""

    def __init__(self, cache: Cache, checks: Checks, flushes: Flushes, snaps: CapSnaps, hooks: Hooks) -> None:
        self._cache = cache
        self._checks = checks
        self._flushes = flushes
        self._snaps = snaps
        self._hooks = hooks
        self._inos: dict[int, int] = {}  # of those who wait, by token
        self._deadlines: list[tuple[float, int]] = []

    # Getting them

    def get(self, wait: RefWait, inode: Inode, now: float) -> None:
        """Take ``wait.need``, and of ``wait.want`` what is there; Done brings the bits taken, perhaps later."""
        refused = self._refusal(wait, inode)
        if refused is not None:
            self._cache.out.append(Failed(wait.token, refused))
            return
        use = self._cache.use(inode)
        use.waiting.append(wait)  # so that what it needs is wanted
        self._inos[wait.token] = inode.ino
        if not self._try(wait, inode, now):
            self._checks.check(inode, now)
            if wait.deadline != NEVER:
                heapq.heappush(self._deadlines, (wait.deadline, wait.token))

    def wake(self, inode: Inode, now: float) -> None:
        """Something has changed: let those get on who can, and tell those who never will."""
        for wait in list(inode.use.waiting) if inode.use is not None else ():
            refused = self._refusal(wait, inode)
            if refused is not None:
                self._leave(wait, inode)
                self._cache.out.append(Failed(wait.token, refused))
            else:
                self._try(wait, inode, now)

    def wake_all(self) -> None:
        """Look at everybody once more: caps count that did not."""
        for ino in dict.fromkeys(self._inos.values()):
            self._cache.wake(self._cache.inodes[ino])

    def cancel(self, token: int) -> None:
        """Whoever waited under ``token`` does so no more."""
        found = self._waiting(token)
        if found is not None:
            self._leave(*found)

    def _waiting(self, token: int) -> tuple[RefWait, Inode] | None:
        inode = self._cache.inodes.get(self._inos.get(token, 0))
        for wait in inode.use.waiting if inode is not None and inode.use is not None else ():
            if wait.token == token:
                assert inode is not None
                return wait, inode
        self._inos.pop(token, None)
        return None

    def _leave(self, wait: RefWait, inode: Inode) -> None:
        assert inode.use is not None
        inode.use.waiting.remove(wait)
        del self._inos[wait.token]
        self._cache.let_go(inode)

    def _refusal(self, wait: RefWait, inode: Inode) -> Exception | None:
        """Why ``wait`` will never end well; None if it may."""
        if inode.use is not None and inode.use.lost is not None:
            return inode.use.lost
        bits = wait.need | wait.want
        if (bits & WRITING and not wait.mode & FileMode.WR) or (bits & READING and not wait.mode & FileMode.RD):
            return MdsError(errno.EBADF, "not opened for that", f"inode {inode.ino:#x}")
        auth = self._cache.ranks.get(inode.auth_rank)
        if wait.need & Cap.ANY_FILE_WR and auth is not None and auth.read_only:
            return MdsError(errno.EROFS, None, f"inode {inode.ino:#x}")
        if wait.endoff > inode.size and quota.room(self._cache, inode, bytes=wait.endoff - inode.size) is not None:
            return MdsError(errno.EDQUOT, None, f"inode {inode.ino:#x}")
        return None

    def _try(self, wait: RefWait, inode: Inode, now: float) -> bool:
        """Take them if that may be done now."""
        use = inode.use
        assert use is not None
        if wait.endoff > inode.max_size and wait.endoff > use.wanted_max_size:
            use.wanted_max_size = wait.endoff
            self._checks.check(inode, now, auth_only=True)
        if (wait.need | wait.want) & Cap.FILE_CACHE and use.cached_gen not in (0, inode.cache_gen):
            self._hooks.invalidate(inode, now)
        if self.why(wait, inode, now):
            return False
        got = wait.need | (self._have(inode, now) & wait.want)
        for bit, count in COUNTED:
            if got & bit:
                setattr(use, count, getattr(use, count) + 1)
        if got & Cap.FILE_CACHE and self._cache.handled:
            use.cached_gen = inode.cache_gen or 1
        if got & Cap.FILE_WR and use.head is None:
            use.head = self._cache.context(inode.realm)
        use.waiting.remove(wait)
        del self._inos[wait.token]
        self._cache.out.append(Done(wait.token, Got(inode.ino, got)))
        return True

    def why(self, wait: RefWait, inode: Inode, now: float) -> str:
        """What ``wait`` waits for, in words; empty if nothing is in its way.

        A wanted bit that is being taken back is waited for like a needed one: to start without it would let this
        write overtake data that are still being written back.
        """
        use = inode.use
        assert use is not None
        if any(hook.kind == "truncate" for hook in use.hooks):
            return "a truncation that the data handler has not carried out yet"
        if wait.need & Cap.FILE_WR:
            if wait.endoff > inode.max_size:
                return f"leave to write up to {wait.endoff}, beyond max_size {inode.max_size}"
            if use.cap_snaps and use.cap_snaps[-1].writing:
                return "the end of a write from before a snapshot"
        have = self._have(inode, now)
        if missing := wait.need & ~have:
            return f"{Caps.of(missing)}, which no MDS has granted"
        implemented = 0
        for cap in inode.caps.values():
            implemented |= cap.implemented
        if back := implemented & ~have & wait.want & ~wait.need:
            return f"the end of {Caps.of(back)}, which is being given back"
        return ""

    def _have(self, inode: Inode, now: float) -> int:
        """Bits that may be taken now: FILE_CACHE not while data cached under an earlier one are still there."""
        have = self._cache.issued(inode, now)
        use = inode.use
        if use is not None and use.cached_gen:
            forgetting = any(hook.kind == "invalidate" for hook in use.hooks)
            if forgetting or use.cached_gen not in (0, inode.cache_gen or 1):
                have &= ~Cap.FILE_CACHE
        return have

    # Using them

    def wrote(self, inode: Inode, endoff: int, mtime: int, now: float, *, buffered: bool) -> None:
        """Data was written up to ``endoff``, to the OSDs or (``buffered``) into memory; the caller holds FILE_WR."""
        use = self._cache.use(inode)
        inode.size = max(inode.size, endoff)
        inode.mtime = max(inode.mtime, mtime)
        inode.ctime = max(inode.ctime, mtime)
        inode.change_attr = (inode.change_attr + 1) % U64
        self._flushes.mark_dirty(inode, Cap.FILE_WR, now)
        if buffered:
            assert use.head is not None
            newest = use.dirty_data[-1] if use.dirty_data else None
            if newest is None or newest.context != use.head:
                use.dirty_data.append(DirtyData(use.head, now))
            else:
                newest.again = True
        if self._checks.size_is_news(inode):
            self._checks.check(inode, now, auth_only=True)

    def put(self, inode: Inode, bits: int, now: float) -> None:
        """Let go of what `get` took."""
        use = inode.use
        assert use is not None
        last = 0
        for bit, count in COUNTED:
            if bits & bit:
                left = getattr(use, count) - 1
                assert left >= 0, f"inode {inode.ino:#x}: {count} put more often than got"
                setattr(use, count, left)
                if not left:
                    last |= bit
        if last & Cap.FILE_WR:
            self._snaps.written(inode, now)
            self._flushes.drop_head(inode)
        if last:
            self._checks.check(inode, now)
        self._cache.wake(inode)
        self._cache.let_go(inode)

    # What time brings

    def next_deadline(self) -> float:
        while self._deadlines:
            deadline, token = self._deadlines[0]
            if self._waiting(token) is not None:
                return deadline
            heapq.heappop(self._deadlines)
        return NEVER

    def tick(self, now: float) -> None:
        """Tell those whose time is up what they still wait for."""
        while self.next_deadline() <= now:
            found = self._waiting(heapq.heappop(self._deadlines)[1])
            assert found is not None
            wait, inode = found
            awaited = self.why(wait, inode, now)
            self._leave(wait, inode)
            error = RequestTimeout(
                f"inode {inode.ino:#x}: timed out awaiting {awaited}", rank=inode.auth_rank, awaited=awaited
            )
            self._cache.out.append(Failed(wait.token, error))
