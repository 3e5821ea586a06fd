"""A captured request in the words of another file system: its inodes and snapshots have other numbers there."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from cephcaps.engine.setattr import TRUNCATED
from cephcaps.mds.requests import Operation
from cephcaps.trace.replay.client import file_mode
from cephwire.inode import NOSNAP, SNAPDIR
from cephwire.request import NO_OWNER, ClientRequest, FilePath
from cephwire.requestargs import LookupInoArgs, OpenArgs, OpenFlag, RequestArgs, SetxattrArgs, SnapDiffArgs
from cephwire.requestop import RequestOp

__all__ = ["INHERITED", "ROOT", "Numbers", "UnknownInode"]

ROOT: Final = 1
"""Inode of every file system's root (ceph: src/include/ceph_fs.h, ``CEPH_INO_ROOT``)."""
INHERITED: Final = re.compile(r"_(.+)_(\d+)", re.DOTALL)
"""What a snapshot is called in the ``.snap`` of a directory below the one it was taken of: its name, and the number of
that one (ceph: src/mds/snap.cc, ``SnapInfo::get_long_name``)."""
ON_NAMES_OF_SNAPSHOTS: Final = (RequestOp.LSSNAP, RequestOp.READDIR_SNAPDIFF)


class UnknownInode(LookupError):
    """A captured inode of which nothing there is known to be the counterpart."""

    def __init__(self, ino: int) -> None:
        super().__init__(ino)
        self.ino = ino


class Numbers:
    """Which inode of the file system replayed to is which of the captured one.

    Args:
        root: number of the directory that stands for the captured root.
    """

    def __init__(self, root: int) -> None:
        self._there = {ROOT: root}
        self._here = {root: ROOT}
        self._snaps: dict[int, int] = {}

    def __contains__(self, captured: int) -> bool:
        return captured in self._there

    def ino(self, captured: int) -> int:
        """Its counterpart; 0 names no inode in either.

        Raises:
            UnknownInode: it has none.
        """
        if not captured:
            return 0
        found = self._there.get(captured)
        if found is None:
            raise UnknownInode(captured)
        return found

    def agree(self, captured: int, there: int) -> bool:
        """An answer has shown one where the captured answer showed the other; gives whether that can be: either they
        were counterparts before, or neither had one and they are from now on."""
        if captured in self._there or there in self._here:
            return self._there.get(captured) == there
        self._there[captured] = there
        self._here[there] = captured
        return True

    def known_as(self, there: int) -> int | None:
        """The captured inode that ``there`` is the counterpart of."""
        return self._here.get(there)

    def snapshot(self, captured: int, there: int) -> None:
        """An answer has shown one snapid where the captured answer showed the other."""
        if captured not in (0, NOSNAP, SNAPDIR):
            self._snaps[captured] = there

    def name(self, name: str) -> str:
        """A snapshot's name as it is there."""
        found = INHERITED.fullmatch(name)
        if found is None or (there := self._there.get(int(found[2]))) is None:
            return name
        return f"_{found[1]}_{there}"

    def _path(self, path: FilePath) -> FilePath:
        there = self.ino(path.ino)
        if not there or not path.path.startswith("/"):
            return path if there == path.ino else FilePath(there, path.path)
        name, slash, below = path.path[1:].partition("/")
        return FilePath(there, f"/{self.name(name)}{slash}{below}")

    def operation(self, request: ClientRequest, what: str) -> Operation:
        """``request`` as it is to be asked there; ``what`` is what errors call it.

        What it gave back of the captured client's caps is left out: ours are for the engine to give. Who asks is whom
        a new inode is to belong to, where the request says that apart (since head version 3): an MDS that does not
        know the difference then does the same.

        Raises:
            UnknownInode: it names one that has no counterpart.
        """
        op, args, path, path2 = RequestOp(request.op), request.args, self._path(request.path), self._path(request.path2)
        if op in ON_NAMES_OF_SNAPSHOTS and not request.path2.ino:
            path2 = FilePath(0, self.name(path2.path))
        drop = 0
        mode = None
        if isinstance(args, OpenArgs):
            mode = file_mode(args.flags) or None  # what only pins is not worth keeping open
            drop = TRUNCATED if op == RequestOp.OPEN and args.flags & OpenFlag.TRUNC else 0
        owned = request.owner_uid != NO_OWNER
        return Operation(
            op,
            path,
            what,
            self._args(args),
            path2=path2,
            data=request.data,
            stamp=request.stamp,
            drop=drop,
            file_mode=mode,
            caller=(
                request.owner_uid if owned else request.caller_uid,
                request.owner_gid if owned else request.caller_gid,
                request.gid_list,
            ),
        )

    def _args(self, args: RequestArgs) -> RequestArgs:
        match args:
            case SetxattrArgs():
                return msgspec.structs.replace(args, osdmap_epoch=0)  # of another cluster's map
            case LookupInoArgs():
                snapid = self._snaps.get(args.snapid, args.snapid)
                return msgspec.structs.replace(args, parent=self.ino(args.parent), snapid=snapid)
            case SnapDiffArgs():
                return msgspec.structs.replace(args, snap_other=self._snaps.get(args.snap_other, args.snap_other))
        return args
