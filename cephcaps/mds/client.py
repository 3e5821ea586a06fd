"""One client's dealings with all ranks of a file system: which to ask, sessions, requests and their replies."""

from __future__ import annotations

import errno
from typing import Any

from cephcaps.actions import Action, Done, Failed, Happened
from cephcaps.auth.cephx import CephxAuthorizer, TicketRefused, Tickets
from cephcaps.auth.none import NoneAuth
from cephcaps.engine import quota
from cephcaps.engine.cache import NeedSession, Send
from cephcaps.engine.engine import Engine
from cephcaps.engine.inode import Hook, Inode, RefWait
from cephcaps.engine.setattr import Change
from cephcaps.engine.xattrs import XattrChange, limit_of
from cephcaps.errors import AuthError, ConnectionFailed, MdsError, RequestTimeout, SessionLost
from cephcaps.events import MdsMapChanged, SessionChanged
from cephcaps.mds.locks import Locks
from cephcaps.mds.ranks import describe, lowest_active, serving
from cephcaps.mds.requests import NAME_OPS, Answer, Operation, Request, Requests, xattr_operation
from cephcaps.mds.session import Session
from cephcaps.mds.waits import Wait, Waits
from cephcaps.messenger.connection import Connection, Instance
from cephwire.caps import CapOp, ClientCaps
from cephwire.control import ConMode
from cephwire.entity import AddrType, EntityAddr, EntityType, address_of
from cephwire.frames import MessageHeader
from cephwire.lease import ClientLease
from cephwire.mdsmap import MdsMap
from cephwire.quota import ClientQuota
from cephwire.reply import ClientReply, ClientRequestForward
from cephwire.request import NO_OWNER, ClientRequest, FilePath
from cephwire.requestop import RequestOp
from cephwire.session import ClientFeature
from cephwire.snap import ClientSnap

__all__ = ["Credentials", "MdsClient"]

NEVER = float("inf")
HOOK_SHARE = 0.75


class Credentials:
    """What every connection of a client shares: who it is, to each kind of daemon."""

    def __init__(self, tickets: Tickets, instance: Instance, uid: int, gid: int, groups: tuple[int, ...]) -> None:
        self.tickets = tickets
        self.instance = instance
        self.uid = uid
        self.gid = gid
        self.groups = groups


