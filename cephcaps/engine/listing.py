"""Listing a directory: what each piece of the answer tells, and whether in the end every name is known.

A big directory is told in pieces, fragment by fragment. It is known whole only if FILE_SHARED was held from the first
piece to the last and no name was dropped from the cache between them. Sources: kernel: fs/ceph/dir.c,
``ceph_readdir``; fs/ceph/inode.c, ``ceph_readdir_prepopulate``.
"""

from __future__ import annotations

from cephcaps.engine.cache import Cache
from cephcaps.engine.dentries import Dentries, is_complete
from cephcaps.engine.inode import Inode
from cephwire.capbits import Cap
from cephwire.frag import frag_is_last
from cephwire.inode import NOSNAP, InodeStat
from cephwire.reply import ReaddirFlag, ReaddirReply

__all__ = ["Listing", "Listings"]

MISSED = -1


class Listing:
    """One listing of one directory, from its beginning on.

    Attributes:
        mark: what `Inode.complete_gen` is set to by the first piece; whatever ends completeness sets it to -1.
        gen: the directory's ``shared_gen`` as of the first piece; None before that, MISSED once a piece told nothing.
        names: those told so far.
    """

    __slots__ = ("gen", "mark", "names")

    def __init__(self, mark: int) -> None:
        self.mark: int = mark
        self.gen: int | None = None
        self.names: dict[str, None] = {}


class Listings:
    """Takes in the pieces."""

    def __init__(self, cache: Cache, dentries: Dentries) -> None:
        self._cache = cache
        self._dentries = dentries
        self._begun = 0

    def begin(self) -> Listing:
        """A listing that is going to be asked for."""
        self._begun += 1
        return Listing(-1 - self._begun)

    def piece(
        self,
        directory: Inode | None,
        told: InodeStat | None,
        found: ReaddirReply,
        inodes: list[Inode],
        listing: Listing | None,
        rank: int,
        since: float,
    ) -> None:
        """A reply tells some names of ``directory``.

        Args:
            directory, told: as the same reply has it, which may tell nothing of it.
            inodes: those the names lead to, taken in already.
            listing: which it is a piece of; None where nobody goes on with it.
            since: when the request left.
        """
        if directory is None or told is None or told.snapid != NOSNAP:
            if listing is not None:
                listing.gen = MISSED
            return
        shared = bool(told.cap.caps & Cap.FILE_SHARED)
        if listing is not None and listing.gen is None:
            listing.gen = directory.shared_gen
            if shared and not is_complete(directory):
                directory.complete_gen = listing.mark
        for entry, inode in zip(found.entries, inodes, strict=True):
            self._dentries.learn(directory, entry.dname, inode, entry.dlease, rank, since, shared)
        if listing is None:
            return
        for entry in found.entries:
            listing.names[entry.dname] = None
        if not shared and directory.complete_gen == listing.mark:
            self._cache.not_whole(directory)
        ended = found.flags & ReaddirFlag.FRAG_END and frag_is_last(found.dirstat.frag)
        if ended and directory.complete_gen == listing.mark and directory.shared_gen == listing.gen:
            self._dentries.complete(directory, listing.names)

    # What is known

    def names(self, directory_ino: int, now: float) -> list[str] | None:
        """All names in a directory, if they are known without asking."""
        directory = self._cache.inodes.get(directory_ino)
        entries = self._dentries.entries(directory, now) if directory is not None else None
        if directory is None or entries is None:
            return None
        self._cache.touch(directory)
        return list(entries)

    def entries(self, directory_ino: int, mask: int, now: float) -> list[tuple[str, Inode]] | None:
        """All names in a directory and what they lead to, if that and the bits of ``mask`` on each are known."""
        names = self.names(directory_ino, now)
        if names is None:
            return None
        children = self._cache.inodes[directory_ino].children or {}
        found = []
        for name in names:
            inode = self._cache.inodes.get(children[name].ino)
            if inode is None or self._cache.issued(inode, now) & mask != mask:
                return None
            self._cache.touch(inode)
            found.append((name, inode))
        return found
