"""Changing inodes: attributes, xattrs, locks. Facts: ceph: src/mds/Server.cc."""

from __future__ import annotations

import errno
import json
import stat
from typing import TYPE_CHECKING

from cephcaps.testing.mds.holding import of
from cephcaps.testing.mds.inode import Inode
from cephcaps.testing.mds.outcome import Outcome
from cephcaps.testing.mds.paths import follow
from cephcaps.testing.mds.request import Refused, Request
from cephcaps.testing.mds.walk import Place
from cephwire.capbits import Cap as Bit
from cephwire.caps import CapOp
from cephwire.inode import FileLayout, Quota
from cephwire.quota import ClientQuota
from cephwire.reply import VxattrReply
from cephwire.requestargs import FileLockArgs, SetattrArgs, SetattrMask, SetxattrArgs, SetxattrFlag

if TYPE_CHECKING:
    from cephcaps.testing.mds.server import Mds

__all__ = [
    "get_file_lock",
    "getvxattr",
    "rmxattr",
    "set_file_lock",
    "set_layout",
    "setattr_",
    "setxattr",
    "tell_truncated",
    "truncate",
]

OWNER_MASK = (
    SetattrMask.MODE
    | SetattrMask.UID
    | SetattrMask.GID
    | SetattrMask.BTIME
    | SetattrMask.KILL_SGUID
    | SetattrMask.KILL_SUID
    | SetattrMask.KILL_SGID
)
FILE_MASK = SetattrMask.MTIME | SetattrMask.ATIME | SetattrMask.SIZE
MAX_XATTRS = 65536
VIRTUAL = "ceph."


def touch(inode: Inode, stamp: int) -> None:
    """It has been changed."""
    inode.ctime = max(inode.ctime, stamp)
    inode.rctime = max(inode.rctime, stamp)
    inode.change_attr += 1
    inode.version += 1


def truncate(mds: Mds, inode: Inode, size: int, stamp: int) -> None:
    """Cut a file, or make it longer."""
    if size < inode.size:
        inode.truncate_seq += 1
        inode.truncate_size = size
    mds.tree.resized(inode, size, stamp)


def tell_truncated(mds: Mds, inode: Inode) -> None:
    """Tell whoever holds it that it was cut (ceph: ``Locker::issue_truncate``)."""
    for cap in inode.caps.values():
        mds.tell_caps(cap, CapOp.TRUNC)
    mds.ranges.check(inode)


def setattr_(mds: Mds, request: Request) -> Outcome:
    args, stamp = request.message.args, request.message.stamp
    assert isinstance(args, SetattrArgs)
    inode = follow(mds, request, request.message.path).live
    mask = args.mask
    if mask & SetattrMask.SIZE and not inode.is_file:
        raise Refused(errno.EISDIR if inode.is_dir else errno.EINVAL)
    if mask & SetattrMask.SIZE and args.size > mds.maps.mdsmap.mdsmap.max_file_size:
        raise Refused(errno.EFBIG)
    kinds = ("A" if mask & OWNER_MASK else "") + ("F" if mask & FILE_MASK else "")
    mds.caps.holding.acquire(request, of(inode, kinds, "x"))
    outcome = Outcome(Place(inode), changed=True)
    if mask & SetattrMask.MODE:
        inode.mode = stat.S_IFMT(inode.mode) | stat.S_IMODE(args.mode)
    elif not inode.is_dir:
        inode.mode &= ~_killed(inode.mode, mask)
    if mask & SetattrMask.UID:
        inode.uid = args.uid
    if mask & SetattrMask.GID:
        inode.gid = args.gid
    if mask & SetattrMask.BTIME:
        inode.btime = args.btime
    if mask & SetattrMask.SIZE:
        if args.size < inode.size:
            outcome.once_safe.append(lambda: tell_truncated(mds, inode))
        truncate(mds, inode, args.size, stamp)
        inode.mtime = max(inode.mtime, stamp)
        changed, safe = mds.ranges.fit(inode, inode.size)
        outcome.once_safe.append(safe)
        if changed:
            outcome.in_the_end.append(lambda: mds.ranges.share(inode))
    if mask & SetattrMask.MTIME:
        inode.mtime = args.mtime
    if mask & SetattrMask.ATIME:
        inode.atime = args.atime
    if mask & (SetattrMask.ATIME | SetattrMask.MTIME):
        inode.time_warp_seq += 1
    touch(inode, stamp)
    if mask & FILE_MASK and any(cap.wanted & (Bit.FILE_RD | Bit.FILE_WR) for cap in inode.caps.values()):
        mds.flush_soon()
    return outcome


def _killed(mode: int, mask: int) -> int:
    """Set-id bits that go with a change of owner."""
    bits = stat.S_ISUID | stat.S_ISGID if mask & SetattrMask.KILL_SGUID else 0
    bits |= stat.S_ISUID if mask & SetattrMask.KILL_SUID else 0
    if mask & SetattrMask.KILL_SGID and mode & stat.S_IXGRP:
        bits |= stat.S_ISGID
    return bits


# Extended attributes


