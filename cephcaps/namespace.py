"""What one can do with names and attributes: the calls a file system is made of."""

from __future__ import annotations

import contextlib
import errno
import os
import stat as st
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from cephcaps.caps import Caps
from cephcaps.core import STAT_MASK, SetAttributes
from cephcaps.engine.inode import Inode
from cephcaps.engine.setattr import TRUNCATED, Change
from cephcaps.errors import MdsError
from cephcaps.file import ANYWHERE, OpenFile
from cephcaps.mds.requests import Operation
from cephcaps.paths import DEFAULT, Path, Paths, Place
from cephcaps.stat import DirEntry, Stat
from cephcaps.walk import split
from cephwire.capbits import StatMask
from cephwire.frag import WHOLE, frag_is_last, frag_next
from cephwire.reply import DirEntry as ToldEntry
from cephwire.reply import ReaddirFlag, ReaddirReply
from cephwire.request import FilePath
from cephwire.requestargs import MkdirArgs, OpenArgs, OpenFlag, ReaddirArgFlag, ReaddirArgs
from cephwire.requestop import RequestOp

__all__ = ["Namespace"]

NO_PATH = FilePath()
EXCL, CREAT, TRUNC = int(OpenFlag.EXCL), int(OpenFlag.CREAT), int(OpenFlag.TRUNC)
WRITES = int(OpenFlag.WRONLY | OpenFlag.RDWR)
MOST_NOTHING = 1 << 16
"""Answers in a row that name nothing, after which a listing is given up; a directory has fewer empty fragments."""
LAST_TIME = 2**32 * 10**9
"""Nanoseconds: where the MDS's 32 bits of seconds end."""


