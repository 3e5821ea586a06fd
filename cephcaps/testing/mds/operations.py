"""What each request does, by its op."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from cephcaps.testing.mds import ops_attr, ops_make, ops_read, ops_remove, ops_snap
from cephcaps.testing.mds.outcome import Outcome
from cephcaps.testing.mds.request import Refused, Request
from cephwire.requestop import RequestOp

if TYPE_CHECKING:
    from cephcaps.testing.mds.server import Mds

__all__ = ["Operations"]

Handler: TypeAlias = "Callable[[Mds, Request], Outcome]"

HANDLERS: dict[int, Handler] = {
    RequestOp.LOOKUP: ops_read.lookup,
    RequestOp.LOOKUPSNAP: ops_read.lookup,
    RequestOp.GETATTR: ops_read.getattr_,
    RequestOp.LOOKUPINO: ops_read.lookup_ino,
    RequestOp.LOOKUPPARENT: ops_read.lookup_parent,
    RequestOp.LOOKUPNAME: ops_read.lookup_name,
    RequestOp.OPEN: ops_read.open_,
    RequestOp.READDIR: ops_read.readdir,
    RequestOp.LSSNAP: ops_snap.list_snapshots,
    RequestOp.GETVXATTR: ops_attr.getvxattr,
    RequestOp.GETFILELOCK: ops_attr.get_file_lock,
    RequestOp.SETFILELOCK: ops_attr.set_file_lock,
    RequestOp.SETATTR: ops_attr.setattr_,
    RequestOp.SETXATTR: ops_attr.setxattr,
    RequestOp.RMXATTR: ops_attr.rmxattr,
    RequestOp.SETLAYOUT: ops_attr.set_layout,
    RequestOp.SETDIRLAYOUT: ops_attr.set_layout,
    RequestOp.CREATE: ops_make.create,
    RequestOp.MKNOD: ops_make.mknod,
    RequestOp.MKDIR: ops_make.mkdir,
    RequestOp.SYMLINK: ops_make.symlink,
    RequestOp.LINK: ops_make.link,
    RequestOp.UNLINK: ops_remove.unlink,
    RequestOp.RMDIR: ops_remove.unlink,
    RequestOp.RENAME: ops_remove.rename,
    RequestOp.MKSNAP: ops_snap.make,
    RequestOp.RMSNAP: ops_snap.remove,
    RequestOp.RENAMESNAP: ops_snap.rename,
}


class Operations:
    """Carries out requests."""

    def __init__(self, mds: Mds) -> None:
        self._mds = mds

    def run(self, request: Request) -> Outcome:
        """Do what is asked.

        Raises:
            Refused: it cannot be done.
            Waits: not now; the request is in the list of an inode that will wake it. Nothing has changed yet.
        """
        handler = HANDLERS.get(request.message.op)
        if handler is None:
            raise Refused(errno.EOPNOTSUPP)
        return handler(self._mds, request)
