"""The rooms of the cap engine, and what callers ask of them: reading, using, changing, letting go."""

from __future__ import annotations

import stat
from collections.abc import Callable

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
from cephcaps.engine.listing import Listings
from cephcaps.engine.move import Moves
from cephcaps.engine.realms import Realms
from cephcaps.engine.reconnect import Reconnects
from cephcaps.engine.refs import Refs
from cephcaps.engine.release import Releases
from cephcaps.engine.reserve import Pool, Reservation
from cephcaps.engine.sessions import Sessions
from cephcaps.engine.setattr import Change, Remainder, apply
from cephcaps.engine.snaps import CapSnaps
from cephcaps.engine.xattrs import XattrChange
from cephwire.capbits import Cap
from cephwire.request import FilePath, RequestRelease

__all__ = ["LocalCalls"]


class LocalCalls:
    """All rooms of one client's engine, and its local calls.

    Attributes:
        unsafe: whether a change of an inode was asked for and is not durable: of a directory that is not exclusively
            ours an MDS tells how many entries it had before (ceph: src/mds/CInode.cc, ``encode_inodestat``).
    """

    def __init__(self) -> None:
        self.pool: Pool = Pool(self._shrink)
        self.cache: Cache = Cache(self.pool)
        self.flushes: Flushes = Flushes(self.cache)
        self.hooks: Hooks = Hooks(self.cache)
        self.snaps: CapSnaps = CapSnaps(self.cache, self.flushes, self.hooks.write_back)
        self.realms: Realms = Realms(self.cache, self.snaps.queue)
        self.releases: Releases = Releases(self.cache)
        self.dentries: Dentries = Dentries(self.cache)
        self.listings: Listings = Listings(self.cache, self.dentries)
        self.checks: Checks = Checks(self.cache, self.flushes, self.snaps, self.hooks)
        self.embeds: Embeds = Embeds(self.cache, self.checks, self.dentries)
        self.grants: Grants = Grants(self.cache, self.checks, self.flushes, self.hooks, self.realms)
        self.moves: Moves = Moves(self.cache, self.flushes, self.checks, self.grants, self.releases, self.realms)
        self.refs: Refs = Refs(self.cache, self.checks, self.flushes, self.snaps, self.hooks)
        self.sessions: Sessions = Sessions(self.cache, self.flushes, self.grants, self.releases, self.hooks, self.refs)
        self.reconnects: Reconnects = Reconnects(self.cache, self.flushes, self.checks, self.releases, self.realms)
        self.explanations: Explanations = Explanations(self.cache, self.checks, self.refs)
        self.cache.context = self.realms.context
        self.cache.left = self.realms.leave
        self.unsafe: Callable[[int], bool] = lambda ino: False

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

    def along(self, ino: int, names: list[str], mask: int, now: float) -> tuple[list[Inode], int] | None:
        """What plain names lead to one after the other from directory ``ino`` on, and the bits of the last that may be
        used, if all that is known without asking and ``mask`` is among them; None where not, or one leads nowhere."""
        inodes, issued = self.cache.inodes, self.cache.issued
        inode = inodes.get(ino)
        found: list[Inode] = []
        for name in names:
            if inode is None or not inode.children or (dentry := inode.children.get(name)) is None or not dentry.ino:
                return None
            shared = dentry.shared_gen == inode.shared_gen and issued(inode, now) & Cap.FILE_SHARED
            if not shared and not self.dentries.leased(dentry, now):
                return None
            if not inode.hot:  # to set a field of a struct takes four times as long as to see it
                inode.hot = True
            inode = inodes.get(dentry.ino)
            if inode is not None:
                found.append(inode)
        if inode is None or (usable := issued(inode, now)) & mask != mask:
            return None
        if not inode.hot:
            inode.hot = True
        return found, usable

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

    # What other rooms leave to be done

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