class Namespace(Paths):
    """Paths are absolute from the root of the mount. Times are nanoseconds; errors are MdsError, which is also the
    OSError its errno means. ``timeout`` is in seconds, the client's ``request_timeout`` unless given."""

    # Looking

    async def stat(
        self,
        path: Path,
        want: str | int | Caps = "",
        *,
        follow_symlinks: bool = True,
        timeout: float | None = DEFAULT,
    ) -> Stat:
        """The metadata of ``path``, as of now: what other clients hold dirty is asked for.

        Costs no message where our caps cover it.

        Args:
            want: caps to be valid in the answer beyond what stat shows.
        Raises:
            MdsError: the MDS refused; FileNotFoundError, NotADirectoryError, PermissionError ... as it says.
            RequestTimeout: no answer in time.
        """
        mask = STAT_MASK | int(Caps(want)) if want else STAT_MASK
        found = self._at_hand(path if type(path) is str else os.fsdecode(path), mask)
        if found is not None:
            inodes, issued = found
            return Stat.of(inodes[-1], issued)
        return self._stat_of()((await self._look(path, mask, self._until(timeout), follow=follow_symlinks))[0])

    async def exists(self, path: Path, *, timeout: float | None = DEFAULT) -> bool:
        """Whether ``path`` leads to anything; a dangling symlink does not."""
        try:
            await self._look(path, 0, self._until(timeout))
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    async def readlink(self, path: Path, *, timeout: float | None = DEFAULT) -> str:
        """What the symlink ``path`` says.

        Raises:
            MdsError: EINVAL where it is none.
        """
        inode, _ = await self._look(path, 0, self._until(timeout), follow=False)
        if not st.S_ISLNK(inode.mode):
            raise MdsError(errno.EINVAL, None, os.fspath(path))
        return inode.symlink

    async def listdir(self, path: Path, *, timeout: float | None = DEFAULT) -> list[str]:
        """The names in directory ``path``. Costs no message where all are known and our caps cover that."""
        inode, snap = await self._directory(path, self._until(timeout))
        known = self._listings.names(inode.ino, self._now()) if snap is None else None
        if known is not None:
            return known
        return [entry.name async for entry in self.scandir(path, timeout=timeout)]

    async def scandir(self, path: Path, *, timeout: float | None = DEFAULT) -> AsyncIterator[DirEntry]:
        """The entries of directory ``path`` as they come, ``timeout`` counting for each piece of the answer.

        Costs no message where every name is known and our caps cover what is told of each.

        Raises:
            MdsError: ENOTDIR where it is no directory.
        """
        inode, snap = await self._directory(path, self._until(timeout))
        known = self._listings.entries(inode.ino, STAT_MASK, self._now()) if snap is None else None
        stat_of = self._stat_of()
        if known is not None:
            for name, child in known:
                yield DirEntry(name, child.ino, stat_of(child))
            return
        op = RequestOp.LSSNAP if snap is not None and not snap.path else RequestOp.READDIR
        async for piece in self._list(op, snap or FilePath(inode.ino), os.fspath(path), timeout):
            for entry, child in piece:
                yield DirEntry(entry.dname, child.ino, stat_of(child))

    async def _directory(self, path: Path, until: float | None) -> tuple[Inode, FilePath | None]:
        """A directory to be listed, as `_look` gives it."""
        inode, snap = await self._look(path, 0, until)
        if not st.S_ISDIR(inode.mode):
            raise MdsError(errno.ENOTDIR, None, os.fspath(path))
        return inode, snap

    async def _list(
        self, op: RequestOp, where: FilePath, what: str, timeout: float | None
    ) -> AsyncIterator[list[tuple[ToldEntry, Inode]]]:
        """What a listing tells, piece by piece."""
        listing = self._listings.begin()
        frag, last = WHOLE, ""
        nothing = 0
        while nothing < MOST_NOTHING:
            # A directory may be split or joined while we read it. The MDS maps the fragment asked for to the one it
            # has now and goes on behind the last name told, in the order of the names' hash, which stays.
            args = ReaddirArgs(frag, 0, 0, ReaddirArgFlag.REPLY_BITFLAGS, 0)
            asked = Operation(op, where, what, args, path2=FilePath(0, last), listing=listing)
            answer = await self._ask(asked, self._until(timeout))
            found = answer.reply.extra
            if not isinstance(found, ReaddirReply):
                raise MdsError(errno.EIO, "the MDS told nothing of the directory", what)
            nothing += 1
            if found.entries:
                last, nothing = found.entries[-1].dname, 0
            yield list(zip(found.entries, answer.listed, strict=True))
            frag = found.dirstat.frag
            if found.flags & ReaddirFlag.FRAG_END:
                if frag_is_last(frag):
                    return
                frag = frag_next(frag)
        raise MdsError(errno.EIO, f"the MDS has told nothing in {nothing} answers, and no end", what)

    # Names

    async def mkdir(self, path: Path, mode: int = 0o755, *, timeout: float | None = DEFAULT) -> None:
        """Make a directory."""
        await self._make(RequestOp.MKDIR, path, self._until(timeout), MkdirArgs(st.S_IFDIR | mode & 0o7777))

    async def makedirs(
        self, path: Path, mode: int = 0o755, *, exist_ok: bool = False, timeout: float | None = DEFAULT
    ) -> None:
        """Make a directory and those above it that are missing.

        Raises:
            FileExistsError: it is there and ``exist_ok`` is not set, or something else has its name.
        """
        until = self._until(timeout)
        above, name = split(os.fsdecode(path))
        if name and above != "/" and not await self.exists(above, timeout=self._left(until)):
            with contextlib.suppress(FileExistsError):  # someone else made it, or something that leads nowhere is there
                await self.makedirs(above, mode, exist_ok=True, timeout=self._left(until))
        try:
            await self._make(RequestOp.MKDIR, path, until, MkdirArgs(st.S_IFDIR | mode & 0o7777))
        except FileExistsError:
            found = (await self._find(os.fsdecode(path), 0, until)).inode if exist_ok else None
            if found is None or not st.S_ISDIR(found.mode):
                raise

    async def symlink(self, target: str, path: Path, *, timeout: float | None = DEFAULT) -> None:
        """Make ``path`` a symlink that says ``target``."""
        await self._make(RequestOp.SYMLINK, path, self._until(timeout), None, path2=FilePath(0, target))

    async def link(self, existing: Path, path: Path, *, timeout: float | None = DEFAULT) -> None:
        """Give the file ``existing`` another name, ``path``. A symlink is not followed."""
        until = self._until(timeout)
        inode = await self._walk(existing, 0, until, follow=False)
        place = await self._place(path, until, errno.EEXIST, directory=False)
        if st.S_ISDIR(inode.mode):
            raise MdsError(errno.EPERM, None, os.fspath(existing))
        what, stamp = os.fsdecode(path), time.time_ns()
        op = place.op(RequestOp.LINK, what)
        await self._ask(Operation(op, place.path, what, path2=FilePath(inode.ino), stamp=stamp), until)

    async def unlink(self, path: Path, *, timeout: float | None = DEFAULT) -> None:
        """Take away the name ``path`` of something that is no directory."""
        await self._make(RequestOp.UNLINK, path, self._until(timeout), None, missing=errno.EISDIR)

    async def rmdir(self, path: Path, *, timeout: float | None = DEFAULT) -> None:
        """Take away an empty directory."""
        await self._make(RequestOp.RMDIR, path, self._until(timeout), None, missing=errno.ENOTEMPTY)

    async def rename(self, source: Path, target: Path, *, timeout: float | None = DEFAULT) -> None:
        """Give what is called ``source`` the name ``target``, replacing what had that name."""
        until = self._until(timeout)
        texts = os.fsdecode(source), os.fsdecode(target)
        if texts[0].endswith("/") or texts[1].endswith("/"):
            await self._must_be_directory(texts[0], until)
        old = await self._place(texts[0], until, errno.EBUSY, hidden=errno.ENOENT)
        new = await self._place(texts[1], until, errno.EBUSY)
        if old.snapshot != new.snapshot:
            raise MdsError(errno.EXDEV, None, texts[1])
        op = new.op(RequestOp.RENAME, texts[1])
        if old.snap != new.snap:
            raise MdsError(errno.EROFS, None, texts[1])
        if op is RequestOp.RENAME and (old.above[-1] in new.above[:-1] or new.above[-1] in old.above[:-1]):
            await self._check_loop(texts, old, new, until)
        await self._ask(Operation(op, new.path, texts[1], path2=old.path, stamp=time.time_ns()), until)

    async def _check_loop(self, texts: tuple[str, str], old: Place, new: Place, until: float | None) -> None:
        """No directory goes below itself, or over one that it lies in.

        MDSs are not asked to: for the latter one may wait for itself for ever (kernel: fs/namei.c, ``lock_rename``,
        keeps both from them too).
        """
        moved, replaced = [(await self._find(text.rstrip("/"), 0, until, follow=False)).inode for text in texts]
        if moved is None:
            raise MdsError(errno.ENOENT, None, texts[0])
        if moved.ino in new.above:
            raise MdsError(errno.EINVAL, None, texts[1])
        if replaced is not None and replaced.ino in old.above:
            raise MdsError(errno.ENOTEMPTY if st.S_ISDIR(moved.mode) else errno.EISDIR, None, texts[1])

    # Attributes

    async def setattr(
        self,
        path: Path,
        *,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        size: int | None = None,
        atime: int | None = None,
        mtime: int | None = None,
        follow_symlinks: bool = True,
        timeout: float | None = DEFAULT,
    ) -> None:
        """Change attributes. What an exclusive cap of ours covers is changed here and flushed later."""
        until = self._until(timeout)
        inode = await self._walk(path, 0, until, follow=follow_symlinks)
        change = Change(time.time_ns(), mode, uid, gid, size, atime, mtime)
        await self._change(inode.ino, os.fsdecode(path), change, until)

    async def chmod(self, path: Path, mode: int, *, timeout: float | None = DEFAULT) -> None:
        """Set the permission bits."""
        await self.setattr(path, mode=mode, timeout=timeout)

    async def chown(
        self, path: Path, uid: int, gid: int, *, follow_symlinks: bool = True, timeout: float | None = DEFAULT
    ) -> None:
        """Set owner and group; -1 leaves one as it is."""
        await self.setattr(
            path,
            uid=None if uid == -1 else uid,
            gid=None if gid == -1 else gid,
            follow_symlinks=follow_symlinks,
            timeout=timeout,
        )

    async def utime(self, path: Path, ns: tuple[int, int], *, timeout: float | None = DEFAULT) -> None:
        """Set atime and mtime."""
        await self.setattr(path, atime=ns[0], mtime=ns[1], timeout=timeout)

    async def truncate(self, path: Path, size: int, *, timeout: float | None = DEFAULT) -> None:
        """Make a file ``size`` bytes long; what is added is a hole."""
        until = self._until(timeout)
        inode = await self._walk(path, 0, until)
        if st.S_ISDIR(inode.mode):
            raise MdsError(errno.EISDIR, None, os.fspath(path))
        await self._change(inode.ino, os.fsdecode(path), Change(time.time_ns(), size=size), until)

    async def _change(self, ino: int, what: str, change: Change, until: float | None) -> None:
        if change.size is not None and change.size < 0:
            raise MdsError(errno.EINVAL, None, what)
        if change.size is not None and change.size > self._client.mds_map.max_file_size:
            raise MdsError(errno.EFBIG, None, what)
        for name, value in (("atime", change.atime), ("mtime", change.mtime)):
            if value is not None and not 0 <= value < LAST_TIME:
                raise ValueError(f"{name} {value} ns: an MDS keeps times from 1970 to 2106")
        for name, value in (("uid", change.uid), ("gid", change.gid)):
            if value is not None and not 0 <= value < 2**32:
                raise ValueError(f"{name} {value}: an MDS keeps numbers of 32 bits")
        await self._running.call(SetAttributes(ino, what, change), self._left(until))

    async def set_attributes(self, ino: int, what: str, attributes: dict[str, int], timeout: float | None) -> None:
        """As `setattr`, of an inode by number. For `OpenFile`."""
        await self._change(ino, what, Change(time.time_ns(), **attributes), self._until(timeout))

    # Files

    def open(self, path: Path, how: str = "r", *, mode: int = 0o644, timeout: float | None = DEFAULT) -> OpenFile:
        """A file to be held open in an ``async with`` block, with the caps ``how`` needs.

        Args:
            how: "r", "r+", "w" (create, cut to nothing), "x" (create, must not exist), "a" (create).
            mode: permission bits of a file that is created.
        """
        return OpenFile(self._client, os.fsdecode(path), how, mode, timeout)

    async def open_inode(self, path: str, flags: int, file_mode: int, mode: int, timeout: float | None) -> int:
        """Open ``path``; gives its number. For `OpenFile`, which closes it."""
        until = self._until(timeout)
        inode = snap = None
        if flags & EXCL:
            place = await self._place(path, until, errno.EEXIST, directory=False)
        else:
            above, name, inode, snap = await self._find(path, 0, until)
            place = self._place_in(above, name)
        if inode is None:
            if not flags & CREAT:
                raise MdsError(errno.ENOENT, None, path)
            if snap is not None:
                raise MdsError(errno.EROFS, None, path)
            where, op = place.path, place.op(RequestOp.CREATE, path)
        elif st.S_ISDIR(inode.mode) and flags & WRITES:
            raise MdsError(errno.EISDIR, None, path)
        elif snap is not None:
            if flags & WRITES:
                raise MdsError(errno.EROFS, None, path)
            raise MdsError(errno.EOPNOTSUPP, "no caps are held on what is in a snapshot: stat and list it", path)
        else:
            where, op = FilePath(inode.ino), RequestOp.OPEN
            flags &= ~CREAT
        args = OpenArgs(flags, st.S_IFREG | mode & 0o7777, *ANYWHERE, StatMask.INODE_ALL, inode.size if inode else 0)
        drop = TRUNCATED if op == RequestOp.OPEN and flags & TRUNC else 0
        operation = Operation(op, where, path, args, stamp=time.time_ns(), drop=drop, file_mode=file_mode)
        opened = (await self._ask(operation, until)).inode
        while opened is None:
            # It was done, and nothing is told of it: so MDSs answer what they had answered before they were restarted
            # (ceph: src/client/Client.cc, ``verify_reply_trace``).
            made = await self._walk(path, 0, until)
            args = msgspec.structs.replace(args, flags=flags & WRITES)
            operation = Operation(RequestOp.OPEN, FilePath(made.ino), path, args, file_mode=file_mode)
            opened = (await self._ask(operation, until)).inode
        return opened.ino

    # What the above is made of

    async def _make(
        self,
        op: RequestOp,
        path: Path,
        until: float | None,
        args: Any,
        *,
        path2: FilePath = NO_PATH,
        missing: int = errno.EEXIST,
    ) -> None:
        """An operation on the name at the end of ``path``; ``missing`` is the error where it ends in none."""
        directory = op in (RequestOp.MKDIR, RequestOp.RMDIR)
        hidden = errno.ENOENT if op in (RequestOp.UNLINK, RequestOp.RMDIR) else errno.EEXIST
        place = await self._place(path, until, missing, directory=directory, hidden=hidden)
        what, stamp = os.fsdecode(path), time.time_ns()
        op = place.op(op, what)
        await self._ask(Operation(op, place.path, what, args, path2=path2, stamp=stamp), until)
