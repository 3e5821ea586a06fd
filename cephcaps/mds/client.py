"""One client's dealings with all ranks of a file system."""

from __future__ import annotations

import errno
from typing import Any

from cephcaps.actions import Action, Done, Failed, Happened
from cephcaps.auth.cephx import TicketRefused
from cephcaps.engine import quota
from cephcaps.engine.inode import Hook, RefWait
from cephcaps.engine.setattr import Change
from cephcaps.engine.xattrs import XattrChange, limit_of
from cephcaps.errors import AuthError, ConnectionFailed, MdsError, RequestTimeout, SessionLost
from cephcaps.events import MdsMapChanged, SessionChanged
from cephcaps.mds.requests import Operation, xattr_operation
from cephcaps.mds.routing import Credentials, Router
from cephcaps.mds.session import Session
from cephcaps.mds.waits import Wait
from cephcaps.messenger.connection import Connection
from cephwire.caps import CapOp, ClientCaps
from cephwire.control import ConMode
from cephwire.entity import EntityType
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
HOOK_SHARE = 0.75
"""Of the session's time-out: what a data handler gets for one call."""


class MdsClient(Router):
    """What callers want done, here as far as caps allow or by request; what sessions and the monitors bring."""

    def __init__(
        self,
        credentials: Credentials,
        con_modes: tuple[ConMode, ...],
        metadata: dict[str, str],
        out: list[Action],
    ) -> None:
        super().__init__(credentials, con_modes, metadata, out)
        self._last_refused: int | None = None  # gid of the MDS that last refused our ticket

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
        request = self.requests.cancel(token)
        if request is not None:
            self.locks.abandoned(request, now)
        self.engine.refs.cancel(token)

    def close(self, token: int, now: float) -> None:
        """Bring every change to safety, then close every session; Done comes when the MDSs have agreed."""
        self._closing = token
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
        for session in self.sessions.values():
            if session.connection is not None:
                session.lost(session.connection, ConnectionFailed("given up"), now)

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
        self.mdsmap = mdsmap
        self.out.append(Happened("mdsmap.received", {"epoch": mdsmap.epoch}))
        self.engine.cache.note(MdsMapChanged(epoch=mdsmap.epoch))
        for rank, session in list(self.sessions.items()):
            session.set_timeout(mdsmap.session_timeout)
            gid = mdsmap.up.get(rank)
            if gid != session.gid:
                session.replaced(now)
                del self.sessions[rank]
        self._open_needed(now)
        self._route_waiting(now)

    def tickets_renewed(self, now: float) -> None:
        """There may be a ticket for the MDSs now."""
        for session in self.sessions.values():
            session.ticket_arrived(now)

    # What sessions bring

    def session_opened(self, session: Session, now: float) -> None:
        self._last_refused = None
        self.engine.sessions.opened(session.rank, session.cap_gen, session.cap_ttl, session.features)
        self._changed(session)
        self._route_waiting(now)

    def num_caps(self, rank: int) -> int:
        return self.engine.cache.rank(rank).num_caps

    def session_renewed(self, session: Session, now: float) -> None:
        self.engine.session_renewed(session.rank, session.cap_ttl, now)
        self._carry_out(now)
        self._changed(session)

    def session_stale(self, session: Session, now: float) -> None:
        self.engine.sessions.stale(session.rank, session.cap_gen)
        self._changed(session)

    def recalled(self, session: Session, max_caps: int, now: float) -> None:
        self.engine.sessions.recalled(session.rank, max_caps, now)
        self._carry_out(now)

    def settle(self, now: float) -> None:
        """All bytes that came together have been taken in."""
        self.engine.settle(now)
        self._carry_out(now)

    def session_read_only(self, session: Session, now: float) -> None:
        self.out.append(Happened("session.forced_read_only", {"rank": session.rank}))
        self.engine.session_read_only(session.rank, now)
        self._carry_out(now)

    def barrier(self, session: Session, now: float) -> None:
        self.engine.releases.flush(session.rank)
        self._carry_out(now)

    def _changed(self, session: Session) -> None:
        self.engine.cache.note(SessionChanged(rank=session.rank, state=session.state, why=session.why))

    def lost(self, session: Session, connection: Connection, error: Exception, now: float) -> None:
        """``session``'s connection broke. A refused ticket is replaced once: the service's keys may have moved on."""
        if isinstance(error, TicketRefused) and self._last_refused != session.gid:
            self._last_refused = session.gid
            self._credentials.tickets.held.pop(EntityType.MDS, None)
            error = ConnectionFailed(str(error))
        session.lost(connection, error, now)

    def session_ended(self, session: Session, error: Exception, now: float) -> None:
        self._changed(session)
        self.locks.session_lost(session.rank)
        lost = self.engine.session_lost(session.rank, error, now)
        if lost:
            named = tuple(lost.values())
            lost_here = f"{error}; changes the MDS has not got are lost: {', '.join(named)}"
            error = SessionLost(lost_here, reason="lost", lost=named)
        for wait in self.waits.on(set(lost)) if lost else ():
            self.out.append(Failed(wait.token, error))
        self._check_waits(now)
        for request in self.requests:
            # What has not left yet may still go to whoever holds the rank next.
            if request.rank == session.rank and (
                request.sent or session.final is not None or isinstance(error, AuthError)
            ):
                self._fail(request, error)
                self.requests.finish(request)
        self._last_refused = None
        self._maybe_closed()

    def session_closed(self, session: Session, now: float) -> None:
        self.locks.session_lost(session.rank)
        self.engine.session_lost(session.rank, ConnectionFailed("the session was closed"), now)
        self._carry_out(now)
        self._changed(session)
        for request in self.requests:
            if request.rank == session.rank:
                self._fail(request, ConnectionFailed(f"the session with {session.who} was closed before the answer"))
                self.requests.finish(request)
        self._maybe_closed()

    def _maybe_closed(self) -> None:
        if self._closing is not None and all(s.state in ("closed", "rejected") for s in self.sessions.values()):
            self.out.append(Done(self._closing, None))
            self._closing = None

    def pushed(self, session: Session, header: MessageHeader, message: Any, now: float) -> None:
        if isinstance(message, ClientCaps | ClientLease | ClientSnap):
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

    # What time brings

    def next_deadline(self) -> float:
        sessions = min((session.next_deadline() for session in self.sessions.values()), default=NEVER)
        return min(sessions, self.requests.next_deadline(), self.waits.next_deadline(), self.engine.next_deadline())

    def tick(self, now: float) -> None:
        for session in list(self.sessions.values()):
            session.tick(now)
        for request in list(self.requests.expired(now)):
            self._fail(request, self._timed_out(request))
            self.locks.abandoned(request, now)
        for wait, awaited in list(self.waits.expired(now)):
            self.out.append(Failed(wait.token, RequestTimeout(f"timed out awaiting {awaited}", awaited=awaited)))
        self.engine.tick(now)
        self._carry_out(now)
