"""Extended attributes, and the virtual ones below ``ceph.``: the calls."""

from __future__ import annotations

import errno
import os
import stat as st
import time

from cephcaps.core import SetXattr
from cephcaps.engine.inode import Inode
from cephcaps.engine.vxattrs import OF_CLIENT, asked_for, is_read_only, names_pool, pool_name_of, text_of
from cephcaps.engine.xattrs import ACLS, VIRTUAL, XattrChange, refusal
from cephcaps.errors import MdsError
from cephcaps.mds.requests import Operation
from cephcaps.paths import DEFAULT, Path, Paths
from cephwire.capbits import StatMask
from cephwire.reply import VxattrReply
from cephwire.request import FilePath
from cephwire.requestargs import GetattrArgs
from cephwire.requestop import RequestOp
from cephwire.session import ClientFeature

__all__ = ["Xattrs"]


class Xattrs(Paths):
    """Names are user.*, trusted.*, security.*, ceph.* and the two of POSIX access lists; values are bytes.

    Access lists (system.posix_acl_access, _default) are kept as they are given: they are not enforced here, nor does
    the mode follow them.
    """

    async def getxattr(
        self, path: Path, name: str, *, follow_symlinks: bool = True, timeout: float | None = DEFAULT
    ) -> bytes:
        """The value of one extended attribute, as of now. Costs no message under Xs.

        A virtual one (``ceph.dir.layout``, ``ceph.quota.max_bytes``, ``ceph.dir.rbytes`` ...) is always asked for, and
        reads as libcephfs writes it.

        Raises:
            MdsError: ENODATA where there is none of that name; else as the MDS says.
            RequestTimeout: no answer in time.
        """
        until, what = self._until(timeout), os.fsdecode(path)
        value: bytes | None = None
        if name.startswith("system.") and name not in ACLS:
            raise MdsError(errno.EOPNOTSUPP, None, what)
        if name.startswith(VIRTUAL):
            inode, snap = await self._look(path, 0, until, follow=follow_symlinks)
            value = await self._virtual(inode, snap, name, what, until)
        if value is None:
            value = (await self._xattrs(path, until, follow_symlinks)).get(name)
        if value is None:
            raise MdsError(errno.ENODATA, None, what)
        return value

    async def listxattr(
        self, path: Path, *, follow_symlinks: bool = True, timeout: float | None = DEFAULT
    ) -> list[str]:
        """The names of all extended attributes but the virtual ones. Costs no message under Xs."""
        held = await self._xattrs(path, self._until(timeout), follow_symlinks)
        return [name for name in held if not name.startswith(VIRTUAL)]

    async def setxattr(
        self,
        path: Path,
        name: str,
        value: bytes,
        *,
        create: bool = False,
        replace: bool = False,
        follow_symlinks: bool = True,
        timeout: float | None = DEFAULT,
    ) -> None:
        """Set an extended attribute: here and flushed later where Xx covers it, else by request.

        A virtual one always goes by request. All names and values of an inode together may have as many bytes as the
        MDS says (``client.mds_map.max_xattr_size``, 64 KiB).

        Args:
            create, replace: it must not, or must, be there.
        Raises:
            MdsError: EEXIST, ENODATA by those; EOPNOTSUPP where nobody can set such a name; ERANGE where it is longer
                than 255 bytes; ENOSPC where there is too much; EINVAL ... as the MDS says.
        """
        change = XattrChange(name, bytes(value), time.time_ns(), create, replace)
        await self._set(path, change, follow_symlinks, self._until(timeout))

    async def removexattr(
        self, path: Path, name: str, *, follow_symlinks: bool = True, timeout: float | None = DEFAULT
    ) -> None:
        """Take an extended attribute away; that of a virtual one has the default apply again, where there is one.

        Raises:
            MdsError: ENODATA where there is none of that name; an access list may be missing.
        """
        try:
            await self._set(path, XattrChange(name, None, time.time_ns()), follow_symlinks, self._until(timeout))
        except MdsError as error:
            if error.errno != errno.ENODATA or name not in ACLS:
                raise

    async def _set(self, path: Path, change: XattrChange, follow: bool, until: float | None) -> None:
        if "\0" in change.name:
            raise ValueError(f"{change.name!r} holds a NUL")
        inode, what = await self._walk(path, 0, until, follow=follow), os.fsdecode(path)
        refused = refusal(change.name, change.value, inode.mode)
        if refused or is_read_only(change.name, inode.mode):
            raise MdsError(refused or errno.EOPNOTSUPP, None, what)
        await self._running.call(SetXattr(inode.ino, what, change), self._left(until))

    async def _xattrs(self, path: Path, until: float | None, follow: bool) -> dict[str, bytes]:
        inode, snap = await self._look(path, StatMask.XATTR, until, follow=follow)
        if inode.xattrs is None and (snap is None or snap.path):
            # An MDS leaves out what it believes to have told; asked for them, it tells.
            where = snap or FilePath(inode.ino)
            ask = Operation(RequestOp.GETATTR, where, os.fsdecode(path), GetattrArgs(StatMask.XATTR))
            inode = (await self._ask(ask, until)).inode or inode
        return inode.xattrs or {}

    # Virtual ones

    async def _virtual(
        self, inode: Inode, snap: FilePath | None, name: str, what: str, until: float | None
    ) -> bytes | None:
        """What ``name`` says of ``inode``, or of it in a snapshot; None where that is nothing."""
        where = FilePath(inode.ino) if snap is None else snap
        if name in OF_CLIENT:
            return self._of_client(name, inode, live=snap is None)
        if snap is not None and not snap.path:
            return None  # a .snap is nothing to an MDS
        mask = asked_for(name, inode.mode)
        if mask is None:
            return await self._told_by_mds(where, name, what, until)
        ask = Operation(RequestOp.GETATTR, where, what, GetattrArgs(mask))
        trace = (await self._ask(ask, until)).reply.trace
        told = trace.target
        if told is None:
            raise MdsError(errno.EIO, "the MDS told nothing of the inode", what)
        text = text_of(name, told, pool=str(told.layout.pool_id))
        if text is not None and names_pool(name):
            pool = await self._told_by_mds(where, pool_name_of(inode.mode), what, until)
            if pool is not None:
                text = text_of(name, told, pool.decode("utf-8", "surrogateescape"))
        return text

    def _of_client(self, name: str, inode: Inode, *, live: bool) -> bytes | None:
        match name:
            case "ceph.cluster_fsid":
                return self._client.fsid.encode()
            case "ceph.client_id":
                return f"client{self._client.global_id}".encode()
        held = self._client.inode_caps(inode.ino) if live else None
        if not st.S_ISDIR(inode.mode) and not st.S_ISREG(inode.mode):
            return None
        return f"{held.issued}/{int(held.issued):#x}".encode() if held is not None else b"-/0x0"

    async def _told_by_mds(self, where: FilePath, name: str, what: str, until: float | None) -> bytes | None:
        """What the MDS itself says; None where it knows no such name, or knows no such request."""
        if not all(s.features >> ClientFeature.OP_GETVXATTR & 1 for s in self._client.sessions.values() if s.usable):
            return None
        ask = Operation(RequestOp.GETVXATTR, where, what, None, path2=FilePath(0, name))
        try:
            said = (await self._ask(ask, until)).reply.extra
        except MdsError as error:
            if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
                return None
            raise
        return said.value.encode("utf-8", "surrogateescape") if isinstance(said, VxattrReply) else None
