"""Making names. Facts: ceph: src/mds/Server.cc (``prepare_new_inode``, ``handle_client_openc`` and the like)."""

from __future__ import annotations

import errno
import stat
from typing import TYPE_CHECKING

from cephcaps.testing.mds.clientcaps import fit_max_size
from cephcaps.testing.mds.inode import Inode
from cephcaps.testing.mds.ops_attr import FILE_LAYOUT, touch
from cephcaps.testing.mds.ops_read import file_mode, open_
from cephcaps.testing.mds.outcome import Outcome
from cephcaps.testing.mds.request import Refused, Request
from cephcaps.testing.mds.walk import Place
from cephwire.capbits import wanted_for_mode
from cephwire.reply import CreatedInode
from cephwire.request import NO_OWNER, FilePath
from cephwire.requestargs import MkdirArgs, MknodArgs, OpenArgs, OpenFlag

if TYPE_CHECKING:
    from cephcaps.testing.mds.server import Mds

__all__ = ["create", "link", "mkdir", "mknod", "symlink"]


def directory_for(mds: Mds, request: Request) -> tuple[Inode, str]:
    """Where a new name is to be."""
    place, name = mds.walker.walk_to_name(request.message.path)
    if name in (".", ".."):
        raise Refused(errno.EEXIST)
    return place.live_dir, name


def begin(mds: Mds, request: Request) -> tuple[Inode, str]:
    """The same, locked for a new name, which must not be there."""
    directory, name = directory_for(mds, request)
    mds.caps.acquire(request, [(directory, "F", "w"), (directory, "A", "r")])
    if name in directory.entries:
        raise Refused(errno.EEXIST)
    if not directory.links and directory is not mds.tree.root:
        raise Refused(errno.ENOENT)
    return directory, name


def new_inode(mds: Mds, request: Request, directory: Inode, mode: int) -> Inode:
    message = request.message
    inode = Inode(mds.tree.new_ino(), mode, message.stamp)
    inode.uid = message.caller_uid if message.owner_uid == NO_OWNER else message.owner_uid
    inode.gid = message.caller_gid if message.owner_gid == NO_OWNER else message.owner_gid
    if directory.mode & stat.S_ISGID:
        inode.gid = directory.gid
        if inode.is_dir:
            inode.mode |= stat.S_ISGID
    if inode.is_file:
        above: Inode | None = directory
        while above is not None and not above.layout.object_size:
            above = above.parent
        inode.layout = FILE_LAYOUT if above is None else above.layout
    return mds.tree.add(inode)


def name(mds: Mds, request: Request, directory: Inode, text: str, inode: Inode) -> Outcome:
    """Give a new inode its name."""
    dentry = mds.tree.link(directory, text, inode, request.message.stamp)
    return Outcome(Place(inode), Place(directory), text, dentry, changed=True, created=inode.ino)


def create(mds: Mds, request: Request) -> Outcome:
    args = request.message.args
    assert isinstance(args, OpenArgs)
    directory, text = directory_for(mds, request)
    there = directory.entries.get(text)
    if there is not None:
        if args.flags & OpenFlag.EXCL:
            begin(mds, request)
        outcome = open_(mds, request)
        outcome.directory, outcome.name, outcome.dentry = Place(directory), text, there
        return outcome
    directory, text = begin(mds, request)
    inode = new_inode(mds, request, directory, stat.S_IFREG | stat.S_IMODE(args.mode))
    cap = mds.caps.get(inode, request.session)
    cap.wanted = wanted_for_mode(file_mode(args.flags))
    request.session.opened.add(inode)
    inode.begin_exclusive(request.session)
    fit_max_size(inode, cap)
    outcome = name(mds, request, directory, text, inode)
    outcome.extra = CreatedInode(inode.ino, ())
    return outcome


def mknod(mds: Mds, request: Request) -> Outcome:
    args = request.message.args
    assert isinstance(args, MknodArgs)
    directory, text = begin(mds, request)
    mode = args.mode if stat.S_IFMT(args.mode) else args.mode | stat.S_IFREG
    inode = new_inode(mds, request, directory, mode)
    inode.rdev = args.rdev
    if inode.is_file:
        cap = mds.caps.get(inode, request.session)
        inode.begin_exclusive(request.session)
        inode.max_size[request.session.client] = 1 << 22
        assert cap.session is request.session
    return name(mds, request, directory, text, inode)


def mkdir(mds: Mds, request: Request) -> Outcome:
    args = request.message.args
    assert isinstance(args, MkdirArgs)
    directory, text = begin(mds, request)
    inode = new_inode(mds, request, directory, stat.S_IFDIR | stat.S_IMODE(args.mode))
    mds.caps.get(inode, request.session)
    inode.begin_exclusive(request.session)
    return name(mds, request, directory, text, inode)


def symlink(mds: Mds, request: Request) -> Outcome:
    directory, text = begin(mds, request)
    inode = new_inode(mds, request, directory, stat.S_IFLNK | 0o777)
    inode.symlink = request.message.path2.path
    inode.size = inode.rbytes = len(inode.symlink.encode("utf-8", "surrogateescape"))
    return name(mds, request, directory, text, inode)


def link(mds: Mds, request: Request) -> Outcome:
    directory, text = directory_for(mds, request)
    mds.caps.acquire(request, [(directory, "F", "w")])
    if text in directory.entries:
        raise Refused(errno.EEXIST)
    inode = target_of(mds, request.message.path2)
    if inode.is_dir:
        raise Refused(errno.EINVAL)
    mds.caps.acquire(request, [(directory, "F", "w"), (inode, "L", "x")])
    inode.nlink += 1
    touch(inode, request.message.stamp)
    outcome = name(mds, request, directory, text, inode)
    outcome.created = 0
    return outcome


def target_of(mds: Mds, path: FilePath) -> Inode:
    return mds.walker.walk(path).live
