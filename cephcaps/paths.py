"""How every call gets from the paths it is given to inodes and names, and from there to an answer in time."""

from __future__ import annotations

import asyncio
import errno
import os
import stat as st
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from cephcaps.engine.inode import Inode
from cephcaps.engine.listing import Listings
from cephcaps.engine.realms import snapshots_of
from cephcaps.errors import MdsError, RequestTimeout
from cephcaps.mds.requests import Answer, Operation
from cephcaps.shell.supervisor import Supervisor
from cephcaps.stat import Stat
from cephcaps.walk import NAME_MAX, Found, find, split
from cephwire.request import FilePath
from cephwire.requestop import RequestOp

if TYPE_CHECKING:
    from cephcaps.client import Client

__all__ = ["DEFAULT", "Path", "Paths", "Place"]

Path = str | os.PathLike[str]

DEFAULT: Any = object()
"""Stands for the client's own request time-out; None would mean to wait for ever."""

UNHEARD = 64
"""Paths found in the cache in a row, at most, before the loop gets its turn: under a millisecond."""
ON_SNAPSHOTS = {
    RequestOp.MKDIR: RequestOp.MKSNAP,
    RequestOp.RMDIR: RequestOp.RMSNAP,
    RequestOp.RENAME: RequestOp.RENAMESNAP,
}
"""What may be done to names in a ``.snap``, and how that is asked for."""


class Place(NamedTuple):
    """A name in a directory.

    Attributes:
        above: numbers of the directories from the root's to the one it is in.
        snap: where MDSs find that one if it is in a snapshot or a ``.snap`` itself, else None.
    """

    above: list[int]
    name: str
    snap: FilePath | None = None

    @property
    def path(self) -> FilePath:
        if self.snap is not None:
            return FilePath(self.snap.ino, f"{self.snap.path}/{self.name}")
        return FilePath(self.above[-1], self.name)

    @property
    def snapshot(self) -> tuple[int, str] | None:
        """Which snapshot it is in; (0, "") stands for every ``.snap``, None for what is live."""
        if self.snap is None or not self.snap.path:
            return None if self.snap is None else (0, "")
        return self.snap.ino, self.snap.path.split("/")[1]

    def op(self, op: RequestOp, what: str) -> RequestOp:
        """What ``op`` is called here: snapshots are made, removed and renamed like directories in ``.snap``.

        Raises:
            MdsError: EROFS where it would change a snapshot.
        """
        if self.snap is None:
            return op
        if self.snap.path or op not in ON_SNAPSHOTS:
            raise MdsError(errno.EROFS, None, what)
        return ON_SNAPSHOTS[op]


