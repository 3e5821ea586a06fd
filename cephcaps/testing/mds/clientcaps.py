"""What clients say of their caps: confirmed, flushed, wanted, given back.

Facts: ceph: src/mds/Locker.cc (``handle_client_caps``, ``_do_cap_update``, ``process_request_cap_release``,
``_do_cap_release``, ``adjust_cap_wanted``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cephcaps.testing.mds.flushes import calc_max_size, take_flush
from cephcaps.testing.mds.inode import Cap, Inode
from cephcaps.testing.mds.session import Session
from cephwire.capbits import Cap as Bit
from cephwire.caprelease import CapItem
from cephwire.caps import CapBody, CapOp, ClientCaps, ClientCapsFlag
from cephwire.inode import FileLayout
from cephwire.request import RequestRelease

if TYPE_CHECKING:
    from cephcaps.testing.mds.server import Mds

__all__ = ["ClientCapsTaker", "fit_max_size"]

NO_LAYOUT = FileLayout(0, 0, 0, 0, 0, 0, 0)
EMPTY_BODY = CapBody(0, 0, 0, 0, 0, 0, 0, NO_LAYOUT, 0)


class ClientCapsTaker:
    """Takes CLIENT_CAPS, CLIENT_CAPRELEASE and the releases in requests."""

    def __init__(self, mds: Mds) -> None:
        self._mds = mds

    def received(self, session: Session, tid: int, message: ClientCaps) -> None:
        if message.op == CapOp.FLUSHSNAP:
            self._flush_snap(session, tid, message)
            return
        if message.oldest_flush_tid:
            session.completed_flushes = {done for done in session.completed_flushes if done >= message.oldest_flush_tid}
        inode = self._mds.tree.inodes.get(message.ino)
        cap = None if inode is None else inode.caps.get(session)
        if inode is None or cap is None or message.mseq < cap.mseq or message.cap_id != cap.cap_id:
            return
        if message.op == CapOp.RELEASE:
            self._mds.caps.drop(cap)
            return
        self._mds.caps.confirmed(cap, message.seq, message.caps)
        self._want(cap, message.wanted, message.issue_seq)
        if message.dirty:
            self._flush(session, inode, tid, message)
        asked = message.body.max_size if isinstance(message.body, CapBody) else 0
        self._widen(inode, cap, asked)
        self._mds.caps.settle(inode)
        self._mds.caps.evaluate(inode)
        if cap.session in inode.caps:
            self._mds.caps.issue(inode, [cap])

    def _want(self, cap: Cap, wanted: int, issue_seq: int) -> None:
        """Less is believed only of a client that has seen the newest reply."""
        cap.wanted = wanted if issue_seq == cap.issue_seq else cap.wanted | wanted
        if not cap.wanted & (Bit.ANY_FILE_WR | Bit.ANY_FILE_RD):
            cap.session.opened.discard(cap.inode)

    def _flush(self, session: Session, inode: Inode, tid: int, message: ClientCaps) -> None:
        if tid not in session.completed_flushes:
            if message.snap_follows < self._mds.snapshots.newest_over(inode):
                # Flushed before the client heard of a snapshot: it is in that, too.
                for copy in self._mds.snapshots.flushed(inode.ino, message.snap_follows):
                    take_flush(self._mds.tree, copy, message)
            take_flush(self._mds.tree, inode, message)
            if message.oldest_flush_tid:
                session.completed_flushes.add(tid)
        ack = _ack(CapOp.FLUSH_ACK, message)
        inode.unsafe_flushes += 1

        def acknowledge() -> None:
            inode.unsafe_flushes -= 1
            self._acknowledge(session, ack, tid)

        self._mds.journaled(acknowledge, at_once=bool(message.flags & ClientCapsFlag.SYNC))

    def _flush_snap(self, session: Session, tid: int, message: ClientCaps) -> None:
        if not message.dirty:
            return
        if tid not in session.completed_flushes:
            for copy in self._mds.snapshots.flushed(message.ino, message.snap_follows):
                take_flush(self._mds.tree, copy, message)
            session.completed_flushes.add(tid)
        ack = _ack(CapOp.FLUSHSNAP_ACK, message)
        self._mds.journaled(lambda: self._acknowledge(session, ack, tid))

    def _acknowledge(self, session: Session, ack: ClientCaps, tid: int) -> None:
        if session.state != "closed":
            self._mds.push(session, ack, tid=tid)

    def _widen(self, inode: Inode, cap: Cap, asked: int) -> None:
        """Let a client that writes go on to where it asks for."""
        before = inode.max_size.get(cap.session.client, 0)
        fit_max_size(inode, cap, asked if asked > before else 0)
        now = inode.max_size.get(cap.session.client, 0)
        if now > before and before and cap.pending & (Bit.FILE_WR | Bit.FILE_BUFFER):
            cap.seq += 1
            self._mds.tell_caps(cap, CapOp.GRANT)

    # Given back

    def released(self, session: Session, item: CapItem) -> None:
        inode = self._mds.tree.inodes.get(item.ino)
        cap = None if inode is None else inode.caps.get(session)
        if inode is None or cap is None or cap.cap_id != item.cap_id or item.mseq < cap.mseq:
            return
        if item.issue_seq == cap.issue_seq:
            self._mds.caps.drop(cap)
        else:
            self._mds.caps.settle(inode)

    def released_with_request(self, session: Session, item: RequestRelease) -> None:
        inode = self._mds.tree.inodes.get(item.ino)
        if inode is None:
            return
        if item.dname:
            self._mds.leases.released(session, inode, item.dname)
        cap = inode.caps.get(session)
        if cap is None or cap.cap_id != item.cap_id or item.mseq < cap.mseq:
            return
        if item.seq == cap.seq:
            cap.pending &= item.caps
        self._mds.caps.confirmed(cap, item.seq, item.caps)
        self._want(cap, item.wanted, item.issue_seq)
        self._mds.caps.settle(inode)


def fit_max_size(inode: Inode, cap: Cap, asked: int = 0) -> None:
    """How far this client may write, as a writer or none (ceph: ``calc_new_client_ranges``)."""
    client = cap.session.client
    if not inode.is_file or not (cap.issued | cap.wanted) & Bit.ANY_FILE_WR:
        inode.max_size.pop(client, None)
        return
    inode.max_size[client] = max(inode.max_size.get(client, 0), calc_max_size(max(asked, inode.size)))


def _ack(op: CapOp, message: ClientCaps) -> ClientCaps:
    snap = op == CapOp.FLUSHSNAP_ACK
    return ClientCaps(
        op=op,
        ino=message.ino,
        realm=0,
        cap_id=0 if snap else message.cap_id,
        seq=message.seq,
        issue_seq=0,
        caps=0 if snap else message.caps,
        wanted=0,
        dirty=message.dirty,
        mseq=message.mseq,
        snap_follows=message.snap_follows if snap else 0,
        uid=0,
        gid=0,
        mode=0,
        nlink=0,
        xattr_version=0,
        body=EMPTY_BODY,
        snap_trace=b"",
        xattrs=b"",
        oldest_flush_tid=message.oldest_flush_tid,
    )
