"""One client's dealings with all ranks of a file system."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import Any

from cephcaps.actions import Action, Done, Failed, Happened
from cephcaps.engine import quota
from cephcaps.engine.inode import Hook, RefWait
from cephcaps.engine.setattr import Change
from cephcaps.engine.xattrs import XattrChange, limit_of
from cephcaps.errors import CephError, ConnectionFailed, MdsError, RequestTimeout, SessionLost
from cephcaps.events import MdsMapChanged, SessionChanged
from cephcaps.mds.requests import Operation, xattr_operation
from cephcaps.mds.routing import Credentials, Router
from cephcaps.mds.session import Session
from cephcaps.mds.waits import Wait
from cephwire.caps import CapOp, ClientCaps
from cephwire.commands import CommandReply
from cephwire.control import ConMode
from cephwire.entity import AnyAddr, EntityType
from cephwire.frames import MessageHeader
from cephwire.lease import ClientLease
from cephwire.mdsmap import MdsMap
from cephwire.quota import ClientQuota
from cephwire.reply import ClientReply, ClientRequestForward
from cephwire.request import FilePath
from cephwire.requestop import RequestOp
from cephwire.snap import ClientSnap

__all__ = ["MdsClient"]

NEVER = float("inf")
U32 = 2**32
NAMED = 10
"""Of what is lost, named in an error's words; its ``lost`` has all."""
RECOVERY_INTERVAL = 30 * 60.0
"""Seconds between recoveries from a blocklisting (kernel: fs/ceph/super.c, ``maybe_recover_session``)."""
HOOK_SHARE = 0.75
"""Of the session's time-out: what a data handler gets for one call."""


