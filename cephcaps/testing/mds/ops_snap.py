"""Snapshots made, listed, renamed and removed. Facts: ceph: src/mds/Server.cc (``handle_client_mksnap`` ...)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from cephcaps.testing.mds.inode import Inode
from cephcaps.testing.mds.outcome import Entry, Listing, Outcome
from cephcaps.testing.mds.request import Refused, Request
from cephcaps.testing.mds.snaps import Realm
from cephcaps.testing.mds.walk import Place
from cephwire.codec import Codec
from cephwire.errors import MalformedMessage
from cephwire.reply import ReaddirFlag
from cephwire.request import SNAP_PAYLOAD, FilePath, SnapPayload
from cephwire.snap import SnapOp

if TYPE_CHECKING:
    from cephcaps.testing.mds.server import Mds

__all__ = ["list_snapshots", "make", "remove", "rename"]

payloads: Codec[SnapPayload] = Codec(SNAP_PAYLOAD)


def _snapshot_name(mds: Mds, path: FilePath) -> tuple[Inode, str]:
    place, name = mds.walker.walk_to_name(path)
    if not place.snapdir or not isinstance(place.inode, Inode):
        raise Refused(errno.EROFS)
    if name.startswith("_"):
        raise Refused(errno.EINVAL)  # such names say that a snapshot was made further up
    return place.inode, name


def make(mds: Mds, request: Request) -> Outcome:
    message = request.message
    directory, name = _snapshot_name(mds, message.path)
    if directory.realm is not None and name in directory.realm.snapshots:
        raise Refused(errno.EEXIST)
    try:
        metadata = payloads.decode(message.data).metadata if message.data else {}
    except MalformedMessage:
        raise Refused(errno.EINVAL) from None
    snapshot, fresh = mds.snapshots.make(directory, name, message.stamp, dict(metadata))
    mds.tell_realm(directory, SnapOp.SPLIT if fresh else SnapOp.UPDATE)
    place = Place(snapshot.inodes[directory.ino], snapshot)
    return Outcome(place, changed=True)


def _existing(mds: Mds, path: FilePath) -> tuple[Inode, Realm, str]:
    directory, name = _snapshot_name(mds, path)
    if directory.realm is None or name not in directory.realm.snapshots:
        raise Refused(errno.ENOENT)
    return directory, directory.realm, name


def remove(mds: Mds, request: Request) -> Outcome:
    directory, realm, name = _existing(mds, request.message.path)
    mds.snapshots.remove(realm, name, request.message.stamp)
    mds.tell_realm(directory, SnapOp.UPDATE)
    return Outcome(Place(directory), changed=True)


def rename(mds: Mds, request: Request) -> Outcome:
    directory, realm, old = _existing(mds, request.message.path2)
    target, new = _snapshot_name(mds, request.message.path)
    if target is not directory:
        raise Refused(errno.EXDEV)
    if new in realm.snapshots:
        raise Refused(errno.EEXIST)
    snapshot = realm.snapshots.pop(old)
    snapshot.name = new
    realm.snapshots[new] = snapshot
    return Outcome(Place(snapshot.inodes[directory.ino], snapshot), changed=True)


def list_snapshots(mds: Mds, request: Request) -> Outcome:
    place = mds.walker.walk(request.message.path)
    inode = place.inode
    if not inode.is_dir:
        raise Refused(errno.ENOTDIR)
    entries = []
    if isinstance(inode, Inode):
        after = request.message.path2.path
        shown = sorted(mds.walker.listed(inode), key=lambda pair: pair[0])
        entries = [Entry(name, Place(snapshot.inodes[inode.ino], snapshot)) for name, snapshot in shown if name > after]
    flags = ReaddirFlag.FRAG_END | ReaddirFlag.FRAG_COMPLETE
    return Outcome(place, listing=Listing(place, entries, flags))
