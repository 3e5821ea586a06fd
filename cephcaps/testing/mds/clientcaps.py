"""What clients say of their caps: confirmed, flushed, wanted, given back.

Facts: ceph: src/mds/Locker.cc (``handle_client_caps``, ``_do_cap_update``, ``process_request_cap_release``,
``_do_cap_release``, ``adjust_cap_wanted``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from cephcaps.testing.mds.capability import Cap
from cephcaps.testing.mds.flushes import take_flush
from cephcaps.testing.mds.locks import BUFFER, WR, Who
from cephcaps.testing.mds.ranges import calc_max_size, writes
from cephcaps.testing.mds.request import Mutation, Request
from cephcaps.testing.mds.session import Session
from cephwire.capbits import Cap as Bit
from cephwire.caprelease import CapItem
from cephwire.caps import CapBody, CapOp, ClientCaps, ClientCapsFlag
from cephwire.inode import FileLayout
from cephwire.request import RequestRelease

if TYPE_CHECKING:
    from cephcaps.testing.mds.server import Mds

__all__ = ["ClientCapsTaker"]

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
        keeper = self._mds.caps
        if message.op == CapOp.RELEASE:
            keeper.drop(cap)
            return
        keeper.confirmed(cap, message.seq, message.caps)
        needs_flush = bool(message.flags & ClientCapsFlag.SYNC)
        if message.wanted != cap.wanted:
            needs_flush |= keeper.awaits_journal(inode, message.wanted & ~cap.pending)
            self._want(cap, message.wanted, message.issue_seq)
        ack = _ack(CapOp.FLUSH_ACK, message) if message.dirty else None
        if self._update(cap, tid, message, ack):
            keeper.locker.evaluate(inode)
            needs_flush |= keeper.awaits_journal(inode, cap.wanted & ~cap.pending)
        else:
            if ack is not None:
                self._mds.push(session, ack, tid=tid)
            if not keeper.locker.evaluate(inode) and session in inode.caps:
                keeper.reissue(cap)
        if needs_flush:
            self._mds.flush_soon()

    def _want(self, cap: Cap, wanted: int, issue_seq: int) -> None:
        """Less is believed only of a client that has seen the newest reply."""
        cap.want(wanted if issue_seq == cap.issue_seq else cap.wanted | wanted)
        if not cap.wanted & (Bit.ANY_FILE_WR | Bit.ANY_FILE_RD):
            cap.session.opened.discard(cap.inode)

    def _update(self, cap: Cap, tid: int, message: ClientCaps, ack: ClientCaps | None) -> bool:
        """Take over what it has changed, and let it write as far as it asks for; whether that is to be made safe
        (ceph: ``_do_cap_update``)."""
        inode, session = cap.inode, cap.session
        new_max = self._new_max(cap, message) if inode.is_file else None
        known = tid in session.completed_flushes
        if (not message.dirty or known) and new_max is None:
            return False
        mutation = Mutation(None)
        if message.dirty and not known:
            if message.snap_follows < self._mds.snapshots.newest_over(inode):
                # Flushed before the client heard of a snapshot: it is in that, too.
                for copy in self._mds.snapshots.flushed(inode.ino, message.snap_follows):
                    take_flush(self._mds.tree, copy, message)
            take_flush(self._mds.tree, inode, message)
            if message.oldest_flush_tid:
                session.completed_flushes.add(tid)
        safe: Callable[[], None] | None = None
        if new_max is not None:
            ranges = {**inode.max_size, session.client: new_max}
            safe = self._mds.ranges.change(inode, {client: most for client, most in ranges.items() if most})
            cap.notable |= bool(new_max)
            cap.less_notable()
        holding = self._mds.caps.holding
        if new_max is not None or message.dirty & (Bit.FILE_EXCL | Bit.FILE_WR):
            holding.force_wrlock(mutation, inode.file)
        if message.dirty & Bit.AUTH_EXCL:
            holding.force_wrlock(mutation, inode.auth)
        if message.dirty & Bit.XATTR_EXCL:
            holding.force_wrlock(mutation, inode.xattr)
        self._mds.journaled(lambda: self._updated(cap, mutation, ack, tid, safe))
        if new_max or self._mds.caps.awaits_journal(inode, message.dirty):
            self._mds.flush_soon()
        return True

    def _new_max(self, cap: Cap, message: ClientCaps) -> int | None:
        """How far the client may write from now on, if that is another place than before."""
        inode = cap.inode
        old = inode.max_size.get(cap.session.client, 0)
        body = message.body
        assert isinstance(body, CapBody)
        if writes(cap):
            new = calc_max_size(body.max_size if body.max_size > old else body.size)
            if new <= old:
                return None
        elif old:
            new = 0
        else:
            return None
        if not self._mds.ranges.lock_for(inode, cap):
            self._mds.ranges.check_later(inode, new if body.max_size > old else 0)
            return None
        return new

    def _updated(
        self, cap: Cap, mutation: Mutation, ack: ClientCaps | None, tid: int, safe: Callable[[], None] | None
    ) -> None:
        """It is safe (ceph: ``file_update_finish``)."""
        inode, keeper = cap.inode, self._mds.caps
        if safe is not None:
            safe()
        if ack is not None:
            self._acknowledge(cap.session, ack, tid)
        to = keeper.holding.drop(mutation)
        if inode not in to and inode.caps.get(cap.session) is cap and cap.wanted & ~cap.pending:
            keeper.reissue(cap)
        if safe is not None and inode.file.allowed(Who.LONER) & (WR | BUFFER):
            self._mds.ranges.share(inode)
        keeper.locker.tell(to)

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

    # Given back

    def released(self, session: Session, item: CapItem) -> None:
        inode = self._mds.tree.inodes.get(item.ino)
        cap = None if inode is None else inode.caps.get(session)
        if inode is None or cap is None or cap.cap_id != item.cap_id or item.mseq < cap.mseq:
            return
        if item.issue_seq == cap.issue_seq:
            self._mds.caps.drop(cap)
        else:
            cap.forget_before(item.issue_seq)
            self._mds.caps.locker.gather_all(inode)

    def released_with_request(self, request: Request, item: RequestRelease) -> None:
        inode, session = self._mds.tree.inodes.get(item.ino), request.session
        if inode is None or session is None:
            return
        if item.dname:
            self._mds.leases.released(session, inode, item.dname)
        cap = inode.caps.get(session)
        if cap is None or cap.cap_id != item.cap_id or item.mseq < cap.mseq:
            return
        self._mds.caps.confirmed(cap, item.seq, item.caps)
        self._want(cap, item.wanted, item.issue_seq)
        cap.suppressed += 1
        self._mds.caps.locker.evaluate(inode)
        cap.suppressed -= 1
        request.releases[inode.ino] = cap.seq


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