class MdsClient(Router):
    """What callers want done, here as far as caps allow or by request; what sessions and the monitors bring.

    Attributes:
        recovers: come back once blocklisted (Linux' mount option recover_session=clean).
    """

    def __init__(
        self,
        credentials: Credentials,
        con_modes: tuple[ConMode, ...],
        metadata: dict[str, str],
        out: list[Action],
    ) -> None:
        super().__init__(credentials, con_modes, metadata, out)
        self.recovers = False
        self._recovered_at = -NEVER

    # Local calls

    def set_attributes(self, token: int, ino: int, what: str, change: Change, deadline: float, now: float) -> None:
        """Change attributes, here or by asking; Done comes when the change counts."""
        if quota.growth_refused(self.engine.cache, ino, change.size):
            self.out.append(Failed(token, MdsError(errno.EDQUOT, None, what)))
            return
        remainder = self.engine.change(ino, change, now)
        if remainder is None:
            self.out.append(Done(token, None))
            return
        operation = Operation(
            RequestOp.SETATTR, FilePath(ino), what, remainder.args, stamp=change.stamp, drop=remainder.drop
        )
        self.call(token, operation, deadline, now)

    def set_xattr(self, token: int, ino: int, what: str, change: XattrChange, deadline: float, now: float) -> None:
        """Change an extended attribute, here or by asking; Done comes when the change counts."""
        assert self.mdsmap is not None
        done = self.engine.change_xattr(ino, change, limit_of(self.mdsmap), now)
        if done == 0:
            self.out.append(Done(token, None))
        elif done is not None:
            self.out.append(Failed(token, MdsError(done, None, what)))
        else:
            self.call(token, xattr_operation(ino, what, change), deadline, now)

    def wait_safe(self, token: int, ino: int, deadline: float, now: float) -> None:
        """Flush what is dirty on ``ino`` (0: on all); Done comes when that and all requests before are durable."""
        self.engine.write_back(ino, now)
        self.waits.add(Wait(token, ino, now, self.requests.last_tid, deadline))
        self._check_waits(now)

    def _flush_for(self, wait: Wait, now: float) -> None:
        """The data ``wait`` is for are with the OSDs: now for what is known of them."""
        flushed_before = self.engine.flushes.last_tid
        wait.flush_tid = self.engine.flush(wait.ino, now, sync=True) if wait.ino else self.engine.flush_all(now)
        if self.requests.unsafe(wait.ino, wait.request_tid) or self.engine.flushing(wait.ino, flushed_before):
            for session in self.sessions.values():
                if session.usable:
                    session.flush_journal()  # it would journal with its next tick otherwise, in up to 5 s

    def _check_waits(self, now: float) -> None:
        if not self.waits:
            return
        for wait in self.waits.written():
            self._flush_for(wait, now)
        self._carry_out(now)
        for wait in self.waits.over():
            if wait.token == self._closing:
                self._close_sessions(now)
            else:
                self.out.append(Done(wait.token, None))

    def cancel(self, token: int, now: float) -> None:
        self.waits.cancel(token)
        self.commands.cancel(token)
        request = self.requests.cancel(token)
        if request is not None:
            self.locks.abandoned(request, now)
        self.engine.refs.cancel(token)

    def close(self, token: int, now: float, *, hurried: bool = False) -> None:
        """Bring every change to safety unless ``hurried``, then close every session; Done comes when the MDSs have
        agreed."""
        self._closing = token
        if hurried:
            self._close_sessions(now)
        else:
            self.wait_safe(token, 0, NEVER, now)

    def _close_sessions(self, now: float) -> None:
        for session in list(self.sessions.values()):
            session.close(now)
        self._maybe_closed()

    def abandon(self, now: float) -> None:
        """Drop every session as it is."""
        if self._closing is not None:
            self.waits.cancel(self._closing)
        self._closing = None
        for request in self.requests:
            self._give_up(request, SessionLost(f"the client was closed before {request} was answered", reason="closed"))
        for session in self.sessions.values():
            session.abandon(now)

    def close_file(self, ino: int, file_mode: int, now: float) -> None:
        self.engine.closed(ino, file_mode, now)
        self._carry_out(now)

    # File data

    def get_refs(self, ino: int, wait: RefWait, now: float) -> None:
        """Take caps into use; Done brings a `Got`."""
        if not self.engine.get_refs(ino, wait, now):
            lost = SessionLost(f"inode {ino:#x}: its caps went with the session that granted them", reason="lost")
            self.out.append(Failed(wait.token, lost))
        self._carry_out(now)

    def put_refs(self, ino: int, bits: int, now: float) -> None:
        self.engine.put_refs(ino, bits, now)
        self._carry_out(now)

    def wrote(self, ino: int, endoff: int, mtime: int, buffered: bool, now: float) -> Exception | None:
        lost = self.engine.wrote(ino, endoff, mtime, now, buffered=buffered)
        self._carry_out(now)
        return lost

    def hook_done(self, ino: int, hook: Hook, error: Exception | None, now: float) -> None:
        """The data handler has ended what it was asked to do."""
        self.engine.hook_done(ino, hook, error, now)
        self._carry_out(now)
        self._check_waits(now)

    @property
    def hook_timeout(self) -> float:
        """Seconds the data handler gets: less than an MDS waits for bits before it evicts us."""
        assert self.mdsmap is not None
        return self.mdsmap.session_timeout * HOOK_SHARE

    # Letting go

    def release(self, ino: int, now: float) -> bool:
        released = self.engine.release(ino, now)
        self._carry_out(now)
        return released

    def drop_caches(self, now: float) -> None:
        self.engine.drop_caches(now)
        self._carry_out(now)

    # Routing

    # What the monitors bring

    def map_received(self, mdsmap: MdsMap, now: float) -> None:
        if self.mdsmap is not None and mdsmap.epoch <= self.mdsmap.epoch:
            return
        self.mdsmap: MdsMap | None = mdsmap
        self.out.append(Happened("mdsmap.received", {"epoch": mdsmap.epoch}))
        self.engine.cache.note(MdsMapChanged(epoch=mdsmap.epoch))
        for rank, session in list(self.sessions.items()):
            session.renewals.set_timeout(mdsmap.session_timeout)
            info = mdsmap.mds_info.get(mdsmap.up.get(rank, 0))
            session.mapped(info, self.address(info) if info is not None else None, now)
            if rank not in mdsmap.in_:
                session.gone(now)
        for request in self.requests:
            if not request.sent and request.rank not in mdsmap.in_:
                request.rank = None
        self._open_needed(now)
        self._route_waiting(now)

    def tickets_renewed(self, now: float) -> None:
        """There may be a ticket for the MDSs now."""
        self.barred = None
        for session in self.sessions.values():
            session.ticket_arrived(now)

    def bar(self, error: CephError, now: float) -> None:
        """The cluster gives us no tickets any more: sessions last as long as their connections."""
        self.barred = error
        for session in list(self.sessions.values()):
            session.ticket_arrived(now)  # those that wait for one need not

    # What sessions bring

    def session_opened(self, session: Session, now: float) -> None:
        self.engine.sessions.opened(session.rank, session.cap_gen, session.renewals.ttl, session.features)
        self._changed(session)
        self._route_waiting(now)

    def num_caps(self, rank: int) -> int:
        return self.engine.cache.rank(rank).num_caps

    def session_renewed(self, session: Session, now: float) -> None:
        self.engine.session_renewed(session.rank, session.renewals.ttl, now)
        self._carry_out(now)
        self._changed(session)

    def session_stale(self, session: Session, now: float) -> None:
        self.engine.sessions.stale(session.rank, session.cap_gen)
        self._changed(session)

    def session_suspended(self, session: Session, now: float) -> None:
        self.engine.sessions.suspended(session.rank)
        self._changed(session)

    def session_unseated(self, session: Session, now: float) -> None:
        self.engine.rank_unseated(session.rank, now)
        self.commands.fail(session.rank, ConnectionFailed(f"{session.who} does not hold the rank any more"))
        self._changed(session)
        self._carry_out(now)

    def session_resumes(self, session: Session, now: float) -> None:
        # What was answered goes before what may not have been, as libcephfs sends it (``resend_unsafe_requests``).
        for request in sorted(self.requests, key=lambda request: not request.unsafe):
            if request.rank != session.rank or not request.sent:
                continue
            if self.locks.needless(request):
                self.requests.finish(request)
            else:
                self._send_again(session, request, now)
        self.engine.reconnects.compose(session.rank, session.cap_gen, session.renewals.ttl)
        self._carry_out(now)

    def session_served(self, session: Session, now: float) -> None:
        self.engine.sessions.opened(session.rank, session.cap_gen, session.renewals.ttl, session.features)
        self.engine.rank_serves(session.rank, now)
        self._changed(session)
        self._carry_out(now)
        self._route_waiting(now)

    def recalled(self, session: Session, max_caps: int, now: float) -> None:
        self.engine.sessions.recalled(session.rank, max_caps, now)
        self._carry_out(now)

    def blocklisted(self, listed: Iterable[AnyAddr], now: float) -> None:
        """The OSDMap bars these addresses from the cluster."""
        if any(self._credentials.instance.meant_by(addr) for addr in listed):
            self._bar_all(now)

    def renounce(self, error: SessionLost, now: float) -> None:
        """The sessions are of an identity that is ours no more: what they still carry is sent, and they are lost."""
        self.engine.flush_all(now)
        self._carry_out(now)
        for session in list(self.sessions.values()):
            if session.usable:
                session.close(now)  # else its caps would hold others up until the MDS misses us
            if session.state not in ("closed", "rejected"):
                session.reject(error, now)

    def _bar_all(self, now: float) -> None:
        barred = "this client's address was blocklisted, as that of an evicted client is: connect anew"
        for session in list(self.sessions.values()):
            session.reject(SessionLost(barred, reason="blocklisted"), now)

    def _recover(self, now: float) -> None:
        """Come back under another address with nothing in the cache, as with Linux' recover_session=clean."""
        self._bar_all(now)
        instance = self._credentials.instance
        instance.nonce = self._credentials.tickets.random_u64() % U32 or 1
        self._recovered_at = now
        self.sessions.clear()
        self.out.append(Happened("client.recovered", {"nonce": instance.nonce}))

    def settle(self, now: float) -> None:
        """All bytes that came together have been taken in."""
        barred = any(
            isinstance(s.final, SessionLost) and s.final.reason == "blocklisted" for s in self.sessions.values()
        )
        if self.recovers and barred and now >= self._recovered_at + RECOVERY_INTERVAL and self._closing is None:
            self._recover(now)
        self.engine.settle(now)
        self._carry_out(now)

    def session_read_only(self, session: Session, now: float) -> None:
        self.out.append(Happened("session.forced_read_only", {"rank": session.rank, "peer": str(session.addr)}))
        self.engine.session_read_only(session.rank, now)
        self._carry_out(now)

    def barrier(self, session: Session, now: float) -> None:
        self.engine.releases.flush(session.rank)
        self._carry_out(now)

    def _changed(self, session: Session) -> None:
        self.engine.cache.note(SessionChanged(rank=session.rank, state=session.state, why=session.why))

    def ticket_refused(self) -> None:
        """An MDS does not take our ticket: its keys may have moved on, and a fresh one may do."""
        self._credentials.tickets.held.pop(EntityType.MDS, None)

    def session_ended(self, session: Session, error: Exception, now: float) -> None:
        self._changed(session)
        self.locks.session_lost(session.rank)
        lost = self.engine.session_lost(session.rank, error, now)
        self._carry_out(now)
        self.commands.fail(session.rank, error)
        for request in self.requests:
            if request.rank == session.rank and request.unsafe and request.operation.writes:
                # Applied, and perhaps never durable: nobody is left who would say.
                lost |= {ino: f"{request}, which was not durable yet" for ino in request.inos if ino not in lost}
        if lost:
            named = tuple(dict.fromkeys(lost.values()))
            reason = error.reason if isinstance(error, SessionLost) else "lost"
            lost_here = f"{error}; changes the MDS has not got are lost: {_some(named)}"
            error = SessionLost(lost_here, reason=reason, lost=named)
        for wait in self.waits.on(set(lost)) if lost else ():
            self.out.append(Failed(wait.token, error))
        self._check_waits(now)
        for request in self.requests:
            if request.rank != session.rank:
                continue
            if session.final is not None or (request.sent and request.operation.once):
                self._give_up(request, error)
            else:
                request.sent, request.rank = False, None  # it may still be asked of whoever is in charge next
        self._route_waiting(now)
        self._maybe_closed()

    def session_closed(self, session: Session, now: float) -> None:
        self.locks.session_lost(session.rank)
        self.engine.session_lost(session.rank, ConnectionFailed("the session was closed"), now)
        self._carry_out(now)
        self._changed(session)
        for request in self.requests:
            if request.rank == session.rank:
                closed = f"the session with {session.who} was closed before the answer"
                self._give_up(request, ConnectionFailed(closed))
        self.commands.fail(session.rank, ConnectionFailed(f"the session with {session.who} was closed"))
        self._maybe_closed()

    def _maybe_closed(self) -> None:
        if self._closing is not None and all(s.state in ("closed", "rejected") for s in self.sessions.values()):
            self.out.append(Done(self._closing, None))
            self._closing = None

    def pushed(self, session: Session, header: MessageHeader, message: Any, now: float) -> None:
        if isinstance(message, (ClientCaps, ClientLease, ClientSnap)):
            self.engine.receive(session.rank, message, header.tid, now)
            self._carry_out(now)
            if isinstance(message, ClientCaps) and message.op in (CapOp.FLUSH_ACK, CapOp.FLUSHSNAP_ACK):
                self._check_waits(now)
        elif isinstance(message, ClientQuota):
            quota.told(self.engine.cache, message)

    def answered(self, session: Session, header: MessageHeader, message: Any, now: float) -> None:
        match message:
            case ClientReply():
                self._reply(session, header.tid, message, now)
            case ClientRequestForward():
                self._forward(header.tid, message, now)
            case CommandReply():
                self.commands.answered(header.tid, message.r, message.rs, message.outbl)

    # What time brings

    def next_deadline(self) -> float:
        sessions = min((session.next_deadline() for session in self.sessions.values()), default=NEVER)
        calls = min(self.requests.next_deadline(), self.commands.next_deadline(), self.waits.next_deadline())
        return min(sessions, calls, self.engine.next_deadline())

    def tick(self, now: float) -> None:
        for session in list(self.sessions.values()):
            session.tick(now)
        for request in list(self.requests.expired(now)):
            self._fail(request, self._timed_out(request))
            self.locks.abandoned(request, now)
        self.commands.tick(now)
        for wait, awaited in list(self.waits.expired(now)):
            self.out.append(Failed(wait.token, RequestTimeout(f"timed out awaiting {awaited}", awaited=awaited)))
        self.engine.tick(now)
        self._carry_out(now)


def _some(named: tuple[str, ...]) -> str:
    """The first few, and how many there are."""
    more = len(named) - NAMED
    return ", ".join(named[:NAMED]) + (f" and {more} more" if more > 0 else "")
