"""Making names. Facts: ceph: src/mds/Server.cc (``prepare_new_inode``, ``handle_client_openc`` and the like)."""

from __future__ import annotations

import errno
import stat
from typing import TYPE_CHECKING

from cephcaps.testing.mds.holding import of
from cephcaps.testing.mds.inode import Inode
from cephcaps.testing.mds.locks import State
from cephcaps.testing.mds.ops_attr import FILE_LAYOUT, touch
from cephcaps.testing.mds.ops_read import file_mode, open_
from cephcaps.testing.mds.outcome import Outcome
from cephcaps.testing.mds.paths import name_to_change, names_to_change
from cephcaps.testing.mds.ranges import FIRST_RANGE
from cephcaps.testing.mds.request import Refused, Request
from cephcaps.testing.mds.walk import Place
from cephwire.capbits import FileMode, wanted_for_mode
from cephwire.reply import CreatedInode
from cephwire.request import NO_OWNER
from cephwire.requestargs import MkdirArgs, MknodArgs, OpenArgs, OpenFlag

if TYPE_CHECKING:
    from cephcaps.testing.mds.server import Mds

__all__ = ["create", "link", "mkdir", "mknod", "symlink"]


def begin(mds: Mds, request: Request) -> tuple[Inode, str]:
    """Where a new name is to be, locked for it; it must not be there."""
    directory, name = name_to_change(mds, request, makes=True)
    if name in directory.entries:
        raise Refused(errno.EEXIST)
    return directory, name


def new_inode(mds: Mds, request: Request, directory: Inode, mode: int) -> Inode:
    message = request.message
    # The client's first: only once that is safe does it have numbers set aside (ceph: ``Server::early_reply``).
    request.patient = not request.session.inos
    inode = Inode(mds.tree.new_ino(request.session.inos), mode, message.stamp)
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
    directory, text = name_to_change(mds, request, makes=True, or_opens=True)
    there = directory.entries.get(text)
    if there is not None:
        if args.flags & OpenFlag.EXCL:
            raise Refused(errno.EEXIST)
        outcome = open_(mds, request)
        outcome.directory, outcome.name, outcome.dentry = Place(directory), text, there
        return outcome
    if "/" not in request.message.path.path:
        mds.caps.holding.keep(request, directory)
    inode = new_inode(mds, request, directory, stat.S_IFREG | stat.S_IMODE(args.mode))
    mode = file_mode(args.flags)
    request.session.opened.add(inode)
    mds.caps.want(inode, request.session, wanted_for_mode(mode))
    inode.auth.state = inode.xattr.state = State.EXCL
    outcome = name(mds, request, directory, text, inode)
    outcome.extra = CreatedInode(inode.ino, ())
    if mode & FileMode.WR:
        inode.max_size[request.session.client] = FIRST_RANGE
    outcome.once_safe.append(lambda: mds.ranges.share(inode))
    return outcome


def mknod(mds: Mds, request: Request) -> Outcome:
    args = request.message.args
    assert isinstance(args, MknodArgs)
    request.uses_caches = False
    directory, text = begin(mds, request)
    mode = args.mode if stat.S_IFMT(args.mode) else args.mode | stat.S_IFREG
    inode = new_inode(mds, request, directory, mode)
    inode.rdev = args.rdev
    outcome = name(mds, request, directory, text, inode)
    if inode.is_file:
        _favour(mds, request, inode)
        inode.max_size[request.session.client] = FIRST_RANGE
        outcome.once_safe.append(lambda: mds.ranges.share(inode))
    return outcome


def mkdir(mds: Mds, request: Request) -> Outcome:
    args = request.message.args
    assert isinstance(args, MkdirArgs)
    request.uses_caches = False
    directory, text = begin(mds, request)
    inode = new_inode(mds, request, directory, stat.S_IFDIR | stat.S_IMODE(args.mode))
    _favour(mds, request, inode)
    return name(mds, request, directory, text, inode)


def _favour(mds: Mds, request: Request, inode: Inode) -> None:
    """A new inode is its maker's alone."""
    cap = mds.caps.want(inode, request.session, wanted_for_mode(FileMode.RDWR))
    cap.want(0)
    inode.file.state = inode.auth.state = inode.xattr.state = State.EXCL


def symlink(mds: Mds, request: Request) -> Outcome:
    request.uses_caches = False
    directory, text = begin(mds, request)
    inode = new_inode(mds, request, directory, stat.S_IFLNK | 0o777)
    inode.symlink = request.message.path2.path
    inode.size = inode.rbytes = len(inode.symlink.encode("utf-8", "surrogateescape"))
    return name(mds, request, directory, text, inode)


def link(mds: Mds, request: Request) -> Outcome:
    message = request.message
    request.uses_caches = False
    if message.path2.path:
        (directory, text), (source, other) = names_to_change(mds, request, moves=False)
        if other not in source.entries:
            raise Refused(errno.ENOENT)
        if text in directory.entries:
            raise Refused(errno.EEXIST)
        inode = source.entries[other].inode
    else:
        inode = mds.walker.walk(message.path2).live
        if not inode.links:
            raise Refused(errno.EINVAL)
        directory, text = name_to_change(mds, request)
        if text in directory.entries:
            raise Refused(errno.EEXIST)
    if inode.is_dir:
        raise Refused(errno.EINVAL)
    mds.caps.holding.acquire(request, of(inode, "L", "x"))
    inode.nlink += 1
    inode.own_realm = True
    touch(inode, message.stamp)
    outcome = name(mds, request, directory, text, inode)
    outcome.created = 0
    return outcome
