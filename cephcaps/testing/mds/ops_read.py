"""Looking: names, attributes, listings, opening. Facts: ceph: src/mds/Server.cc."""

from __future__ import annotations

import errno
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

from cephcaps.testing.mds.holding import of
from cephcaps.testing.mds.inode import Inode, name_hash
from cephcaps.testing.mds.ops_attr import tell_truncated, truncate
from cephcaps.testing.mds.outcome import Entry, Listing, Outcome
from cephcaps.testing.mds.paths import follow, follow_to_name
from cephcaps.testing.mds.ranges import FIRST_RANGE
from cephcaps.testing.mds.request import Need, Refused, Request
from cephcaps.testing.mds.walk import Place
from cephwire.capbits import Cap as Bit
from cephwire.capbits import FileMode, wanted_for_mode
from cephwire.reply import ReaddirFlag
from cephwire.request import RequestFlag
from cephwire.requestargs import GetattrArgs, LookupInoArgs, OpenArgs, OpenFlag, ReaddirArgs

if TYPE_CHECKING:
    from cephcaps.testing.mds.server import Mds

__all__ = ["file_mode", "getattr_", "lookup", "lookup_ino", "lookup_name", "lookup_parent", "open_", "readdir"]

ENTRY_SIZE = 400
"""Bytes that an entry of a listing takes, about."""
LISTING_SIZE = 512 * 1024
"""Bytes of a listing that asks for no other (ceph: ``Server::handle_client_readdir``)."""


def rdlocks_for(request: Request, place: Place, mask: int) -> list[Need]:
    """What must be locked for ``mask`` to be valid: not what the client has to itself."""
    inode = place.inode
    if place.snapdir or not isinstance(inode, Inode):
        return []
    cap = inode.caps.get(request.session)
    issued = 0 if cap is None else cap.issued
    needs = [
        *(of(inode, "L", "r") if mask & Bit.LINK_SHARED and not issued & Bit.LINK_EXCL else ()),
        *(of(inode, "A", "r") if mask & Bit.AUTH_SHARED and not issued & Bit.AUTH_EXCL else ()),
        *(of(inode, "X", "r") if mask & Bit.XATTR_SHARED and not issued & Bit.XATTR_EXCL else ()),
    ]
    if mask & Bit.FILE_SHARED and not issued & Bit.FILE_EXCL:
        lock = inode.file
        # While a lock is on its way, it is not waited for by who may look.
        if lock in request.held or lock.stable or lock.wrlocks or not lock.can_read(request.session):
            needs += of(inode, "F", "r")
    return needs


def mask_of(request: Request) -> int:
    args = request.message.args
    return args.mask if isinstance(args, GetattrArgs | LookupInoArgs | OpenArgs) else 0


def lookup(mds: Mds, request: Request) -> Outcome:
    place, name = follow_to_name(mds, request, request.message.path)
    found = follow(mds, request, request.message.path)
    mds.caps.holding.acquire(request, rdlocks_for(request, found, mask_of(request)))
    if place.snapdir:
        return Outcome(found)
    # In a snapshot, too: libcephfs finds its way back to the snapshot by the directories it was told of.
    dentry = place.inode.entries[name] if isinstance(place.inode, Inode) else None
    return Outcome(found, place, name, dentry)


def getattr_(mds: Mds, request: Request) -> Outcome:
    place = follow(mds, request, request.message.path)
    mds.caps.holding.acquire(request, rdlocks_for(request, place, mask_of(request)))
    return Outcome(place)


def lookup_ino(mds: Mds, request: Request) -> Outcome:
    inode = mds.tree.inodes.get(request.message.path.ino)
    if inode is None:
        raise Refused(errno.ESTALE)
    place = Place(inode)
    mask = mask_of(request) & (Bit.AUTH_SHARED | Bit.XATTR_SHARED)
    mds.caps.holding.acquire(request, rdlocks_for(request, place, mask))
    return Outcome(place)


def lookup_parent(mds: Mds, request: Request) -> Outcome:
    inode = mds.walker.walk(request.message.path).live
    if inode.parent is None:
        raise Refused(errno.EINVAL)
    return Outcome(Place(inode.parent))


