"""Replies: what is told, and the caps and leases that go with it.

Facts: ceph: src/mds/Server.cc (``reply_client_request``, ``set_trace_dist``), src/mds/CInode.cc
(``encode_inodestat``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from cephcaps.testing.mds.inode import Cap, Inode
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
        """Answer, with all that the client may know and have from now on; give back the request's locks."""
        session, message = request.session, request.message
        touched = self._suppress(session, outcome)
        early = outcome.changed and self._may_answer_early(session, outcome)
        if outcome.changed and not early:
            self._mds.caps.release(request)
        # Else it is told while the locks are still held, so that what a change has locked is not given with the answer.
        told_dir = outcome.directory
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
            mdsmap_epoch=0 if early else self._mds.maps.mds_epoch,
            safe=int(not early),
            is_dentry=int(told_dir is not None),
            is_target=int(outcome.target is not None),
            trace=trace,
            extra=self._extra(session, message, outcome),
            snap=self._snap_trace(session, outcome),
        )
        self._send(session, request.tid, reply)
        for cap in touched:
            cap.suppressed = False
        self._mds.caps.release(request)
        for cap in touched:
            if cap.pending & ~cap.inode.allowed(session):
                self._mds.caps.issue(cap.inode, [cap])
        if outcome.changed:
            session.completed[request.tid] = outcome.created
        if early:
            self._mds.journaled(lambda: self._safe(session, request.tid, message))

    def again(self, session: Session, tid: int, message: ClientRequest, created: int) -> None:
        """The client asks for what is done already."""
        extra: ReplyExtra = b""
        if message.op in STRUCTURED:
            extra = CreatedInode(created, ()) if created else None
        self._send(session, tid, msgspec.structs.replace(self._bare(message.op, 0, safe=1), extra=extra))

    def _safe(self, session: Session, tid: int, message: ClientRequest) -> None:
        if session.state != "closed":
            self._send(session, tid, self._bare(message.op, 0, safe=1))

    def _bare(self, op: int, result: int, *, safe: int) -> ClientReply:
        extra = None if op in STRUCTURED else b""
        return ClientReply(op, result, self._mds.maps.mds_epoch, safe, 0, 0, NO_TRACE, extra, b"")

    def _send(self, session: Session, tid: int, reply: ClientReply) -> None:
        if session.state != "closed":
            self._mds.send(session.remote, reply, tid=tid)

    @staticmethod
    def _may_answer_early(session: Session, outcome: Outcome) -> bool:
        """Not the first change that makes an inode: it also gets the client numbers to come (ceph: ``alloc_ino`` in
        ``Server::early_reply``)."""
        if not outcome.created or session.has_numbers:
            return True
        session.has_numbers = True
        return False

    # Parts

    def _suppress(self, session: Session, outcome: Outcome) -> list[Cap]:
        """Caps that this reply will tell of: no message of their own meanwhile."""
        inodes = [place.inode for place in (outcome.directory, outcome.target) if place is not None]
        caps = [inode.caps[session] for inode in inodes if isinstance(inode, Inode) and session in inode.caps]
        for cap in caps:
            cap.suppressed = True
        return caps

    def _stat(self, session: Session, place: Place) -> InodeStat:
        if place.snapdir:
            assert isinstance(place.inode, Inode)
            return snapdir_stat(place.inode)
        if isinstance(place.inode, Inode):
            return self._live(session, place.inode)
        return snapped_stat(place.inode, place.snapid, place.snapshot)

    def _live(self, session: Session, inode: Inode) -> InodeStat:
        cap = self._mds.caps.get(inode, session)
        cap.add((cap.wanted | inode.likes) & inode.allowed(session))
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
        for entry in listing.entries:
            if entry.dentry is not None:
                stat, lease = self._stat(session, entry.place), self._mds.leases.give(session, entry.dentry)
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