class MdsClient:
    """Sends operations to the right rank and gives their results back.

    Attributes:
        mdsmap: the newest map of our file system, None before the first.
        sessions: by rank, those that were ever opened and not yet closed.
        unmatched: replies that belong to no request of ours.
    """

    def __init__(
        self,
        credentials: Credentials,
        con_modes: tuple[ConMode, ...],
        metadata: dict[str, str],
        out: list[Action],
    ) -> None:
        self.out = out
        self.mdsmap: MdsMap | None = None
        self.sessions: dict[int, Session] = {}
        self.requests = Requests()
        self.engine = Engine()
        self.waits = Waits(self.engine, self.requests)
        self.locks = Locks(self.engine.cache, self.requests, self._route, out)
        self.unmatched = 0
        self.tickets_wanted = False
        self._credentials = credentials
        self.con_modes = con_modes
        self._metadata = metadata
        self._closing: int | None = None  # the token of the call that closes us
        self._needed: dict[int, None] = {}  # ranks that take caps of ours over
        self._last_refused: int | None = None  # gid of the MDS that last refused our ticket

    # Local calls

    def call(self, token: int, operation: Operation, deadline: float, now: float) -> None:
        """Carry out ``operation``; Done brings an Answer."""
        refused = quota.refusal(self.engine.cache, operation.op, operation.path.ino, operation.path2.ino)
        if refused:
            self.out.append(Failed(token, MdsError(refused, None, operation.what)))
            return
        self._route(self.requests.add(token, operation, deadline), now)

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

    def _route(self, request: Request, now: float) -> None:
        """Send ``request`` where it belongs, or leave it until that is possible."""
        rank = request.rank if request.rank is not None else lowest_active(self.mdsmap)
        if rank is None:
            return
        request.rank = rank
        session = self.session(rank, now)
        if session is not None and session.usable:
            self._send(session, request, now)
        elif session is not None and session.final is not None:
            self._fail(request, session.final)
            self.requests.finish(request)

    def session(self, rank: int, now: float) -> Session | None:
        """The session with ``rank``, opened if need be; None while that rank serves nobody."""
        session = self.sessions.get(rank)
        if session is not None and (session.final is not None or session.state != "closed"):
            return session
        if self.mdsmap is None or (self._closing is not None and rank not in self._needed):
            return None
        info = serving(self.mdsmap).get(rank)
        if info is None:
            return None
        addr = address_of(info.addrs, AddrType.MSGR2)
        if addr is None:
            addr = address_of(info.addrs, AddrType.LEGACY) or EntityAddr(AddrType.NONE, 0, b"")
            session = self.sessions[rank] = Session(self, rank, info, addr, self._metadata)
            session.refuse(ConnectionFailed(f"{session.who} speaks messenger v1 only, which this client does not"))
            return session
        session = self.sessions[rank] = Session(self, rank, info, addr, self._metadata)
        session.cap_gen = self.engine.cache.rank(rank).gen  # what was leased before it counts no more
        session.set_timeout(self.mdsmap.session_timeout)
        session.connect(now)
        return session

    def _send(self, session: Session, request: Request, now: float) -> None:
        assert self.mdsmap is not None
        operation, who = request.operation, self._credentials
        self._flush_directories(operation, now)
        releases = self.engine.request_releases(
            session.rank, operation.op, operation.path, operation.path2, operation.drop, now
        )
        self._carry_out(now)
        message = ClientRequest(
            head_version=_head_version(session.features),
            oldest_client_tid=self.requests.oldest_tid(),
            mdsmap_epoch=self.mdsmap.epoch,
            flags=0,
            num_retry=0,
            num_fwd=request.num_fwd & 0xFF,
            op=operation.op,
            caller_uid=who.uid,
            caller_gid=who.gid,
            ino=0,
            args=operation.args,
            path=operation.path,
            path2=operation.path2,
            releases=releases,
            stamp=operation.stamp,
            data=operation.data,
            ext_num_fwd=request.num_fwd,
            gid_list=who.groups,
            owner_uid=who.uid if operation.creates else NO_OWNER,
            owner_gid=who.gid if operation.creates else NO_OWNER,
        )
        if request.reserved is None:
            request.reserved = self.engine.reserve(operation.brings)
        session.send(message, tid=request.tid)  # raises where an argument fits no message: then it was never sent
        request.sent = True
        request.sent_at = now

    def _flush_directories(self, operation: Operation, now: float) -> None:
        """Times set here on a directory go ahead of a change of its names: flushed later, they would undo what that
        does to them."""
        if operation.writes:
            for path in (operation.path, operation.path2):
                if path.ino and path.path:
                    self.engine.flush_times(path.ino, now)
            self._carry_out(now)

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

    def make_connection(self, session: Session, addr: EntityAddr, now: float) -> Connection | None:
        who = self._credentials
        authenticator: NoneAuth | CephxAuthorizer
        if who.tickets.key is None:
            authenticator = NoneAuth(who.tickets, to_mon=False)
        else:
            ticket = who.tickets.usable(EntityType.MDS, now)
            if ticket is None:
                self.tickets_wanted = True
                return None
            authenticator = CephxAuthorizer(who.tickets, EntityType.MDS, ticket)
        # The cookie names our side of a session that outlives its connection; any number but 0 will do.
        cookie = who.tickets.random_u64() or 1
        return Connection(
            session, who.instance, authenticator, EntityType.MDS, addr, self.con_modes, who.tickets.global_id, cookie
        )

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

    def _route_waiting(self, now: float) -> None:
        for request in self.requests:
            if not request.sent:
                self._route(request, now)

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

    def _fail(self, request: Request, error: Exception) -> None:
        token = self.requests.release(request)
        if token is not None:
            self.out.append(Failed(token, error))

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

    def _reply(self, session: Session, tid: int, reply: ClientReply, now: float) -> None:
        request = self.requests.by_tid.get(tid)
        if request is None or request.rank != session.rank:
            # Ours all the same: what it grants is held now, and must be known when it is asked back.
            self.unmatched += 1
            self.engine.reply(session.rank, reply, now, now)
            self._carry_out(now)
            return
        operation = request.operation
        inode, listed = self.engine.reply(
            session.rank, reply, request.sent_at, now, listing=operation.listing, reserved=request.reserved
        )
        if operation.lock is not None:
            self.locks.answered(request, reply.result, now)
            return
        token = self.requests.release(request)
        if not request.unsafe and not reply.result:
            self._applied(operation, reply, inode, token is None, now)
        if inode is not None and operation.writes:
            request.inos.add(inode.ino)
        if token is not None and reply.result < 0:
            self.out.append(Failed(token, MdsError(min(-reply.result, 2**31 - 1), None, operation.what)))
        elif token is not None:
            self.out.append(Done(token, Answer(reply, inode, listed, operation.file_mode)))
        request.unsafe = not reply.safe
        if request.unsafe and self.waits.need(request):
            session.flush_journal()  # what was asked for before it was applied has passed it by
        if reply.safe:
            self.requests.finish(request)
            self._check_waits(now)
        self._carry_out(now)

    def _applied(
        self, operation: Operation, reply: ClientReply, inode: Inode | None, abandoned: bool, now: float
    ) -> None:
        """An operation has succeeded: see to what the reply does not tell."""
        dentries, old = self.engine.dentries, operation.path2
        if operation.op == RequestOp.RENAME:
            dentries.gone(old.ino, old.path)
        if operation.op in NAME_OPS and not reply.is_dentry:  # the MDS may not know any more: it answers a replay so
            dentries.forget(operation.path.ino, operation.path.path)
        if operation.file_mode is not None and inode is not None:
            self.engine.opened(inode.ino, operation.file_mode, now)
            if abandoned:
                self.engine.closed(inode.ino, operation.file_mode, now)

    def _forward(self, tid: int, message: ClientRequestForward, now: float) -> None:
        """Another rank is in charge: send it there ourselves."""
        request = self.requests.by_tid.get(tid)
        if request is None or message.num_fwd <= request.num_fwd:
            return  # an old one, overtaken
        request.num_fwd = message.num_fwd
        request.rank = message.dest_mds
        request.sent = False
        self._route(request, now)

    def _carry_out(self, now: float) -> None:
        """Send what the engine wants sent, in its order."""
        wanted, self.engine.cache.out = self.engine.cache.out, []
        for action in wanted:
            match action:
                case Send():
                    session = self.sessions.get(action.rank)
                    if session is not None and (session.usable or session.state == "closing"):
                        session.send(action.message, tid=action.tid)
                case NeedSession():
                    self._needed[action.rank] = None
                    self._open_needed(now)
                case _:
                    self.out.append(action)

    def _open_needed(self, now: float) -> None:
        """Open sessions with ranks that take caps of ours over, as soon as the map shows who they are."""
        for rank in list(self._needed):
            if self.session(rank, now) is not None:
                del self._needed[rank]

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

    def _timed_out(self, request: Request) -> RequestTimeout:
        session = self.sessions.get(request.rank) if request.rank is not None else None
        if session is None:
            awaited = f"an active MDS; {describe(self.mdsmap)}"
        elif not session.usable:
            awaited = f"a session with {session.who}" + (f" ({session.why})" if session.why else "")
        elif request.operation.lock is not None and request.operation.lock.wait:
            awaited = "the lock, which somebody else holds"
        else:
            awaited = f"the answer of {session.who}"
        tid = request.tid if request.sent else None
        return RequestTimeout(f"{request} timed out awaiting {awaited}", tid=tid, rank=request.rank, awaited=awaited)


def _head_version(features: int) -> int:
    """The newest layout of a request's head that the MDS reads."""
    if not features >> ClientFeature.RETRY_FWD_32BITS & 1:
        return 1
    return 3 if features >> ClientFeature.HAS_OWNER_UIDGID & 1 else 2
