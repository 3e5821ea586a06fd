"""Replies: what is told, and the caps and leases that go with it.

Facts: ceph: src/mds/Server.cc (``reply_client_request``, ``set_trace_dist``), src/mds/CInode.cc
(``encode_inodestat``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from cephcaps.testing.mds.inode import Inode
from cephcaps.testing.mds.outcome import Listing, Outcome
from cephcaps.testing.mds.request import Request
from cephcaps.testing.mds.session import Session
from cephcaps.testing.mds.stats import DIR_STAT, NO_LEASE, live_stat, snapdir_stat, snapped_stat
from cephcaps.testing.mds.walk import Place
from cephwire.inode import InodeStat, LeaseStat
from cephwire.reply import (
    ClientReply,
    CreatedInode,
    DirEntry,
    ReaddirReply,
    ReplyExtra,
    ReplyTrace,
)
from cephwire.request import ClientRequest
from cephwire.requestop import RequestOp
from cephwire.session import ClientFeature

if TYPE_CHECKING:
    from cephcaps.testing.mds.server import Mds

__all__ = ["Replies"]

NO_TRACE = ReplyTrace(None, None, None, None, None)
SNAP_LEASE = LeaseStat(3, 2**32 - 1, 0)
STRUCTURED = (
    RequestOp.CREATE,
    RequestOp.OPEN,
    RequestOp.READDIR,
    RequestOp.LSSNAP,
    RequestOp.READDIR_SNAPDIFF,
    RequestOp.GETFILELOCK,
    RequestOp.GETVXATTR,
    RequestOp.FILE_BLOCKDIFF,
)
"""Ops whose ``extra`` is None, and not empty bytes, where there is nothing to say."""


class Replies:
    """Makes and sends replies."""

    def __init__(self, mds: Mds) -> None:
        self._mds = mds

    def refuse(self, request: Request, number: int) -> None:
        self._send(request.session, request.tid, self._bare(request.message.op, -number, safe=1))

    def tell(self, request: Request, outcome: Outcome) -> None:
        """Answer, with all that the client may know and have from now on."""
        session, message = request.session, request.message
        told_dir = outcome.directory
        for place in (outcome.directory, outcome.target):
            if place is not None:
                request.releases.pop(place.inode.ino, None)
        snap = self._snap_trace(session, outcome)
        trace = ReplyTrace(
            dir=None if told_dir is None else self._stat(session, told_dir),
            dirstat=None if told_dir is None else DIR_STAT,
            dname=None if told_dir is None else outcome.name,
            dlease=None if told_dir is None else self._lease(session, outcome),
            target=None if outcome.target is None else self._stat(session, outcome.target),
        )
        reply = ClientReply(
            op=message.op,
            result=0,
            mdsmap_epoch=0 if request.early else self._mds.maps.mds_epoch,
            safe=int(not request.early),
            is_dentry=int(told_dir is not None),
            is_target=int(outcome.target is not None),
            trace=trace,
            extra=self._extra(session, message, outcome),
            snap=snap,
        )
        self._send(session, request.tid, reply)

    def again(self, session: Session, tid: int, message: ClientRequest, created: int) -> None:
        """The client asks for what is done already."""
        extra: ReplyExtra = b""
        if message.op in STRUCTURED:
            extra = CreatedInode(created, ()) if created else None
        self._send(session, tid, msgspec.structs.replace(self._bare(message.op, 0, safe=1), extra=extra))

    def safe(self, request: Request) -> None:
        """What was answered already will stay."""
        self._send(request.session, request.tid, self._bare(request.message.op, 0, safe=1))

    def _bare(self, op: int, result: int, *, safe: int) -> ClientReply:
        extra = None if op in STRUCTURED else b""
        return ClientReply(op, result, self._mds.maps.mds_epoch, safe, 0, 0, NO_TRACE, extra, b"")

    def _send(self, session: Session, tid: int, reply: ClientReply) -> None:
        if session.state != "closed":
            self._mds.send(session.remote, reply, tid=tid)

    # Parts

    def _stat(self, session: Session, place: Place) -> InodeStat:
        if place.snapdir:
            assert isinstance(place.inode, Inode)
            return snapdir_stat(place.inode)
        if isinstance(place.inode, Inode):
            return self._live(session, place.inode)
        return snapped_stat(place.inode, place.snapid, place.snapshot)

    def _live(self, session: Session, inode: Inode) -> InodeStat:
        cap = self._mds.caps.get(inode, session)
        cap.add((cap.wanted | inode.likes) & self._mds.caps.tellable(cap))
        return live_stat(inode, cap, self._mds.realm_of(inode))

    def _lease(self, session: Session, outcome: Outcome) -> LeaseStat:
        return NO_LEASE if outcome.dentry is None else self._mds.leases.give(session, outcome.dentry)

    def _extra(self, session: Session, message: ClientRequest, outcome: Outcome) -> ReplyExtra:
        if outcome.listing is not None:
            return self._listing(session, outcome.listing)
        if outcome.extra is not None:
            return outcome.extra
        return None if message.op in STRUCTURED else b""

    def _listing(self, session: Session, listing: Listing) -> ReaddirReply:
        entries = []
        above = listing.place.inode
        realm = self._mds.realm_of(above) if isinstance(above, Inode) else 0
        for entry in listing.entries:
            inode = entry.place.inode
            if entry.dentry is not None and isinstance(inode, Inode):
                lease = self._mds.leases.give(session, entry.dentry)
                if inode.own_realm or self._mds.realm_of(inode) != realm:
                    stat = live_stat(inode, None, 0)  # no caps of what lies in another realm
                else:
                    stat = self._live(session, inode)
            else:
                stat, lease = self._stat(session, entry.place), SNAP_LEASE
            entries.append(DirEntry(entry.name, lease, stat))
        return ReaddirReply(DIR_STAT, listing.flags, tuple(entries))

    def _snap_trace(self, session: Session, outcome: Outcome) -> bytes:
        place = outcome.target or outcome.directory
        if place is None or place.snapdir or not isinstance(place.inode, Inode):
            return b""
        inode = place.inode
        modern = session.has(ClientFeature.NEW_SNAPREALM_INFO)
        return self._mds.snapshots.trace(self._mds.snapshots.realm_of(inode), modern=modern)