def setxattr(mds: Mds, request: Request) -> Outcome:
    message = request.message
    args, name, value = message.args, message.path2.path, message.data
    assert isinstance(args, SetxattrArgs)
    inode = follow(mds, request, message.path).live
    if name.startswith(VIRTUAL):
        return _set_virtual(mds, request, inode, name, value.decode("utf-8", "surrogateescape"))
    mds.caps.holding.acquire(request, of(inode, "X", "x"))
    if args.flags & SetxattrFlag.CREATE and name in inode.xattrs:
        raise Refused(errno.EEXIST)
    if args.flags & (SetxattrFlag.REPLACE | SetxattrFlag.REMOVE | SetxattrFlag.REMOVE2) and name not in inode.xattrs:
        raise Refused(errno.ENODATA)
    xattrs = {**inode.xattrs, name: value}
    if sum(len(key.encode("utf-8", "surrogateescape")) + len(each) for key, each in xattrs.items()) > MAX_XATTRS:
        raise Refused(errno.ENOSPC)
    if args.flags & (SetxattrFlag.REMOVE | SetxattrFlag.REMOVE2):
        del xattrs[name]
    return _xattrs_changed(inode, xattrs, message.stamp)


def rmxattr(mds: Mds, request: Request) -> Outcome:
    message = request.message
    name = message.path2.path
    inode = follow(mds, request, message.path).live
    if name.startswith(VIRTUAL):
        return _set_virtual(mds, request, inode, name, "")
    mds.caps.holding.acquire(request, of(inode, "X", "x"))
    if name not in inode.xattrs:
        raise Refused(errno.ENODATA)
    return _xattrs_changed(inode, {key: value for key, value in inode.xattrs.items() if key != name}, message.stamp)


def _xattrs_changed(inode: Inode, xattrs: dict[str, bytes], stamp: int) -> Outcome:
    inode.xattrs = xattrs
    inode.xattr_version += 1
    touch(inode, stamp)
    return Outcome(Place(inode), changed=True)


def _set_virtual(mds: Mds, request: Request, inode: Inode, name: str, value: str) -> Outcome:
    """Settings in the guise of attributes: quotas, pins and layouts."""
    try:
        match name.split(".", 2)[1:]:
            case ["quota", field] if inode.is_dir:
                _set_quota(mds, inode, field, value)
            case ["dir", "pin"] if inode.is_dir:
                inode.pin = int(value or -1)
            case [("dir" | "file"), layout] if layout.startswith("layout"):
                inode.layout = _layout(inode, layout.removeprefix("layout").removeprefix("."), value)
            case _:
                raise Refused(errno.EINVAL)
    except ValueError:
        raise Refused(errno.EINVAL) from None
    touch(inode, request.message.stamp)
    return Outcome(Place(inode), changed=True, early=False)


def _set_quota(mds: Mds, inode: Inode, field: str, value: str) -> None:
    number = int(value or 0)
    if number < 0 or field not in ("max_bytes", "max_files"):
        raise Refused(errno.EINVAL)
    old = inode.quota
    inode.quota = Quota(number, old.max_files) if field == "max_bytes" else Quota(old.max_bytes, number)
    if inode.realm is None:
        mds.new_realm(inode)  # a directory with a quota is a realm (ceph: ``Server::handle_set_vxattr``)
    for cap in inode.caps.values():
        mds.push(
            cap.session,
            ClientQuota(inode.ino, inode.rctime, inode.rbytes, inode.rfiles, inode.rsubdirs, inode.quota),
        )


def _layout(inode: Inode, field: str, value: str) -> FileLayout:
    old = inode.layout if inode.layout.object_size else FILE_LAYOUT
    wanted = dict(pair.split("=", 1) for pair in value.split()) if not field else {field: value}
    numbers = {key: int(text) for key, text in wanted.items() if key in ("stripe_unit", "stripe_count", "object_size")}
    return FileLayout(
        numbers.get("stripe_unit", old.stripe_unit),
        numbers.get("stripe_count", old.stripe_count),
        numbers.get("object_size", old.object_size),
        0,
        0,
        0,
        old.pool_id,
    )


FILE_LAYOUT = FileLayout(1 << 22, 1, 1 << 22, 0, 0, 0, 2)
"""Of new files: 4 MiB objects in the data pool."""


def set_layout(mds: Mds, request: Request) -> Outcome:
    args = request.message.args
    assert isinstance(args, FileLayout)
    inode = follow(mds, request, request.message.path).live
    if inode.is_file:
        mds.caps.holding.acquire(request, of(inode, "F", "x"))
    inode.layout = args
    touch(inode, request.message.stamp)
    return Outcome(Place(inode), changed=True)


def getvxattr(mds: Mds, request: Request) -> Outcome:
    inode = follow(mds, request, request.message.path).inode
    layout = inode.layout if inode.layout.object_size else FILE_LAYOUT
    match request.message.path2.path:
        case "ceph.dir.pin":
            value = str(inode.pin)
        case "ceph.dir.layout" | "ceph.file.layout" | "ceph.dir.layout.json" | "ceph.file.layout.json":
            value = json.dumps(
                {
                    "stripe_unit": layout.stripe_unit,
                    "stripe_count": layout.stripe_count,
                    "object_size": layout.object_size,
                    "pool_name": f"{mds.maps.fs_name}.data",
                    "pool_id": layout.pool_id,
                    "pool_namespace": inode.pool_ns,
                    "inheritance": "@set" if inode.layout.object_size else "@default",
                }
            )
        case _:
            raise Refused(errno.ENODATA)
    return Outcome(extra=VxattrReply(value))


# Locks


def set_file_lock(mds: Mds, request: Request) -> Outcome:
    args = request.message.args
    assert isinstance(args, FileLockArgs)
    inode = follow(mds, request, request.message.path).live
    mds.file_locks.set(request, inode, args)
    return Outcome()


def get_file_lock(mds: Mds, request: Request) -> Outcome:
    args = request.message.args
    assert isinstance(args, FileLockArgs)
    inode = follow(mds, request, request.message.path).live
    return Outcome(extra=mds.file_locks.get(request, inode, args))