class Paths:
    """What the public calls are made of."""

    root_ino: int
    _request_timeout: float | None
    _snapdir: str
    _found = 0
    """Paths found since the loop last had its turn for sure."""

    @property
    def _running(self) -> Supervisor:
        raise NotImplementedError

    @property
    def _client(self) -> Client:
        raise NotImplementedError

    async def _place(
        self,
        path: Path,
        until: float | None,
        missing: int,
        *,
        directory: bool = True,
        hidden: int = errno.EEXIST,
    ) -> Place:
        """Where the name at the end of ``path`` is or would be.

        Args:
            directory: whether it may be one, so that a slash may follow.
            hidden: the error where the name is ``.snap``, which an MDS would take for that of a file nobody can see.
        """
        text = os.fsdecode(path)
        above, name = split(text)
        if not name:
            await self._look(path, 0, until)
            raise MdsError(missing, None, text)
        found = await self._find(above, 0, until)
        if found.inode is None:
            raise MdsError(errno.ENOENT, None, text)
        if not st.S_ISDIR(found.inode.mode):
            raise MdsError(errno.ENOTDIR, None, text)
        if len(os.fsencode(name)) > NAME_MAX:
            raise MdsError(errno.ENAMETOOLONG, None, text)
        if text.endswith("/") and not directory:
            await self._must_be_directory(text, until)
        if found.snap is None and name == self._snapdir:
            raise MdsError(hidden, None, text)
        return self._place_in([*found.above, found.inode], name, found.snap)

    def _place_in(self, above: list[Inode], name: str, snap: FilePath | None = None) -> Place:
        return Place([self.root_ino, *(inode.ino for inode in above)], name, snap)

    async def _must_be_directory(self, path: str, until: float | None) -> None:
        """What a slash behind a name says."""
        inode, _ = await self._look(path.rstrip("/") or "/", 0, until, follow=False)
        if not st.S_ISDIR(inode.mode):
            raise MdsError(errno.ENOTDIR, None, path)

    async def _walk(self, path: Path, mask: int, until: float | None, *, follow: bool = True) -> Inode:
        """The inode ``path`` leads to, to be changed or held.

        Raises:
            MdsError: ENOENT where there is none, EROFS where it is in a snapshot; else as `find`.
        """
        inode, snap = await self._look(path, mask, until, follow=follow)
        if snap is not None:
            raise MdsError(errno.EROFS, None, os.fsdecode(path))
        return inode

    async def _look(
        self, path: Path, mask: int, until: float | None, *, follow: bool = True
    ) -> tuple[Inode, FilePath | None]:
        """The inode ``path`` leads to; if that is in a snapshot, where MDSs find it (as `Found` has it)."""
        found = await self._find(os.fsdecode(path), mask, until, follow=follow)
        if found.inode is None:
            raise MdsError(errno.ENOENT, None, os.fsdecode(path))
        return found.inode, found.snap

    async def _find(self, path: str, mask: int, until: float | None, *, follow: bool = True) -> Found:
        if self._found >= UNHEARD:
            # A task that only asks for what is cached would never let the loop hear the MDSs, and lose its session.
            self._found = 0
            await asyncio.sleep(0)
        found = self._at_hand(path, mask)
        if found is None:
            self._found += 1
            return await find(_Asker(self, until), path, mask, follow=follow)
        *above, last = found[0]
        return Found(above, path.rpartition("/")[2], last, None)

    def _at_hand(self, path: str, mask: int) -> tuple[list[Inode], int] | None:
        """The inodes along ``path``, and the bits of the last that may be used, if it is made of names only, no symlink
        among them, and all of it is in the cache.

        That is what most calls are about. None as well when the loop is to have its turn (`_find` sees to that).
        """
        running = self._running
        running.check_usable()
        first, *names = path.split("/")
        if first or self._snapdir in names or self._found >= UNHEARD:
            return None
        found = running.core.mds.engine.along(self.root_ino, names, mask, running.loop.time())
        if found is None or not found[0] or st.S_ISLNK(found[0][-1].mode):
            return None
        self._found += 1
        return found

    @property
    def _listings(self) -> Listings:
        return self._running.core.mds.engine.listings

    def _stat_of(self) -> Callable[[Inode], Stat]:
        """What gives the Stat of an inode, with what may be done with it at that moment."""
        issued, time = self._running.core.mds.engine.cache.issued, self._running.loop.time
        return lambda inode: Stat.of(inode, issued(inode, time()))

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _until(self, timeout: float | None) -> float | None:
        """The end of ``timeout`` on the loop's clock."""
        seconds = self._request_timeout if timeout is DEFAULT else timeout
        return None if seconds is None else asyncio.get_running_loop().time() + seconds

    def _left(self, until: float | None) -> float | None:
        return None if until is None else max(until - asyncio.get_running_loop().time(), 0.0)

    async def _ask(self, operation: Operation, until: float | None) -> Answer:
        left = self._left(until)
        if left is not None and left <= 0:
            raise RequestTimeout(f"{operation.what}: time was up before all was asked", awaited="our turn")
        answer: Answer = await self._running.call(operation, left)
        return answer


class _Asker:
    """The file system as `walk` sees it, within one call's time."""

    def __init__(self, client: Paths, until: float | None) -> None:
        self.root_ino = client.root_ino
        self.snapdir = client._snapdir
        self._client = client
        self._until = until
        self.engine = client._running.core.mds.engine
        self._now = asyncio.get_running_loop().time
        client._running.check_usable()

    def snapshots_of(self, directory: Inode) -> Inode:
        return snapshots_of(directory, self.engine.realms.realms.get(directory.realm))

    def known(self, ino: int, mask: int) -> Inode | None:
        return self.engine.known(ino, mask, self._now())

    def lookup(self, directory: int, name: str, mask: int) -> Inode | int | None:
        return self.engine.lookup(directory, name, mask, self._now())

    async def ask(self, operation: Operation) -> Inode:
        inode = None
        while (
            inode is None
        ):  # an answer that tells nothing answers nothing (``mds_inject_traceless_reply_probability``)
            inode = (await self._client._ask(operation, self._until)).inode
        return inode