def lookup_name(mds: Mds, request: Request) -> Outcome:
    inode = mds.walker.walk(request.message.path).live
    if not inode.links:
        raise Refused(errno.ESTALE)
    dentry = inode.links[0]
    return Outcome(Place(inode), Place(dentry.dir), dentry.name, dentry)


# Opening


def file_mode(flags: int) -> int:
    """How a file is held open (ceph: src/common/ceph_fs.cc, ``ceph_flags_to_mode``)."""
    if flags & OpenFlag.DIRECTORY:
        return FileMode.PIN
    mode = {OpenFlag.WRONLY: FileMode.WR, OpenFlag.RDWR: FileMode.RDWR}.get(OpenFlag(flags & 3), FileMode.RD)
    return mode | (FileMode.LAZY if flags & OpenFlag.LAZY else 0)


def open_(mds: Mds, request: Request) -> Outcome:
    args = request.message.args
    assert isinstance(args, OpenArgs)
    place = follow(mds, request, request.message.path)
    inode, flags = place.inode, args.flags
    mode = file_mode(flags) if inode.is_file else FileMode.PIN
    writes = bool(flags & 3)
    if flags & OpenFlag.DIRECTORY and not inode.is_dir:
        raise Refused(errno.ENOTDIR)
    if inode.is_dir and writes:
        raise Refused(errno.EISDIR)
    if place.snapdir or not isinstance(inode, Inode):
        if writes or flags & OpenFlag.TRUNC:
            raise Refused(errno.EROFS)
        return Outcome(place)
    needs = rdlocks_for(request, place, mask_of(request) & (Bit.AUTH_SHARED | Bit.XATTR_SHARED))
    cuts = bool(flags & OpenFlag.TRUNC) and inode.is_file
    if cuts:
        needs += of(inode, "F", "x")
    mds.caps.holding.acquire(request, needs)
    if inode.is_file:
        request.session.opened.add(inode)
    mds.caps.want(inode, request.session, wanted_for_mode(mode))
    outcome = Outcome(place, changed=cuts)
    if cuts:
        shorter = inode.size > 0
        truncate(mds, inode, 0, request.message.stamp)
        inode.ctime = inode.mtime = max(inode.ctime, request.message.stamp)
        if mode & FileMode.WR:
            ranges = {**inode.max_size, request.session.client: FIRST_RANGE}
            outcome.once_safe.append(mds.ranges.change(inode, ranges))
            outcome.in_the_end.append(lambda: mds.ranges.share(inode))
        if shorter:
            outcome.once_safe.append(lambda: tell_truncated(mds, inode))
        mds.flush_soon()
    elif mode & FileMode.WR:
        mds.ranges.check(inode)
    if request.message.flags & RequestFlag.WANT_DENTRY and inode.links:
        dentry = inode.links[0]
        outcome.directory, outcome.name, outcome.dentry = Place(dentry.dir), dentry.name, dentry
    return outcome


# Listing


def readdir(mds: Mds, request: Request) -> Outcome:
    args = request.message.args
    assert isinstance(args, ReaddirArgs)
    place = follow(mds, request, request.message.path)
    inode = place.inode
    if not inode.is_dir:
        raise Refused(errno.ENOTDIR)
    after = request.message.path2.path
    most = args.max_entries or max((args.max_bytes or LISTING_SIZE) // ENTRY_SIZE, 1)
    if isinstance(inode, Inode):
        mds.caps.holding.acquire(request, of(inode, "F", "r"))
        order = inode.listing()
    else:
        order = sorted((name_hash(name), name) for name in inode.names)
    begin = 0
    if after:
        begin = bisect_right(order, (name_hash(after), after))
    elif args.offset_hash:
        begin = bisect_left(order, (args.offset_hash, ""))
    shown = order[begin : begin + most]
    flags = ReaddirFlag.HASH_ORDER | ReaddirFlag.OFFSET_HASH
    if begin + most >= len(order):
        flags |= ReaddirFlag.FRAG_END
        if not after and not args.offset_hash:
            flags |= ReaddirFlag.FRAG_COMPLETE
    entries = []
    for _, name in shown:
        if isinstance(inode, Inode):
            dentry = inode.entries[name]
            entries.append(Entry(name, Place(dentry.inode), dentry))
        else:
            entries.append(Entry(name, Place(inode.names[name], place.snapshot)))
    return Outcome(place, listing=Listing(place, entries, flags))
